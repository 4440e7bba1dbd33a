//! A real daemon process per test, in a folder of its own; every wait is for an event.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// Long enough for a machine that compiles something else meanwhile.
pub const LIMIT: Duration = Duration::from_secs(30);

/// `stackd` with its sockets in `dir`, not started yet.
pub fn stackd(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stackd"));
    command
        .arg("--control")
        .arg(dir.join("control"))
        .arg("--attach")
        .arg(dir.join("attach"))
        .env_remove("STACKD_CONFIG")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null());
    command
}

/// Runs a command that is to end by itself.
pub fn output(command: &mut Command) -> Output {
    command.output().expect("stackd can be run")
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    pidfd: OwnedFd,
    dir: PathBuf,
}

impl Daemon {
    /// Starts one with `config`, and returns when it says that it is ready.
    pub fn start(dir: &Path, config: &str) -> Self {
        let file = dir.join("stackd.toml");
        std::fs::write(&file, config).expect("config written");
        let notify_path = dir.join("notify");
        let _ = std::fs::remove_file(&notify_path);
        let notify = UnixDatagram::bind(&notify_path).expect("notify socket");
        let log = File::create(dir.join("log")).expect("log file");
        let child = stackd(dir)
            .arg("--config")
            .arg(&file)
            .env("NOTIFY_SOCKET", &notify_path)
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("stackd starts");
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a pid");
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("pidfd");
        let daemon = Self { child, pidfd, dir: dir.to_path_buf() };
        daemon.wait_ready(&notify);
        daemon
    }

    fn wait_ready(&self, notify: &UnixDatagram) {
        let limit = Timespec::try_from(LIMIT).expect("fits");
        let mut message = [0u8; 512];
        loop {
            let mut fds = [PollFd::new(notify, PollFlags::IN), PollFd::new(&self.pidfd, PollFlags::IN)];
            poll(&mut fds, Some(&limit)).expect("poll");
            assert!(fds[0].revents().contains(PollFlags::IN), "not ready; its log:\n{}", self.log());
            let len = notify.recv(&mut message).expect("a message");
            if message[..len].split(|&b| b == b'\n').any(|line| line == b"READY=1") {
                return;
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn attach(&self) -> PathBuf {
        self.dir.join("attach")
    }

    pub fn control(&self) -> PathBuf {
        self.dir.join("control")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(&self.pidfd, signal).expect("signalled");
    }

    /// Waits for its end.
    pub fn wait(mut self) -> ExitStatus {
        let limit = Timespec::try_from(LIMIT).expect("fits");
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&limit)).expect("poll"), 1, "did not end; its log:\n{}", self.log());
        self.child.wait().expect("its status")
    }

    /// SIGTERM, and its end.
    pub fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of stackd\n{}", self.log());
        }
    }
}
