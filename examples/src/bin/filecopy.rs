//! `filecopy`: a file over TCP, with its SHA-256 compared at the far end.
//!
//! Wire format: 8 bytes length (big endian), the bytes, 32 bytes SHA-256; the receiver answers with the 32 bytes it computed.

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use serde::Serialize;
use sha2::{Digest, Sha256};
use stackd_examples::net::{Net, StackArgs, Stream};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

const BLOCK: usize = 256 * 1024;

/// Copies a file over TCP and compares SHA-256 at the far end.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    stack: StackArgs,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand, Debug)]
enum Mode {
    /// Receive files until `--count` of them arrived. Prints the address on the first line.
    Receive {
        /// Where to listen; port 0 picks one.
        addr: SocketAddr,
        /// Folder to write to as 0, 1, 2 ... (default: only hash).
        #[arg(long)]
        into: Option<PathBuf>,
        /// Stop after this many files.
        #[arg(long, default_value_t = 1)]
        count: usize,
    },
    /// Send a file; prints JSON with progress (`--progress`) and the result.
    Send {
        /// The receiver.
        addr: SocketAddr,
        /// The file.
        file: PathBuf,
        /// Congestion control.
        #[arg(long)]
        cc: Option<String>,
        /// Print a line of JSON for every megabyte handed to the stack.
        #[arg(long)]
        progress: bool,
    },
}

#[derive(Serialize)]
struct Report {
    bytes: u64,
    seconds: f64,
    mbit_per_second: f64,
    sha256: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let net = args.stack.open()?;
    match args.mode {
        Mode::Receive { addr, into, count } => receive(&*net, addr, into.as_deref(), count),
        Mode::Send { addr, file, cc, progress } => send(&*net, addr, &file, cc.as_deref(), progress),
    }
}

fn receive(net: &dyn Net, addr: SocketAddr, into: Option<&Path>, count: usize) -> Result<()> {
    let listener = net.listen(addr).with_context(|| format!("cannot listen on {addr}"))?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for i in 0..count {
            let (stream, _) = listener.accept()?;
            let file = into.map(|dir| dir.join(i.to_string()));
            threads.push(scope.spawn(move || receive_one(stream, file.as_deref())));
        }
        for thread in threads {
            let hash = thread.join().map_err(|_| anyhow::anyhow!("a receiver panicked"))??;
            println!("{hash}");
        }
        Ok(())
    })
}

fn receive_one(mut stream: Box<dyn Stream>, file: Option<&Path>) -> Result<String> {
    let mut len = [0; 8];
    stream.read_exact(&mut len).context("the sender went away before the length")?;
    let len = u64::from_be_bytes(len);
    let mut out: Box<dyn Write> = match file {
        Some(path) => Box::new(BufWriter::new(File::create(path).with_context(|| path.display().to_string())?)),
        None => Box::new(std::io::sink()),
    };
    let mut hash = Sha256::new();
    let mut buf = vec![0; BLOCK];
    let mut left = len;
    while left > 0 {
        let want = left.min(BLOCK as u64) as usize;
        let n = stream.read(&mut buf[..want])?;
        ensure!(n > 0, "the sender went away after {} of {len} bytes", len - left);
        hash.update(&buf[..n]);
        out.write_all(&buf[..n])?;
        left -= n as u64;
    }
    out.flush()?;
    let mut theirs = [0; 32];
    stream.read_exact(&mut theirs).context("the sender went away before its hash")?;
    let ours: [u8; 32] = hash.finalize().into();
    stream.write_all(&ours)?;
    ensure!(ours == theirs, "SHA-256 differs: sent {}, received {}", hex(&theirs), hex(&ours));
    Ok(hex(&ours))
}

fn send(net: &dyn Net, addr: SocketAddr, file: &Path, cc: Option<&str>, progress: bool) -> Result<()> {
    let mut input = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let len = input.metadata()?.len();
    let mut stream = net.connect(addr, cc).with_context(|| format!("cannot connect to {addr}"))?;
    let start = Instant::now();
    stream.write_all(&len.to_be_bytes())?;
    let mut hash = Sha256::new();
    let mut buf = vec![0; BLOCK];
    let (mut sent, mut shown) = (0u64, 0u64);
    while sent < len {
        let n = input.read(&mut buf)?;
        ensure!(n > 0, "{} became shorter while it was sent", file.display());
        hash.update(&buf[..n]);
        stream.write_all(&buf[..n])?;
        sent += n as u64;
        if progress && sent >> 20 != shown >> 20 {
            shown = sent;
            println!("{{\"sent\":{sent}}}");
            std::io::stdout().flush()?;
        }
    }
    let ours: [u8; 32] = hash.finalize().into();
    stream.write_all(&ours)?;
    let mut theirs = [0; 32];
    stream.read_exact(&mut theirs).context("the receiver did not confirm")?;
    ensure!(ours == theirs, "SHA-256 differs: sent {}, received {}", hex(&ours), hex(&theirs));
    let seconds = start.elapsed().as_secs_f64();
    let report = Report { bytes: len, seconds, mbit_per_second: len as f64 * 8e-6 / seconds, sha256: hex(&ours) };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
