//! The main job, as `cargo demo` runs it, with a small file.

use std::process::Command;

/// Two daemons, three algorithms, the tools, and Linux as the other end where this user may open a TAP.
#[test]
fn the_demo_ends_with_its_table_and_with_linux_or_the_reason_why_not() {
    let demo = Command::new(env!("CARGO_BIN_EXE_demo")).args(["--mib", "2"]).output().expect("the demo starts");
    let said = String::from_utf8_lossy(&demo.stdout);
    let all = format!("{said}\n{}", String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{all}");
    for algorithm in ["bbr", "cubic", "reno"] {
        let row = |line: &str| line.trim_start().starts_with(algorithm) && line.ends_with("(equal)");
        assert!(said.lines().any(row), "no row of {algorithm} in:\n{all}");
    }
    let with_linux = ["IPv4", "IPv6"].iter().all(|family| said.contains(&format!("{family}: fetched from Linux")));
    let why_not = said.lines().find(|line| line.contains("left out here, because"));
    assert!(with_linux || why_not.is_some(), "{all}");
    if let Some(why) = why_not {
        eprintln!("skipped in part: {why}");
    }
}
