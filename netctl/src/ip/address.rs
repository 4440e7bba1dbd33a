//! `ip addr`.

use std::{fmt::Write as _, io::Write};

use serde_json::json;
use stackd_proto::v1::{Address, ListAddressesRequest, ListLinksRequest, ModifyAddressRequest, ModifyMode, Scope};

use super::{Flags, client, failed, link, mode_of, print_json, unknown};
use crate::{
    addr::{is_v6, parse, parse_prefix, show},
    cli::{Context, Failure},
    words::Words,
};

pub(super) async fn run(mut words: Words<'_>, flags: Flags, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let verb = words.take().unwrap_or("show");
    if let Some(mode) = mode_of(verb) {
        let address = Some(address(&mut words)?);
        let request = ModifyAddressRequest { mode: mode as i32, address };
        client(cx).await?.modify_address(request).await.map_err(|s| failed(&s))?;
        return Ok(());
    }
    let flush = verb == "flush";
    if !flush && !matches!(verb, "show" | "list" | "ls" | "lst") {
        return Err(unknown("address", verb));
    }
    words.eat("dev");
    let device = words.take().unwrap_or_default().to_owned();
    words.finish()?;
    if flush && device.is_empty() {
        return Err(Failure::usage("Flush requires arguments: which \"dev\"?"));
    }
    let mut client = client(cx).await?;
    let request = ListAddressesRequest { device: device.clone() };
    let mut addresses = client.list_addresses(request).await.map_err(|s| failed(&s))?.into_inner().addresses;
    addresses.retain(|a| flags.wants(is_v6(&a.address)));
    if flush {
        for address in addresses {
            let request = ModifyAddressRequest { mode: ModifyMode::Delete as i32, address: Some(address) };
            client.modify_address(request).await.map_err(|s| failed(&s))?;
        }
        return Ok(());
    }
    let links = client.list_links(ListLinksRequest { name: device }).await.map_err(|s| failed(&s))?.into_inner().links;
    let of = |name: &str| addresses.iter().filter(|a| a.device == name).collect::<Vec<_>>();
    if flags.json {
        let all = links.iter().map(|l| {
            let mut value = link::to_json(l, flags.stats);
            value["addr_info"] = of(&l.name).into_iter().map(to_json).collect();
            value
        });
        return print_json(out, all.collect());
    }
    for l in &links {
        let own = of(&l.name);
        if flags.family != 0 && own.is_empty() {
            continue;
        }
        out.write_all(link::head(l, "").as_bytes())?;
        for address in own {
            out.write_all(text(address).as_bytes())?;
        }
    }
    Ok(())
}

fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Global => "global",
        Scope::Site => "site",
        Scope::Link => "link",
        Scope::Host => "host",
        Scope::Nowhere => "nowhere",
    }
}

/// The scope a word names.
pub(super) fn scope(text: &str) -> Option<Scope> {
    [Scope::Global, Scope::Site, Scope::Link, Scope::Host, Scope::Nowhere].into_iter().find(|s| scope_word(*s) == text)
}

fn flag_words(flags: u32) -> String {
    let mut out = String::new();
    for (bit, word) in
        [(0x1, " secondary"), (0x40, " tentative"), (0x20, " deprecated"), (0x2, " nodad"), (0x8, " dadfailed")]
    {
        if flags & bit != 0 {
            out.push_str(word);
        }
    }
    out
}

pub(super) fn text(a: &Address) -> String {
    let v6 = is_v6(&a.address);
    let mut out = format!("    {} {}", if v6 { "inet6" } else { "inet" }, show(&a.address));
    if !a.peer.is_empty() {
        let _ = write!(out, " peer {}", show(&a.peer));
    }
    let _ = write!(out, "/{}", a.prefix_len);
    if !a.broadcast.is_empty() {
        let _ = write!(out, " brd {}", show(&a.broadcast));
    }
    let _ = write!(out, " scope {}{}", scope_word(a.scope()), flag_words(a.flags));
    if a.valid_lifetime_s.is_some() {
        out.push_str(" dynamic");
    }
    if a.flags & 0x100 != 0 {
        out.push_str(" mngtmpaddr");
    }
    let label = if a.label.is_empty() { &a.device } else { &a.label };
    let _ = writeln!(out, " {}", if v6 { "" } else { label });
    let life = |s: Option<u32>| s.map_or("forever".to_owned(), |s| format!("{s}sec"));
    let _ =
        writeln!(out, "       valid_lft {} preferred_lft {}", life(a.valid_lifetime_s), life(a.preferred_lifetime_s));
    out
}

fn to_json(a: &Address) -> serde_json::Value {
    json!({
        "family": if is_v6(&a.address) { "inet6" } else { "inet" }, "local": show(&a.address), "prefixlen": a.prefix_len,
        "scope": scope_word(a.scope()), "label": a.device,
        "valid_life_time": a.valid_lifetime_s.unwrap_or(u32::MAX), "preferred_life_time": a.preferred_lifetime_s.unwrap_or(u32::MAX),
    })
}

pub(super) fn address(words: &mut Words<'_>) -> Result<Address, Failure> {
    let mut a = Address::default();
    let life = |t: &str| if t == "forever" { Some(None) } else { t.parse().ok().map(Some) };
    let mut scope_given = false;
    while let Some(word) = words.take() {
        match word {
            "dev" => a.device = words.value(word)?.to_owned(),
            "peer" | "remote" => (a.peer, a.prefix_len) = words.parse(word, "a prefix", parse_prefix)?,
            "broadcast" | "brd" => {
                let text = words.value(word)?;
                a.broadcast = match (text, parse(text)) {
                    ("+", _) => broadcast(&a),
                    (_, Some(addr)) => addr,
                    _ => return Err(crate::words::wrong(word, text, "an address, or +")),
                };
            }
            "scope" => {
                a.scope = words.parse(word, "global, site, link or host", scope)? as i32;
                scope_given = true;
            }
            "label" => a.label = words.value(word)?.to_owned(),
            "valid_lft" => a.valid_lifetime_s = words.parse(word, "seconds, or forever", life)?,
            "preferred_lft" => a.preferred_lifetime_s = words.parse(word, "seconds, or forever", life)?,
            "nodad" => a.flags |= 0x2,
            other => {
                let text = if other == "local" { words.value(other)? } else { other };
                (a.address, a.prefix_len) = parse_prefix(text).ok_or_else(|| {
                    Failure::usage(format!("Error: any valid prefix is expected rather than \"{text}\"."))
                })?;
            }
        }
    }
    if a.address.is_empty() {
        return Err(Failure::usage("Error: an address is missing, as 10.0.0.1/24."));
    }
    if a.device.is_empty() {
        return Err(Failure::usage("Not enough information: \"dev\" argument is required."));
    }
    let loopback = matches!(ss_rs::filter::ip(&a.address), Some(ip) if ip.is_loopback());
    if !scope_given && loopback {
        a.scope = Scope::Host as i32;
    }
    Ok(a)
}

/// `brd +`: the prefix with its host bits set.
fn broadcast(a: &Address) -> Vec<u8> {
    match <[u8; 4]>::try_from(&*a.address) {
        Ok(v4) if a.prefix_len < 31 => (u32::from_be_bytes(v4) | (u32::MAX >> a.prefix_len)).to_be_bytes().to_vec(),
        _ => Vec::new(),
    }
}
