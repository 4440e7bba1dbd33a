//! The other end is Linux: a file fetched from and uploaded to the kernel's own TCP over a TAP.

use super::Plan;
use crate::daemon::Daemon;
use crate::ns::{self, Support};
use crate::{bins, demo};
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

const KERNEL: &str = "10.78.0.1";
const KERNEL_V6: &str = "fd78::1";

/// Daemon configuration for one TAP whose other end is this namespace's kernel.
pub fn tap_config() -> String {
    format!(
        r#"
# Nobody else is on this link: the IPv6 address need not wait for duplicate address detection.
[sysctl]
"net.ipv6.conf.default.accept_dad" = 0

[[device]]
name = "tap0"
kind = "tap"
host_addresses = ["{KERNEL}/24", "{KERNEL_V6}/64"]
addresses = ["10.78.0.2/24", "fd78::2/64"]
qdisc = "fq"
"#
    )
}

/// Runs the TAP part in a namespace of its own, or says why it cannot.
pub fn linux(plan: &Plan, support: &Support) -> Result<()> {
    if let Some(why) = support.no_netns.as_ref().or(support.no_tap.as_ref()) {
        println!("\nLinux as the other end: left out here, because {why}.");
        return Ok(());
    }
    println!("\nLinux as the other end, in a network namespace of this demo's own:");
    let status = ns::inside(std::env::current_exe()?)?.arg("--tap-in").arg(&plan.dir).status()?;
    ensure!(status.success(), "the part with Linux failed");
    Ok(())
}

/// What runs inside the namespace.
pub fn tap(dir: &Path) -> Result<()> {
    let daemon = Daemon::start(dir, "tap", &tap_config())?;
    let file = dir.join("file");
    for kernel in [KERNEL, KERNEL_V6] {
        let kernel: IpAddr = kernel.parse()?;
        let (down, up) = fetch_and_upload(&daemon, &file, kernel)?;
        let family = if kernel.is_ipv4() { "IPv4" } else { "IPv6" };
        println!(
            "  {family}: fetched from Linux in {down:.2} s, uploaded to Linux in {up:.2} s, SHA-256 equal both ways"
        );
    }
    daemon.stop()?;
    Ok(())
}

fn fetch_and_upload(daemon: &Daemon, file: &Path, kernel: IpAddr) -> Result<(f64, f64)> {
    let root = tempfile::tempdir()?;
    std::fs::copy(file, root.path().join("file"))?;
    let mut httpd = Command::new(bins::path("httpd")?)
        .arg("--native")
        .arg(std::net::SocketAddr::new(kernel, 0).to_string())
        .arg(root.path())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut first = String::new();
    BufReader::new(httpd.stdout.take().context("no output")?).read_line(&mut first)?;
    let result = (|| {
        let wanted = demo::sha256(file)?;
        let down = httpget(daemon, first.trim(), &["/file"])?;
        ensure!(down.sha256 == wanted, "fetched {}, want {wanted}", down.sha256);
        let source = file.to_str().context("path is not UTF-8")?;
        let up = httpget(daemon, first.trim(), &["/copy", "--upload", source])?;
        let stored = demo::sha256(&root.path().join("copy"))?;
        ensure!(stored == wanted, "Linux stored {stored}, want {wanted}");
        Ok((down.seconds, up.seconds))
    })();
    httpd.kill()?;
    httpd.wait()?;
    result
}

/// What `httpget` prints.
#[derive(Debug, serde::Deserialize)]
pub struct Fetched {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// SHA-256 of the body.
    pub sha256: String,
}

/// Runs the example client through `daemon`.
pub fn httpget(daemon: &Daemon, addr: &str, args: &[&str]) -> Result<Fetched> {
    let output =
        Command::new(bins::path("httpget")?).arg("--attach").arg(daemon.attach()).arg(addr).args(args).output()?;
    ensure!(output.status.success(), "httpget {addr} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
