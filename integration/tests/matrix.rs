//! Every pairing with Linux's TCP over a TAP: {v4, v6} x {we connect, Linux connects} x {reno, cubic, bbr} on each side x
//! {clean, 1 % loss, reordering, five MTUs} x {offloads on, off}. Content is compared both ways, and without offloads no frame of ours
//! may be longer than the MTU on the wire that Linux sees.
//!
//! IPv6 has no column for an MTU of 576: its links carry 1280 bytes at least (RFC 8200, 5), and Linux switches it off below that.

use anyhow::{Context, Result, ensure};
use stackd_client::{Session, TcpConnect, TcpListener};
use stackd_integration::bed::Bed;
use stackd_integration::sniff::Sniffer;
use stackd_integration::trials::{self, Case, case};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::ExitCode;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const CONTROLS: [&str; 3] = ["reno", "cubic", "bbr"];
const ETHERNET_HEADER: usize = 14;
/// More than the initial windows of both ends at every MTU but the largest.
const BYTES: usize = 192 << 10;
/// At 65,520 bytes a segment, more of it.
const BYTES_OF_LARGE_MTU: usize = 2 << 20;

/// What the path does.
#[derive(Clone, Copy)]
struct Path {
    name: &'static str,
    mtu: usize,
    /// Both `emulate` and `emulate_ingress`.
    emulate: &'static str,
}

const PATHS: [Path; 7] = [
    Path { name: "clean", mtu: 1500, emulate: "" },
    Path { name: "loss", mtu: 1500, emulate: "delay = \"1ms\"\nloss = \"1%\"\nlimit = 10000" },
    Path { name: "reordering", mtu: 1500, emulate: "delay = \"1ms\"\nreorder = \"5%\"\nlimit = 10000" },
    Path { name: "mtu_576", mtu: 576, emulate: "" },
    Path { name: "mtu_1280", mtu: 1280, emulate: "" },
    Path { name: "mtu_9000", mtu: 9000, emulate: "" },
    Path { name: "mtu_65520", mtu: 65_520, emulate: "" },
];

fn main() -> ExitCode {
    let mut cases: Vec<Case> = Vec::new();
    for path in PATHS {
        for v6 in [false, true] {
            if v6 && path.mtu < 1280 {
                continue;
            }
            for offload in [true, false] {
                let family = if v6 { "ipv6" } else { "ipv4" };
                let offloads = if offload { "offloads" } else { "no_offloads" };
                let name = format!("{family}::{}::{offloads}", path.name);
                cases.push(case(name, move || cell(path, v6, offload)).tap());
            }
        }
    }
    trials::main(cases)
}

/// All congestion controls on both sides, connecting from both sides.
fn cell(path: Path, v6: bool, offload: bool) -> Result<()> {
    let Path { name: _, mtu, emulate } = path;
    let mut device = format!("mtu = {mtu}\noffload = {offload}\n");
    if !emulate.is_empty() {
        device += &format!("[device.emulate]\n{emulate}\n[device.emulate_ingress]\n{emulate}\n");
    }
    let bed = if v6 { Bed::new("", &device)? } else { Bed::ipv4_only("", &device)? };
    let sniffer = Sniffer::start(bed.ours(v6))?;
    let session = Session::connect(bed.daemon.attach())?;
    for ours in CONTROLS {
        for theirs in CONTROLS {
            for we_connect in [true, false] {
                let bytes = if mtu > 20_000 { BYTES_OF_LARGE_MTU } else { BYTES };
                exchange(&bed, &session, v6, Pairing { ours, theirs, we_connect, bytes }).with_context(|| {
                    let who = if we_connect { "we connect" } else { "Linux connects" };
                    format!("ours by {ours}, Linux's by {theirs}, {who}; {}", bed.daemon.log())
                })?;
            }
        }
    }
    let seen = sniffer.stop()?;
    ensure!(seen.frames > 0, "the sniffer saw nothing of ours");
    if !offload {
        ensure!(seen.longest <= mtu + ETHERNET_HEADER, "a frame of {} bytes at an MTU of {mtu}", seen.longest);
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Pairing {
    ours: &'static str,
    theirs: &'static str,
    we_connect: bool,
    bytes: usize,
}

fn exchange(bed: &Bed, session: &Session, v6: bool, pairing: Pairing) -> Result<()> {
    let Pairing { ours: our_cc, theirs: their_cc, we_connect, bytes } = pairing;
    let (ours, theirs) = if we_connect {
        let kernel = std::net::TcpListener::bind((bed.kernel(v6), 0))?;
        let ours = TcpConnect::new(session).congestion(our_cc).timeout(LIMIT).connect(kernel.local_addr()?)?;
        (ours, kernel.accept()?.0)
    } else {
        let listener = TcpListener::bind_in(session, (bed.ours(v6), 0))?;
        listener.set_congestion(our_cc)?;
        let theirs = std::net::TcpStream::connect_timeout(&listener.local_addr()?, LIMIT)?;
        (listener.accept()?.0, theirs)
    };
    rustix::net::sockopt::set_tcp_congestion(&theirs, their_cc)?;
    ensure!(ours.congestion()? == our_cc, "{} instead of {our_cc}", ours.congestion()?);
    for timeout in [ours.set_read_timeout(Some(LIMIT)), ours.set_write_timeout(Some(LIMIT))] {
        timeout?;
    }
    theirs.set_read_timeout(Some(LIMIT))?;
    theirs.set_write_timeout(Some(LIMIT))?;
    let (out, back) = (pattern(bytes, 7), pattern(bytes, 11));
    std::thread::scope(|scope| -> Result<()> {
        let sends = scope.spawn(|| -> Result<()> {
            (&ours).write_all(&out).context("our writes")?;
            Ok(ours.shutdown(Shutdown::Write)?)
        });
        let answers = scope.spawn(|| -> Result<()> {
            (&theirs).write_all(&back).context("Linux's writes")?;
            Ok(theirs.shutdown(Shutdown::Write)?)
        });
        let arrives = scope.spawn(|| read_all(&theirs).context("Linux's reads"));
        let got = read_all(&ours).context("our reads");
        let joined = |r: std::thread::Result<_>| r.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")));
        joined(sends.join())?;
        joined(answers.join())?;
        ensure!(got? == back, "other bytes came to us than Linux sent");
        let arrived = arrives.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))?;
        ensure!(arrived == out, "other bytes came to Linux than we sent");
        Ok(())
    })
}

fn read_all(mut from: impl Read) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    from.read_to_end(&mut all)?;
    Ok(all)
}

/// Bytes with no period that a lost or doubled segment could hide in.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut x = seed;
    (0..len)
        .map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        })
        .collect()
}
