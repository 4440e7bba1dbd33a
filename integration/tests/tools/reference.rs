//! `docs/guide/sysctl.md` is what `netctl sysctl -a -d` says.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stackd_integration::daemon::Daemon;
use std::fmt::Write as _;
use std::path::Path;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide/sysctl.md");

/// Fails when a key was added, renamed or reworded and the page was not. `STACKD_BLESS=1` writes the page anew.
pub fn sysctl_page_is_current() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let daemon = Daemon::start(dir.path(), "stackd", "")?;
    let described: Value = serde_json::from_str(&daemon.netctl(&["--json", "sysctl", "-a", "-d"])?)?;
    let page = page(&described)?;
    if std::env::var_os("STACKD_BLESS").is_some() {
        std::fs::write(PAGE, &page).context(PAGE)?;
    }
    let written = std::fs::read_to_string(Path::new(PAGE)).context(PAGE)?;
    let differs = page.lines().zip(written.lines()).find(|(now, then)| now != then);
    ensure!(
        page == written,
        "docs/guide/sysctl.md is stale ({differs:?}); run `STACKD_BLESS=1 cargo test -p stackd-integration --test tools -- sysctl_page`"
    );
    Ok(())
}

fn page(described: &Value) -> Result<String> {
    let mut out = String::from(
        "# Sysctl reference\n\nGenerated from the running daemon's registry (`netctl sysctl -a -d`); a test keeps it current. Names, units and \
         meaning are\nLinux's where Linux has the key. `netctl sysctl -w KEY=VALUE` changes them while stackd runs, `[sysctl]` in the \
         configuration at start.\n\nKeys of `net.ipv4.conf.all` and `net.ipv6.conf.all` exist for every interface (`net.ipv6.conf.eth0.accept_ra`) and for `default`, which \
         is\nwhat interfaces that come later begin with. A write to `all` writes every interface's.\n",
    );
    let per_interface = |name: &str| name.contains(".conf.default.") || name.contains(".conf.lo.");
    let mut group = String::new();
    for (name, entry) in described.as_object().context("not an object")?.iter().filter(|(n, _)| !per_interface(n)) {
        let (prefix, _) = name.rsplit_once('.').context("a key without a group")?;
        if prefix != group {
            group = prefix.to_owned();
            let _ = write!(out, "\n## {group}\n\n| key | default | takes | what it does |\n|---|---|---|---|\n");
        }
        let text = |key: &str| entry[key].as_str().unwrap_or_default().replace('\t', " ").replace('|', "\\|");
        let choices = entry["choices"].as_array().context("no choices")?;
        let takes = match (entry["min"].as_i64(), entry["max"].as_i64()) {
            _ if entry["read_only"] == true => "read only".to_owned(),
            _ if !choices.is_empty() => {
                choices.iter().filter_map(Value::as_str).map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ")
            }
            (Some(min), Some(max)) => format!("{min} to {max}"),
            _ => "text".to_owned(),
        };
        let default = text("default");
        let default = if default.is_empty() { "(empty)".to_owned() } else { format!("`{default}`") };
        let _ = writeln!(out, "| `{name}` | {default} | {takes} | {} |", text("doc"));
    }
    Ok(out)
}
