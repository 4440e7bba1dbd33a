//! `sysctl`: list, get, set, load.

use std::{io::Write, path::PathBuf};

use serde_json::json;
use stackd_proto::v1::{
    SysctlAssignment, SysctlEntry, SysctlGetRequest, SysctlListRequest, SysctlSetRequest,
    sysctl_service_client::SysctlServiceClient,
};

use crate::cli::{Context, Failure};

/// Show and change parameters, with the kernel's names.
#[derive(Clone, Debug, clap::Args)]
#[allow(missing_docs)]
pub struct Args {
    /// Show all
    #[arg(short = 'a', long, visible_short_alias = 'A')]
    pub all: bool,
    /// Values only
    #[arg(short = 'n', long)]
    pub values: bool,
    /// Names only
    #[arg(short = 'N', long)]
    pub names: bool,
    /// Set: every word is KEY=VALUE
    #[arg(short = 'w', long)]
    pub write: bool,
    /// Ignore unknown keys
    #[arg(short = 'e', long)]
    pub ignore: bool,
    /// Do not print what was set
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Set from FILE (`-`: standard input), all or nothing
    #[arg(short = 'p', long, value_name = "FILE")]
    pub load: Option<PathBuf>,
    /// Describe: type, range, default, meaning
    #[arg(short = 'd', long)]
    pub describe: bool,
    /// KEY or KEY=VALUE
    pub keys: Vec<String>,
}

/// `a/b/c` means `a.b.c`, as in procps.
fn canonical(name: &str) -> String {
    let name = name.trim();
    if name.contains('.') { name.to_owned() } else { name.replace('/', ".") }
}

/// `KEY=VALUE`, with blanks around the `=` allowed and quotes around the value taken off.
pub fn assignment(text: &str) -> Option<SysctlAssignment> {
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let name = canonical(name);
    (!name.is_empty()).then(|| SysctlAssignment { name, value: value.to_owned() })
}

/// sysctl.conf(5): comments begin with `#` or `;`; a bad line is named with its number.
pub fn parse_file(file: &str, text: &str) -> Result<Vec<SysctlAssignment>, Failure> {
    let mut out = Vec::new();
    for (n, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        out.push(assignment(line.trim_start_matches('-')).ok_or_else(|| {
            Failure::usage(format!("sysctl: {file}({n}): invalid syntax, want KEY = VALUE, found \"{line}\""))
        })?);
    }
    Ok(out)
}

/// Runs the command.
pub async fn run(args: &Args, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let mut client = SysctlServiceClient::new(cx.connect().await?);
    let failed = |status: tonic::Status| Failure::daemon("sysctl", &status, 1);
    let mut assignments = match &args.load {
        None => Vec::new(),
        Some(path) => {
            let text = if path.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(path)
            };
            let text = text.map_err(|e| Failure::usage(format!("sysctl: cannot open \"{}\": {e}", path.display())))?;
            parse_file(&path.display().to_string(), &text)?
        }
    };
    let (sets, gets): (Vec<_>, Vec<_>) = args.keys.iter().partition(|key| key.contains('='));
    if args.write && !gets.is_empty() {
        return Err(Failure::usage(format!("sysctl: \"{}\" must be of the form name=value", gets[0])));
    }
    for set in sets {
        assignments
            .push(assignment(set).ok_or_else(|| Failure::usage(format!("sysctl: malformed setting \"{set}\"")))?);
    }
    if !assignments.is_empty() {
        let entries = client.set(SysctlSetRequest { assignments }).await.map_err(failed)?.into_inner().entries;
        if !args.quiet {
            print(args, cx, &entries, out)?;
        }
    }
    if args.all || args.describe && gets.is_empty() && args.load.is_none() {
        let request = SysctlListRequest { prefixes: Vec::new(), describe: args.describe };
        let entries = client.list(request).await.map_err(failed)?.into_inner().entries;
        return print(args, cx, &entries, out);
    }
    if gets.is_empty() {
        return Ok(());
    }
    // As procps: each key by itself, so that one unknown key does not hide the others.
    let mut entries = Vec::new();
    let mut failure = None;
    for key in gets {
        let request = SysctlGetRequest { names: vec![canonical(key)], describe: args.describe };
        match client.get(request).await {
            Ok(answer) => entries.extend(answer.into_inner().entries),
            Err(status) if args.ignore && status.code() == tonic::Code::NotFound => {}
            Err(status) => {
                let error = failed(status);
                if let Some(before) = failure.replace(error) {
                    eprintln!("{}", before.text);
                }
            }
        }
    }
    print(args, cx, &entries, out)?;
    failure.map_or(Ok(()), Err)
}

fn print(args: &Args, cx: &Context, entries: &[SysctlEntry], out: &mut impl Write) -> Result<(), Failure> {
    if cx.json {
        let all: serde_json::Map<_, _> = entries.iter().map(|e| (e.name.clone(), describe_json(e))).collect();
        writeln!(out, "{}", serde_json::Value::from(all))?;
        return Ok(());
    }
    for entry in entries {
        match (args.values, args.names) {
            (true, _) => writeln!(out, "{}", entry.value)?,
            (_, true) => writeln!(out, "{}", entry.name)?,
            _ => writeln!(out, "{} = {}", entry.name, entry.value)?,
        }
        if let Some(d) = &entry.description {
            let range = match (d.min, d.max) {
                (Some(min), Some(max)) => format!("{min}..={max}"),
                (Some(min), None) => format!("{min}.."),
                (None, Some(max)) => format!("..={max}"),
                (None, None) => d.choices.join(" | "),
            };
            let words = [range.as_str(), d.unit.as_str(), if d.read_only { "read-only" } else { "" }];
            let words: Vec<_> = words.into_iter().filter(|w| !w.is_empty()).collect();
            writeln!(out, "    {} (default {}; {})", d.doc, d.default_value, words.join(", "))?;
        }
    }
    Ok(())
}

fn describe_json(entry: &SysctlEntry) -> serde_json::Value {
    match &entry.description {
        None => json!(entry.value),
        Some(d) => json!({
            "value": entry.value, "default": d.default_value, "min": d.min, "max": d.max, "choices": d.choices, "unit": d.unit,
            "doc": d.doc, "read_only": d.read_only,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_as_sysctl_conf() {
        let text =
            "# comment\n; too\n\nnet.ipv4.tcp_wmem = 4096 16384 100000000\nnet/core/somaxconn=4096\n-net.ipv4.x=1\n";
        let all = parse_file("f", text).unwrap();
        assert_eq!(all[0].name, "net.ipv4.tcp_wmem");
        assert_eq!(all[0].value, "4096 16384 100000000");
        assert_eq!(all[1].name, "net.core.somaxconn");
        assert_eq!(all[2].name, "net.ipv4.x");
        assert!(parse_file("f", "a=1\nnonsense\n").unwrap_err().text.contains("f(2)"));
    }

    #[test]
    fn quotes_are_the_shells_leftovers() {
        assert_eq!(assignment(r#"a.b="1 2 3""#).unwrap().value, "1 2 3");
        assert!(assignment("=1").is_none());
    }
}
