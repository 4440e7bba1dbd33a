//! `ip`: iproute2's grammar and output for links, addresses, routes and neighbours.

use std::io::Write;

use stackd_proto::v1::{ModifyMode, net_service_client::NetServiceClient};
use tonic::{Status, transport::Channel};

use crate::{
    cli::{Context, Failure},
    words::Words,
};

mod address;
mod link;
mod maddr;
mod neighbour;
mod route;
mod rule;

pub(crate) const USAGE: &str = "Usage: netctl ip [-4|-6] [-s] [-j] { link | addr | route | rule | neigh | maddr } COMMAND ...
       ip link  [ show [ DEV ] ] | set DEV { up | down | mtu N | address MAC | txqueuelen N | promisc {on|off} }
              | add NAME type { tap | dummy | wire } [ up ] [ mtu N ] [ address MAC ] [ KEY VALUE ]... | del DEV
              (KEY: one of a [[device]] table, as addresses 10.0.0.2/24,fd00::2/64 or listen /run/wire0)
       ip addr  [ show [ dev DEV ] ] | { add | change | replace | del } PREFIX dev DEV [ OPTIONS ] | flush dev DEV
       ip route [ show [ table {main|local|all} ] [ dev DEV ] ] | { add | change | append | replace | del } [TYPE] PREFIX
                [ via ADDR ] [ dev DEV ] [ src ADDR ] [ metric N ] [ OPTIONS ] | flush
              | get ADDR [ from ADDR ] [ iif DEV ] [ oif DEV ] [ mark MARK ]
       ip rule  [ show ] | { add | del } [ from PREFIX ] [ to PREFIX ] [ fwmark MARK[/MASK] ] [ oif DEV ] [ table N ] [ priority N ]
       ip neigh [ show [ dev DEV ] ] | { add | change | replace | del } ADDR [ lladdr MAC ] dev DEV [ nud STATE ] | flush dev DEV
       ip maddr [ show [ dev DEV ] ]";

/// What the flags before the object said.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// 2: IPv4, 10: IPv6, 0: both.
    family: u32,
    stats: bool,
    json: bool,
}

impl Flags {
    /// Does an address of this length pass -4 / -6?
    fn wants(self, v6: bool) -> bool {
        match self.family {
            2 => !v6,
            10 => v6,
            _ => true,
        }
    }
}

type Client = NetServiceClient<Channel>;

fn failed(status: &Status) -> Failure {
    Failure::daemon("ip", status, 2)
}

/// The modes that a verb can mean.
fn mode_of(verb: &str) -> Option<ModifyMode> {
    Some(match verb {
        "add" => ModifyMode::Add,
        "replace" => ModifyMode::Replace,
        "change" | "chg" => ModifyMode::Change,
        "append" => ModifyMode::Append,
        "del" | "delete" => ModifyMode::Delete,
        _ => return None,
    })
}

fn unknown(object: &str, verb: &str) -> Failure {
    Failure::usage(format!("Command \"{verb}\" is unknown, try \"netctl ip {object} help\"."))
}

fn print_json(out: &mut impl Write, values: Vec<serde_json::Value>) -> Result<(), Failure> {
    Ok(writeln!(out, "{}", serde_json::Value::from(values))?)
}

/// Runs the command.
pub async fn run(words: &[String], cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let mut words = Words::new(words);
    let mut flags = Flags { json: cx.json, ..Flags::default() };
    while let Some(flag) = words.peek().filter(|w| w.starts_with('-')) {
        words.take();
        match flag {
            "-4" => flags.family = 2,
            "-6" => flags.family = 10,
            "-s" | "-stats" | "-statistics" => flags.stats = true,
            "-j" | "-json" => flags.json = true,
            "-d" | "-details" | "-p" | "-pretty" | "-o" | "-oneline" if flags.json => {}
            "-h" | "-help" | "--help" => return Ok(writeln!(out, "{USAGE}")?),
            other => return Err(Failure::usage(format!("Option \"{other}\" is unknown, try \"netctl ip -help\"."))),
        }
    }
    let Some(object) = words.take() else { return Err(Failure::usage(USAGE)) };
    if object == "help" || words.peek() == Some("help") {
        return Ok(writeln!(out, "{USAGE}")?);
    }
    // iproute2 takes any prefix of an object's name.
    let is = |name: &str| name.starts_with(object);
    let objects: [&[&str]; 6] =
        [&["address"], &["link"], &["route"], &["neighbor", "neighbour"], &["rule"], &["maddress", "maddr"]];
    let Some(which) = objects.iter().position(|names| names.iter().any(|n| is(n))) else {
        return Err(Failure::usage(format!("Object \"{object}\" is unknown, try \"netctl ip help\".")));
    };
    // The line is checked before the daemon is looked for: a typo is a typo with or without one.
    match which {
        0 => address::run(words, flags, cx, out).await,
        5 => maddr::run(words, flags, cx, out).await,
        4 => rule::run(words, flags, cx, out).await,
        1 => link::run(words, flags, cx, out).await,
        2 => route::run(words, flags, cx, out).await,
        _ => neighbour::run(words, flags, cx, out).await,
    }
}

async fn client(cx: &Context) -> Result<Client, Failure> {
    Ok(NetServiceClient::new(cx.connect().await?))
}

#[cfg(test)]
mod tests;
