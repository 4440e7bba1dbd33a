//! A client that breaks every rule, against the daemon's half: each breach has its name, and nothing panics or reads outside the mapping.

use crate::abi::{Arg, Cqe, Opcode, Sqe};
use crate::fifo::{RawSlice, RecvBuffer, SendBuffer, TxWriter};
use crate::region::{Control, MappedRing, Region};
use crate::ring::{Consumer, Producer, RingMem};
use crate::{Breach, DaemonRing, DaemonSession, DaemonSocket, Geometry};
use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

const GEOMETRY: Geometry = Geometry { rings: 1, ring_entries: 8, sockets: 4, chunks: 16 };

struct Mock {
    session: DaemonSession,
    ring: DaemonRing,
    /// The client's own mapping of the same file.
    peer: Arc<Region>,
}

impl Mock {
    fn new() -> Self {
        let session = DaemonSession::create(GEOMETRY, 16, 4).unwrap();
        let ring = session.open_ring().unwrap().unwrap();
        let peer = Region::open(session.region().memfd().try_clone_to_owned().unwrap(), GEOMETRY).unwrap();
        Self { session, ring, peer }
    }

    /// Writes raw words as entry `at` and sets the tail.
    fn entry(&self, at: usize, words: [u64; 8], tail: u32) {
        let sq = self.peer.ring_pair(0).unwrap().submission();
        for (cell, word) in sq.slots()[at].iter().zip(words) {
            cell.store(word, Relaxed);
        }
        sq.tail().store(tail, Relaxed);
    }

    fn pop(&mut self) -> Result<Option<crate::Call>, Breach> {
        self.ring.pop(&mut Arg::new())
    }

    fn socket(&self) -> (DaemonSocket, &Control) {
        let socket = self.session.open_socket().unwrap();
        let control = self.peer.control(socket.sock).unwrap();
        (socket, control)
    }
}

#[test]
fn submission_indices_beyond_the_ring_or_backwards_end_the_session() {
    let mut mock = Mock::new();
    mock.entry(0, [0; 8], 9);
    assert_eq!(mock.pop(), Err(Breach::RingIndex { index: 9, cursor: 0, capacity: 8 }));
    mock.entry(0, [0; 8], 1);
    assert_eq!(mock.pop().unwrap().unwrap().opcode, Opcode::Nop);
    mock.entry(0, [0; 8], 0);
    assert!(matches!(mock.pop(), Err(Breach::RingIndex { index: 0, cursor: 1, .. })), "backwards");
    // The daemon's own index is private: rewriting the shared copy changes nothing.
    mock.entry(1, [u64::from(Opcode::Listen as u16), 5, 0, 0, 0, 0, 0, 0], 2);
    mock.peer.ring_pair(0).unwrap().submission().head().store(77, Relaxed);
    assert_eq!(mock.pop().unwrap().unwrap().sqe.user_data, 5);
}

#[test]
fn entries_are_validated_after_the_copy() {
    let mut mock = Mock::new();
    mock.entry(0, [0xffff, 0, 0, 0, 0, 0, 0, 0], 1);
    assert_eq!(mock.pop(), Err(Breach::Opcode(0xffff)));
    mock.entry(1, [u64::from(Opcode::Bind as u16) | 4 << 32, 0, 0, 0, 0, 0, 0, 0], 2);
    assert_eq!(mock.pop(), Err(Breach::SockRange { sock: 4, limit: 4 }));
    mock.entry(2, [0, 0, 0, 0, 0, 0, 0, 513], 3);
    assert_eq!(mock.pop(), Err(Breach::ArgLength(513)));
}

#[test]
fn a_client_that_takes_no_completions_is_cut_off_not_waited_for() {
    let mut mock = Mock::new();
    let breach = (0..100).find_map(|_| mock.ring.complete(Cqe::default(), &Arg::new()).err());
    assert_eq!(breach, Some(Breach::Completions(48)), "4 sockets and 8 entries, 4 times");
    let mut mock = Mock::new();
    for _ in 0..9 {
        mock.ring.complete(Cqe::default(), &Arg::new()).unwrap();
    }
    mock.peer.ring_pair(0).unwrap().completion().head().store(1000, Relaxed);
    assert!(matches!(mock.ring.flush(), Err(Breach::RingIndex { index: 1000, .. })));
}

/// Was: more than 4 rings' worth of answers in one turn ended the session, and with 10,000 sockets waited for on one ring, it was an
/// honest one.
#[test]
fn answers_to_all_waits_of_all_sockets_may_come_in_one_turn() {
    let geometry = Geometry { sockets: 1000, ..GEOMETRY };
    let session = DaemonSession::create(geometry, 16, 1000).unwrap();
    let mut ring = session.open_ring().unwrap().unwrap();
    let (sq, mut cq) = client_rings(&session);
    let mut sq = sq;
    for id in 1..=2000 {
        assert!(sq.push(Sqe { opcode: Opcode::PollAdd as u16, user_data: id, ..Sqe::default() }, &Arg::new()).unwrap());
        assert!(ring.pop(&mut Arg::new()).unwrap().is_some());
        ring.flush().unwrap();
    }
    for user_data in 1..=2000 {
        ring.complete(Cqe { user_data, ..Cqe::default() }, &Arg::new()).unwrap();
    }
    for want in 1..=2000 {
        ring.flush().unwrap();
        assert_eq!(cq.pop::<Cqe>(&mut Arg::new()).unwrap().unwrap().user_data, want);
    }
    assert!(!ring.backlogged());
}

#[test]
fn calls_that_wait_for_ever_are_bounded() {
    let mut mock = Mock::new();
    let (mut sq, _cq) = client_rings(&mock.session);
    let ask = Sqe { opcode: Opcode::Accept as u16, user_data: 1, ..Sqe::default() };
    let breach = (0..100).find_map(|_| {
        assert!(sq.push(ask, &Arg::new()).unwrap());
        mock.pop().unwrap();
        mock.ring.flush().err()
    });
    assert_eq!(breach, Some(Breach::Completions(49)));
}

fn client_rings(session: &DaemonSession) -> (Producer<MappedRing>, Consumer<MappedRing>) {
    let pair = session.region().ring_pair(0).unwrap();
    (Producer::new(pair.submission()), Consumer::new(pair.completion()))
}

/// Runs `act` in a thread; panics if it blocks. The channel is the event, the time limit only turns a hang into a failure.
fn must_return<T: Send + 'static>(what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(act()));
    finished.recv_timeout(std::time::Duration::from_secs(10)).unwrap_or_else(|_| panic!("{what} blocks the daemon"))
}

fn set_blocking(fd: impl rustix::fd::AsFd) {
    let flags = rustix::fs::fcntl_getfl(&fd).unwrap();
    rustix::fs::fcntl_setfl(&fd, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
}

/// Was: O_NONBLOCK lives in the open file description, which an eventfd's holders share. A client that cleared it and filled the
/// counter stopped the daemon's thread in its next write, with every other client on it.
#[test]
fn a_client_cannot_make_the_completion_bell_block() {
    let mut mock = Mock::new();
    let theirs = mock.ring.eventfd().try_clone().unwrap();
    set_blocking(&theirs);
    let _ = rustix::io::write(&theirs, &(u64::MAX - 1).to_ne_bytes());
    let mut ring = must_return("a completion", move || {
        // More than a pipe holds, each with the client pretending to sleep.
        for _ in 0..70_000 {
            mock.peer.ring_pair(0).unwrap().client_asleep().store(1, Relaxed);
            mock.ring.complete(Cqe::default(), &Arg::new()).unwrap();
            mock.ring.flush().unwrap();
            let pair = mock.peer.ring_pair(0).unwrap();
            let taken = pair.completion().tail().load(Relaxed);
            pair.completion().head().store(taken, Relaxed);
        }
        mock.ring
    });
    assert!(ring.is_empty().unwrap());
}

#[test]
fn a_client_cannot_make_emptying_the_doorbell_block() {
    let mock = Mock::new();
    let theirs = mock.session.doorbell().try_clone_to_owned().unwrap();
    set_blocking(&theirs);
    let session = mock.session.clone();
    must_return("the stolen doorbell", move || session.awake(true));
    // And it is emptied, when there is something.
    crate::ring_fd(mock.session.doorbell());
    mock.session.awake(true);
    let mut fds = [rustix::event::PollFd::new(&theirs, rustix::event::PollFlags::IN)];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&zero)).unwrap(), 0);
}

#[test]
fn pages_go_back_when_the_client_hung_up_and_kept_the_file() {
    let mock = Mock::new();
    let (mut socket, _) = mock.socket();
    assert!(socket.rx.place(0, RawSlice::from(&vec![7; 500_000][..])));
    let kept = mock.session.region().memfd().try_clone_to_owned().unwrap();
    let blocks = || rustix::fs::fstat(&kept).unwrap().st_blocks;
    assert!(blocks() * 512 >= 500_000);
    mock.session.scrub().unwrap();
    assert_eq!(blocks(), 0);
}

#[test]
fn a_number_closed_twice_is_given_out_once() {
    let mock = Mock::new();
    let (a, _) = mock.socket();
    let number = a.sock;
    drop(a);
    mock.session.close_socket(number);
    mock.session.close_socket(number);
    mock.session.close_socket(99);
    let (b, c) = (mock.socket().0.sock, mock.socket().0.sock);
    assert_ne!(b, c);
    assert_eq!(mock.session.sockets(), 2);
}

#[test]
fn an_argument_slot_carries_nothing_of_the_argument_before() {
    let mut mock = Mock::new();
    let mut arg = Arg::from_bytes(&[0xee; 64]).unwrap();
    arg.fill(3, |_| u64::from_ne_bytes([1, 2, 3, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]));
    mock.ring.complete(Cqe::default(), &arg).unwrap();
    let cq = mock.peer.ring_pair(0).unwrap().completion();
    assert_eq!(cq.args()[0][0].load(Relaxed).to_ne_bytes(), [1, 2, 3, 0, 0, 0, 0, 0]);
}

#[test]
fn fifo_indices_outside_what_was_granted_end_the_session() {
    let mock = Mock::new();
    let (mut socket, control) = mock.socket();
    socket.tx.grant(1000);
    for bad in [1001, u64::MAX, 1 << 63] {
        control.tx_head.store(bad, Relaxed);
        assert_eq!(socket.tx.poll_head(), Err(Breach::TxHead { found: bad, low: 0, high: 1000 }));
    }
    control.tx_head.store(500, Relaxed);
    assert_eq!(socket.tx.poll_head(), Ok(500));
    control.tx_head.store(499, Relaxed);
    assert!(socket.tx.poll_head().is_err(), "backwards");
    assert!(socket.rx.place(0, RawSlice::from(&[1; 100][..])));
    socket.rx.publish(50);
    control.rx_tail.store(51, Relaxed);
    assert_eq!(socket.rx.poll_tail(), Err(Breach::RxTail { found: 51, low: 0, high: 50 }));
    control.rx_tail.store(50, Relaxed);
    assert_eq!(socket.rx.poll_tail(), Ok(50));
    control.rx_tail.store(0, Relaxed);
    assert!(socket.rx.poll_tail().is_err(), "backwards");
}

#[test]
fn what_the_client_writes_into_daemon_words_and_tables_is_not_believed() {
    let mock = Mock::new();
    let (mut socket, control) = mock.socket();
    let mut tx = TxWriter::new(mock.peer.clone(), socket.sock).unwrap();
    socket.tx.grant(200_000);
    tx.write(&[9; 150_000]).unwrap();
    for table in [crate::region::Direction::Tx, crate::region::Direction::Rx] {
        mock.peer.table(socket.sock, table).unwrap().iter().for_each(|e| e.store(u32::MAX, Relaxed));
    }
    for word in [&control.tx_limit, &control.tx_released, &control.rx_head] {
        word.store(u64::MAX, Relaxed);
    }
    assert_eq!(socket.tx.poll_head(), Ok(150_000));
    let mut out = Vec::new();
    assert!(socket.tx.copy_out(0..150_000, &mut out));
    assert!(out.iter().all(|b| *b == 9));
    // The client follows its own damage no further than an error.
    assert!(matches!(tx.write(&[1; 10]), Err(Breach::Chunk(_))));
    assert_eq!(mock.session.region().check_header(), Ok(()));
}

#[test]
fn datagram_records_are_checked_against_what_was_published() {
    let mock = Mock::new();
    let (mut socket, control) = mock.socket();
    let mut tx = TxWriter::new(mock.peer.clone(), socket.sock).unwrap();
    socket.tx.grant(100_000);
    let room = tx.reserve(64).unwrap();
    room.fill(0);
    room[..4].copy_from_slice(&33u32.to_ne_bytes());
    control.tx_head.store(64, Relaxed);
    socket.tx.poll_head().unwrap();
    assert!(matches!(socket.tx.datagram_at(0), Err(Breach::Datagram { .. })), "33 bytes do not fit 64 - 32");
    tx.reserve(64).unwrap()[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert!(matches!(socket.tx.datagram_at(0), Err(Breach::Datagram { .. })));
    tx.reserve(64).unwrap()[..10].copy_from_slice(&[32, 0, 0, 0, 0, 0, 0, 0, 99, 99]);
    assert!(matches!(socket.tx.datagram_at(0), Err(Breach::Datagram { .. })), "family");
    tx.reserve(64).unwrap()[8..10].fill(0);
    assert_eq!(socket.tx.datagram_at(0).unwrap().unwrap().data, 32..64);
    // Control messages: as many as the record can hold beside its data, and never more than the limit.
    tx.reserve(64).unwrap()[..8].copy_from_slice(&[24, 0, 0, 0, 9, 0, 0, 0]);
    assert!(matches!(socket.tx.datagram_at(0), Err(Breach::Datagram { .. })), "9 pad to 16: 32 + 16 + 24 > 64");
    tx.reserve(64).unwrap()[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert!(matches!(socket.tx.datagram_at(0), Err(Breach::Datagram { .. })), "control length");
    tx.reserve(64).unwrap()[4..8].copy_from_slice(&[8, 0, 0, 0]);
    let got = socket.tx.datagram_at(0).unwrap().unwrap();
    assert_eq!((got.control, got.data), (32..40, 40..64));
    assert!(matches!(socket.tx.datagram_at(1), Err(Breach::Datagram { .. })), "alignment");
}

#[test]
fn entries_rewritten_under_the_daemons_hands_are_valid_or_refused() {
    let mut mock = Mock::new();
    let peer = mock.peer.clone();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let vandal = std::thread::spawn(move || {
        let sq = peer.ring_pair(0).unwrap().submission();
        let mut x = 1u64;
        while !stopped.load(Relaxed) {
            for cell in sq.slots().iter().flatten().chain(sq.args().iter().flatten()) {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                // Mostly small values, so that most entries pass and the argument copy is reached too.
                cell.store(if x >> 60 == 0 { x } else { x >> 61 }, Relaxed);
            }
        }
    });
    let (mut taken, mut refused) = (0, 0);
    for i in 1..=20_000u32 {
        mock.peer.ring_pair(0).unwrap().submission().tail().store(i, Relaxed);
        let mut arg = Arg::new();
        // A refused entry is left on the ring; the real daemon ends the session there.
        match mock.ring.pop(&mut arg) {
            Ok(Some(call)) => {
                assert!(call.sqe.sock < 4 && arg.as_bytes().len() <= 512);
                taken += 1;
            }
            Ok(None) => panic!("an entry was published"),
            Err(Breach::RingIndex { .. }) => mock = Mock { peer: mock.peer.clone(), ..Mock::new() },
            Err(_) => refused += 1,
        }
        if taken + refused >= 2_000 {
            break;
        }
    }
    stop.store(true, Relaxed);
    vandal.join().unwrap();
    assert!(taken + refused > 0);
}

#[test]
fn regions_that_are_not_what_was_agreed_are_not_mapped() {
    let session = DaemonSession::create(GEOMETRY, 16, 4).unwrap();
    let fd = || session.region().memfd().try_clone_to_owned().unwrap();
    let wrong = Geometry { chunks: 17, ..GEOMETRY };
    assert!(Region::open(fd(), wrong).unwrap_err().to_string().contains("the geometry needs"));
    assert!(Region::open(fd(), Geometry { ring_entries: 3, ..GEOMETRY }).is_err());
    let unsealed = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&unsealed, GEOMETRY.bytes().unwrap() as u64).unwrap();
    assert!(Region::open(unsealed, GEOMETRY).unwrap_err().to_string().contains("not sealed"));
    // Nobody resizes a sealed one.
    assert!(rustix::fs::ftruncate(fd(), 0).is_err());
}
