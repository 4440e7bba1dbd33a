//! `ip route`.

use std::{fmt::Write as _, io::Write};

use serde_json::json;
use stackd_proto::v1::{GetRouteRequest, ListRoutesRequest, ModifyMode, ModifyRouteRequest, Route, RouteType, Scope};

use super::{Flags, address::scope, client, failed, mode_of, print_json, unknown};
use crate::{
    addr::{is_v6, parse, parse_prefix, show},
    cli::{Context, Failure},
    units::parse_time_ns,
    words::Words,
};

const TABLES: [(&str, u32); 4] = [("main", 254), ("local", 255), ("default", 253), ("all", u32::MAX)];

pub(super) async fn run(mut words: Words<'_>, flags: Flags, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let verb = words.take().unwrap_or("show");
    if let Some(mode) = mode_of(verb) {
        let request = ModifyRouteRequest { mode: mode as i32, route: Some(route(&mut words, flags)?) };
        client(cx).await?.modify_route(request).await.map_err(|s| failed(&s))?;
        return Ok(());
    }
    match verb {
        "get" => get(words, flags, cx, out).await,
        "show" | "list" | "ls" | "lst" | "flush" => list(words, verb == "flush", flags, cx, out).await,
        other => Err(unknown("route", other)),
    }
}

async fn list(
    mut words: Words<'_>,
    flush: bool,
    flags: Flags,
    cx: &Context,
    out: &mut impl Write,
) -> Result<(), Failure> {
    // As `ip route`: IPv4 unless -6 is given.
    let mut request =
        ListRoutesRequest { family: if flags.family == 0 { 2 } else { flags.family }, ..Default::default() };
    let mut given = false;
    while let Some(word) = words.take() {
        given = true;
        match word {
            "table" => request.table = words.parse(word, "main, local, all or a number", table)?,
            "dev" | "oif" => request.device = words.value(word)?.to_owned(),
            "cache" => request.cache = true,
            other => {
                return Err(Failure::usage(format!("Error: either \"{other}\" is a garbage or it came too early.")));
            }
        }
    }
    if flush && request.cache {
        return Err(Failure::usage(
            "what was learnt about destinations goes by itself when its time is over; it cannot be flushed",
        ));
    }
    if flush && !given {
        return Err(Failure::usage("\"ip route flush\" requires arguments: \"dev DEV\" or \"table TABLE\"."));
    }
    let mut client = client(cx).await?;
    let routes = client.list_routes(request).await.map_err(|s| failed(&s))?.into_inner().routes;
    if flush {
        for route in routes {
            let request = ModifyRouteRequest { mode: ModifyMode::Delete as i32, route: Some(route) };
            client.modify_route(request).await.map_err(|s| failed(&s))?;
        }
        return Ok(());
    }
    if flags.json {
        return print_json(out, routes.iter().map(to_json).collect());
    }
    for route in &routes {
        writeln!(out, "{}", text(route))?;
    }
    Ok(())
}

async fn get(mut words: Words<'_>, flags: Flags, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let mut request = GetRouteRequest::default();
    while let Some(word) = words.take() {
        match word {
            "from" => request.source = words.parse(word, "an address", parse)?,
            "oif" | "dev" => request.device = words.value(word)?.to_owned(),
            "iif" => request.input_device = words.value(word)?.to_owned(),
            "mark" => request.mark = words.parse(word, "a number, as 7 or 0x7", number)?,
            other => {
                let text = if other == "to" { words.value(other)? } else { other };
                request.destination = parse(text).ok_or_else(|| {
                    Failure::usage(format!("Error: any valid address is expected rather than \"{text}\"."))
                })?;
            }
        }
    }
    if request.destination.is_empty() {
        return Err(Failure::usage("need at least a destination address"));
    }
    let destination = show(&request.destination);
    let GetRouteRequest { source, mark, input_device, .. } = request.clone();
    let answer = client(cx).await?.get_route(request).await.map_err(|s| failed(&s))?.into_inner();
    let r = answer.route.unwrap_or_default();
    if flags.json {
        let value = json!({
            "dst": destination, "gateway": (!r.gateway.is_empty()).then(|| show(&r.gateway)), "dev": r.device,
            "type": (r.r#type() != RouteType::Unicast).then(|| type_word(r.r#type())),
            "from": (!source.is_empty()).then(|| show(&source)), "prefsrc": source.is_empty().then(|| show(&answer.source)),
            "table": shown_table(&r), "mark": (mark != 0).then_some(mark),
            "iif": (!input_device.is_empty()).then_some(input_device), "mtu": (answer.path_mtu != 0).then_some(answer.path_mtu),
        });
        return print_json(out, vec![value]);
    }
    let mut line = format!("{}{destination} ", type_prefix(r.r#type()));
    if !source.is_empty() {
        let _ = write!(line, "from {} ", show(&source));
    }
    if !r.gateway.is_empty() {
        let _ = write!(line, "via {} ", show(&r.gateway));
    }
    let _ = write!(line, "dev {} ", r.device);
    if let Some(table) = shown_table(&r) {
        let _ = write!(line, "table {table} ");
    }
    if source.is_empty() {
        let _ = write!(line, "src {} ", show(&answer.source));
    }
    if mark != 0 {
        let _ = write!(line, "mark {mark:#x} ");
    }
    if !input_device.is_empty() {
        let _ = write!(line, "iif {input_device} ");
    }
    writeln!(out, "{line}")?;
    match answer.path_mtu {
        0 => writeln!(out, "    cache ")?,
        mtu => writeln!(out, "    cache expires {}sec mtu {mtu} ", answer.path_mtu_expires_s)?,
    }
    Ok(())
}

/// A table worth a word: any but the main one.
fn shown_table(r: &Route) -> Option<String> {
    match r.table {
        0 | 254 => None,
        255 => Some("local".to_owned()),
        253 => Some("default".to_owned()),
        n => Some(n.to_string()),
    }
}

/// Decimal, or hexadecimal with its 0x.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

pub(super) fn table(text: &str) -> Option<u32> {
    TABLES.iter().find(|(name, _)| *name == text).map(|(_, n)| *n).or_else(|| text.parse().ok())
}

fn type_word(kind: RouteType) -> &'static str {
    match kind {
        RouteType::Unspecified | RouteType::Unicast => "unicast",
        RouteType::Local => "local",
        RouteType::Broadcast => "broadcast",
        RouteType::Multicast => "multicast",
        RouteType::Blackhole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
    }
}

fn type_by_word(word: &str) -> Option<RouteType> {
    (1..=8).filter_map(|n| RouteType::try_from(n).ok()).find(|kind| type_word(*kind) == word)
}

fn type_prefix(kind: RouteType) -> String {
    match type_word(kind) {
        "unicast" => String::new(),
        word => format!("{word} "),
    }
}

fn destination(r: &Route) -> String {
    match (r.prefix_len, r.destination.len() as u32 * 8) {
        (0, _) => "default".into(),
        (len, full) if len == full => show(&r.destination),
        (len, _) => format!("{}/{len}", show(&r.destination)),
    }
}

/// One route as `ip route` prints it.
pub(super) fn text(r: &Route) -> String {
    let mut out = format!("{}{} ", type_prefix(r.r#type()), destination(r));
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = write!(out, "{name} {value} ");
        }
    };
    let number = |n: u32| if n == 0 { String::new() } else { n.to_string() };
    put("via", &if r.gateway.is_empty() { String::new() } else { show(&r.gateway) });
    put("dev", &r.device);
    put(
        "table",
        &match r.table {
            255 => "local".to_owned(),
            253 => "default".to_owned(),
            0 | 254 => String::new(),
            n => n.to_string(),
        },
    );
    put("proto", if r.protocol == "boot" { "" } else { &r.protocol });
    put(
        "scope",
        match r.scope() {
            Scope::Global => "",
            Scope::Site => "site",
            Scope::Link if !is_v6(&r.destination) => "link",
            Scope::Host => "host",
            Scope::Link | Scope::Nowhere => "",
        },
    );
    put("src", &if r.preferred_source.is_empty() { String::new() } else { show(&r.preferred_source) });
    put("metric", &number(r.metric));
    if r.onlink {
        put("onlink", " ");
    }
    put(if r.mtu_lock { "mtu lock" } else { "mtu" }, &number(r.mtu));
    // In the order of the kernel's RTAX_ numbers. A route's least timeout is always locked, as iproute2 asks for it.
    put("advmss", &number(r.advmss));
    put("hoplimit", &number(r.hoplimit));
    put("initcwnd", &number(r.initcwnd));
    put("features", if r.ecn { "ecn" } else { "" });
    put("rto_min lock", &if r.rto_min_ms == 0 { String::new() } else { format!("{}ms", r.rto_min_ms) });
    put("initrwnd", &number(r.initrwnd));
    put(
        "quickack",
        match r.quickack {
            1 => "0",
            2 => "1",
            _ => "",
        },
    );
    put("congctl", &r.congestion_control);
    put("expires", &r.expires_s.map_or_else(String::new, |s| format!("{s}sec")));
    if is_v6(&r.destination) && (r.protocol == "ra" || r.preference != 0) {
        put(
            "pref",
            match r.preference.signum() {
                -1 => "low",
                0 => "medium",
                _ => "high",
            },
        );
    }
    out
}

fn to_json(r: &Route) -> serde_json::Value {
    let addr = |a: &[u8]| (!a.is_empty()).then(|| show(a));
    let some = |n: u32| (n != 0).then_some(n);
    json!({
        "type": type_word(r.r#type()), "dst": destination(r), "gateway": addr(&r.gateway), "dev": r.device,
        // iproute2 shows what is not the default.
        "protocol": (r.protocol != "boot").then_some(&r.protocol),
        "prefsrc": addr(&r.preferred_source), "metric": some(r.metric), "mtu": some(r.mtu), "advmss": some(r.advmss),
        "initcwnd": some(r.initcwnd), "initrwnd": some(r.initrwnd), "table": r.table, "rto_min_ms": some(r.rto_min_ms),
        "expires": r.expires_s, "hoplimit": some(r.hoplimit),
        "cc_algo": (!r.congestion_control.is_empty()).then_some(&r.congestion_control),
    })
}

pub(super) fn route(words: &mut Words<'_>, flags: Flags) -> Result<Route, Failure> {
    let mut r = Route { r#type: RouteType::Unicast as i32, protocol: "boot".into(), table: 254, ..Default::default() };
    let (mut is_default, mut scope_given) = (false, false);
    while let Some(word) = words.take() {
        match word {
            "via" => {
                // `via inet6 ADDR` names the family.
                let _ = words.eat("inet") || words.eat("inet6");
                r.gateway = words.parse(word, "an address", parse)?;
            }
            "dev" | "oif" => r.device = words.value(word)?.to_owned(),
            "src" => r.preferred_source = words.parse(word, "an address", parse)?,
            "metric" | "preference" | "priority" => r.metric = words.number(word)?,
            "table" => r.table = words.parse(word, "main, local or a number", table)?,
            "proto" | "protocol" => r.protocol = words.value(word)?.to_owned(),
            "scope" => {
                r.scope = words.parse(word, "global, link or host", scope)? as i32;
                scope_given = true;
            }
            "mtu" => {
                r.mtu_lock = words.eat("lock");
                r.mtu = words.number(word)?;
            }
            "hoplimit" => r.hoplimit = words.number(word)?,
            "pref" => {
                let pref = |t: &str| ["low", "medium", "high"].iter().position(|w| *w == t).map(|n| n as i32 - 1);
                r.preference = words.parse(word, "low, medium or high", pref)?;
            }
            "expires" => {
                let text = words.value(word)?;
                return Err(Failure::usage(format!("Error: routes that expire ({text}) come from routers only.")));
            }
            "advmss" => r.advmss = words.number(word)?,
            "initcwnd" => r.initcwnd = words.number(word)?,
            "initrwnd" => r.initrwnd = words.number(word)?,
            "congctl" => r.congestion_control = words.value(word)?.to_owned(),
            "rto_min" => {
                // A bare number is milliseconds here, unlike tc's microseconds.
                let ms = |t: &str| t.parse().ok().or_else(|| u32::try_from(parse_time_ns(t)? / 1_000_000).ok());
                r.rto_min_ms = words.parse(word, "a time, as 5ms", ms)?;
            }
            "features" => r.ecn = words.parse(word, "ecn", |t| (t == "ecn").then_some(true))?,
            "quickack" => r.quickack = 1 + words.parse(word, "0 or 1", |t| t.parse().ok().filter(|n: &u32| *n < 2))?,
            "onlink" => r.onlink = true,
            "default" => is_default = true,
            "to" => {}
            other => match type_by_word(other) {
                Some(kind) => r.r#type = kind as i32,
                None => {
                    (r.destination, r.prefix_len) = parse_prefix(other).ok_or_else(|| {
                        Failure::usage(format!("Error: any valid prefix is expected rather than \"{other}\"."))
                    })?;
                }
            },
        }
    }
    if is_default {
        let v6 = flags.family == 10 || is_v6(&r.gateway);
        r.destination = vec![0; if v6 { 16 } else { 4 }];
    } else if r.destination.is_empty() {
        return Err(Failure::usage("Error: the destination is missing: a prefix, or \"default\"."));
    }
    if !scope_given && r.gateway.is_empty() && r.r#type() == RouteType::Unicast {
        r.scope = Scope::Link as i32;
    }
    Ok(r)
}
