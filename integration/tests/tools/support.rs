//! One way to run a tool, and a flow between the daemon and the kernel.

use anyhow::{Context, Result, ensure};
use stackd_client::{Session, TcpConnect, TcpStream};
use stackd_integration::bed::Bed;
use stackd_integration::bins;
use std::net::{self, SocketAddr, TcpListener};
use std::process::{Command, Stdio};

/// What a tool did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// It failed with this exit code, and its message holds `says`.
    pub fn refused(&self, code: i32, says: &str) -> Result<()> {
        ensure!(self.code == code && self.err.contains(says), "want exit code {code} and \"{says}\", got {self:?}");
        Ok(())
    }
}

/// `netctl` or `ss-rs` against the bed's daemon; nothing is shared with the caller's own history.
pub fn command(bed: &Bed, tool: &str, line: &str) -> Result<Command> {
    let mut command = Command::new(bins::path(tool)?);
    command
        .env("STACKD_CONTROL", bed.daemon.control())
        .env("NSTAT_HISTORY", bed.dir().join("nstat"))
        .args(line.split_whitespace())
        .stdin(Stdio::null());
    Ok(command)
}

/// Runs a tool to its end, whatever that is.
pub fn run(bed: &Bed, tool: &str, line: &str) -> Result<Ran> {
    let output = command(bed, tool, line)?.output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) })
}

/// Runs a tool that must succeed.
pub fn ok(bed: &Bed, tool: &str, line: &str) -> Result<String> {
    let ran = run(bed, tool, line)?;
    ensure!(ran.code == 0, "{tool} {line}: {ran:?}");
    Ok(ran.out)
}

pub fn netctl(bed: &Bed, line: &str) -> Result<String> {
    ok(bed, "netctl", line)
}

pub fn ss(bed: &Bed, line: &str) -> Result<String> {
    ok(bed, "ss-rs", line)
}

/// Output that is JSON.
pub fn json(bed: &Bed, tool: &str, line: &str) -> Result<serde_json::Value> {
    let out = ok(bed, tool, line)?;
    serde_json::from_str(&out).with_context(|| format!("{tool} {line} printed {out:?}"))
}

/// The text holds every word.
pub fn has(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "\"{word}\" is not in:\n{text}");
    }
    Ok(())
}

/// The name of the bed's TAP inside the daemon.
pub fn device(bed: &Bed) -> Result<String> {
    let links = json(bed, "netctl", "--json ip link")?;
    let names = links.as_array().context("not an array")?.iter().filter_map(|l| l["ifname"].as_str());
    names.map(str::to_owned).find(|n| n != "lo").context("no device but lo")
}

/// A connection from a client of the daemon to the kernel.
#[derive(Debug)]
pub struct Flow {
    pub ours: TcpStream,
    pub kernel: net::TcpStream,
    pub session: Session,
}

/// Opens one; `cc` is the congestion control asked for, if any.
pub fn flow(bed: &Bed, v6: bool, cc: Option<&str>) -> Result<Flow> {
    let listener = TcpListener::bind(SocketAddr::new(bed.kernel(v6), 0))?;
    let session = Session::connect(bed.daemon.attach())?;
    let mut options = TcpConnect::new(&session);
    if let Some(cc) = cc {
        options = options.congestion(cc);
    }
    let ours = options.connect(listener.local_addr()?)?;
    let (kernel, _) = listener.accept()?;
    Ok(Flow { ours, kernel, session })
}

/// The one socket of `ss-rs -tj` with this local port.
pub fn socket(bed: &Bed, local: SocketAddr) -> Result<serde_json::Value> {
    let all = json(bed, "ss-rs", &format!("-taij sport = :{}", local.port()))?;
    let all = all.as_array().context("not an array")?;
    ensure!(all.len() == 1, "want one socket at {local}, got {all:?}");
    Ok(all[0].clone())
}
