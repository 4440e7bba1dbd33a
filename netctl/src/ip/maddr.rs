//! `ip maddr`.

use std::io::Write;

use serde_json::json;
use stackd_proto::v1::{Group, ListGroupsRequest};

use super::{Flags, client, failed, print_json, unknown};
use crate::{
    addr::{is_v6, show, show_mac},
    cli::{Context, Failure},
    words::Words,
};

pub(super) async fn run(mut words: Words<'_>, flags: Flags, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    match words.take() {
        None | Some("show" | "list" | "ls" | "lst") => {}
        Some("add" | "del" | "delete") => {
            return Err(Failure::usage("Error: groups are joined by sockets (IP_ADD_MEMBERSHIP, MCAST_JOIN_GROUP)."));
        }
        Some(other) => return Err(unknown("maddr", other)),
    }
    words.eat("dev");
    let device = words.take().unwrap_or_default().to_owned();
    words.finish()?;
    let answer = client(cx).await?.list_groups(ListGroupsRequest { device }).await.map_err(|s| failed(&s))?;
    let groups = answer.into_inner().groups;
    let links: Vec<&[Group]> = groups.chunk_by(|a, b| a.index == b.index).collect();
    if flags.json {
        return print_json(out, links.into_iter().map(|l| to_json(l, flags)).collect());
    }
    for link in links {
        writeln!(out, "{}:\t{}", link[0].index, link[0].device)?;
        for Line { family, address, users } in lines(link, flags) {
            let users = if users > 1 { format!(" users {users}") } else { String::new() };
            writeln!(out, "\t{family:<5} {address}{users}")?;
        }
    }
    Ok(())
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub family: &'static str,
    pub address: String,
    pub users: u32,
}

/// The addresses of an interface: of the link, IPv4's, IPv6's.
pub(super) fn lines(groups: &[Group], flags: Flags) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let loopback = groups.iter().any(|g| g.device == "lo");
    for mac in groups.iter().filter(|g| !loopback && g.address.get(..2) != Some(&[0xff, 1])).map(|g| mac_of(&g.address))
    {
        let address = show_mac(&mac);
        match lines.iter_mut().find(|l| l.address == address) {
            Some(line) => line.users += 1,
            None => lines.push(Line { family: "link", address, users: 1 }),
        }
    }
    if flags.family != 0 {
        lines.clear();
    }
    for v6 in [false, true].into_iter().filter(|v6| flags.wants(*v6)) {
        for g in groups.iter().filter(|g| is_v6(&g.address) == v6) {
            let family = if v6 { "inet6" } else { "inet" };
            lines.push(Line { family, address: show(&g.address), users: g.sockets + u32::from(g.own) });
        }
    }
    lines
}

/// RFC 1112, 6.4: the low 23 bits; RFC 2464, 7: the low 32.
fn mac_of(group: &[u8]) -> Vec<u8> {
    match group {
        [_, b, c, d] => vec![1, 0, 0x5e, b & 0x7f, *c, *d],
        long => [&[0x33, 0x33][..], long.get(12..).unwrap_or_default()].concat(),
    }
}

fn to_json(groups: &[Group], flags: Flags) -> serde_json::Value {
    let users = |n: u32| (n > 1).then_some(n);
    let maddr: Vec<_> = lines(groups, flags)
        .into_iter()
        .map(|l| match l.family {
            "link" => json!({ "link": l.address, "users": users(l.users) }),
            family => json!({ "family": family, "address": l.address, "users": users(l.users) }),
        })
        .collect();
    json!({ "ifindex": groups[0].index, "ifname": groups[0].device, "maddr": maddr })
}
