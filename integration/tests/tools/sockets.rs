//! `ss-rs`, and what Linux's `ss` says about the same flow from its other end.

use crate::support::{Flow, command, flow, has, json, netctl, run, socket, ss};
use anyhow::{Context, Result, ensure};
use stackd_client::{Session, TcpListener, TcpStream, UdpSocket};
use stackd_integration::bed::Bed;
use stackd_integration::bins;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `word:value` of a line of -i, and the words without a value.
fn fields(text: &str) -> BTreeMap<String, String> {
    let words = text.split_whitespace().map(|word| word.split_once(':').unwrap_or((word, "")));
    words.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A known exchange: `up` bytes to the kernel, `down` bytes back, all of it read and acknowledged.
fn exchange(f: &mut Flow, up: usize, down: usize) -> Result<()> {
    f.ours.write_all(&vec![1; up])?;
    f.kernel.read_exact(&mut vec![0; up])?;
    f.kernel.write_all(&vec![2; down])?;
    f.ours.read_exact(&mut vec![0; down])?;
    // An echo of one byte each way carries the last acknowledgements.
    f.ours.write_all(&[3])?;
    f.kernel.read_exact(&mut [0])?;
    f.kernel.write_all(&[4])?;
    f.ours.read_exact(&mut [0])?;
    Ok(())
}

pub fn ss_sees_what_linux_sees(v6: bool) -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let mut f = flow(&bed, v6, Some("bbr"))?;
    exchange(&mut f, 300_000, 5_000)?;
    let (local, peer) = (f.ours.local_addr()?, f.kernel.local_addr()?);
    let linux = |args: &[&str]| -> Result<String> {
        let output = Command::new(bins::system("ss").context("no ss")?).args(args).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let theirs = linux(&["-tinmoep", "sport", "=", &format!(":{}", peer.port())])?;
    let ours = ss(&bed, &format!("-tinmoep sport = :{}", local.port()))?;
    let both = format!("stackd:\n{ours}\nLinux:\n{theirs}");

    // The frame: same header, state, and the two addresses changed round.
    let row = |text: &str, n: usize| {
        text.lines().nth(n).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    ensure!(row(&ours, 0) == row(&theirs, 0), "headers differ\n{both}");
    let (a, b) = (row(&ours, 1), row(&theirs, 1));
    // Not the queues: an ACK or a wish for room that may wait does wait, on either side.
    ensure!(a.len() > 5 && b.len() > 5 && a[0] == b[0] && a[3] == b[4] && a[4] == b[3], "rows differ\n{both}");
    has(&ours, &["users:((", "ino:", "sk:", " <->", "\t skmem:(r"])?;
    ensure!(ours.lines().count() == theirs.lines().count(), "{both}");

    // The words: ours in Linux's order, and none that it does not know.

    let (x, y) = (fields(&ours), fields(&theirs));
    for key in
        ["ts", "sack", "bbr", "wscale", "rto", "rtt", "mss", "pmtu", "rcvmss", "advmss", "cwnd", "minrtt", "snd_wnd"]
    {
        ensure!(x.contains_key(key) && y.contains_key(key), "{key} is missing\n{both}");
    }
    let get = |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_default();
    for key in ["mss", "pmtu", "advmss"] {
        ensure!(get(&x, key) == get(&y, key), "{key} differs\n{both}");
    }
    let (ws, peer_ws) = (get(&x, "wscale"), get(&y, "wscale"));
    let swapped = ws.split_once(',').map(|(a, b)| format!("{b},{a}"));
    ensure!(swapped.as_deref() == Some(&*peer_ws), "window scales do not agree\n{both}");
    // What one end sent for the first time, the other received.
    let number = |map: &BTreeMap<String, String>, key: &str| get(map, key).parse::<u64>().unwrap_or(0);
    for (a, b) in [(&x, &y), (&y, &x)] {
        let sent = number(a, "bytes_sent") - number(a, "bytes_retrans");
        ensure!(sent > 0 && sent == number(b, "bytes_received"), "bytes_sent here, bytes_received there\n{both}");
    }
    // RFC 4898 as Linux counts it: the end that connected has its SYN acknowledged too.
    ensure!(number(&x, "bytes_acked") == 300_001 + 1, "bytes_acked\n{both}");
    ensure!(get(&x, "skmem").split(',').count() == get(&y, "skmem").split(',').count(), "skmem\n{both}");
    ensure!(ours.contains("bbr:(bw:") && ours.contains(",mrtt:") && ours.contains(",cwnd_gain:"), "{ours}");

    // Bytes that nobody has read are in Recv-Q here as they are there.
    f.kernel.write_all(&[5; 777])?;
    f.ours.peek(&mut [0; 777])?;
    let waiting = socket(&bed, local)?["recv_q"].as_u64();
    // The stack hears of what the client read when that matters for the window: Recv-Q may be late by up to 5001 bytes here.
    ensure!(waiting.is_some_and(|n| (777..=777 + 5_001).contains(&n)), "recv_q {waiting:?}");
    Ok(())
}

pub fn filters() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let (f4, f6) = (flow(&bed, false, None)?, flow(&bed, true, None)?);
    let session = Session::connect(bed.daemon.attach())?;
    let listener = TcpListener::bind_in(&session, SocketAddr::new(bed.ours(false), 8080))?;
    let _udp = UdpSocket::bind_in(&session, "0.0.0.0:5353")?;
    let count = |line: &str| -> Result<usize> { Ok(ss(&bed, &format!("-Hn {line}"))?.lines().count()) };
    let (p4, p6) = (f4.ours.local_addr()?.port(), f6.ours.local_addr()?.port());
    let (k4, k6) = (f4.kernel.local_addr()?.port(), f6.kernel.local_addr()?.port());
    for (line, want) in [
        ("-t".to_owned(), 2),
        ("-ta".into(), 3),
        ("-tl".into(), 1),
        ("-ua".into(), 1),
        ("-a".into(), 4),
        ("-t4".into(), 1),
        ("-t6".into(), 1),
        ("-t state established".into(), 2),
        ("-t state listening".into(), 1),
        ("-t state time-wait".into(), 0),
        ("-ta exclude established".into(), 1),
        ("-t state connected".into(), 2),
        (format!("-t sport = :{p4}"), 1),
        (format!("-t sport != :{p4}"), 1),
        (format!("-t ( sport = :{p4} or sport = :{p6} )"), 2),
        (format!("-t sport = :{p4} and dport = :{k6}"), 0),
        (format!("-t dport = :{k4}"), 1),
        (format!("-t dst {}", bed.kernel(false)), 1),
        (format!("-t dst [{}]:{k6}", bed.kernel(true)), 1),
        ("-t dst 10.0.0.0/8".into(), 1),
        ("-t not dst 10.0.0.0/8".into(), 1),
        ("-t src fd80::/16".into(), 1),
        ("-ta sport = :8080".into(), 1),
        ("-t autobound".into(), 2),
    ] {
        ensure!(count(&line)? == want, "ss-rs {line} shows {} sockets, want {want}", count(&line)?);
    }
    // `kill` asks the same range as `ss`: the listener's port is inside it once the range is moved there.
    let output = command(&bed, "netctl", "sysctl -w")?.arg("net.ipv4.ip_local_port_range=8000 9000").output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(count("-ta autobound")? == 1);
    let picked = json(&bed, "netctl", "--json kill --dry-run state all autobound")?;
    ensure!(picked.as_array().is_some_and(|a| a.len() == 1 && a[0]["local"]["port"] == 8080), "{picked}");
    run(&bed, "ss-rs", "state nope")?.refused(255, "wrong state name")?;
    run(&bed, "ss-rs", "-t dport = :nope")?.refused(1, "does not look like a port")?;
    drop(listener);
    Ok(())
}

pub fn summary_counts() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let empty = ss(&bed, "-s")?;
    has(&empty, &["Total: 0\n", "TCP:   0 (estab 0, closed 0, orphaned 0, timewait 0)"])?;
    let flows = (0..3).map(|n| flow(&bed, n == 2, None)).collect::<Result<Vec<_>>>()?;
    has(&ss(&bed, "-s")?, &["Total: 3\n", "TCP:   3 (estab 3,", "TCP\t  3         2         1 "])?;
    let value = json(&bed, "ss-rs", "-sj")?;
    ensure!(value["tcp"]["estab"] == 3 && value["tcp"]["ipv6"] == 1, "{value}");
    drop(flows);
    Ok(())
}

/// Connections come and go until the watcher has reported one.
pub fn events_report_closed_sockets() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let session = Session::connect(bed.daemon.attach())?;
    let listener = std::net::TcpListener::bind(SocketAddr::new(bed.kernel(false), 0))?;
    let addr = listener.local_addr()?;
    let mut watcher =
        command(&bed, "ss-rs", &format!("-E -tn dport = :{}", addr.port()))?.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(watcher.stdout.take().context("no stdout")?).lines();
    let (tell, told) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut held: Option<TcpStream> = None;
    let line = loop {
        ensure!(Instant::now() < deadline, "no closed socket was reported");
        // The watcher compares looks 10 ms apart: each connection lives that long, then the next replaces it.
        let ours = TcpStream::connect_in(&session, addr)?;
        let (kernel, _) = listener.accept()?;
        drop(held.replace(ours));
        drop(kernel);
        if let Ok(line) = told.recv_timeout(Duration::from_millis(20))
            && line.contains(&addr.to_string())
        {
            break line;
        }
    };
    watcher.kill()?;
    watcher.wait()?;
    drop(told);
    reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    ensure!(line.contains(&bed.ours(false).to_string()), "{line}");
    Ok(())
}

/// By `netctl kill` and by `ss-rs -K`: the owner learns ECONNABORTED, the peer gets a RST, other flows live.
pub fn kill_resets_both_ends(v6: bool) -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let mut other = flow(&bed, v6, None)?;
    for by_ss in [false, true] {
        let mut f = flow(&bed, v6, None)?;
        let filter = format!("sport = :{}", f.ours.local_addr()?.port());
        if by_ss {
            let shown = ss(&bed, &format!("-K -tn {filter}"))?;
            ensure!(shown.lines().count() == 2, "{shown}");
        } else {
            has(&netctl(&bed, &format!("kill --dry-run {filter}"))?, &["ESTAB"])?;
            has(&netctl(&bed, &format!("kill {filter}"))?, &["ESTAB"])?;
        }
        let ours = f.ours.read(&mut [0; 1]).expect_err("the socket was killed").kind();
        ensure!(ours == ErrorKind::ConnectionAborted, "the owner got {ours:?}");
        let kernel = f.kernel.read(&mut [0; 1]).expect_err("the peer was reset").kind();
        ensure!(kernel == ErrorKind::ConnectionReset, "the peer got {kernel:?}");
        ensure!(ss(&bed, &format!("-Htn {filter}"))?.is_empty());
    }
    run(&bed, "ss-rs", "-K")?.refused(1, "would abort every connection")?;
    other.ours.write_all(b"alive")?;
    other.kernel.read_exact(&mut [0; 5])?;
    Ok(())
}
