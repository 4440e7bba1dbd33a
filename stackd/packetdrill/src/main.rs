//! `stackd-packetdrill FILE…`: runs packetdrill scripts against stackd's TCP in virtual time.

use stackd_packetdrill::{Bad, Config, Defines, run_file};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: stackd-packetdrill [--OPTION[=VALUE]…] [-D NAME=VALUE…] [-v] FILE…

Runs scripts in the packetdrill language against stackd's TCP/IP stack, in virtual time.
Options are the language's own (--ip_version=ipv4|ipv6|ipv4-mapped-ipv6, --mtu, --local_ip, --remote_ip, --tolerance_usecs, …),
and besides them --reject_trailing (a packet that no line expects is an error) and --seed.
The guide's page \"Scripts in the packetdrill language\" lists all of them, and the system calls.

Exit status: 0 all scripts passed, 1 one did not, 2 bad usage.";

fn main() -> ExitCode {
    let mut config = Config::default();
    let mut defines = Defines::new();
    let mut files = Vec::new();
    let mut args = std::env::args().skip(1).peekable();
    while let Some(arg) = args.next() {
        let taken = match arg.as_str() {
            "-h" | "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            "-v" => config.set("verbose", None),
            "-D" => define(&mut defines, args.next().as_deref()),
            _ => match arg.strip_prefix("--").map(|o| o.split_once('=').map_or((o, None), |(n, v)| (n, Some(v)))) {
                Some(("define", value)) => define(&mut defines, value),
                Some((name, value)) => config.set(name, value),
                None => {
                    files.push(PathBuf::from(arg));
                    Ok(())
                }
            },
        };
        if let Err(Bad::Unsupported(text) | Bad::Wrong(text)) = taken {
            eprintln!("stackd-packetdrill: {text}");
            return ExitCode::from(2);
        }
    }
    if let Err(text) = config.check() {
        eprintln!("stackd-packetdrill: {text}");
        return ExitCode::from(2);
    }
    if files.is_empty() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let mut failed = 0;
    for file in &files {
        match run_file(file, &config, &defines) {
            Ok(report) => {
                report.output.iter().for_each(|l| println!("{l}"));
                println!("{}: ok ({} events)", file.display(), report.events);
            }
            Err(e) => {
                eprintln!("{e}");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        eprintln!("{failed} of {} scripts failed", files.len());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn define(defines: &mut Defines, value: Option<&str>) -> Result<(), Bad> {
    match value.and_then(|v| v.split_once('=')) {
        Some((name, value)) => {
            defines.insert(name.to_owned(), value.to_owned());
            Ok(())
        }
        None => Err(Bad::Wrong(String::from("a definition wants NAME=VALUE"))),
    }
}
