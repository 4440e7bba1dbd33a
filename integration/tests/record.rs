//! Connections between our stack and Linux's, recorded while they live and lived again afterwards.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stackd_client::{Session, TcpConnect, TcpListener};
use stackd_integration::bed::Bed;
use stackd_integration::bins;
use stackd_integration::trials::{self, case};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitCode, Output, Stdio};

/// Loss and reordering in both directions, so that both ends have something to recover from.
const LOSSY: &str = r#"
[device.emulate]
delay = "2ms"
loss = "2%"
reorder = "2%"
[device.emulate_ingress]
delay = "2ms"
loss = "2%"
reorder = "2%"
"#;

const BYTES: usize = 2 << 20;

fn main() -> ExitCode {
    let mut cases = Vec::new();
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        for cc in ["cubic", "bbr"] {
            cases.push(
                case(format!("{family}::an_active_open_by_{cc}_through_loss_lives_again"), move || active(v6, cc))
                    .tap(),
            );
        }
        cases.push(case(format!("{family}::a_passive_open_through_loss_lives_again"), move || passive(v6)).tap());
        cases.push(case(format!("{family}::a_live_connection_lives_again_from_there_on"), move || live(v6)).tap());
    }
    cases.push(case("another_algorithm_is_shown_beside_what_was_recorded", compare).tap());
    cases.push(case("files_that_are_not_whole_or_not_recordings_are_refused", refused).tap());
    cases.push(case("what_cannot_be_recorded_is_said", unknown).tap());
    trials::main(cases)
}

/// A running `netctl record`.
struct Recorder {
    child: Child,
    says: BufReader<ChildStderr>,
    file: PathBuf,
}

impl Recorder {
    /// Starts it and waits for its first line: it is armed then.
    fn start(bed: &Bed, name: &str, words: &[&str]) -> Result<Self> {
        let file = bed.dir().join(name);
        let mut child = Command::new(bins::path("netctl")?)
            .env("STACKD_CONTROL", bed.daemon.control())
            .args(["record", "-o"])
            .arg(&file)
            .args(words)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut says = BufReader::new(child.stderr.take().context("no standard error")?);
        let mut first = String::new();
        says.read_line(&mut first)?;
        ensure!(first.contains("waiting for a connection") || first.contains("as it is now"), "netctl said {first:?}");
        Ok(Self { child, says, file })
    }

    /// Waits for its end, which comes with the connection's.
    fn finish(mut self) -> Result<(PathBuf, String)> {
        let mut said = String::new();
        self.says.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "netctl record ended with {status}: {said}");
        Ok((self.file.clone(), said))
    }

    fn interrupt(&self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::INT)?)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sim(file: &Path, words: &[&str]) -> Result<Output> {
    Ok(Command::new(bins::path("stackd-sim")?).arg("replay").arg(file).args(words).output()?)
}

/// Replays a recording with a checksum of the whole state at each call: all must be equal. Its events.
fn lives_again(file: &Path) -> Result<Vec<Value>> {
    let out = sim(file, &["--json"])?;
    let text = String::from_utf8_lossy(&out.stdout);
    ensure!(out.status.success(), "{}\n{}", text.lines().last().unwrap_or(""), String::from_utf8_lossy(&out.stderr));
    let all: Value = serde_json::from_str(&text)?;
    let summary = &all["summary"];
    let events = all["events"].as_array().context("no events")?.clone();
    ensure!(summary["first_difference"].is_null() && summary["differing"] == 0, "{summary}");
    ensure!(summary["events"] == events.len() && events.len() > 50, "{summary}");
    // Equal state at every step: not of the columns alone, of everything there is.
    ensure!(summary["state_checksums"] == summary["events"], "{summary}");
    ensure!(summary["final_state_equal"] == true, "{summary}");
    Ok(events)
}

fn has(events: &[Value], what: &str) -> bool {
    events.iter().any(|e| e["event"].as_str().is_some_and(|text| text.contains(what)))
}

/// A peer on Linux's stack that takes everything until the end, and then says something.
fn sink(ip: IpAddr) -> Result<(SocketAddr, std::thread::JoinHandle<std::io::Result<usize>>)> {
    let listener = std::net::TcpListener::bind((ip, 0))?;
    let addr = listener.local_addr()?;
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(b"thanks")?;
        Ok(all.len())
    });
    Ok((addr, thread))
}

/// Sends everything from our stack and waits for the answer.
fn send(bed: &Bed, to: SocketAddr, cc: &str) -> Result<()> {
    let session = Session::connect(bed.daemon.attach())?;
    let mut stream = TcpConnect::new(&session).congestion(cc).connect(to)?;
    stream.write_all(&vec![7; BYTES])?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer == "thanks", "{answer:?}");
    Ok(())
}

fn record_send(bed: &Bed, v6: bool, cc: &str, words: &[&str]) -> Result<(PathBuf, String)> {
    let (addr, peer) = sink(bed.kernel(v6))?;
    let port = format!(":{}", addr.port());
    let mut all = vec!["--new", "dport", "=", &port];
    all.splice(1..1, words.iter().copied());
    let recorder = Recorder::start(bed, "flow.rec", &all)?;
    send(bed, addr, cc)?;
    ensure!(peer.join().expect("the peer does not panic")? == BYTES);
    recorder.finish()
}

fn active(v6: bool, cc: &str) -> Result<()> {
    let bed = Bed::new("", LOSSY)?;
    let (file, said) = record_send(&bed, v6, cc, &["--full"])?;
    ensure!(said.contains("from its birth") && said.contains("the connection ended"), "{said}");
    let events = lives_again(&file)?;
    ensure!(events[0]["recorded"]["state_name"] == "SYN-SENT", "{}", events[0]);
    ensure!(has(&events, "send again"), "nothing was lost on the way");
    ensure!(has(&events, "sack"), "nothing was reported missing");
    let sent: u64 = events.iter().filter_map(|e| e["recorded"]["una"].as_u64()).max().context("no positions")?;
    ensure!(sent as usize >= BYTES, "{sent}");
    Ok(())
}

fn passive(v6: bool) -> Result<()> {
    let bed = Bed::new("", LOSSY)?;
    let session = Session::connect(bed.daemon.attach())?;
    let listener = TcpListener::bind_in(&session, (bed.ours(v6), 0))?;
    let to = listener.local_addr()?;
    let port = format!(":{}", to.port());
    let recorder = Recorder::start(&bed, "flow.rec", &["--new", "--full", "sport", "=", &port])?;
    let peer = std::thread::spawn(move || -> std::io::Result<usize> {
        let mut stream = std::net::TcpStream::connect(to)?;
        stream.write_all(&vec![7; BYTES])?;
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new())
    });
    let (mut stream, _) = listener.accept()?;
    let mut got = Vec::new();
    stream.read_to_end(&mut got)?;
    stream.write_all(&vec![9; BYTES / 4])?;
    drop(stream);
    ensure!(got.len() == BYTES && peer.join().expect("the peer does not panic")? == BYTES / 4);
    let (file, _) = recorder.finish()?;
    let events = lives_again(&file)?;
    // Until its handshake ends it is a request in the SYN queue, not yet a connection.
    ensure!(events[0]["recorded"]["state_name"] == "ESTAB" && events[0]["recorded"]["una"] == 1, "{}", events[0]);
    ensure!(events.iter().any(|e| e["recorded"]["out_of_order"].as_u64() > Some(0)), "nothing came out of order");
    Ok(())
}

/// Recorded in the middle, by the two addresses that ss-rs shows, until interrupted.
fn live(v6: bool) -> Result<()> {
    let bed = Bed::new("", LOSSY)?;
    let listener = std::net::TcpListener::bind((bed.kernel(v6), 0))?;
    let session = Session::connect(bed.daemon.attach())?;
    let mut ours = TcpConnect::new(&session).connect(listener.local_addr()?)?;
    let (mut theirs, _) = listener.accept()?;
    let mut exchange = |bytes: usize| -> Result<()> {
        let mut reader = theirs.try_clone()?;
        let thread = std::thread::spawn(move || -> std::io::Result<()> { reader.read_exact(&mut vec![0; bytes]) });
        ours.write_all(&vec![1; bytes])?;
        thread.join().expect("the peer does not panic")?;
        theirs.write_all(b"got it")?;
        Ok(ours.read_exact(&mut [0; 6])?)
    };
    exchange(BYTES / 2)?;
    let shown = bed.daemon.ss(&["-tnH"])?;
    let columns: Vec<&str> = shown.split_whitespace().collect();
    let ["ESTAB", _, _, local, remote, ..] = columns[..] else { anyhow::bail!("ss-rs shows {shown:?}") };
    let recorder = Recorder::start(&bed, "flow.rec", &["--full", local, remote])?;
    exchange(BYTES / 2)?;
    recorder.interrupt()?;
    let (file, said) = recorder.finish()?;
    ensure!(said.contains("the recording was stopped"), "{said}");
    // The connection goes on as if nothing had been.
    exchange(1000)?;
    let events = lives_again(&file)?;
    ensure!(events[0]["recorded"]["una"].as_u64() > Some(BYTES as u64 / 2), "{}", events[0]);
    Ok(())
}

fn compare() -> Result<()> {
    let bed = Bed::new("", LOSSY)?;
    let (file, _) = record_send(&bed, false, "bbr", &[])?;
    let plain = sim(&file, &["-q"])?;
    let text = String::from_utf8_lossy(&plain.stdout);
    ensure!(plain.status.success() && text.contains("the same life: equal at every event"), "{text}");
    let svg = bed.dir().join("flow.svg");
    let set = "net.ipv4.tcp_congestion_control=cubic";
    let out = sim(&file, &["--set", set, "--svg", svg.to_str().context("path")?])?;
    let text = String::from_utf8_lossy(&out.stdout);
    ensure!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    ensure!(text.contains("(cubic instead of bbr)"), "{}", text.lines().next().unwrap_or(""));
    let end: Vec<&str> = text.lines().rev().take(40).collect();
    ensure!(end.iter().any(|l| l.starts_with("first difference: event ")), "{end:?}");
    ensure!(end[0].ends_with("what the peer would have answered is not known"), "{end:?}");
    let svg = std::fs::read_to_string(svg)?;
    ensure!(svg.starts_with("<svg") && svg.contains("cwnd, packets") && svg.contains("changed"), "{:.300}", svg);
    let json = sim(&file, &["--json", "--differing", "--set", set])?;
    let all: Value = serde_json::from_slice(&json.stdout)?;
    let first = &all["summary"]["first_difference"];
    ensure!(all["recording"]["set"]["net.ipv4.tcp_congestion_control"] == "cubic", "{}", all["recording"]);
    ensure!(first["columns"]["pacing_rate"]["recorded"] != first["columns"]["pacing_rate"]["now"], "{first}");
    let different = all["events"].as_array().context("no events")?;
    ensure!(different.iter().all(|e| e["recorded"] != e["now"] || e["own_timers"] != Value::Array(Vec::new())));
    Ok(())
}

fn refused() -> Result<()> {
    let bed = Bed::new("", "")?;
    let (file, _) = record_send(&bed, false, "cubic", &[])?;
    let whole = std::fs::read(&file)?;
    let refuses = |bytes: &[u8], words: &[&str], says: &str| -> Result<()> {
        let path = bed.dir().join("wrong.rec");
        std::fs::write(&path, bytes)?;
        let out = sim(&path, words)?;
        let text = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.code() == Some(1) && text.contains(says), "{:?}: {text}", out.status);
        ensure!(!text.contains("panicked"), "{text}");
        Ok(())
    };
    refuses(&whole[..whole.len() / 2], &[], &format!("cut off at byte {}", whole.len() / 2))?;
    refuses(&whole[..whole.len() - 13], &[], "the recording is not whole")?;
    refuses(b"\x0a\x0d\x0d\x0a\x1c\x00\x00\x00", &[], "not a recording")?;
    refuses(b"", &[], "not a recording")?;
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    refuses(&damaged, &[], "does not match its checksum")?;
    refuses(&whole, &["--flow", "2"], "holds 1 connections; there is no number 2")?;
    refuses(&whole, &["--set", "net.ipv4.tcp_congestion_control=vegas"], "vegas")?;
    let cut = bed.dir().join("cut.rec");
    std::fs::write(&cut, &whole[..whole.len() - 13])?;
    let out = sim(&cut, &["--partial", "-q"])?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

fn unknown() -> Result<()> {
    let bed = Bed::new("", "")?;
    let record = |words: &[&str]| -> Result<String> {
        let mut command = Command::new(bins::path("netctl")?);
        let file = bed.dir().join("none.rec");
        let out = command
            .env("STACKD_CONTROL", bed.daemon.control())
            .args(["record", "-o"])
            .arg(&file)
            .args(words)
            .output()?;
        ensure!(out.status.code() == Some(1), "{words:?} ended with {}", out.status);
        ensure!(!file.exists(), "{words:?} left a file");
        Ok(String::from_utf8_lossy(&out.stderr).into_owned())
    };
    for words in [&["ino:999999"][..], &["sk:abc"], &["10.1.2.3:80", "10.1.2.4:5000"], &["dport", "=", ":80"]] {
        let text = record(words)?;
        ensure!(text.contains("no live connection matches"), "{words:?}: {text}");
    }
    let text = record(&["--new", "autobound"])?;
    ensure!(text.contains("not known before a connection begins"), "{text}");
    Ok(())
}
