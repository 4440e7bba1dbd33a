//! Finds the programs under test, built from the very tree that runs the test.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// Packages whose programs end-to-end tests start.
const PACKAGES: &[&str] = &["stackd", "stackd-sim", "netctl", "ss-rs", "stackd-examples"];

/// The folder this program was built into (`target/debug` or `target/release`).
pub fn dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot tell where this program is")?;
    let mut dir = exe.parent().context("this program has no folder")?;
    if dir.ends_with("deps") || dir.ends_with("examples") {
        dir = dir.parent().context("target folder has no parent")?;
    }
    Ok(dir.to_path_buf())
}

/// Path of program `name`; builds the workspace's programs once per process if cargo is at hand.
pub fn path(name: &str) -> Result<PathBuf> {
    build()?;
    let path = dir()?.join(name);
    if !path.exists() {
        bail!("{} does not exist: build it with `cargo build --workspace`", path.display());
    }
    Ok(path)
}

/// Builds what is stale. A no-op when started without cargo (an installed demo) or when the caller vouches for the programs.
pub fn build() -> Result<()> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    BUILT.get_or_init(|| build_now().map_err(|e| format!("{e:#}"))).clone().map_err(anyhow::Error::msg)
}

fn build_now() -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    if std::env::var_os("STACKD_TEST_PREBUILT").is_some() {
        return Ok(());
    }
    let dir = dir()?;
    let all: Vec<&str> = PACKAGES.iter().flat_map(|package| ["--package", package]).chain(["--bins"]).collect();
    cargo_build(&cargo, &dir, &all)?;
    // `cargo run --bin demo` builds only the demo of our own package.
    if !dir.join("nsrun").exists() {
        cargo_build(&cargo, &dir, &["--package", "stackd-integration", "--bin", "nsrun"])?;
    }
    Ok(())
}

fn cargo_build(cargo: &OsStr, dir: &Path, what: &[&str]) -> Result<()> {
    let mut command = Command::new(cargo);
    command.arg("build").args(what).current_dir(workspace_root());
    match dir.file_name().and_then(|n| n.to_str()) {
        Some("debug") | None => {}
        Some(profile) => {
            command.args(["--profile", profile]);
        }
    }
    if let Some(target) = dir.parent() {
        command.arg("--target-dir").arg(target);
    }
    let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo build {} failed", what.join(" "));
    }
    Ok(())
}

fn workspace_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Path of a program of the system, or `None` (then the caller skips visibly).
pub fn system(name: &str) -> Option<PathBuf> {
    static MISSING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|d| d.join(name))
        .find(|p| p.is_file());
    if found.is_none() && MISSING.lock().map(|mut m| m.insert(name.to_owned())).unwrap_or(false) {
        eprintln!("{name} is not installed here");
    }
    found
}
