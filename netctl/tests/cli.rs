//! The built program: exit codes and messages that scripts and people rely on.

use std::process::{Command, Output};

fn netctl(words: &[&str]) -> Output {
    let missing = std::env::temp_dir().join(format!("netctl-no-daemon-{}.sock", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_netctl"));
    command.env("STACKD_CONTROL", missing).args(words).output().expect("netctl runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_missing_daemon_is_named_with_its_path_and_remedy() {
    for words in [
        &["sysctl", "-a"][..],
        &["ip", "addr"],
        &["tc", "qdisc", "show"],
        &["nstat"],
        &["clients"],
        &["kill", "dport", "=", ":80"],
        &["record", "-o", "/dev/null", "--new", "dport", "=", ":80"],
    ] {
        let output = netctl(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let text = stderr(&output);
        assert!(text.contains("netctl-no-daemon") && text.contains("start `stackd`"), "{words:?}: {text}");
    }
}

#[test]
fn typos_are_found_without_a_daemon() {
    for (words, says) in [
        (&["ip", "route", "add", "foo"][..], "any valid prefix is expected rather than \"foo\""),
        (&["ip", "foo"], "Object \"foo\" is unknown"),
        (&["ip", "addr", "foo"], "Command \"foo\" is unknown"),
        (&["tc", "qdisc", "add", "dev", "lo", "root", "pfifo", "limt", "5"], "unknown parameter \"limt\""),
        (&["kill", "state", "nope"], "wrong state name"),
        (&["record", "-o", "/dev/null", "state", "nope"], "wrong state name"),
        (&["record", "-o", "/dev/null", "--new", "ino:7"], "has no number"),
    ] {
        let output = netctl(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(stderr(&output).contains(says), "{words:?}: {}", stderr(&output));
    }
    // As tc: a kind that does not exist is the kernel's error, not the command line's.
    assert_eq!(netctl(&["tc", "qdisc", "add", "dev", "lo", "root", "nope"]).status.code(), Some(2));
}

#[test]
fn doctor_works_without_a_daemon_and_fails() {
    let output = netctl(&["--json", "doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = findings.as_array().expect("an array");
    assert!(findings.iter().any(|f| f["subject"] == "stackd" && f["severity"] == "ERROR"));
    assert!(findings.iter().any(|f| f["subject"] == "/dev/net/tun"));
}

#[test]
fn completions_and_manual_are_generated() {
    for shell in ["bash", "zsh", "fish"] {
        let output = netctl(&["completions", shell]);
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("nstat"), "{shell}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("record"), "{shell}");
    }
    assert!(String::from_utf8_lossy(&netctl(&["man"]).stdout).contains("record"));
    assert!(String::from_utf8_lossy(&netctl(&["man"]).stdout).starts_with(".ie"));
}
