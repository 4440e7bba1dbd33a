//! `netctl sysctl`.

use crate::support::{flow, has, netctl, run, socket};
use anyhow::{Context, Result, ensure};
use stackd_integration::bed::Bed;
use std::io::Write;

pub fn reads_writes_and_loads() -> Result<()> {
    // Two shards: what one has been told, the other must know.
    let bed = Bed::new("workers = 2", "")?;
    let all = netctl(&bed, "sysctl -a")?;
    ensure!(all.lines().count() > 50 && all.lines().is_sorted(), "{all}");
    has(&all, &["net.ipv4.tcp_wmem = ", "net.core.default_qdisc = ", "stackd.clock_hz = "])?;
    has(&netctl(&bed, "sysctl -w net.ipv4.tcp_fin_timeout=17")?, &["net.ipv4.tcp_fin_timeout = 17"])?;
    ensure!(netctl(&bed, "sysctl -n net/ipv4/tcp_fin_timeout")? == "17\n");
    ensure!(netctl(&bed, "sysctl -N net.ipv4.tcp_fin_timeout")? == "net.ipv4.tcp_fin_timeout\n");

    let file = bed.dir().join("sysctl.conf");
    std::fs::write(&file, "# tuned\nnet.ipv4.tcp_fin_timeout = 23\n; and\nnet.ipv4.tcp_wmem = 4096 20000 5000000\n")?;
    netctl(&bed, &format!("sysctl -p {}", file.display()))?;
    ensure!(netctl(&bed, "sysctl -n net.ipv4.tcp_fin_timeout net.ipv4.tcp_wmem")? == "23\n4096\t20000\t5000000\n");
    // All of a file or nothing of it.
    std::fs::write(&file, "net.ipv4.tcp_fin_timeout = 99\nnet.ipv4.tcp_wmem = 3 2 1\n")?;
    run(&bed, "netctl", &format!("sysctl -p {}", file.display()))?.refused(1, "net.ipv4.tcp_wmem")?;
    ensure!(netctl(&bed, "sysctl -n net.ipv4.tcp_fin_timeout")? == "23\n");
    has(&netctl(&bed, "sysctl -d net.ipv4.tcp_wmem")?, &["(default 4096\t16384\t4194304"])
}

pub fn says_what_is_wrong() -> Result<()> {
    let bed = Bed::new("", "")?;
    let refused = |line: &str, says: &str| run(&bed, "netctl", line)?.refused(1, says);
    refused("sysctl net.ipv4.tcp_wmm", "net.ipv4.tcp_wmm: no such key; did you mean net.ipv4.tcp_wmem?")?;
    refused("sysctl -w net.ipv4.tcp_wmm=1", "did you mean net.ipv4.tcp_wmem?")?;
    refused("sysctl -w net.ipv4.tcp_fin_timeout=soon", "net.ipv4.tcp_fin_timeout")?;
    refused("sysctl -w net.ipv4.tcp_congestion_control=vegas", "want one of: ")?;
    // A value with blanks, which a line split at blanks cannot say.
    let output = crate::support::command(&bed, "netctl", "sysctl -w")?
        .arg("net.ipv4.tcp_wmem=4096 16384 1000")
        .output()
        .context("netctl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let want = "sysctl: net.ipv4.tcp_wmem: \"max\" (1000) is below \"default\" (16384); want min <= default <= max\n";
    ensure!(output.status.code() == Some(1) && said == want, "{said}");
    // An unknown key does not hide the known ones, and -e does not mind it.
    let ran = run(&bed, "netctl", "sysctl -n no.such.key net.ipv4.tcp_fin_timeout")?;
    ensure!(ran.code == 1 && ran.out == "60\n", "{ran:?}");
    ensure!(netctl(&bed, "sysctl -e -n no.such.key net.ipv4.tcp_fin_timeout")? == "60\n");
    Ok(())
}

/// A write reaches connections that exist: the send buffer of a running flow stops at the old maximum, then passes it.
pub fn tcp_wmem_reaches_a_running_flow() -> Result<()> {
    const OLD: u64 = 65_536;
    let bed = Bed::new("[sysctl]\n\"net.ipv4.tcp_wmem\" = [4096, 16384, 65536]", "")?;
    let mut f = flow(&bed, false, Some("cubic"))?;
    let local = f.ours.local_addr()?;
    let mut reader = f.kernel.try_clone()?;
    let drain = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let block = vec![7u8; 1 << 20];
    let sndbuf = || -> Result<u64> { socket(&bed, local)?["skmem"]["snd_buf"].as_u64().context("no snd_buf") };
    for _ in 0..8 {
        f.ours.write_all(&block)?;
    }
    let before = sndbuf()?;
    ensure!(before <= OLD, "send buffer {before} above the maximum {OLD}");
    let output =
        crate::support::command(&bed, "netctl", "sysctl -w")?.arg("net.ipv4.tcp_wmem=4096 16384 8000000").output()?;
    ensure!(output.status.success(), "{output:?}");
    let mut after = before;
    for _ in 0..256 {
        f.ours.write_all(&block)?;
        after = sndbuf()?;
        if after > OLD {
            break;
        }
    }
    ensure!(after > OLD, "send buffer still {after} with a maximum of 8000000");
    f.ours.shutdown(std::net::Shutdown::Write)?;
    ensure!(drain.join().is_ok_and(|copied| copied.is_ok_and(|n| n > 8 << 20)));
    Ok(())
}

pub fn congestion_control_is_for_new_sockets() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let cc = |f: &crate::support::Flow| -> Result<String> {
        Ok(socket(&bed, f.ours.local_addr()?)?["cc"].as_str().context("no cc")?.to_owned())
    };
    netctl(&bed, "sysctl -w net.ipv4.tcp_congestion_control=reno")?;
    let old = flow(&bed, false, None)?;
    netctl(&bed, "sysctl -w net.ipv4.tcp_congestion_control=bbr")?;
    // Enough flows that every shard opened one.
    let new = (0..8).map(|_| flow(&bed, true, None)).collect::<Result<Vec<_>>>()?;
    ensure!(cc(&old)? == "reno", "the running flow changed to {}", cc(&old)?);
    for f in &new {
        ensure!(cc(f)? == "bbr", "a new flow has {}", cc(f)?);
    }
    let asked = flow(&bed, false, Some("cubic"))?;
    ensure!(cc(&asked)? == "cubic");
    Ok(())
}
