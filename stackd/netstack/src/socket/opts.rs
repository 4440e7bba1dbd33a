//! Socket options: Linux's numbers, byte layouts and errors over one struct of plain values.
//!
//! What acts on a live object (a connection, a claim on a port) is done by the caller, told by [`Effect`].

use super::ip_opts::{Interfaces, IpOpts};
use crate::types::Domain;
use stackd_base::{Errno, PortId};

/// Linux's option levels and names.
#[allow(missing_docs)]
pub mod name {
    pub const SOL_IP: i32 = 0;
    pub const SOL_SOCKET: i32 = 1;
    pub const SOL_TCP: i32 = 6;
    pub const SOL_UDP: i32 = 17;
    pub const SOL_IPV6: i32 = 41;

    pub const SO_REUSEADDR: i32 = 2;
    pub const SO_TYPE: i32 = 3;
    pub const SO_ERROR: i32 = 4;
    pub const SO_BROADCAST: i32 = 6;
    pub const SO_SNDBUF: i32 = 7;
    pub const SO_RCVBUF: i32 = 8;
    pub const SO_KEEPALIVE: i32 = 9;
    pub const SO_OOBINLINE: i32 = 10;
    pub const SO_PRIORITY: i32 = 12;
    pub const SO_LINGER: i32 = 13;
    pub const SO_REUSEPORT: i32 = 15;
    pub const SO_DEBUG: i32 = 1;
    pub const SO_NO_CHECK: i32 = 11;
    pub const SO_BSDCOMPAT: i32 = 14;
    pub const SO_PASSCRED: i32 = 16;
    pub const SO_RCVLOWAT: i32 = 18;
    pub const SO_SNDLOWAT: i32 = 19;
    pub const SO_RCVTIMEO: i32 = 20;
    pub const SO_SNDTIMEO: i32 = 21;
    pub const SO_BINDTODEVICE: i32 = 25;
    pub const SO_PEERNAME: i32 = 28;
    pub const SO_TIMESTAMP: i32 = 29;
    pub const SO_ACCEPTCONN: i32 = 30;
    pub const SO_SNDBUFFORCE: i32 = 32;
    pub const SO_RCVBUFFORCE: i32 = 33;
    pub const SO_PASSSEC: i32 = 34;
    pub const SO_TIMESTAMPNS: i32 = 35;
    pub const SO_MARK: i32 = 36;
    pub const SO_TIMESTAMPING: i32 = 37;
    pub const SO_PROTOCOL: i32 = 38;
    pub const SO_DOMAIN: i32 = 39;
    pub const SO_RXQ_OVFL: i32 = 40;
    pub const SO_PEEK_OFF: i32 = 42;
    pub const SO_SELECT_ERR_QUEUE: i32 = 45;
    pub const SO_BUSY_POLL: i32 = 46;
    pub const SO_MAX_PACING_RATE: i32 = 47;
    pub const SO_MEMINFO: i32 = 55;
    pub const SO_COOKIE: i32 = 57;
    pub const SO_ZEROCOPY: i32 = 60;
    pub const SO_TXTIME: i32 = 61;
    pub const SO_BINDTOIFINDEX: i32 = 62;
    pub const SO_TIMESTAMP_NEW: i32 = 63;
    pub const SO_TIMESTAMPNS_NEW: i32 = 64;

    pub const TCP_NODELAY: i32 = 1;
    pub const TCP_MAXSEG: i32 = 2;
    pub const TCP_CORK: i32 = 3;
    pub const TCP_KEEPIDLE: i32 = 4;
    pub const TCP_KEEPINTVL: i32 = 5;
    pub const TCP_KEEPCNT: i32 = 6;
    pub const TCP_SYNCNT: i32 = 7;
    pub const TCP_LINGER2: i32 = 8;
    pub const TCP_DEFER_ACCEPT: i32 = 9;
    pub const TCP_WINDOW_CLAMP: i32 = 10;
    pub const TCP_INFO: i32 = 11;
    pub const TCP_QUICKACK: i32 = 12;
    pub const TCP_CONGESTION: i32 = 13;
    pub const TCP_MD5SIG: i32 = 14;
    pub const TCP_THIN_LINEAR_TIMEOUTS: i32 = 16;
    pub const TCP_THIN_DUPACK: i32 = 17;
    pub const TCP_USER_TIMEOUT: i32 = 18;
    pub const TCP_REPAIR: i32 = 19;
    pub const TCP_REPAIR_QUEUE: i32 = 20;
    pub const TCP_QUEUE_SEQ: i32 = 21;
    pub const TCP_REPAIR_OPTIONS: i32 = 22;
    pub const TCP_FASTOPEN: i32 = 23;
    pub const TCP_TIMESTAMP: i32 = 24;
    pub const TCP_NOTSENT_LOWAT: i32 = 25;
    pub const TCP_CC_INFO: i32 = 26;
    pub const TCP_SAVE_SYN: i32 = 27;
    pub const TCP_SAVED_SYN: i32 = 28;
    pub const TCP_REPAIR_WINDOW: i32 = 29;
    pub const TCP_FASTOPEN_CONNECT: i32 = 30;
    pub const TCP_ULP: i32 = 31;
    pub const TCP_MD5SIG_EXT: i32 = 32;
    pub const TCP_FASTOPEN_KEY: i32 = 33;
    pub const TCP_FASTOPEN_NO_COOKIE: i32 = 34;
    pub const TCP_INQ: i32 = 36;
    pub const TCP_AO_ADD_KEY: i32 = 38;
    pub const TCP_AO_DEL_KEY: i32 = 39;
    pub const TCP_AO_INFO: i32 = 40;
    pub const TCP_AO_GET_KEYS: i32 = 41;
    pub const TCP_RTO_MAX_MS: i32 = 44;

    pub const IP_TOS: i32 = 1;
    pub const IP_TTL: i32 = 2;
    pub const IP_PKTINFO: i32 = 8;
    pub const IP_MTU_DISCOVER: i32 = 10;
    pub const IP_RECVERR: i32 = 11;
    pub const IP_RECVTTL: i32 = 12;
    pub const IP_RECVTOS: i32 = 13;
    pub const IP_MTU: i32 = 14;
    pub const IP_FREEBIND: i32 = 15;
    pub const IP_TRANSPARENT: i32 = 19;
    pub const IP_RECVORIGDSTADDR: i32 = 20;
    pub const IP_ORIGDSTADDR: i32 = IP_RECVORIGDSTADDR;
    pub const IP_MINTTL: i32 = 21;
    pub const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
    pub const IP_MULTICAST_IF: i32 = 32;
    pub const IP_MULTICAST_TTL: i32 = 33;
    pub const IP_MULTICAST_LOOP: i32 = 34;
    pub const IP_ADD_MEMBERSHIP: i32 = 35;
    pub const IP_DROP_MEMBERSHIP: i32 = 36;
    pub const IP_UNBLOCK_SOURCE: i32 = 37;
    pub const IP_BLOCK_SOURCE: i32 = 38;
    pub const IP_ADD_SOURCE_MEMBERSHIP: i32 = 39;
    pub const IP_DROP_SOURCE_MEMBERSHIP: i32 = 40;
    pub const IP_MSFILTER: i32 = 41;
    pub const MCAST_JOIN_GROUP: i32 = 42;
    pub const MCAST_BLOCK_SOURCE: i32 = 43;
    pub const MCAST_UNBLOCK_SOURCE: i32 = 44;
    pub const MCAST_LEAVE_GROUP: i32 = 45;
    pub const MCAST_JOIN_SOURCE_GROUP: i32 = 46;
    pub const MCAST_LEAVE_SOURCE_GROUP: i32 = 47;
    pub const MCAST_MSFILTER: i32 = 48;
    pub const IP_MULTICAST_ALL: i32 = 49;
    pub const IP_UNICAST_IF: i32 = 50;
    pub const IP_LOCAL_PORT_RANGE: i32 = 51;

    pub const IPV6_UNICAST_HOPS: i32 = 16;
    pub const IPV6_MULTICAST_IF: i32 = 17;
    pub const IPV6_MULTICAST_HOPS: i32 = 18;
    pub const IPV6_MULTICAST_LOOP: i32 = 19;
    pub const IPV6_ADD_MEMBERSHIP: i32 = 20;
    pub const IPV6_DROP_MEMBERSHIP: i32 = 21;
    pub const IPV6_MTU_DISCOVER: i32 = 23;
    pub const IPV6_MTU: i32 = 24;
    pub const IPV6_RECVERR: i32 = 25;
    pub const IPV6_V6ONLY: i32 = 26;
    pub const IPV6_MULTICAST_ALL: i32 = 29;
    pub const IPV6_RECVPKTINFO: i32 = 49;
    pub const IPV6_PKTINFO: i32 = 50;
    pub const IPV6_RECVHOPLIMIT: i32 = 51;
    pub const IPV6_HOPLIMIT: i32 = 52;
    pub const IPV6_DONTFRAG: i32 = 62;
    pub const IPV6_RECVTCLASS: i32 = 66;
    pub const IPV6_TCLASS: i32 = 67;
    pub const IPV6_AUTOFLOWLABEL: i32 = 70;
    pub const IPV6_MINHOPCOUNT: i32 = 73;
    pub const IPV6_RECVORIGDSTADDR: i32 = 74;
    pub const IPV6_ORIGDSTADDR: i32 = IPV6_RECVORIGDSTADDR;
    pub const IPV6_TRANSPARENT: i32 = 75;
    pub const IPV6_UNICAST_IF: i32 = 76;
    pub const IPV6_FREEBIND: i32 = 78;

    pub const UDP_NO_CHECK6_TX: i32 = 101;
    pub const UDP_NO_CHECK6_RX: i32 = 102;
    pub const UDP_SEGMENT: i32 = 103;
    pub const UDP_GRO: i32 = 104;
}

/// `SO_LINGER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Linger {
    /// `l_onoff`.
    pub on: bool,
    /// `l_linger`.
    pub seconds: u32,
}

/// Every option a socket holds. `None` = as the sysctl says.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct SockOpts {
    pub reuseaddr: bool,
    pub reuseport: bool,
    pub broadcast: bool,
    pub keepalive: bool,
    pub linger: Linger,
    /// Urgent data is read in line.
    pub oobinline: bool,
    /// Bytes, doubled as Linux does; set = autotuning is off.
    pub sndbuf: Option<u32>,
    /// Likewise.
    pub rcvbuf: Option<u32>,
    pub priority: u32,
    pub mark: u32,
    /// `SO_DEBUG`: kept and shown, as in Linux, where it does nothing either.
    pub debug: bool,
    /// `SO_NO_CHECK`: UDP over IPv4 is sent without checksum.
    pub no_check: bool,
    /// `SO_RCVTIMEO`, `SO_SNDTIMEO` (seconds, microseconds). The waiting is the client's.
    pub rcvtimeo: (i64, i64),
    pub sndtimeo: (i64, i64),
    /// `SO_TXTIME`: flags, when it was set.
    pub txtime: Option<u32>,
    /// `SO_PEEK_OFF`; -1: off. The peeking is the client's.
    pub peek_off: i32,
    /// `SO_SELECT_ERR_QUEUE`: an entry in the error queue is `POLLPRI` too.
    pub select_err_queue: bool,
    /// `SO_BUSY_POLL`, microseconds. The spinning is the client's.
    pub busy_poll: i32,
    /// `SO_ZEROCOPY`: `MSG_ZEROCOPY` is honoured. Its notices are the client's.
    pub zerocopy: bool,
    pub device: Option<PortId>,
    pub rcvlowat: u32,
    /// Bytes a second; `u64::MAX` = none.
    pub max_pacing_rate: u64,
    pub nodelay: bool,
    pub cork: bool,
    pub maxseg: u16,
    /// Seconds.
    pub keepidle: Option<u32>,
    /// Seconds.
    pub keepintvl: Option<u32>,
    pub keepcnt: Option<u32>,
    pub syncnt: Option<u8>,
    /// Seconds in FIN_WAIT_2; negative = none at all.
    pub linger2: Option<i32>,
    /// Seconds.
    pub defer_accept: u32,
    pub window_clamp: u32,
    pub quickack: bool,
    /// `TCP_QUICKACK` was written at all.
    pub quickack_set: bool,
    pub congestion: Option<&'static str>,
    /// Milliseconds; 0 = by the retries.
    pub user_timeout: u32,
    pub notsent_lowat: Option<u32>,
    pub inq: bool,
    pub thin_linear: bool,
    /// `TCP_RTO_MAX_MS`.
    pub rto_max_ms: Option<u32>,
    /// Connections of data in SYNs that may wait for the end of their handshakes.
    pub fastopen_qlen: u32,
    pub fastopen_connect: bool,
    pub fastopen_no_cookie: bool,
    /// `TCP_SAVE_SYN`.
    pub save_syn: bool,
    pub fastopen_key: Option<Box<crate::stack::FastOpenKeys>>,
    /// `SOL_IP`, `SOL_IPV6`, `SOL_UDP`.
    pub ip: IpOpts,
}

impl Default for SockOpts {
    fn default() -> Self {
        Self {
            reuseaddr: false,
            reuseport: false,
            broadcast: false,
            keepalive: false,
            linger: Linger::default(),
            oobinline: false,
            sndbuf: None,
            rcvbuf: None,
            priority: 0,
            mark: 0,
            debug: false,
            no_check: false,
            rcvtimeo: (0, 0),
            sndtimeo: (0, 0),
            txtime: None,
            peek_off: -1,
            select_err_queue: false,
            busy_poll: 0,
            zerocopy: false,
            device: None,
            rcvlowat: 1,
            max_pacing_rate: u64::MAX,
            nodelay: false,
            cork: false,
            maxseg: 0,
            keepidle: None,
            keepintvl: None,
            keepcnt: None,
            syncnt: None,
            linger2: None,
            defer_accept: 0,
            window_clamp: 0,
            quickack: true,
            quickack_set: false,
            congestion: None,
            user_timeout: 0,
            notsent_lowat: None,
            inq: false,
            thin_linear: false,
            rto_max_ms: None,
            fastopen_qlen: 0,
            fastopen_connect: false,
            fastopen_no_cookie: false,
            save_syn: false,
            fastopen_key: None,
            ip: IpOpts::default(),
        }
    }
}

/// What an option needs besides being stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing.
    None,
    /// A live connection must see the new values.
    Connection,
    /// `TCP_CORK` or `TCP_NODELAY` changed: what was held back may go out.
    Push,
    /// `TCP_NODELAY` was set: what was held back goes out.
    Flush,
    /// `TCP_CONGESTION`.
    Congestion(&'static str),
    /// The claim on the port changed (reuse flags, device).
    Claim,
}

/// What the parser must know of the socket and of the stack.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Family of the socket.
    pub domain: Domain,
    /// It is TCP.
    pub tcp: bool,
    /// It has a local port.
    pub bound: bool,
    /// `net.core.wmem_max`.
    pub wmem_max: u32,
    /// `net.core.rmem_max`.
    pub rmem_max: u32,
    /// Neither connected, connecting nor listening.
    pub closed: bool,
    /// Its owner may do what Linux asks `CAP_NET_ADMIN` for.
    pub privileged: bool,
    /// Largest `SO_RCVLOWAT`: half of what the receive buffer may become.
    pub lowat_max: u32,
}

/// Linux's floors: `SOCK_MIN_SNDBUF` and `SOCK_MIN_RCVBUF`.
pub(super) const MIN_SNDBUF: u32 = 4608;
pub(super) const MIN_RCVBUF: u32 = 2304;

/// An `int` as programs pass it.
pub fn int(value: &[u8]) -> Result<i32, Errno> {
    value.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
}

/// IP-level options take a single byte too.
pub(super) fn int_or_byte(value: &[u8]) -> Result<i32, Errno> {
    match value {
        [b] | [b, _] | [b, _, _] => Ok(i32::from(*b)),
        _ => int(value),
    }
}

pub(super) fn within(n: i32, low: i32, high: i32) -> Result<u32, Errno> {
    if (low..=high).contains(&n) { Ok(n as u32) } else { Err(Errno::EINVAL) }
}

impl SockOpts {
    /// Stores one option. `ports` resolves names, numbers and addresses of interfaces, `congestion` a name of an algorithm.
    ///
    /// # Errors
    /// Linux's: `ENOPROTOOPT` for unknown names, `EINVAL` for bad values or lengths, `ENODEV`, `ENOENT` (no such algorithm).
    pub fn set(
        &mut self,
        cx: Context,
        level: i32,
        option: i32,
        value: &[u8],
        ports: &dyn Interfaces,
        congestion: impl Fn(&str) -> Result<&'static str, Errno>,
    ) -> Result<Effect, Errno> {
        match level {
            name::SOL_SOCKET => self.set_socket(cx, option, value, ports),
            name::SOL_TCP if cx.tcp => self.set_tcp(cx, option, value, congestion),
            name::SOL_IP => self.ip.set_ip(cx, option, value, ports),
            name::SOL_IPV6 if cx.domain == Domain::V6 => self.ip.set_ipv6(cx, option, value, ports),
            name::SOL_UDP if !cx.tcp => self.ip.set_udp(option, value),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set_tcp(
        &mut self,
        cx: Context,
        option: i32,
        value: &[u8],
        congestion: impl Fn(&str) -> Result<&'static str, Errno>,
    ) -> Result<Effect, Errno> {
        if option == name::TCP_CONGESTION {
            let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
            let text = core::str::from_utf8(&value[..end]).map_err(|_| Errno::ENOENT)?;
            if value.is_empty() {
                return Err(Errno::EINVAL);
            }
            let known = congestion(text)?;
            self.congestion = Some(known);
            return Ok(Effect::Congestion(known));
        }
        if option == name::TCP_ULP {
            // No upper layer protocol is built in: as a Linux without its modules.
            return Err(if value.is_empty() { Errno::EINVAL } else { Errno::ENOENT });
        }
        let n = int(value)?;
        match option {
            name::TCP_NODELAY => {
                self.nodelay = n != 0;
                return Ok(if self.nodelay { Effect::Flush } else { Effect::Push });
            }
            name::TCP_CORK => {
                self.cork = n != 0;
                return Ok(Effect::Push);
            }
            // Linux: TCP_MIN_MSS (88) to MAX_TCP_WINDOW (32767); zero = default.
            name::TCP_MAXSEG => self.maxseg = if n == 0 { 0 } else { within(n, 88, 32_767)? as u16 },
            name::TCP_KEEPIDLE => self.keepidle = Some(within(n, 1, 32_767)?),
            name::TCP_KEEPINTVL => self.keepintvl = Some(within(n, 1, 32_767)?),
            name::TCP_KEEPCNT => self.keepcnt = Some(within(n, 1, 127)?),
            name::TCP_SYNCNT => self.syncnt = Some(within(n, 1, 127)? as u8),
            name::TCP_LINGER2 => self.linger2 = if n == 0 { None } else { Some(n.clamp(-1, 120)) },
            // tcp(7): in seconds, rounded up to what a number of SYN-ACKs takes.
            name::TCP_DEFER_ACCEPT => self.defer_accept = seconds_of(repeats_in(n.max(0) as u32)),
            name::TCP_WINDOW_CLAMP if n == 0 && !cx.closed => return Err(Errno::EINVAL),
            name::TCP_WINDOW_CLAMP => {
                self.window_clamp = if n == 0 { 0 } else { (n.max(0) as u32).max(MIN_RCVBUF / 2) }
            }
            name::TCP_QUICKACK => {
                (self.quickack, self.quickack_set) = (n != 0, true);
                return Ok(Effect::Connection);
            }
            name::TCP_USER_TIMEOUT => self.user_timeout = within(n, 0, i32::MAX)?,
            name::TCP_NOTSENT_LOWAT => self.notsent_lowat = Some(n as u32),
            name::TCP_INQ => self.inq = within(n, 0, 1)? == 1,
            // Linux's 2 saves the link layer's header too, which has been left behind here.
            name::TCP_SAVE_SYN => self.save_syn = within(n, 0, 1)? == 1,
            name::TCP_THIN_LINEAR_TIMEOUTS => self.thin_linear = within(n, 0, 1)? == 1,
            // Linux removed what it did with early retransmit, and kept the option.
            name::TCP_THIN_DUPACK => drop(within(n, 0, 1)?),
            name::TCP_RTO_MAX_MS => self.rto_max_ms = Some(within(n, 1000, 120_000)?),
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(Effect::Connection)
    }

    /// Reads what is stored here; `None` when the option is not one of these (it may be one that needs the live socket).
    pub fn get(&self, cx: Context, level: i32, option: i32) -> Option<OptionValue> {
        let flag = |b: bool| Some(OptionValue::Int(i32::from(b)));
        let number = |n: u32| Some(OptionValue::Int(n as i32));
        match (level, option) {
            (name::SOL_SOCKET, _) => self.get_socket(cx, option),
            (name::SOL_TCP, _) if cx.tcp => match option {
                name::TCP_NODELAY => flag(self.nodelay),
                name::TCP_CORK => flag(self.cork),
                name::TCP_DEFER_ACCEPT => number(self.defer_accept),
                name::TCP_WINDOW_CLAMP => number(self.window_clamp),
                name::TCP_USER_TIMEOUT => number(self.user_timeout),
                name::TCP_INQ => flag(self.inq),
                name::TCP_SAVE_SYN => flag(self.save_syn),
                name::TCP_THIN_LINEAR_TIMEOUTS => flag(self.thin_linear),
                name::TCP_THIN_DUPACK => number(0),
                name::TCP_ULP => Some(OptionValue::Bytes(Vec::new())),
                name::TCP_QUICKACK => flag(self.quickack),
                _ => None,
            },
            (name::SOL_IP | name::SOL_IPV6 | name::SOL_UDP, _) => self.ip.get(cx, level, option),
            _ => None,
        }
    }
}

/// Repetitions of a SYN-ACK (1 s, doubling) that fit into `seconds`: Linux's `secs_to_retrans`.
pub fn repeats_in(seconds: u32) -> u32 {
    if seconds == 0 {
        return 0;
    }
    let (mut repeats, mut timeout, mut period) = (1, 1u32, 1u32);
    while seconds > period && repeats < 255 {
        repeats += 1;
        timeout = (timeout * 2).min(120);
        period += timeout;
    }
    repeats
}

/// How long so many repetitions take: Linux's `retrans_to_secs`.
fn seconds_of(repeats: u32) -> u32 {
    let (mut timeout, mut period) = (1u32, 0u32);
    for _ in 0..repeats {
        period += timeout;
        timeout = (timeout * 2).min(120);
    }
    period
}

/// A value on its way to a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OptionValue {
    /// `int`.
    Int(i32),
    /// Two `int`s.
    Pair(i32, i32),
    /// 64 bits; cut to 32 (saturating) for a program that asks for 4 bytes, as `SO_MAX_PACING_RATE` does.
    Long(u64),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl OptionValue {
    /// Copies as much as fits; returns how much.
    pub fn write(&self, out: &mut [u8]) -> usize {
        let short = out.len() < 8;
        let mut put = |bytes: &[u8]| {
            let n = bytes.len().min(out.len());
            out[..n].copy_from_slice(&bytes[..n]);
            n
        };
        match self {
            Self::Int(n) => put(&n.to_ne_bytes()),
            Self::Pair(a, b) => {
                let mut both = [0; 8];
                both[..4].copy_from_slice(&a.to_ne_bytes());
                both[4..].copy_from_slice(&b.to_ne_bytes());
                put(&both)
            }
            Self::Long(n) if short => put(&u32::try_from(*n).unwrap_or(u32::MAX).to_ne_bytes()),
            Self::Long(n) => put(&n.to_ne_bytes()),
            Self::Bytes(b) => put(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CX: Context = Context {
        domain: Domain::V6,
        tcp: true,
        bound: false,
        wmem_max: 212_992,
        rmem_max: 212_992,
        closed: true,
        privileged: false,
        lowat_max: 3 << 20,
    };

    struct Nothing;
    impl Interfaces for Nothing {
        fn exists(&self, _: PortId) -> bool {
            false
        }
        fn owner(&self, _: std::net::IpAddr) -> Option<PortId> {
            None
        }
        fn named(&self, name: &str) -> Option<PortId> {
            (name == "eth0").then_some(PortId(2))
        }
    }

    fn set(o: &mut SockOpts, level: i32, option: i32, n: i32) -> Result<Effect, Errno> {
        o.set(CX, level, option, &n.to_ne_bytes(), &Nothing, |_| Err(Errno::ENOENT))
    }

    #[test]
    fn buffers_are_capped_then_doubled_then_floored() {
        let mut o = SockOpts::default();
        set(&mut o, name::SOL_SOCKET, name::SO_SNDBUF, 100_000).expect("legal");
        assert_eq!(o.sndbuf, Some(200_000));
        set(&mut o, name::SOL_SOCKET, name::SO_SNDBUF, i32::MAX).expect("capped");
        assert_eq!(o.sndbuf, Some(425_984));
        set(&mut o, name::SOL_SOCKET, name::SO_RCVBUF, 1).expect("floored");
        assert_eq!(o.rcvbuf, Some(2304));
    }

    #[test]
    fn errors_are_linux_errors() {
        let mut o = SockOpts::default();
        assert_eq!(set(&mut o, name::SOL_TCP, name::TCP_KEEPCNT, 128), Err(Errno::EINVAL));
        assert_eq!(set(&mut o, name::SOL_TCP, 9999, 1), Err(Errno::ENOPROTOOPT));
        assert_eq!(set(&mut o, name::SOL_SOCKET, name::SO_TYPE, 1), Err(Errno::ENOPROTOOPT));
        assert_eq!(set(&mut o, name::SOL_IP, name::IP_TTL, 256), Err(Errno::EINVAL));
        let short = o.set(CX, name::SOL_SOCKET, name::SO_REUSEADDR, &[1], &Nothing, |_| Err(Errno::ENOENT));
        assert_eq!(short, Err(Errno::EINVAL));
        let device = o.set(CX, name::SOL_SOCKET, name::SO_BINDTODEVICE, b"eth9\0", &Nothing, |_| Err(Errno::ENOENT));
        assert_eq!(device, Err(Errno::ENODEV));
        let bound = Context { bound: true, ..CX };
        let v6only = o.set(bound, name::SOL_IPV6, name::IPV6_V6ONLY, &[1, 0, 0, 0], &Nothing, |_| Err(Errno::ENOENT));
        assert_eq!(v6only, Err(Errno::EINVAL));
    }

    /// An unprivileged program could take any address, and leave the interface that it had been put on.
    #[test]
    fn what_takes_privileges_is_eperm_without() {
        let mut o = SockOpts::default();
        for (level, option) in [(name::SOL_IP, name::IP_TRANSPARENT), (name::SOL_IPV6, name::IPV6_TRANSPARENT)] {
            assert_eq!(set(&mut o, level, option, 1), Err(Errno::EPERM));
            set(&mut o, level, option, 0).expect("off is for everybody");
        }
        let mut bind = |cx, to: &[u8]| {
            o.set(cx, name::SOL_SOCKET, name::SO_BINDTODEVICE, to, &Nothing, |_| Err(Errno::ENOENT)).map(drop)
        };
        bind(CX, b"eth0\0").expect("the first time is for everybody");
        assert_eq!(bind(CX, b""), Err(Errno::EPERM));
        assert_eq!(bind(CX, b"eth9\0"), Err(Errno::ENODEV));
        bind(Context { privileged: true, ..CX }, b"").expect("privileged");
    }

    #[test]
    fn what_is_set_is_read_back() {
        let mut o = SockOpts::default();
        for (level, option) in [
            (name::SOL_SOCKET, name::SO_REUSEADDR),
            (name::SOL_SOCKET, name::SO_KEEPALIVE),
            (name::SOL_TCP, name::TCP_NODELAY),
            (name::SOL_TCP, name::TCP_CORK),
            (name::SOL_IPV6, name::IPV6_V6ONLY),
            (name::SOL_IP, name::IP_FREEBIND),
        ] {
            assert_eq!(o.get(CX, level, option), Some(OptionValue::Int(0)));
            set(&mut o, level, option, 1).expect("legal");
            assert_eq!(o.get(CX, level, option), Some(OptionValue::Int(1)));
        }
    }

    #[test]
    fn a_pacing_rate_comes_in_four_or_eight_bytes() {
        let mut o = SockOpts::default();
        set(&mut o, name::SOL_SOCKET, name::SO_MAX_PACING_RATE, -1).expect("unlimited");
        assert_eq!(o.max_pacing_rate, u64::MAX);
        let rate = 5_000_000_000u64;
        o.set(CX, name::SOL_SOCKET, name::SO_MAX_PACING_RATE, &rate.to_ne_bytes(), &Nothing, |_| Err(Errno::ENOENT))
            .expect("64 bit");
        let mut out = [0; 8];
        let value = o.get(CX, name::SOL_SOCKET, name::SO_MAX_PACING_RATE).expect("known");
        assert_eq!((value.write(&mut out), u64::from_ne_bytes(out)), (8, rate));
        assert_eq!((value.write(&mut out[..4]), &out[..4]), (4, &[0xff; 4][..]));
    }
}
