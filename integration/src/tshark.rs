//! tshark beside a test: a capture on an interface of this namespace, read back by fields.

use crate::bins;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    said: BufReader<ChildStderr>,
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
            .args(["-i", interface, "-f", "tcp", "-s", "128", "-B", "64", "-q", "-w"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut all = String::new();
        while !all.contains("Capturing on") {
            ensure!(said.read_line(&mut all)? > 0, "tshark did not start: {all}");
        }
        // The child that captures says it once more when the socket is open.
        while !all.contains("Capture started") && !all.contains("File:") {
            if said.read_line(&mut all)? == 0 {
                break;
            }
        }
        Ok(Self { child, said, file })
    }

    /// Ends it.
    pub fn stop(self) -> Result<Captured> {
        let Self { mut child, mut said, file } = self;
        let pid = Pid::from_raw(child.id().cast_signed()).context("no pid")?;
        kill_process(pid, Signal::INT)?;
        let mut rest = String::new();
        said.read_to_string(&mut rest)?;
        ensure!(child.wait()?.success(), "tshark: {rest}");
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
