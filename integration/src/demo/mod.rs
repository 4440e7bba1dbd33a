//! The parts of `cargo demo`.

mod linux;
mod lossy;

pub use linux::{Fetched, httpget, linux, tap};
pub use lossy::{Row, lossy_path};

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Folder and input of one run.
#[derive(Debug)]
pub struct Plan {
    /// Where sockets, logs and files go.
    pub dir: PathBuf,
    /// The file that is sent.
    pub file: PathBuf,
    /// Its size in bytes.
    pub len: u64,
}

impl Plan {
    /// Makes the input: pseudo-random bytes, so that no layer can shrink or guess them.
    pub fn new(dir: &Path, len: u64) -> Result<Self> {
        let file = dir.join("file");
        write_random(&file, len).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { dir: dir.to_path_buf(), file, len })
    }
}

/// Writes `len` bytes of a xorshift64* sequence.
pub fn write_random(path: &Path, len: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let mut left = len;
    while left > 0 {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        let word = x.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        let n = left.min(8) as usize;
        out.write_all(&word[..n])?;
        left -= n as u64;
    }
    Ok(out.flush()?)
}

/// Who got what, in what time.
pub fn print_table(rows: &[Row]) {
    println!("\n  congestion control   bytes        seconds     Mbit/s   SHA-256 at the far end");
    for row in rows {
        println!(
            "  {:<18} {:>10} {:>12.2} {:>10.1}   {} (equal)",
            row.congestion,
            row.bytes,
            row.seconds,
            row.mbit_per_second,
            &row.sha256[..16]
        );
    }
}

/// The three commands to try next.
pub fn print_next_steps() {
    println!(
        "\nTry next:
  target/release/stackd --config stackd.toml            # a daemon of your own (a TAP needs root)
  target/release/ss-rs -tin                             # its flows, with BBR's state
  target/release/stackd-sim run --cc bbr --rate 10gbit --rtt 100ms --loss 1% --duration 30s --wmem 512mb"
    );
}

/// SHA-256 of a file, in hex.
pub fn sha256(path: &Path) -> Result<String> {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut HashWriter(&mut hash))?;
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

struct HashWriter<'a>(&'a mut sha2::Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        sha2::Digest::update(self.0, buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
