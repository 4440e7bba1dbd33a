//! Models of ring and doorbell: `RUSTFLAGS="--cfg loom" cargo test -p stackd-shm --release --test loom`.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use loom::thread;
use stackd_shm::abi::{Arg, Sqe};
use stackd_shm::doorbell::Asleep;
use stackd_shm::ring::{ArgSlot, Consumer, Producer, RingMem, Slot};

struct Shared {
    head: AtomicU32,
    tail: AtomicU32,
    slots: Vec<Slot>,
    args: Vec<ArgSlot>,
    asleep: AtomicU32,
    /// The eventfd.
    bell: AtomicBool,
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

fn mem(entries: usize) -> Mem {
    Mem(Arc::new(Shared {
        head: AtomicU32::new(0),
        tail: AtomicU32::new(0),
        slots: (0..entries).map(|_| words()).collect(),
        args: (0..entries).map(|_| words()).collect(),
        asleep: AtomicU32::new(0),
        bell: AtomicBool::new(false),
    }))
}

/// Every entry arrives once, whole, in order, with its argument, through a ring that wraps.
#[test]
fn entries_arrive_whole_and_in_order() {
    loom::model(|| {
        let mem = mem(2);
        let theirs = mem.clone();
        let producer = thread::spawn(move || {
            let mut ring = Producer::new(theirs);
            for i in 1..=3u64 {
                let entry = Sqe { user_data: i, args: [i; 5], ..Sqe::default() };
                while !ring.push(entry, &Arg::from_bytes(&i.to_ne_bytes()).unwrap()).unwrap() {
                    thread::yield_now();
                }
            }
        });
        let mut ring = Consumer::new(mem);
        let mut arg = Arg::new();
        for i in 1..=3u64 {
            let entry: Sqe = loop {
                match ring.pop(&mut arg).unwrap() {
                    Some(entry) => break entry,
                    None => thread::yield_now(),
                }
            };
            assert_eq!((entry.user_data, entry.args), (i, [i; 5]));
            assert_eq!(arg.as_bytes(), i.to_ne_bytes());
        }
        producer.join().unwrap();
    });
}

/// One entry against a consumer that goes to sleep: it sees the entry or is rung.
fn sleeper(must_ring: impl Fn(&AtomicU32) -> bool + Send + Sync + Copy + 'static) {
    loom::model(move || {
        let mem = mem(2);
        let theirs = mem.clone();
        let producer = thread::spawn(move || {
            let mut ring = Producer::new(theirs);
            assert!(ring.push(Sqe::default(), &Arg::new()).unwrap());
            if must_ring(&ring.mem().0.asleep) {
                ring.mem().0.bell.store(true, Ordering::Release);
            }
        });
        let mut ring = Consumer::new(mem.clone());
        Asleep(&mem.0.asleep).prepare();
        let found = !ring.is_empty().unwrap();
        producer.join().unwrap();
        assert!(found || mem.0.bell.load(Ordering::Acquire), "lost wake-up");
    });
}

#[test]
fn no_wakeup_is_lost() {
    sleeper(|asleep| Asleep(asleep).must_ring());
}

/// Two producers share a sleeper, and the first takes its `asleep` down: still nobody is left waiting.
#[test]
fn one_ring_serves_two_producers() {
    loom::model(|| {
        let (a, b) = (mem(2), mem(2));
        let consumer = (Consumer::new(a.clone()), Consumer::new(b.clone()));
        let shared = a.clone();
        let producers = [a, b].map(|mine| {
            let shared = shared.clone();
            thread::spawn(move || {
                assert!(Producer::new(mine).push(Sqe::default(), &Arg::new()).unwrap());
                if Asleep(&shared.0.asleep).must_ring() {
                    shared.0.bell.store(true, Ordering::Release);
                }
            })
        });
        let (mut first, mut second) = consumer;
        Asleep(&shared.0.asleep).prepare();
        let seen = !first.is_empty().unwrap() && !second.is_empty().unwrap();
        producers.into_iter().for_each(|p| p.join().unwrap());
        assert!(seen || shared.0.bell.load(Ordering::Acquire), "lost wake-up");
    });
}

/// Why the fence is there: without it the producer may read the old `asleep` and the consumer the old `tail`.
#[test]
#[should_panic(expected = "lost wake-up")]
fn without_the_fence_a_wakeup_is_lost() {
    sleeper(|asleep| asleep.load(Ordering::Relaxed) != 0);
}
