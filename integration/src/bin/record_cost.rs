//! What recording costs: bulk throughput with and without it, arms interleaved, in the same run.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::Value;
use stackd_integration::bench::Common;
use stackd_integration::bench::pairs::{Outcome, Pairs};
use stackd_integration::bench::placement;
use stackd_integration::bench::topology::{Arm, Topology, cpu_seconds};
use stackd_integration::bins;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

/// Bulk from stackd to a Linux peer over a TAP, recorded and not, in pairs.
#[derive(Parser, Debug)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Congestion control.
    #[arg(long, default_value = "cubic")]
    cc: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (dir, topology) = args.common.topology("")?;
    let mut pairs = Pairs::new(format!("recorded/{}", args.cc), "Gbit/s", false);
    let mut bytes = 0;
    for i in 0..args.common.pairs {
        let mut outcome = [Outcome::default(); 2];
        let first = i % 2;
        for recorded in [first, 1 - first] {
            let file = (recorded == 0).then(|| dir.path().join("flow.rec"));
            outcome[recorded] = run_once(&topology, &args, file.as_deref())?;
            if let Some(file) = file {
                bytes = std::fs::metadata(file)?.len();
            }
        }
        pairs.push(outcome[0], outcome[1]);
    }
    // The first arm of `Pairs` is the recorded one, its second the one that is not.
    args.common.print(&pairs, &pairs.line().replace("stackd ", "recorded ").replace("native ", "not "))?;
    println!("last recording: {:.1} MB a second", bytes as f64 / 1e6 / args.common.seconds);
    Ok(())
}

fn run_once(topology: &Topology, args: &Args, file: Option<&std::path::Path>) -> Result<Outcome> {
    let usual = placement::USUAL[0];
    let server = topology.server(Arm::Stackd, false, usual)?;
    let port = server.addr.rsplit_once(':').context("no port")?.1;
    let mut recorder = None;
    if let Some(file) = file {
        let mut child = Command::new(bins::path("netctl")?)
            .env("STACKD_CONTROL", topology.daemon().control())
            .args(["record", "--new", "--buffer", "67108864", "-o"])
            .arg(file)
            .args(["dport", "=", &format!(":{port}")])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut says = BufReader::new(child.stderr.take().context("no standard error")?);
        let mut line = String::new();
        says.read_line(&mut line)?;
        ensure!(line.contains("waiting"), "netctl said {line:?}");
        recorder = Some((child, says));
    }
    let mut client = topology.client(Arm::Stackd, usual);
    client.args(["bulk", &server.addr, "--seconds", &args.common.seconds.to_string(), "--cc", &args.cc]);
    let busy = cpu_seconds()?;
    let output = topology.output(Arm::Stackd, false, usual, &mut client)?;
    let cpu = cpu_seconds()? - busy;
    ensure!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), topology.daemon_log());
    if let Some((mut child, mut says)) = recorder {
        let mut said = String::new();
        says.read_to_string(&mut said)?;
        ensure!(child.wait()?.success() && said.contains("the connection ended"), "netctl said {said}");
    }
    let result: Value = serde_json::from_slice(&output.stdout).context("the load program's result")?;
    let value = result["gbit_per_second"].as_f64().with_context(|| format!("no figure in {result}"))?;
    let bytes = result["bytes"].as_f64().unwrap_or(1.0);
    Ok(Outcome { value, cpu_per_unit: cpu * 1e9 / bytes })
}
