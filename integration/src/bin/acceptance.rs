//! The end-to-end scenarios at full size: what the issue that founded this project asks to be shown.
//!
//! The tests run the same scenarios small. Needs root (or a user namespace and an accessible /dev/net/tun), nginx, curl and wrk.

use anyhow::{Result, bail};
use clap::Parser;
use stackd_integration::bed::Bed;
use stackd_integration::{ns, scenario};
use std::time::Instant;

/// Full-size end-to-end scenarios against Linux.
#[derive(Parser, Debug)]
struct Args {
    /// Scenarios whose name contains one of these (default: all).
    filter: Vec<String>,
    /// Bytes of the large file.
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    /// Connections open at once.
    #[arg(long, default_value_t = 10_000)]
    held: usize,
    /// Short connections in a row.
    #[arg(long, default_value_t = 200_000)]
    short: u64,
    #[arg(long, hide = true)]
    inside: bool,
}

/// This end closes first and keeps TIME_WAIT for a minute: 28,232 ports would be used up in seconds, here as on Linux.
const MANY_PORTS: &str = r#"
[sysctl]
"net.ipv4.tcp_tw_reuse" = 1
"net.ipv4.ip_local_port_range" = "1024 65535"
"#;

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.inside {
        return ns::relaunch_inside();
    }
    let mut failed = 0;
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        let Args { bytes, held, short, .. } = args;
        failed += show(&args, family, "curl", || scenario::curl_fetches(&Bed::new("", "")?, v6, bytes))?;
        failed += show(&args, family, "nginx", || scenario::nginx_serves(&Bed::new("", "")?, v6, bytes))?;
        failed += show(&args, family, "wrk", || {
            println!("    {:.0} requests/s", scenario::wrk_load(&Bed::new("", "")?, v6, 64, 10)?);
            Ok(())
        })?;
        failed += show(&args, family, "hold", || scenario::hold_many(&Bed::new("", "")?, v6, held))?;
        failed += show(&args, family, "short", || {
            let (before, after) = scenario::short_connections(&Bed::new(MANY_PORTS, "")?, v6, short)?;
            println!("    before {before:?}\n    after  {after:?}");
            Ok(())
        })?;
        failed += show(&args, family, "impaired", || {
            scenario::filecopy_both_ways(&Bed::new("", scenario::IMPAIRED)?, v6, bytes, "bbr")
        })?;
    }
    if failed > 0 {
        bail!("{failed} scenarios failed");
    }
    Ok(())
}

fn show(args: &Args, family: &str, name: &str, work: impl FnOnce() -> Result<()>) -> Result<u32> {
    if !args.filter.is_empty() && !args.filter.iter().any(|f| name.contains(f.as_str())) {
        return Ok(0);
    }
    println!("{family} {name} ...");
    let start = Instant::now();
    match work() {
        Ok(()) => {
            println!("{family} {name}: ok, {:.1} s", start.elapsed().as_secs_f64());
            Ok(0)
        }
        Err(e) => {
            println!("{family} {name}: FAILED after {:.1} s: {e:?}", start.elapsed().as_secs_f64());
            Ok(1)
        }
    }
}
