//! Our stack against smoltcp in the same simulation: another implementation's idea of TCP, with loss, reordering and duplication between the two,
//! either side connecting, every order of closing.

mod peer;

use peer::{Close, Job, Smoltcp};
use stackd_base::{Bandwidth, Duration, Instant, Rng, SplitMix64};
use stackd_qdisc::QdiscConfig;
use stackd_sim::net::app::{Ending, Plan, Reading, Writing};
use stackd_sim::net::{AFTERMATH, Host, HostConfig, Node, Stage, Task, World};
use stackd_sim::scenario::describe;
use stackd_sim::{Link, LinkConfig, Loss, Probability};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const START: Instant = Instant::from_nanos(1_000_000_000);

/// Our host is 1, smoltcp's 2.
fn address(n: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(10, 0, 0, n), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)))
}

#[derive(Debug)]
struct Case {
    seed: u64,
    v6: bool,
    we_connect: bool,
    timestamps: bool,
    /// Bytes that we and that smoltcp write.
    bytes: (u64, u64),
    ending: Ending,
    reading: Reading,
    job: Job,
    mtu: u32,
    link: LinkConfig,
    sysctls: Vec<(&'static str, &'static str)>,
}

fn case(seed: u64) -> Case {
    let mut r = SplitMix64::new(seed);
    let chance = |r: &mut SplitMix64, most: u32| Probability::from_fraction(f64::from(r.below(most)) / 1000.0);
    // Every order of magnitude as likely as another, down from `most`.
    let magnitude = |r: &mut SplitMix64, most: u32, octaves: u32| {
        let shift = r.below(octaves);
        r.below(most) >> shift
    };
    let size = |r: &mut SplitMix64| u64::from(magnitude(r, 100_000, 17));
    let (v6, we_connect) = (r.below(2) == 0, r.below(2) == 0);
    let delay = Duration::from_micros(u64::from(1 + magnitude(&mut r, 50_000, 12)));
    let link = LinkConfig {
        rate: Some(Bandwidth::from_bits_per_sec(u64::from(500_000 + magnitude(&mut r, 1_000_000_000, 10)))),
        delay,
        jitter: delay / u64::from(1 + r.below(8)),
        loss: Loss::Random(chance(&mut r, 60)),
        reorder: chance(&mut r, 80),
        reorder_by: delay / 2 + Duration::from_micros(100),
        duplicate: chance(&mut r, 60),
        corrupt: chance(&mut r, 20),
        ..LinkConfig::default()
    };
    let bytes = (size(&mut r), size(&mut r));
    let close = match r.below(6) {
        0 => Close::Abort(1 + size(&mut r)),
        1 | 2 => Close::Second,
        _ => Close::First,
    };
    let ending = match r.below(8) {
        0 => Ending::Abort(1 + size(&mut r)),
        1 => Ending::Abrupt,
        _ => Ending::Polite,
    };
    let reading = match r.below(6) {
        0 => Reading::Slowly { bytes: 1000, every: Duration::from_millis(u64::from(1 + r.below(30))) },
        1 => Reading::Late(Duration::from_millis(u64::from(r.below(3000)))),
        _ => Reading::AtOnce,
    };
    let local = address(1);
    let to = SocketAddr::new(if v6 { local.1.into() } else { local.0.into() }, 80);
    let job = Job {
        connect: (!we_connect).then_some((START + Duration::from_millis(1), to)),
        total: bytes.1,
        read_at_most: 1 + r.below(10_000) as usize,
        close,
        nagle: r.below(2) == 0,
        buffers: 1 << (9 + r.below(9)),
    };
    const SYSCTLS: [(&str, &str); 8] = [
        ("net.ipv4.tcp_congestion_control", "bbr"),
        ("net.ipv4.tcp_congestion_control", "reno"),
        ("net.ipv4.tcp_sack", "0"),
        ("net.ipv4.tcp_timestamps", "0"),
        ("net.ipv4.tcp_window_scaling", "0"),
        ("net.ipv4.tcp_ecn", "1"),
        ("net.ipv4.tcp_rmem", "4096 8192 16384"),
        ("net.ipv4.tcp_wmem", "4096 8192 16384"),
    ];
    let sysctls = (0..r.below(3)).map(|_| SYSCTLS[r.below(8) as usize]).collect();
    let mtu = [576, 1280, 1500, 9000][if v6 { 1 + r.below(3) } else { r.below(4) } as usize];
    Case { seed, v6, we_connect, timestamps: r.below(2) == 0, bytes, ending, reading, job, mtu, link, sysctls }
}

impl Case {
    fn our_host(&self) -> Host {
        let mut tasks: Vec<(Instant, Task)> = ["tcp_syn_retries", "tcp_synack_retries", "tcp_orphan_retries"]
            .iter()
            .map(|n| (START, Task::Sysctl(format!("net.ipv4.{n}"), "15".into())))
            .collect();
        tasks.extend(self.sysctls.iter().map(|&(n, v)| (START, Task::Sysctl(n.into(), v.into()))));
        let writing =
            Writing { total: self.bytes.0, chunk: 10_000, gap: Duration::ZERO, dialogue: None, urgent: false };
        let plan = Plan { writing, reading: self.reading, ending: self.ending };
        let (v4, v6) = address(2);
        let to = SocketAddr::new(if self.v6 { v6.into() } else { v4.into() }, 80);
        tasks.push(if self.we_connect {
            let at = START + Duration::from_millis(1);
            (at, Task::Connect { flow: 0, to, from_port: None, count: 1, as_client: true, plan, options: vec![] })
        } else {
            (START, Task::Listen { flow: 0, port: 80, backlog: 8, plan, options: vec![] })
        });
        let (v4, v6) = address(1);
        let qdisc = QdiscConfig::default_of("fq").expect("fq");
        Host::new(START, HostConfig { v4, v6, mtu: self.mtu, seed: self.seed, qdisc, tasks }).expect("a host")
    }

    fn run(&self, trace: bool) -> Result<u64, String> {
        let links = [Link::new(self.link, self.seed ^ 1), Link::new(self.link, self.seed ^ 2)];
        let mut world = World::new(START, vec![Stage::Wire(Box::new(links))]);
        if trace {
            world.set_trace(|at, host, leaves, p| {
                println!("{at:?} host {host} {} {}", if leaves { "out" } else { " in" }, describe(p))
            });
        }
        let (a, b) = (address(1), address(2));
        let ips = |a: (Ipv4Addr, Ipv6Addr)| [IpAddr::V4(a.0), IpAddr::V6(a.1)];
        let theirs = Smoltcp::new(START, ips(b), self.mtu as usize, self.seed, self.timestamps, self.job);
        let nodes: [(Box<dyn Node>, bool, _); 2] = [(Box::new(self.our_host()), true, a), (Box::new(theirs), false, b)];
        for (node, left, at) in nodes {
            let access = || Link::new(LinkConfig::default(), 0);
            world.attach(node, left, &ips(at), [access(), access()]);
        }
        // smoltcp's socket has no limit of its own: a peer that aborted and whose RST was lost leaves it alone for ever.
        let orderly = self.ending == Ending::Polite && !matches!(self.job.close, Close::Abort(_));
        let bound = START + Duration::from_secs(3000);
        let mut at = START;
        while at < bound && !(world.is_finished() || !orderly && world.node(0).is_finished()) {
            at += Duration::from_secs(10);
            world.run(at, 3_000_000).map_err(|f| f.to_string())?;
        }
        let ours = world.node(0).outcomes(0);
        let theirs = world.node(1).outcomes(0)[0];
        if orderly {
            let whole = |o: &stackd_sim::net::app::Outcome| o.eof && o.error.is_none() && o.read == self.bytes.1;
            if !ours.iter().any(whole) || theirs.read != self.bytes.0 || !theirs.eof || !world.is_finished() {
                return Err(format!("ours {ours:?}, smoltcp's {theirs:?}, finished: {}", world.is_finished()));
            }
        } else if !world.node(0).is_finished() {
            return Err(format!("ours still waits: {ours:?}, smoltcp's {theirs:?}"));
        }
        let end = world.now() + AFTERMATH;
        world.run(end, 3_000_000).map_err(|f| f.to_string())?;
        world.check_empty().map_err(|f| f.to_string())?;
        Ok(world.events())
    }
}

#[test]
fn two_implementations_understand_each_other() {
    let (mut events, mut wrong) = (0, Vec::new());
    let seeds = std::env::var("STACKD_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    for seed in 0..seeds {
        match case(seed).run(false) {
            Ok(n) => events += n,
            Err(e) => wrong.push(format!("seed {seed}: {e}\n  rerun: STACKD_SIM_SEED={seed} cargo test -p stackd-sim --test smoltcp one_seed -- --nocapture")),
        }
    }
    println!("{events} events");
    assert!(wrong.is_empty(), "{} of {seeds} go wrong:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
}

/// Runs the seed named in the environment; seed 0 without.
#[test]
fn one_seed() {
    let seed = std::env::var("STACKD_SIM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let case = case(seed);
    println!("{case:#?}");
    case.run(true).unwrap_or_else(|e| panic!("{e}"));
}
