//! The stack under test, on one interface, in virtual time.

use crate::config::Config;
use stackd_base::{Duration, Instant, PortId};
use stackd_netstack::addr::{Address, Prefix, Scope};
use stackd_netstack::packet::{Packet, Payload};
use stackd_netstack::port::{PortCaps, PortConfig};
use stackd_netstack::route::{Route, RouteOptions, RouteOrigin, RouteType};
use stackd_netstack::{HeapStore, RxMeta, SockEvent, Stack, StackConfig};
use stackd_qdisc::{QdiscConfig, QueuedPacket};
use stackd_wire::{Gso, MacAddr, Offload};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Name of the interface: scripts for Linux speak of `tun0`.
pub const DEVICE: &str = "tun0";

/// When a script starts: not at zero, so that nothing can take a time for "never".
const START: Instant = Instant::from_nanos(10_000_000_000);

/// A stack that makes so many steps without time passing does not come to rest.
const MAX_STEPS: u32 = 100_000;

/// A packet that the stack sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// It, its payload owned.
    packet: Packet,
}

impl Sent {
    /// Payload bytes behind the transport header.
    pub fn payload_len(&self) -> usize {
        self.packet.payload.len()
    }

    /// From the IP header on, checksums complete if it is one segment.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.packet.payload {
            Payload::Owned(b) => self.packet.write_frame(b, &mut out),
            Payload::None | Payload::Stream { .. } => self.packet.write_frame(&[], &mut out),
        }
        out.split_off(usize::from(self.packet.network_at))
    }

    /// It is more than one segment on the wire.
    pub fn is_gso(&self) -> bool {
        self.packet.segments() > 1
    }

    /// Cuts the first segment off, if there are several.
    fn split_first(&mut self) -> Option<Self> {
        let first = self.packet.split_first()?;
        Some(Self { at: self.at, packet: first })
    }

    /// Cuts the first `bytes` of payload off, if a segment ends there.
    pub fn split_at(&mut self, bytes: usize) -> Option<Vec<Self>> {
        let mut rest = self.clone();
        let (mut out, mut have) = (Vec::new(), 0);
        while have < bytes {
            let first = rest.split_first()?;
            have += first.payload_len();
            out.push(first);
        }
        if have != bytes {
            return None;
        }
        *self = rest;
        Some(out)
    }
}

/// The stack, its sockets' bytes, and its clock.
pub struct Host {
    /// The stack under test.
    pub stack: Stack,
    /// Bytes of its sockets.
    pub store: HeapStore,
    /// The interface.
    pub port: PortId,
    /// The present.
    pub now: Instant,
    /// What it sent, oldest first, as far as the script did not take it yet.
    pub sent: VecDeque<Sent>,
    /// Readiness that changed, as far as nobody took it.
    pub events: Vec<SockEvent>,
    mss: u16,
}

impl Host {
    /// A host with the addresses of `cfg` and a route to everywhere.
    pub fn new(cfg: &Config) -> Self {
        let mut stack = Stack::new(StackConfig::default(), cfg.seed);
        stack.add_loopback();
        let port = stack.add_port(PortConfig {
            name: String::from(DEVICE),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: cfg.mtu,
            loopback: false,
            caps: PortCaps { tx_csum: true, tso_max: 65_536, uso: true, ethernet: false },
        });
        let (local, len) = match cfg.local() {
            a @ IpAddr::V4(_) => (a, 16),
            a @ IpAddr::V6(_) => (a, 48),
        };
        stack.add_address(Address {
            addr: local,
            prefix_len: len,
            scope: Scope::of(local),
            port,
            secondary: false,
            deprecated: false,
        });
        let any: IpAddr = if local.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        if let Some(dst) = Prefix::new(any, 0) {
            let route = Route {
                dst,
                kind: RouteType::Unicast,
                gateway: None,
                port: Some(port),
                src: None,
                metric: 0,
                origin: RouteOrigin::Boot,
                options: RouteOptions::default(),
            };
            // It cannot exist yet.
            let _ = stack.add_route(route, true);
        }
        let mut host = Self {
            stack,
            store: HeapStore::default(),
            port,
            now: START,
            sent: VecDeque::new(),
            events: Vec::new(),
            mss: cfg.mss,
        };
        // As tests for Linux do: timing is that of TCP, not of a queue that paces.
        if let Ok(pfifo) = QdiscConfig::default_of("pfifo") {
            let _ = host.stack.replace_qdisc(host.now, port, &pfifo);
        }
        host.settle();
        // Duplicate address detection has to be over before the first event.
        host.advance(START + Duration::from_secs(5));
        host.sent.clear();
        host
    }

    /// Time since the script started, of which `START` and what came before the first event are no part.
    pub fn settle(&mut self) {
        for _ in 0..MAX_STEPS {
            let mut moved = false;
            while let Some(p) = self.stack.poll_loopback(self.now, &mut self.store) {
                self.stack.handle_loopback(self.now, p, &mut self.store);
                moved = true;
            }
            while let Some(mut p) = self.stack.poll_transmit(self.now, self.port, &mut self.store) {
                let bytes = self.store.payload(&p.payload);
                self.stack.handle_tx_complete(self.now, &p);
                // Bytes that are gone belong to a packet that no device would have sent either.
                if let Some(bytes) = bytes {
                    p.payload = Payload::Owned(bytes.into());
                    self.sent.push_back(Sent { at: self.now, packet: p });
                }
                moved = true;
            }
            while let Some(e) = self.stack.poll_event() {
                self.events.push(e);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    /// The next time at which the stack does something by itself.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.stack.next_deadline().map(|d| d.max(self.now))
    }

    /// Goes to the next deadline if that is not behind `end`; false if there is nothing left to do until then.
    pub fn step(&mut self, end: Instant) -> bool {
        self.settle();
        let Some(next) = self.next_deadline().filter(|&n| n <= end) else { return false };
        self.now = next;
        self.stack.handle_timers(self.now, &mut self.store);
        self.settle();
        true
    }

    /// Lets time pass.
    pub fn advance(&mut self, end: Instant) {
        for _ in 0..MAX_STEPS {
            if !self.step(end) {
                break;
            }
        }
        self.now = self.now.max(end);
    }

    /// An IP packet arrives.
    pub fn inject(&mut self, packet: &[u8], transport: Option<(usize, usize)>) {
        let mut offload = Offload::default();
        if let Some((header_len, payload)) = transport
            && self.mss > 0
            && payload > usize::from(self.mss)
        {
            offload.csum_valid = true;
            offload.gso_size = self.mss;
            offload.gso = if packet[0] >> 4 == 6 { Gso::TcpV6 } else { Gso::TcpV4 };
            offload.hdr_len = header_len as u16;
        }
        let meta = RxMeta { at: self.now, offload };
        self.stack.handle_frame(self.now, self.port, packet, &[][..], 0, meta, &mut self.store);
        self.settle();
    }
}
