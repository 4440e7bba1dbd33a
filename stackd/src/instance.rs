//! One daemon per control path: a lock file beside it, and sockets that survive a crash of the last one.

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Who may open a socket's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Everybody: what they may do is decided by who they are.
    Open,
    /// The daemon's user and the members of a group.
    Group(u32),
    /// The daemon's user.
    Private,
}

impl Door {
    /// Gives the file at `path` its group and mode. Until then nobody else may write to it, that is, connect.
    fn put_on(self, path: &Path) -> Result<()> {
        let mode = match self {
            Self::Open => 0o666,
            Self::Group(gid) => {
                std::os::unix::fs::chown(path, None, Some(gid)).with_context(|| {
                    format!("cannot give {} to group {gid}: its members only, or root, may", path.display())
                })?;
                0o660
            }
            Self::Private => 0o600,
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", path.display()))
    }
}

/// The right to listen on a control path, held while it lives. Removes what it made when dropped.
#[derive(Debug)]
pub struct Instance {
    lock: fs::File,
    lock_path: PathBuf,
    sockets: Vec<PathBuf>,
}

impl Instance {
    /// Takes the lock beside `control`. A daemon that holds it is named by its process id.
    pub fn acquire(control: &Path) -> Result<Self> {
        make_dir(control)?;
        let lock_path = lock_path(control);
        let mut lock = loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let fd: OwnedFd = rustix::fs::open(&lock_path, flags, Mode::from_raw_mode(0o600))
                .with_context(|| format!("cannot open the lock file {}", lock_path.display()))?;
            let mut lock = fs::File::from(fd);
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(busy(&mut lock, control)),
                Err(e) => return Err(e).with_context(|| format!("cannot lock {}", lock_path.display())),
            }
            // A stopping daemon unlinks its lock file: a lock on an unlinked file excludes nobody, so look again.
            let (ours, now) = (lock.metadata()?, fs::symlink_metadata(&lock_path));
            if now.is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino())) {
                break lock;
            }
        };
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { lock, lock_path, sockets: Vec::new() })
    }

    /// Makes way for a socket at `path`: what a dead daemon left is removed, anything else is refused.
    fn clear(path: &Path) -> Result<()> {
        match fs::symlink_metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e).with_context(|| format!("cannot look at {}", path.display())),
            Ok(meta) if !meta.file_type().is_socket() => {
                bail!("{} exists and is not a socket; remove it, or choose another path", path.display())
            }
            Ok(_) => {
                if is_served(path) {
                    bail!("another process listens on {}; stop it, or choose another path", path.display());
                }
                tracing::info!(path = %path.display(), "replacing the socket a dead daemon left");
                fs::remove_file(path).with_context(|| format!("cannot remove the stale socket {}", path.display()))
            }
        }
    }

    /// Listens for streams at `path`.
    pub fn listen_stream(&mut self, path: &Path, door: Door) -> Result<UnixListener> {
        make_dir(path)?;
        Self::clear(path)?;
        let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        self.sockets.push(path.to_path_buf());
        door.put_on(path)?;
        Ok(listener)
    }

    /// Listens for SEQPACKET connections at `path`.
    pub fn listen_seqpacket(&mut self, path: &Path, door: Door) -> Result<OwnedFd> {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
        make_dir(path)?;
        Self::clear(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let addr = SocketAddrUnix::new(path).with_context(|| format!("{} is too long for a socket", path.display()))?;
        bind(&fd, &addr).with_context(|| format!("cannot listen on {}", path.display()))?;
        self.sockets.push(path.to_path_buf());
        door.put_on(path)?;
        listen(&fd, 128)?;
        Ok(fd)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for path in &self.sockets {
            let _ = fs::remove_file(path);
        }
        // While the lock is held: `acquire` re-checks that what it locked is what the path names.
        let _ = fs::remove_file(&self.lock_path);
        let _ = self.lock.flush();
    }
}

fn busy(lock: &mut fs::File, control: &Path) -> anyhow::Error {
    let mut pid = String::new();
    let _ = lock.read_to_string(&mut pid);
    let who = match pid.trim() {
        "" => String::new(),
        pid => format!(" (process {pid})"),
    };
    anyhow::anyhow!(
        "a stackd{who} already serves {}; stop it, or choose other paths with --control and --attach",
        control.display()
    )
}

fn lock_path(control: &Path) -> PathBuf {
    let mut name = control.file_name().unwrap_or_default().to_os_string();
    name.push(".lock");
    control.with_file_name(name)
}

/// True if somebody accepts connections there.
fn is_served(path: &Path) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let Ok(addr) = SocketAddrUnix::new(path) else { return false };
    [SocketType::STREAM, SocketType::SEQPACKET].into_iter().any(|kind| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(fd) = socket_with(AddressFamily::UNIX, kind, flags, None) else { return false };
        matches!(connect(&fd, &addr), Ok(()) | Err(rustix::io::Errno::AGAIN))
    })
}

/// Makes the folder of `path` for this user alone, if there is none; one of somebody else's is not trusted.
fn make_dir(path: &Path) -> Result<()> {
    let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) else { return Ok(()) };
    if !dir.exists() {
        let root = rustix::process::geteuid().is_root();
        fs::DirBuilder::new().recursive(true).mode(if root { 0o755 } else { 0o700 }).create(dir).with_context(
            || format!("cannot make {}; choose other paths with --control and --attach", dir.display()),
        )?;
    }
    let meta = fs::metadata(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    let me = rustix::process::geteuid().as_raw();
    let sticky_or_private = meta.mode() & 0o1000 != 0 || meta.mode() & 0o022 == 0;
    let default_dir = crate::config::runtime_dir();
    if dir == default_dir && (meta.uid() != me || !sticky_or_private) {
        bail!(
            "{} belongs to user {} with mode {:o}: somebody else could replace the sockets in it; remove it, or choose other paths",
            dir.display(),
            meta.uid(),
            meta.mode() & 0o7777
        );
    }
    Ok(())
}
