//! Longer runs of ring, doorbell and kick than loom can exhaust, under random and priority-based schedules:
//! `RUSTFLAGS="--cfg shuttle" cargo test -p stackd-shm --release --test shuttle`. (Shuttle interleaves, but does not reorder memory: what
//! fences are for is `tests/loom.rs`'s business.) A lost wake-up is a deadlock here, and shuttle reports it with its schedule.
#![cfg(shuttle)]

use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;
use stackd_shm::abi::{Arg, Cqe, Opcode, Sqe};
use stackd_shm::doorbell::Asleep;
use stackd_shm::ring::{ArgSlot, Consumer, Producer, RingMem, Slot};

const RUNS: usize = 20_000;

struct Shared {
    head: AtomicU32,
    tail: AtomicU32,
    slots: Vec<Slot>,
    args: Vec<ArgSlot>,
}

#[derive(Clone)]
struct Mem(Arc<Shared>);

impl RingMem for Mem {
    fn head(&self) -> &AtomicU32 {
        &self.0.head
    }
    fn tail(&self) -> &AtomicU32 {
        &self.0.tail
    }
    fn slots(&self) -> &[Slot] {
        &self.0.slots
    }
    fn args(&self) -> &[ArgSlot] {
        &self.0.args
    }
}

fn words<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

fn ring(entries: usize) -> Mem {
    Mem(Arc::new(Shared {
        head: AtomicU32::new(0),
        tail: AtomicU32::new(0),
        slots: (0..entries).map(|_| words()).collect(),
        args: (0..entries).map(|_| words()).collect(),
    }))
}

/// A pipe or eventfd with somebody blocking on it.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// One side's sleep: word and bell.
#[derive(Clone)]
struct Side(Arc<(AtomicU32, Bell)>);

impl Side {
    fn new() -> Self {
        Self(Arc::new((AtomicU32::new(0), Bell::default())))
    }
    fn wake(&self) {
        if Asleep(&self.0.0).must_ring() {
            self.0.1.ring();
        }
    }
    /// Sleeps unless `look` finds something after all.
    fn sleep_unless(&self, mut look: impl FnMut() -> bool) {
        Asleep(&self.0.0).prepare();
        if !look() {
            self.0.1.wait();
        }
        Asleep(&self.0.0).awake();
    }
}

fn check(model: impl Fn() + Send + Sync + Copy + 'static) {
    shuttle::check_random(model, RUNS);
    shuttle::check_pct(model, RUNS, 3);
}

/// Calls and answers through rings smaller than the batch, both sides going to sleep whenever they find nothing.
fn calls_and_answers() {
    const CALLS: u64 = 6;
    let (sq, cq, daemon, client) = (ring(2), ring(2), Side::new(), Side::new());
    let server = {
        let (sq, cq, daemon, client) = (sq.clone(), cq.clone(), daemon.clone(), client.clone());
        thread::spawn(move || {
            let (mut sq, mut cq, mut arg) = (Consumer::new(sq), Producer::new(cq), Arg::new());
            let mut done = 0;
            while done < CALLS {
                let Some(call) = sq.pop::<Sqe>(&mut arg).unwrap() else {
                    daemon.sleep_unless(|| !sq.is_empty().unwrap());
                    continue;
                };
                assert_eq!(arg.as_bytes(), call.user_data.to_ne_bytes());
                let answer = Cqe { user_data: call.user_data, result: call.args[0] as i32, ..Cqe::default() };
                // The client has at most as many calls under way as its completion ring holds.
                assert!(cq.push(answer, &arg).unwrap());
                client.wake();
                done += 1;
            }
        })
    };
    let (mut sq, mut cq, mut arg) = (Producer::new(sq), Consumer::new(cq), Arg::new());
    let (mut sent, mut got) = (0, 0);
    while got < CALLS {
        while sent < CALLS && sent - got < 2 {
            sent += 1;
            let call = Sqe { opcode: Opcode::Nop as u16, user_data: sent, args: [sent * 3; 5], ..Sqe::default() };
            assert!(sq.push(call, &Arg::from_bytes(&sent.to_ne_bytes()).unwrap()).unwrap());
            daemon.wake();
        }
        match cq.pop::<Cqe>(&mut arg).unwrap() {
            None => client.sleep_unless(|| !cq.is_empty().unwrap()),
            Some(answer) => {
                got += 1;
                assert_eq!((answer.user_data, answer.result), (got, got as i32 * 3));
                assert_eq!(arg.as_bytes(), got.to_ne_bytes());
            }
        }
    }
    server.join().unwrap();
}

#[test]
fn every_call_is_answered_though_both_sides_sleep() {
    check(calls_and_answers);
}

/// Two threads write one socket's stream in turns (under its lock, as clientlib does), each on its own submission ring; one `kicked` word
/// between them. The daemon must see the last byte, whoever pushed the kick.
fn kicks(swap: fn(&AtomicU32) -> u32) {
    const WRITES: u64 = 3;
    let (kicked, tx_head, daemon) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU64::new(0)), Side::new());
    let stream = Arc::new(Mutex::new(0));
    let rings = [ring(4), ring(4)];
    let writers = rings.clone().map(|mem| {
        let (kicked, tx_head, daemon, stream) = (kicked.clone(), tx_head.clone(), daemon.clone(), stream.clone());
        thread::spawn(move || {
            let mut sq = Producer::new(mem);
            for _ in 0..WRITES {
                let mut head = stream.lock().unwrap();
                *head += 1;
                tx_head.store(*head, Ordering::Release);
                let must = swap(&kicked) == 0;
                drop(head);
                if must {
                    let kick = Sqe { opcode: Opcode::Kick as u16, ..Sqe::default() };
                    assert!(sq.push(kick, &Arg::new()).unwrap());
                    daemon.wake();
                }
            }
        })
    });
    let mut rings = rings.map(Consumer::new);
    let (mut seen, mut arg) = (0, Arg::new());
    while seen < 2 * WRITES {
        let mut idle = true;
        for ring in &mut rings {
            while ring.pop::<Sqe>(&mut arg).unwrap().is_some() {
                idle = false;
                // TxReader::take_kick, then poll_head: in this order.
                kicked.swap(0, Ordering::AcqRel);
                let head = tx_head.load(Ordering::Acquire);
                assert!(head >= seen);
                seen = head;
            }
        }
        if idle {
            let [a, b] = &mut rings;
            daemon.sleep_unless(|| !a.is_empty().unwrap() || !b.is_empty().unwrap());
        }
    }
    writers.into_iter().for_each(|w| w.join().unwrap());
}

#[test]
fn the_last_byte_is_seen_whoever_kicked() {
    check(|| kicks(|kicked| kicked.swap(1, Ordering::AcqRel)));
}

/// The model can fail: a daemon that reads the head before it takes the mark down misses what came between.
#[test]
#[should_panic(expected = "deadlock")]
fn taking_the_mark_down_too_late_loses_bytes() {
    let model = || {
        let (kicked, head, daemon, mem) =
            (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU64::new(0)), Side::new(), ring(4));
        let writer = {
            let (kicked, head, daemon, mem) = (kicked.clone(), head.clone(), daemon.clone(), mem.clone());
            thread::spawn(move || {
                let mut sq = Producer::new(mem);
                for i in 1..=2 {
                    head.store(i, Ordering::Release);
                    if kicked.swap(1, Ordering::AcqRel) == 0 {
                        assert!(sq.push(Sqe::default(), &Arg::new()).unwrap());
                        daemon.wake();
                    }
                }
            })
        };
        let (mut sq, mut seen, mut arg) = (Consumer::new(mem), 0, Arg::new());
        while seen < 2 {
            if sq.pop::<Sqe>(&mut arg).unwrap().is_some() {
                seen = head.load(Ordering::Acquire);
                kicked.swap(0, Ordering::AcqRel);
            } else {
                daemon.sleep_unless(|| !sq.is_empty().unwrap());
            }
        }
        writer.join().unwrap();
    };
    shuttle::check_random(model, RUNS);
}

/// The receive side: the daemon ran out of window and wishes a kick at `rx_wake`; the reader consumes. RxWriter::set_wake against
/// RxReader::consume.
fn wake_wish() {
    let (rx_tail, rx_wake, kicked, daemon, mem) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(u64::MAX)),
        Arc::new(AtomicU32::new(0)),
        Side::new(),
        ring(4),
    );
    let reader = {
        let (rx_tail, rx_wake, kicked, daemon, mem) =
            (rx_tail.clone(), rx_wake.clone(), kicked.clone(), daemon.clone(), mem.clone());
        thread::spawn(move || {
            let mut sq = Producer::new(mem);
            for tail in 1..=4 {
                rx_tail.store(tail, Ordering::Release);
                shuttle::sync::atomic::fence(Ordering::SeqCst);
                if tail >= rx_wake.load(Ordering::Relaxed) && kicked.swap(1, Ordering::AcqRel) == 0 {
                    assert!(sq.push(Sqe::default(), &Arg::new()).unwrap());
                    daemon.wake();
                }
            }
        })
    };
    let (mut sq, mut arg, mut freed) = (Consumer::new(mem), Arg::new(), 0);
    while freed < 4 {
        // Wants the next two bytes of room.
        let want = (freed + 2).min(4);
        rx_wake.store(want, Ordering::Relaxed);
        shuttle::sync::atomic::fence(Ordering::SeqCst);
        while rx_tail.load(Ordering::Acquire) < want {
            if sq.pop::<Sqe>(&mut arg).unwrap().is_some() {
                kicked.swap(0, Ordering::AcqRel);
            } else {
                daemon.sleep_unless(|| !sq.is_empty().unwrap());
            }
        }
        freed = rx_tail.load(Ordering::Acquire);
    }
    reader.join().unwrap();
}

#[test]
fn a_wish_for_room_is_met() {
    check(wake_wish);
}
