//! What must hold of a connection whatever happened to it: asked by simulations, fuzzers and tests after every event.

use super::Connection;
use crate::recovery::RetransTimer;
use crate::seam::State;
use stackd_base::Instant;

/// Fails with a text unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}
pub(crate) use ensure;

/// Where a connection stands in both sequence spaces. An observer compares it with what it saw before: none of these but `snd_wnd`
/// ever goes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Positions {
    /// Oldest unacknowledged position; SYN is 0, stream offset `o` is `o + 1`.
    pub snd_una: u64,
    /// Next position to be sent.
    pub snd_nxt: u64,
    /// The peer's window, counted from `snd_una`.
    pub snd_wnd: u64,
    /// Stream offset where the next byte is expected; the peer's FIN takes one.
    pub rcv_nxt: u64,
    /// Right edge of the window that was offered.
    pub rcv_edge: u64,
    /// Last position acknowledged to the peer, as a stream offset.
    pub acked_to: u64,
}

impl Connection {
    /// Where it stands.
    pub fn positions(&self) -> Positions {
        Positions {
            snd_una: self.una,
            snd_nxt: self.nxt,
            snd_wnd: self.snd_wnd,
            rcv_nxt: self.rcv_nxt,
            rcv_edge: self.rcv.edge,
            acked_to: self.acked_to,
        }
    }

    /// Payload bytes of a full segment now: no segment that leaves carries more.
    pub fn mss(&self) -> u32 {
        self.mss
    }

    /// Segments below this connection whose departure it was not told of yet: bytes and frames.
    pub fn below(&self) -> (u64, u32) {
        (self.queued_below, self.frames_below)
    }

    /// What holds at any moment between two calls.
    ///
    /// # Errors
    /// The first thing that does not hold, with its figures.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_send_space()?;
        self.check_receive_space()?;
        self.check_control()
    }

    /// What holds besides when nothing more is to be sent at `now`: [`poll_transmit`](Self::poll_transmit) said `None`, and whatever
    /// deadline had passed was dealt with. Whoever waits has something that will wake it.
    ///
    /// # Errors
    /// The first thing that does not hold, with its figures.
    pub fn check_at_rest(&self, now: Instant) -> Result<(), String> {
        self.check_invariants()?;
        let deadline = self.next_deadline();
        ensure!(deadline.is_none_or(|d| d > now), "at rest at {now:?} with the deadline {deadline:?} behind it");
        if self.state == State::Closed {
            ensure!(deadline.is_none(), "closed, and waits for {deadline:?}");
            return Ok(());
        }
        if self.frozen {
            // TCP_REPAIR: nothing is sent and no timer acts until the repair ends, which arms what must run.
            return Ok(());
        }
        let due = &self.due;
        ensure!(!due.rst && due.rst_seq.is_none(), "at rest with a RST due");
        ensure!(!self.ack.now || !self.state.is_synchronized(), "at rest with an ACK due now");
        // RFC 6298, 5.1: "Every time a packet containing data is sent (including a retransmission), if the timer is not running, start it".
        ensure!(
            self.una == self.nxt || self.timer.is_some(),
            "{}..{} is outstanding in {:?} and no timer runs",
            self.una,
            self.nxt,
            self.state
        );
        // RFC 1122, 4.2.3.2: what arrived is acknowledged within half a second.
        ensure!(
            self.rcv_nxt <= self.acked_to || !self.state.is_synchronized() || self.ack.deadline.is_some(),
            "{} arrived, {} is acknowledged, and no delayed ACK is due",
            self.rcv_nxt,
            self.acked_to
        );
        let may_send = matches!(self.state, State::Established | State::CloseWait);
        let wants = self.not_sent() > 0 || (self.fin_wanted && !self.fin_sent);
        // Also a zero window (RFC 9293, 3.8.6.1), a cork, Nagle, a window too small for a segment; internal pacing; the small-queue limit, which ends
        // when a segment leaves below.
        let waits = self.timer.is_some() || self.stats.paced_until.is_some() || self.queued_below > 0;
        ensure!(
            !may_send || !wants || waits,
            "{} bytes wait to be sent in {:?} (window {}, {} in flight, cwnd {}) and nothing will send them",
            self.not_sent(),
            self.state,
            self.snd_wnd,
            self.board.in_flight(),
            self.cwnd
        );
        Ok(())
    }

    fn check_send_space(&self) -> Result<(), String> {
        let (una, nxt, written) = (self.una, self.nxt, self.written);
        ensure!(una <= nxt, "snd_una {una} is beyond snd_nxt {nxt}");
        let end = written + 1 + u64::from(self.fin_sent);
        ensure!(nxt <= end, "snd_nxt {nxt} is beyond what was written: {end}");
        ensure!(!self.fin_sent || nxt == end, "the FIN was sent at {end} and snd_nxt is {nxt}");
        ensure!(!self.fin_sent || self.fin_wanted, "a FIN was sent that nobody asked for");
        ensure!(
            self.max_wnd >= self.snd_wnd,
            "the window {} is beyond the largest seen, {}",
            self.snd_wnd,
            self.max_wnd
        );
        ensure!(self.small_end <= nxt, "a small segment ends at {} beyond snd_nxt {nxt}", self.small_end);
        if self.state == State::Closed {
            return Ok(());
        }
        self.board.check(una, nxt, self.opts.sack)?;
        ensure!(self.high_seq <= nxt, "recovery ends at {} beyond snd_nxt {nxt}", self.high_seq);
        ensure!(
            self.tx_released() <= written && self.tx_limit() >= self.tx_released(),
            "released {}, written {written}, limit {}",
            self.tx_released(),
            self.tx_limit()
        );
        Ok(())
    }

    fn check_receive_space(&self) -> Result<(), String> {
        let (rcv_nxt, edge) = (self.rcv_nxt, self.rcv.edge);
        ensure!(self.acked_to <= rcv_nxt, "acknowledged {} of {rcv_nxt} received", self.acked_to);
        // The FIN takes no room in the window.
        ensure!(
            rcv_nxt <= edge + 1 || !self.state.is_synchronized(),
            "received {rcv_nxt}, offered no more than {edge}"
        );
        ensure!(self.rcv.consumed <= self.rx_head(), "read {} of {}", self.rcv.consumed, self.rx_head());
        if let Some(fin) = self.peer_fin {
            ensure!(rcv_nxt <= fin + 1, "received {rcv_nxt} of a stream that ended at {fin}");
        }
        ensure!(self.rcv.scale <= 14, "window shift {} (RFC 7323, 2.3: at most 14)", self.rcv.scale);
        self.reasm.check(rcv_nxt, edge, self.peer_fin)
    }

    fn check_control(&self) -> Result<(), String> {
        ensure!(self.cwnd >= 1, "cwnd is {}", self.cwnd);
        ensure!(self.mss >= 1, "mss is {}", self.mss);
        ensure!(
            self.mss <= self.flow.mss.get().max(48) && self.mss <= self.opts.peer_mss.max(48),
            "mss {} exceeds the path's {} or the peer's {}",
            self.mss,
            self.flow.mss.get(),
            self.opts.peer_mss
        );
        // The other way round happens: a queue that cut a frame may have dropped its end, and hold the rest.
        ensure!(self.frames_below == 0 || self.queued_below > 0, "{} frames below without a byte", self.frames_below);
        let persists = matches!(self.timer, Some((RetransTimer::Persist, _)));
        ensure!(!persists || self.board.is_empty(), "the window is probed while data is outstanding");
        ensure!(
            self.state != State::Closed || (self.timer.is_none() && self.keepalive_at.is_none()),
            "closed, and a timer runs"
        );
        Ok(())
    }
}
