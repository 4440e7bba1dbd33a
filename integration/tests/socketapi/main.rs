//! The socket API against Linux itself: the same calls natively and through a daemon, every outcome compared.

mod differences;
mod names;
mod native;
mod options;
mod os;
mod ours;
mod script;
mod sequences;

use anyhow::{Context, Result, ensure};
use native::Native;
use ours::Ours;
use sequences::SEQUENCES;
use stackd_client::Session;
use stackd_integration::daemon::Daemon;
use stackd_integration::trials::{self, case};
use stackd_netdev::host;
use std::process::ExitCode;

fn main() -> ExitCode {
    trials::main(vec![
        case("docs::socket_options_page_is_current", options::page_is_current),
        case("options_are_answered_as_linux_does", options_agree).tap(),
        case("sequences_are_answered_as_linux_does", sequences_agree).tap(),
    ])
}

/// A daemon, and a session of it.
fn daemon(config: &str) -> Result<(tempfile::TempDir, Daemon, Ours)> {
    let dir = tempfile::tempdir()?;
    let daemon = Daemon::start(dir.path(), "stackd", config)?;
    let session = Session::connect(daemon.attach())?;
    Ok((dir, daemon, Ours(session)))
}

/// The kernel's own sysctls where option values follow from them.
fn config() -> Result<String> {
    let mut out = String::from("[sysctl]\n");
    for key in [
        "net.core.rmem_max",
        "net.core.wmem_max",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
        "net.ipv4.tcp_congestion_control",
    ] {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        // What a namespace does not show is as everywhere.
        let Ok(value) = std::fs::read_to_string(&path) else { continue };
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        out.push_str(&format!("\"{key}\" = \"{value}\"\n"));
    }
    Ok(out)
}

/// A second interface that leads nowhere.
fn with_device(mut out: String) -> String {
    // Its address is usable at once.
    out.push_str("\"net.ipv6.conf.default.accept_dad\" = \"0\"\n");
    let (name, v4, v6) = (script::DEVICE, script::DEV, script::DEV6);
    out.push_str(&format!("[[device]]\nname = {name:?}\nkind = \"dummy\"\naddresses = [\"{v4}/24\", \"{v6}/64\"]\n"));
    out
}

fn options_agree() -> Result<()> {
    let (_dir, daemon, ours) = daemon(&config()?)?;
    options::agree(&Native, &ours)?;
    daemon.stop().context("the daemon").map(drop)
}

/// How often a sequence may be run anew: both systems are at the mercy of their machine's scheduler.
const ATTEMPTS: u16 = 3;

/// A second interface in the kernel, as the daemon has one: a pair of which only one end has addresses.
fn second_interface() -> Result<()> {
    // The end made last has the higher number.
    host::veth_add("t1", script::DEVICE, None).context("cannot make a veth pair")?;
    let dad = format!("/proc/sys/net/ipv6/conf/{}/accept_dad", script::DEVICE);
    std::fs::write(&dad, "0").with_context(|| format!("cannot write {dad}"))?;
    host::addr_add(script::DEVICE, script::DEV.parse()?, 24)?;
    host::addr_add(script::DEVICE, script::DEV6.parse()?, 64)?;
    host::link_up("t1")?;
    host::link_up(script::DEVICE).context("cannot bring it up")
}

fn sequences_agree() -> Result<()> {
    second_interface()?;
    let (_dir, daemon, ours) = daemon(&with_device(config()?))?;
    let only = std::env::var("STACKD_SEQUENCE").ok();
    let mut found = Vec::new();
    let mut base = 20_000u16;
    for (name, script) in SEQUENCES {
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let mut last = None;
        for _ in 0..ATTEMPTS {
            base += 10;
            let want = script::run(&Native, script, base, None);
            let got = script::run(&ours, script, base, Some(&want));
            last = (want != got).then_some((want, got));
            if last.is_none() {
                break;
            }
        }
        if let Some((want, got)) = last {
            let lines: Vec<String> = want
                .iter()
                .zip(&got)
                .filter(|(a, b)| a != b && !differences::line_explained(name, a))
                .map(|(a, b)| format!("      linux:  {a}\n      stackd: {b}"))
                .collect();
            if lines.is_empty() {
                continue;
            }
            found.push(format!("  {name}: {script}\n{}", lines.join("\n")));
        }
    }
    daemon.stop().context("the daemon")?;
    ensure!(found.is_empty(), "{} of {} sequences differ:\n{}", found.len(), SEQUENCES.len(), found.join("\n"));
    Ok(())
}
