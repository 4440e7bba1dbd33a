//! Benchmarks, each paired with native Linux in the same run, arms interleaved.

pub mod idle;
pub mod pace;
pub mod pairs;
pub mod placement;
pub mod topology;

use anyhow::{Context, Result, ensure};
use pairs::{Outcome, Pairs, median};
use placement::Placement;
use serde_json::Value;
use std::process::Command;
use topology::{Arm, Topology};

/// What every benchmark program is told, and how it begins.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Common {
    /// Pairs of runs, the arms interleaved.
    #[arg(long, default_value_t = 10)]
    pub pairs: usize,
    /// Seconds a run.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Print JSON lines as well.
    #[arg(long)]
    pub json: bool,
    #[arg(long, hide = true)]
    inside: bool,
}

impl Common {
    /// Both arms in a namespace of their own; `config` goes in front of the daemon's. The program starts itself again to get inside.
    pub fn topology(&self, config: &str) -> Result<(tempfile::TempDir, Topology)> {
        if !self.inside {
            crate::ns::relaunch_inside()?;
        }
        let dir = tempfile::tempdir()?;
        let topology = Topology::new(dir.path(), config)?;
        Ok((dir, topology))
    }

    /// How to measure a row.
    pub fn method(&self) -> Method {
        Method { pairs: self.pairs, seconds: self.seconds }
    }

    /// A row for people, and for machines if they are wanted.
    pub fn print(&self, pairs: &Pairs, line: &str) -> Result<()> {
        println!("{line}");
        if self.json {
            println!("{}", serde_json::to_string(pairs)?);
        }
        Ok(())
    }
}

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Row {
    /// Bulk to a Linux peer with BBR: TAP against veth.
    BulkBbr,
    /// Bulk to a Linux peer with CUBIC: TAP against veth.
    BulkCubic,
    /// Bulk between two programs of one machine: through one stackd against Linux loopback.
    BulkLocal,
    /// One byte each way to a Linux peer, both sides spinning, each arm in its best placement.
    RrSpin,
    /// The same between two programs of one machine: through one stackd against Linux loopback.
    RrLocal,
    /// One byte each way, both sides sleeping.
    RrBlock,
    /// Connect, one byte each way, close.
    Crr,
    /// How evenly a flow of SO_MAX_PACING_RATE 1 Gbit/s leaves: root mean square error of the gaps between its frames, in percent of the
    /// mean gap.
    Pace,
    /// CPU time of a daemon that holds 1,000 established connections on which nothing happens.
    Idle,
}

impl Row {
    /// Every row, in the order of the design's table.
    pub const ALL: [Self; 9] = [
        Self::BulkBbr,
        Self::BulkCubic,
        Self::BulkLocal,
        Self::RrSpin,
        Self::RrLocal,
        Self::RrBlock,
        Self::Crr,
        Self::Pace,
        Self::Idle,
    ];

    /// Field of the load program's result, unit, and whether less is better.
    fn figure(self) -> (&'static str, &'static str, bool) {
        match self {
            Self::BulkBbr | Self::BulkCubic | Self::BulkLocal => ("gbit_per_second", "Gbit/s", false),
            Self::RrSpin | Self::RrLocal | Self::RrBlock => ("p50_us", "us", true),
            Self::Crr => ("per_second", "1/s", false),
            Self::Pace => (pace::FIELD, "%", true),
            Self::Idle => (idle::FIELD, "% CPU", true),
        }
    }

    /// Arguments of the load program's client.
    fn client_args(self, addr: &str, seconds: f64) -> Vec<String> {
        let seconds = seconds.to_string();
        let rate = pace::RATE.to_string();
        let idle = idle::CONNECTIONS.to_string();
        let args: &[&str] = match self {
            Self::BulkBbr => &["bulk", addr, "--seconds", &seconds, "--cc", "bbr"],
            Self::BulkCubic | Self::BulkLocal => &["bulk", addr, "--seconds", &seconds, "--cc", "cubic"],
            Self::RrSpin | Self::RrLocal | Self::RrBlock => &["rr", addr, "--seconds", &seconds],
            Self::Crr => &["crr", addr, "--count", "5000"],
            Self::Pace => &["bulk", addr, "--seconds", &seconds, "--cc", "cubic", "--max-pacing-rate", &rate],
            Self::Idle => &["hold", addr, "--count", &idle],
        };
        args.iter().map(ToString::to_string).collect()
    }

    /// Whether both programs are on stackd's side.
    fn local(self) -> bool {
        matches!(self, Self::BulkLocal | Self::RrLocal)
    }

    /// What an arm tries before its best is measured. One: nothing is tried.
    fn placements(self, arm: Arm) -> &'static [Placement] {
        match (self, arm) {
            (Self::RrSpin | Self::RrLocal, Arm::Stackd) => placement::WITH_WORKER,
            (Self::RrSpin | Self::RrLocal, Arm::Native) => placement::TWO_ENDS,
            (Self::RrBlock, _) => placement::ASLEEP,
            (_, _) => placement::USUAL,
        }
    }
}

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Pairs per row.
    pub pairs: usize,
    /// Seconds a run.
    pub seconds: f64,
}

/// Runs of each placement before the best is chosen, and how long they are.
const SCOUTS: usize = 3;
const SCOUT_SECONDS: f64 = 0.25;

/// Measures one row: `pairs` times stackd then native (every second pair the other way round), each where it does best.
pub fn measure(topology: &Topology, row: Row, method: Method) -> Result<Pairs> {
    let (field, unit, less_is_better) = row.figure();
    let mut pairs = Pairs::new(format!("{row:?}"), unit, less_is_better);
    let best = [best_placement(topology, row, Arm::Stackd)?, best_placement(topology, row, Arm::Native)?];
    for i in 0..method.pairs {
        let mut arms = [Arm::Stackd, Arm::Native];
        if i % 2 == 1 {
            arms.reverse();
        }
        let mut outcome = [Outcome::default(); 2];
        for arm in arms {
            outcome[arm as usize] = run_once(topology, row, arm, best[arm as usize], field, method.seconds)?;
        }
        pairs.push(outcome[Arm::Stackd as usize], outcome[Arm::Native as usize]);
    }
    Ok(pairs)
}

/// Tries an arm's placements and says what each gave.
fn best_placement(topology: &Topology, row: Row, arm: Arm) -> Result<Placement> {
    let (field, unit, less_is_better) = row.figure();
    let fitting: Vec<Placement> =
        row.placements(arm).iter().copied().filter(|p| p.fits(topology.cpus().len())).collect();
    if let [only] = fitting[..] {
        return Ok(only);
    }
    let mut tried = Vec::new();
    for placement in fitting {
        let mut values = Vec::new();
        for _ in 0..SCOUTS {
            values.push(run_once(topology, row, arm, placement, field, SCOUT_SECONDS)?.value);
        }
        tried.push((median(values), placement));
    }
    tried.sort_by(|a, b| a.0.total_cmp(&b.0));
    if !less_is_better {
        tried.reverse();
    }
    for (value, placement) in &tried {
        println!("  {row:?}, {arm:?}: {value:>9.2} {unit}  {}", placement.name);
    }
    tried.first().map(|(_, placement)| *placement).context("no placement fits this machine")
}

fn run_once(
    topology: &Topology,
    row: Row,
    arm: Arm,
    placement: Placement,
    field: &str,
    seconds: f64,
) -> Result<Outcome> {
    topology.place_worker(placement.worker)?;
    let server = topology.server(arm, row.local(), placement)?;
    let mut client: Command = topology.client(arm, placement);
    client.args(row.client_args(&server.addr, seconds));
    if row == Row::Idle {
        let value = idle::percent(topology, arm, client, seconds)?;
        return Ok(Outcome { value, cpu_per_unit: value });
    }
    let watch = (row == Row::Pace).then(|| pace::Watch::start(topology::client_addr(arm))).transpose()?;
    let busy = topology::cpu_seconds()?;
    let output = topology.output(arm, row.local(), placement, &mut client)?;
    let cpu = topology::cpu_seconds()? - busy;
    ensure!(
        output.status.success(),
        "{row:?}, {arm:?}: {}\n{}",
        String::from_utf8_lossy(&output.stderr),
        topology.daemon_log()
    );
    let mut result: Value = serde_json::from_slice(&output.stdout).context("the load program's result")?;
    if let Some(watch) = watch {
        result[field] = watch.stop()?.into();
    }
    let value = result[field].as_f64().with_context(|| format!("no {field} in {result}"))?;
    let bytes = result["bytes"].as_f64();
    let work = bytes.or(result["count"].as_f64()).unwrap_or(1.0);
    Ok(Outcome { value, cpu_per_unit: cpu * 1e9 / work })
}
