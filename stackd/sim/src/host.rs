//! One end of a connection: `tcp::Connection`, and an application that writes a stream of known length and reads all that comes.

use crate::coverage::Coverage;
use crate::frame::Frame;
use stackd_base::{Duration, Instant, MibCounters, SeqNum, SplitMix64};
use stackd_qdisc::{Dropped, Qdisc};
use stackd_tcp::{ChallengeLimit, Config, Connection, Env, Event, FlowParams, MemAccount, State};

/// What a host found that must never be; the text says what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation(pub String);

/// A host with one connection.
#[derive(Debug)]
pub struct Host {
    conn: Option<Connection>,
    flow: FlowParams,
    iss: SeqNum,
    cfg: Config,
    mib: MibCounters,
    mem: MemAccount,
    challenge: ChallengeLimit,
    rng: SplitMix64,
    /// What frames pass on their way out; `None` = the connection paces itself.
    qdisc: Option<Box<dyn Qdisc<Frame>>>,
    /// Bytes the application will write; `u64::MAX` = without end.
    to_write: u64,
    written: u64,
    shut: bool,
    received: Coverage,
    consumed: u64,
    released: u64,
    peer_closed: bool,
    finished: bool,
    violation: Option<Violation>,
}

impl Host {
    /// A host that will open or accept one connection and write `to_write` bytes on it, and then FIN. `qdisc` is in front of its
    /// device; without one the connection paces itself.
    pub fn new(
        flow: FlowParams,
        iss: u32,
        cfg: Config,
        to_write: u64,
        seed: u64,
        qdisc: Option<Box<dyn Qdisc<Frame>>>,
    ) -> Self {
        let port_paces = qdisc.as_ref().is_some_and(|q| q.paces());
        Self {
            conn: None,
            qdisc,
            flow: FlowParams { port_paces, ..flow },
            iss: SeqNum(iss),
            cfg,
            mib: MibCounters::default(),
            mem: MemAccount::default(),
            challenge: ChallengeLimit::default(),
            rng: SplitMix64::new(seed),
            to_write,
            written: 0,
            shut: false,
            received: Coverage::default(),
            consumed: 0,
            released: 0,
            peer_closed: false,
            finished: false,
            violation: None,
        }
    }

    /// Time as this host reads it.
    fn clock(&self, now: Instant) -> Instant {
        now.coarsen(self.cfg.clock_tick)
    }

    /// Sends a SYN.
    pub fn connect(&mut self, now: Instant) {
        let now = self.clock(now);
        self.conn = Some(Connection::connect(&self.cfg, self.flow, self.iss, now));
    }

    /// A frame came in.
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        let now = self.clock(now);
        if frame.corrupted {
            return;
        }
        let Some(conn) = &mut self.conn else {
            if frame.repr.flags.syn() && frame.repr.ack.is_none() {
                self.conn = Some(Connection::accept(&self.cfg, self.flow, self.iss, &frame.repr, now));
            }
            return;
        };
        let mut env = Env {
            mib: &mut self.mib,
            rng: &mut self.rng,
            cfg: &self.cfg,
            mem: &mut self.mem,
            challenge: &mut self.challenge,
        };
        let ingress = conn.handle_segment(now, &frame.repr, frame.payload_len(), frame.ecn, &mut env);
        if let Some(place) = ingress.place {
            let source = frame.payload.start + u64::from(place.at);
            if place.stream_offset != source {
                self.fail(format!("byte {source} of the stream was placed at {}", place.stream_offset));
            }
            if u64::from(place.at) + u64::from(place.len) > u64::from(frame.payload_len()) {
                self.fail(format!("{place:?} lies outside a payload of {} bytes", frame.payload_len()));
            }
            self.received.add(source, source + u64::from(place.len));
        }
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock(now);
        self.with(|conn, env| {
            if conn.next_deadline().is_some_and(|d| d <= now) {
                conn.handle_timeout(now, env);
            }
        });
    }

    /// The application does what it can: writes, reads, closes. Then what may leave is sent.
    pub fn poll(&mut self, now: Instant, mut send: impl FnMut(Frame)) {
        let now = self.clock(now);
        loop {
            let worked = self.run_application(now);
            let mut moved = false;
            while let Some(frame) = self.poll_connection(now) {
                moved = true;
                if let Some(frame) = self.enqueue(now, frame) {
                    send(frame);
                }
            }
            while let Some(frame) = self.dequeue(now) {
                moved = true;
                send(frame);
            }
            if !worked && !moved {
                return;
            }
        }
    }

    fn poll_connection(&mut self, now: Instant) -> Option<Frame> {
        let out = self.with(|conn, env| conn.poll_transmit(now, env))??;
        let payload = out.payload.unwrap_or(0..0);
        let gso_size = u32::from(out.gso_size);
        let frame =
            Frame { repr: out.repr, payload, gso_size, ecn: out.ecn, departure: out.departure, corrupted: false };
        if frame.payload_len() > 0 && (frame.payload.start < self.released || frame.payload.end > self.written) {
            self.fail(format!("sent {:?} of a buffer that holds {}..{}", frame.payload, self.released, self.written));
        }
        Some(frame)
    }

    /// Gives the frame back when there is no qdisc: it leaves at once.
    fn enqueue(&mut self, now: Instant, frame: Frame) -> Option<Frame> {
        let Some(qdisc) = &mut self.qdisc else {
            self.completed(&frame);
            return Some(frame);
        };
        let mut dropped = Vec::new();
        qdisc.enqueue(frame, now, &mut self.rng, &mut dropped);
        self.account_drops(&dropped);
        None
    }

    fn dequeue(&mut self, now: Instant) -> Option<Frame> {
        let mut dropped = Vec::new();
        let frame = self.qdisc.as_mut()?.dequeue(now, &mut self.rng, &mut dropped);
        self.account_drops(&dropped);
        if let Some(frame) = &frame {
            self.completed(frame);
        }
        frame
    }

    fn account_drops(&mut self, dropped: &[Dropped<Frame>]) {
        dropped.iter().for_each(|d| self.completed(&d.packet));
    }

    /// The device took it. It is infinitely fast: what waits, waits in the link's queue.
    fn completed(&mut self, frame: &Frame) {
        let payload = frame.payload_len();
        self.with(|conn, _| conn.handle_tx_complete(payload));
    }

    fn run_application(&mut self, now: Instant) -> bool {
        let mut worked = false;
        while let Some(event) = self.with(|conn, _| conn.poll_event()).flatten() {
            worked = true;
            match event {
                Event::Connected
                | Event::Readable
                | Event::Writable
                | Event::ErrorQueue(_)
                | Event::FastOpen
                | Event::Doubt
                | Event::Urgent => {}
                Event::PeerClosed => self.peer_closed = true,
                Event::Closed(_) => self.finished = true,
            }
        }
        let Some(conn) = &self.conn else { return worked };
        let (limit, released, head) = (conn.tx_limit(), conn.tx_released(), conn.rx_head());
        if released < self.released || released > self.written {
            self.fail(format!("tx_released went from {} to {released} of {} written", self.released, self.written));
        }
        if head < self.consumed || head > self.received.contiguous() {
            let there = self.received.contiguous();
            self.fail(format!("rx_head is {head}, consumed {}, placed without a gap {there}", self.consumed));
        }
        self.released = released;
        if head > self.consumed {
            worked = true;
            self.consumed = head;
            self.with(|conn, env| conn.handle_consumed(now, head, env));
        }
        let target = limit.min(self.to_write);
        if self.conn.as_ref().is_some_and(|c| c.state().can_send()) && target > self.written {
            worked = true;
            self.written = target;
            self.with(|conn, env| conn.handle_written(now, target, env));
        }
        if self.written == self.to_write && !self.shut && self.conn.as_ref().is_some_and(|c| c.state().can_send()) {
            worked = true;
            self.shut = true;
            self.with(|conn, env| conn.handle_shutdown_write(now, env));
        }
        worked
    }

    /// When to call `handle_timeout`: never before a coarse clock can read the deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        let connection = self.conn.as_ref().and_then(Connection::next_deadline);
        let qdisc = self.qdisc.as_ref().and_then(|q| q.next_deadline());
        let at = connection.into_iter().chain(qdisc).min()?;
        let tick = self.cfg.clock_tick;
        let read = at.coarsen(tick);
        Some(if read == at { at } else { read + tick })
    }

    fn with<T>(&mut self, f: impl FnOnce(&mut Connection, &mut Env<'_>) -> T) -> Option<T> {
        let conn = self.conn.as_mut()?;
        let mut env = Env {
            mib: &mut self.mib,
            rng: &mut self.rng,
            cfg: &self.cfg,
            mem: &mut self.mem,
            challenge: &mut self.challenge,
        };
        Some(f(conn, &mut env))
    }

    fn fail(&mut self, what: String) {
        self.violation.get_or_insert(Violation(what));
    }

    /// The first thing that must never be, if it was.
    pub const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
    /// The connection, once there is one.
    pub const fn connection(&self) -> Option<&Connection> {
        self.conn.as_ref()
    }
    /// Bytes read by the application.
    pub const fn consumed(&self) -> u64 {
        self.consumed
    }
    /// Bytes that the peer has acknowledged.
    pub const fn released(&self) -> u64 {
        self.released
    }
    /// The peer's FIN was read.
    pub const fn peer_closed(&self) -> bool {
        self.peer_closed
    }
    /// Sockets' end: closed, or waiting in TIME_WAIT.
    pub fn is_finished(&self) -> bool {
        self.finished || self.conn.as_ref().is_some_and(|c| matches!(c.state(), State::TimeWait | State::Closed))
    }
    /// Its sysctls.
    pub const fn config(&self) -> &Config {
        &self.cfg
    }
    /// Counters by Linux's names.
    pub const fn mib(&self) -> &MibCounters {
        &self.mib
    }
    /// The clock's tick.
    pub const fn clock_tick(&self) -> Duration {
        self.cfg.clock_tick
    }
}
