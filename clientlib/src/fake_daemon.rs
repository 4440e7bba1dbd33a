//! A daemon of one thread and one session whose network is a wire from socket to socket: stackd-shm's daemon half, for unit tests.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use stackd_shm::abi::{ABI_VERSION, Arg, Cqe, FLAG_NONBLOCK, Opcode, Sqe, ready};
use stackd_shm::attach::{self, Message};
use stackd_shm::fifo::{RecvBuffer, SendBuffer};
use stackd_shm::{DaemonRing, DaemonSession, DaemonSocket, Geometry};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

const WINDOW: u64 = 150_000;
const ADDRINUSE: i32 = 98;
const CONNREFUSED: i32 = 111;
const AGAIN: i32 = 11;
const CANCELED: i32 = 125;
const NOENT: i32 = 2;

pub struct FakeDaemon {
    pub path: PathBuf,
    /// Sockets open, after each turn of the loop.
    pub open: Arc<AtomicU32>,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl FakeDaemon {
    pub fn start(rings: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attach.sock");
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 8).unwrap();
        let (stop, stopped) = rustix::pipe::pipe().unwrap();
        let open = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&open);
        let thread = std::thread::spawn(move || serve(&listener, &stop, rings, &seen));
        Self { path, open, stop: stopped, thread: Some(thread), _dir: dir }
    }

    /// Dies as kill -9 does: all its descriptors close.
    pub fn kill(&mut self) {
        let _ = rustix::io::write(&self.stop, b"x");
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Waiting {
    ring: usize,
    user_data: u64,
    mask: u32,
}

struct Fake {
    shared: DaemonSocket,
    peer: Option<u32>,
    name: Option<SocketAddr>,
    peer_name: Option<SocketAddr>,
    queue: Option<VecDeque<u32>>,
    datagram: bool,
    finished: bool,
    /// By its client; goes when all it wrote is delivered.
    closed: bool,
    polls: Vec<Waiting>,
    options: BTreeMap<(u64, u64), Vec<u8>>,
}

struct World {
    session: DaemonSession,
    rings: Vec<DaemonRing>,
    socks: BTreeMap<u32, Fake>,
    next_port: u16,
}

fn serve(listener: &OwnedFd, stop: &OwnedFd, rings: u32, open: &AtomicU32) {
    let geometry = Geometry { rings, ring_entries: 8, sockets: 64, chunks: 256 };
    let mut conn: Option<(OwnedFd, World)> = None;
    loop {
        let mut idle = true;
        if let Some((_, world)) = &mut conn {
            idle = !world.turn();
            open.store(world.session.sockets(), Ordering::Release);
            if idle {
                world.session.prepare_sleep();
                idle = !world.turn();
            }
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let fds = [stop.as_fd(), conn.as_ref().map_or(listener.as_fd(), |(c, _)| c.as_fd())];
        let mut polled: Vec<_> = fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        if let Some((_, world)) = &conn {
            polled.push(PollFd::from_borrowed_fd(world.session.doorbell(), PollFlags::IN));
        }
        poll(&mut polled, (!idle).then_some(&zero)).unwrap();
        let hit: Vec<bool> = polled.iter().map(|p| !p.revents().is_empty()).collect();
        drop(polled);
        if hit[0] {
            return;
        }
        match &mut conn {
            None if hit[1] => conn = Some(welcome(rustix::net::accept(listener).unwrap(), geometry)),
            None => {}
            Some((socket, world)) => {
                world.session.awake(hit[2]);
                if hit[1] && !world.message(socket) {
                    conn = None;
                    open.store(0, Ordering::Release);
                }
            }
        }
    }
}

fn welcome(socket: OwnedFd, geometry: Geometry) -> (OwnedFd, World) {
    let Some((Message::Hello { rings: wanted, .. }, _)) = attach::recv(&socket).unwrap() else { panic!("no hello") };
    let session = DaemonSession::create(geometry, geometry.chunks, geometry.sockets).unwrap();
    let rings: Vec<DaemonRing> = (0..wanted).map_while(|_| session.open_ring().unwrap()).collect();
    let message = Message::Welcome { version: ABI_VERSION, geometry, rings: rings.len() as u32 };
    let mut fds = vec![session.region().memfd(), session.doorbell()];
    fds.extend(rings.iter().map(|ring| ring.eventfd().as_fd()));
    attach::send(&socket, &message, &fds).unwrap();
    (socket, World { session, rings, socks: BTreeMap::new(), next_port: 40000 })
}

impl World {
    /// False: the client hung up.
    fn message(&mut self, socket: &OwnedFd) -> bool {
        match attach::recv(socket).unwrap() {
            None => false,
            Some((Message::OpenRing, _)) => {
                match self.session.open_ring().unwrap() {
                    Some(ring) => {
                        let message = Message::RingOpened { index: ring.index() };
                        attach::send(socket, &message, &[ring.eventfd().as_fd()]).unwrap();
                        self.rings.push(ring);
                    }
                    None => attach::send(socket, &Message::Refused { errno: 24, text: "no more rings".into() }, &[])
                        .unwrap(),
                }
                true
            }
            Some(other) => panic!("{other:?}"),
        }
    }

    /// Whether anything happened.
    fn turn(&mut self) -> bool {
        let mut busy = false;
        let mut arg = Arg::new();
        for ring in 0..self.rings.len() {
            while let Some(call) = self.rings[ring].pop(&mut arg).unwrap() {
                busy = true;
                self.call(ring, call.opcode, &call.sqe, &arg);
            }
        }
        let ids: Vec<u32> = self.socks.keys().copied().collect();
        for id in ids {
            busy |= self.pump(id);
        }
        self.reap_closed();
        self.wake();
        for ring in &mut self.rings {
            ring.flush().unwrap();
        }
        busy
    }

    fn answer(&mut self, ring: usize, user_data: u64, result: i32, arg: &Arg) {
        self.rings[ring].complete(Cqe { user_data, result, ..Cqe::default() }, arg).unwrap();
    }

    fn open(&mut self, datagram: bool) -> Option<u32> {
        let mut shared = self.session.open_socket()?;
        shared.tx.grant(if datagram { WINDOW } else { 0 });
        let id = shared.sock;
        let options = BTreeMap::new();
        let fake = Fake {
            shared,
            peer: None,
            name: None,
            peer_name: None,
            queue: None,
            datagram,
            finished: false,
            closed: false,
            polls: vec![],
            options,
        };
        self.socks.insert(id, fake);
        Some(id)
    }

    fn port(&mut self, wanted: SocketAddr) -> SocketAddr {
        self.next_port += 1;
        SocketAddr::new(wanted.ip(), if wanted.port() == 0 { self.next_port } else { wanted.port() })
    }

    fn call(&mut self, ring: usize, opcode: Opcode, sqe: &Sqe, arg: &Arg) {
        if opcode == Opcode::Kick {
            if let Some(sock) = self.socks.get(&sqe.sock) {
                sock.shared.tx.take_kick();
            }
            return;
        }
        let mut out = Arg::new();
        let result = match opcode {
            Opcode::PollAdd => {
                let waiting = Waiting { ring, user_data: sqe.user_data, mask: sqe.args[0] as u32 };
                self.socks.get_mut(&sqe.sock).unwrap().polls.push(waiting);
                return;
            }
            Opcode::Cancel | Opcode::PollRemove => {
                let mut found = None;
                for sock in self.socks.values_mut() {
                    let at = sock.polls.iter().position(|w| w.ring == ring && w.user_data == sqe.args[0]);
                    found = found.or(at.map(|at| sock.polls.remove(at)));
                }
                match found {
                    None => -NOENT,
                    Some(w) => {
                        self.answer(w.ring, w.user_data, -CANCELED, &Arg::new());
                        0
                    }
                }
            }
            _ => self.simple(opcode, sqe, arg, &mut out),
        };
        if opcode == Opcode::Socket {
            self.rings[ring].made(u32::try_from(result).ok());
        }
        if sqe.user_data != 0 {
            self.answer(ring, sqe.user_data, result, &out);
        }
    }

    fn simple(&mut self, opcode: Opcode, sqe: &Sqe, arg: &Arg, out: &mut Arg) -> i32 {
        if opcode == Opcode::Socket {
            return self.open(sqe.args[1] == 2).map_or(-24, |id| id as i32);
        }
        if opcode == Opcode::Bind {
            let name = self.port(arg.addr().unwrap());
            if self.socks.values().any(|s| s.name == Some(name)) {
                return -ADDRINUSE;
            }
            self.socks.get_mut(&sqe.sock).unwrap().name = Some(name);
            return 0;
        }
        if opcode == Opcode::Connect {
            return self.connect(sqe.sock, arg.addr().unwrap());
        }
        let Some(sock) = self.socks.get_mut(&sqe.sock) else { return if opcode == Opcode::Nop { 0 } else { -9 } };
        match opcode {
            Opcode::Listen => sock.queue = Some(VecDeque::new()),
            Opcode::Accept => {
                assert_eq!(sqe.flags, FLAG_NONBLOCK);
                let queue = sock.queue.as_mut().unwrap();
                let id = queue.pop_front();
                let left = if queue.is_empty() { 0 } else { ready::IN };
                sock.shared.status.set_readiness(left);
                let Some(id) = id else { return -AGAIN };
                *out = Arg::from_addr(self.socks[&id].peer_name.unwrap());
                return id as i32;
            }
            Opcode::Shutdown => {
                sock.finished |= sqe.args[0] != 0;
                if sqe.args[0] != 1 {
                    sock.shared.status.set_readiness(ready::RDHUP | ready::IN);
                }
            }
            Opcode::Close => {
                sock.finished = true;
                sock.closed = true;
            }
            Opcode::SetSockOpt => drop(sock.options.insert((sqe.args[0], sqe.args[1]), arg.as_bytes().to_vec())),
            Opcode::GetSockOpt => {
                let value = sock.options.get(&(sqe.args[0], sqe.args[1])).cloned().unwrap_or(vec![0; 4]);
                *out = Arg::from_bytes(&value).unwrap();
            }
            Opcode::GetSockName => *out = Arg::from_addr(sock.name.unwrap()),
            Opcode::GetPeerName => match sock.peer_name {
                Some(name) => *out = Arg::from_addr(name),
                None => return -107,
            },
            _ => {}
        }
        0
    }

    fn connect(&mut self, id: u32, to: SocketAddr) -> i32 {
        let Some(listener) =
            self.socks.iter().find(|(_, s)| s.name == Some(to) && (s.queue.is_some() || s.datagram)).map(|(id, _)| *id)
        else {
            return -CONNREFUSED;
        };
        let name = self.port(SocketAddr::new(to.ip(), 0));
        if self.socks[&listener].datagram {
            self.socks.get_mut(&id).unwrap().peer_name = Some(to);
            return 0;
        }
        let child = self.open(false).unwrap();
        for (this, other, name, peer) in [(id, child, name, to), (child, id, to, name)] {
            let sock = self.socks.get_mut(&this).unwrap();
            sock.peer = Some(other);
            sock.name = Some(name);
            sock.peer_name = Some(peer);
            sock.shared.tx.grant(WINDOW);
        }
        let listener = self.socks.get_mut(&listener).unwrap();
        listener.queue.as_mut().unwrap().push_back(child);
        listener.shared.status.set_readiness(ready::IN);
        0
    }

    /// Carries what `id` wrote to its peer, as far as there is room.
    fn pump(&mut self, id: u32) -> bool {
        let Some(mut from) = self.socks.remove(&id) else { return false };
        let before = from.shared.tx.released();
        from.shared.rx.poll_tail().unwrap();
        from.shared.tx.poll_head().unwrap();
        if from.datagram {
            self.pump_datagrams(&mut from);
        } else if let Some(to) = from.peer.and_then(|p| self.socks.get_mut(&p)) {
            to.shared.rx.poll_tail().unwrap();
            let start = from.shared.tx.released();
            let room = WINDOW - (to.shared.rx.head() - to.shared.rx.tail());
            let end = from.shared.tx.head().min(start + room);
            let mut at = start;
            from.shared.tx.for_each(start..end, &mut |piece| {
                assert!(to.shared.rx.place(at, piece));
                at += piece.len() as u64;
            });
            to.shared.rx.publish(end);
            from.shared.tx.release(end);
            from.shared.tx.grant(end + WINDOW);
            let stuck = end < from.shared.tx.head();
            let wake = stuck.then(|| to.shared.rx.tail() + 1);
            to.shared.rx.set_wake(wake);
            if from.finished && !stuck {
                to.shared.status.set_readiness(ready::RDHUP | ready::IN);
            }
        }
        let moved = from.shared.tx.released() != before;
        self.socks.insert(id, from);
        moved
    }

    fn reap_closed(&mut self) {
        let done = |s: &Fake| s.closed && (s.peer.is_none() || s.shared.tx.released() == s.shared.tx.head());
        let gone: Vec<u32> = self.socks.iter().filter(|(_, s)| done(s)).map(|(id, _)| *id).collect();
        for id in gone {
            let Some(closed) = self.socks.remove(&id) else { continue };
            if let Some(peer) = closed.peer.and_then(|p| self.socks.get_mut(&p)) {
                peer.shared.status.set_readiness(ready::RDHUP | ready::IN);
                peer.peer = None;
            }
            drop(closed);
            self.session.close_socket(id);
        }
    }

    fn pump_datagrams(&mut self, from: &mut Fake) {
        while let Some(datagram) = from.shared.tx.datagram_at(from.shared.tx.released()).unwrap() {
            let mut data = Vec::new();
            assert!(from.shared.tx.copy_out(datagram.data.clone(), &mut data));
            let to = datagram.to.or(from.peer_name).unwrap();
            if let Some(peer) = self.socks.values_mut().find(|s| s.name == Some(to)) {
                peer.shared.rx.push_datagram(from.name.unwrap(), &[], data.as_slice().into(), WINDOW);
            }
            from.shared.tx.release(datagram.end);
            from.shared.tx.grant(datagram.end + WINDOW);
        }
    }

    fn wake(&mut self) {
        let mut answers = vec![];
        for sock in self.socks.values_mut() {
            let rx =
                sock.shared.rx.head() > sock.shared.rx.tail() || sock.queue.as_ref().is_some_and(|q| !q.is_empty());
            let tx = sock.shared.tx.limit() > sock.shared.tx.head();
            let bits = sock.shared.status.readiness() & !(ready::IN | ready::OUT)
                | if rx { ready::IN } else { 0 }
                | if tx { ready::OUT } else { 0 };
            sock.polls.retain(|w| {
                let hit = bits & (w.mask | ready::ERR | ready::HUP);
                if hit != 0 {
                    answers.push((w.ring, w.user_data, hit));
                }
                hit == 0
            });
        }
        for (ring, user_data, hit) in answers {
            self.answer(ring, user_data, hit as i32, &Arg::new());
        }
    }
}
