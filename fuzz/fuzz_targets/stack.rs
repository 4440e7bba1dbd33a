//! A whole stack: frames from a peer that is right, wrong or hostile, socket calls, time, and operators who change everything under it.
//!
//! Nothing panics; a frame is dropped for at most one reason; `next_deadline` comes to rest; and when every socket is closed and
//! time has passed, nothing is left.
#![no_main]

#[path = "stack/peer.rs"]
mod peer;
mod reader;

use libfuzzer_sys::fuzz_target;
use peer::{OURS, Peer, THEIRS, ours, theirs};
use reader::Reader;
use stackd_base::{DropReason, Duration, Instant, PortId, SockId};
use stackd_netstack::addr::{Address, Prefix, Scope};
use stackd_netstack::packet::Packet;
use stackd_netstack::port::{PortCaps, PortConfig};
use stackd_netstack::route::{CcName, Route, RouteOptions, RouteOrigin, RouteType};
use stackd_netstack::{Domain, HeapStore, OwnerId, RxMeta, Shutdown, SocketKind, Stack, StackConfig};
use stackd_qdisc::QdiscConfig;
use stackd_wire::Offload;
use std::net::{IpAddr, SocketAddr};

const TCP_USER_TIMEOUT: i32 = 18;

struct Bed {
    stack: Stack,
    store: HeapStore,
    port: PortId,
    now: Instant,
    socks: Vec<SockId>,
    peer: Peer,
    /// Polled, and not yet taken by the device.
    held: Vec<Packet>,
    last_in: Vec<u8>,
}

/// What happens to packets on their way out, which a frame coming in may also cause.
const OUTWARD: [DropReason; 15] = [
    DropReason::IpNoRoute,
    DropReason::IpNoSource,
    DropReason::IpTooBig,
    DropReason::NeighUnresolved,
    DropReason::NeighQueueFull,
    DropReason::TcpStaleTransmit,
    DropReason::SocketClosed,
    DropReason::QdiscLimit,
    DropReason::QdiscFlowLimit,
    DropReason::QdiscHorizon,
    DropReason::QdiscReplaced,
    DropReason::EmulatedLoss,
    DropReason::DeviceDown,
    DropReason::DeviceTxError,
    DropReason::DeviceTooBig,
];

impl Bed {
    fn new(r: &mut Reader<'_>) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut stack = Stack::new(StackConfig { max_sockets: 64, ..StackConfig::default() }, 5);
        stack.add_loopback();
        let caps = PortCaps { tx_csum: true, tso_max: if r.flip() { 65_000 } else { 0 }, uso: true, ethernet: true };
        let port =
            stack.add_port(PortConfig { name: String::from("eth0"), mac: OURS, mtu: 1500, loopback: false, caps });
        for v6 in [false, true] {
            let addr = ours(v6);
            let prefix_len = if v6 { 64 } else { 24 };
            stack.add_address(Address {
                addr,
                prefix_len,
                scope: Scope::of(addr),
                port,
                secondary: false,
                deprecated: false,
            });
        }
        if r.u8() & 3 != 0 {
            stack.add_neighbour(now, (port, theirs(false)), THEIRS);
            stack.add_neighbour(now, (port, theirs(true)), THEIRS);
        }
        let mut bed = Self {
            stack,
            store: HeapStore::default(),
            port,
            now,
            socks: Vec::new(),
            peer: Peer::default(),
            held: Vec::new(),
            last_in: Vec::new(),
        };
        let any: SocketAddr = ([0u16; 8], 80).into();
        let sock = bed.socket(Domain::V6, SocketKind::Stream);
        bed.stack.bind(sock, any).expect("port 80 is free");
        bed.stack.listen(sock, 4).expect("listening");
        let sock = bed.socket(Domain::V6, SocketKind::Dgram);
        bed.stack.bind(sock, ([0u16; 8], 53).into()).expect("port 53 is free");
        bed
    }

    fn socket(&mut self, domain: Domain, kind: SocketKind) -> SockId {
        let sock = self.stack.socket(self.now, domain, kind, OwnerId(1), &mut self.store).expect("room for a socket");
        self.socks.push(sock);
        sock
    }

    fn receive(&mut self, frame: &[u8], r: &mut Reader<'_>) {
        let before: Vec<u64> = self.stack.drops().iter().map(|(_, n)| n).collect();
        // Any part of the payload of a TCP segment may be out of the stack's sight.
        let head = if r.flip() && frame.get(23) == Some(&6) && frame.len() > 94 { 94 } else { frame.len() };
        let offload = Offload { csum_valid: r.u8() & 7 == 7, ..Offload::default() };
        let meta = RxMeta { at: self.now, offload };
        let (head, rest) = frame.split_at(head);
        self.stack.handle_frame(self.now, self.port, head, rest, rest.len(), meta, &mut self.store);
        let inward: u64 = self
            .stack
            .drops()
            .iter()
            .zip(&before)
            .filter(|((reason, _), _)| !OUTWARD.contains(reason))
            .map(|((_, n), b)| n - b)
            .sum();
        let total: u64 = self.stack.drops().total() - before.iter().sum::<u64>();
        // Fragments that make way for this one are packets of their own.
        if !self.stack.drops().iter().zip(&before).any(|((why, n), b)| {
            matches!(why, DropReason::IpFragmentTimeout | DropReason::IpFragmentMemory | DropReason::IpFragmentInvalid)
                && n > *b
        }) {
            assert!(inward <= 1, "one frame was dropped {inward} times: {:?}", self.changed(&before));
        }
        if frame.len() < 14 {
            assert_eq!(total, 1, "a frame without an Ethernet header was not counted");
        }
        self.last_in.clear();
        self.last_in.extend_from_slice(frame);
    }

    fn changed(&self, before: &[u64]) -> Vec<(DropReason, u64)> {
        self.stack.drops().iter().zip(before).filter(|((_, n), b)| n != *b).map(|((r, n), b)| (r, n - b)).collect()
    }

    /// How many packets left.
    fn transmit(&mut self, most: usize, hold: bool) -> usize {
        for sent in 0..most {
            let Some(p) = self.stack.poll_transmit(self.now, self.port, &mut self.store) else { return sent };
            let bytes = self.store.payload(&p.payload).expect("stale packets are dropped by the stack");
            let mut frame = Vec::new();
            p.write_frame(&bytes, &mut frame);
            self.peer.saw(&frame);
            if hold && self.held.len() < 64 {
                self.held.push(p);
            } else {
                self.stack.handle_tx_complete(self.now, &p);
            }
        }
        most
    }

    /// How many packets arrived.
    fn loopback(&mut self, most: usize) -> usize {
        for arrived in 0..most {
            let Some(p) = self.stack.poll_loopback(self.now, &mut self.store) else { return arrived };
            self.stack.handle_loopback(self.now, p, &mut self.store);
        }
        most
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..64 {
            let Some(next) = self.stack.next_deadline().filter(|&d| d <= end) else { break };
            self.now = self.now.max(next);
            self.stack.handle_timers(self.now, &mut self.store);
            while self.stack.poll_event().is_some() {}
        }
        self.now = end;
        self.stack.handle_timers(self.now, &mut self.store);
    }

    /// Everything that is due now is done, and then what the simulation asks of a stack after every event holds.
    fn check(&mut self) {
        for _ in 0..8 {
            self.stack.handle_timers(self.now, &mut self.store);
            while self.stack.poll_event().is_some() {}
            if self.stack.next_deadline().is_none_or(|d| d > self.now) {
                break;
            }
        }
        self.stack.check_invariants(self.now).unwrap_or_else(|e| panic!("{e}"));
    }
}

fn address(r: &mut Reader<'_>) -> SocketAddr {
    let ip: IpAddr = match r.u8() % 9 {
        0 | 1 => theirs(false),
        2 | 3 => theirs(true),
        4 => [127, 0, 0, 1].into(),
        5 => ours(true),
        6 => [0u16; 8].into(),
        7 => [255, 255, 255, 255].into(),
        _ => "::ffff:10.0.0.2".parse().expect("an address"),
    };
    SocketAddr::new(ip, r.pick(&[80, 81, 53, 0, 7]))
}

fn call(bed: &mut Bed, r: &mut Reader<'_>) {
    let now = bed.now;
    let what = r.u8();
    if what % 24 == 0 && bed.socks.len() < 40 {
        let domain = if r.flip() { Domain::V6 } else { Domain::V4 };
        let kind = if r.flip() { SocketKind::Dgram } else { SocketKind::Stream };
        if bed.stack.socket_counts().0 < 60 {
            bed.socket(domain, kind);
        }
        return;
    }
    let Some(&sock) = bed.socks.get(usize::from(r.u8()) % bed.socks.len().max(1)) else { return };
    let Bed { stack, store, .. } = bed;
    let fifo = stack.fifo(sock);
    match what % 24 {
        1 => {
            let _ = stack.bind(sock, address(r));
        }
        2 => {
            let _ = stack.listen(sock, i32::from(r.u8() % 8));
        }
        3..=5 => {
            let _ = stack.connect(now, sock, address(r), store);
        }
        6..=8 => {
            if let Ok((child, _)) = stack.accept(now, sock, store) {
                bed.socks.push(child);
            }
        }
        9..=11 => {
            if let Some(fifo) = fifo {
                let (head, n) = store.write(fifo, &vec![b'w'; usize::from(r.u16())]);
                if n > 0 {
                    // Refused after a shutdown: the bytes then stay where they are, unsent.
                    let _ = stack.written(now, sock, head, store);
                }
            }
        }
        12..=14 => {
            if let Some(fifo) = fifo {
                let (tail, data) = store.read(fifo, usize::from(r.u16()));
                if !data.is_empty() {
                    let _ = stack.consumed(now, sock, tail, store);
                }
                if let Some((_, _, true)) = store.receive(fifo) {
                    stack.rx_drained(sock);
                }
            }
        }
        15 => {
            let _ = stack.shutdown(now, sock, r.pick(&[Shutdown::Read, Shutdown::Write, Shutdown::Both]), store);
        }
        16 => {
            if stack.close(now, sock, store).is_ok() {
                bed.socks.retain(|&s| s != sock);
            }
        }
        17 => {
            let _ = stack.abort(now, sock, store);
        }
        18 => {
            let to = r.flip().then(|| address(r));
            let _ = stack.send_to(now, sock, to, &vec![b'd'; usize::from(r.u16())], store);
        }
        19 => {
            let (level, option) = (r.pick(&[0, 1, 6, 41]), i32::from(r.u8() % 64));
            let n = usize::from(r.u8() % 9);
            let mut value = r.bytes(n).to_vec();
            // A user timeout of days is kept, as Linux keeps it, and would take `finish` thousands of timers to see through.
            if (level, option) == (6, TCP_USER_TIMEOUT)
                && let Some(ms) = value.first_chunk_mut()
            {
                *ms = i32::from_ne_bytes(*ms).min(600_000).to_ne_bytes();
            }
            let _ = stack.set_option(now, sock, level, option, &value, store);
        }
        20 => {
            let mut out = [0; 300];
            let n = usize::from(r.u16() % 300);
            let (level, option) = (r.pick(&[0, 1, 6, 41]), i32::from(r.u8() % 64));
            let _ = stack.get_option(now, sock, level, option, &mut out[..n]);
        }
        21 => {
            let _ = stack.disconnect(now, sock, store);
            let _ = stack.connect_outcome(now, sock, store);
            let _ = stack.ioctl(sock, r.pick(&[0x541B, 0x5411, 0x894B, 0x8905, 1]));
            stack.set_more(now, sock, r.u8() % 2 == 0, store);
        }
        22 => {
            // Offsets that no client may pass: beyond any buffer (within it, the bytes would have to be there).
            let _ = stack.written(now, sock, (1 << 40) + (u64::from(r.u32()) << 20), store);
            let _ = stack.consumed(now, sock, (1 << 40) + (u64::from(r.u32()) << 20), store);
        }
        _ => {
            let _ =
                (stack.socket_info(now, sock), stack.local_addr(sock), stack.peer_addr(sock), stack.take_error(sock));
            let _ = (stack.sockets(now).count(), stack.owner_usage(OwnerId(1)));
        }
    }
}

const KEYS: [(&str, &[&str]); 22] = [
    ("net.ipv4.tcp_wmem", &["4096 16384 4194304", "4096 4096 4096", "4096 100000000 100000000"]),
    ("net.ipv4.tcp_rmem", &["4096 131072 6291456", "4096 4096 4096"]),
    ("net.ipv4.tcp_mem", &["1 2 3", "100000 200000 300000"]),
    ("net.ipv4.tcp_congestion_control", &["bbr", "cubic", "reno"]),
    ("net.ipv4.tcp_timestamps", &["0", "1"]),
    ("net.ipv4.tcp_sack", &["0", "1"]),
    ("net.ipv4.tcp_window_scaling", &["0", "1"]),
    ("net.ipv4.tcp_ecn", &["0", "1", "2"]),
    ("net.ipv4.tcp_recovery", &["0", "1", "2", "4"]),
    ("net.ipv4.tcp_early_retrans", &["0", "3"]),
    ("net.ipv4.tcp_fin_timeout", &["1", "60"]),
    ("net.core.somaxconn", &["0", "1", "4096"]),
    ("net.ipv4.tcp_max_syn_backlog", &["0", "1", "4096"]),
    ("net.ipv4.tcp_syncookies", &["0", "1", "2"]),
    ("net.ipv4.tcp_abort_on_overflow", &["0", "1"]),
    ("net.ipv4.tcp_max_orphans", &["0", "4096"]),
    ("net.ipv4.tcp_max_tw_buckets", &["0", "1", "4096"]),
    ("net.ipv4.tcp_tw_reuse", &["0", "1", "2"]),
    ("net.ipv4.ip_local_port_range", &["1024 1030", "32768 60999"]),
    ("net.ipv4.ipfrag_high_thresh", &["0", "4000", "4194304"]),
    ("stackd.clock_hz", &["0", "100", "1000"]),
    ("net.ipv4.neigh.default.gc_thresh3", &["1", "1024"]),
];

fn operate(bed: &mut Bed, r: &mut Reader<'_>) {
    let now = bed.now;
    match r.u8() % 4 {
        0 | 1 => {
            let (key, values) = r.pick(&KEYS);
            let _ = bed.stack.sysctl_set(now, key, r.pick(values), &mut bed.store);
        }
        2 => {
            let text = r.pick(&[
                "fq",
                "pfifo_fast",
                "fq limit 10",
                "fq flow_limit 2",
                "pfifo limit 3",
                "netem delay 5ms loss 10%",
                "netem duplicate 50% corrupt 10% reorder 20% delay 1ms",
                "noqueue",
                "tbf rate 1mbit burst 2000 limit 5000",
            ]);
            if let Ok(config) = text.parse::<QdiscConfig>() {
                let _ = bed.stack.replace_qdisc(now, bed.port, &config);
            }
        }
        _ => {
            let v6 = r.flip();
            let options = RouteOptions {
                congctl: r.flip().then(|| CcName::new("bbr")).flatten(),
                rto_min: r.flip().then(|| Duration::from_micros(u64::from(r.u16()))),
                initcwnd: r.flip().then(|| u32::from(r.u16())),
                initrwnd: r.flip().then(|| u32::from(r.u16())),
                advmss: r.flip().then(|| r.u16()),
                mtu: r.flip().then(|| u32::from(r.u16())),
                mtu_lock: r.flip(),
                hoplimit: None,
                quickack: r.flip(),
                pref: r.pick(&[-1, 0, 1]),
            };
            let dst = Prefix::new(theirs(v6), if v6 { 128 } else { 32 }).expect("a prefix");
            let kind = r.pick(&[RouteType::Unicast, RouteType::Unicast, RouteType::Blackhole, RouteType::Unreachable]);
            let port = (kind == RouteType::Unicast).then_some(bed.port);
            let route =
                Route { dst, kind, gateway: None, port, src: None, metric: 0, origin: RouteOrigin::Static, options };
            if r.u8() % 3 == 0 {
                let _ = bed.stack.ip_mut().remove_route(dst, |_| true);
            } else {
                let _ = bed.stack.add_route(route, true);
            }
        }
    }
}

fn mutate(frame: &mut Vec<u8>, r: &mut Reader<'_>) {
    for _ in 0..r.u8() % 4 + 1 {
        let at = usize::from(r.u16());
        let n = frame.len().max(1);
        match r.u8() % 3 {
            0 => frame.truncate(at % n),
            _ => {
                if let Some(b) = frame.get_mut(at % n) {
                    *b = r.u8();
                }
            }
        }
    }
}

const STEPS: [u64; 8] =
    [1_000, 1_000_000, 40_000_000, 200_000_000, 1_000_000_000, 5_000_000_000, 61_000_000_000, 7_300_000_000_000];

fuzz_target!(|data: &[u8]| {
    let mut r = Reader(data);
    let mut bed = Bed::new(&mut r);
    for _ in 0..300 {
        if r.is_empty() {
            break;
        }
        let op = r.u8();
        match op % 20 {
            0..=4 => {
                let frame = bed.peer.tcp(&mut r);
                bed.receive(&frame, &mut r);
            }
            5 => {
                let frame = bed.peer.udp(&mut r);
                bed.receive(&frame, &mut r);
            }
            6 => {
                let frame = bed.peer.icmp(&mut r);
                bed.receive(&frame, &mut r);
            }
            7 => {
                let n = usize::from(r.u8());
                let frame = r.bytes(n).to_vec();
                bed.receive(&frame, &mut r);
            }
            8 => {
                let mut frame = if r.flip() { bed.last_in.clone() } else { bed.peer.last.clone() };
                mutate(&mut frame, &mut r);
                bed.receive(&frame, &mut r);
            }
            9..=11 => {
                let (most, hold) = (usize::from(r.u8() % 32), r.flip());
                bed.transmit(most, hold);
            }
            12 => bed.loopback(usize::from(r.u8())),
            13 | 14 => {
                let span = Duration::from_nanos(r.pick(&STEPS));
                bed.pass(span);
            }
            15 => {
                for p in core::mem::take(&mut bed.held) {
                    bed.stack.handle_tx_complete(bed.now, &p);
                }
            }
            16 => operate(&mut bed, &mut r),
            _ => call(&mut bed, &mut r),
        }
        // Not after each: what piles up between two polls is a case of its own.
        if op & 0x80 == 0 {
            bed.check();
        }
    }
    bed.check();
    finish(&mut bed);
});

/// Everything is closed; nobody answers. Nothing may be left in the end, and the end must come.
fn finish(bed: &mut Bed) {
    while let Some(sock) = bed.socks.pop() {
        let _ = bed.stack.close(bed.now, sock, &mut bed.store);
    }
    let _ = bed.stack.replace_qdisc(bed.now, bed.port, &QdiscConfig::default_of("fq").expect("fq exists"));
    for p in core::mem::take(&mut bed.held) {
        bed.stack.handle_tx_complete(bed.now, &p);
    }
    // Pacing may send what is left in one segment a timer. Each goes out at most a few times; timers without a packet lead to the end.
    let (mut packets, mut quiet) = (0, 0);
    while packets < 1_000_000 && quiet < 2000 {
        let moved = bed.loopback(usize::MAX) + bed.transmit(usize::MAX, false);
        packets += moved;
        quiet += u32::from(moved == 0);
        bed.check();
        let (sockets, orphans, waiting) = bed.stack.socket_counts();
        if sockets == 0 && waiting == 0 {
            assert_eq!(orphans, 0, "orphans without sockets");
            assert!(bed.store.is_empty(), "buffers without sockets");
            assert_eq!(bed.stack.tcp_memory(), 0, "memory accounted to nobody");
            return;
        }
        let Some(next) = bed.stack.next_deadline() else {
            panic!(
                "sockets are left and nothing will ever happen: {:#?}",
                bed.stack.sockets(bed.now).collect::<Vec<_>>()
            );
        };
        bed.now = bed.now.max(next) + Duration::from_nanos(1);
        bed.stack.handle_timers(bed.now, &mut bed.store);
    }
    panic!(
        "closed sockets never end: {:?} {:#?}",
        bed.stack.sockets(bed.now).map(|s| (s.sock, s.state, s.timer)).collect::<Vec<_>>(),
        bed.stack.connections().collect::<Vec<_>>()
    );
}
