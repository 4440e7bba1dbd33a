//! The built program: exit codes and messages.

use std::process::Command;

#[test]
fn errors_name_the_word_or_the_path() {
    let missing = std::env::temp_dir().join(format!("ss-no-daemon-{}.sock", std::process::id()));
    // Exit codes as iproute2-6.1.0's: 255 for a line that does not parse, 1 for a port that does not exist.
    for (words, code, says) in [
        (&["-tin"][..], 1, "start `stackd`"),
        (&["state", "nope"], 255, "wrong state name"),
        (&["-t", "(", "dport", "=", ":80"], 255, "filter ends too early"),
        (&["-t", "dport", "=", ":xx"], 1, "does not look like a port"),
        (&["-t", "dst", "foo..x"], 1, "an inet prefix is expected"),
        (&["-K"], 1, "would abort every connection"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_ss-rs"))
            .env("STACKD_CONTROL", &missing)
            .args(words)
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(says), "{words:?}: {text}");
    }
}
