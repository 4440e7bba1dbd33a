//! A scenario becomes a world, runs, and is judged.

use super::generate::{START, VANISH};
use super::kinds::{BoxKind, Flow, FlowEnd, Kind};
use super::{Scenario, Side};
use crate::link::{Link, LinkConfig};
use crate::loss::Loss;
use crate::net::middlebox::{
    AckCompressor, AckThinner, BlackHole, Bleacher, Coalescer, Dir, Marker, Middlebox, Nat, OptionStripper, Outage,
    PoliteRouter, Splitter,
};
use crate::net::{AFTERMATH, Failure, Host, HostConfig, IpPacket, Stage, Task, World};
use serde::Serialize;
use stackd_base::{Duration, Instant, Rng};
use stackd_qdisc::QdiscConfig;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Within this virtual time everything must have ended.
const BOUND: Duration = Duration::from_secs(2 * 3600);

/// What happened in a scenario in which nothing was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Verdict {
    /// Events simulated; after each one everything was checked.
    pub events: u64,
    /// Packets that hosts sent.
    pub packets: u64,
    /// Connections that began.
    pub connections: u64,
    /// Of them with an orderly end on both sides.
    pub complete: u64,
    /// Bytes read by programs.
    pub bytes: u64,
    /// Most events there may have been, for what there was to do.
    pub most_events: u64,
    /// Virtual time until the last program was gone, milliseconds.
    pub virtual_ms: u64,
}

impl std::ops::AddAssign for Verdict {
    fn add_assign(&mut self, o: Self) {
        let Self { events, packets, connections, complete, bytes, most_events, virtual_ms } = o;
        self.events += events;
        self.packets += packets;
        self.connections += connections;
        self.complete += complete;
        self.bytes += bytes;
        self.most_events += most_events;
        self.virtual_ms += virtual_ms;
    }
}

impl Scenario {
    /// Runs it.
    ///
    /// # Errors
    /// The first thing that must never be.
    pub fn run(&self) -> Result<Verdict, Failure> {
        self.run_traced(None)
    }

    /// Runs it and tells of every packet at a host's wire.
    ///
    /// # Errors
    /// The first thing that must never be.
    pub fn run_traced(&self, trace: Option<fn(Instant, usize, bool, &IpPacket)>) -> Result<Verdict, Failure> {
        let mut world = self.world()?;
        if let Some(trace) = trace {
            world.set_trace(trace);
        }
        let most_events = self.most_events();
        let mut at = START;
        while !world.is_finished() {
            if at - START > BOUND {
                let what = format!("programs still wait after {BOUND:?}: {}", self.unfinished(&world));
                return Err(Failure { at, node: None, what });
            }
            at += if at - START < Duration::from_secs(10) { Duration::from_secs(1) } else { Duration::from_secs(60) };
            world.run(at, most_events)?;
        }
        let ended = world.now();
        let mut verdict = self.judge(&world)?;
        world.run(ended + AFTERMATH, most_events)?;
        world.check_empty()?;
        verdict.events = world.events();
        verdict.packets = world.packets();
        verdict.most_events = most_events;
        verdict.virtual_ms = (ended - START).as_millis();
        Ok(verdict)
    }

    /// What of it fails, which is expected to be whole.
    fn judge(&self, world: &World) -> Result<Verdict, Failure> {
        let mut v = Verdict::default();
        for f in &self.flows {
            let client = world.node(usize::from(f.hosts.0)).outcomes(f.id);
            let server = world.node(usize::from(self.clients + f.hosts.1)).outcomes(f.id);
            let whole = |o: &crate::net::app::Outcome, writes: u64, reads: u64| {
                o.connected && o.error.is_none() && !o.gave_up && o.eof && (o.written, o.read) == (writes, reads)
            };
            let (up, down) = (f.client.writing.total, f.server.writing.total);
            let complete = client.iter().filter(|o| whole(o, up, down)).count();
            let served = server.iter().filter(|o| whole(o, down, up)).count();
            v.connections += client.len() as u64;
            v.complete += complete.min(served) as u64;
            v.bytes += client.iter().chain(&server).map(|o| o.read).sum::<u64>();
            let wanted = usize::from(f.connections);
            if self.expects(f) == FlowEnd::Complete && (complete != wanted || served < wanted) {
                let bad = client.iter().find(|o| !whole(o, up, down));
                let bad_server = server.iter().find(|o| !whole(o, down, up));
                let what = format!(
                    "flow {}: {complete} and {served} of {wanted} connections complete ({up} and {down} bytes): {bad:?}, {bad_server:?}",
                    f.id
                );
                return Err(Failure { at: world.now(), node: None, what });
            }
        }
        Ok(v)
    }

    /// How a flow ought to end in this scenario.
    pub fn expects(&self, f: &Flow) -> FlowEnd {
        // A black hole excuses those who do not look for it.
        let probes = [Side::Clients, Side::Servers].iter().all(|s| self.tunings.iter().any(|t| t.probes(*s)));
        let hole = |k: &Kind| !probes && matches!(k, Kind::Box { kind: BoxKind::BlackHole(..), .. });
        let excused = !f.is_polite()
            || self.impairments.iter().any(|i| i.label == VANISH || hole(&i.kind))
            || self.tunings.iter().any(|t| t.may_fail);
        if excused && !self.expect_all_complete { FlowEnd::Ends } else { FlowEnd::Complete }
    }

    /// Events that what there is to do may cost: a generous multiple of packets, so that only a loop exceeds it.
    fn most_events(&self) -> u64 {
        let mut packets = 2000;
        for f in &self.flows {
            for p in [&f.client, &f.server] {
                let smallest = 48;
                let w = p.writing.total;
                let segments = w.div_ceil(smallest) + w / u64::from(p.writing.chunk.max(1));
                packets += u64::from(f.connections) * (40 + segments);
                if let crate::net::app::Reading::Slowly { bytes, .. } = p.reading {
                    let (up, down) = (f.client.writing.total, f.server.writing.total);
                    packets += (up + down) / u64::from(bytes.max(1));
                }
            }
        }
        40 * packets
    }

    fn unfinished(&self, world: &World) -> String {
        let hosts = (0..world.nodes()).filter(|&n| !world.node(n).is_finished());
        let flows = |n: usize| {
            let of = self.flows.iter().flat_map(move |f| world.node(n).outcomes(f.id));
            of.collect::<Vec<_>>()
        };
        hosts.map(|n| format!("host {n}: {:?}", flows(n))).collect::<Vec<_>>().join("; ")
    }

    fn world(&self) -> Result<World, Failure> {
        let mut world = World::new(START, self.chain());
        let mut seeds = super::rng(self.seed, "hosts");
        for n in 0..self.clients + self.servers {
            let left = n < self.clients;
            let (v4, v6) = self.addresses(n);
            let config = HostConfig {
                v4,
                v6,
                mtu: self.mtu[usize::from(!left)],
                seed: seeds.next_u64(),
                qdisc: QdiscConfig::default_of("fq").unwrap_or(QdiscConfig::NoQueue),
                tasks: self.tasks(n),
            };
            let host = Host::new(START, config).map_err(|what| Failure { at: START, node: None, what })?;
            let access = LinkConfig { delay: self.rtt / 20, ..LinkConfig::default() };
            let access = [Link::new(access, seeds.next_u64()), Link::new(access, seeds.next_u64())];
            world.attach(Box::new(host), left, &[IpAddr::V4(v4), IpAddr::V6(v6)], access);
        }
        Ok(world)
    }

    /// Addresses of host `n`: clients come first.
    fn addresses(&self, n: u8) -> (Ipv4Addr, Ipv6Addr) {
        let (net, host) = if n < self.clients { (0, n + 1) } else { (1, n - self.clients + 1) };
        (Ipv4Addr::new(10, 0, net, host), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, u16::from(net), u16::from(host)))
    }

    fn address(&self, n: u8) -> IpAddr {
        let (v4, v6) = self.addresses(n);
        if self.v6 { IpAddr::V6(v6) } else { IpAddr::V4(v4) }
    }

    /// What happens on host `n`, and when.
    fn tasks(&self, n: u8) -> Vec<(Instant, Task)> {
        let mut out = Vec::new();
        // Enough attempts for the worst of bursts: giving up would be right, and is not what is asked here.
        for name in ["tcp_syn_retries", "tcp_synack_retries", "tcp_orphan_retries"] {
            out.push((START, Task::Sysctl(format!("net.ipv4.{name}"), String::from("15"))));
        }
        let client = n < self.clients;
        let mine = |t: &&super::Tuning| (t.side == Side::Clients) == client;
        out.extend(self.tunings.iter().filter(mine).filter_map(|t| t.task.clone()));
        let options: Vec<_> = self.tunings.iter().filter(mine).filter_map(|t| t.option.clone()).collect();
        for f in &self.flows {
            let port = 5000 + f.id;
            let own = if client { f.hosts.0 == n } else { f.hosts.1 == n - self.clients };
            if !own {
                continue;
            }
            let peer = if client { self.clients + f.hosts.1 } else { f.hosts.0 };
            let plan = if client { f.client } else { f.server };
            let options = options.clone();
            let task = if client || f.simultaneous {
                Task::Connect {
                    flow: f.id,
                    to: SocketAddr::new(self.address(peer), port),
                    from_port: f.simultaneous.then_some(port),
                    count: f.connections,
                    as_client: client,
                    plan,
                    options,
                }
            } else {
                Task::Listen { flow: f.id, port, backlog: 128, plan, options }
            };
            out.push((if client || f.simultaneous { f.start } else { START }, task));
        }
        out
    }

    fn chain(&self) -> Vec<Stage> {
        let mut seeds = super::rng(self.seed, "chain");
        let mut links = [LinkConfig::default(); 2];
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        // What joins segments stands at an end: what it makes is too large for the others.
        let mut ends = [None, None];
        for link in &mut links {
            link.rate = Some(self.rate);
            link.delay = self.rtt * 2 / 5;
        }
        for i in &self.impairments {
            if let Kind::Box { before: in_front, kind } = i.kind {
                if let BoxKind::Join(most, hold) = kind {
                    let towards = if in_front { Dir::Left } else { Dir::Right };
                    ends[usize::from(!in_front)] = Some(Stage::Box(Box::new(Coalescer::new(towards, most, hold))));
                    continue;
                }
                let stage = Stage::Box(self.middlebox(kind, super::rng(self.seed, i.label).next_u64()));
                // Translation comes first: what is behind it knows the clients by their public address.
                match (kind, in_front) {
                    (BoxKind::Nat, _) => before.insert(0, stage),
                    (_, true) => before.push(stage),
                    (_, false) => behind.push(stage),
                }
                continue;
            }
            for (n, link) in links.iter_mut().enumerate() {
                impair(link, i.kind, n);
            }
        }
        let [right, left] = links.map(|l| Link::new(l, seeds.next_u64()));
        before.push(Stage::Wire(Box::new([right, left])));
        before.append(&mut behind);
        let [left, right] = ends;
        left.into_iter().chain(before).chain(right).collect()
    }

    fn middlebox(&self, kind: BoxKind, seed: u64) -> Box<dyn Middlebox> {
        let public = (Ipv4Addr::new(10, 0, 2, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 2, 1));
        match kind {
            BoxKind::Nat => Box::new(Nat::new(public.0.into(), public.1.into())),
            BoxKind::Strip(strip) => Box::new(OptionStripper(strip)),
            BoxKind::ThinAcks(n, blind) => Box::new(AckThinner::new(n, blind)),
            BoxKind::CompressAcks(every) => Box::new(AckCompressor::new(every)),
            BoxKind::Split(most) => Box::new(Splitter::new(most)),
            BoxKind::Join(most, hold) => Box::new(Coalescer::new(Dir::Right, most, hold)),
            BoxKind::Bleach => Box::new(Bleacher),
            BoxKind::Mark(p) => Box::new(Marker::new(p, seed)),
            BoxKind::BlackHole(mtu, from) => Box::new(BlackHole::new(mtu, from)),
            BoxKind::SmallMtu(mtu, from) => Box::new(PoliteRouter::new(mtu, from)),
            BoxKind::Outage(from, to, holds) => Box::new(Outage::new(from, to, holds)),
        }
    }
}

/// What an impairment does to one direction of the bottleneck.
fn impair(link: &mut LinkConfig, kind: Kind, direction: usize) {
    match kind {
        Kind::Loss(right, left) => link.loss = Loss::Random(if direction == 0 { right } else { left }),
        Kind::Burst(g) => link.loss = Loss::Bursty(g),
        Kind::Reorder(p, by) => (link.reorder, link.reorder_by) = (p, by),
        Kind::Duplicate(p) => link.duplicate = p,
        Kind::Corrupt(p) => link.corrupt = p,
        Kind::Jitter(d) => link.jitter = d,
        Kind::Queue(bytes) => link.limit_bytes = Some(bytes),
        Kind::MarkingQueue(d) => link.ce_threshold = Some(d),
        Kind::Box { .. } => {}
    }
}

/// One line for a packet, as `tcpdump` would write it.
pub fn describe(packet: &IpPacket) -> String {
    let Some(s) = packet.segment() else {
        let (protocol, _) = packet.transport().unwrap_or_default();
        return format!("{:?} protocol {protocol}, {} bytes (damaged, if TCP)", packet.addresses(), packet.len());
    };
    let t = &s.tcp;
    let mut line = format!("{} > {} [{:?}] seq {}", s.src, s.dst, t.flags, t.seq.0);
    if !s.payload.is_empty() {
        line += &format!("..{} ({})", s.end().0, s.payload.len());
    }
    if let Some(ack) = t.ack {
        line += &format!(" ack {}", ack.0);
    }
    line += &format!(" win {}", t.window);
    let o = &t.options;
    if let Some(mss) = o.mss {
        line += &format!(" mss {mss} wscale {:?} sack {}", o.window_scale, o.sack_permitted);
    }
    if let Some(ts) = o.timestamps {
        line += &format!(" ts {} {}", ts.tsval, ts.tsecr);
    }
    for b in o.sack.iter() {
        line += &format!(" sack {}..{}", b.left.0, b.right.0);
    }
    line
}
