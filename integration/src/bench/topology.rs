//! Where a benchmark runs: this namespace is the Linux peer; a second one holds the native client, joined by veth; the
//! daemon's TAP ends in this one.

use super::placement::{self, End, Placement};
use crate::bins;
use crate::daemon::Daemon;
use crate::ns::Namespace;
use anyhow::{Context, Result};
use stackd_netdev::host;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// One of the two things compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// Through our daemon.
    Stackd = 0,
    /// Linux alone.
    Native = 1,
}

/// Namespaces, daemon and load program of a run.
#[derive(Debug)]
pub struct Topology {
    client_ns: Namespace,
    daemon: Daemon,
    load: PathBuf,
    cpus: Vec<usize>,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub addr: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PEER_VETH: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const CLIENT_VETH: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
const PEER_TAP: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const STACKD_TAP: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);

impl Topology {
    /// Builds it inside this process's namespace (see `ns::enter`).
    pub fn new(dir: &Path, extra_config: &str) -> Result<Self> {
        let client_ns = Namespace::new()?;
        host::veth_add("veth-peer", "veth-client", Some(client_ns.fd())).context("cannot make a veth pair")?;
        host::addr_add("veth-peer", PEER_VETH.into(), 24)?;
        host::link_up("veth-peer")?;
        client_ns.run(|| {
            host::addr_add("veth-client", CLIENT_VETH.into(), 24)?;
            Ok(host::link_up("veth-client")?)
        })?;
        // The same buffers on both sides of every comparison.
        for sysctls in ["/proc/sys/net/ipv4/tcp_wmem", "/proc/sys/net/ipv4/tcp_rmem"] {
            std::fs::write(sysctls, "4096 131072 67108864")?;
            client_ns.run(|| Ok(std::fs::write(sysctls, "4096 131072 67108864")?))?;
        }
        let config = format!(
            r#"
{extra_config}
[sysctl]
"net.ipv4.tcp_wmem" = "4096 131072 67108864"
"net.ipv4.tcp_rmem" = "4096 131072 67108864"

[[device]]
name = "tap0"
kind = "tap"
host_addresses = ["{PEER_TAP}/24"]
addresses = ["{STACKD_TAP}/24"]
qdisc = "fq"
"#
        );
        let daemon = Daemon::start(dir, "bench", &config)?;
        // Answered by the worker: now its thread runs and has its name.
        daemon.netctl(&["clients"])?;
        Ok(Self { client_ns, daemon, load: bins::path("load")?, cpus: placement::cpus()? })
    }

    /// The CPUs there are.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// Puts the daemon's worker on a CPU, or lets it go anywhere.
    pub fn place_worker(&self, cpu: Option<usize>) -> Result<()> {
        let worker = placement::thread_named(self.daemon.pid(), "shard0")?;
        placement::bind(Some(worker), cpu, &self.cpus)
    }

    /// Starts the load server that belongs to an arm.
    pub fn server(&self, arm: Arm, local: bool, placement: Placement) -> Result<Server> {
        let mut command = Command::new(&self.load);
        let on_stackd = (arm, local) == (Arm::Stackd, true);
        let addr = match (arm, local) {
            (Arm::Stackd, true) => STACKD_TAP,
            (Arm::Stackd, false) => PEER_TAP,
            (Arm::Native, true) => Ipv4Addr::LOCALHOST,
            (Arm::Native, false) => PEER_VETH,
        };
        if on_stackd {
            command.arg("--attach").arg(self.daemon.attach());
        } else {
            command.arg("--native");
        }
        command.args(placement.waits.flags(End::Server, !on_stackd));
        command.args(["serve", &format!("{addr}:0")]).stdout(Stdio::piped());
        let mut child = placement::bound(placement.server, &self.cpus, || Ok(command.spawn()?))?;
        let mut first = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut first)?;
        Ok(Server { child, addr: first.trim().to_owned() })
    }

    /// The client command of an arm, its mode still to be appended.
    pub fn client(&self, arm: Arm, placement: Placement) -> Command {
        let mut command = Command::new(&self.load);
        match arm {
            Arm::Stackd => command.arg("--attach").arg(self.daemon.attach()),
            Arm::Native => command.arg("--native"),
        };
        command.args(placement.waits.flags(End::Client, arm == Arm::Native));
        command
    }

    /// Runs a client where it belongs.
    pub fn output(&self, arm: Arm, local: bool, placement: Placement, command: &mut Command) -> Result<Output> {
        let mut run = || placement::bound(placement.client, &self.cpus, || Ok(command.output()?));
        if arm == Arm::Native && !local { self.client_ns.run(run) } else { run() }
    }

    /// Where an arm's client runs.
    pub fn spawn(&self, arm: Arm, command: &mut Command) -> Result<Child> {
        let mut run = || Ok(command.spawn()?);
        if arm == Arm::Native { self.client_ns.run(run) } else { run() }
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// The daemon's log, for error messages.
    pub fn daemon_log(&self) -> String {
        self.daemon.log()
    }
}

/// The address that an arm's client sends from to the Linux peer.
pub fn client_addr(arm: Arm) -> IpAddr {
    let addr: Ipv4Addr = match arm {
        Arm::Stackd => STACKD_TAP,
        Arm::Native => CLIENT_VETH,
    };
    addr.into()
}

/// CPU seconds that this whole machine has spent so far, interrupts included.
pub fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let fields: Vec<f64> =
        stat.lines().next().unwrap_or("").split_whitespace().skip(1).map(|f| f.parse().unwrap_or(0.0)).collect();
    // user nice system idle iowait irq softirq steal: all but idle, iowait and steal.
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|&i| fields.get(i)).sum();
    Ok(busy / 100.0)
}
