//! Where sockets live when nobody says.

use std::path::PathBuf;

/// `/run/stackd` for root; for others `$XDG_RUNTIME_DIR/stackd`, or `/tmp/stackd-UID` where there is none.
pub fn runtime_dir() -> PathBuf {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return PathBuf::from("/run/stackd");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("stackd"),
        None => PathBuf::from(format!("/tmp/stackd-{}", uid.as_raw())),
    }
}
