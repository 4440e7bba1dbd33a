//! Many connections: at once, one after the other, and from wrk.

use super::{Served, any_port, native, ours, run};
use crate::bed::Bed;
use crate::bins;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Connections that size the daemon's tables before anything is counted.
const FIRST_BATCH: u64 = 5_000;

/// What a daemon holds at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Open descriptors of the daemon's process, those of tools left out: a tool that ended is still held for a moment, or not.
    pub descriptors: usize,
    /// Its resident memory in KiB.
    pub resident_kib: u64,
    /// TCP sockets it shows, TIME_WAIT left out.
    pub sockets: usize,
}

/// Open descriptors of the daemon, but for connections to its control socket.
fn descriptors(bed: &Bed) -> Result<usize> {
    let pid = bed.daemon.pid();
    let control = bed.daemon.control();
    // proc_net_unix: Num RefCount Protocol Flags Type St Inode Path; state 03 is connected.
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/unix"))?;
    let of_a_tool =
        |line: &&str| line.ends_with(&*control.to_string_lossy()) && line.split_whitespace().nth(5) == Some("03");
    let inodes = table.lines().filter(of_a_tool).filter_map(|line| line.split_whitespace().nth(6));
    let tools: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let mut count = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One that is closed meanwhile is not held.
        let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
        count += usize::from(!tools.iter().any(|tool| *tool == *target.to_string_lossy()));
    }
    Ok(count)
}

/// Counts descriptors, memory and sockets of the daemon.
pub fn held(bed: &Bed) -> Result<Held> {
    let pid = bed.daemon.pid();
    let descriptors = descriptors(bed)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident_kib = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|l| l.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .context("no VmRSS")?;
    let sockets = bed.daemon.ss(&["-Htan", "exclude", "time-wait"])?.lines().count();
    Ok(Held { descriptors, resident_kib, sockets })
}

/// `count` connections from our client to a Linux server, all open at once and all alive at the end.
pub fn hold_many(bed: &Bed, v6: bool, count: usize) -> Result<()> {
    let server = Served::start(native("load")?.args(["serve", &any_port(bed.kernel(v6))]))?;
    let mut client = ours(bed, "load")?
        .args(["hold", &server.addr.to_string(), "--count", &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut out = BufReader::new(client.stdout.take().context("no output")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    ensure!(line.trim() == count.to_string(), "opened {:?} of {count}; {}", line.trim(), bed.daemon.log());
    let seen = bed.daemon.ss(&["-Htn", "state", "established"])?.lines().count();
    ensure!(seen == count, "ss-rs shows {seen} established connections, want {count}");
    client.stdin.take().context("no input")?.flush()?;
    line.clear();
    out.read_line(&mut line)?;
    ensure!(line.trim() == format!("{count} alive"), "{line:?}");
    ensure!(client.wait()?.success(), "the client failed");
    Ok(())
}

/// `count` connect/request/close rounds with Linux in both directions; returns what was held before and after.
pub fn short_connections(bed: &Bed, v6: bool, count: u64) -> Result<(Held, Held)> {
    let theirs = Served::start(native("load")?.args(["serve", &any_port(bed.kernel(v6))]))?;
    let batch = |n: u64| {
        let text = n.to_string();
        run(ours(bed, "load")?.args(["crr", &theirs.addr.to_string(), "--count", &text]))
            .with_context(|| bed.daemon.log())?;
        without_clients(bed)?;
        held(bed)
    };
    // The first batch sizes tables and pools; a leak would grow with the number of those that follow.
    let before = batch(count.min(FIRST_BATCH))?;
    let after = batch(count)?;
    Ok((before, after))
}

/// Returns when the daemon has seen every client go: a process ends a moment before its session does.
fn without_clients(bed: &Bed) -> Result<()> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let clients: serde_json::Value = serde_json::from_str(&bed.daemon.netctl(&["--json", "clients"])?)?;
        if clients["sessions"].as_array().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < deadline, "clients that are gone are still listed: {clients}");
        std::thread::yield_now();
    }
}

/// wrk against our HTTP server for `seconds`; returns requests per second.
pub fn wrk_load(bed: &Bed, v6: bool, connections: u32, seconds: u32) -> Result<f64> {
    let wrk = bins::system("wrk").context("wrk is not installed")?;
    let root = tempfile::tempdir()?;
    let httpd = Served::start(ours(bed, "httpd")?.arg(any_port(bed.ours(v6))).arg(root.path()))?;
    let text = run(Command::new(wrk)
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")])
        .arg(format!("http://{}/bytes/1024", httpd.addr)))?;
    ensure!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    let rate = text.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:")).context("wrk gave no rate")?;
    let rate: f64 = rate.trim().parse()?;
    ensure!(rate > 0.0, "{text}");
    Ok(rate)
}
