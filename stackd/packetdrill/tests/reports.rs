//! What a user reads when a script does not pass: file and line, the virtual time, both sides in the language's own notation.

use stackd_packetdrill::{Config, Defines, Failure, IpVersion, Kind, Report, run_text};

/// A script that passes; its lines are counted from 1.
const GOOD: &str = "\
`../common/defaults.sh`
    0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
   +0 bind(3, ..., ...) = 0
   +0 listen(3, 1) = 0
   +0 < S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>
   +0 > S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,nop,wscale 8>
  +.1 < . 1:1(0) ack 1 win 257
   +0 accept(3, ..., ...) = 4
   +0 write(4, ..., 3000) = 3000
   +0 > P. 1:3001(3000) ack 1
  +.1 < P. 1:1001(1000) ack 3001 win 257
   +0 > . 3001:3001(0) ack 1001
   +0 read(4, ..., 2000) = 1000
   +0 %{ assert tcpi_state == TCP_ESTABLISHED }%
";

fn run(text: &str) -> Result<Report, Failure> {
    run_text("t.pkt", text, &Config { reject_trailing: true, ..Config::default() }, &Defines::new())
}

/// The script with one change: it has to fail, at `line`, saying all of `says`.
#[track_caller]
fn changed(from: &str, to: &str, line: u32, kind: Kind, says: &[&str]) {
    assert!(GOOD.contains(from), "{from}");
    fails(&GOOD.replacen(from, to, 1), line, kind, says);
}

#[track_caller]
fn fails(text: &str, line: u32, kind: Kind, says: &[&str]) {
    let e = run(text).expect_err("must not pass");
    assert_eq!((e.line, e.kind), (line, kind), "{e}");
    for part in says {
        assert!(e.to_string().contains(part), "no \"{part}\" in:\n{e}");
    }
}

#[test]
fn the_script_passes_as_it_is() {
    assert_eq!(run(GOOD).map(|r| r.events), Ok(13));
}

#[test]
fn a_packet_that_differs_is_shown_beside_what_was_expected() {
    let both = ["expected: 0.200000 > . 3001:3001(0) ack 1000", "actual: 0.200000 > . 3001:3001(0) ack 1001 win "];
    changed(
        "> . 3001:3001(0) ack 1001",
        "> . 3001:3001(0) ack 1000",
        12,
        Kind::Mismatch,
        &["ack is 1001", both[0], both[1]],
    );
    changed("wscale 8>", "wscale 9>", 6, Kind::Mismatch, &["option wscale 8, expected wscale 9"]);
    changed("ack 1 <mss 1460,nop", "ack 1 win 7 <mss 1460,nop", 6, Kind::Mismatch, &["win is 65535, expected 7"]);
    changed(
        "> P. 1:3001(3000)",
        "> . 1:3001(3000)",
        10,
        Kind::Mismatch,
        &["flags differ", "> . 1:3001", "> P. 1:3001"],
    );
    changed("> P. 1:3001(3000)", "> [ect0] P. 1:3001(3000)", 10, Kind::Mismatch, &["TOS octet is 0x00"]);
    changed(
        "sackOK,nop,wscale 8>",
        "sackOK,nop,wscale 8,nop,nop,nop,nop>",
        6,
        Kind::Mismatch,
        &["the option nop is missing"],
    );
}

#[test]
fn a_packet_at_another_time_says_both_times() {
    let says = ["it left at 0.100000, expected 0.600000"];
    changed("+0 > P. 1:3001", "+.5 > P. 1:3001", 10, Kind::Mismatch, &says);
    changed("+0 > P. 1:3001", "0.2~0.3 > P. 1:3001", 10, Kind::Mismatch, &["expected 0.200000~0.300000"]);
    assert!(run(&GOOD.replace("+0 > P. 1:3001", "* > P. 1:3001")).is_ok());
    assert!(run(&GOOD.replace("+0 > P. 1:3001", "0~0.3 > P. 1:3001")).is_ok());
}

#[test]
fn a_packet_that_never_comes_and_one_that_nobody_expects() {
    let more = format!("{GOOD}   +0 > . 9:9(0) ack 1\n");
    fails(&more, 15, Kind::Mismatch, &["no such packet was sent", "expected: 0.200000 > . 9:9(0) ack 1"]);
    let trailing = format!("{GOOD}   +0 close(4) = 0\n");
    fails(&trailing, 15, Kind::Mismatch, &["does not expect", "> F. 3001:3001(0) ack 1001"]);
}

#[test]
fn calls_say_what_they_returned() {
    changed("= 1000", "= 999", 13, Kind::Mismatch, &["read(4, ..., 2000) = 1000, expected 999"]);
    changed(
        "bind(3, ..., ...) = 0",
        "bind(3, ..., ...) = -1 EINVAL (Invalid argument)",
        3,
        Kind::Mismatch,
        &["= 0, expected -1 EINVAL"],
    );
    changed(
        "read(4, ..., 2000) = 1000",
        "read(9, ..., 10) = 0",
        13,
        Kind::Mismatch,
        &["-1 EBADF (Bad file descriptor), expected 0"],
    );
    let blocks = format!("{GOOD}   +0 read(4, ..., 10) = 10\n");
    fails(&blocks, 15, Kind::Mismatch, &["read(4, ..., 10) blocks"]);
    let never = format!("{GOOD}   +0...0.1 read(4, ..., 10) = 10\n");
    fails(&never, 15, Kind::Mismatch, &["never returned; expected at 0.300000"]);
    let wrong = format!("{GOOD}   +0 getsockopt(4, SOL_TCP, TCP_NODELAY, [1], [4]) = 0\n");
    fails(&wrong, 15, Kind::Mismatch, &["the value is 0, expected 1"]);
    let poll = format!("{GOOD}   +0 poll([{{fd=4, events=POLLIN|POLLOUT, revents=POLLIN}}], 1, 0) = 1\n");
    fails(&poll, 15, Kind::Mismatch, &["revents of 4 is POLLOUT, expected POLLIN"]);
}

#[test]
fn assertions_show_their_names() {
    changed("TCP_ESTABLISHED", "TCP_CLOSE", 14, Kind::Mismatch, &["at 0.200000", "tcpi_state = 1", "TCP_CLOSE = 7"]);
    let lines = format!("{GOOD}   +0 %{{\n\nassert tcpi_unacked == 5, 'odd'\n}}%\n");
    fails(&lines, 17, Kind::Mismatch, &["does not hold: odd", "tcpi_unacked = 0"]);
}

#[test]
fn what_cannot_be_done_is_refused_by_line_never_skipped() {
    let with = |line: &str| format!("{GOOD}{line}\n");
    for (line, says) in [
        ("+0 sendfile(4, 3, [0], 10) = 10", "system call sendfile()"),
        ("+0 write(4, ..., 10, 1) = 10", "write has 4 arguments"),
        ("+0 send(4, ..., 10, MSG_ZEROCOPY) = 10", "flags 0x4000000"),
        ("+0 setsockopt(4, SOL_TCP, TCP_NOSUCH, [1], 4) = 0", "TCP_NOSUCH has no value known here"),
        ("+0 `iptables -F`", "command \"iptables -F\""),
        ("+0 `sysctl -q net.ipv4.tcp_nosuch=1`", "net.ipv4.tcp_nosuch"),
        ("+0 `sysctl -q net.ipv4.tcp_syn_retries=999`", "net.ipv4.tcp_syn_retries"),
        ("+0 `tc qdisc add dev eth7 root fq`", "tc qdisc"),
        ("+0 %{ import os }%", "Python's \"import\""),
        ("+0 > ipv4 1.1.1.1 > 2.2.2.2: . 1:1(0) ack 1", "no tunnels"),
        ("+0 < icmp nosuch [1:1(0)]", "ICMP type \"nosuch\""),
    ] {
        let e = run(&with(line)).expect_err(line);
        assert_eq!(e.line, 15, "{e}");
        assert_ne!(e.kind, Kind::Mismatch, "{e}");
        assert!(e.to_string().contains(says), "no \"{says}\" in: {e}");
    }
    fails("--no_such_option\n0 `true`", 1, Kind::Syntax, &["no option is called --no_such_option"]);
    fails("--wire_client\n0 `true`", 1, Kind::Unsupported, &["--wire_client"]);
    fails("--ip_version=ipv6\n--local_ip=1.2.3.4\n0 `true`", 1, Kind::Syntax, &["not of --ip_version's family"]);
}

#[test]
fn payload_is_compared() {
    // What the peer sent is read as it was sent, and strings are checked.
    let text = GOOD.replace("read(4, ..., 2000) = 1000", "read(4, \"abc\", 3) = 3");
    fails(&text, 13, Kind::Mismatch, &["the data is", "expected abc"]);
}

#[test]
fn timestamps_are_mapped_and_an_echo_of_nothing_is_an_error() {
    let text = "\
    0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
   +0 bind(3, ..., ...) = 0
   +0 listen(3, 1) = 0
   +0 < S 0:0(0) win 32792 <mss 1000,sackOK,TS val 5 ecr 0>
   +0 > S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 100 ecr 5>
  +.1 < . 1:1(0) ack 1 win 257 <nop,nop,TS val 6 ecr 101>
";
    fails(text, 6, Kind::Mismatch, &["TS ecr 101 echoes no TS val"]);
    assert!(run(&format!("--tcp_ts_ecr_scaled\n{text}")).is_ok());
    assert!(run(&text.replace("ecr 101", "ecr 100")).is_ok());
}

#[test]
fn a_large_packet_is_the_same_as_its_segments() {
    let cut = GOOD.replace(
        "   +0 > P. 1:3001(3000) ack 1\n",
        "   +0 > . 1:1001(1000) ack 1\n   +0 > P. 1001:2001(1000) ack 1\n   +0 > P. 2001:3001(1000) ack 1\n",
    );
    assert!(run(&cut).is_ok());
    // Strictly, one packet of the script is one of the stack.
    let cut = cut.replace("> . 1:1001", "> P. 1:1001");
    let e = run(&format!("--strict_segments\n{cut}")).expect_err("one packet was sent");
    assert!(e.to_string().contains("payload length is 2000, expected 1000"), "{e}");
}

#[test]
fn every_protocol_version_runs_the_same_script() {
    for ip_version in [IpVersion::V4, IpVersion::V6, IpVersion::V4Mapped] {
        let mtu = if ip_version == IpVersion::V6 { 1520 } else { 1500 };
        let config = Config { ip_version, mtu, ..Config::default() };
        run_text("t.pkt", GOOD, &config, &Defines::new()).unwrap_or_else(|e| panic!("{ip_version:?}: {e}"));
    }
}

/// Whatever a script is cut down to: an error, never a panic, and never a loop.
#[test]
fn no_prefix_of_a_script_panics() {
    fn files(dir: &std::path::Path, out: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("scripts").flatten() {
            let path = entry.path();
            if path.is_dir() { files(&path, out) } else { out.push(path) }
        }
    }
    let mut all = Vec::new();
    files(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"), &mut all);
    let dry = Config { dry_run: true, ..Config::default() };
    let mut cuts = 0;
    for file in all {
        let text = std::fs::read_to_string(&file).expect("a script");
        for (at, _) in text.char_indices().step_by(7) {
            let _ = run_text("t.pkt", &text[..at], &dry, &Defines::new());
            let _ = run_text("t.pkt", &text[at..], &dry, &Defines::new());
            cuts += 1;
        }
    }
    assert!(cuts > 10_000, "{cuts}");
}

/// Lines in another order are nonsense that has to be survived: run, not only parsed.
#[test]
fn shuffled_scripts_fail_orderly() {
    let lines: Vec<&str> = GOOD.lines().skip(1).collect();
    let mut state = 7u64;
    for _ in 0..300 {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        for i in (1..order.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(i, (state >> 33) as usize % (i + 1));
        }
        let text: Vec<String> = order.iter().map(|&i| lines[i].trim().replacen("    0 ", "+0 ", 1)).collect();
        let _ = run(&text.join("\n"));
    }
}

/// A line of a script with another number where the stack's answer stands; `None`: it expects nothing that a number says.
fn spoiled(line: &str) -> Option<String> {
    let outbound = line.split_whitespace().nth(1) == Some(">");
    if outbound {
        let (head, rest) = line.split_once(" ack ")?;
        let (ack, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        return Some(format!("{head} ack {}{tail}", ack.parse::<u32>().ok()? ^ 64));
    }
    // What opens a descriptor names it, any number will do.
    let opens = ["socket(", "accept(", "accept4(", "epoll_create(", "epoll_create1("].iter().any(|c| line.contains(c));
    let (call, result) = line.rsplit_once(") = ")?;
    let number: i64 = result.split_whitespace().next()?.parse().ok()?;
    (!opens && !line.contains("%{")).then(|| format!("{call}) = {}", number + 7))
}

/// No expectation of any script is for show: with another number the script fails.
#[test]
fn every_expectation_can_fail() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut topics: Vec<_> = std::fs::read_dir(root).expect("scripts").flatten().map(|e| e.path()).collect();
    topics.sort();
    let config = Config { reject_trailing: true, ..Config::default() };
    let (mut tried, mut idle) = (0, Vec::new());
    for file in topics.iter().flat_map(|t| std::fs::read_dir(t).expect("a topic").flatten().map(|e| e.path())) {
        let text = std::fs::read_to_string(&file).expect("a script");
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let Some(wrong) = spoiled(line) else { continue };
            let mut changed: Vec<&str> = lines.clone();
            changed[i] = &wrong;
            tried += 1;
            if run_text("t.pkt", &changed.join("\n"), &config, &Defines::new()).is_ok() {
                idle.push(format!("{}:{}: {wrong}", file.display(), i + 1));
            }
        }
    }
    assert!(tried > 1000, "{tried}");
    assert!(idle.is_empty(), "of {tried}:\n{}", idle.join("\n"));
}

/// What other forks of the language have and this stack has not is named, with its line.
#[test]
fn what_the_stack_cannot_do_is_named() {
    for (line, says) in [
        ("+0 < S 0:0(0) win 1000 <mss 1000,mp_capable v1 flags[flag_h] nokey>", "Multipath TCP (mp_capable)"),
        ("+0 < S 0:0(0) win 1000 <mp_join_syn address_id=1>", "Multipath TCP (mp_join_syn)"),
        ("+0 < udplite (100,8)", "UDP-Lite"),
        ("+0 < . 1:1(0) ack 1 win 1000 {mutate ip ihl}", "mutations of packets"),
        ("+0 sendmmsg(3, ..., 2, 0) = 2", "system call sendmmsg()"),
        ("+0 setsockopt(3, IPPROTO_IP, 1, {label=1}, 4) = 0", "option value"),
    ] {
        fails(&format!("0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n{line}\n"), 2, Kind::Unsupported, &[says]);
    }
    fails(
        "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 < socket(9) . 1:1(0) ack 1 win 9\n",
        2,
        Kind::Syntax,
        &["socket(9)"],
    );
}
