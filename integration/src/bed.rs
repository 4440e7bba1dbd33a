//! A daemon with a TAP whose other end is the kernel of this process's network namespace.

use crate::daemon::Daemon;
use anyhow::{Context, Result};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;

/// The daemon, its folder, and the addresses at both ends of the TAP.
#[derive(Debug)]
pub struct Bed {
    /// The daemon.
    pub daemon: Daemon,
    dir: TempDir,
    host: u8,
}

impl Bed {
    /// Starts a daemon with a TAP of its own. `top` goes in front of the configuration, `device` into the TAP's table.
    pub fn new(top: &str, device: &str) -> Result<Self> {
        Self::with_families(top, device, true)
    }

    /// The same without IPv6, for links that are too small for it.
    pub fn ipv4_only(top: &str, device: &str) -> Result<Self> {
        Self::with_families(top, device, false)
    }

    fn with_families(top: &str, device: &str, v6: bool) -> Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let host = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = TempDir::new().context("cannot make a temporary folder")?;
        let at = |end: u8| {
            let v6 = if v6 { format!(", \"fd80:{host}::{end}/64\"") } else { String::new() };
            format!("\"10.80.{host}.{end}/24\"{v6}")
        };
        let (theirs, ours) = (at(1), at(2));
        // Tests that are not about it have no second to wait for duplicates of our addresses.
        const NO_DAD: &str = "[sysctl]\n\"net.ipv6.conf.default.accept_dad\" = 0\n";
        let top = if top.contains("accept_dad") {
            top.to_owned()
        } else if top.contains("[sysctl]\n") {
            top.replacen("[sysctl]\n", NO_DAD, 1)
        } else {
            format!("{top}\n{NO_DAD}")
        };
        let config = format!(
            r#"
{top}
[[device]]
name = "tap{host}"
kind = "tap"
host_addresses = [{theirs}]
addresses = [{ours}]
qdisc = "fq"
{device}
"#
        );
        let daemon = Daemon::start(dir.path(), "stackd", &config)?;
        Ok(Self { daemon, dir, host })
    }

    /// The kernel's address of a family.
    pub fn kernel(&self, v6: bool) -> IpAddr {
        self.addr(v6, 1)
    }

    /// The daemon's address of a family.
    pub fn ours(&self, v6: bool) -> IpAddr {
        self.addr(v6, 2)
    }

    fn addr(&self, v6: bool, end: u8) -> IpAddr {
        if v6 {
            // The host number is written in decimal digits in a hexadecimal field.
            let field = u16::from_str_radix(&self.host.to_string(), 16).unwrap_or(0);
            IpAddr::from([0xfd80, field, 0, 0, 0, 0, 0, u16::from(end)])
        } else {
            IpAddr::from([10, 80, self.host, end])
        }
    }

    /// The name of the kernel's end of the TAP.
    pub fn interface(&self) -> String {
        format!("tap{}", self.host)
    }

    /// A folder for files of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
