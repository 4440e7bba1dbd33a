//! `nstat`, `capture`, `clients`, `doctor`, and JSON from everything.

use crate::support::{command, device, flow, has, json, netctl, run};
use anyhow::{Context, Result, ensure};
use stackd_integration::bed::Bed;
use stackd_integration::bins;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

pub fn nstat_shows_growth() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let opens = || -> Result<Option<u64>> {
        Ok(json(&bed, "netctl", "--json nstat TcpActiveOpens")?["stackd"]["TcpActiveOpens"].as_u64())
    };
    ensure!(opens()?.is_none(), "something was opened already");
    let flows = (0..3).map(|n| flow(&bed, n % 2 == 1, None)).collect::<Result<Vec<_>>>()?;
    ensure!(opens()? == Some(3));
    // The look before was remembered: nothing grew since. A gauge is not a growth.
    ensure!(opens()?.is_none());
    has(&netctl(&bed, "nstat -as TcpActiveOpens TcpCurrEstab")?, &["TcpActiveOpens                  3  "])?;
    let gauge = json(&bed, "netctl", "--json nstat TcpCurrEstab")?;
    ensure!(gauge["stackd"]["TcpCurrEstab"] == 3, "{gauge}");
    has(&netctl(&bed, "nstat -az")?, &["TcpExtTCPLossProbes", "UdpInDatagrams", "Ip6InReceives"])?;
    // Every drop has a reason that explains itself.
    let drops = netctl(&bed, "nstat -az --drops")?;
    for line in drops.lines().skip(1) {
        ensure!(line.split_whitespace().count() > 2, "a reason without a text: {line}");
    }
    ensure!(netctl(&bed, "nstat -az --per-shard TcpActiveOpens")?.contains("1:TcpActiveOpens"));
    drop(flows);
    Ok(())
}

/// Requests and answers run until the capture has its packets; tshark then finds every one well-formed, from both sides.
pub fn tshark_reads_the_capture() -> Result<()> {
    const PACKETS: usize = 60;
    let bed = Bed::new("workers = 2", "")?;
    let dev = device(&bed)?;
    let (mut f4, mut f6) = (flow(&bed, false, None)?, flow(&bed, true, None)?);
    let file = bed.dir().join("capture.pcapng");
    let line = format!("capture -i {dev} -c {PACKETS} -w {}", file.display());
    let mut capture = command(&bed, "netctl", &line)?.stderr(Stdio::piped()).spawn()?;
    let status = loop {
        for f in [&mut f4, &mut f6] {
            f.ours.write_all(b"request")?;
            f.kernel.read_exact(&mut [0; 7])?;
            f.kernel.write_all(b"answer")?;
            f.ours.read_exact(&mut [0; 6])?;
        }
        if let Some(status) = capture.try_wait()? {
            break status;
        }
    };
    let mut said = String::new();
    capture.stderr.take().context("no stderr")?.read_to_string(&mut said)?;
    ensure!(status.success() && said.contains(&format!("{PACKETS} packets captured")), "{status}: {said}");
    let tshark = |args: &[&str]| -> Result<String> {
        let program = bins::system("tshark").context("tshark is not installed")?;
        let output = Command::new(program).arg("-n").arg("-r").arg(&file).args(args).env("HOME", bed.dir()).output()?;
        // As root it says once that it should not be; anything else is a complaint about the file.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let complaint = said.lines().find(|l| !l.is_empty() && !l.starts_with("Running as user"));
        ensure!(output.status.success() && complaint.is_none(), "tshark {args:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    ensure!(tshark(&[])?.lines().count() == PACKETS);
    ensure!(tshark(&["-Y", "_ws.malformed || _ws.short"])?.is_empty());
    for filter in ["ip.addr == 0.0.0.0/0 && tcp", "ipv6 && tcp"] {
        ensure!(!tshark(&["-Y", filter])?.is_empty(), "nothing passes {filter}");
    }
    let sources = tshark(&["-Y", "ip", "-T", "fields", "-e", "ip.src"])?;
    has(&sources, &[&bed.ours(false).to_string(), &bed.kernel(false).to_string()])?;
    // What arrives carries whole checksums; what leaves has them left open for the device.
    let filter = format!("ip.src == {} && tcp.checksum.status == 0", bed.kernel(false));
    ensure!(tshark(&["-o", "tcp.check_checksum:FALSE", "-Y", &filter])?.is_empty());
    run(&bed, "netctl", "capture -i nope -w /dev/null")?.refused(1, "no such device")
}

pub fn clients_lists_limits_and_disconnects() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let mut f = flow(&bed, false, None)?;
    f.ours.write_all(&[1; 1000])?;
    f.kernel.read_exact(&mut [0; 1000])?;
    let all = json(&bed, "netctl", "--json clients")?;
    let mine: Vec<_> = all["sessions"].as_array().context("no sessions")?.iter().collect();
    ensure!(mine.len() == 1, "{all}");
    let (id, pid) = (mine[0]["id"].as_u64().context("no id")?, u64::from(std::process::id()));
    ensure!(mine[0]["process"]["pid"] == pid && mine[0]["via"] == "shm" && mine[0]["sockets"] == 1, "{all}");
    has(&netctl(&bed, "clients")?, &["ID", "COMMAND", &pid.to_string(), " shm "])?;
    netctl(&bed, &format!("clients --quota {id} --sockets 1"))?;
    let second = stackd_client::TcpListener::bind_in(&f.session, "0.0.0.0:0");
    ensure!(second.is_err(), "a second socket in spite of a quota of one");
    netctl(&bed, &format!("clients --disconnect {id}"))?;
    // The lease is gone: the client's read and the kernel's both end.
    ensure!(!matches!(f.ours.read(&mut [0; 1]), Ok(n) if n > 0));
    ensure!(!matches!(f.kernel.read(&mut [0; 1]), Ok(n) if n > 0));
    let after = json(&bed, "netctl", "--json clients")?;
    ensure!(after["sessions"].as_array().is_some_and(Vec::is_empty), "{after}");
    run(&bed, "netctl", "clients --disconnect 4711")?.refused(1, "no such session")
}

pub fn doctor() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let ran = run(&bed, "netctl", "doctor")?;
    ensure!(ran.code == 0, "{ran:?}");
    has(&ran.out, &["/dev/net/tun", "2 shard(s)", &format!("device {}", device(&bed)?)])?;
    // Somebody else, who may not even see the folder of the socket.
    std::fs::set_permissions(bed.dir(), std::fs::Permissions::from_mode(0o700))?;
    let mut somebody = command(&bed, "netctl", "--json doctor")?;
    let output = match somebody.uid(65_534).gid(65_534).output() {
        Ok(output) => output,
        // In a user namespace of our own there is nobody else; or the programs lie where only we may go.
        Err(e) => {
            eprintln!("skipped: doctor as an ordinary user: {e}");
            return Ok(());
        }
    };
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let stackd =
        findings.as_array().context("array")?.iter().find(|f| f["subject"] == "stackd").context("no stackd")?;
    ensure!(output.status.code() == Some(1) && stackd["severity"] == "ERROR", "{findings}");
    ensure!(stackd["finding"].as_str().is_some_and(|t| t.contains("not allowed to open")), "{stackd}");
    let tun =
        findings.as_array().context("array")?.iter().find(|f| f["subject"] == "/dev/net/tun").context("no tun")?;
    ensure!(tun["severity"] != "ok" && tun["remedy"].as_str().is_some_and(|r| !r.is_empty()), "{tun}");
    Ok(())
}

pub fn json_parses() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let mut f = flow(&bed, true, Some("bbr"))?;
    f.ours.write_all(b"x")?;
    f.kernel.read_exact(&mut [0; 1])?;
    for line in [
        "--json sysctl -a",
        "--json sysctl -a -d",
        "--json sysctl net.ipv4.tcp_wmem",
        "--json ip addr",
        "ip -j -s addr",
        "--json ip -s link",
        "--json ip route",
        "ip -6 -j route",
        "--json ip route get 127.0.0.1",
        "--json ip neigh",
        "--json tc qdisc show",
        "tc -s -j qdisc show",
        "--json nstat -az",
        "--json nstat -az --drops",
        "--json clients",
        "--json doctor",
        "--json kill --dry-run state established",
    ] {
        let value = json(&bed, "netctl", line)?;
        let empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(|o| o.is_empty());
        ensure!(!empty, "{line} says nothing");
    }
    for line in ["-j", "-tanj", "-tinmoepj state established", "-sj", "-j sport = :1"] {
        json(&bed, "ss-rs", line)?;
    }
    Ok(())
}
