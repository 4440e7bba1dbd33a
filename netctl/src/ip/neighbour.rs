//! `ip neigh`.

use std::io::Write;

use serde_json::json;
use stackd_proto::v1::{ListNeighboursRequest, ModifyMode, ModifyNeighbourRequest, Neighbour, NeighbourState};

use super::{Flags, client, failed, mode_of, print_json, unknown};
use crate::{
    addr::{is_v6, parse, parse_mac, show, show_mac},
    cli::{Context, Failure},
    words::Words,
};

pub(super) async fn run(mut words: Words<'_>, flags: Flags, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let verb = words.take().unwrap_or("show");
    if let Some(mode) = mode_of(verb) {
        let request = ModifyNeighbourRequest { mode: mode as i32, neighbour: Some(neighbour(&mut words)?) };
        client(cx).await?.modify_neighbour(request).await.map_err(|s| failed(&s))?;
        return Ok(());
    }
    let flush = verb == "flush";
    if !flush && !matches!(verb, "show" | "list" | "ls" | "lst") {
        return Err(unknown("neigh", verb));
    }
    words.eat("dev");
    let device = words.take().unwrap_or_default().to_owned();
    words.finish()?;
    if flush && device.is_empty() {
        return Err(Failure::usage("Flush requires arguments: which \"dev\"?"));
    }
    let mut client = client(cx).await?;
    let request = ListNeighboursRequest { device, family: flags.family };
    let mut all = client.list_neighbours(request).await.map_err(|s| failed(&s))?.into_inner().neighbours;
    all.retain(|n| flags.wants(is_v6(&n.address)));
    if flush {
        // What an administrator made stays, as in iproute2.
        for n in all.into_iter().filter(|n| n.state() != NeighbourState::Permanent) {
            let request = ModifyNeighbourRequest { mode: ModifyMode::Delete as i32, neighbour: Some(n) };
            client.modify_neighbour(request).await.map_err(|s| failed(&s))?;
        }
        return Ok(());
    }
    if flags.json {
        return print_json(out, all.iter().map(to_json).collect());
    }
    for n in &all {
        writeln!(out, "{}", text(n, flags.stats))?;
    }
    Ok(())
}

fn state_word(state: NeighbourState) -> &'static str {
    match state {
        NeighbourState::None => "NONE",
        NeighbourState::Incomplete => "INCOMPLETE",
        NeighbourState::Reachable => "REACHABLE",
        NeighbourState::Stale => "STALE",
        NeighbourState::Delay => "DELAY",
        NeighbourState::Probe => "PROBE",
        NeighbourState::Failed => "FAILED",
        NeighbourState::Noarp => "NOARP",
        NeighbourState::Permanent => "PERMANENT",
    }
}

pub(super) fn text(n: &Neighbour, stats: bool) -> String {
    let mut out = format!("{} dev {} ", show(&n.address), n.device);
    if !n.hardware_address.is_empty() {
        out.push_str(&format!("lladdr {} ", show_mac(&n.hardware_address)));
    }
    if n.router {
        out.push_str("router ");
    }
    if stats {
        let s = |ms: u64| ms / 1000;
        out.push_str(&format!("used {}/{}/{} probes {} ", s(n.used_ms), s(n.confirmed_ms), s(n.updated_ms), n.probes));
    }
    format!("{out}{} ", state_word(n.state()))
}

fn to_json(n: &Neighbour) -> serde_json::Value {
    json!({
        "dst": show(&n.address), "dev": n.device, "lladdr": (!n.hardware_address.is_empty()).then(|| show_mac(&n.hardware_address)),
        "state": [state_word(n.state())], "router": n.router,
    })
}

pub(super) fn neighbour(words: &mut Words<'_>) -> Result<Neighbour, Failure> {
    let mut n = Neighbour { state: NeighbourState::Permanent as i32, ..Default::default() };
    let state = |t: &str| {
        (0..=128).filter_map(|n| NeighbourState::try_from(n).ok()).find(|s| state_word(*s).eq_ignore_ascii_case(t))
    };
    while let Some(word) = words.take() {
        match word {
            "dev" => n.device = words.value(word)?.to_owned(),
            "lladdr" => n.hardware_address = words.parse(word, "a MAC address, as 02:00:00:00:00:01", parse_mac)?,
            "nud" => n.state = words.parse(word, "permanent, reachable, stale, noarp, ...", state)? as i32,
            "router" => n.router = true,
            other => {
                let text = if other == "to" { words.value(other)? } else { other };
                n.address = parse(text).ok_or_else(|| {
                    Failure::usage(format!("Error: any valid address is expected rather than \"{text}\"."))
                })?;
            }
        }
    }
    if n.address.is_empty() || n.device.is_empty() {
        return Err(Failure::usage("Device and destination are required arguments."));
    }
    Ok(n)
}
