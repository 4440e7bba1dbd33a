//! Finding the daemon and connecting to it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use tonic::transport::{Channel, Endpoint};

/// Where the control socket may be when nobody says, best first: where this user's own daemon listens, then the system's.
pub fn control_candidates() -> Vec<PathBuf> {
    let system = PathBuf::from("/run/stackd/control.sock");
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return vec![system];
    }
    let own = match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("stackd"),
        None => PathBuf::from(format!("/tmp/stackd-{}", uid.as_raw())),
    };
    vec![own.join("control.sock"), system]
}

/// The path to use: `explicit`, else the first candidate that exists, else the first.
pub fn control_path(explicit: Option<PathBuf>) -> PathBuf {
    explicit.unwrap_or_else(|| {
        let candidates = control_candidates();
        let found = candidates.iter().find(|path| path.exists()).or(candidates.first());
        found.cloned().unwrap_or_default()
    })
}

/// No daemon answers on the control socket. Prints the path, why, and what to do.
#[derive(Debug)]
pub struct ConnectError {
    /// The path that was tried.
    pub path: PathBuf,
    /// What the system said.
    pub kind: io::ErrorKind,
    message: String,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.kind {
            io::ErrorKind::NotFound => write!(
                f,
                "no stackd at {path}: the socket does not exist; start `stackd`, or name its control socket with --control or STACKD_CONTROL"
            ),
            io::ErrorKind::ConnectionRefused => {
                write!(
                    f,
                    "no stackd at {path}: the socket is there but nobody listens (the daemon died); start `stackd` again"
                )
            }
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "not allowed to open {path}; join the group that owns it, or run as the daemon's user or root"
                )
            }
            _ => write!(f, "cannot reach stackd at {path}: {}", self.message),
        }
    }
}

impl core::error::Error for ConnectError {}

/// Connects to the daemon's control socket.
pub async fn connect(path: &Path) -> Result<Channel, ConnectError> {
    let fail = |kind, message: String| ConnectError { path: path.to_owned(), kind, message };
    let Some(text) = path.to_str() else {
        return Err(fail(io::ErrorKind::InvalidInput, "the path is not valid UTF-8".into()));
    };
    let endpoint =
        Endpoint::from_shared(format!("unix:{text}")).map_err(|e| fail(io::ErrorKind::InvalidInput, e.to_string()))?;
    endpoint.connect().await.map_err(|error| {
        let mut cause: &dyn core::error::Error = &error;
        loop {
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                return fail(io.kind(), io.to_string());
            }
            match cause.source() {
                Some(next) => cause = next,
                None => return fail(io::ErrorKind::Other, cause.to_string()),
            }
        }
    })
}
