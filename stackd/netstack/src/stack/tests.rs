//! Two stacks back to back in memory, in virtual time.

mod authentic;
mod cookies;
mod fastopen;
mod groups;
mod half_open;
mod policy;
mod routes;
mod rules;
mod sockets;
mod transfer;
mod udp;

use super::Stack;
use crate::addr::{Address, Scope};
use crate::heap_store::HeapStore;
use crate::port::{PortCaps, PortConfig};
use crate::store::OwnerId;
use crate::types::{Domain, Readiness, Shutdown, SocketKind, StackConfig};
use crate::{RxMeta, SockEvent};
use stackd_base::{Duration, Errno, Instant, Mib, PortId, SockId};
use stackd_wire::{MacAddr, Offload};
use std::net::{IpAddr, SocketAddr};

pub(super) const OWNER: OwnerId = OwnerId(7);

pub(super) struct Host {
    pub stack: Stack,
    pub store: HeapStore,
    pub port: PortId,
    pub events: Vec<SockEvent>,
}

impl Host {
    fn new(n: u8, seed: u64) -> Self {
        let mut stack = Stack::new(StackConfig::default(), seed);
        stack.add_loopback();
        let port = stack.add_port(PortConfig {
            name: format!("eth{n}"),
            mac: MacAddr([2, 0, 0, 0, 0, n]),
            mtu: 1500,
            loopback: false,
            caps: PortCaps { tx_csum: true, tso_max: 0, uso: true, ethernet: true },
        });
        for (addr, prefix_len) in [(format!("10.0.0.{n}"), 24), (format!("fd00::{n}"), 64)] {
            let addr: IpAddr = addr.parse().expect("test address");
            let a = Address { addr, prefix_len, scope: Scope::of(addr), port, secondary: false, deprecated: false };
            assert!(stack.add_address(a));
        }
        Self { stack, store: HeapStore::default(), port, events: Vec::new() }
    }

    pub fn socket(&mut self, now: Instant, domain: Domain, kind: SocketKind) -> SockId {
        self.stack.socket(now, domain, kind, OWNER, &mut self.store).expect("a socket")
    }

    pub fn listener(&mut self, now: Instant, addr: &str, backlog: i32) -> SockId {
        let addr: SocketAddr = addr.parse().expect("test address");
        let domain = if addr.is_ipv4() { Domain::V4 } else { Domain::V6 };
        let sock = self.socket(now, domain, SocketKind::Stream);
        self.stack.bind(sock, addr).expect("bind");
        self.stack.listen(sock, backlog).expect("listen");
        sock
    }

    /// Writes what fits; returns how much.
    pub fn write(&mut self, now: Instant, sock: SockId, data: &[u8]) -> usize {
        let fifo = self.stack.fifo(sock).expect("fifo");
        let (head, n) = self.store.write(fifo, data);
        if n > 0 {
            self.stack.written(now, sock, head, &mut self.store).expect("written");
        }
        n
    }

    pub fn read(&mut self, now: Instant, sock: SockId) -> Vec<u8> {
        let fifo = self.stack.fifo(sock).expect("fifo");
        let (tail, data) = self.store.read(fifo, usize::MAX);
        if !data.is_empty() {
            self.stack.consumed(now, sock, tail, &mut self.store).expect("consumed");
        }
        data
    }

    pub fn option(&mut self, now: Instant, sock: SockId, level: i32, option: i32, n: i32) -> Result<(), Errno> {
        self.stack.set_option(now, sock, level, option, &n.to_ne_bytes(), &mut self.store)
    }

    pub fn get_int(&mut self, now: Instant, sock: SockId, level: i32, option: i32) -> Result<i32, Errno> {
        let mut out = [0; 4];
        self.stack.get_option(now, sock, level, option, &mut out).map(|_| i32::from_ne_bytes(out))
    }
}

/// Two hosts, a wire of 50 us each way, and a clock.
pub(super) struct Net {
    pub now: Instant,
    pub a: Host,
    pub b: Host,
    /// Frames under way: arrival, to `b`, bytes.
    wire: Vec<(Instant, bool, Vec<u8>)>,
    /// Drops the frame if it says so.
    pub filter: Option<fn(u64, &[u8]) -> bool>,
    frames: u64,
}

const DELAY: Duration = Duration::from_micros(50);

impl Net {
    pub fn new() -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        Self { now, a: Host::new(1, 11), b: Host::new(2, 22), wire: Vec::new(), filter: None, frames: 0 }
    }

    /// Everything that can happen without time passing.
    fn settle(&mut self) {
        for to_b in [true, false] {
            let now = self.now;
            let host = if to_b { &mut self.a } else { &mut self.b };
            while let Some(p) = host.stack.poll_loopback(now, &mut host.store) {
                host.stack.handle_loopback(now, p, &mut host.store);
            }
            while let Some(p) = host.stack.poll_transmit(now, host.port, &mut host.store) {
                let bytes = host.store.payload(&p.payload).expect("payload still there");
                let mut frame = Vec::new();
                p.write_frame(&bytes, &mut frame);
                host.stack.handle_tx_complete(now, &p);
                self.frames += 1;
                if !self.filter.is_some_and(|f| f(self.frames, &frame)) {
                    self.wire.push((now + DELAY, to_b, frame));
                }
            }
            while let Some(e) = host.stack.poll_event() {
                host.events.push(e);
            }
        }
    }

    /// Runs until nothing happens any more or `span` has passed.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..2_000_000 {
            self.settle();
            let arrival = self.wire.iter().map(|w| w.0).min();
            let next =
                [arrival, self.a.stack.next_deadline(), self.b.stack.next_deadline()].into_iter().flatten().min();
            let Some(next) = next.filter(|&n| n <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            let now = self.now;
            let due: Vec<_> = self.wire.extract_if(.., |w| w.0 <= now).collect();
            for (_, to_b, frame) in due {
                let host = if to_b { &mut self.b } else { &mut self.a };
                let meta = RxMeta { at: now, offload: Offload::default() };
                host.stack.handle_frame(now, host.port, &frame, &[][..], 0, meta, &mut host.store);
            }
            self.a.stack.handle_timers(now, &mut self.a.store);
            self.b.stack.handle_timers(now, &mut self.b.store);
        }
        panic!("the stacks do not come to rest");
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    /// A connection from `a` to a listener of `b` at `to`.
    pub fn connected(&mut self, listener: SockId, to: &str) -> (SockId, SockId) {
        let to: SocketAddr = to.parse().expect("test address");
        let domain = if to.is_ipv4() { Domain::V4 } else { Domain::V6 };
        let client = self.a.socket(self.now, domain, SocketKind::Stream);
        let connecting = self.a.stack.connect(self.now, client, to, &mut self.a.store);
        assert_eq!(connecting, Err(Errno::EINPROGRESS));
        self.run_ms(5);
        let (server, _) = self.b.stack.accept(self.now, listener, &mut self.b.store).expect("a connection");
        (client, server)
    }
}
