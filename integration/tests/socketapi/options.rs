//! Every option of Linux's manual pages, in every state of a socket, with good and bad lengths and values: errno and value compared.

use super::differences::{self, Case, Rule};
use super::names::{self, OPTIONS};
use super::os::{Os, Outcome, Sock};
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Kinds and states: a name, and what makes one.
const SUBJECTS: &[(&str, bool, bool, State)] = &[
    ("tcp4 fresh", true, false, State::Fresh),
    ("tcp4 bound", true, false, State::Bound),
    ("tcp4 listening", true, false, State::Listening),
    ("tcp4 connected", true, false, State::Connected),
    ("tcp4 accepted", true, false, State::Accepted),
    ("tcp4 closed", true, false, State::Closed),
    ("tcp6 fresh", true, true, State::Fresh),
    ("tcp6 bound", true, true, State::Bound),
    ("tcp6 listening", true, true, State::Listening),
    ("tcp6 connected", true, true, State::Connected),
    ("udp4 fresh", false, false, State::Fresh),
    ("udp4 bound", false, false, State::Bound),
    ("udp4 connected", false, false, State::Connected),
    ("udp6 fresh", false, true, State::Fresh),
    ("udp6 connected", false, true, State::Connected),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Bound,
    Listening,
    Connected,
    Accepted,
    Closed,
}

/// Lengths a program may pass to getsockopt(2).
const GET_LENGTHS: &[usize] = &[0, 1, 2, 3, 4, 7, 8, 16, 64, 300];
/// Ints it may set: flags, small numbers, and the edges of every range that Linux checks.
const VALUES: &[i32] =
    &[0, 1, 2, 3, 5, 6, 7, 87, 88, 127, 128, 255, 256, 32_767, 32_768, 65_535, 100_000, i32::MAX, -1, -2, i32::MIN];
/// Lengths of a 1 that it may set.
const SET_LENGTHS: &[usize] = &[0, 1, 2, 3, 5, 8, 16, 24, 40, 128];

/// Whose socket it is, and what must stay open with it.
struct Subject {
    sock: Box<dyn Sock>,
    _others: Vec<Box<dyn Sock>>,
}

fn make(os: &dyn Os, tcp: bool, v6: bool, state: State) -> Outcome<Subject> {
    let (family, any): (i32, SocketAddr) = if v6 {
        (libc::AF_INET6, "[::1]:0".parse().expect("an address"))
    } else {
        (libc::AF_INET, "127.0.0.1:0".parse().expect("an address"))
    };
    let kind = if tcp { libc::SOCK_STREAM } else { libc::SOCK_DGRAM } | libc::SOCK_NONBLOCK;
    let new = || os.socket(family, kind, 0);
    let alone = |sock| Ok(Subject { sock, _others: Vec::new() });
    match state {
        State::Fresh => alone(new()?),
        State::Bound => {
            let sock = new()?;
            sock.bind(any)?;
            alone(sock)
        }
        State::Listening => {
            let sock = new()?;
            sock.bind(any)?;
            sock.listen(5)?;
            alone(sock)
        }
        State::Connected | State::Accepted | State::Closed => {
            let peer = new()?;
            peer.bind(any)?;
            if tcp {
                peer.listen(5)?;
            }
            let client = new()?;
            let at = peer.local()?;
            if !tcp {
                client.connect(Some(at))?;
                return Ok(Subject { sock: client, _others: vec![peer] });
            }
            let _ = client.connect(Some(at));
            let accepted = patiently(|| peer.accept(libc::SOCK_NONBLOCK))?.0;
            patiently(|| client.peer().map_err(|_| libc::EAGAIN))?;
            match state {
                State::Accepted => Ok(Subject { sock: accepted, _others: vec![peer, client] }),
                State::Closed => {
                    let linger: Vec<u8> = [1i32, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
                    accepted.set(libc::SOL_SOCKET, libc::SO_LINGER, &linger)?;
                    drop(accepted);
                    patiently(|| match client.get(libc::SOL_SOCKET, libc::SO_ERROR, 4) {
                        Ok(value) if value != [0; 4] => Ok(()),
                        _ => Err(libc::EAGAIN),
                    })?;
                    Ok(Subject { sock: client, _others: vec![peer] })
                }
                _ => Ok(Subject { sock: client, _others: vec![peer, accepted] }),
            }
        }
    }
}

/// Repeats a call while it says EAGAIN, for a second.
fn patiently<T>(mut call: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let start = Instant::now();
    loop {
        match call() {
            Err(libc::EAGAIN) if start.elapsed() < Duration::from_secs(1) => std::thread::yield_now(),
            done => return done,
        }
    }
}

/// What became of one call.
#[derive(Clone, Debug)]
struct Line {
    call: String,
    said: String,
}

/// All calls on one option of one socket.
fn probe(os: &dyn Os, subject: (&str, bool, bool, State), option: (i32, i32, &str)) -> Outcome<Vec<Line>> {
    let (_, tcp, v6, state) = subject;
    let (level, number, name) = option;
    let Subject { sock, _others } = make(os, tcp, v6, state)?;
    let mut lines = Vec::new();
    let mut tell = |call: String, result: Outcome<String>| {
        lines.push(Line { call, said: result.unwrap_or_else(names::errno) });
    };
    let get = |max: usize| sock.get(level, number, max).map(|v| differences::shown(name, &v));
    for &max in GET_LENGTHS {
        tell(format!("get {max}"), get(max));
    }
    for &len in SET_LENGTHS {
        let mut value = vec![0; len];
        if let Some(first) = value.first_mut() {
            *first = 1;
        }
        let result = sock.set(level, number, &value);
        let worked = result.is_ok();
        tell(format!("set 1 as {len} bytes"), result.map(|()| "ok".into()));
        if worked {
            tell(format!("get after 1 as {len} bytes"), get(64));
        }
    }
    for &value in VALUES {
        let result = sock.set(level, number, &value.to_ne_bytes());
        let worked = result.is_ok();
        tell(format!("set {value}"), result.map(|()| "ok".into()));
        if worked {
            tell(format!("get after {value}"), get(64));
        }
    }
    Ok(lines)
}

/// Compares all of it. Differences must be those of the list, and each of the list must exist.
pub fn agree(linux: &dyn Os, ours: &dyn Os) -> Result<()> {
    let only = std::env::var("STACKD_OPTION").ok();
    let mut unexplained: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut calls = 0;
    let mut used = std::collections::BTreeSet::new();
    for &option in OPTIONS {
        if only.as_ref().is_some_and(|only| !option.2.contains(only.as_str())) {
            continue;
        }
        for &subject in SUBJECTS {
            let probed = |os: &dyn Os| {
                probe(os, subject, option).map_err(|n| anyhow::anyhow!("{}: {}", subject.0, names::errno(n)))
            };
            let (want, got) = (probed(linux)?, probed(ours)?);
            calls += want.len();
            let got: BTreeMap<String, String> = got.into_iter().map(|l| (l.call, l.said)).collect();
            for line in want {
                let said = got.get(&line.call).map_or("not asked", String::as_str);
                if said == line.said {
                    continue;
                }
                let case = Case { subject: subject.0, call: &line.call, linux: &line.said, stackd: said };
                match differences::explain(option.2, case) {
                    Some(rule) => drop(used.insert(rule.option)),
                    None => unexplained
                        .entry(option.2.to_owned())
                        .or_default()
                        .push(format!("{}: {}: linux {}, stackd {said}", subject.0, line.call, line.said)),
                }
            }
        }
    }
    let text: Vec<String> = unexplained
        .iter()
        .map(|(name, lines)| {
            let shown = if only.is_some() { lines.len() } else { lines.len().min(6) };
            format!("  {name}: {} differences\n    {}", lines.len(), lines[..shown].join("\n    "))
        })
        .collect();
    let rules = differences::RULES.iter().map(|rule: &Rule| rule.option);
    let stale: Vec<&str> = rules.filter(|o| only.is_none() && !used.contains(o)).collect();
    ensure!(
        unexplained.is_empty() && stale.is_empty(),
        "of {calls} calls these differ and are not explained:\n{}\nlisted as different from Linux and the same: {stale:?}",
        text.join("\n")
    );
    println!("{calls} calls on {} options compared", OPTIONS.len());
    Ok(())
}

/// `docs/guide/socket-options.md` says what the comparison found.
pub fn page_is_current() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide/socket-options.md");
    let want = page();
    if std::env::var_os("STACKD_WRITE_DOCS").is_some() {
        std::fs::write(path, &want)?;
    }
    let have = std::fs::read_to_string(path)?;
    ensure!(have == want, "{path} is stale: run this test with STACKD_WRITE_DOCS=1");
    Ok(())
}

fn page() -> String {
    let mut out = String::from(
        "# Socket options\n\nEvery option of Linux's socket(7), tcp(7), ip(7), ipv6(7) and udp(7): its number, and whether it acts as there. One that \
         is refused answers ENOPROTOOPT to both\nsetsockopt(2) and getsockopt(2). This page is made by the test that compares every option with Linux \
         itself, in every state of a socket, with right and wrong lengths and\nvalues (`integration/tests/socketapi/`).\n",
    );
    let levels = [(1, "SOL_SOCKET"), (6, "IPPROTO_TCP"), (17, "IPPROTO_UDP"), (0, "IPPROTO_IP"), (41, "IPPROTO_IPV6")];
    for (level, title) in levels {
        out.push_str(&format!("\n## {title}\n\n| option | number | |\n|---|---|---|\n"));
        for &(_, number, name) in OPTIONS.iter().filter(|o| o.0 == level) {
            let said = match differences::RULES.iter().find(|rule| rule.option == name) {
                None => "as Linux".to_owned(),
                Some(Rule { refused: true, why, .. }) => format!("refused: {why}"),
                Some(Rule { refused: false, why, .. }) => format!("as Linux, but: {why}"),
            };
            out.push_str(&format!("| `{name}` | {number} | {said} |\n"));
        }
    }
    out
}
