//! tshark beside a test: a capture on an interface of this namespace, read back by fields.

use crate::bins;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;

/// The discard port: a datagram to it marks the end of a capture.
const MARK: u16 = 9;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    said: BufReader<ChildStderr>,
    /// Ends when tshark has shown the mark.
    marked: JoinHandle<std::io::Result<bool>>,
    file: PathBuf,
}

/// A finished one.
#[derive(Debug)]
pub struct Captured {
    file: PathBuf,
}

impl Capture {
    /// Captures TCP on `interface` into `dir`; returns when it runs.
    pub fn start(dir: &Path, interface: &str) -> Result<Self> {
        let file = dir.join("tshark.pcapng");
        let mut child = command(dir)?
            .args(["-i", interface, "-f", &format!("tcp or udp port {MARK}"), "-s", "128", "-B", "64", "-w"])
            .arg(&file)
            .args(["-P", "-l", "-T", "fields", "-e", "udp.dstport"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut all = String::new();
        while !all.contains("File:") {
            ensure!(said.read_line(&mut all)? > 0, "tshark did not start: {all}");
        }
        let shown = BufReader::new(child.stdout.take().context("no output")?);
        let marked = std::thread::spawn(move || {
            for line in shown.lines() {
                if line? == MARK.to_string() {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        Ok(Self { child, said, marked, file })
    }

    /// Sends a datagram to `beyond` the interface, and ends the capture when that was captured, and so all before it.
    pub fn stop(self, beyond: IpAddr) -> Result<Captured> {
        let Self { mut child, mut said, marked, file } = self;
        let any = if beyond.is_ipv6() { IpAddr::from([0u8; 16]) } else { IpAddr::from([0u8; 4]) };
        UdpSocket::bind((any, 0))?.send_to(b"end", (beyond, MARK))?;
        let marked = marked.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        let pid = Pid::from_raw(child.id().cast_signed()).context("no pid")?;
        kill_process(pid, Signal::INT)?;
        let mut rest = String::new();
        said.read_to_string(&mut rest)?;
        ensure!(child.wait()?.success() && marked, "tshark: {rest}");
        Ok(Captured { file })
    }
}

impl Captured {
    /// The rows of the frames that pass `filter`, `fields` of each separated by tabs.
    pub fn rows(&self, filter: &str, fields: &[&str]) -> Result<Vec<String>> {
        let mut command = command(self.file.parent().context("no folder")?)?;
        // Checksums are left open for the device where it computes them.
        command.args(["-o", "tcp.check_checksum:FALSE", "-Y", filter, "-T", "fields", "-r"]).arg(&self.file);
        for field in fields {
            command.args(["-e", field]);
        }
        let output = command.output()?;
        ensure!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }
}

fn command(home: &Path) -> Result<Command> {
    let mut command = Command::new(bins::system("tshark").context("tshark is not installed")?);
    command.arg("-n").env("HOME", home).stdin(Stdio::null());
    Ok(command)
}
