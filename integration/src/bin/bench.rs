//! `cargo bench-pairs`: each row of the design's table, stackd against native Linux, in the same run.

use anyhow::Result;
use clap::Parser;
use stackd_integration::bench::{self, Method, Row};
use stackd_integration::ns;

/// Benchmarks in namespaces of their own, paired with native Linux.
#[derive(Parser, Debug)]
struct Args {
    /// Rows to measure (default: all).
    rows: Vec<Row>,
    /// Pairs per row.
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// Seconds per run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// More lines of daemon configuration, before the first table.
    #[arg(long, default_value = "")]
    config: String,
    /// Print JSON lines as well.
    #[arg(long)]
    json: bool,
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.inside {
        return ns::relaunch_inside();
    }
    let dir = tempfile::tempdir()?;
    let topology = bench::topology::Topology::new(dir.path(), &args.config)?;
    let rows = if args.rows.is_empty() { Row::ALL.to_vec() } else { args.rows };
    for row in rows {
        let pairs = bench::measure(&topology, row, Method { pairs: args.pairs, seconds: args.seconds })?;
        println!("{}", pairs.line());
        if args.json {
            println!("{}", serde_json::to_string(&pairs)?);
        }
    }
    Ok(())
}
