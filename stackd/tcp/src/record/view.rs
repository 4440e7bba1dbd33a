//! What is kept of a connection's state after every call: what a user looks at, and what differs first when something differs.

use crate::{Config, Connection};
use stackd_base::{Duration, Instant};

macro_rules! columns {
    ($c:ident, $cfg:ident; $($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        /// The state after a call, in columns. Times are nanoseconds of the connection's clock, [`View::NEVER`] where there is none.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct View { $($(#[$doc])* pub $name: u64,)* }

        impl View {
            /// Names of the columns.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];
            /// The values, in the order of [`Self::NAMES`].
            pub const fn values(&self) -> [u64; Self::NAMES.len()] { [$(self.$name,)*] }
            /// From values in that order.
            pub const fn from_values(values: [u64; Self::NAMES.len()]) -> Self {
                let [$($name,)*] = values;
                Self { $($name,)* }
            }
            /// Of a connection now.
            pub fn of($c: &Connection, $cfg: &Config) -> Self {
                Self { $($name: $value,)* }
            }
        }
    };
}

columns! { c, cfg;
    /// Linux's number of the state.
    state = c.state as u64;
    /// Recovery: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.
    ca_state = c.ca_state as u64;
    /// Packets.
    cwnd = u64::from(c.cwnd);
    /// Packets.
    ssthresh = u64::from(c.ssthresh);
    /// Bytes per second; `u64::MAX`: not paced.
    pacing_rate = c.pacing_rate(cfg).map_or(u64::MAX, |r| r.as_bytes_per_sec());
    /// Smoothed RTT; 0 before the first sample.
    srtt = nanos(c.rtt.srtt());
    rttvar = c.rtt.rttvar().as_nanos();
    min_rtt = nanos(c.rtt.min());
    /// Retransmission timeout in force, backed off.
    rto = c.rto(cfg).as_nanos();
    /// Position: SYN is 0, the first byte 1.
    una = c.una;
    nxt = c.nxt;
    written = c.written;
    snd_wnd = c.snd_wnd;
    packets_out = u64::from(c.board.packets_out());
    sacked = u64::from(c.board.sacked_out());
    lost = u64::from(c.board.lost_out());
    retrans = u64::from(c.board.retrans_out());
    delivered = c.rate.delivered();
    /// When the next paced segment may leave.
    next_departure = c.next_departure.as_nanos();
    /// When a timer fires.
    deadline = instant(c.next_deadline());
    /// Bytes handed down that the device has not taken.
    queued_below = c.queued_below;
    mss = u64::from(c.mss);
    rcv_nxt = c.rcv_nxt;
    /// Right edge of the window offered.
    rcv_edge = c.rcv.edge;
    out_of_order = c.reasm.bytes();
}

impl View {
    /// No such time.
    pub const NEVER: u64 = u64::MAX;

    /// Packets in flight (RFC 6675's pipe).
    pub const fn in_flight(&self) -> u64 {
        (self.packets_out + self.retrans).saturating_sub(self.sacked + self.lost)
    }

    /// The columns in which `self` and `other` differ.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'static str, u64, u64)> + 'a {
        let pairs = self.values().into_iter().zip(other.values());
        Self::NAMES.iter().zip(pairs).filter(|(_, (a, b))| a != b).map(|(&n, (a, b))| (n, a, b))
    }

    /// The state's name as `ss` prints it.
    pub const fn state_name(&self) -> &'static str {
        match self.state {
            1 => "ESTAB",
            2 => "SYN-SENT",
            3 => "SYN-RECV",
            4 => "FIN-WAIT-1",
            5 => "FIN-WAIT-2",
            6 => "TIME-WAIT",
            7 => "UNCONN",
            8 => "CLOSE-WAIT",
            9 => "LAST-ACK",
            11 => "CLOSING",
            _ => "?",
        }
    }

    /// The recovery state's name as Linux spells it.
    pub const fn ca_name(&self) -> &'static str {
        match self.ca_state {
            0 => "open",
            1 => "disorder",
            2 => "cwr",
            3 => "recovery",
            4 => "loss",
            _ => "?",
        }
    }
}

fn nanos(d: Option<Duration>) -> u64 {
    d.map_or(0, Duration::as_nanos)
}
fn instant(t: Option<Instant>) -> u64 {
    t.map_or(View::NEVER, Instant::as_nanos)
}
