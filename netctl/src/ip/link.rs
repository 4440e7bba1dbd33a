//! `ip link`.

use std::{fmt::Write as _, io::Write};

use serde_json::json;
use stackd_proto::v1::{AddLinkRequest, DeleteLinkRequest, Link, ListLinksRequest, SetLinkRequest};

use super::{Flags, client, failed, print_json, unknown};
use crate::{
    addr::{parse_mac, show_mac},
    cli::{Context, Failure},
    words::Words,
};

pub(super) async fn run(mut words: Words<'_>, flags: Flags, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    match words.take() {
        None | Some("show" | "list" | "ls" | "lst") => {
            words.eat("dev");
            let name = words.take().unwrap_or_default().to_owned();
            words.finish()?;
            let answer = client(cx).await?.list_links(ListLinksRequest { name }).await.map_err(|s| failed(&s))?;
            let links = answer.into_inner().links;
            if flags.json {
                return print_json(out, links.iter().map(|l| to_json(l, flags.stats)).collect());
            }
            for link in &links {
                out.write_all(head(link, " mode DEFAULT").as_bytes())?;
                if flags.stats {
                    out.write_all(stats(link).as_bytes())?;
                }
            }
            Ok(())
        }
        Some("set") => {
            let request = set(&mut words)?;
            client(cx).await?.set_link(request).await.map_err(|s| failed(&s))?;
            Ok(())
        }
        Some("add") => {
            let request = add(&mut words)?;
            client(cx).await?.add_link(request).await.map_err(|s| failed(&s))?;
            Ok(())
        }
        Some("del" | "delete") => {
            words.eat("dev");
            let name = words.value("dev")?.to_owned();
            words.finish()?;
            client(cx).await?.delete_link(DeleteLinkRequest { name }).await.map_err(|s| failed(&s))?;
            Ok(())
        }
        Some(other) => Err(unknown("link", other)),
    }
}

pub(super) fn set(words: &mut Words<'_>) -> Result<SetLinkRequest, Failure> {
    words.eat("dev");
    let mut request = SetLinkRequest { name: words.value("dev")?.to_owned(), ..Default::default() };
    while let Some(word) = words.take() {
        match word {
            "up" => request.up = Some(true),
            "down" => request.up = Some(false),
            "mtu" => request.mtu = Some(words.number(word)?),
            "txqueuelen" | "txqlen" | "qlen" => request.tx_queue_len = Some(words.number(word)?),
            "address" => {
                request.hardware_address = Some(words.parse(word, "a MAC address, as 02:00:00:00:00:01", parse_mac)?);
            }
            "promisc" => {
                let parse = |t: &str| ["off", "on"].iter().position(|w| *w == t).map(|n| n == 1);
                request.promiscuous = Some(words.parse(word, "on or off", parse)?);
            }
            other => {
                return Err(Failure::usage(format!("Error: either \"{other}\" is a garbage or it came too early.")));
            }
        }
    }
    Ok(request)
}

pub(super) fn add(words: &mut Words<'_>) -> Result<AddLinkRequest, Failure> {
    let mut request = AddLinkRequest::default();
    while let Some(word) = words.take() {
        let named = !request.name.is_empty();
        match word {
            "dev" | "name" => request.name = words.value(word)?.to_owned(),
            "mtu" => request.mtu = Some(words.number(word)?),
            "address" => {
                request.hardware_address = Some(words.parse(word, "a MAC address, as 02:00:00:00:00:01", parse_mac)?);
            }
            "up" => request.up = true,
            "down" => request.up = false,
            "type" => request.kind = words.value(word)?.to_owned(),
            name if !named && request.kind.is_empty() => request.name = name.to_owned(),
            // The kinds have keys of their own; the daemon knows them.
            key if !request.kind.is_empty() => {
                request.parameters.insert(key.to_owned(), words.value(key)?.to_owned());
            }
            other => {
                return Err(Failure::usage(format!("Error: either \"{other}\" is a garbage or it came too early.")));
            }
        }
    }
    if request.kind.is_empty() {
        return Err(Failure::usage("Not enough information: \"type\" argument is required"));
    }
    Ok(request)
}

fn flag_words(flags: u32) -> Vec<&'static str> {
    // iproute2's order. Up without carrier shows first.
    let mut words = Vec::new();
    if flags & 0x1 != 0 && flags & 0x40 == 0 && flags & 0x1_0000 == 0 {
        words.push("NO-CARRIER");
    }
    for (bit, word) in [
        (0x8, "LOOPBACK"),
        (0x2, "BROADCAST"),
        (0x10, "POINTOPOINT"),
        (0x1000, "MULTICAST"),
        (0x80, "NOARP"),
        (0x200, "ALLMULTI"),
        (0x100, "PROMISC"),
        (0x1, "UP"),
        (0x1_0000, "LOWER_UP"),
    ] {
        if flags & bit != 0 {
            words.push(word);
        }
    }
    words
}

fn link_type(link: &Link) -> &'static str {
    match (link.flags & 0x8 != 0, link.hardware_address.is_empty()) {
        (true, _) => "loopback",
        (_, true) => "none",
        _ => "ether",
    }
}

/// The two lines of a link; `mode` is in between for `ip link`, not for `ip addr`.
pub(super) fn head(link: &Link, mode: &str) -> String {
    let mut out = format!(
        "{}: {}: <{}> mtu {} qdisc {} state {}{mode} group default",
        link.index,
        link.name,
        flag_words(link.flags).join(","),
        link.mtu,
        link.qdisc,
        link.operstate
    );
    if link.tx_queue_len > 0 {
        let _ = write!(out, " qlen {}", link.tx_queue_len);
    }
    let _ = write!(out, "\n    link/{} ", link_type(link));
    if !link.hardware_address.is_empty() {
        out.push_str(&show_mac(&link.hardware_address));
    }
    if !link.broadcast_address.is_empty() {
        let _ = write!(out, " brd {}", show_mac(&link.broadcast_address));
    }
    out.push('\n');
    out
}

/// The four lines of -s. A number wider than its heading widens the column in both halves, as iproute2 does.
pub(super) fn stats(link: &Link) -> String {
    let s = link.stats.unwrap_or_default();
    let rx = [s.rx_bytes, s.rx_packets, s.rx_errors, s.rx_dropped, s.rx_missed, s.rx_multicast];
    let tx = [s.tx_bytes, s.tx_packets, s.tx_errors, s.tx_dropped, s.tx_carrier, s.tx_collisions];
    let mut widths = [10, 7, 6, 7, 7, 7];
    for (at, width) in widths.iter_mut().enumerate() {
        *width = (*width).max(rx[at].to_string().len()).max(tx[at].to_string().len());
    }
    let row = |out: &mut String, indent: &str, cut: usize, cells: [&str; 6]| {
        out.push_str(indent);
        for (at, cell) in cells.into_iter().enumerate() {
            let width = widths[at] - if at == 0 { cut } else { 0 };
            let _ = write!(out, "{cell:>width$} ");
        }
    };
    let mut out = String::new();
    for (label, last, numbers) in [("    RX: ", ["missed", "mcast"], rx), ("    TX: ", ["carrier", "collsns"], tx)] {
        row(&mut out, label, 4, ["bytes", "packets", "errors", "dropped", last[0], last[1]]);
        out.push_str("          \n");
        let text = numbers.map(|n| n.to_string());
        row(&mut out, "    ", 0, text.each_ref().map(String::as_str));
        out.push('\n');
    }
    out
}

pub(super) fn to_json(link: &Link, with_stats: bool) -> serde_json::Value {
    let mut out = json!({
        "ifindex": link.index, "ifname": link.name, "flags": flag_words(link.flags), "mtu": link.mtu, "qdisc": link.qdisc,
        "operstate": link.operstate, "group": "default", "txqlen": link.tx_queue_len, "link_type": link_type(link),
        "address": show_mac(&link.hardware_address), "broadcast": show_mac(&link.broadcast_address), "kind": link.kind,
        "offloads": link.offloads, "queues": link.queues,
    });
    if with_stats {
        let s = link.stats.unwrap_or_default();
        out["stats64"] = json!({
            "rx": { "bytes": s.rx_bytes, "packets": s.rx_packets, "errors": s.rx_errors, "dropped": s.rx_dropped,
                    "over_errors": s.rx_missed, "multicast": s.rx_multicast },
            "tx": { "bytes": s.tx_bytes, "packets": s.tx_packets, "errors": s.tx_errors, "dropped": s.tx_dropped,
                    "carrier_errors": s.tx_carrier, "collisions": s.tx_collisions },
        });
    }
    out
}
