//! A shard: one thread that owns a stack, a queue of every device, and the sessions it serves.
//!
//! The loop: client rings (budget) -> device rx (budget) -> timers -> answers -> transmit -> wake-ups. When nothing was done: watch for
//! up to `spin_us`, then block once on everything (devices, doorbells, mailbox, deadline).

mod command;
pub mod device;
mod handover;
mod io;
mod mailbox;
pub mod record;
mod setup;
mod steer;
mod tap_in;
mod wait;

pub use command::link::{NewLink, link_exists};
pub use mailbox::{HandedFrame, Mailbox, Mailer, Message, Search, mailbox};
pub use setup::rehearse;
pub use steer::{Claim, ClaimKind, Claims, Steering};

use crate::clock::{Monotonic, wall_nanos};
use crate::config::{Args, Config};
use crate::dispatch::{self, Core};
use crate::session::NewSession;
use crate::session::attach::{SessionPlace, Sessions};
use crate::session::lease::{self, Look};
use crate::store::{SessionKey, SharedSession, Store, Transport};
use anyhow::Result;
use device::Port;
use rustix::event::epoll::EventFlags;
use stackd_base::{Clock, Duration, Instant, PortId};
use stackd_proto::{StatusError, v1};
use stackd_shm::Breach;
use stackd_shm::neighbours::{Neighbours, Next};
use std::collections::HashMap;
use std::sync::Arc;
use steer::Fragments;
use tap_in::Captures;
use wait::{Token, Waiter};

/// Entries of one ring served in a turn, so that one client cannot starve the devices.
const RING_BUDGET: usize = 64;
/// Frames taken from one device in a turn.
const RX_BUDGET: usize = 64;
/// Frames given to one device in a turn.
const TX_BUDGET: usize = 128;
/// A busy shard looks at its descriptors (leases, above all) every so many turns.
const TURNS_PER_POLL: u32 = 64;

/// Figures of the loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    turns: u64,
    busy_turns: u64,
    spin_ns: u64,
    rx_frames: u64,
    tx_frames: u64,
}

/// One worker and all it owns.
pub struct Shard {
    index: u8,
    clock: Monotonic,
    started: Instant,
    core: Core,
    ports: Vec<Port>,
    /// Keeps a session counted among the daemon's while it lives.
    places: HashMap<SessionKey, SessionPlace>,
    sessions: Arc<Sessions>,
    grpc_quota: crate::store::Quota,
    waiter: Waiter,
    mailbox: Mailbox,
    peers: Vec<Mailer>,
    steering: Arc<Steering>,
    fragments: Fragments,
    captures: Captures,
    watchers: command::Watchers,
    /// Handles of qdiscs that an operator set.
    handles: HashMap<PortId, u32>,
    /// Frames lost below interfaces that are no more.
    lost_with_links: device::Losses,
    figures: Figures,
    idle_since: Option<Instant>,
    /// Who else wants this processor.
    neighbours: Neighbours,
    /// Set while stopping: when to end at the latest.
    stop_at: Option<Instant>,
    finished: bool,
    rx_buffer: Box<[u8]>,
    ready: Vec<(Token, EventFlags)>,
}

impl Shard {
    /// Builds a shard from the configuration, around its queue of every device.
    #[allow(clippy::too_many_arguments, reason = "one caller, which has exactly these")]
    pub fn new(
        index: usize,
        config: &Config,
        args: &Args,
        ports: Vec<Port>,
        mailbox: Mailbox,
        peers: Vec<Mailer>,
        steering: &Arc<Steering>,
        sessions: Arc<Sessions>,
        seed: u64,
    ) -> Result<Self> {
        let clock = Monotonic;
        let now = clock.now();
        let stack = setup::stack(index, config, args, &ports, now, seed)?;
        let waiter = Waiter::new(mailbox.bell.clone(), Duration::from_micros(config.spin_us))?;
        for port in &ports {
            port.register(&waiter)?;
        }
        Ok(Self {
            index: index as u8,
            clock,
            started: now,
            core: Core { stack, store: Store::new(Arc::clone(steering), index as u8) },
            ports,
            places: HashMap::new(),
            sessions,
            grpc_quota: crate::store::Quota { sockets: config.quota.sockets, memory: config.quota.memory.0 },
            waiter,
            mailbox,
            peers,
            steering: Arc::clone(steering),
            fragments: Fragments::default(),
            captures: Captures::default(),
            watchers: command::Watchers::default(),
            handles: HashMap::new(),
            lost_with_links: device::Losses::default(),
            figures: Figures::default(),
            idle_since: None,
            neighbours: Neighbours::default(),
            stop_at: None,
            finished: false,
            rx_buffer: vec![0; device::FRAME_BUFFER].into_boxed_slice(),
            ready: Vec::with_capacity(64),
        })
    }

    /// Runs until stopped.
    pub fn run(mut self) {
        // Timers of a thread may be up to its slack late (PR_SET_TIMERSLACK, 50 us unless told otherwise): too much for pacing.
        if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZero::new(1)) {
            tracing::warn!(%error, "timers will be up to 50 us late");
        }
        while !self.finished {
            self.turn();
        }
    }

    /// One turn of the loop.
    fn turn(&mut self) {
        let mut now = self.clock.now();
        let mut busy = self.read_mail(now);
        if self.serve_clients(now) {
            // What clients ask for leaves before a look at the devices, which is a system call even where nothing came.
            busy = true;
            self.answer(now);
            // A kernel answers a frame while it is being written: what is read now came later than what was sent now.
            now = self.clock.now();
        }
        if self.core.stack.wants_realtime() {
            self.core.stack.set_realtime(now, wall_nanos());
        }
        busy |= self.receive(now);
        if self.core.stack.next_deadline().is_some_and(|d| d <= now) {
            self.core.stack.handle_timers(now, &mut self.core.store);
            busy = true;
        }
        busy |= self.answer(now);
        busy |= self.tell_clients(now);
        self.end_condemned(now);
        busy |= self.core.store.flush();
        self.report_closed(now);
        self.stop_when_done(now);
        self.figures.turns += 1;
        if busy {
            self.figures.busy_turns += 1;
            self.idle_since = None;
            if self.figures.turns.is_multiple_of(u64::from(TURNS_PER_POLL)) {
                self.look_around(now);
            }
        } else {
            self.idle(now);
        }
    }

    /// Clients that watch go on while the frames leave; those that sleep are woken by `flush`.
    fn answer(&mut self, now: Instant) -> bool {
        let told = self.tell_clients(now);
        self.transmit(now) || told
    }

    fn read_mail(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Ok(message) = self.mailbox.messages.try_recv() {
            any = true;
            match message {
                Message::Attached(session) => self.attached(now, *session),
                Message::Frame { port, frame } => {
                    self.mailbox.took_frame();
                    self.handed_frame(now, port, *frame);
                }
                Message::Stop(limit) => self.stop(now, limit),
            }
        }
        while let Ok(command) = self.mailbox.commands.try_recv() {
            any = true;
            self.execute(now, command);
        }
        any
    }

    fn attached(&mut self, now: Instant, new: NewSession) {
        let NewSession { id, process, memory, rings, lease, quota, place } = new;
        if self.stop_at.is_some() {
            return;
        }
        let shared = SharedSession { memory, rings, lease };
        let key = self.core.store.add_session(id, process, Transport::Shared(Box::new(shared)), quota, now);
        self.places.insert(key, place);
        let Some(shared) = self.core.store.shared(key) else { return };
        let token = key as u32;
        let edge = EventFlags::IN | EventFlags::ET;
        let added = self
            .waiter
            .add(shared.memory.doorbell(), Token::Doorbell(token), edge)
            .and_then(|()| self.waiter.add(&shared.lease, Token::Lease(token), EventFlags::IN | EventFlags::RDHUP));
        if let Err(error) = added {
            tracing::error!(%error, session = id, "a session cannot be waited for");
            self.end_session(now, key, None);
        }
    }

    fn serve_clients(&mut self, now: Instant) -> bool {
        let mut any = false;
        let mut at = 0;
        while let Some(key) = self.core.store.next_shared(&mut at) {
            let rings = self.core.store.shared(key).map_or(0, |s| s.rings.len());
            for ring in 0..rings as u32 {
                match dispatch::serve_ring(&mut self.core, now, key, ring, RING_BUDGET) {
                    Ok(served) => any |= served > 0,
                    Err(breach) => {
                        self.core.store.condemn(key, breach);
                        break;
                    }
                }
            }
        }
        any
    }

    /// Tells clients what became of their sockets.
    pub(super) fn tell_clients(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(event) = self.core.stack.poll_event() {
            any = true;
            dispatch::socket_event(&mut self.core, now, event);
        }
        any
    }

    fn end_condemned(&mut self, now: Instant) {
        for (key, breach) in self.core.store.take_condemned() {
            self.breach(now, key, &breach);
        }
    }

    fn breach(&mut self, now: Instant, key: SessionKey, breach: &Breach) {
        self.breach_text(now, key, breach.to_string());
    }

    fn breach_text(&mut self, now: Instant, key: SessionKey, reason: String) {
        let Some(session) = self.core.store.session(key).filter(|s| s.alive) else { return };
        let v1::Process { pid, uid, comm, .. } = &session.process;
        tracing::warn!(session = session.id, pid, uid, comm, reason, "a client broke the protocol; its session ends");
        self.core.store.record_breach(key, now, reason.clone());
        let why = StatusError::from_raw(stackd_base::Errno::EPROTO as i32, reason);
        self.end_session(now, key, Some(why));
    }

    fn end_session(&mut self, now: Instant, key: SessionKey, why: Option<StatusError>) {
        if let Some(shared) = self.core.store.shared(key) {
            self.waiter.remove(shared.memory.doorbell());
            self.waiter.remove(&shared.lease);
        }
        if let Some(session) = self.core.store.session(key) {
            tracing::debug!(session = session.id, sockets = session.sockets.len(), "session ended");
        }
        self.places.remove(&key);
        lease::end(&mut self.core, now, key, why);
    }

    /// Looks at descriptors without blocking.
    fn look_around(&mut self, now: Instant) {
        let mut ready = std::mem::take(&mut self.ready);
        if let Err(error) = self.waiter.poll(&mut ready) {
            tracing::error!(%error, "epoll");
        }
        self.handle_ready(now, &mut ready);
        self.ready = ready;
    }

    fn handle_ready(&mut self, now: Instant, ready: &mut Vec<(Token, EventFlags)>) {
        for (token, flags) in ready.drain(..) {
            match token {
                Token::Mailbox => {}
                Token::Device(port) => {
                    if let Some(port) = self.ports.iter_mut().find(|p| p.id.0 == port) {
                        port.ready(flags);
                    }
                }
                Token::Doorbell(key) => {
                    if let Some(session) = self.core.store.session_mut(key as usize) {
                        session.usage.doorbells += 1;
                    }
                }
                Token::Lease(key) => match lease::look(&mut self.core, key as usize) {
                    Look::Alive => {}
                    Look::Gone => self.end_session(now, key as usize, None),
                    Look::Breach(reason) => self.breach_text(now, key as usize, reason),
                },
            }
        }
    }

    /// Nothing to do: watch for a while, then block.
    fn idle(&mut self, now: Instant) {
        let since = *self.idle_since.get_or_insert_with(|| {
            self.neighbours.start();
            now
        });
        let deadline = self.next_deadline();
        let spins = now.saturating_since(since) < self.waiter.spin();
        let watch = if self.waiter.too_near(now, deadline) {
            // Blocking would miss it, and yielding might.
            self.neighbours.start();
            std::hint::spin_loop();
            true
        } else {
            spins && self.neighbours.look_again() == Next::Look
        };
        if watch {
            if self.figures.turns.is_multiple_of(u64::from(TURNS_PER_POLL)) {
                self.look_around(now);
            }
            let after = self.clock.now();
            self.figures.spin_ns += after.saturating_since(now).as_nanos();
            return;
        }
        self.waiter.falling_asleep();
        self.core.store.prepare_sleep();
        // The last look, after the announcement: whatever was published before it was seen is found here.
        if self.read_mail(now) || self.core.store.anything_submitted() {
            self.waiter.awake();
            self.core.store.awake();
            return;
        }
        for port in self.ports.iter().filter(|p| p.changes_descriptor()) {
            if let Err(error) = port.register(&self.waiter) {
                tracing::error!(%error, ?port, "a device cannot be waited for");
            }
        }
        let mut ready = std::mem::take(&mut self.ready);
        if let Err(error) = self.waiter.block(now, deadline, &mut ready) {
            tracing::error!(%error, "epoll");
        }
        self.core.store.awake();
        let now = self.clock.now();
        self.waiter.woke(now, ready.is_empty());
        self.handle_ready(now, &mut ready);
        self.ready = ready;
        self.idle_since = None;
    }

    fn next_deadline(&self) -> Option<Instant> {
        let devices = self.ports.iter().filter_map(Port::next_deadline).min();
        [self.core.stack.next_deadline(), devices, self.watchers.next_deadline(), self.stop_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Begins to stop: no new connections, FINs after what was written.
    fn stop(&mut self, now: Instant, limit: Duration) {
        self.stop_at = Some(now + limit);
        let why = || StatusError::from_raw(stackd_base::Errno::EPIPE as i32, "the daemon is stopping");
        let alive: Vec<SessionKey> = self.core.store.sessions().filter(|(_, s)| s.alive).map(|(k, _)| k).collect();
        for key in alive {
            self.end_session(now, key, Some(why()));
        }
    }

    /// Whether every connection's bytes and FIN are acknowledged. What the peers still have to say, nobody is left to read.
    fn all_said(&self, now: Instant) -> bool {
        use stackd_netstack::{DiagState, SocketKind};
        let done = [DiagState::FinWait2, DiagState::TimeWait, DiagState::Close, DiagState::Listen];
        self.core.stack.sockets(now).all(|s| s.kind == SocketKind::Dgram || done.contains(&s.state))
    }

    fn stop_when_done(&mut self, now: Instant) {
        let Some(limit) = self.stop_at else { return };
        // TIME_WAIT is this end's promise not to reuse the port; a daemon that ends cannot keep it and need not wait for it.
        let left = self.core.store.sessions().count();
        // Nobody will repeat the resets and datagrams that are still queued, nor those on an emulated path.
        let queued = self.core.stack.ip().ports().iter().any(|p| !p.qdisc().is_empty());
        if !queued && !self.ports.iter().any(Port::is_busy) && (left == 0 || self.all_said(now)) {
            self.finished = true;
        } else if now >= limit {
            tracing::warn!(sessions = left, "time is up; unfinished connections are cut");
            self.finished = true;
        }
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("index", &self.index).finish_non_exhaustive()
    }
}
