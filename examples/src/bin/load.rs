//! `load`: bulk transfer, request/response (RR) and connect/request/close (CRR), as a server and as a client, over stackd or the kernel.
//!
//! The client prints one JSON object; the benchmarks read it.

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use hdrhistogram::Histogram;
use serde::Serialize;
use stackd_examples::net::{Net, StackArgs, Stream};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Load over TCP: bulk, request/response, connect/request/close.
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
    /// Serve every kind of load until killed. Prints the address on the first line.
    Serve {
        /// Where to listen; port 0 picks one.
        addr: SocketAddr,
    },
    /// Send bytes as fast as they go; the server's receipt ends the measurement.
    Bulk {
        /// The server.
        addr: SocketAddr,
        /// How long to send, in seconds.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Stop after this many bytes instead.
        #[arg(long)]
        bytes: Option<u64>,
        /// Connections at once.
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// Bytes per write call.
        #[arg(long, default_value_t = 256 * 1024)]
        write: usize,
        /// Congestion control.
        #[arg(long)]
        cc: Option<String>,
        /// SO_MAX_PACING_RATE of each connection, in bytes per second.
        #[arg(long)]
        max_pacing_rate: Option<u64>,
    },
    /// Small request, small response, one at a time: latency.
    Rr {
        /// The server.
        addr: SocketAddr,
        /// How long, in seconds.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Bytes of request and of response.
        #[arg(long, default_value_t = 1)]
        size: usize,
    },
    /// Connect, one request, close, again.
    Crr {
        /// The server.
        addr: SocketAddr,
        /// How many connections in a row.
        #[arg(long, default_value_t = 10_000)]
        count: u64,
    },
    /// Open connections and hold them until standard input ends.
    Hold {
        /// The server.
        addr: SocketAddr,
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        count: usize,
    },
}

/// Latencies above a minute count as a minute.
const LONGEST_NS: u64 = 60_000_000_000;

/// First byte of a connection: what the server shall do with it.
const SINK: u8 = b'S';
const ECHO: u8 = b'E';

fn main() -> Result<()> {
    let args = Args::parse();
    let net = args.stack.open()?;
    match args.mode {
        Mode::Serve { addr } => serve(&*net, addr),
        Mode::Bulk { addr, seconds, bytes, connections, write, cc, max_pacing_rate } => {
            let plan = Bulk { addr, limit: Duration::from_secs_f64(seconds), bytes, write, cc, max_pacing_rate };
            print(&bulk(&*net, &plan, connections)?)
        }
        Mode::Rr { addr, seconds, size } => print(&rr(&*net, addr, Duration::from_secs_f64(seconds), size)?),
        Mode::Crr { addr, count } => print(&crr(&*net, addr, count)?),
        Mode::Hold { addr, count } => hold(&*net, addr, count),
    }
}

fn print<T: Serialize>(result: &T) -> Result<()> {
    println!("{}", serde_json::to_string(result)?);
    Ok(())
}

fn serve(net: &dyn Net, addr: SocketAddr) -> Result<()> {
    let listener = net.listen(addr).with_context(|| format!("cannot listen on {addr}"))?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    loop {
        let (stream, peer) = listener.accept()?;
        std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            if let Err(e) = serve_one(stream) {
                eprintln!("{peer}: {e}");
            }
        })?;
    }
}

fn serve_one(mut stream: Box<dyn Stream>) -> std::io::Result<()> {
    let mut kind = [0u8];
    if stream.read(&mut kind)? == 0 {
        return Ok(());
    }
    stream.set_nodelay(true)?;
    match kind[0] {
        SINK => {
            let mut buf = vec![0; 256 * 1024];
            let mut total = 0u64;
            loop {
                match stream.read(&mut buf)? {
                    0 => return stream.write_all(&total.to_be_bytes()),
                    n => total += n as u64,
                }
            }
        }
        _ => {
            let mut buf = vec![0; 16 * 1024];
            loop {
                match stream.read(&mut buf) {
                    Ok(0) => return Ok(()),
                    Ok(n) => stream.write_all(&buf[..n])?,
                    Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(()),
                    Err(e) => return Err(e),
                }
            }
        }
    }
}

struct Bulk {
    addr: SocketAddr,
    limit: Duration,
    bytes: Option<u64>,
    write: usize,
    cc: Option<String>,
    max_pacing_rate: Option<u64>,
}

#[derive(Serialize)]
struct BulkResult {
    bytes: u64,
    seconds: f64,
    gbit_per_second: f64,
}

fn bulk(net: &dyn Net, plan: &Bulk, connections: usize) -> Result<BulkResult> {
    ensure!(connections > 0 && plan.write > 0, "want at least one connection and one byte per write");
    let start = Instant::now();
    let sent: Vec<Result<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(|| bulk_one(net, plan))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("a sender panicked"))).collect()
    });
    let bytes = sent.into_iter().sum::<Result<u64>>()?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(BulkResult { bytes, seconds, gbit_per_second: bytes as f64 * 8e-9 / seconds })
}

fn bulk_one(net: &dyn Net, plan: &Bulk) -> Result<u64> {
    let mut stream =
        net.connect(plan.addr, plan.cc.as_deref()).with_context(|| format!("cannot connect to {}", plan.addr))?;
    if let Some(rate) = plan.max_pacing_rate {
        stream.set_max_pacing_rate(rate)?;
    }
    stream.write_all(&[SINK])?;
    let buf = vec![0x5a; plan.write];
    let start = Instant::now();
    let mut sent = 0u64;
    loop {
        let left = plan.bytes.map_or(buf.len() as u64, |all| (all - sent).min(buf.len() as u64));
        if left == 0 || (plan.bytes.is_none() && start.elapsed() >= plan.limit) {
            break;
        }
        sent += stream.write(&buf[..left as usize])? as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut receipt = [0; 8];
    stream.read_exact(&mut receipt).context("the server sent no receipt")?;
    let received = u64::from_be_bytes(receipt);
    ensure!(received == sent, "sent {sent} bytes, the server received {received}");
    Ok(sent)
}

#[derive(Serialize)]
struct LatencyResult {
    count: u64,
    per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    max_us: f64,
}

impl LatencyResult {
    fn new(histogram: &Histogram<u64>, elapsed: Duration) -> Self {
        let us = |q| histogram.value_at_quantile(q) as f64 / 1e3;
        Self {
            count: histogram.len(),
            per_second: histogram.len() as f64 / elapsed.as_secs_f64(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

fn rr(net: &dyn Net, addr: SocketAddr, limit: Duration, size: usize) -> Result<LatencyResult> {
    ensure!(size > 0, "want at least one byte");
    let mut stream = net.connect(addr, None).with_context(|| format!("cannot connect to {addr}"))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[ECHO])?;
    let request = vec![0x5a; size];
    let mut response = vec![0; size];
    let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, 3)?;
    let start = Instant::now();
    let mut last = start;
    while last - start < limit {
        stream.write_all(&request)?;
        stream.read_exact(&mut response)?;
        let now = Instant::now();
        histogram.saturating_record((now - last).as_nanos() as u64);
        last = now;
    }
    Ok(LatencyResult::new(&histogram, start.elapsed()))
}

fn crr(net: &dyn Net, addr: SocketAddr, count: u64) -> Result<LatencyResult> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, 3)?;
    let start = Instant::now();
    for i in 0..count {
        let begin = Instant::now();
        let mut stream = net.connect(addr, None).with_context(|| format!("connection {i}"))?;
        stream.write_all(&[ECHO, b'x'])?;
        let mut response = [0];
        stream.read_exact(&mut response).with_context(|| format!("connection {i}"))?;
        drop(stream);
        histogram.saturating_record(begin.elapsed().as_nanos() as u64);
    }
    Ok(LatencyResult::new(&histogram, start.elapsed()))
}

fn hold(net: &dyn Net, addr: SocketAddr, count: usize) -> Result<()> {
    let net = Arc::new(net);
    let mut held = Vec::with_capacity(count);
    for i in 0..count {
        held.push(net.connect(addr, None).with_context(|| format!("connection {i} of {count}"))?);
    }
    println!("{}", held.len());
    std::io::stdout().flush()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    for (i, stream) in held.iter_mut().enumerate() {
        stream.write_all(&[ECHO, b'x'])?;
        let mut response = [0];
        stream.read_exact(&mut response).with_context(|| format!("held connection {i} is dead"))?;
    }
    println!("{} alive", held.len());
    Ok(())
}
