//! Network namespaces for tests: as root directly, else through a user namespace of our own.

use anyhow::{Context, Result};
use rustix::thread::UnshareFlags;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What the machine lets us do.
#[derive(Clone, Debug)]
pub struct Support {
    /// Why no network namespace can be made; `None` = it can.
    pub no_netns: Option<String>,
    /// Why no TAP device can be opened inside one; `None` = it can.
    pub no_tap: Option<String>,
}

/// Asks once, by trying in a child process.
pub fn support() -> &'static Support {
    static SUPPORT: OnceLock<Support> = OnceLock::new();
    SUPPORT.get_or_init(|| {
        let no_netns = probe(&["true"]).err().map(|e| format!("{e:#}"));
        let no_tap = match &no_netns {
            Some(why) => Some(why.clone()),
            None => probe(&["sh", "-c", "exec 3<>/dev/net/tun"])
                .err()
                .map(|e| format!("/dev/net/tun cannot be opened: {e:#}")),
        };
        Support { no_netns, no_tap }
    })
}

fn probe(command: &[&str]) -> Result<()> {
    let output = inside(command[0])?.args(&command[1..]).stdin(Stdio::null()).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A command that runs `program` in a fresh network namespace with `lo` up.
pub fn inside(program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    let mut command = Command::new(nsrun()?);
    command.arg(program);
    Ok(command)
}

fn nsrun() -> Result<std::path::PathBuf> {
    let path = crate::bins::dir()?.join("nsrun");
    anyhow::ensure!(
        path.exists(),
        "{} does not exist: build it with `cargo build -p stackd-integration`",
        path.display()
    );
    Ok(path)
}

/// Builds the programs, then replaces this process by itself in a fresh namespace, with `--inside` in front of its arguments.
/// Returns only on failure: for want of a namespace or a TAP, with the reason.
pub fn relaunch_inside() -> Result<()> {
    crate::bins::build()?;
    if let Some(why) = support().no_netns.as_ref().or(support().no_tap.as_ref()) {
        anyhow::bail!("this needs a network namespace and a TAP: {why}");
    }
    let mut command = inside(std::env::current_exe()?)?;
    command.env("STACKD_TEST_PREBUILT", "1").arg("--inside").args(std::env::args_os().skip(1));
    Err(command.exec()).context("cannot start again inside a network namespace")
}

/// Moves this process into a fresh network namespace (and a user namespace if it is not root), and brings `lo` up.
/// Call it first in `main`: a process with threads may not enter a user namespace.
pub fn enter() -> Result<()> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    if uid == 0 {
        unshare(UnshareFlags::NEWNET).context("cannot make a network namespace")?;
    } else {
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET).context("cannot make a user namespace")?;
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
        write("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    }
    stackd_netdev::host::link_up("lo").context("cannot bring lo up")
}

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: no file descriptor table is unshared, so no descriptor held elsewhere in the process changes its meaning.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn write(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    std::fs::write(path, text).with_context(|| format!("cannot write {text:?} to {}", path.display()))
}

/// A network namespace that lives as long as this value, beside the one this process is in.
#[derive(Debug)]
pub struct Namespace {
    holder: std::process::Child,
    fd: std::fs::File,
}

impl Namespace {
    /// Makes one with `lo` up. It belongs to the same user namespace as this process.
    pub fn new() -> Result<Self> {
        use std::io::Read;
        // The holder tells that it is inside by writing a byte, and stays until its input ends.
        let mut holder =
            inside("sh")?.args(["-c", "echo; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut ready = [0];
        holder.stdout.as_mut().context("no output")?.read_exact(&mut ready).context("no network namespace")?;
        let fd = std::fs::File::open(format!("/proc/{}/ns/net", holder.id()))?;
        Ok(Self { holder, fd })
    }

    /// Runs `work` on a thread inside it. Processes that it starts stay inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("cannot enter the network namespace")?;
                work()
            });
            thread.join().map_err(|_| anyhow::anyhow!("work in a namespace panicked"))?
        })
    }

    /// The namespace's descriptor, to move interfaces into it.
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
