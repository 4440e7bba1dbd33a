//! What connections cost on which nothing happens.

use super::topology::{Arm, Topology, cpu_seconds};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How many are held.
pub const CONNECTIONS: usize = 1000;
/// The figure's name.
pub const FIELD: &str = "cpu_percent";

/// CPU of the whole machine, in percent of one CPU, while an arm's client holds its connections for so long. Linux's own is what this machine
/// does when nobody asks anything of it: the figure to compare with.
pub fn percent(topology: &Topology, arm: Arm, mut client: Command, seconds: f64) -> Result<f64> {
    client.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = topology.spawn(arm, &mut client)?;
    let stdin = child.stdin.take();
    let mut out = BufReader::new(child.stdout.take().context("no output")?).lines();
    let open = out.next().context("no connections")??;
    ensure!(open == CONNECTIONS.to_string(), "{open} connections instead of {CONNECTIONS}");
    // What opening them left to do (delayed ACKs, spinning) ends within a second.
    watch(Duration::from_secs(1))?;
    let (busy, watched) = watch(Duration::from_secs_f64(seconds))?;
    drop(stdin);
    let alive = out.next().context("the connections died")??;
    ensure!(alive.ends_with("alive"), "{alive}");
    ensure!(child.wait()?.success(), "the client failed");
    Ok(busy / watched * 100.0)
}

/// CPU seconds of the machine during `time`, and how long it was.
fn watch(time: Duration) -> Result<(f64, f64)> {
    let (before, start) = (cpu_seconds()?, Instant::now());
    std::thread::sleep(time);
    Ok((cpu_seconds()? - before, start.elapsed().as_secs_f64()))
}
