//! TCP Fast Open (RFC 7413): data in the SYN.
//!
//! Cookies are made, checked and remembered by the stack; the connection carries them, sends and takes the data, and says what the
//! handshake taught ([`Connection::fast_open_lesson`]).

use super::Connection;
use crate::cc::CaState;
use crate::config::{Config, FlowParams};
use crate::record::What;
use crate::recovery::Undo;
use crate::seam::{Env, Event, Ingress, Place, State};
use serde::{Deserialize, Serialize};
use stackd_base::{Instant, Mib, SeqNum};
use stackd_wire::{FastOpenCookie, TcpOptions, TcpRepr};

/// Room for options beside the data of a SYN, whatever they are (Linux's `MAX_TCP_OPTION_SPACE`).
const OPTION_SPACE: u32 = 40;

/// How an active open makes use of Fast Open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FastOpen {
    /// The SYN asks for a cookie; data waits for the handshake.
    Ask {
        /// In the form of before RFC 7413.
        experimental: bool,
    },
    /// The SYN waits for data, and takes it along.
    Data {
        /// The server's cookie; `None` where none is needed (`TCP_FASTOPEN_NO_COOKIE`).
        cookie: Option<FastOpenCookie>,
        /// The server's MSS as it was last time.
        mss: Option<u16>,
    },
}

/// What a handshake taught about a server, for the next one to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FastOpenLesson {
    /// Its MSS.
    pub mss: Option<u16>,
    /// A cookie it granted.
    pub cookie: Option<FastOpenCookie>,
    /// It was asked for a cookie and gave none: in which form it was asked (experimental?).
    pub refused: Option<bool>,
    /// The SYN with data got lost, as far as one can tell.
    pub syn_lost: bool,
    /// SYNs with Fast Open vanish on the way.
    pub blackhole: bool,
}

/// Linux's `tcpi_fastopen_client_fail`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
enum ClientFail {
    #[default]
    None = 0,
    CookieUnavailable = 1,
    DataNotAcked = 2,
    SynRetransmitted = 3,
}

/// Of a connection that uses Fast Open; others have none.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FastOpenState {
    /// Passive: the connection was made by a SYN with a valid cookie, and may send before the handshake ends.
    child: bool,
    /// Option of our SYN, or of our SYN-ACK.
    option: Option<FastOpenCookie>,
    /// The SYN waits for the application's first write.
    deferred: bool,
    /// Most bytes the SYN may carry.
    room: u32,
    /// Bytes it carried.
    sent: u32,
    /// They (or, passive, the peer's) were accepted.
    syn_data_acked: bool,
    fail: ClientFail,
    lesson: Option<FastOpenLesson>,
}

impl Connection {
    /// Opens actively with Fast Open: SYN_SENT.
    pub fn connect_fast(cfg: &Config, flow: FlowParams, iss: SeqNum, now: Instant, how: FastOpen) -> Self {
        let mut c = Self::connect(cfg, flow, iss, now);
        let mut f = FastOpenState::default();
        match how {
            FastOpen::Ask { experimental } => {
                f.option = Some(FastOpenCookie::REQUEST.in_experimental_form(experimental));
                f.fail = ClientFail::CookieUnavailable;
            }
            FastOpen::Data { cookie, mss } => {
                f.option = cookie;
                f.deferred = true;
                // RFC 7413, 4.2.1: "the client ... SHOULD limit the data in the SYN to the MSS of the server"; unknown, it is the default.
                let peer = mss.map_or(c.opts.peer_mss, u32::from);
                f.room = c.flow.mss.get().min(peer).saturating_sub(OPTION_SPACE);
                c.due.syn = false;
            }
        }
        c.fast = Some(Box::new(f));
        c
    }

    /// Opens passively in answer to a SYN whose cookie is good, with its `len` bytes of data: SYN_RECEIVED, readable at once.
    pub fn accept_fast(
        flow: FlowParams,
        iss: SeqNum,
        syn: &TcpRepr,
        len: u32,
        now: Instant,
        env: &mut Env<'_>,
    ) -> (Self, Ingress) {
        let mut c = Self::accept(env.cfg, flow, iss, syn, now);
        c.fast = Some(Box::new(FastOpenState { child: true, syn_data_acked: len > 0, ..FastOpenState::default() }));
        let window = c.rcv.candidate(env.cfg, 0, u32::from(c.advmss)).min(65_535);
        c.rcv.edge = window;
        // RFC 7413, 4.1.2: what is not taken is not acknowledged, and the client sends it again as ordinary data.
        let take = u64::from(len).min(window);
        if take == 0 {
            return (c, Ingress::default());
        }
        c.stats.data_segs_in += 1;
        c.accept_bytes(now, syn, 0, take, env);
        (c, Ingress { place: Some(Place { stream_offset: 0, at: 0, len: take as u32 }), drop: None })
    }

    /// Passive: the SYN-ACK will carry this cookie.
    pub fn grant_cookie(&mut self, cookie: FastOpenCookie) {
        if self.tape.is_some() {
            self.taped_bare(None, What::GrantCookie(cookie), None);
            return;
        }
        self.fast.get_or_insert_default().option = Some(cookie);
    }

    /// The SYN waits for the first write.
    pub fn defers_syn(&self) -> bool {
        self.state == State::SynSent && self.fast.as_ref().is_some_and(|f| f.deferred)
    }

    /// The application may write although the handshake is not over: data for the SYN, or a Fast Open child.
    pub fn writes_early(&self) -> bool {
        match self.state {
            State::SynSent => self.fast.as_ref().is_some_and(|f| f.room > 0),
            State::SynReceived => self.is_fast_child(),
            _ => false,
        }
    }

    /// RFC 7413, 4.2.2: made by data in a SYN; it may send before the handshake ends.
    pub fn is_fast_child(&self) -> bool {
        self.fast.as_ref().is_some_and(|f| f.child)
    }

    /// The first bytes were written: the SYN may go.
    pub(crate) fn release_syn(&mut self) {
        if let Some(f) = &mut self.fast
            && self.state == State::SynSent
            && core::mem::take(&mut f.deferred)
        {
            self.due.syn = true;
        }
    }

    /// Option of our SYN or SYN-ACK, beside its others. One sent again goes without, and without data (RFC 7413, 4.1.3): a middlebox may have
    /// dropped the first for that. Where the others and a signature leave no room, nothing is asked or granted and, as data may not go
    /// without its cookie, none is sent (as Linux).
    pub(crate) fn add_fast_open_option(&mut self, options: &mut TcpOptions, again: bool) {
        let Some(f) = self.fast.as_mut().filter(|f| f.option.is_some() && !again) else { return };
        options.fast_open = f.option;
        if options.len() + usize::from(self.flow.signature) > OPTION_SPACE as usize {
            options.fast_open = None;
            f.option = None;
            f.room = 0;
        }
    }

    /// Bytes that the first SYN takes along; they are on the scoreboard afterwards.
    pub(crate) fn syn_data(&mut self, now: Instant, env: &mut Env<'_>) -> u32 {
        let written = self.written.min(u64::from(u32::MAX)) as u32;
        let Some(f) = self.fast.as_mut().filter(|f| f.room > 0 && written > 0) else { return 0 };
        let len = written.min(f.room);
        f.sent = len;
        let end = 1 + u64::from(len);
        let rate = self.rate.on_send(now, self.board.packets_out());
        // As Linux: if it must leave again, then as a segment of its own that was pushed.
        self.board.push(1, end, len, now, rate).psh = true;
        self.nxt = end;
        self.small_end = end;
        self.queued_below += u64::from(len);
        self.frames_below += 1;
        self.stats.data_segs_out += 1;
        self.stats.bytes_sent += u64::from(len);
        self.stats.last_data_sent = now;
        env.mib.inc(Mib::TcpExtTCPOrigDataSent);
        len
    }

    /// The SYN-ACK is here (and taken into account): what it says of Fast Open.
    pub(crate) fn fast_open_answered(&mut self, now: Instant, seg: &TcpRepr, env: &mut Env<'_>) {
        let repeated = self.stats.total_retrans > 0;
        let missing = self.una < self.nxt;
        let Some(f) = &mut self.fast else { return };
        let granted = seg.options.fast_open.filter(|c| !c.is_request());
        let asked = f.option.is_some_and(|c| c.is_request());
        f.lesson = Some(FastOpenLesson {
            mss: seg.options.mss,
            // A cookie that nobody asked for is no cookie.
            cookie: granted.filter(|_| f.option.is_some()),
            refused: f.option.filter(|_| asked && granted.is_none() && !repeated).map(|c| c.is_experimental()),
            syn_lost: repeated && granted.is_none() && f.sent > 0 && missing,
            blackhole: false,
        });
        self.notify(Event::FastOpen);
        let Some(f) = self.fast.as_mut().filter(|f| f.sent > 0) else { return };
        if missing {
            // RFC 7413, 4.1.3 (5): "If the server did not acknowledge the data ... the client ... retransmits" it as after any handshake.
            f.fail = if repeated { ClientFail::SynRetransmitted } else { ClientFail::DataNotAcked };
            env.mib.inc(Mib::TcpExtTCPFastOpenActiveFail);
            self.resend_all(now, env);
        } else {
            f.syn_data_acked = true;
            env.mib.inc(Mib::TcpExtTCPFastOpenActive);
            // SYN and data were one packet.
            self.rate.uncount_one();
        }
    }

    /// All that is outstanding goes out again, though no congestion was seen (a smaller MTU, data that a SYN could not bring): the
    /// window stays. In the Loss state nobody takes the marks for new losses.
    pub(crate) fn resend_all(&mut self, now: Instant, env: &mut Env<'_>) {
        self.board.mark_all_lost(false);
        self.hold_window(now, env);
    }

    /// What is marked lost goes out again without a reduction, also when an episode that goes on has ended.
    pub(crate) fn hold_window(&mut self, now: Instant, env: &mut Env<'_>) {
        if !matches!(self.ca_state, CaState::Loss | CaState::Recovery) {
            self.ca_state = CaState::Loss;
            self.undo = Undo::default();
        }
        self.high_seq = self.nxt;
        self.frto = false;
        self.arm_rto(now, env.cfg);
    }

    /// A SYN timed out. Two in a row with Fast Open, or the last one, and the path is suspected (RFC 7413, 4.1.3.1, as Linux counts).
    pub(crate) fn fast_open_timed_out(&mut self, gives_up: bool) {
        let timeouts = self.retransmits;
        let Some(f) = self.fast.as_mut().filter(|f| !f.child && (f.option.is_some() || f.sent > 0)) else { return };
        if timeouts == 2 || (timeouts < 2 && gives_up) {
            f.lesson = Some(FastOpenLesson { blackhole: true, ..FastOpenLesson::default() });
            self.notify(Event::FastOpen);
        }
    }

    /// What the handshake taught, once, after [`Event::FastOpen`].
    pub fn fast_open_lesson(&mut self) -> Option<FastOpenLesson> {
        if self.tape.is_some() && self.fast.is_some() {
            return self.taped_bare(None, What::FastOpenLesson, None).lesson();
        }
        self.fast.as_mut()?.lesson.take()
    }

    /// At the end of an active connection that used Fast Open: did only its FIN, and nothing of the data before it, come through (as with
    /// middleboxes that drop what follows data in a SYN)? `None`: not used, or nothing can be said.
    pub fn fast_open_blackholed(&self) -> Option<bool> {
        self.fast.as_ref().filter(|f| !f.child && (f.option.is_some() || f.sent > 0))?;
        match (self.stats.data_segs_in, self.peer_fin) {
            (0, Some(fin)) if self.rcv_nxt < fin => Some(true),
            (0, _) => None,
            _ => Some(false),
        }
    }

    /// `TCPI_OPT_SYN_DATA` and `tcpi_fastopen_client_fail`.
    pub(crate) fn fast_open_info(&self) -> (bool, u8) {
        self.fast.as_ref().map_or((false, 0), |f| (f.syn_data_acked, f.fail as u8))
    }
}
