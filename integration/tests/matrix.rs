//! Every pairing with Linux's TCP over a TAP: {v4, v6} x {we connect, Linux connects} x {reno, cubic, bbr} on each side x
//! {clean, 1 % loss, reordering, five MTUs} x {offloads on, off}. Content is compared both ways, and without offloads no frame of ours
//! may be longer than the MTU on the wire that Linux sees.
//!
//! IPv6 has no column for an MTU of 576: its links carry 1280 bytes at least (RFC 8200, 5), and Linux switches it off below that.

use anyhow::{Context, Result, ensure};
use stackd_client::Session;
use stackd_integration::bed::Bed;
use stackd_integration::scenario::{Pairing, exchange};
use stackd_integration::sniff::Sniffer;
use stackd_integration::trials::{self, Case, case};
use stackd_integration::tshark::Capture;
use std::process::ExitCode;

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
    for v6 in [false, true] {
        let family = if v6 { "ipv6" } else { "ipv4" };
        cases.push(case(format!("{family}::tshark_sees_our_options"), move || options(v6)).tap().program("tshark"));
        cases
            .push(case(format!("{family}::tshark_finds_nothing_odd"), move || nothing_odd(v6)).tap().program("tshark"));
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

/// Both SYNs offer what a modern stack offers, whoever connects.
fn options(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let capture = Capture::start(bed.dir(), &bed.interface())?;
    let session = Session::connect(bed.daemon.attach())?;
    for we_connect in [true, false] {
        exchange(&bed, &session, v6, Pairing { ours: "cubic", theirs: "cubic", we_connect, bytes: BYTES })?;
    }
    let captured = capture.stop(bed.ours(v6))?;
    let ip = if v6 { "ipv6" } else { "ip" };
    let ours = format!("{ip}.src == {}", bed.ours(v6));
    let fields =
        ["tcp.options.mss_val", "tcp.options.wscale.shift", "tcp.options.sack_perm", "tcp.options.timestamp.tsecr"];
    let mss = if v6 { "1440" } else { "1460" };
    for (flags, echoes) in [("tcp.flags == 0x002", false), ("tcp.flags == 0x012", true)] {
        let rows = captured.rows(&format!("{ours} && {flags}"), &fields)?;
        ensure!(rows.len() == 1, "{flags}: {rows:?}");
        let row: Vec<&str> = rows[0].split('\t').collect();
        ensure!(row[0] == mss && !row[1].is_empty() && !row[2].is_empty(), "{flags}: {row:?}");
        // RFC 7323, 3.2: TSecr is zero in a SYN, and echoes in a SYN-ACK.
        ensure!((row[3] != "0") == echoes, "{flags}: {row:?}");
    }
    // "Once TSopt has been successfully negotiated, that is both <SYN> and <SYN,ACK> contain TSopt, the TSopt MUST be sent in every
    // non-<RST> segment" (RFC 7323, 3.2).
    let without =
        captured.rows(&format!("{ours} && !tcp.options.timestamp.tsval && tcp.flags.reset == 0"), &["frame.number"])?;
    ensure!(without.is_empty(), "frames without a timestamp: {without:?}");
    let padded = captured.rows(&format!("{ours} && tcp.hdr_len > 60"), &["frame.number"])?;
    ensure!(padded.is_empty());
    Ok(())
}

/// On a clean path tshark's analysis has nothing to say of us that is not explained. Window updates and full windows are how flow
/// control works. A retransmission must be a tail loss probe, which a machine that is busy elsewhere for longer than two round
/// trips provokes; a duplicate ACK must answer one of Linux's.
fn nothing_odd(v6: bool) -> Result<()> {
    let bed = Bed::new("", "")?;
    let capture = Capture::start(bed.dir(), &bed.interface())?;
    let session = Session::connect(bed.daemon.attach())?;
    for ours in CONTROLS {
        for we_connect in [true, false] {
            exchange(&bed, &session, v6, Pairing { ours, theirs: "cubic", we_connect, bytes: 4 * BYTES })?;
        }
    }
    let captured = capture.stop(bed.ours(v6))?;
    const REPEATS: &str = "(tcp.analysis.retransmission || tcp.analysis.out_of_order)";
    const FLOW_CONTROL: &str = "(tcp.analysis.window_update || tcp.analysis.window_full || tcp.analysis.zero_window)";
    let ip = if v6 { "ipv6" } else { "ip" };
    let count = |filter: &str| -> Result<usize> { Ok(captured.rows(filter, &["frame.number"])?.len()) };
    let (we, they) = (format!("{ip}.src == {}", bed.ours(v6)), format!("{ip}.src == {}", bed.kernel(v6)));
    let story = || -> Result<String> {
        let fields = [
            "frame.number",
            "frame.time_relative",
            "tcp.srcport",
            "tcp.seq",
            "tcp.len",
            "tcp.ack",
            "_ws.expert.message",
        ];
        let odd = captured.rows(&format!("tcp.analysis.flags && !{FLOW_CONTROL}"), &fields)?;
        Ok(format!("{odd:#?}\n{}", bed.daemon.netctl(&["nstat", "-a"])?))
    };
    let counters = bed.daemon.netctl(&["nstat", "-a", "TcpExtTCPLossProbes"])?;
    let probes: usize = counters.split_whitespace().filter_map(|word| word.parse().ok()).next().unwrap_or(0);
    let repeated = count(&format!("{we} && {REPEATS}"))?;
    ensure!(repeated <= probes, "{repeated} retransmissions of ours, {probes} probes: {}", story()?);
    let provoked = count(&format!("{they} && {REPEATS}"))?;
    let duplicates = count(&format!("{we} && tcp.analysis.duplicate_ack"))?;
    ensure!(duplicates <= provoked, "{duplicates} duplicate ACKs, {provoked} retransmissions of Linux: {}", story()?);
    let other = format!("{we} && tcp.analysis.flags && !{REPEATS} && !{FLOW_CONTROL} && !tcp.analysis.duplicate_ack");
    ensure!(count(&other)? == 0, "{}", story()?);
    ensure!(count("tcp.len > 0")? > 0, "tshark saw no data");
    Ok(())
}
