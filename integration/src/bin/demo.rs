//! `cargo demo`: the main job before your eyes.
//!
//! Two daemons are joined by a virtual wire with an emulated bottleneck (1 Gbit/s, 100 ms, 1 % loss). A file goes from a
//! program attached to one to a program attached to the other, by BBR, CUBIC and Reno, while `ss-rs` watches and
//! `netctl` tunes. Where the machine allows it, a file then crosses a TAP from and to Linux's own TCP.

use anyhow::{Context, Result};
use clap::Parser;
use stackd_integration::demo::{self, Plan};
use stackd_integration::{bins, ns};
use std::process::ExitCode;

/// Two daemons, a lossy long path, one file three ways.
#[derive(Parser, Debug)]
struct Args {
    /// Size of the file in MiB.
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// Keep the folder with logs and configurations.
    #[arg(long)]
    keep: bool,
    /// The TAP part only, in the network namespace this process is in (the demo starts itself so).
    #[arg(long, hide = true)]
    tap_in: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("demo: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let Some(dir) = &args.tap_in {
        return demo::tap(dir);
    }
    println!("Building stackd, netctl, ss-rs and the examples ...");
    bins::build()?;
    let dir = tempfile::Builder::new().prefix("stackd-demo-").tempdir().context("cannot make a temporary folder")?;
    let plan = Plan::new(dir.path(), args.mib << 20)?;
    let rows = demo::lossy_path(&plan)?;
    demo::print_table(&rows);
    demo::linux(&plan, ns::support())?;
    demo::print_next_steps();
    if args.keep {
        println!("\nLogs and configurations: {}", dir.keep().display());
    }
    Ok(())
}
