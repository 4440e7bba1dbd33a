//! Every script under `scripts/`, one test each, over IPv4, IPv6 and IPv6 sockets on IPv4.
//!
//! A script whose options name an `--ip_version` runs over that one only. A script in which a packet leaves that no line expects fails.

use libtest_mimic::{Arguments, Failed, Trial};
use stackd_packetdrill::{Config, Defines, IpVersion, run_file};
use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let trials = files
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(&root).unwrap_or(&file).with_extension("").display().to_string();
            Trial::test(name, move || run(&file))
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("scripts directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "pkt") {
            files.push(path);
        }
    }
}

fn run(file: &Path) -> Result<(), Failed> {
    let text = std::fs::read_to_string(file)?;
    // A rule without its source is a claim.
    if !text.lines().next().is_some_and(|l| l.starts_with("// ")) {
        return Err("the first line is no comment that names the rule".into());
    }
    let versions: &[IpVersion] = match text.lines().find_map(|l| l.trim().strip_prefix("--ip_version=")) {
        Some(_) => &[IpVersion::V4],
        None => &[IpVersion::V4, IpVersion::V6, IpVersion::V4Mapped],
    };
    for &ip_version in versions {
        // Over IPv6 the headers are 20 bytes longer: the same MSS needs the larger MTU.
        let mtu = if ip_version == IpVersion::V6 { 1520 } else { 1500 };
        let config = Config { ip_version, mtu, reject_trailing: true, ..Config::default() };
        run_file(file, &config, &Defines::new()).map_err(|e| format!("over {ip_version:?}: {e}"))?;
    }
    Ok(())
}
