//! What real peers do with us. The tests run these small, the acceptance program at full size.

mod crowd;
mod files;
mod pairing;

pub use crowd::{Held, held, hold_many, short_connections, wrk_load};
pub use files::{curl_fetches, filecopy_both_ways, nginx_serves};
pub use pairing::{Pairing, exchange};

use crate::bed::Bed;
use crate::bins;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};

/// 1 % loss, 5 % reordering, 1 % duplication, 0.1 % corruption, on the way out and on the way in.
pub const IMPAIRED: &str = r#"
[device.emulate]
delay = "1ms"
loss = "1%"
reorder = "5%"
duplicate = "1%"
corrupt = "0.1%"
limit = 100000

[device.emulate_ingress]
delay = "1ms"
loss = "1%"
reorder = "5%"
duplicate = "1%"
corrupt = "0.1%"
limit = 100000
"#;

/// A program of ours that printed its address and serves until this value is dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    /// What it printed after the address.
    pub out: BufReader<ChildStdout>,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Served {
    /// Starts `command` and waits for its first line.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("no output")?);
        let mut first = String::new();
        out.read_line(&mut first)?;
        let addr =
            first.trim().parse().with_context(|| format!("{command:?} said {first:?} instead of its address"))?;
        Ok(Self { child, out, addr })
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "ended with {status}");
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of our example programs, on the daemon's stack.
pub fn ours(bed: &Bed, program: &str) -> Result<Command> {
    let mut command = Command::new(bins::path(program)?);
    command.arg("--attach").arg(bed.daemon.attach());
    Ok(command)
}

/// One of our example programs, on the kernel's stack.
pub fn native(program: &str) -> Result<Command> {
    let mut command = Command::new(bins::path(program)?);
    command.arg("--native");
    Ok(command)
}

fn any_port(ip: IpAddr) -> String {
    SocketAddr::new(ip, 0).to_string()
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
