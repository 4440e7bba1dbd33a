//! The connection: its variables, its birth, and what the application asks of it.

pub(crate) mod accecn;
mod ack;
pub(crate) mod check;
mod cookie;
mod ecn_setup;
mod fastopen;
mod forced;
mod info;
mod input;
mod mtup;
mod options;
mod output;
mod recover;
mod repair;
mod request;
mod sack;
mod sndbuf;
mod timers;
mod urgent;
mod usage;

pub use accecn::AccEcnInfo;
pub use check::Positions;
pub use fastopen::{FastOpen, FastOpenLesson};
pub use info::TcpInfo;
pub use repair::{RepairCall, RepairWindow};
pub use request::Request;
use serde::{Deserialize, Serialize};

use crate::ack_policy::AckPolicy;
use crate::cc::{self, CaState, CcConfig, CongestionControl, Control};
use crate::config::{Config, FlowParams};
use crate::rate::RateEstimator;
use crate::reassembly::Reassembly;
use crate::record::{Tape, What};
use crate::recovery::{Prr, Rack, RetransTimer, Tlp, Undo};
use crate::rtt::Rtt;
use crate::scoreboard::Scoreboard;
use crate::seam::{CloseReason, Env, Event, IcmpError, IcmpKind, State};
use info::{Chrono, Stats};
use smallvec::SmallVec;
use stackd_base::{Bandwidth, Duration, Instant, Mib, Mss, SeqNum};
use stackd_wire::{EcnCodepoint, TcpRepr};

/// One TCP connection. See the crate's page for the order of calls.
///
/// Send positions count SYN as 0, so that stream offset `o` is position `o + 1`; receive positions are stream offsets, the
/// peer's FIN taking one after the last byte.
#[derive(Debug, Serialize, Deserialize)]
pub struct Connection {
    pub(crate) state: State,
    pub(crate) flow: FlowParams,
    pub(crate) iss: SeqNum,
    pub(crate) irs: SeqNum,
    pub(crate) opts: Negotiated,
    /// Payload bytes of a full segment now.
    pub(crate) mss: u32,
    pub(crate) advmss: u16,

    // Send side.
    pub(crate) una: u64,
    pub(crate) nxt: u64,
    pub(crate) written: u64,
    pub(crate) fin_wanted: bool,
    pub(crate) fin_sent: bool,
    pub(crate) snd_wnd: u64,
    pub(crate) max_wnd: u64,
    pub(crate) wl1: u64,
    /// End of the last segment shorter than the MSS (Minshall's refinement of Nagle).
    pub(crate) small_end: u64,
    pub(crate) sndbuf: u64,
    pub(crate) more: More,
    /// `TCP_REPAIR`: nothing moves.
    pub(crate) frozen: bool,
    pub(crate) board: Scoreboard,
    pub(crate) rtt: Rtt,
    pub(crate) rate: RateEstimator,
    #[serde(with = "cc::boxed")]
    pub(crate) cc: Box<dyn CongestionControl>,
    pub(crate) control: Control,
    pub(crate) cwnd: u32,
    pub(crate) ssthresh: u32,
    pub(crate) is_cwnd_limited: bool,
    pub(crate) max_packets_out: u32,
    pub(crate) cwnd_usage_end: u64,
    /// Data left, or the window held it back, since the use of the window was last looked at.
    pub(crate) cwnd_unseen: bool,
    /// A small segment waits for the queue below, and that was counted.
    pub(crate) autocorked: bool,
    pub(crate) next_departure: Instant,
    /// When the last segment with data or a FIN leaves, or left.
    pub(crate) last_departure: Instant,
    pub(crate) queued_below: u64,
    pub(crate) frames_below: u32,

    // Recovery.
    pub(crate) ca_state: CaState,
    pub(crate) high_seq: u64,
    pub(crate) prr: Prr,
    pub(crate) undo: Undo,
    pub(crate) rack: Rack,
    pub(crate) tlp: Tlp,
    pub(crate) frto: bool,
    pub(crate) frto_new_data: bool,
    /// The oldest outstanding packet was SACKed: a short timer waits for the peer to explain itself.
    pub(crate) reneging: bool,
    /// The search for the path's MTU.
    pub(crate) mtup: Option<Box<mtup::Mtup>>,
    /// Urgent data, either way.
    pub(crate) urg: Option<Box<urgent::Urgent>>,
    pub(crate) dupacks: u32,
    pub(crate) reordering: u32,
    pub(crate) timer: Option<(RetransTimer, Instant)>,
    pub(crate) backoff: u8,
    pub(crate) retransmits: u8,
    pub(crate) probes_out: u8,
    pub(crate) retrans_since: Option<Instant>,
    /// First timeout since the peer last acknowledged something new.
    pub(crate) stalled_since: Option<Instant>,
    pub(crate) persist_since: Option<Instant>,
    pub(crate) keepalive_at: Option<Instant>,
    pub(crate) linger_at: Option<Instant>,

    // ECN.
    pub(crate) demand_cwr: bool,
    /// Accurate ECN: asked for by our SYN, or agreed on. Then `opts.ecn` is false.
    pub(crate) accecn: Option<Box<accecn::AccEcn>>,
    pub(crate) send_cwr: bool,

    // Receive side.
    pub(crate) rcv_nxt: u64,
    pub(crate) acked_to: u64,
    pub(crate) rcv: crate::window::RecvWindow,
    pub(crate) ack: AckPolicy,
    pub(crate) reasm: Reassembly,
    pub(crate) dsack: Option<(u64, u64)>,
    pub(crate) peer_fin: Option<u64>,
    /// Of what arrived out of order the FIN, alone, was the last.
    pub(crate) fin_is_newest: bool,
    pub(crate) app_closed: bool,
    /// `shutdown(SHUT_RD)`.
    pub(crate) read_shut: bool,
    pub(crate) last_oow_ack: Option<Instant>,

    /// Fast Open, where it is used.
    pub(crate) fast: Option<Box<fastopen::FastOpenState>>,

    // What must leave.
    pub(crate) due: Due,
    pub(crate) events: SmallVec<[Event; 2]>,
    /// Everything is written down.
    #[serde(skip)]
    pub(crate) tape: Option<Box<Tape>>,
    pub(crate) soft_error: Option<stackd_base::Errno>,
    pub(crate) stats: Stats,
}

/// What the handshake agreed on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Negotiated {
    pub ts: bool,
    pub sack: bool,
    pub wscale: bool,
    pub ecn: bool,
    pub snd_scale: u8,
    pub peer_mss: u32,
    pub ts_recent: u32,
    pub ts_recent_at: Instant,
    /// No timestamp of the peer's is known yet (`TCP_REPAIR`): any will do.
    pub ts_unknown: bool,
}

/// Segments owed that no queue holds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Due {
    pub syn: bool,
    /// RST with this sequence position, with or without ACK.
    pub rst: bool,
    /// Position range of a RST that answers a bad ACK during the handshake: its own sequence number.
    pub rst_seq: Option<SeqNum>,
    pub challenge: bool,
    /// A segment below `una`: keepalive or window probe.
    pub probe: bool,
    pub tlp: bool,
    /// The next new-data segment may be shorter than Nagle or the cork allow.
    pub push: bool,
    /// As all of them until the next write: `TCP_NODELAY` was set.
    pub flush: bool,
}

/// What `MSG_MORE` of the last write does to the segment that it does not fill.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum More {
    /// It had no such flag.
    No,
    /// The segment waits.
    Holds,
    /// It waits no more, for something else than that write let it go. It has no PSH.
    Released,
}

impl Connection {
    /// Opens actively: SYN_SENT. The SYN waits for [`poll_transmit`](Self::poll_transmit).
    pub fn connect(cfg: &Config, flow: FlowParams, iss: SeqNum, now: Instant) -> Self {
        let mut c = Self::new(State::SynSent, cfg, flow, iss, now);
        c.ask_for_ecn(cfg);
        c.due.syn = true;
        c
    }

    /// Opens passively in answer to `syn`: SYN_RECEIVED. The SYN-ACK waits for [`poll_transmit`](Self::poll_transmit).
    pub fn accept(cfg: &Config, flow: FlowParams, iss: SeqNum, syn: &TcpRepr, now: Instant) -> Self {
        let mut c = Self::new(State::SynReceived, cfg, flow, iss, now);
        c.irs = syn.seq;
        c.answer_ecn_of_syn(cfg, syn, EcnCodepoint::NotEct);
        c.absorb_syn_options(cfg, syn, now);
        c.snd_wnd = u64::from(syn.window);
        c.max_wnd = c.snd_wnd;
        c.due.syn = true;
        c
    }

    fn new(state: State, cfg: &Config, flow: FlowParams, iss: SeqNum, now: Instant) -> Self {
        let default = if flow.ipv6 { Mss::DEFAULT_V6 } else { Mss::DEFAULT_V4 }.get();
        let most = cfg.maxseg.map_or(u32::MAX, u32::from);
        let advmss = flow.advmss.map_or(flow.mss.get(), |n| n.get().into()).min(most);
        let mss = flow.mss.get().min(most).min(default);
        let cc_cfg = CcConfig {
            now,
            mss,
            initial_cwnd: cfg.initial_cwnd,
            srtt: None,
            clock_tick: cfg.clock_clamp.then_some(cfg.clock_tick),
        };
        let cc = cc::by_name(cfg.congestion, &cc_cfg).unwrap_or_else(|| Box::new(cc::Cubic::new(&cc_cfg)));
        let control = cc.control();
        Self {
            state,
            flow,
            iss,
            irs: SeqNum(0),
            opts: Negotiated { peer_mss: default, ts_recent_at: now, ..Negotiated::default() },
            mss,
            advmss: advmss.min(65_535) as u16,
            una: 0,
            nxt: 0,
            written: 0,
            fin_wanted: false,
            fin_sent: false,
            snd_wnd: 0,
            max_wnd: 0,
            wl1: 0,
            small_end: 0,
            sndbuf: cfg.sndbuf.unwrap_or(cfg.wmem[1]),
            more: More::No,
            frozen: false,
            board: Scoreboard::default(),
            rtt: Rtt::default(),
            rate: RateEstimator::new(now),
            cc,
            control,
            cwnd: control.cwnd.max(1),
            ssthresh: control.ssthresh,
            is_cwnd_limited: false,
            max_packets_out: 0,
            cwnd_usage_end: 0,
            cwnd_unseen: false,
            autocorked: false,
            next_departure: now,
            last_departure: now,
            queued_below: 0,
            frames_below: 0,
            ca_state: CaState::Open,
            high_seq: 0,
            prr: Prr::default(),
            undo: Undo::default(),
            rack: Rack::default(),
            tlp: Tlp::default(),
            frto: false,
            frto_new_data: false,
            reneging: false,
            mtup: None,
            urg: None,
            dupacks: 0,
            reordering: cfg.reordering,
            timer: None,
            backoff: 0,
            retransmits: 0,
            probes_out: 0,
            retrans_since: None,
            stalled_since: None,
            persist_since: None,
            keepalive_at: None,
            linger_at: None,
            demand_cwr: false,
            accecn: None,
            send_cwr: false,
            rcv_nxt: 0,
            acked_to: 0,
            rcv: crate::window::RecvWindow::new(cfg, now, advmss),
            ack: AckPolicy::new(advmss, now),
            reasm: Reassembly::default(),
            dsack: None,
            peer_fin: None,
            fin_is_newest: false,
            app_closed: false,
            read_shut: false,
            last_oow_ack: None,
            fast: None,
            due: Due::default(),
            events: SmallVec::new(),
            tape: None,
            soft_error: None,
            stats: Stats {
                last_recv: now,
                last_ack_recv: now,
                last_data_sent: now,
                chrono_since: now,
                ..Stats::default()
            },
        }
    }

    // ---- what the application asks ----

    /// The application wrote: the stream now ends at `head`. Ignored after a shutdown.
    pub fn handle_written(&mut self, now: Instant, head: u64, env: &mut Env<'_>) {
        if self.tape.is_some() {
            self.taped(Some(now), What::Written { head }, env);
            return;
        }
        if self.fin_wanted || self.state == State::Closed || head <= self.written {
            return;
        }
        self.restart_after_idle(now, env);
        self.written = head;
        self.due.flush = false;
        if self.frozen {
            self.take_as_sent(now);
        }
        self.release_syn();
        self.update_chrono(now);
    }

    /// The application consumed up to `tail`: the window may open.
    pub fn handle_consumed(&mut self, now: Instant, tail: u64, env: &mut Env<'_>) {
        if self.tape.is_some() {
            self.taped(Some(now), What::Consumed { tail }, env);
            return;
        }
        self.rcv.on_consumed(tail.min(self.rx_head()));
        self.forget_urgent();
        self.rcv.adjust(env.cfg, now, self.rx_head(), self.reasm.bytes(), self.mss, env.mem);
        if self.state.can_receive() && self.rcv.wants_update(env.cfg, self.rcv_nxt, u32::from(self.advmss)) {
            self.ack.pending = true;
            self.ack.now = true;
        }
    }

    /// FIN after what was written. RFC 9293, 3.6: the other direction stays open.
    pub fn handle_shutdown_write(&mut self, now: Instant, env: &mut Env<'_>) {
        if self.tape.is_some() {
            self.taped(Some(now), What::ShutdownWrite, env);
            return;
        }
        match self.state {
            State::SynSent => {
                self.finish(CloseReason::Aborted, env);
                return;
            }
            State::Established | State::SynReceived | State::CloseWait => self.fin_wanted = true,
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck | State::TimeWait | State::Closed => {}
        }
        self.update_chrono(now);
    }

    /// The application let go: RST when it left data unread (RFC 2525, 2.17), else FIN. The connection finishes by itself.
    pub fn handle_close(&mut self, now: Instant, unread: bool, env: &mut Env<'_>) {
        if self.tape.is_some() {
            self.taped(Some(now), What::Close { unread }, env);
            return;
        }
        self.app_closed = true;
        // A Fast Open child holds data of the SYN that nobody will read, before the handshake ends.
        let holds_data = self.state == State::SynReceived || self.state.is_synchronized();
        if unread && holds_data && self.state != State::TimeWait {
            env.mib.inc(Mib::TcpExtTCPAbortOnClose);
            self.handle_abort(env);
            return;
        }
        self.handle_shutdown_write(now, env);
        if self.state == State::FinWait2 && env.cfg.fin_timeout.is_zero() {
            env.mib.inc(Mib::TcpExtTCPAbortOnLinger);
            self.handle_abort(env);
            return;
        }
        if self.state == State::FinWait2 {
            self.linger_at = Some(now + env.cfg.fin_timeout);
        }
    }

    /// Ends it at once with a RST where the peer knows of it (RFC 9293, 3.10.5).
    pub fn handle_abort(&mut self, env: &mut Env<'_>) {
        if self.tape.is_some() {
            self.taped(None, What::Abort, env);
            return;
        }
        let tell = !self.frozen && !matches!(self.state, State::SynSent | State::Closed | State::TimeWait);
        self.finish(CloseReason::Aborted, env);
        self.due.rst = tell;
    }

    /// The device took (or the stack gave up) a segment carrying `payload_bytes` of payload: room below for more (TSQ). Poll for
    /// transmission afterwards.
    pub fn handle_tx_complete(&mut self, payload_bytes: u32) {
        if self.tape.is_some() {
            self.taped_bare(None, What::TxComplete { bytes: payload_bytes }, None);
            return;
        }
        if payload_bytes > 0 {
            self.queued_below = self.queued_below.saturating_sub(u64::from(payload_bytes));
            self.frames_below = self.frames_below.saturating_sub(1);
            self.autocorked = false;
        }
    }

    /// As [`handle_tx_complete`](Self::handle_tx_complete) for a piece of a segment that was cut below, and of which more will follow.
    pub fn handle_tx_piece(&mut self, payload_bytes: u32) {
        if self.tape.is_some() {
            self.taped_bare(None, What::TxPiece { bytes: payload_bytes }, None);
            return;
        }
        self.queued_below = self.queued_below.saturating_sub(u64::from(payload_bytes));
    }

    /// An ICMP error that quotes a segment of this connection.
    pub fn handle_icmp(&mut self, now: Instant, error: IcmpError, env: &mut Env<'_>) {
        if self.tape.is_some() {
            self.taped(Some(now), What::Icmp(error), env);
            return;
        }
        // RFC 5927, 4: "the TCP sequence number ... SHOULD be checked to be within the range of the data already sent but not yet
        // acknowledged".
        let pos = self.send_position(error.seq);
        if self.state == State::Closed || pos < self.una as i64 || pos > self.nxt as i64 {
            env.mib.inc(Mib::TcpExtOutOfWindowIcmps);
            return;
        }
        match error.kind {
            IcmpKind::TooBig { mss } => self.set_path_mss(now, mss, env),
            IcmpKind::Hard(e) if matches!(self.state, State::SynSent | State::SynReceived) => {
                env.mib.inc(Mib::TcpAttemptFails);
                self.finish(CloseReason::Unreachable(e), env);
            }
            // RFC 5461, 4.1: a soft error ends an attempt to connect, as Linux does it: the next address may work.
            IcmpKind::Soft(e) if self.state == State::SynSent => {
                env.mib.inc(Mib::TcpAttemptFails);
                self.finish(CloseReason::Unreachable(e), env);
            }
            // RFC 1122, 4.2.3.9: "MUST NOT abort the connection" for soft errors; RFC 5461 lets hard ones be soft later.
            IcmpKind::Hard(e) | IcmpKind::Soft(e) => {
                self.soft_error = Some(e);
                self.notify(Event::ErrorQueue(e));
            }
        }
    }

    // ---- what the owner of the FIFOs reads ----

    /// State.
    pub fn state(&self) -> State {
        self.state
    }
    /// In-order bytes received.
    pub fn rx_head(&self) -> u64 {
        match self.peer_fin {
            Some(f) if self.rcv_nxt > f => f,
            _ => self.rcv_nxt,
        }
    }
    /// Bytes acknowledged by the peer: the send FIFO may forget them.
    pub fn tx_released(&self) -> u64 {
        self.una.saturating_sub(1).min(self.written)
    }
    /// Send buffer in force, bytes.
    pub fn sndbuf(&self) -> u64 {
        self.sndbuf
    }
    /// Receive buffer in force, bytes.
    pub fn rcvbuf(&self) -> u64 {
        self.rcv.rcvbuf
    }
    /// `SO_RCVBUF` of a live connection: the buffer is so large from now on. A window that was offered stays.
    pub fn set_rcvbuf(&mut self, bytes: u64) {
        if self.tape.is_some() {
            self.taped_bare(None, What::SetRcvBuf(bytes), None);
            return;
        }
        self.rcv.rcvbuf = bytes.max(u64::from(self.advmss));
    }
    /// Receive offset up to which bytes may arrive: the window's right edge.
    pub fn wants_rx_memory_up_to(&self) -> u64 {
        self.rcv.edge.max(self.rcv_nxt)
    }
    /// Bytes held out of order.
    pub fn rx_out_of_order(&self) -> u64 {
        self.reasm.bytes()
    }
    /// Written and not yet sent, bytes.
    pub fn not_sent(&self) -> u64 {
        (self.written + 1).saturating_sub(self.nxt.max(1))
    }
    /// The application reads no more (`SHUT_RD`), but holds the socket.
    pub fn set_read_shut(&mut self, on: bool) {
        if self.tape.is_some() {
            self.taped_bare(None, What::SetReadShut(on), None);
            return;
        }
        self.read_shut = on;
    }
    /// 1 when our FIN was asked for and is not acknowledged: it counts in `SIOCOUTQ`.
    pub fn fin_unacked(&self) -> u64 {
        u64::from(self.fin_wanted && self.una <= self.written + 1)
    }
    /// `MSG_MORE` of the last write: send(2), "the kernel ... should not send a partial frame ... until there is a call without the flag". As
    /// Linux, it holds back what that call itself would send: an ACK that comes later lets it go.
    pub fn set_more(&mut self, more: bool) {
        if self.tape.is_some() {
            self.taped_bare(None, What::SetMore(more), None);
            return;
        }
        self.more = if more { More::Holds } else { More::No };
    }
    /// As [`set_more`](Self::set_more) set it.
    pub fn is_more(&self) -> bool {
        self.more != More::No
    }
    /// tcp(7), `TCP_NODELAY`: "setting this option forces an explicit flush of pending output, even if TCP_CORK is currently set".
    pub fn flush(&mut self) {
        if self.tape.is_some() {
            self.taped_bare(None, What::Flush, None);
            return;
        }
        self.release_more();
        self.due.flush = true;
    }
    pub(crate) fn release_more(&mut self) {
        if self.more == More::Holds {
            self.more = More::Released;
        }
    }
    /// Initial sequence numbers: ours, and the peer's once its SYN is here.
    pub fn isns(&self) -> (SeqNum, Option<SeqNum>) {
        (self.iss, (self.state != State::SynSent).then_some(self.irs))
    }
    /// RFC 5925, 6.2: high half of the 64-bit number that `seq`, of ours, is the low half of, counted from the ISN.
    pub fn send_sne(&self, seq: SeqNum) -> u32 {
        let from_isn = i64::from(self.iss.0) + self.send_position(seq).max(0);
        (from_isn >> 32) as u32
    }
    /// The same of the peer's.
    pub fn recv_sne(&self, seq: SeqNum) -> u32 {
        if self.state == State::SynSent {
            return 0;
        }
        let from_isn = i64::from(self.irs.0) + 1 + self.recv_offset(seq).max(-1);
        (from_isn >> 32) as u32
    }
    /// The next sequence number to be sent.
    pub fn snd_nxt(&self) -> SeqNum {
        self.wire_seq(self.nxt)
    }
    /// The next one expected.
    pub fn rcv_nxt(&self) -> SeqNum {
        self.wire_ack(self.rcv_nxt)
    }
    /// Window offered last, bytes, and the shift of its field.
    pub fn rcv_wnd(&self) -> (u32, u8) {
        (self.rcv.edge.saturating_sub(self.rcv_nxt).min(u64::from(u32::MAX)) as u32, self.rcv.scale)
    }
    /// Last `tsval` taken from the peer and when; `None` without timestamps.
    pub fn ts_recent(&self) -> Option<(u32, Instant)> {
        self.opts.ts.then_some((self.opts.ts_recent, self.opts.ts_recent_at))
    }
    /// The path as the connection sees it now.
    pub fn flow(&self) -> &FlowParams {
        &self.flow
    }
    /// Name of the congestion control.
    pub fn congestion(&self) -> &'static str {
        self.cc.name()
    }
    /// State of the congestion control for diagnostics.
    pub fn cc_info(&self) -> cc::CcInfo {
        self.cc.info()
    }
    /// How often a timer of this connection has found nothing said by the peer: retransmissions, and window or keepalive probes now.
    pub fn timeouts(&self) -> (u16, u8) {
        (self.stats.total_rto, self.probes_out)
    }
    /// How little is to be expected of a connection that its application let go (Linux's `tcp_out_of_resources`): nothing sent for long; dubious
    /// ICMP errors.
    pub fn doubts(&self, now: Instant, cfg: &Config) -> u32 {
        u32::from(now - self.stats.last_data_sent > cfg.rto_max * 2) + u32::from(self.soft_error.is_some())
    }
    /// A soft ICMP error seen during the life of the connection.
    pub fn soft_error(&self) -> Option<stackd_base::Errno> {
        self.soft_error
    }

    /// Replaces the congestion control of a live connection (`TCP_CONGESTION`). False for an unknown name.
    pub fn set_congestion(&mut self, now: Instant, name: &str, cfg: &Config) -> bool {
        if self.tape.is_some() {
            let Some(name) = cc::AVAILABLE.into_iter().find(|n| *n == name) else { return false };
            return self.taped_bare(Some(now), What::SetCongestion { name }, Some(cfg)).known();
        }
        let cc_cfg = CcConfig {
            now,
            mss: self.mss,
            initial_cwnd: self.cwnd.max(2),
            srtt: self.rtt.srtt(),
            clock_tick: cfg.clock_clamp.then_some(cfg.clock_tick),
        };
        let Some(cc) = cc::by_name(name, &cc_cfg) else { return false };
        self.cc = cc;
        self.control = self.cc.control();
        self.take_control(cfg);
        true
    }

    /// The port's qdisc changed: whether it honours departure times.
    pub fn set_port_paces(&mut self, paces: bool) {
        if self.tape.is_some() {
            self.taped_bare(None, What::SetPortPaces(paces), None);
            return;
        }
        self.flow.port_paces = paces;
    }

    /// The next thing the application must learn.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.tape.is_some() && !self.events.is_empty() {
            return self.taped_bare(None, What::Event, None).event();
        }
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    // ---- shared helpers ----

    pub(crate) fn notify(&mut self, e: Event) {
        if !self.events.contains(&e) {
            self.events.push(e);
        }
    }

    pub(crate) fn wire_seq(&self, pos: u64) -> SeqNum {
        self.iss + pos as u32
    }
    pub(crate) fn wire_ack(&self, off: u64) -> SeqNum {
        self.irs + 1 + off as u32
    }
    /// Position of `seq`, nearest to `una`.
    pub(crate) fn send_position(&self, seq: SeqNum) -> i64 {
        self.una as i64 + i64::from(seq.distance_from(self.wire_seq(self.una)))
    }
    /// Receive offset of `seq`, nearest to `rcv_nxt`.
    pub(crate) fn recv_offset(&self, seq: SeqNum) -> i64 {
        self.rcv_nxt as i64 + i64::from(seq.distance_from(self.wire_ack(self.rcv_nxt)))
    }
    pub(crate) fn ts_now(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.flow.ts_offset)
    }

    /// Takes the algorithm's answer where it rules.
    pub(crate) fn take_control(&mut self, cfg: &Config) {
        let prr_rules = matches!(self.ca_state, CaState::Recovery | CaState::Cwr) && !self.cc.owns_recovery_cwnd();
        if !prr_rules {
            self.cwnd = self.control.cwnd.clamp(1, cfg.cwnd_clamp.max(1));
        }
        self.ssthresh = self.control.ssthresh;
    }

    /// Rate to pace at, the algorithm's or Linux's `tcp_update_pacing_rate`; `None` before an RTT is known.
    pub(crate) fn pacing_rate(&self, cfg: &Config) -> Option<Bandwidth> {
        let own = self.control.pacing_rate.or_else(|| {
            let srtt = self.rtt.srtt()?;
            let ratio = if self.cwnd < self.ssthresh / 2 { cfg.pacing_ss_ratio } else { cfg.pacing_ca_ratio };
            let bytes = u64::from(self.mss) * u64::from(self.cwnd.max(self.board.packets_out()));
            let per_sec = u128::from(bytes) * u128::from(ratio) * 10_000_000 / u128::from(srtt.as_nanos().max(1));
            Some(Bandwidth::from_bytes_per_sec(per_sec.min(u128::from(u64::MAX)) as u64))
        });
        match own {
            Some(r) => Some(r.min(cfg.max_pacing_rate)),
            None if cfg.max_pacing_rate < Bandwidth::MAX => Some(cfg.max_pacing_rate),
            None => None,
        }
    }

    /// Ends the connection without TIME_WAIT.
    pub(crate) fn finish(&mut self, reason: CloseReason, env: &mut Env<'_>) {
        if self.state == State::Closed {
            return;
        }
        if matches!(self.state, State::Established | State::CloseWait) {
            env.mib.dec(Mib::TcpCurrEstab);
            if reason != CloseReason::Finished {
                env.mib.inc(Mib::TcpEstabResets);
            }
        }
        self.state = State::Closed;
        self.clear_timers();
        self.due = Due::default();
        self.notify(Event::Closed(reason));
    }

    pub(crate) fn clear_timers(&mut self) {
        self.timer = None;
        self.keepalive_at = None;
        self.linger_at = None;
        self.stats.paced_until = None;
        self.ack.deadline = None;
        self.ack.now = false;
        self.ack.pending = false;
    }

    /// RFC 9293, 3.6: both FINs are exchanged and the peer may ask for our last ACK again.
    pub(crate) fn enter_time_wait(&mut self, now: Instant) {
        self.state = State::TimeWait;
        self.timer = None;
        self.keepalive_at = None;
        self.linger_at = Some(now + Duration::from_secs(60));
        self.notify(Event::Closed(CloseReason::Finished));
    }

    pub(crate) fn update_chrono(&mut self, now: Instant) {
        let kind = if self.not_sent() == 0 && self.board.is_empty() {
            Chrono::Idle
        // As Linux (`tcp_snd_wnd_test`): also a window with room for less than the next segment holds it back.
        } else if self.not_sent() > 0 && self.nxt + self.not_sent().min(u64::from(self.mss)) > self.una + self.snd_wnd {
            Chrono::Rwnd
        } else if self.not_sent() == 0 && self.written >= self.tx_limit() {
            Chrono::Sndbuf
        } else {
            Chrono::Busy
        };
        self.stats.switch_chrono(now, kind);
    }
}
