//! The built program: exit codes and messages.

use std::process::Command;

#[test]
fn errors_name_the_word_or_the_path() {
    let missing = std::env::temp_dir().join(format!("ss-no-daemon-{}.sock", std::process::id()));
    for (words, says) in [
        (&["-tin"][..], "start `stackd`"),
        (&["state", "nope"], "wrong state name"),
        (&["-t", "dport", "=", ":xx"], "does not look like a port"),
        (&["-K"], "would abort every connection"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_ss-rs"))
            .env("STACKD_CONTROL", &missing)
            .args(words)
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(says), "{words:?}: {text}");
    }
}
