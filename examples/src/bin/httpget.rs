//! `httpget`: fetches or uploads a file over HTTP/1.1 and prints its SHA-256.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use stackd_examples::net::StackArgs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncWrite};

/// GETs (or PUTs) http://ADDR/PATH and prints bytes, seconds and SHA-256 as JSON.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    stack: StackArgs,
    /// The server.
    addr: SocketAddr,
    /// The path, starting with a slash.
    path: String,
    /// Where to store the body (default: only hash it).
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Upload this file with PUT instead of fetching.
    #[arg(long, conflicts_with = "output")]
    upload: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    if args.stack.native {
        return run(tokio::net::TcpStream::connect(args.addr).await?, &args).await;
    }
    let session = args.stack.session()?;
    let stream = stackd_client::tokio::TcpStream::connect_in(&session, args.addr)
        .await
        .with_context(|| format!("cannot connect to {}", args.addr))?;
    run(stream, &args).await
}

async fn run(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, args: &Args) -> Result<()> {
    let start = std::time::Instant::now();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut hash = Sha256::new();
    let mut bytes = 0u64;
    let (method, body) = match &args.upload {
        Some(path) => {
            let data = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            hash.update(&data);
            bytes = data.len() as u64;
            (Method::PUT, Either::Left(Full::new(Bytes::from(data))))
        }
        None => (Method::GET, Either::Right(Empty::new())),
    };
    let request = Request::builder().method(method).uri(&args.path).header("host", args.addr.to_string()).body(body)?;
    let mut response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "the server answered {}", response.status());
    let mut out: Option<std::io::BufWriter<std::fs::File>> = match &args.output {
        Some(path) => Some(std::io::BufWriter::new(std::fs::File::create(path)?)),
        None => None,
    };
    while let Some(frame) = response.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if args.upload.is_none() {
            hash.update(&data);
            bytes += data.len() as u64;
            if let Some(out) = &mut out {
                out.write_all(&data)?;
            }
        }
    }
    if let Some(mut out) = out {
        out.flush()?;
    }
    let digest: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let seconds = start.elapsed().as_secs_f64();
    println!("{}", serde_json::json!({ "bytes": bytes, "seconds": seconds, "sha256": digest }));
    Ok(())
}
