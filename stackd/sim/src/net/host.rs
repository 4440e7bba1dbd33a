//! A host that runs the whole stack: `netstack::Stack` as the daemon runs it, programs that call it as the daemon's clients do.

use super::app::{Outcome, Plan, Program};
use super::node::{Node, Wrong};
use super::packet::IpPacket;
use super::watch::Watch;
use stackd_base::{Bandwidth, Duration, Errno, Instant, PortId, SockId};
use stackd_netstack::addr::{Address, Prefix, Scope};
use stackd_netstack::port::{PortCaps, PortConfig};
use stackd_netstack::route::{Route, RouteOptions, RouteOrigin, RouteType};
use stackd_netstack::{Domain, HeapStore, OwnerId, RxMeta, SocketKind, Stack, StackConfig};
use stackd_qdisc::QdiscConfig;
use stackd_tcp::Positions;
use stackd_wire::{MacAddr, Offload};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What is to happen on a host at some time.
#[derive(Clone, PartialEq, Debug)]
pub enum Task {
    /// Connect so many sockets to an address; each is a program with this plan.
    Connect {
        /// Flow.
        flow: u16,
        /// Where to.
        to: SocketAddr,
        /// Port of our own, where the peer must know it.
        from_port: Option<u16>,
        /// How many.
        count: u16,
        /// Speaks as the client of the flow (both ends may connect).
        as_client: bool,
        /// What to do.
        plan: Plan,
        /// Options set before.
        options: Vec<SockOption>,
    },
    /// Listen; each connection accepted is a program with this plan.
    Listen {
        /// Flow.
        flow: u16,
        /// Port.
        port: u16,
        /// Backlog.
        backlog: i32,
        /// What to do.
        plan: Plan,
        /// Options set on the listener.
        options: Vec<SockOption>,
    },
    /// Write a sysctl.
    Sysctl(String, String),
    /// Replace the default route: what connections keep of it is decided anew.
    Reroute {
        /// Its `mtu`.
        mtu: Option<u32>,
    },
    /// Another queue in front of the device.
    Qdisc(QdiscConfig),
    /// Set an option on every open socket.
    SetOption(SockOption),
    /// From now on the host neither hears nor says anything.
    Vanish,
}

/// An integer option, or bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SockOption {
    /// `SOL_*`.
    pub level: i32,
    /// `SO_*`, `TCP_*`.
    pub option: i32,
    /// Value.
    pub value: Vec<u8>,
}

impl SockOption {
    /// An `int`.
    pub fn int(level: i32, option: i32, value: i32) -> Self {
        Self { level, option, value: value.to_ne_bytes().to_vec() }
    }
}

#[derive(Debug)]
struct Listening {
    flow: u16,
    sock: SockId,
    plan: Plan,
    accepted: u16,
}

/// A host.
#[derive(Debug)]
pub struct Host {
    stack: Stack,
    store: HeapStore,
    port: PortId,
    mtu: usize,
    addresses: [IpAddr; 2],
    programs: Vec<Program>,
    listening: Vec<Listening>,
    /// Latest last.
    tasks: Vec<(Instant, Task)>,
    gone: bool,
    watch: Watch,
    seen: HashMap<SockId, Seen>,
    /// A task failed, or a packet could not be made.
    wrong: Option<Wrong>,
}

/// A connection as it was at the last check.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Positions,
    /// Right edge of the largest window that the peer ever offered, in send positions.
    send_edge: u64,
}

const OWNER: OwnerId = OwnerId(1);

/// How a host is made.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Addresses.
    pub v4: Ipv4Addr,
    /// Addresses.
    pub v6: Ipv6Addr,
    /// MTU of its interface.
    pub mtu: u32,
    /// Its own randomness.
    pub seed: u64,
    /// Queue in front of its device.
    pub qdisc: QdiscConfig,
    /// What is to happen, in any order.
    pub tasks: Vec<(Instant, Task)>,
}

impl Host {
    /// A host with one interface and a default route.
    ///
    /// # Errors
    /// What of the configuration the stack refuses.
    pub fn new(now: Instant, config: HostConfig) -> Result<Self, Wrong> {
        let mut stack = Stack::new(StackConfig::default(), config.seed);
        stack.add_loopback();
        let port = stack.add_port(PortConfig {
            name: String::from("eth0"),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: config.mtu,
            loopback: false,
            caps: PortCaps { tx_csum: true, tso_max: 0, uso: false, ethernet: false },
        });
        let addresses = [IpAddr::V4(config.v4), IpAddr::V6(config.v6)];
        for addr in addresses {
            let prefix_len = if addr.is_ipv4() { 32 } else { 128 };
            let a = Address { addr, prefix_len, scope: Scope::of(addr), port, secondary: false, deprecated: false };
            if !stack.add_address(a) {
                return Err(format!("address {addr} refused"));
            }
        }
        stack.replace_qdisc(now, port, &config.qdisc).map_err(|e| e.to_string())?;
        let mut tasks = config.tasks;
        // Those of one time stay in order when taken from the end.
        tasks.reverse();
        tasks.sort_by_key(|t| std::cmp::Reverse(t.0));
        let mut host = Self {
            stack,
            store: HeapStore::default(),
            port,
            mtu: config.mtu as usize,
            addresses,
            programs: Vec::new(),
            listening: Vec::new(),
            tasks,
            gone: false,
            watch: Watch::default(),
            seen: HashMap::new(),
            wrong: None,
        };
        host.route(None)?;
        Ok(host)
    }

    fn route(&mut self, mtu: Option<u32>) -> Result<(), Wrong> {
        for (addr, len) in [(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0)] {
            let dst = Prefix::new(addr, len).ok_or("no prefix")?;
            let route = Route {
                dst,
                kind: RouteType::Unicast,
                gateway: None,
                port: Some(self.port),
                src: None,
                metric: 0,
                origin: RouteOrigin::Static,
                options: RouteOptions { mtu, ..RouteOptions::default() },
            };
            self.stack.add_route(route, true).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn run_task(&mut self, now: Instant, task: Task) -> Result<(), Wrong> {
        match task {
            Task::Connect { flow, to, from_port, count, as_client, plan, options } => {
                for index in 0..count {
                    let sock = self.connect(now, to, from_port, &options)?;
                    self.programs.push(Program::new(now, sock, flow, index, as_client, plan));
                }
            }
            Task::Listen { flow, port, backlog, plan, options } => {
                let sock = self.socket(now, false, &options)?;
                let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
                self.stack.bind(sock, any).map_err(|e| format!("bind({any}): {e:?}"))?;
                self.stack.listen(sock, backlog).map_err(|e| format!("listen({any}): {e:?}"))?;
                self.listening.push(Listening { flow, sock, plan, accepted: 0 });
            }
            Task::Sysctl(name, value) => {
                self.stack.sysctl_set(now, &name, &value, &mut self.store).map_err(|e| e.to_string())?;
            }
            Task::Reroute { mtu } => self.route(mtu)?,
            Task::Qdisc(config) => {
                self.stack.replace_qdisc(now, self.port, &config).map_err(|e| e.to_string())?;
            }
            Task::SetOption(o) => {
                let open: Vec<SockId> = self.programs.iter().filter_map(|p| p.sock).collect();
                for sock in open {
                    self.set(now, sock, &o)?;
                }
            }
            Task::Vanish => self.gone = true,
        }
        Ok(())
    }

    fn socket(&mut self, now: Instant, v4: bool, options: &[SockOption]) -> Result<SockId, Wrong> {
        let domain = if v4 { Domain::V4 } else { Domain::V6 };
        let sock = self.stack.socket(now, domain, SocketKind::Stream, OWNER, &mut self.store);
        let sock = sock.map_err(|e| format!("socket: {e:?}"))?;
        for o in options {
            self.set(now, sock, o)?;
        }
        Ok(sock)
    }

    fn set(&mut self, now: Instant, sock: SockId, o: &SockOption) -> Result<(), Wrong> {
        let done = self.stack.set_option(now, sock, o.level, o.option, &o.value, &mut self.store);
        done.map_err(|e| format!("setsockopt({}, {}, {:?}): {e:?}", o.level, o.option, o.value))
    }

    fn connect(
        &mut self,
        now: Instant,
        to: SocketAddr,
        from_port: Option<u16>,
        options: &[SockOption],
    ) -> Result<SockId, Wrong> {
        let sock = self.socket(now, to.is_ipv4(), options)?;
        if let Some(port) = from_port {
            let from = SocketAddr::new(self.addresses[usize::from(to.is_ipv6())], port);
            self.stack.bind(sock, from).map_err(|e| format!("bind({from}): {e:?}"))?;
        }
        match self.stack.connect(now, sock, to, &mut self.store) {
            // TCP_FASTOPEN_CONNECT: the SYN waits for data.
            Err(Errno::EINPROGRESS) | Ok(()) => {}
            other @ Err(_) => return Err(format!("connect({to}): {other:?}")),
        }
        for o in options.iter().filter(|o| (o.level, o.option) == (SOL_SOCKET, SO_MAX_PACING_RATE)) {
            if let (Ok(value), Ok(local)) = (<[u8; 8]>::try_from(&o.value[..]), self.stack.local_addr(sock)) {
                self.watch.limit(now, local, to, Bandwidth::from_bytes_per_sec(u64::from_ne_bytes(value)));
            }
        }
        Ok(sock)
    }

    fn accept(&mut self, now: Instant) -> bool {
        let mut worked = false;
        for l in &mut self.listening {
            while let Ok((sock, _)) = self.stack.accept(now, l.sock, &mut self.store) {
                self.programs.push(Program::new(now, sock, l.flow, l.accepted, false, l.plan));
                l.accepted += 1;
                worked = true;
            }
        }
        worked
    }

    fn transmit(&mut self, now: Instant, out: &mut Vec<IpPacket>) -> Result<bool, Wrong> {
        let mut worked = false;
        while let Some(p) = self.stack.poll_loopback(now, &mut self.store) {
            self.stack.handle_loopback(now, p, &mut self.store);
            worked = true;
        }
        while let Some(p) = self.stack.poll_transmit(now, self.port, &mut self.store) {
            worked = true;
            // A queue that took packets over from fq lets them go when it likes.
            let paces = self.stack.ip().port(self.port).is_some_and(|p| p.qdisc().paces());
            if paces && p.departure.is_some_and(|d| d > now) {
                return Err(format!("a packet for {:?} leaves at {now:?}", p.departure));
            }
            let bytes = self.store.payload(&p.payload).ok_or("a packet leaves whose bytes are gone")?;
            let mut frame = Vec::new();
            p.write_frame(&bytes, &mut frame);
            let packet = IpPacket::new(frame.split_off(usize::from(p.network_at)));
            self.stack.handle_tx_complete(now, &p);
            self.watch.outgoing(now, &packet, self.mtu)?;
            out.push(packet);
        }
        Ok(worked)
    }

    /// None of what only grows went back, and nothing was sent beyond what the peer offered.
    fn check_progress(&mut self) -> Result<(), Wrong> {
        for (sock, c) in self.stack.connections() {
            let at = c.positions();
            let edge = at.snd_una + at.snd_wnd;
            let seen = self.seen.entry(sock).or_insert(Seen { at, send_edge: edge });
            let before = seen.at;
            let back = at.snd_una < before.snd_una
                || at.snd_nxt < before.snd_nxt
                || at.rcv_nxt < before.rcv_nxt
                || at.rcv_edge < before.rcv_edge
                || at.acked_to < before.acked_to;
            if back {
                return Err(format!("{sock:?}: went back from {before:?} to {at:?}"));
            }
            // What was sent now was sent into the largest window ever seen; the SYN takes none.
            seen.send_edge = seen.send_edge.max(edge).max(before.snd_una + before.snd_wnd);
            if at.snd_nxt > seen.send_edge.max(1) && at.snd_nxt > before.snd_nxt {
                return Err(format!("{sock:?}: sent {at:?}, the peer never offered more than {}", seen.send_edge));
            }
            seen.at = at;
        }
        if self.seen.len() > 2 * self.programs.len() + 64 {
            let Self { seen, stack, .. } = self;
            seen.retain(|sock, _| stack.connection(*sock).is_some());
        }
        Ok(())
    }

    /// The stack, for what is not asked often.
    pub const fn stack(&self) -> &Stack {
        &self.stack
    }
}

impl Node for Host {
    fn receive(&mut self, now: Instant, packet: IpPacket) {
        if self.gone {
            return;
        }
        self.watch.incoming(&packet);
        let meta = RxMeta { at: now, offload: Offload::default() };
        self.stack.handle_frame(now, self.port, packet.bytes(), &[][..], 0, meta, &mut self.store);
    }

    fn handle_timeout(&mut self, now: Instant) {
        while self.tasks.last().is_some_and(|t| t.0 <= now) {
            let Some((_, task)) = self.tasks.pop() else { break };
            if let Err(e) = self.run_task(now, task.clone()) {
                self.wrong.get_or_insert(format!("{task:?}: {e}"));
            }
        }
        self.stack.handle_timers(now, &mut self.store);
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<IpPacket>) -> Result<(), Wrong> {
        for round in 0.. {
            // Others' timers may be due at the instant of a packet, and a call may want one at once.
            self.stack.handle_timers(now, &mut self.store);
            let mut worked = self.accept(now);
            let Self { programs, stack, store, .. } = self;
            for p in programs.iter_mut().filter(|p| p.sock.is_some()) {
                worked |= p.step(now, stack, store)?;
            }
            worked |= self.transmit(now, out)?;
            while self.stack.poll_event().is_some() {}
            if !worked {
                break;
            }
            if round > 1_000_000 {
                return Err(String::from("the host does not come to rest"));
            }
        }
        if self.gone {
            out.clear();
        }
        self.wrong.take().map_or(Ok(()), Err)
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let programs = self.programs.iter().filter_map(|p| p.next_deadline(now)).min();
        let task = self.tasks.last().map(|t| t.0);
        [programs, task, self.stack.next_deadline()].into_iter().flatten().min()
    }

    fn check(&mut self, now: Instant) -> Result<(), Wrong> {
        self.stack.check_invariants(now)?;
        self.check_progress()
    }

    fn is_finished(&self) -> bool {
        let to_come = self.tasks.iter().any(|(_, t)| matches!(t, Task::Connect { .. } | Task::Listen { .. }));
        !to_come && self.programs.iter().all(|p| p.sock.is_none())
    }

    fn outcomes(&self, flow: u16) -> Vec<Outcome> {
        self.programs.iter().filter(|p| p.flow == flow).map(Program::outcome).collect()
    }

    fn check_empty(&mut self, now: Instant) -> Result<(), Wrong> {
        for l in std::mem::take(&mut self.listening) {
            self.stack.close(now, l.sock, &mut self.store).map_err(|e| format!("closing a listener: {e:?}"))?;
        }
        self.stack.check_invariants(now)?;
        self.stack.check_empty()?;
        if !self.store.is_empty() {
            return Err(format!("{} FIFO pairs are left", self.store.len()));
        }
        Ok(())
    }
}

/// Orphans and FIN_WAIT_2 take a while after the last program is gone; TIME_WAIT takes a minute.
pub const AFTERMATH: Duration = Duration::from_secs(1500);

const SOL_SOCKET: i32 = 1;
const SO_MAX_PACING_RATE: i32 = 47;
