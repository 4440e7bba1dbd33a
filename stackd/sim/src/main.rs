//! `stackd-sim`: experiments in virtual time from the command line.

mod replay;
mod scenarios;
mod units;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use stackd_base::{Bandwidth, Duration};
use stackd_sim::{Experiment, Report};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser, Debug)]
#[command(name = "stackd-sim", version, about = "Runs stackd's TCP over virtual links in virtual time")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// One bulk flow over one bottleneck
    Run(Run),
    Replay(replay::Command),
    /// One random scenario of hosts, middleboxes and faults, everything checked after every event
    Scenario(scenarios::One),
    /// Many random scenarios; what fails is shrunk, and printed with the line that runs it again
    Fuzz(scenarios::Many),
}

#[derive(Args, Debug)]
struct Run {
    /// Congestion control: reno, cubic, bbr
    #[arg(long, default_value = "bbr")]
    cc: String,
    /// Rate of the bottleneck, e.g. 10gbit, 100mbit
    #[arg(long, default_value = "1gbit", value_parser = units::rate)]
    rate: Bandwidth,
    /// Round-trip propagation time, e.g. 100ms
    #[arg(long, default_value = "40ms", value_parser = units::time)]
    rtt: Duration,
    /// Random loss of data segments, e.g. 1% or 0.01
    #[arg(long, default_value = "0", value_parser = units::fraction)]
    loss: f64,
    /// Virtual time to run, e.g. 30s
    #[arg(long, default_value = "10s", value_parser = units::time)]
    duration: Duration,
    /// Bytes to send before closing, e.g. 64mb; without, sends until the end
    #[arg(long, value_parser = units::bytes)]
    bytes: Option<u64>,
    /// Largest send buffer (net.ipv4.tcp_wmem max), e.g. 250mb
    #[arg(long, default_value = "250mb", value_parser = units::bytes)]
    wmem: u64,
    /// Largest receive buffer (net.ipv4.tcp_rmem max)
    #[arg(long, default_value = "500mb", value_parser = units::bytes)]
    rmem: u64,
    /// Queue of the bottleneck; without, unlimited
    #[arg(long, value_parser = units::bytes)]
    queue: Option<u64>,
    /// Ticks of the hosts' clocks a second; 0 = nanoseconds
    #[arg(long, default_value_t = 0)]
    clock_hz: u32,
    /// Do not count a zero RTT or interval as one tick
    #[arg(long)]
    no_clamp: bool,
    /// Qdisc in front of the sender's device, as for `tc`, e.g. "fq"; without, connections pace themselves
    #[arg(long)]
    qdisc: Option<String>,
    /// MTU of the path
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(576..=65_535))]
    mtu: u32,
    /// MSS option, where it is not the MTU less 40
    #[arg(long, value_parser = clap::value_parser!(u32).range(88..=65_495))]
    mss: Option<u32>,
    /// Which history
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Everything as JSON
    #[arg(long)]
    json: bool,
    /// Writes the flow over time to this file ("-" = standard output)
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Distance of the points of the series
    #[arg(long, default_value = "100ms", value_parser = units::time)]
    every: Duration,
}

fn main() -> Result<ExitCode> {
    let done = match Cli::parse().command {
        Command::Run(run) => run.run().map(|()| ExitCode::SUCCESS),
        Command::Replay(replay) => replay.run().map(|same| if same { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Command::Scenario(one) => one.run().map(|()| ExitCode::SUCCESS),
        Command::Fuzz(many) => many.run().map(|()| ExitCode::SUCCESS),
    };
    match done {
        // `stackd-sim replay ... | head` is not a failure.
        Err(e) if e.downcast_ref().is_some_and(|e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe) => {
            Ok(ExitCode::SUCCESS)
        }
        done => done,
    }
}

impl Run {
    fn run(&self) -> Result<()> {
        let Some(cc) = stackd_tcp::cc::AVAILABLE.into_iter().find(|n| *n == self.cc) else {
            bail!("--cc {}: unknown; available: {}", self.cc, stackd_tcp::cc::AVAILABLE.join(", "));
        };
        let mut e = Experiment::new(cc)
            .rate(self.rate)
            .rtt(self.rtt)
            .loss(self.loss)
            .duration(self.duration)
            .buffers(self.wmem, self.rmem)
            .clock_hz(self.clock_hz, !self.no_clamp)
            .mss(self.mss.unwrap_or(self.mtu - 40))
            .sample_every(self.every)
            .link(|l| l.limit_bytes = self.queue)
            .seed(self.seed);
        if let Some(bytes) = self.bytes {
            e = e.bytes(bytes);
        }
        if let Some(q) = &self.qdisc {
            e = e.qdisc(q.parse().with_context(|| format!("--qdisc {q}"))?);
        }
        let report = e.run().map_err(|v| anyhow::anyhow!("broken invariant: {}", v.0))?;
        if let Some(path) = &self.csv {
            self.write_csv(path, &report).with_context(|| format!("--csv {}", path.display()))?;
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else if self.csv.as_deref() != Some(std::path::Path::new("-")) {
            print(&report);
        }
        Ok(())
    }

    fn write_csv(&self, path: &std::path::Path, report: &Report) -> std::io::Result<()> {
        let mut out: Box<dyn Write> =
            if path.as_os_str() == "-" { Box::new(std::io::stdout()) } else { Box::new(std::fs::File::create(path)?) };
        writeln!(out, "time,goodput_bps,cwnd,pacing_bps,srtt_us,unacked,retransmits,bbr_bw_bps,bbr_mode")?;
        for p in &report.series {
            let bw = p.bbr_bw.map(|b| b.to_string()).unwrap_or_default();
            writeln!(
                out,
                "{:.6},{},{},{},{},{},{},{bw},{}",
                p.time,
                p.goodput,
                p.cwnd,
                p.pacing_rate,
                p.srtt_us,
                p.unacked,
                p.retransmits,
                p.bbr_mode.unwrap_or_default()
            )?;
        }
        out.flush()
    }
}

fn print(r: &Report) {
    let last = r.series.last().cloned().unwrap_or_default();
    println!("{:<12} {}, seed {}", "cc", r.congestion, r.seed);
    println!("{:<12} {:.3} s of virtual time, {} events", "ran", r.seconds, r.events);
    println!(
        "{:<12} {} ({} over the second half)",
        "goodput",
        units::show_rate(r.goodput),
        units::show_rate(r.goodput_second_half)
    );
    println!("{:<12} {} of {} segments", "retransmits", r.retransmits, r.link.offered);
    println!(
        "{:<12} {} lost, {} overflowed, longest queue {:.3} ms",
        "link",
        r.link.lost,
        r.link.overflowed,
        r.link.max_queue_ns as f64 / 1e6
    );
    println!(
        "{:<12} {} packets, srtt {:.3} ms, pacing {}",
        "at the end",
        last.cwnd,
        f64::from(last.srtt_us) / 1e3,
        units::show_rate(last.pacing_rate)
    );
}
