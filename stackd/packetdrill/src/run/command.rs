//! Shell commands: not run, but understood. What is not understood is an error.

use super::Runner;
use super::host::DEVICE;
use crate::ast::Command;
use crate::error::{Failure, Result};
use crate::python;
use stackd_base::{Duration, Mib};
use stackd_netstack::addr::Prefix;
use stackd_netstack::route::{CcName, Route, RouteOptions, RouteOrigin, RouteType};
use stackd_qdisc::QdiscConfig;
use std::net::IpAddr;

/// What `defaults.sh` of the public test suites sets, as far as this stack has it; the rest of that file has no effect on any Linux that still
/// runs (`tcp_fack`), or concerns protocols that are not here.
const DEFAULTS: &[(&str, &str)] = &[
    ("net.ipv4.tcp_rmem", "4096 540000 15728640"),
    ("net.ipv4.tcp_wmem", "4096 262144 4194304"),
    ("net.ipv4.tcp_timestamps", "1"),
    ("net.ipv4.tcp_syn_retries", "5"),
    ("net.ipv4.tcp_synack_retries", "5"),
    ("net.ipv4.tcp_frto", "2"),
    ("net.ipv4.tcp_sack", "1"),
    ("net.ipv4.tcp_dsack", "1"),
    ("net.ipv4.tcp_reordering", "3"),
    ("net.ipv4.tcp_congestion_control", "cubic"),
    ("net.ipv4.tcp_slow_start_after_idle", "0"),
    ("net.ipv4.tcp_early_retrans", "4"),
    ("net.ipv4.tcp_recovery", "1"),
    ("net.ipv4.tcp_ecn", "0"),
    ("net.ipv4.tcp_pacing_ss_ratio", "200"),
    ("net.ipv4.tcp_pacing_ca_ratio", "120"),
    ("net.ipv4.tcp_notsent_lowat", "4294967295"),
    ("net.ipv4.tcp_syncookies", "1"),
];
/// Of the same file, what only some builds of the stack have.
const OPTIONAL_DEFAULTS: &[(&str, &str)] =
    &[("net.ipv4.tcp_fastopen", "0x3"), ("net.ipv4.tcp_fastopen_key", "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4")];
/// Keys that change nothing: Linux took the meaning from two of them, and the third bounds how long a segment waits to become a larger one, for
/// which nothing waits here.
const DEAD_KEYS: &[&str] = &["net.ipv4.tcp_fack", "net.ipv4.tcp_low_latency", "net.ipv4.tcp_tso_win_divisor"];

impl Runner<'_> {
    pub(super) fn command(&mut self, command: &Command) -> Result<()> {
        for (offset, text) in statements(&command.text) {
            let line = command.line + offset;
            let words = words(&text).map_err(|e| Failure::syntax(self.file, line, e))?;
            self.statement(line, &text, &words)?;
        }
        Ok(())
    }

    fn statement(&mut self, line: u32, text: &str, words: &[String]) -> Result<()> {
        let Some(program) = words.first() else { return Ok(()) };
        let name = program.rsplit('/').next().unwrap_or(program);
        let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        match (name, args.as_slice()) {
            ("true" | ":" | "sync", _) => Ok(()),
            // The sysctls of a script end with its stack.
            (name, _) if name.starts_with("sysctl_restore") => Ok(()),
            ("defaults.sh", []) => self.defaults(line),
            ("source" | "." | "sh" | "bash", [file]) if file.ends_with("defaults.sh") => self.defaults(line),
            ("set_sysctls.py", settings) | ("sysctl", settings) => self.sysctl(line, settings),
            ("sleep" | "usleep", [time]) => match time.trim_end_matches('s').parse::<f64>() {
                Ok(t) if t >= 0.0 => {
                    let seconds = if name == "usleep" { t / 1e6 } else { t };
                    self.advance(self.host.now + Duration::from_nanos((seconds * 1e9) as u64))
                }
                _ => Err(self.unsupported(line, format!("command \"{text}\": want seconds"))),
            },
            ("echo", [value @ .., ">" | ">>", path]) if path.starts_with("/proc/sys/") => {
                let key = key_of(path);
                self.set(line, &key, &value.join(" "))
            }
            ("echo", _) => {
                self.say(line, &args.join(" "));
                Ok(())
            }
            ("ip", args) => self.ip(line, text, args),
            ("tc", args) => self.tc(line, text, args),
            // The device has none of these to be switched: how many segments leave as one packet is nothing a script can tell, unless
            // it asks for --strict_segments.
            ("ethtool", ["-K" | "--features" | "--offload", DEVICE, features @ ..]) if are_offloads(features) => Ok(()),
            ("nstat", args) => self.nstat(line, text, args),
            _ => Err(self.unsupported(
                line,
                format!(
                    "command \"{text}\": want sysctl, set_sysctls.py, defaults.sh, ip route, ip link, tc qdisc, ethtool -K, nstat, sleep or echo … > /proc/sys/…"
                ),
            )),
        }
    }

    fn defaults(&mut self, line: u32) -> Result<()> {
        for (key, value) in DEFAULTS {
            self.set(line, key, value)?;
        }
        for (key, value) in OPTIONAL_DEFAULTS {
            if self.host.stack.sysctl_get(key).is_ok() {
                self.set(line, key, value)?;
            }
        }
        Ok(())
    }

    fn sysctl(&mut self, line: u32, args: &[&str]) -> Result<()> {
        let mut rest = args.iter().peekable();
        while let Some(arg) = rest.next() {
            if arg.starts_with('-') {
                continue;
            }
            if let Some((key, value)) = arg.split_once('=') {
                // `key = value` comes in three words.
                let value = if value.is_empty() { rest.next().copied().unwrap_or("") } else { value };
                self.set(line, &key_of(key), value)?;
            } else if rest.peek() == Some(&&"=") {
                rest.next();
                let value = rest.next().copied().unwrap_or("");
                self.set(line, &key_of(arg), value)?;
            } else {
                let key = key_of(arg);
                match self.host.stack.sysctl_get(&key) {
                    Ok(value) => self.say(line, &format!("{key} = {value}")),
                    Err(e) => return Err(self.unsupported(line, e.to_string())),
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, line: u32, key: &str, value: &str) -> Result<()> {
        if DEAD_KEYS.contains(&key) {
            return Ok(());
        }
        let decimal = match value.strip_prefix("0x").map(|h| i64::from_str_radix(h, 16)) {
            Some(Ok(n)) => n.to_string(),
            _ => value.to_owned(),
        };
        let set = self.host.stack.sysctl_set(self.host.now, key, &decimal, &mut self.host.store);
        set.map_err(|e| self.unsupported(line, e.to_string()))?;
        self.host.settle();
        self.take_events();
        Ok(())
    }

    fn ip(&mut self, line: u32, text: &str, args: &[&str]) -> Result<()> {
        let args: Vec<&str> = args.iter().copied().filter(|a| !matches!(*a, "-4" | "-6" | "-q")).collect();
        match args.as_slice() {
            // No metrics are kept from one connection to the next.
            ["tcp_metrics" | "tcpmetrics", "flush", ..] => Ok(()),
            ["route" | "ro" | "r", verb @ ("add" | "replace" | "change" | "append"), rest @ ..] => {
                let replace = *verb != "add";
                self.ip_route(rest, replace).map_err(|e| self.unsupported(line, format!("command \"{text}\": {e}")))
            }
            ["route" | "ro" | "r", "del" | "delete", dst, ..] => {
                let prefix = self.prefix(dst).ok_or_else(|| self.unsupported(line, format!("route \"{dst}\"")))?;
                let gone = self.host.stack.ip_mut().remove_route(prefix, |_| true);
                gone.map(|_| ()).map_err(|e| self.mismatch(line, e))
            }
            ["link", "set", rest @ ..] => {
                self.ip_link(rest).map_err(|e| self.unsupported(line, format!("command \"{text}\": {e}")))
            }
            _ => Err(self
                .unsupported(line, format!("command \"{text}\": want ip route add|replace|change|del or ip link set"))),
        }
    }

    fn prefix(&self, text: &str) -> Option<Prefix> {
        let any: IpAddr = if self.cfg.wire_v6() { [0; 16].into() } else { [0; 4].into() };
        match text.split_once('/') {
            _ if text == "default" => Prefix::new(any, 0),
            Some((addr, len)) => Prefix::new(addr.parse().ok()?, len.parse().ok()?),
            None => Some(Prefix::host(text.parse().ok()?)),
        }
    }

    fn ip_route(&mut self, args: &[&str], replace: bool) -> Result<(), String> {
        let (dst, rest) = args.split_first().ok_or("want a destination")?;
        let dst = self.prefix(dst).ok_or("want a destination: default, or ADDRESS/LENGTH")?;
        let mut options = RouteOptions::default();
        let (mut kind, mut src, mut metric, mut gateway) = (RouteType::Unicast, None, 0, None);
        let mut words = rest.iter().copied();
        while let Some(word) = words.next() {
            let mut value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
            let mut locked = false;
            if value == "lock" {
                locked = true;
                value = words.next().ok_or_else(|| format!("{word} lock wants a value"))?;
            }
            let number = || value.parse::<u32>().map_err(|_| format!("{word} wants a number"));
            match word {
                "dev" if value == DEVICE => {}
                "dev" => return Err(format!("the only device is {DEVICE}")),
                "via" => gateway = Some(value.parse::<IpAddr>().map_err(|_| "via wants an address")?),
                "src" => src = Some(value.parse::<IpAddr>().map_err(|_| "src wants an address")?),
                "metric" | "preference" => metric = number()?,
                "proto" | "scope" | "table" => {}
                "mtu" => (options.mtu, options.mtu_lock) = (Some(number()?), locked),
                "advmss" => options.advmss = Some(number()?.min(65_535) as u16),
                "initcwnd" => options.initcwnd = Some(number()?),
                "initrwnd" => options.initrwnd = Some(number()?),
                "hoplimit" => options.hoplimit = Some(number()?.min(255) as u8),
                "quickack" => options.quickack = number()? != 0,
                "rto_min" => {
                    let millis = match (value.strip_suffix("ms"), value.strip_suffix('s')) {
                        (Some(ms), _) => ms.parse::<f64>(),
                        (None, Some(s)) => s.parse::<f64>().map(|s| s * 1000.0),
                        (None, None) => value.parse::<f64>(),
                    };
                    let millis = millis.map_err(|_| "rto_min wants a time such as 200ms")?;
                    options.rto_min = Some(Duration::from_micros((millis * 1000.0) as u64));
                }
                "congctl" => options.congctl = Some(CcName::new(value).ok_or("congctl wants a name")?),
                "type" => {
                    kind = match value {
                        "blackhole" => RouteType::Blackhole,
                        "unreachable" => RouteType::Unreachable,
                        "prohibit" => RouteType::Prohibit,
                        _ => return Err(format!("route type {value}")),
                    }
                }
                _ => return Err(format!("route parameter {word}")),
            }
        }
        let port = Some(self.host.port);
        let route = Route { dst, kind, gateway, port, src, metric, origin: RouteOrigin::Static, options };
        // The default route is there from the start.
        self.host.stack.add_route(route, replace || dst.bits() == 0).map_err(|e| e.to_string())
    }

    fn ip_link(&mut self, args: &[&str]) -> Result<(), String> {
        let args = args.strip_prefix(&["dev"]).unwrap_or(args);
        let Some((&DEVICE, rest)) = args.split_first() else { return Err(format!("the only device is {DEVICE}")) };
        let port = self.host.port;
        let mut words = rest.iter().copied();
        while let Some(word) = words.next() {
            let p = self.host.stack.ip_mut().port_mut(port).ok_or("the device is gone")?;
            match word {
                "up" => p.up = true,
                "down" => p.up = false,
                "mtu" => {
                    let mtu = words.next().and_then(|m| m.parse().ok()).filter(|m| (68..=65_535).contains(m));
                    p.config.mtu = mtu.ok_or("mtu wants 68 to 65535")?;
                }
                _ => return Err(format!("link parameter {word}")),
            }
        }
        Ok(())
    }

    fn tc(&mut self, line: u32, text: &str, args: &[&str]) -> Result<()> {
        let refuse = |r: &Self, why: &str| Err(r.unsupported(line, format!("command \"{text}\": {why}")));
        let config = match args {
            ["qdisc", "del" | "delete", "dev", DEVICE, "root"] => QdiscConfig::default_of("pfifo_fast"),
            ["qdisc", "add" | "replace" | "change", "dev", DEVICE, "root", config @ ..] => config.join(" ").parse(),
            _ => return refuse(self, &format!("want tc qdisc add|replace|del dev {DEVICE} root KIND [PARAMETERS]")),
        };
        let config = match config {
            Ok(config) => config,
            Err(e) => return refuse(self, &e.to_string()),
        };
        let (now, port) = (self.host.now, self.host.port);
        self.host.stack.replace_qdisc(now, port, &config).map_err(|e| self.unsupported(line, e.to_string()))
    }

    /// `nstat -n` forgets what was counted; `nstat NAME…` shows; each `| grep TEXT` has to find TEXT in that.
    fn nstat(&mut self, line: u32, text: &str, args: &[&str]) -> Result<()> {
        let pipe = args.iter().position(|a| *a == "|").unwrap_or(args.len());
        let (own, filter) = args.split_at(pipe);
        let (flags, names): (Vec<&str>, Vec<&str>) = own.iter().partition(|a| a.starts_with('-'));
        if flags.iter().any(|f| f.contains('n')) {
            self.counters = self.host.stack.mib().clone();
            return Ok(());
        }
        if let Some(unknown) = names.iter().find(|n| !Mib::ALL.iter().any(|m| m.name() == **n)) {
            return Err(self.unsupported(line, format!("no counter is called \"{unknown}\"")));
        }
        let zero = flags.iter().any(|f| f.contains('z'));
        let mut shown = Vec::new();
        for &mib in Mib::ALL {
            let n = self.host.stack.mib().get(mib).wrapping_sub(self.counters.get(mib));
            if (names.is_empty() || names.contains(&mib.name())) && (n != 0 || zero) {
                shown.push(format!("{} {n}", mib.name()));
            }
        }
        let mut quiet = false;
        let mut filter = filter;
        while let ["|", "grep", rest @ ..] = filter {
            let options = rest.iter().take_while(|a| a.starts_with('-')).count();
            let (options, rest) = rest.split_at(options);
            let ([wanted, rest @ ..], true) = (rest, options.iter().all(|o| matches!(*o, "-q" | "-w" | "-qw"))) else {
                break;
            };
            // Each grep sees what the one before lets through, and the statement fails when the last lets nothing through.
            quiet = options.iter().any(|o| o.contains('q'));
            shown = self.found(line, text, shown, wanted)?;
            filter = rest;
        }
        if !filter.is_empty() {
            let want = "want nstat [-asz] NAME… [| grep [-qw] TEXT]…";
            return Err(self.unsupported(line, format!("command \"{text}\": {want}")));
        }
        if !quiet {
            shown.iter().for_each(|l| self.say(line, l));
        }
        Ok(())
    }

    /// `grep wanted` among counters. Columns are separated by one blank here and by many there.
    fn found(&self, line: u32, text: &str, shown: Vec<String>, wanted: &str) -> Result<Vec<String>> {
        let wanted = wanted.split_whitespace().collect::<Vec<_>>().join(" ");
        let (with, without): (Vec<_>, Vec<_>) = shown.into_iter().partition(|l| format!("{l} ").contains(&wanted));
        if !with.is_empty() {
            return Ok(with);
        }
        let there = if without.is_empty() { String::from("nothing") } else { without.join(", ") };
        Err(self.mismatch(line, format!("\"{text}\" finds no \"{wanted}\", but {there}")))
    }
}

/// `tso off gso off`.
fn are_offloads(features: &[&str]) -> bool {
    let known = |pair: &[&str]| matches!(pair, ["tso" | "gso" | "gro" | "lro" | "tx" | "rx" | "sg", "on" | "off"]);
    !features.is_empty() && features.chunks(2).all(known)
}

/// `net.ipv4.x` of `/proc/sys/net/ipv4/x`, of `net/ipv4/x`, or as it is.
fn key_of(text: &str) -> String {
    let text = text.strip_prefix("/proc/sys/").unwrap_or(text);
    if text.contains('.') { text.to_owned() } else { text.replace('/', ".") }
}

/// The statements of a script of shell commands, and how many lines down each begins.
fn statements(text: &str) -> Vec<(u32, String)> {
    let mut out = Vec::new();
    let mut continued: Option<(u32, String)> = None;
    for (n, raw) in text.lines().enumerate() {
        let (at, mut whole) = continued.take().unwrap_or((n as u32, String::new()));
        let (body, goes_on) = raw.strip_suffix('\\').map_or((raw, false), |b| (b, true));
        whole.push_str(body);
        if goes_on {
            whole.push(' ');
            continued = Some((at, whole));
            continue;
        }
        for part in split_outside_quotes(&whole) {
            let part = part.trim();
            if !part.is_empty() && !part.starts_with('#') {
                out.push((at, part.to_owned()));
            }
        }
    }
    out.extend(continued);
    out
}

/// At `;` and `&&`, up to a comment.
fn split_outside_quotes(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut quote, mut skip) = (0, None, false);
    for (i, c) in text.char_indices() {
        if std::mem::take(&mut skip) {
            continue;
        }
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == ';' => {
                parts.push(&text[from..i]);
                from = i + 1;
            }
            // As the shell: `#` begins a comment where a word could begin.
            None if c == '#' && text[..i].ends_with(char::is_whitespace) => {
                parts.push(&text[from..i]);
                return parts;
            }
            None if text[i..].starts_with("&&") => {
                parts.push(&text[from..i]);
                from = i + 2;
                skip = true;
            }
            None => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// The words of a statement: quotes taken off, `$((…))` computed, redirections of output to nowhere dropped.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut out: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if quote != Some('\'')
            && let Some(inner) = rest.strip_prefix("$((")
        {
            let end = inner.find("))").ok_or("$(( is not closed")?;
            let n = python::number(&inner[..end]).map_err(|e| format!("$(({})): {e:?}", &inner[..end]))?;
            word.get_or_insert_default().push_str(&n.to_string());
            rest = &inner[end + 2..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => out.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(String::from("a quote is not closed"));
    }
    out.extend(word);
    let mut kept = Vec::new();
    let mut words = out.into_iter().peekable();
    while let Some(w) = words.next() {
        match w.as_str() {
            "2>&1" | ">/dev/null" | "2>/dev/null" | "&>/dev/null" => {}
            ">" | "2>" | "&>" if words.peek().is_some_and(|p| p == "/dev/null") => {
                words.next();
            }
            _ => kept.push(w),
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_cut_and_counted() {
        let text = "../defaults.sh\nsysctl -q a=1 && x; y \"b;c # d\" # no\n# no\nz \\\n w";
        let got = statements(text);
        let want = [(0, "../defaults.sh"), (1, "sysctl -q a=1"), (1, "x"), (1, "y \"b;c # d\""), (3, "z   w")];
        assert_eq!(got, want.map(|(n, t)| (n, t.to_owned())));
    }

    #[test]
    fn words_lose_quotes_and_redirections() {
        let got = words("sysctl -q k=\"4096 $((2*3)) 'x'\" > /dev/null 2>&1").expect("words");
        assert_eq!(got, ["sysctl", "-q", "k=4096 6 'x'"]);
        assert!(words("a \"b").is_err());
    }

    #[test]
    fn keys_come_in_three_spellings() {
        for text in ["/proc/sys/net/ipv4/tcp_ecn", "net/ipv4/tcp_ecn", "net.ipv4.tcp_ecn"] {
            assert_eq!(key_of(text), "net.ipv4.tcp_ecn");
        }
    }
}
