//! `netctl tc`.

use crate::support::{device, flow, has, json, netctl, run, socket};
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use stackd_integration::bed::Bed;
use std::io::{Read, Write};

/// Packets wait in every qdisc that is replaced; none may be lost, or the sender would have to send it again.
pub fn replace_under_traffic_loses_nothing() -> Result<()> {
    const LEN: usize = 24 << 20;
    let bed = Bed::new("", "")?;
    let dev = device(&bed)?;
    let f = flow(&bed, false, Some("cubic"))?;
    let local = f.ours.local_addr()?;
    // As on Linux a qdisc counts from its own start; the link's figures run on through every change.
    let figures = || -> Result<(u64, u64, u64)> {
        let qdisc = json(&bed, "netctl", &format!("--json tc -s qdisc show dev {dev}"))?;
        let link = json(&bed, "netctl", &format!("--json ip -s link show {dev}"))?;
        let number = |value: &serde_json::Value| value.as_u64().with_context(|| format!("no number in {qdisc} {link}"));
        let sent = number(&link[0]["stats64"]["tx"]["packets"])?;
        Ok((sent, number(&qdisc[0]["drops"])?, number(&qdisc[0]["qlen"])?))
    };
    let mut kernel = f.kernel;
    let mut ours = f.ours;
    let received = std::thread::spawn(move || -> Result<Vec<u8>> {
        let mut hash = Sha256::new();
        let mut buf = vec![0; 1 << 18];
        loop {
            match kernel.read(&mut buf)? {
                0 => return Ok(hash.finalize().to_vec()),
                n => hash.update(&buf[..n]),
            }
        }
    });
    // A queue from the first byte on: 4 Mbyte a second and room for all that the window allows.
    netctl(&bed, &format!("tc qdisc replace dev {dev} root netem rate 32mbit limit 100000"))?;
    let sender = std::thread::spawn(move || -> Result<Vec<u8>> {
        let mut hash = Sha256::new();
        let block: Vec<u8> = (0..1 << 16).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for _ in 0..LEN / block.len() {
            hash.update(&block);
            ours.write_all(&block)?;
        }
        ours.shutdown(std::net::Shutdown::Write)?;
        // The kernel closes when it has read everything.
        ensure!(ours.read(&mut [0; 1])? == 0, "the kernel sent something");
        Ok(hash.finalize().to_vec())
    });
    // The first change comes when packets wait: until then there is nothing that it could lose.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut waited = 0;
    while waited == 0 {
        ensure!(std::time::Instant::now() < deadline, "no packet ever waited: the test proved nothing");
        waited = figures()?.2;
    }
    let mut packets = 0;
    for options in [
        "fq limit 100000 flow_limit 100000 maxrate 40mbit",
        "pfifo limit 100000",
        "netem rate 40mbit delay 1ms limit 100000",
        "tbf rate 40mbit burst 100k limit 100m",
        "netem rate 48mbit limit 100000",
        "fq limit 100000 flow_limit 100000",
    ] {
        netctl(&bed, &format!("tc qdisc replace dev {dev} root {options}"))?;
        let (now, drops, _) = figures()?;
        ensure!(drops == 0, "{drops} packets dropped by or before {options}");
        ensure!(now >= packets, "statistics fell from {packets} to {now} with {options}");
        packets = now;
    }
    let retransmits = socket(&bed, local).map(|s| s["retrans_total"].as_u64().unwrap_or(0)).unwrap_or(0);
    let sent = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let arrived = received.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    ensure!(sent == arrived, "SHA-256 differs");
    let (_, drops, _) = figures()?;
    ensure!(drops == 0 && retransmits == 0, "{drops} drops, {retransmits} retransmissions");
    Ok(())
}

pub fn netem_delays_and_refuses() -> Result<()> {
    let bed = Bed::new("workers = 2", "")?;
    let dev = device(&bed)?;
    netctl(&bed, &format!("tc qdisc add dev {dev} root netem delay 30ms 2ms loss 0.5% limit 5000"))?;
    // Flags before the verb as tc wants them, or behind it as people write them.
    for line in ["tc -s qdisc show", "tc qdisc show -s"] {
        has(
            &netctl(&bed, line)?,
            &[&format!("netem 8001: dev {dev} root"), "limit 5000 delay 30ms  2ms loss 0.5%", " Sent "],
        )?;
    }
    let mut f = flow(&bed, true, None)?;
    f.ours.write_all(b"x")?;
    f.kernel.read_exact(&mut [0; 1])?;
    f.kernel.write_all(b"y")?;
    f.ours.read_exact(&mut [0; 1])?;
    let minrtt = socket(&bed, f.ours.local_addr()?)?["minrtt_us"].as_u64().context("no minrtt")?;
    ensure!((28_000..60_000).contains(&minrtt), "minrtt {minrtt} us behind a delay of 30 ms");

    run(&bed, "netctl", &format!("tc qdisc add dev {dev} root fq"))?.refused(2, "want tc qdisc replace")?;
    run(&bed, "netctl", &format!("tc qdisc change dev {dev} root fq quantum 9000"))?.refused(2, "another kind")?;
    netctl(&bed, &format!("tc qdisc change dev {dev} root netem loss 0%"))?;
    let shown = netctl(&bed, "tc qdisc show")?;
    ensure!(shown.contains("delay 30ms") && !shown.contains("loss"), "{shown}");
    let refused = |line: &str, code, says| {
        run(&bed, "netctl", &format!("tc qdisc replace dev {dev} root {line}"))?.refused(code, says)
    };
    refused("netem slot 1ms 2ms", 1, "slots are not emulated")?;
    refused("netem loss 101%", 1, "101%")?;
    refused("fq quantum 0", 2, "quantum")?;
    refused("fq_codel", 2, "not a qdisc of this stack")?;
    refused("fq limt 3", 1, "unknown parameter \"limt\"")?;
    netctl(&bed, &format!("tc qdisc del dev {dev} root"))?;
    ensure!(!netctl(&bed, "tc qdisc show")?.contains("netem"));
    Ok(())
}
