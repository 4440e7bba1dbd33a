//! `tc qdisc`: tc's syntax and output.

use std::io::Write;

use stackd_proto::v1::{QdiscListRequest, QdiscModifyRequest, QdiscVerb, qdisc_service_client::QdiscServiceClient};

use crate::{
    cli::{Context, Failure},
    words::Words,
};

pub mod parse;
pub mod show;

pub(crate) const USAGE: &str = "Usage: netctl tc [-s] [-j] qdisc show [ dev DEV ]
       netctl tc qdisc { add | replace | change | del } dev DEV root [ handle MAJOR: ] [ KIND [ OPTIONS ] ]
KIND := fq | fq_codel | pfifo | bfifo | pfifo_fast | netem | tbf | noqueue";

/// Runs the command.
pub async fn run(words: &[String], cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let mut words = Words::new(words);
    let (mut stats, mut json) = (false, cx.json);
    while let Some(flag) = words.peek().filter(|w| w.starts_with('-')) {
        words.take();
        match flag {
            "-s" | "-stats" | "-statistics" => stats = true,
            "-j" | "-json" => json = true,
            "-d" | "-details" | "-p" | "-pretty" => {}
            "-h" | "--help" | "-help" => {
                writeln!(out, "{USAGE}")?;
                return Ok(());
            }
            other => return Err(Failure::usage(format!("Option \"{other}\" is unknown, try \"netctl tc -help\"."))),
        }
    }
    match words.take() {
        Some("qdisc") => {}
        Some("help") => {
            writeln!(out, "{USAGE}")?;
            return Ok(());
        }
        None => return Err(Failure::usage(USAGE)),
        Some(other) => {
            return Err(Failure::usage(format!(
                "Object \"{other}\" is unknown, try \"netctl tc help\". stackd has: qdisc"
            )));
        }
    }
    let verb = match words.take() {
        None | Some("show" | "list" | "ls") => return show(words, stats, json, cx, out).await,
        Some("add") => QdiscVerb::Add,
        Some("replace") => QdiscVerb::Replace,
        Some("change") => QdiscVerb::Change,
        Some("del" | "delete") => QdiscVerb::Delete,
        Some(other) => return Err(Failure::usage(format!("Command \"{other}\" is unknown, try \"netctl tc help\"."))),
    };
    let request = modify(verb, &mut words)?;
    let mut client = QdiscServiceClient::new(cx.connect().await?);
    client.modify(request).await.map_err(|s| Failure::daemon("tc", &s, 2))?;
    Ok(())
}

async fn show(
    mut words: Words<'_>,
    mut stats: bool,
    mut json: bool,
    cx: &Context,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut device = String::new();
    while let Some(word) = words.take() {
        match word {
            "dev" => device = words.value("dev")?.to_owned(),
            "root" => {}
            // tc wants its flags first; people write them last.
            "-s" | "-stats" | "-statistics" => stats = true,
            "-j" | "-json" => json = true,
            other => return Err(Failure::usage(format!("What is \"{other}\"? Try \"netctl tc help\"."))),
        }
    }
    let mut client = QdiscServiceClient::new(cx.connect().await?);
    let answer = client.list(QdiscListRequest { device }).await.map_err(|s| Failure::daemon("tc", &s, 2))?.into_inner();
    if json {
        let all: Vec<_> = answer.qdiscs.iter().map(|q| show::json(q, stats)).collect();
        writeln!(out, "{}", serde_json::Value::from(all))?;
    } else {
        for qdisc in &answer.qdiscs {
            out.write_all(show::text(qdisc, stats).as_bytes())?;
        }
    }
    Ok(())
}

/// The words after the verb.
pub fn modify(verb: QdiscVerb, words: &mut Words<'_>) -> Result<QdiscModifyRequest, Failure> {
    let mut request = QdiscModifyRequest { verb: verb as i32, ..Default::default() };
    while let Some(word) = words.take() {
        match word {
            "dev" => request.device = words.value("dev")?.to_owned(),
            "root" => {}
            "handle" => {
                let parse = |t: &str| u32::from_str_radix(t.strip_suffix(':')?, 16).ok().filter(|h| *h <= 0xffff);
                request.handle = words.parse("handle", "a major number in hexadecimal with a colon, as 1:", parse)?;
            }
            kind => {
                request.options = Some(parse::options(kind, words)?);
                words.finish()?;
            }
        }
    }
    if request.device.is_empty() {
        return Err(Failure::usage("Error: \"dev\" is missing: which interface?"));
    }
    if verb != QdiscVerb::Delete && request.options.is_none() {
        return Err(Failure::usage(format!("Error: the kind of qdisc is missing.\n{USAGE}")));
    }
    Ok(request)
}

#[cfg(test)]
mod tests;
