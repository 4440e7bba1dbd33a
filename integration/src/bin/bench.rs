//! `cargo bench-pairs`: each row of the design's table, stackd against native Linux, in the same run.

use anyhow::Result;
use clap::Parser;
use stackd_integration::bench::{self, Row};

/// Benchmarks in namespaces of their own, paired with native Linux.
#[derive(Parser, Debug)]
struct Args {
    /// Rows to measure (default: all).
    rows: Vec<Row>,
    #[command(flatten)]
    common: bench::Common,
    /// More lines of daemon configuration, before the first table.
    #[arg(long, default_value = "")]
    config: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (_dir, topology) = args.common.topology(&args.config)?;
    let rows = if args.rows.is_empty() { Row::ALL.to_vec() } else { args.rows };
    for row in rows {
        let pairs = bench::measure(&topology, row, args.common.method())?;
        args.common.print(&pairs, &pairs.line())?;
    }
    Ok(())
}
