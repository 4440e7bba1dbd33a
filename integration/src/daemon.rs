//! A stackd process: started, waited for, stopped.

use crate::bins;
use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take to say it is ready, on a machine that compiles something else at the same time.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running daemon. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    pidfd: OwnedFd,
    dir: PathBuf,
    name: String,
}

impl Daemon {
    /// Starts `stackd` with `config` (TOML, without the paths), its sockets in `dir` under `name`; returns when it is ready.
    pub fn start(dir: &Path, name: &str, config: &str) -> Result<Self> {
        Self::start_with(dir, name, config, |_| {})
    }

    /// The same, with a hand on the command (environment, more flags, a namespace).
    pub fn start_with(dir: &Path, name: &str, config: &str, adjust: impl FnOnce(&mut Command)) -> Result<Self> {
        let file = dir.join(format!("{name}.toml"));
        std::fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let notify_path = dir.join(format!("{name}.notify"));
        let _ = std::fs::remove_file(&notify_path);
        let notify =
            UnixDatagram::bind(&notify_path).with_context(|| format!("cannot bind {}", notify_path.display()))?;
        let log = File::create(dir.join(format!("{name}.log")))?;
        let mut command = Command::new(bins::path("stackd")?);
        command
            .arg("--config")
            .arg(&file)
            .arg("--control")
            .arg(dir.join(format!("{name}.control")))
            .arg("--attach")
            .arg(dir.join(format!("{name}.attach")))
            .env("NOTIFY_SOCKET", &notify_path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        adjust(&mut command);
        let child = command.spawn().context("cannot start stackd")?;
        let pidfd = pidfd_of(&child)?;
        let mut daemon = Self { child, pidfd, dir: dir.to_path_buf(), name: name.to_owned() };
        daemon.wait_ready(&notify)?;
        Ok(daemon)
    }

    /// Blocks until `READY=1`, the daemon's exit, or the limit: whichever event comes first.
    fn wait_ready(&mut self, notify: &UnixDatagram) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let mut message = [0u8; 512];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(notify, PollFlags::IN), PollFd::new(&self.pidfd, PollFlags::IN)];
            let n = poll(&mut fds, Some(&Timespec::try_from(left)?))?;
            if fds[0].revents().contains(PollFlags::IN) {
                let len = notify.recv(&mut message)?;
                if message[..len].split(|&b| b == b'\n').any(|line| line == b"READY=1") {
                    return Ok(());
                }
            } else if n == 0 {
                bail!("stackd {} was not ready after {START_LIMIT:?}; its log:\n{}", self.name, self.log());
            } else {
                let status = self.child.wait()?;
                bail!("stackd {} ended with {status}; its log:\n{}", self.name, self.log());
            }
        }
    }

    /// The control socket, for `--control`.
    pub fn control(&self) -> PathBuf {
        self.dir.join(format!("{}.control", self.name))
    }

    /// The attach socket, for clients.
    pub fn attach(&self) -> PathBuf {
        self.dir.join(format!("{}.attach", self.name))
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::pidfd_send_signal(&self.pidfd, signal).context("cannot signal stackd")
    }

    /// SIGTERM, then waits for the end.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        if !wait_exit(self.pidfd.as_fd(), START_LIMIT)? {
            bail!("stackd {} did not end within {START_LIMIT:?} of SIGTERM; its log:\n{}", self.name, self.log());
        }
        Ok(self.child.wait()?)
    }

    /// Runs `netctl` against this daemon and returns what it printed.
    pub fn netctl(&self, args: &[&str]) -> Result<String> {
        run_tool("netctl", &self.control(), args)
    }

    /// Runs `ss-rs` against this daemon and returns what it printed.
    pub fn ss(&self, args: &[&str]) -> Result<String> {
        run_tool("ss-rs", &self.control(), args)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of stackd {}\n{}", self.name, self.log());
        }
    }
}

/// A descriptor that becomes readable when the child ends.
pub fn pidfd_of(child: &Child) -> Result<OwnedFd> {
    let pid = Pid::from_raw(child.id().cast_signed()).context("child has no pid")?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// True if the process behind `pidfd` ended within `limit`.
pub fn wait_exit(pidfd: impl AsFd, limit: Duration) -> Result<bool> {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec::try_from(limit)?))? > 0)
}

fn run_tool(tool: &str, control: &Path, args: &[&str]) -> Result<String> {
    let output =
        Command::new(bins::path(tool)?).env("STACKD_CONTROL", control).args(args).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{tool} {} ended with {}: {}", args.join(" "), output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
