//! What a connection that does nothing costs, counted by the allocator.
//!
//! Counted is the server's stack alone: sockets, tables, timers. Buffers belong to the shell and are left out: [`Nowhere`] keeps none.

use stackd_base::{Duration, Errno, FifoId, Instant, PortId, SockId};
use stackd_netstack::addr::{Address, Scope};
use stackd_netstack::port::{PortCaps, PortConfig};
use stackd_netstack::{ByteStore, Domain, FifoKind, OwnerId, RxMeta, SocketKind, Stack, StackConfig};
use stackd_wire::{MacAddr, Offload, Sum};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Counts what is allocated and freed while a thread measures.
struct Counting;

thread_local! {
    static MEASURING: Cell<bool> = const { Cell::new(false) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

fn note(bytes: i64) {
    // A thread that is being torn down measures nothing.
    if MEASURING.try_with(Cell::get).unwrap_or(false) {
        let _ = BYTES.try_with(|b| b.set(b.get() + bytes));
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches two thread-local cells that need no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: `ptr` came from `System.alloc` above, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `f` and counts what it leaves allocated.
fn counted<R>(f: impl FnOnce() -> R) -> R {
    MEASURING.set(true);
    let r = f();
    MEASURING.set(false);
    r
}

/// A store without bytes.
#[derive(Default)]
struct Nowhere(u32);

impl ByteStore for Nowhere {
    type Payload<'a> = ();
    fn open(&mut self, _: SockId, _: OwnerId, _: FifoKind) -> Result<FifoId, Errno> {
        self.0 += 1;
        Ok(FifoId(self.0))
    }
    fn close(&mut self, _: FifoId) {}
    fn rx_place(&mut self, _: FifoId, _: u64, (): (), _: usize, _: usize) -> bool {
        true
    }
    fn rx_place_from(&mut self, _: FifoId, _: u64, _: FifoId, _: Range<u64>) -> bool {
        true
    }
    fn rx_place_bytes(&mut self, _: FifoId, _: u64, _: &[u8]) -> bool {
        true
    }
    fn rx_publish(&mut self, _: FifoId, _: u64) {}
    fn tx_publish(&mut self, _: FifoId, _: u64, _: u64) {}
    fn rx_datagram(&mut self, _: FifoId, _: SocketAddr, _: &[u8], _: &[u8]) -> bool {
        true
    }
    fn payload_checksum(&self, (): (), _: usize, _: usize) -> Sum {
        Sum::default()
    }
}

struct Host {
    stack: Stack,
    store: Nowhere,
    port: PortId,
}

fn host(n: u8) -> Host {
    let mut stack = Stack::new(StackConfig::default(), u64::from(n));
    let caps = PortCaps { tx_csum: true, tso_max: 65_000, uso: true, ethernet: true };
    let mac = |n| MacAddr([2, 0, 0, 0, 0, n]);
    let port = stack.add_port(PortConfig { name: String::from("eth0"), mac: mac(n), mtu: 1500, loopback: false, caps });
    let addr = |n: u8| IpAddr::from([10, 0, 0, n]);
    let scope = Scope::of(addr(n));
    stack.add_address(Address { addr: addr(n), prefix_len: 24, scope, port, secondary: false, deprecated: false });
    let peer = 3 - n;
    stack.add_neighbour(Instant::ZERO, (port, addr(peer)), mac(peer));
    let mut host = Host { stack, store: Nowhere::default(), port };
    for (key, value) in [
        ("net.core.somaxconn", "100000"),
        ("net.ipv4.tcp_max_syn_backlog", "1000000"),
        ("net.ipv4.ip_local_port_range", "1024 65535"),
    ] {
        host.stack.sysctl_set(Instant::ZERO, key, value, &mut host.store).expect("a sysctl");
    }
    host
}

/// Runs `f`, counted when it is about the server.
fn maybe_counted<R>(server: bool, f: impl FnOnce() -> R) -> R {
    if server { counted(f) } else { f() }
}

/// Everything a host has to say.
fn frames(now: Instant, host: &mut Host, server: bool) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(packet) = maybe_counted(server, || host.stack.poll_transmit(now, host.port, &mut host.store)) {
        let mut frame = Vec::new();
        packet.write_frame(&[], &mut frame);
        out.push(frame);
        maybe_counted(server, || host.stack.handle_tx_complete(now, &packet));
    }
    out
}

fn receive(now: Instant, host: &mut Host, frames: &[Vec<u8>], server: bool) {
    let meta = RxMeta { at: now, offload: Offload::default() };
    for frame in frames {
        maybe_counted(server, || host.stack.handle_frame(now, host.port, frame, (), 0, meta, &mut host.store));
    }
}

/// Bytes a connection costs the server: in SYN_RECEIVED, and established, accepted and idle.
fn cost(connections: usize) -> (i64, i64) {
    let (mut a, mut b) = (host(1), host(2));
    let mut now = Instant::from_nanos(1_000_000_000);
    let listener = b.stack.socket(now, Domain::V4, SocketKind::Stream, OwnerId(0), &mut b.store).expect("socket");
    b.stack.bind(listener, ([10, 0, 0, 2], 80).into()).expect("bind");
    b.stack.listen(listener, 100_000).expect("listen");
    BYTES.set(0);
    let mut answers = Vec::new();
    for i in 0..connections {
        let sock = a.stack.socket(now, Domain::V4, SocketKind::Stream, OwnerId(0), &mut a.store).expect("socket");
        let to = ([10, 0, 0, 2], 80).into();
        assert_eq!(a.stack.connect(now, sock, to, &mut a.store), Err(Errno::EINPROGRESS));
        // In batches that no queue is too short for.
        if i % 1000 == 0 || i + 1 == connections {
            receive(now, &mut b, &frames(now, &mut a, false), true);
            answers.extend(frames(now, &mut b, true));
        }
    }
    let embryonic = BYTES.get();
    now += Duration::from_millis(1);
    for batch in answers.chunks(1000) {
        receive(now, &mut a, batch, false);
        receive(now, &mut b, &frames(now, &mut a, false), true);
    }
    let mut accepted = Vec::with_capacity(connections);
    while let Ok((sock, _)) = counted(|| b.stack.accept(now, listener, &mut b.store)) {
        accepted.push(sock);
    }
    assert_eq!(accepted.len(), connections);
    // What the handshake left in queues and timers drains.
    for _ in 0..200 {
        now += Duration::from_millis(10);
        counted(|| {
            b.stack.handle_timers(now, &mut b.store);
            while b.stack.poll_event().is_some() {}
        });
        assert!(frames(now, &mut b, true).is_empty());
    }
    assert_eq!(b.stack.next_deadline(), None, "idle connections want nothing");
    let idle = BYTES.get();
    (embryonic / connections as i64, idle / connections as i64)
}

#[test]
fn an_idle_connection_is_cheap() {
    // Hash tables double when seven eighths of a power of two are taken: just before that, growth is not what is measured.
    let (embryonic, idle) = cost(14_300);
    println!("SYN_RECEIVED: {embryonic} bytes, established and idle: {idle} bytes");
    assert!(idle <= 2048, "an idle connection takes {idle} bytes; the promise is 2048");
    // A half-open one has its SYN-ACK in flight: an entry of the scoreboard, whose tree begins with a kilobyte.
    assert!(embryonic <= 3200, "a half-open connection takes {embryonic} bytes");
}
