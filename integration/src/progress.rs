//! Progress display of the demo: bars on a terminal, plain lines elsewhere.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A bar that counts `len` bytes, with rate and time left.
pub fn bytes_bar(all: &MultiProgress, name: &str, len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("  {prefix:<6} {bar:32} {bytes:>10} / {total_bytes}  {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    all.add(ProgressBar::new(len).with_style(style).with_prefix(name.to_owned()))
}

/// A line above the bars; on a pipe, where there are no bars, a plain line.
pub fn say(all: &MultiProgress, line: &str) {
    if all.is_hidden() || all.println(line).is_err() {
        println!("{line}");
    }
}
