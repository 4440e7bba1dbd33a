//! `httpd`: a small HTTP/1.1 server on stackd's sockets (or the kernel's, with `--native`), one tokio task a connection.

use anyhow::{Context, Result};
use clap::Parser;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use stackd_examples::http;
use stackd_examples::net::StackArgs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncRead, AsyncWrite};

/// Serves a folder over HTTP/1.1: GET and HEAD of files, /bytes/N, PUT.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    stack: StackArgs,
    /// Where to listen; port 0 picks one. The address is printed on the first line.
    addr: SocketAddr,
    /// The folder.
    #[arg(default_value = ".")]
    root: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    if args.stack.native {
        let listener = tokio::net::TcpListener::bind(args.addr).await?;
        announce(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            spawn(stream, &args.root);
        }
    }
    let session = args.stack.session()?;
    let listener = stackd_client::tokio::TcpListener::bind_in(&session, args.addr)
        .await
        .with_context(|| format!("cannot listen on {}", args.addr))?;
    announce(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(stream, &args.root);
    }
}

fn announce(addr: SocketAddr) -> Result<()> {
    println!("{addr}");
    Ok(std::io::stdout().flush()?)
}

fn spawn(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, root: &Path) {
    let root = root.to_path_buf();
    tokio::spawn(async move {
        let service = service_fn(move |request| http::serve(root.clone(), request));
        if let Err(e) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            && !e.is_incomplete_message()
        {
            eprintln!("connection: {e}");
        }
    });
}
