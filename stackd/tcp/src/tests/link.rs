//! Two connections over a link in virtual time, with seeded loss, reordering and duplication. The bytes are ranges: the stream is whole
//! when every offset was placed before it became readable.

use crate::{ChallengeLimit, Config, Connection, Env, Event, FlowParams, IpEcn, MemAccount, SegmentOut};
use stackd_base::{Bandwidth, Duration, Instant, MibCounters, Rng, SeqNum, SplitMix64};
use stackd_wire::TcpRepr;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One end.
pub struct End {
    pub conn: Connection,
    pub cfg: Config,
    pub mib: MibCounters,
    pub mem: MemAccount,
    pub challenge: ChallengeLimit,
    pub rng: SplitMix64,
    pub events: Vec<Event>,
    /// Placed ranges of the receive stream, merged.
    placed: Vec<(u64, u64)>,
    pub to_write: u64,
    pub written: u64,
    pub close_when_written: bool,
    closing: bool,
    pub reads: bool,
    link_free: Instant,
}

impl End {
    pub fn new(conn: Connection, cfg: Config, seed: u64) -> Self {
        Self {
            conn,
            cfg,
            mib: MibCounters::default(),
            mem: MemAccount::default(),
            challenge: ChallengeLimit::default(),
            rng: SplitMix64::new(seed),
            events: Vec::new(),
            placed: Vec::new(),
            to_write: 0,
            written: 0,
            close_when_written: true,
            closing: false,
            reads: true,
            link_free: Instant::ZERO,
        }
    }

    pub fn with<R>(&mut self, f: impl FnOnce(&mut Connection, &mut Env<'_>) -> R) -> R {
        let mut env = Env {
            mib: &mut self.mib,
            rng: &mut self.rng,
            cfg: &self.cfg,
            mem: &mut self.mem,
            challenge: &mut self.challenge,
        };
        f(&mut self.conn, &mut env)
    }

    fn place(&mut self, from: u64, to: u64) {
        let i = self.placed.partition_point(|r| r.1 < from);
        let mut j = i;
        let (mut lo, mut hi) = (from, to);
        while j < self.placed.len() && self.placed[j].0 <= to {
            lo = lo.min(self.placed[j].0);
            hi = hi.max(self.placed[j].1);
            j += 1;
        }
        self.placed.splice(i..j, [(lo, hi)]);
    }

    /// What the application does whenever it gets the chance.
    fn app(&mut self, now: Instant) {
        while let Some(e) = self.conn.poll_event() {
            self.events.push(e);
        }
        let head = self.conn.rx_head();
        let whole = self.placed.first().is_some_and(|r| r.0 == 0 && r.1 >= head);
        assert!(head == 0 || whole, "bytes became readable that never arrived: {head} {:?}", self.placed.first());
        if self.reads {
            self.with(|c, env| c.handle_consumed(now, head, env));
        }
        if self.conn.state().can_send() && self.written < self.to_write {
            let to = self.conn.tx_limit().min(self.to_write);
            if to > self.written {
                self.written = to;
                self.with(|c, env| c.handle_written(now, to, env));
            }
        }
        if self.close_when_written && !self.closing && self.written == self.to_write && self.conn.state().can_send() {
            self.closing = true;
            self.with(|c, env| c.handle_shutdown_write(now, env));
        }
    }
}

/// What the link does to each MSS packet.
#[derive(Clone, Copy)]
pub struct Impair {
    pub rate: Bandwidth,
    pub delay: Duration,
    /// Out of 2^32.
    pub loss: u32,
    pub reorder: u32,
    pub duplicate: u32,
    /// Payload of the largest packet that passes; larger ones vanish in silence.
    pub passes: u64,
}

impl Impair {
    pub fn clean(mbit: u64, delay_ms: u64) -> Self {
        Self {
            rate: Bandwidth::from_bits_per_sec(mbit * 1_000_000),
            delay: Duration::from_millis(delay_ms),
            loss: 0,
            reorder: 0,
            duplicate: 0,
            passes: u64::MAX,
        }
    }
}

pub const fn percent(p: u32) -> u32 {
    (p as u64 * (u32::MAX as u64) / 100) as u32
}

#[derive(Clone, Copy)]
struct Flight {
    repr: TcpRepr,
    payload: u32,
    ecn: IpEcn,
    to: usize,
}

pub struct Pair {
    pub now: Instant,
    pub ends: [End; 2],
    pub impair: Impair,
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    order: u64,
    rng: SplitMix64,
    pub packets: u64,
    /// Payload bytes of the largest packet.
    pub largest: u64,
    accept: FlowParams,
    /// Sees the server's connection as soon as there is one, with the SYN that made it.
    pub on_accept: Option<fn(&mut End, &FlowParams, &TcpRepr, Instant)>,
}

impl Pair {
    pub fn new(client: Config, server: Config, impair: Impair, seed: u64) -> Self {
        Self::over(client, server, FlowParams::new(1000, 80), impair, seed)
    }

    /// Over a path of one's own choice; `flow` is the client's.
    pub fn over(client: Config, server: Config, flow: FlowParams, impair: Impair, seed: u64) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let conn = Connection::connect(&client, flow, SeqNum(u32::MAX - 5000), now);
        let accept = FlowParams { src_port: flow.dst_port, dst_port: flow.src_port, ..flow };
        // Stands in until the SYN arrives.
        let idle = Connection::connect(&server, accept, SeqNum(77), now);
        Self {
            now,
            ends: [End::new(conn, client, seed ^ 1), End::new(idle, server, seed ^ 2)],
            impair,
            accept,
            largest: 0,
            flights: Vec::new(),
            free: Vec::new(),
            queue: BinaryHeap::new(),
            order: 0,
            rng: SplitMix64::new(seed),
            packets: 0,
            on_accept: None,
        }
    }

    fn emit(&mut self, from: usize, out: SegmentOut) {
        let bytes = out.payload.as_ref().map_or(0, |r| r.end - r.start);
        let mss = if out.gso_size == 0 { bytes.max(1) } else { u64::from(out.gso_size) };
        let mut at = 0;
        loop {
            let len = mss.min(bytes - at);
            let last = at + len >= bytes;
            let agreed = u64::from(self.ends[from].conn.largest_segment(&Config::default()));
            assert!(len <= agreed, "a packet of {len} bytes where the MSS is {agreed}: {out:?}");
            self.largest = self.largest.max(len);
            let mut repr = out.repr;
            repr.seq += at as u32;
            if !last {
                repr.flags = repr.flags.without(stackd_wire::TcpFlags::FIN | stackd_wire::TcpFlags::PSH);
            }
            let leave = out.departure.unwrap_or(self.now).max(self.now).max(self.ends[from].link_free);
            let wire = repr.header_len() as u64 + len + 38;
            let done = leave + self.impair.rate.transmission_time(wire).unwrap_or(Duration::ZERO);
            self.ends[from].link_free = done;
            self.packets += 1;
            let flight = Flight { repr, payload: len as u32, ecn: out.ecn, to: 1 - from };
            if !self.rng.chance(self.impair.loss) && len <= self.impair.passes {
                let late = if self.rng.chance(self.impair.reorder) { self.impair.delay / 4 } else { Duration::ZERO };
                self.fly(flight, done + self.impair.delay + late);
                if self.rng.chance(self.impair.duplicate) {
                    self.fly(flight, done + self.impair.delay + late + Duration::from_micros(10));
                }
            }
            at += len;
            if last {
                break;
            }
        }
        self.ends[from].conn.handle_tx_complete(bytes as u32);
    }

    fn fly(&mut self, f: Flight, at: Instant) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            self.flights.len() - 1
        });
        self.flights[slot] = Some(f);
        self.order += 1;
        self.queue.push(Reverse((at, self.order, slot)));
    }

    fn settle(&mut self, i: usize) {
        let now = self.now;
        self.ends[i].app(now);
        while let Some(out) = self.ends[i].with(|c, env| c.poll_transmit(now, env)) {
            self.emit(i, out);
        }
        self.ends[i].app(now);
        // The check walks everything in flight: not at every event of a long fat pipe.
        if self.order.is_multiple_of(64) || self.ends[i].conn.board.packets_out() < 64 {
            self.ends[i].conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
        }
    }

    /// Runs until nothing is left to happen, `until` says so, or `limit` of virtual time has passed. True if it was `until`.
    pub fn run(&mut self, limit: Duration, mut until: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        self.settle(0);
        loop {
            if until(self) {
                return true;
            }
            let timers =
                [0, 1].map(|i| if i == 1 && !self.server_is_up() { None } else { self.ends[i].conn.next_deadline() });
            let arrival = self.queue.peek().map(|r| r.0.0);
            let Some(next) = [timers[0], timers[1], arrival].into_iter().flatten().min() else { return until(self) };
            if next > end {
                self.now = end;
                return until(self);
            }
            self.now = self.now.max(next);
            let now = self.now;
            if arrival == Some(next) {
                let Some(Reverse((_, _, slot))) = self.queue.pop() else { continue };
                let Some(f) = self.flights[slot].take() else { continue };
                self.free.push(slot);
                self.deliver(now, f);
                self.settle(f.to);
                continue;
            }
            for (i, timer) in timers.into_iter().enumerate().filter(|t| t.1 == Some(next)) {
                self.ends[i].with(|c, env| c.handle_timeout(now, env));
                self.settle(i);
                let stuck = self.ends[i].conn.next_deadline() == timer && timer <= Some(now);
                assert!(!stuck, "a deadline that never passes: {:?}", self.ends[i].conn);
            }
        }
    }

    fn server_is_up(&self) -> bool {
        self.ends[1].conn.state() != crate::State::SynSent
    }

    fn deliver(&mut self, now: Instant, f: Flight) {
        if f.to == 1 && !self.server_is_up() {
            if f.repr.flags.syn() {
                let cfg = self.ends[1].cfg.clone();
                self.ends[1].conn = Connection::accept(&cfg, self.accept, SeqNum(77), &f.repr, now);
                if let Some(look) = self.on_accept {
                    look(&mut self.ends[1], &self.accept, &f.repr, now);
                }
            }
            return;
        }
        let r = self.ends[f.to].with(|c, env| c.handle_segment(now, &f.repr, f.payload, f.ecn, env));
        if let Some(p) = r.place {
            assert!(p.at + p.len <= f.payload);
            self.ends[f.to].place(p.stream_offset, p.stream_offset + u64::from(p.len));
        }
    }
}
