//! Benchmarks, each paired with native Linux in the same run, arms interleaved.

pub mod pairs;
pub mod topology;

use anyhow::{Context, Result, ensure};
use pairs::{Outcome, Pairs};
use serde_json::Value;
use std::process::Command;
use topology::{Arm, Topology};

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Row {
    /// Bulk to a Linux peer with BBR: TAP against veth.
    BulkBbr,
    /// Bulk to a Linux peer with CUBIC: TAP against veth.
    BulkCubic,
    /// Bulk between two programs of one machine: through one stackd against Linux loopback.
    BulkLocal,
    /// One byte each way, both sides spinning.
    RrSpin,
    /// One byte each way, both sides sleeping.
    RrBlock,
    /// Connect, one byte each way, close.
    Crr,
}

impl Row {
    /// Every row, in the order of the design's table.
    pub const ALL: [Self; 6] =
        [Self::BulkBbr, Self::BulkCubic, Self::BulkLocal, Self::RrSpin, Self::RrBlock, Self::Crr];

    /// Field of the load program's result, unit, and whether less is better.
    fn figure(self) -> (&'static str, &'static str, bool) {
        match self {
            Self::BulkBbr | Self::BulkCubic | Self::BulkLocal => ("gbit_per_second", "Gbit/s", false),
            Self::RrSpin | Self::RrBlock => ("p50_us", "us", true),
            Self::Crr => ("per_second", "1/s", false),
        }
    }

    /// Arguments of the load program's client.
    fn client_args(self, addr: &str, seconds: f64) -> Vec<String> {
        let seconds = seconds.to_string();
        let args: &[&str] = match self {
            Self::BulkBbr => &["bulk", addr, "--seconds", &seconds, "--cc", "bbr"],
            Self::BulkCubic | Self::BulkLocal => &["bulk", addr, "--seconds", &seconds, "--cc", "cubic"],
            Self::RrSpin => &["--spin-us", "1000000", "rr", addr, "--seconds", &seconds],
            Self::RrBlock => &["--spin-us", "0", "rr", addr, "--seconds", &seconds],
            Self::Crr => &["crr", addr, "--count", "5000"],
        };
        args.iter().map(ToString::to_string).collect()
    }

    fn spins(self) -> bool {
        self == Self::RrSpin
    }

    /// Whether both programs are on stackd's side.
    fn local(self) -> bool {
        self == Self::BulkLocal
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

/// Measures one row: `pairs` times stackd then native (every second pair the other way round).
pub fn measure(topology: &Topology, row: Row, method: Method) -> Result<Pairs> {
    let (field, unit, less_is_better) = row.figure();
    let mut pairs = Pairs::new(format!("{row:?}"), unit, less_is_better);
    for i in 0..method.pairs {
        let mut arms = [Arm::Stackd, Arm::Native];
        if i % 2 == 1 {
            arms.reverse();
        }
        let mut outcome = [Outcome::default(); 2];
        for arm in arms {
            outcome[arm as usize] = run_once(topology, row, arm, field, method.seconds)?;
        }
        pairs.push(outcome[Arm::Stackd as usize], outcome[Arm::Native as usize]);
    }
    Ok(pairs)
}

fn run_once(topology: &Topology, row: Row, arm: Arm, field: &str, seconds: f64) -> Result<Outcome> {
    let server = topology.server(arm, row.local(), row.spins())?;
    let mut client: Command = topology.client(arm, row.local())?;
    client.args(row.client_args(&server.addr, seconds));
    let busy = topology::cpu_seconds()?;
    let output = topology.output(arm, row.local(), &mut client)?;
    let cpu = topology::cpu_seconds()? - busy;
    ensure!(
        output.status.success(),
        "{row:?}, {arm:?}: {}\n{}",
        String::from_utf8_lossy(&output.stderr),
        topology.daemon_log()
    );
    let result: Value = serde_json::from_slice(&output.stdout).context("the load program's result")?;
    let value = result[field].as_f64().with_context(|| format!("no {field} in {result}"))?;
    let bytes = result["bytes"].as_f64();
    let work = bytes.or(result["count"].as_f64()).unwrap_or(1.0);
    Ok(Outcome { value, cpu_per_unit: cpu * 1e9 / work })
}
