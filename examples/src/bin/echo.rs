//! `echo`: the same small server and client over each of the ways into stackd: blocking calls, tokio, and gRPC alone.

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use stackd_examples::grpc;
use stackd_examples::net::StackArgs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Echo over stackd, three ways.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    stack: StackArgs,
    /// Which way in.
    #[arg(long, global = true, value_enum, default_value = "blocking")]
    flavour: Flavour,
    /// Control socket, for the gRPC flavour (default: $STACKD_CONTROL, else the daemon's default path).
    #[arg(long, global = true, env = "STACKD_CONTROL")]
    control: Option<PathBuf>,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Flavour {
    /// `stackd_client::TcpStream`, a thread a connection.
    Blocking,
    /// `stackd_client::tokio::TcpStream`, a task a connection.
    Tokio,
    /// `stackd.v1.SocketService` without shared memory: what any language can do.
    Grpc,
}

#[derive(Subcommand, Debug)]
enum Mode {
    /// Echo until killed. Prints the address on the first line.
    Serve {
        /// Where to listen; port 0 picks one.
        addr: SocketAddr,
    },
    /// Send a text, print what comes back.
    Send {
        /// The server.
        addr: SocketAddr,
        /// The text.
        text: String,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    match (args.flavour, &args.mode) {
        (Flavour::Blocking, Mode::Serve { addr }) => serve_blocking(&args, *addr),
        (Flavour::Blocking, Mode::Send { addr, text }) => send_blocking(&args, *addr, text),
        (Flavour::Tokio, Mode::Serve { addr }) => runtime()?.block_on(serve_tokio(&args, *addr)),
        (Flavour::Tokio, Mode::Send { addr, text }) => runtime()?.block_on(send_tokio(&args, *addr, text)),
        (Flavour::Grpc, Mode::Serve { addr }) => runtime()?.block_on(serve_grpc(&args, *addr)),
        (Flavour::Grpc, Mode::Send { addr, text }) => runtime()?.block_on(send_grpc(&args, *addr, text)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn announce(addr: SocketAddr) -> Result<()> {
    println!("{addr}");
    Ok(std::io::stdout().flush()?)
}

fn show(sent: &[u8], received: &[u8]) -> Result<()> {
    ensure!(sent == received, "sent {} bytes, other bytes came back", sent.len());
    println!("{}", String::from_utf8_lossy(received));
    Ok(())
}

fn serve_blocking(args: &Args, addr: SocketAddr) -> Result<()> {
    let listener = args.stack.open()?.listen(addr).with_context(|| format!("cannot listen on {addr}"))?;
    announce(listener.local_addr()?)?;
    loop {
        let (mut stream, _) = listener.accept()?;
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut buf = [0; 4096];
            loop {
                match stream.read(&mut buf)? {
                    0 => return Ok(()),
                    n => stream.write_all(&buf[..n])?,
                }
            }
        });
    }
}

fn send_blocking(args: &Args, addr: SocketAddr, text: &str) -> Result<()> {
    let mut stream = args.stack.open()?.connect(addr, None).with_context(|| format!("cannot connect to {addr}"))?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    show(text.as_bytes(), &answer)
}

async fn serve_tokio(args: &Args, addr: SocketAddr) -> Result<()> {
    let session = args.stack.session()?;
    let listener = stackd_client::tokio::TcpListener::bind_in(&session, addr).await?;
    announce(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(stream);
            tokio::io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await
        });
    }
}

async fn send_tokio(args: &Args, addr: SocketAddr, text: &str) -> Result<()> {
    let session = args.stack.session()?;
    let mut stream = stackd_client::tokio::TcpStream::connect_in(&session, addr).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    show(text.as_bytes(), &answer)
}

async fn serve_grpc(args: &Args, addr: SocketAddr) -> Result<()> {
    let session = grpc::Session::open(args.control.clone(), "echo").await?;
    let listener = session.listen(addr).await?;
    announce(listener.local)?;
    loop {
        let mut socket = listener.accept().await?;
        tokio::spawn(async move {
            loop {
                let data = socket.receive(1 << 16).await?;
                if data.is_empty() {
                    return socket.finish().await;
                }
                socket.send(&data).await?;
            }
        });
    }
}

async fn send_grpc(args: &Args, addr: SocketAddr, text: &str) -> Result<()> {
    let session = grpc::Session::open(args.control.clone(), "echo").await?;
    let mut socket = session.connect(addr).await?;
    socket.send(text.as_bytes()).await?;
    socket.finish().await?;
    let mut answer = Vec::new();
    loop {
        let data = socket.receive(1 << 16).await?;
        if data.is_empty() {
            break;
        }
        answer.extend_from_slice(&data);
    }
    show(text.as_bytes(), &answer)
}
