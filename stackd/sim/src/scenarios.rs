//! `stackd-sim scenario` and `stackd-sim fuzz`.

use anyhow::{Result, bail};
use clap::Args;
use stackd_base::Instant;
use stackd_sim::net::IpPacket;
use stackd_sim::scenario::{Reduction, Scenario, campaign, describe, shrink};

#[derive(Args, Debug)]
pub struct One {
    /// Which scenario
    #[arg(long)]
    seed: u64,
    /// Labels of impairments and settings to leave out, as --show prints them
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Only these flows
    #[arg(long, value_delimiter = ',')]
    flows: Option<Vec<u16>>,
    /// No stream is longer than this
    #[arg(long)]
    max_bytes: Option<u64>,
    /// No flow has more connections than this
    #[arg(long)]
    max_connections: Option<u16>,
    /// Print what the scenario consists of
    #[arg(long)]
    show: bool,
    /// Print every packet at the hosts' wires
    #[arg(long)]
    trace: bool,
    /// If it fails, look for a smaller one that fails too
    #[arg(long)]
    shrink: bool,
}

fn print_packet(at: Instant, host: usize, leaves: bool, packet: &IpPacket) {
    let way = if leaves { "out" } else { " in" };
    println!("{:.6} host {host} {way} {}", at.as_nanos() as f64 / 1e9, describe(packet));
}

impl One {
    pub fn run(&self) -> Result<()> {
        let whole = Scenario::from_seed(self.seed);
        let labels = whole.labels();
        if let Some(unknown) = self.without.iter().find(|l| !labels.contains(l)) {
            bail!("--without {unknown}: scenario {} has no such part; it has {}", self.seed, labels.join(", "));
        }
        let reduction = Reduction {
            without: self.without.iter().cloned().collect(),
            flows: self.flows.clone().map(|f| f.into_iter().collect()),
            max_bytes: self.max_bytes,
            max_connections: self.max_connections,
        };
        let scenario = whole.reduced(&reduction);
        if self.show {
            println!("{scenario:#?}\nlabels: {}", scenario.labels().join(", "));
        }
        let result = if self.trace { scenario.run_traced(Some(print_packet)) } else { scenario.run() };
        match result {
            Ok(v) => {
                println!("{}", serde_json::to_string(&v)?);
                Ok(())
            }
            Err(failure) => {
                println!("seed {}: {failure}", self.seed);
                if self.shrink {
                    let (reduction, failure) = shrink(&whole, failure);
                    println!("smaller: {failure}\n  rerun: {}", whole.rerun(&reduction));
                }
                bail!("scenario {} fails", self.seed)
            }
        }
    }
}

#[derive(Args, Debug)]
pub struct Many {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Threads; 0 = one for each processor
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Stop after so many failures
    #[arg(long, default_value_t = 10)]
    failures: usize,
}

impl Many {
    pub fn run(&self) -> Result<()> {
        let threads = match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let progress = |n| eprintln!("{n} seeds");
        let c = campaign(self.first, self.seeds, threads, self.failures, &progress);
        println!("{} seeds: {}", c.seeds, serde_json::to_string(&c.sum)?);
        println!("busiest: seed {} with {} thousandths of the events it may have", c.busiest.1, c.busiest.0);
        for found in &c.found {
            println!("{found}");
        }
        if c.found.is_empty() { Ok(()) } else { bail!("{} seeds fail", c.found.len()) }
    }
}
