//! One file, three ways, over 100 ms and 1 % loss.

use super::Plan;
use crate::daemon::Daemon;
use crate::{bins, progress};
use anyhow::{Context, Result, ensure};
use indicatif::{MultiProgress, ProgressBar};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Segments of 16 KiB let Reno finish within the minute: its rate over a lossy path is proportional to the segment size.
const MTU: u32 = 16_384;
const CONGESTION: [&str; 3] = ["bbr", "cubic", "reno"];
/// The live change of the demo, as one would type it.
const LARGE_WMEM: &str = "net.ipv4.tcp_wmem=4096 16384 100000000";
/// What the left daemon starts with: 1 MiB in flight over 100 ms is 84 Mbit/s, whatever the congestion control.
const SMALL_WMEM: &str = "4096 16384 1048576";
/// The flows run this long with the small send buffer before they get the large one.
const BEFORE_CHANGE: Duration = Duration::from_millis(1500);
/// And this long with the large one before they are looked at again.
const AFTER_CHANGE: Duration = Duration::from_millis(700);
const SAMPLE_EVERY: Duration = Duration::from_secs(15);

/// One transfer.
#[derive(Debug)]
pub struct Row {
    /// Congestion control.
    pub congestion: String,
    /// Bytes sent.
    pub bytes: u64,
    /// From connect to the far end's confirmation.
    pub seconds: f64,
    /// Goodput.
    pub mbit_per_second: f64,
    /// What both ends computed.
    pub sha256: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Sent { sent: u64 },
    Done { bytes: u64, seconds: f64, mbit_per_second: f64, sha256: String },
}

enum News {
    Sent(usize, u64),
    Done(usize, Row),
    Failed(usize, String),
}

/// Runs the three transfers and returns who got what.
pub fn lossy_path(plan: &Plan) -> Result<Vec<Row>> {
    let wire = plan.dir.join("wire");
    let left = Daemon::start(&plan.dir, "left", &config(&wire, "listen", 1, "rate = \"1gbit\"\nloss = \"1%\""))?;
    let right = Daemon::start(&plan.dir, "right", &config(&wire, "connect", 2, ""))?;
    println!(
        "Two daemons (pids {} and {}) joined by a virtual wire: 1 Gbit/s, 100 ms round trip, 1 % loss,\n\
         MTU {MTU} (large, for Reno's rate over loss is proportional to it, and it shall end within the minute).\n\
         {} MiB go from a program on the left to a program on the right, by BBR, CUBIC and Reno:\n",
        left.pid(),
        right.pid(),
        plan.len >> 20
    );
    let (mut receiver, addr) = start_receiver(&right)?;
    let bars = MultiProgress::new();
    let (news, inbox) = mpsc::channel();
    let mut senders = Vec::new();
    let mut lines = Vec::new();
    for (i, cc) in CONGESTION.into_iter().enumerate() {
        lines.push(progress::bytes_bar(&bars, cc, plan.len));
        senders.push(start_sender(&left, plan, addr, cc, i, news.clone())?);
    }
    drop(news);
    let rows = watch(&left, &bars, &lines, &inbox)?;
    for mut sender in senders {
        sender.wait()?;
    }
    ensure!(receiver.wait()?.success(), "the receiver failed: see its message above");
    left.stop().context("left")?;
    right.stop().context("right")?;
    Ok(rows)
}

fn config(wire: &Path, role: &str, host: u8, emulate: &str) -> String {
    format!(
        r#"
[sysctl]
"net.ipv4.tcp_rmem" = "4096 131072 100000000"
"net.ipv4.tcp_wmem" = "{SMALL_WMEM}"

[[device]]
name = "wire0"
kind = "wire"
{role} = "{}"
mtu = {MTU}
addresses = ["10.77.0.{host}/24", "fd77::{host}/64"]
qdisc = "fq"

[device.emulate]
delay = "50ms"
limit = 100000
{emulate}
"#,
        wire.display()
    )
}

fn start_receiver(right: &Daemon) -> Result<(Child, SocketAddr)> {
    let mut child = Command::new(bins::path("filecopy")?)
        .arg("--attach")
        .arg(right.attach())
        .args(["receive", "10.77.0.2:0", "--count", &CONGESTION.len().to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    out.read_line(&mut first)?;
    let addr = first.trim().parse().with_context(|| format!("the receiver said {first:?}"))?;
    // Keep draining, so that the receiver never blocks on its output.
    std::thread::spawn(move || out.lines().count());
    Ok((child, addr))
}

fn start_sender(
    left: &Daemon,
    plan: &Plan,
    addr: SocketAddr,
    cc: &'static str,
    index: usize,
    news: mpsc::Sender<News>,
) -> Result<Child> {
    let mut child = Command::new(bins::path("filecopy")?)
        .arg("--attach")
        .arg(left.attach())
        .args(["send", &addr.to_string()])
        .arg(&plan.file)
        .args(["--cc", cc, "--progress"])
        .stdout(Stdio::piped())
        .spawn()?;
    let out = BufReader::new(child.stdout.take().context("no output")?);
    std::thread::spawn(move || {
        let mut done = false;
        for line in out.lines().map_while(Result::ok) {
            let message = match serde_json::from_str(&line) {
                Ok(Line::Sent { sent }) => News::Sent(index, sent),
                Ok(Line::Done { bytes, seconds, mbit_per_second, sha256 }) => {
                    done = true;
                    News::Done(index, Row { congestion: cc.into(), bytes, seconds, mbit_per_second, sha256 })
                }
                Err(e) => News::Failed(index, format!("{line:?}: {e}")),
            };
            if news.send(message).is_err() {
                return;
            }
        }
        if !done {
            let _ = news.send(News::Failed(index, "ended without a result: see its message above".into()));
        }
    });
    Ok(child)
}

/// Shows progress, samples the flows, makes the live change, until every transfer is over.
fn watch(left: &Daemon, bars: &MultiProgress, lines: &[ProgressBar], inbox: &mpsc::Receiver<News>) -> Result<Vec<Row>> {
    let start = Instant::now();
    let mut rows: Vec<Option<Row>> = lines.iter().map(|_| None).collect();
    let mut looks = 0;
    let mut next_look = start + BEFORE_CHANGE;
    while rows.iter().any(Option::is_none) {
        match inbox.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
            Ok(News::Sent(i, bytes)) => lines[i].set_position(bytes),
            Ok(News::Done(i, row)) => {
                lines[i].set_position(row.bytes);
                lines[i].finish();
                progress::say(
                    bars,
                    &format!("  {}: {:.2} s, {:.1} Mbit/s", row.congestion, row.seconds, row.mbit_per_second),
                );
                rows[i] = Some(row);
            }
            Ok(News::Failed(i, why)) => anyhow::bail!("{}: {why}", CONGESTION[i]),
            Err(mpsc::RecvTimeoutError::Disconnected) => anyhow::bail!("a sender went away"),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                next_look = Instant::now() + look(left, bars, looks)?;
                looks += 1;
            }
        }
    }
    Ok(rows.into_iter().flatten().collect())
}

/// Looks at the flows; the first time it also makes the live change. Returns when to look again.
fn look(left: &Daemon, bars: &MultiProgress, looks: u32) -> Result<Duration> {
    let title = match looks {
        0 => format!("with net.ipv4.tcp_wmem = {SMALL_WMEM}: the send buffer holds every flow back"),
        1 => format!("{} ms after the change: cwnd and pacing_rate of bbr went up", AFTER_CHANGE.as_millis()),
        _ => "still running".into(),
    };
    show_flows(left, bars, &format!("\n$ ss-rs -tin     # {title}"))?;
    if looks > 0 {
        return Ok(SAMPLE_EVERY);
    }
    let answer = left.netctl(&["sysctl", "-w", LARGE_WMEM])?;
    progress::say(bars, &format!("\n$ netctl sysctl -w {LARGE_WMEM:?}\n{}", answer.trim_end()));
    Ok(AFTER_CHANGE)
}

fn show_flows(left: &Daemon, bars: &MultiProgress, title: &str) -> Result<()> {
    progress::say(bars, title);
    for line in left.ss(&["-tin"])?.lines() {
        progress::say(bars, line);
    }
    Ok(())
}
