//! A small language of socket calls, and its interpreter: `tcp a; bind a lo:1; listen a 1; tcp b; connect b @a; accept a c`.
//!
//! Every call's outcome and the readiness of every socket after it go into a transcript, in which ports that the system chose are
//! named in the order of their appearance, so that transcripts of two systems can be compared.

use super::names;
use super::os::{Os, Outcome, Sock};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a system may take to come to what is expected of it.
const PATIENCE: Duration = Duration::from_millis(400);
const EAGAIN: i32 = 11;
const EBADF: i32 = 9;

/// A second interface, which leads nowhere, and its addresses.
pub const DEVICE: &str = "t0";
pub const DEV: &str = "10.9.0.1";
pub const DEV6: &str = "fd09::1";

/// Sockets of a script by name, and what its transcript needs.
struct Run<'a> {
    os: &'a dyn Os,
    socks: BTreeMap<String, Box<dyn Sock>>,
    sent: BTreeMap<String, usize>,
    /// Port of slot 0.
    base: u16,
    chosen: Vec<u16>,
}

/// Runs `script`. `want` is the transcript to come to, if one is known: what happens later than a call's return is waited for.
pub fn run(os: &dyn Os, script: &str, base: u16, want: Option<&[String]>) -> Vec<String> {
    let mut run = Run { os, socks: BTreeMap::new(), sent: BTreeMap::new(), base, chosen: Vec::new() };
    let mut lines = Vec::new();
    for op in script.split(';').map(str::trim).filter(|op| !op.is_empty()) {
        let want = want.and_then(|w| w.get(lines.len()));
        lines.push(run.step(op, want));
    }
    lines
}

impl Run<'_> {
    fn step(&mut self, op: &str, want: Option<&String>) -> String {
        let start = Instant::now();
        let words: Vec<&str> = op.split_whitespace().collect();
        let mut result = self.call(&words);
        // What the peer did may be on its way still.
        while let Some(want) = want
            && result == Err(EAGAIN)
            && !want.starts_with(&format!("{op} = EAGAIN"))
            && start.elapsed() < PATIENCE
        {
            result = self.call(&words);
        }
        let said = match result {
            Ok(text) => text,
            Err(n) => names::errno(n),
        };
        loop {
            let line = format!("{op} = {said} |{}", self.readiness());
            if want.is_none_or(|w| *w == line) || start.elapsed() > PATIENCE {
                return line;
            }
        }
    }

    fn readiness(&self) -> String {
        let mut out = String::new();
        for (name, sock) in &self.socks {
            let _ = write!(out, " {name}:{}", names::readiness(sock.poll()));
        }
        out
    }

    fn sock(&self, name: &str) -> &dyn Sock {
        &**self.socks.get(name).unwrap_or_else(|| panic!("no socket {name}"))
    }

    fn call(&mut self, words: &[&str]) -> Outcome<String> {
        let arg = |i: usize| words.get(i).copied().unwrap_or_default();
        let (op, name) = (arg(0), arg(1));
        let done = |result: Outcome<()>| result.map(|()| "ok".to_owned());
        let makes = matches!(op, "tcp" | "tcp6" | "udp" | "udp6" | "socket" | "close");
        if !makes && !self.socks.contains_key(name) {
            // An accept before this has failed.
            return Err(EBADF);
        }
        match op {
            "tcp" | "tcp6" | "udp" | "udp6" => {
                let family = if op.ends_with('6') { libc::AF_INET6 } else { libc::AF_INET };
                let kind = if op.starts_with("tcp") { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
                let sock = self.os.socket(family, kind | libc::SOCK_NONBLOCK, 0)?;
                self.socks.insert(name.to_owned(), sock);
                Ok("ok".into())
            }
            "socket" => self.os.socket(number(arg(1)), number(arg(2)), number(arg(3))).map(|_| "ok".to_owned()),
            "close" => Ok(self.socks.remove(name).map_or("none", |_| "ok").into()),
            "bind" => done(self.sock(name).bind(self.address(arg(2)))),
            "connect" => done(self.sock(name).connect(Some(self.address(arg(2))))),
            "disc" => done(self.sock(name).connect(None)),
            "listen" => done(self.sock(name).listen(number(arg(2)))),
            "accept" => {
                let (sock, peer) = self.sock(name).accept(if arg(3).is_empty() { 0o4000 } else { number(arg(3)) })?;
                self.socks.insert(arg(2).to_owned(), sock);
                Ok(self.show(peer))
            }
            "shut" => {
                let how =
                    ["r", "w", "rw"].iter().position(|w| *w == arg(2)).map_or_else(|| number(arg(2)), |n| n as i32);
                done(self.sock(name).shutdown(how))
            }
            "send" => {
                let from = self.sent.get(name).copied().unwrap_or(0);
                let data: Vec<u8> = (0..number(arg(2)) as usize).map(|i| (from + i) as u8).collect();
                let to = words[3..].iter().find(|w| w.contains(':') || w.starts_with('@')).map(|w| self.address(w));
                let control = words[3..].iter().filter_map(|w| w.strip_prefix("from=")).map(|w| pktinfo(host(w)));
                let control: Vec<u8> = control.flatten().collect();
                let n = self.sock(name).send(&data, &control, self.flags(&words[3..]), to)?;
                *self.sent.entry(name.to_owned()).or_default() += n;
                Ok(n.to_string())
            }
            "recv" => {
                let mut buf = vec![0xee; number(arg(2)) as usize];
                let got = self.sock(name).recv(&mut buf, self.flags(&words[3..]))?;
                let mut text = got.len.to_string();
                if let Some(first) = buf.first().filter(|_| got.len > 0) {
                    let _ = write!(text, " first={first}");
                }
                if let Some(from) = got.from {
                    let _ = write!(text, " from={}", self.show(from));
                }
                if got.flags != 0 {
                    let _ = write!(text, " flags={:#x}", got.flags);
                }
                text.push_str(&names::control(&got.control));
                Ok(text)
            }
            "name" => self.sock(name).local().map(|a| self.show(a)),
            "peer" => self.sock(name).peer().map(|a| self.show(a)),
            "err" => self.sock(name).get(libc::SOL_SOCKET, libc::SO_ERROR, 4).map(|v| names::errno(int(&v))),
            "set" => {
                let (level, option) = names::option(arg(2));
                let value: Vec<u8> = words[3..].iter().flat_map(|w| number(w).to_ne_bytes()).collect();
                done(self.sock(name).set(level, option, &value))
            }
            "dev" => {
                let (level, option) = names::option("SO_BINDTODEVICE");
                done(self.sock(name).set(level, option, if arg(2) == "-" { b"" } else { arg(2).as_bytes() }))
            }
            "get" => {
                let (level, option) = names::option(arg(2));
                self.sock(name).get(level, option, 64).map(|v| format!("{v:?}"))
            }
            "ioctl" => self.sock(name).ioctl(names::request(arg(2))).map(|n| n.to_string()),
            other => panic!("no call {other}"),
        }
    }

    fn flags(&self, words: &[&str]) -> i32 {
        let address = |w: &&str| w.contains(':') || w.starts_with('@') || w.starts_with("from=");
        words.iter().copied().filter(|w| !address(w)).map(names::flag).fold(0, |a, b| a | b)
    }

    fn address(&self, word: &str) -> SocketAddr {
        if let Some(name) = word.strip_prefix('@') {
            let mut at = self.sock(name).local().unwrap_or_else(|e| panic!("getsockname of {name}: {e}"));
            if at.ip().is_unspecified() {
                at.set_ip(if at.is_ipv4() { [127, 0, 0, 1].into() } else { IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]) });
            }
            return at;
        }
        let (name, port) = word.split_once(':').unwrap_or_else(|| panic!("no address: {word}"));
        let slot: u16 = port.parse().unwrap_or_else(|_| panic!("no port {port}"));
        SocketAddr::new(host(name), if slot == 0 { 0 } else { self.base + slot })
    }

    /// An address with its port by name: `p1` for a slot of the script, `e1` for one that the system chose.
    fn show(&mut self, addr: SocketAddr) -> String {
        let port = match addr.port() {
            0 => "0".to_owned(),
            p if (self.base..self.base + 10).contains(&p) => format!("p{}", p - self.base),
            p => {
                let at = self.chosen.iter().position(|c| *c == p).unwrap_or_else(|| {
                    self.chosen.push(p);
                    self.chosen.len() - 1
                });
                format!("e{}", at + 1)
            }
        };
        format!("{}:{port}", addr.ip())
    }
}

/// A host's address by its name in scripts.
fn host(name: &str) -> IpAddr {
    let text = match name {
        "lo" => "127.0.0.1",
        "lo2" => "127.0.0.2",
        "any" => "0.0.0.0",
        "bad" => "192.0.2.7",
        "bcast" => "255.255.255.255",
        "mcast" => "224.0.0.9",
        "dev" => DEV,
        "lo6" => "::1",
        "any6" => "::",
        "bad6" => "2001:db8::7",
        "mcast6" => "ff05::9",
        "dev6" => DEV6,
        "map" => "::ffff:127.0.0.1",
        "map2" => "::ffff:127.0.0.2",
        "mapany" => "::ffff:0.0.0.0",
        "mapbad" => "::ffff:192.0.2.7",
        "mapmcast" => "::ffff:224.0.0.9",
        "mapbcast" => "::ffff:255.255.255.255",
        other => panic!("no host {other}"),
    };
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// `IP_PKTINFO` or `IPV6_PKTINFO` that names a source.
fn pktinfo(source: IpAddr) -> Vec<u8> {
    let (level, kind, data) = match source {
        IpAddr::V4(v4) => (libc::SOL_IP, libc::IP_PKTINFO, [&[0; 4][..], &v4.octets(), &[0; 4]].concat()),
        IpAddr::V6(v6) => (libc::SOL_IPV6, libc::IPV6_PKTINFO, [&v6.octets()[..], &[0; 4]].concat()),
    };
    let mut out = (16 + data.len()).to_ne_bytes().to_vec();
    out.extend_from_slice(&level.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&data);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

pub fn int(value: &[u8]) -> i32 {
    value.first_chunk().map_or(-1, |b| i32::from_ne_bytes(*b))
}

fn number(word: &str) -> i32 {
    word.parse().unwrap_or_else(|_| panic!("no number: {word}"))
}
