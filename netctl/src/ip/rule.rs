//! `ip rule`.

use std::{fmt::Write as _, io::Write};

use serde_json::json;
use stackd_proto::v1::{ListRulesRequest, ModifyRuleRequest, Rule};

use super::{Flags, client, failed, mode_of, print_json, route::table, unknown};
use crate::{
    addr::{is_v6, parse_prefix, show},
    cli::{Context, Failure},
    words::Words,
};

const AF_INET6: u32 = 10;

pub(super) async fn run(mut words: Words<'_>, flags: Flags, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let verb = words.take().unwrap_or("show");
    if let Some(mode) = mode_of(verb) {
        let request = ModifyRuleRequest { mode: mode as i32, rule: Some(rule(&mut words, flags)?) };
        client(cx).await?.modify_rule(request).await.map_err(|s| failed(&s))?;
        return Ok(());
    }
    if !matches!(verb, "show" | "list" | "ls" | "lst") {
        return Err(unknown("rule", verb));
    }
    words.finish()?;
    let request = ListRulesRequest { family: if flags.family == 0 { 2 } else { flags.family } };
    let rules = client(cx).await?.list_rules(request).await.map_err(|s| failed(&s))?.into_inner().rules;
    if flags.json {
        return print_json(out, rules.iter().map(to_json).collect());
    }
    for r in &rules {
        writeln!(out, "{}", text(r))?;
    }
    Ok(())
}

fn prefix(addr: &[u8], len: u32) -> String {
    if addr.is_empty() {
        return "all".into();
    }
    if len == addr.len() as u32 * 8 { show(addr) } else { format!("{}/{len}", show(addr)) }
}

fn table_word(n: u32) -> String {
    match n {
        253 => "default".into(),
        254 => "main".into(),
        255 => "local".into(),
        n => n.to_string(),
    }
}

/// One rule as `ip rule` prints it.
fn text(r: &Rule) -> String {
    let mut out = format!("{}:\tfrom {} ", r.priority, prefix(&r.from, r.from_len));
    if !r.to.is_empty() {
        let _ = write!(out, "to {} ", prefix(&r.to, r.to_len));
    }
    match (r.fwmark, r.fwmask) {
        (_, 0) => {}
        (mark, u32::MAX) => {
            let _ = write!(out, "fwmark {mark:#x} ");
        }
        (mark, mask) => {
            let _ = write!(out, "fwmark {mark:#x}/{mask:#x} ");
        }
    }
    if !r.oif.is_empty() {
        let _ = write!(out, "oif {} ", r.oif);
    }
    let _ = write!(out, "lookup {}", table_word(r.table));
    out
}

fn to_json(r: &Rule) -> serde_json::Value {
    json!({
        "priority": r.priority, "src": prefix(&r.from, r.from_len), "dst": (!r.to.is_empty()).then(|| prefix(&r.to, r.to_len)),
        "fwmark": (r.fwmask != 0).then(|| format!("{:#x}", r.fwmark)), "oif": (!r.oif.is_empty()).then_some(&r.oif),
        "table": table_word(r.table),
    })
}

/// Decimal, or hexadecimal with 0x.
fn mark(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn rule(words: &mut Words<'_>, flags: Flags) -> Result<Rule, Failure> {
    let mut r = Rule::default();
    let mut v6 = flags.family == AF_INET6;
    let all = |t: &str| if t == "all" { Some((Vec::new(), 0)) } else { parse_prefix(t) };
    while let Some(word) = words.take() {
        match word {
            "from" => (r.from, r.from_len) = words.parse(word, "a prefix, or all", all)?,
            "to" => (r.to, r.to_len) = words.parse(word, "a prefix, or all", all)?,
            "fwmark" => {
                let both = |t: &str| match t.split_once('/') {
                    Some((m, mask)) => Some((mark(m)?, mark(mask)?)),
                    None => Some((mark(t)?, u32::MAX)),
                };
                (r.fwmark, r.fwmask) = words.parse(word, "a mark, as 7 or 0x10/0xff", both)?;
            }
            "oif" => r.oif = words.value(word)?.to_owned(),
            "table" | "lookup" => r.table = words.parse(word, "main, default or a number", table)?,
            "priority" | "preference" | "pref" | "order" => r.priority = words.number(word)?,
            other => {
                return Err(Failure::usage(format!("Error: argument \"{other}\" is wrong: Failed to parse rule type")));
            }
        }
    }
    v6 |= is_v6(&r.from) || is_v6(&r.to);
    r.family = if v6 { AF_INET6 } else { 2 };
    if r.table == 0 {
        r.table = 254;
    }
    Ok(r)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_printed() {
        for line in [
            "100:\tfrom all fwmark 0x7 lookup 200",
            "101:\tfrom 10.0.0.0/8 to 192.0.2.1 fwmark 0x10/0xff oif eth0 lookup main",
            "102:\tfrom 2001:db8::/32 lookup default",
        ] {
            let (priority, rest) = line.split_once(":\t").expect("a rule");
            let mut words: Vec<String> = rest.split(' ').map(str::to_owned).collect();
            words.extend(["priority".to_owned(), priority.to_owned()]);
            let r = rule(&mut Words::new(&words), Flags::default()).unwrap_or_else(|e| panic!("{e:?}"));
            assert_eq!(text(&r), line);
        }
        let words = ["fwmark".to_owned(), "seven".to_owned()];
        assert!(rule(&mut Words::new(&words), Flags::default()).is_err());
    }
}
