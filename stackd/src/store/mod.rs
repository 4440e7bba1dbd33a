//! Where the bytes of sockets live, and whose they are: shared memory of a session, or the heap for clients that share none.
//!
//! A socket has a number within its session. For shared-memory clients the number is also that of its control block, so a
//! number is given out again only when the client closed it *and* the stack let go of its FIFO.

mod bytes;
mod session;

pub use session::{Quota, Session, SessionKey, SharedSession, Socket, Transport, Usage};

use crate::dispatch::Wait;
use crate::shard::{Claim, ClaimKind, Claims, Steering};
pub use bytes::{HeapDatagram, Moved, Pieces};

use bytes::Fifo;
use slab::Slab;
use smallvec::SmallVec;
use stackd_base::{Errno, Instant, SockId};
use stackd_netstack::{OwnerId, Readiness, SocketKind};
use stackd_proto::v1;
use stackd_shm::{Breach, DaemonRing, DaemonSocket};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Waiting calls per socket: one a client thread is plenty, and a client must not make us hold more.
const MAX_WAITS: usize = 1024;
/// Sessions ended for a breach that `netctl clients` still shows.
const BREACHES_KEPT: usize = 64;

/// Which session and number a socket of the stack has.
#[derive(Clone, Copy, Debug)]
struct Place {
    generation: u32,
    session: SessionKey,
    number: u32,
}

/// A session that broke the rules.
#[derive(Clone, Debug)]
pub struct BreachRecord {
    /// Its id.
    pub session_id: u64,
    /// Who it was.
    pub process: v1::Process,
    /// When.
    pub at: Instant,
    /// What it did.
    pub reason: String,
}

/// All bytes and sessions of one shard.
#[derive(Debug, Default)]
pub struct Store {
    sessions: Slab<Session>,
    by_id: HashMap<u64, SessionKey>,
    fifos: Slab<Fifo>,
    places: Vec<Option<Place>>,
    /// Sessions ended for a breach, oldest first.
    pub breaches: VecDeque<BreachRecord>,
    /// Sessions that broke the rules and are still to be ended.
    condemned: Vec<(SessionKey, Breach)>,
    /// Rings with answers that were not flushed yet.
    touched: Vec<(SessionKey, u32)>,
    /// Which local ports are this shard's, when there are several shards.
    claims: Option<Claims>,
}

// Sessions.
impl Store {
    /// The store of shard `index`.
    pub fn new(steering: Arc<Steering>, index: u8) -> Self {
        Self { claims: steering.is_needed().then(|| Claims::new(steering, index)), ..Self::default() }
    }

    /// Takes a client in.
    pub fn add_session(
        &mut self,
        id: u64,
        process: v1::Process,
        transport: Transport,
        quota: Quota,
        now: Instant,
    ) -> SessionKey {
        let session = Session {
            id,
            process,
            transport,
            sockets: session::Numbers::default(),
            fifos: 0,
            quota,
            usage: Usage::default(),
            since: now,
            alive: true,
        };
        let key = self.sessions.insert(session);
        self.by_id.insert(id, key);
        key
    }

    /// The session of an id, while its client lives.
    pub fn session_of(&self, id: u64) -> Option<SessionKey> {
        self.by_id.get(&id).copied()
    }

    /// The session at `key`.
    pub fn session(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(key)
    }

    /// The session at `key`, to be changed.
    pub fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(key)
    }

    /// Everything held, orphans' sessions included.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionKey, &Session)> {
        self.sessions.iter()
    }

    /// The shared memory of a session, if it has any.
    pub fn shared(&mut self, key: SessionKey) -> Option<&mut SharedSession> {
        match &mut self.sessions.get_mut(key)?.transport {
            Transport::Shared(shared) => Some(shared),
            Transport::Grpc(_) => None,
        }
    }

    /// The client is gone. Its sockets, to be closed; what waits is dropped, for nobody listens.
    pub fn end_session(&mut self, key: SessionKey) -> Vec<(u32, SockId)> {
        let Some(session) = self.sessions.get_mut(key) else { return Vec::new() };
        session.alive = false;
        self.by_id.remove(&session.id);
        let mut socks = Vec::with_capacity(session.sockets.len());
        for (number, socket) in session.sockets.iter_mut() {
            socket.waits.clear();
            if socket.known {
                socks.push((number, socket.sock));
            }
        }
        socks
    }

    /// The numbers of a session's sockets.
    pub fn socket_numbers(&self, key: SessionKey) -> Vec<u32> {
        self.sessions.get(key).map_or_else(Vec::new, |s| s.sockets.iter().map(|(number, _)| number).collect())
    }

    /// Forgets a session that ended when nothing of it is left. True if it was forgotten.
    pub fn reap_session(&mut self, key: SessionKey) -> bool {
        let gone = self.sessions.get(key).is_some_and(|s| !s.alive && s.fifos == 0 && s.sockets.is_empty());
        if gone {
            self.sessions.remove(key);
        }
        gone
    }

    /// The next session with shared memory from `at` on, which moves past it.
    pub fn next_shared(&mut self, at: &mut SessionKey) -> Option<SessionKey> {
        while *at < self.sessions.capacity() {
            let key = *at;
            *at += 1;
            if let Some(Session { alive: true, transport: Transport::Shared(_), .. }) = self.sessions.get(key) {
                return Some(key);
            }
        }
        None
    }

    fn each_shared(&mut self) -> impl Iterator<Item = (SessionKey, &mut SharedSession)> {
        self.sessions.iter_mut().filter_map(|(key, s)| match &mut s.transport {
            Transport::Shared(shared) if s.alive => Some((key, &mut **shared)),
            _ => None,
        })
    }

    /// Tells every client that the shard is about to sleep.
    pub fn prepare_sleep(&mut self) {
        for (_, shared) in self.each_shared() {
            shared.memory.prepare_sleep();
        }
    }

    /// Tells every client that the shard is awake.
    pub fn awake(&mut self) {
        for (_, shared) in self.each_shared() {
            // The doorbells are waited for by edge: nobody has to empty them.
            shared.memory.awake(false);
        }
    }

    /// Whether some ring has an entry. A ring whose indices make no sense has one: serving it finds the breach.
    pub fn anything_submitted(&mut self) -> bool {
        self.each_shared().any(|(_, shared)| shared.rings.iter_mut().any(|r| !matches!(r.is_empty(), Ok(true))))
    }

    /// Remembers a breach for `netctl clients`.
    pub fn record_breach(&mut self, key: SessionKey, at: Instant, reason: String) {
        let Some(session) = self.sessions.get(key) else { return };
        if self.breaches.len() == BREACHES_KEPT {
            self.breaches.pop_front();
        }
        self.breaches.push_back(BreachRecord { session_id: session.id, process: session.process.clone(), at, reason });
    }

    /// A session broke the rules: it is ended at the end of this turn.
    pub fn condemn(&mut self, key: SessionKey, breach: Breach) {
        if !self.condemned.iter().any(|(k, _)| *k == key) {
            self.condemned.push((key, breach));
        }
    }

    /// The sessions to be ended.
    pub fn take_condemned(&mut self) -> Vec<(SessionKey, Breach)> {
        std::mem::take(&mut self.condemned)
    }

    /// One ring of a session.
    pub fn ring(&mut self, key: SessionKey, ring: u32) -> Option<&mut DaemonRing> {
        self.shared(key)?.rings.iter_mut().find(|r| r.index() == ring)
    }

    /// A ring has answers to flush.
    pub fn touch(&mut self, key: SessionKey, ring: u32) {
        if self.touched.last() != Some(&(key, ring)) {
            self.touched.push((key, ring));
        }
    }

    /// Hands the answers of this turn over, and wakes the clients that sleep. True if some ring is full and must be flushed again.
    pub fn flush(&mut self) -> bool {
        let mut touched = std::mem::take(&mut self.touched);
        let mut backlogged = false;
        touched.retain(|&(key, ring)| match self.ring(key, ring).map(|r| (r.flush(), r.backlogged())) {
            Some((Ok(()), again)) => {
                backlogged |= again;
                again
            }
            Some((Err(breach), _)) => {
                self.condemn(key, breach);
                false
            }
            None => false,
        });
        self.touched.append(&mut touched);
        backlogged
    }

    /// Publishes an error where the client of a socket sees it.
    pub fn set_error(&mut self, sock: SockId, errno: Errno) {
        if let Some((key, number)) = self.locate(sock)
            && let Some(socket) = self.socket_mut(key, number)
            && let Some(status) = &socket.status
        {
            status.set_error(errno as i32);
        }
    }

    /// Counts a call.
    pub fn count_call(&mut self, key: SessionKey) {
        if let Some(s) = self.sessions.get_mut(key) {
            s.usage.calls += 1;
        }
    }

    /// Counts bytes the client wrote.
    pub fn count_sent(&mut self, key: SessionKey, bytes: u64) {
        if let Some(s) = self.sessions.get_mut(key) {
            s.usage.bytes_sent += bytes;
        }
    }

    /// Counts bytes the client read.
    pub fn count_received(&mut self, key: SessionKey, bytes: u64) {
        if let Some(s) = self.sessions.get_mut(key) {
            s.usage.bytes_received += bytes;
        }
    }
}

// Sockets of a session.
impl Store {
    /// May the session open one more socket? The owner to account it to.
    pub fn admit(&mut self, key: SessionKey) -> Result<OwnerId, Errno> {
        let session = self.sessions.get_mut(key).ok_or(Errno::EBADF)?;
        if session.sockets.len() >= session.quota.sockets as usize {
            session.usage.refusals += 1;
            return Err(Errno::EMFILE);
        }
        Ok(session.owner())
    }

    /// Gives a socket to the client: its number.
    pub fn adopt(&mut self, key: SessionKey, sock: SockId, kind: SocketKind) -> Result<u32, Errno> {
        let number = match self.locate(sock) {
            Some((session, number)) if session == key => number,
            Some(_) => return Err(Errno::EBADF),
            None => self.place(key, sock, kind)?,
        };
        let session = self.sessions.get_mut(key).ok_or(Errno::EBADF)?;
        let socket = session.sockets.get_mut(number).ok_or(Errno::EBADF)?;
        socket.known = true;
        Ok(number)
    }

    /// Finds a number for a socket.
    fn place(&mut self, key: SessionKey, sock: SockId, kind: SocketKind) -> Result<u32, Errno> {
        let session = self.sessions.get_mut(key).ok_or(Errno::EBADF)?;
        if session.sockets.len() >= session.quota.sockets as usize {
            session.usage.refusals += 1;
            return Err(Errno::EMFILE);
        }
        let mut socket = Socket {
            spare: None,
            status: None,
            number_generation: 0,
            sock,
            kind,
            fifo: None,
            known: false,
            waits: SmallVec::new(),
            claimed: None,
        };
        let number = match &session.transport {
            Transport::Grpc(_) => session.sockets.choose(),
            Transport::Shared(shared) => {
                let Some(DaemonSocket { sock: number, generation, tx, rx, status }) = shared.memory.open_socket()
                else {
                    session.usage.refusals += 1;
                    return Err(Errno::EMFILE);
                };
                socket.spare = Some(Box::new((tx, rx)));
                socket.status = Some(status);
                socket.number_generation = generation;
                number
            }
        };
        if !session.sockets.insert(number, socket) {
            return Err(Errno::EBUSY);
        }
        let slot = sock.slot as usize;
        if self.places.len() <= slot {
            self.places.resize(slot + 1, None);
        }
        self.places[slot] = Some(Place { generation: sock.generation, session: key, number });
        Ok(number)
    }

    /// Tells sockets apart that had the same number.
    pub fn number_generation(&self, key: SessionKey, number: u32) -> u32 {
        self.socket(key, number).map_or(0, |s| s.number_generation)
    }

    /// Session and number of a socket.
    pub fn locate(&self, sock: SockId) -> Option<(SessionKey, u32)> {
        let place = (*self.places.get(sock.slot as usize)?)?;
        (place.generation == sock.generation).then_some((place.session, place.number))
    }

    /// Steers a local port's frames to this shard as long as the socket lives. False: a socket of another shard has the port.
    pub fn claim(&mut self, key: SessionKey, number: u32, port: u16, kind: ClaimKind) -> bool {
        let Self { claims: Some(claims), sessions, .. } = self else { return true };
        let Some(socket) = sessions.get_mut(key).and_then(|s| s.sockets.get_mut(number)) else { return true };
        if socket.claimed.is_some() {
            return true;
        }
        let claim = Claim { tcp: socket.kind == SocketKind::Stream, port, kind };
        let claimed = claims.claim(claim);
        if claimed {
            socket.claimed = Some(claim);
        }
        claimed
    }

    /// Takes a claim back: the call it was made for failed.
    pub fn unclaim(&mut self, key: SessionKey, number: u32) {
        let claim = self.socket_mut(key, number).and_then(|s| s.claimed.take());
        if let (Some(claims), Some(claim)) = (&mut self.claims, claim) {
            claims.release(claim);
        }
    }

    /// Whether the socket's port is steered here on its account.
    pub fn has_claim(&self, key: SessionKey, number: u32) -> bool {
        self.claims.is_none() || self.socket(key, number).is_some_and(|s| s.claimed.is_some())
    }

    fn socket(&self, key: SessionKey, number: u32) -> Option<&Socket> {
        self.sessions.get(key)?.sockets.get(number).filter(|s| s.known)
    }

    fn socket_mut(&mut self, key: SessionKey, number: u32) -> Option<&mut Socket> {
        self.sessions.get_mut(key)?.sockets.get_mut(number)
    }

    /// The socket that the client calls `number`.
    pub fn sock(&self, key: SessionKey, number: u32) -> Result<SockId, Errno> {
        self.socket(key, number).map(|s| s.sock).ok_or(Errno::EBADF)
    }

    /// What kind it is.
    pub fn kind(&self, key: SessionKey, number: u32) -> Result<SocketKind, Errno> {
        self.socket(key, number).map(|s| s.kind).ok_or(Errno::EBADF)
    }

    /// The client closed it: the number means nothing to it any more.
    pub fn abandon(&mut self, key: SessionKey, number: u32) {
        if let Some(socket) = self.socket_mut(key, number) {
            socket.known = false;
        }
    }

    /// Frees the number if neither the client nor the stack holds it.
    pub fn reap(&mut self, key: SessionKey, number: u32) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(socket) = session.sockets.get(number) else { return };
        if socket.known || socket.fifo.is_some() {
            return;
        }
        let sock = socket.sock;
        if let (Some(claims), Some(claim)) = (&mut self.claims, socket.claimed) {
            claims.release(claim);
        }
        let shared = matches!(session.transport, Transport::Shared(_));
        // The socket holds halves of FIFOs, which must be gone before the number is free.
        drop(session.sockets.remove(number, !shared));
        if let Transport::Shared(shared) = &session.transport {
            shared.memory.close_socket(number);
        }
        if let Some(place) = self.places.get_mut(sock.slot as usize)
            && place.is_some_and(|p| p.generation == sock.generation)
        {
            *place = None;
        }
    }

    /// Whether calls wait for the socket.
    pub fn has_waits(&self, key: SessionKey, number: u32) -> bool {
        self.socket(key, number).is_some_and(|s| !s.waits.is_empty())
    }

    /// The calls that wait for it; none do afterwards.
    pub fn take_waits(&mut self, key: SessionKey, number: u32) -> SmallVec<[Wait; 1]> {
        self.socket_mut(key, number).map(|s| std::mem::take(&mut s.waits)).unwrap_or_default()
    }

    /// Lets a call wait; gives it back if it may not.
    pub fn add_wait(&mut self, key: SessionKey, number: u32, wait: Wait) -> Result<(), (Wait, Errno)> {
        match self.socket_mut(key, number) {
            Some(socket) if socket.waits.len() < MAX_WAITS => {
                socket.waits.push(wait);
                Ok(())
            }
            Some(_) => Err((wait, Errno::ENOBUFS)),
            None => Err((wait, Errno::EBADF)),
        }
    }

    /// Takes back the first waiting call that `pick` names, on any socket of the session.
    pub fn take_wait(&mut self, key: SessionKey, pick: impl Fn(&Wait) -> bool) -> Option<Wait> {
        let session = self.sessions.get_mut(key)?;
        session.sockets.iter_mut().find_map(|(_, s)| {
            let at = s.waits.iter().position(&pick)?;
            Some(s.waits.remove(at))
        })
    }

    /// Puts a socket's state where its client sees it.
    pub fn set_readiness(&mut self, sock: SockId, ready: Readiness) {
        if let Some((key, number)) = self.locate(sock)
            && let Some(socket) = self.socket_mut(key, number)
            && let Some(status) = &mut socket.status
        {
            status.set_readiness(ready.0);
        }
    }
}
