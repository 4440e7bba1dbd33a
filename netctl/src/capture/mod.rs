//! `capture`: packets into a pcapng file.

mod writer;

use std::{fs::File, io::Write, path::PathBuf};

use stackd_proto::v1::{CaptureRequest, capture_service_client::CaptureServiceClient};

use crate::cli::{Context, Failure};
use writer::{Method, Writer};

/// Write packets as pcapng, until interrupted or COUNT.
#[derive(Clone, Debug, clap::Args)]
#[allow(missing_docs)]
pub struct Args {
    /// Interface (repeatable; default all)
    #[arg(short = 'i', long)]
    pub interface: Vec<String>,
    /// File to write, `-`: standard output
    #[arg(short = 'w', long)]
    pub write: PathBuf,
    /// Stop after this many packets
    #[arg(short = 'c', long, default_value_t = 0)]
    pub count: u64,
    /// Bytes to keep of each packet; 0: all
    #[arg(short = 's', long, default_value_t = 0)]
    pub snaplen: u32,
    /// How to write the file
    #[arg(long, value_enum, default_value_t)]
    pub writer: Method,
}

/// Runs the command. The file is a valid pcapng at every moment; figures go to stderr as tcpdump's.
pub async fn run(args: &Args, cx: &Context, out: &mut impl Write) -> Result<(), Failure> {
    let failed = |status: tonic::Status| Failure::daemon("capture", &status, 1);
    let mut client = CaptureServiceClient::new(cx.connect().await?);
    let request = CaptureRequest {
        devices: args.interface.clone(),
        snap_len: args.snaplen,
        max_packets: args.count,
        buffer_packets: 0,
    };
    let mut stream = client.start(request).await.map_err(failed)?.into_inner();
    let file = if args.write.as_os_str() == "-" {
        None
    } else {
        let failed = |e| Failure::usage(format!("capture: cannot write {}: {e}", args.write.display()));
        let file = File::create(&args.write).map_err(failed)?;
        Some(Writer::start(file, args.writer).map_err(failed)?)
    };
    let (mut packets, mut dropped) = (0, 0);
    loop {
        let chunk = tokio::select! {
            chunk = stream.message() => chunk.map_err(failed)?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(chunk) = chunk else { break };
        (packets, dropped) = (chunk.packets, chunk.dropped);
        if let Some(file) = &file {
            if !file.write(chunk.pcapng).await {
                break;
            }
        } else {
            out.write_all(&chunk.pcapng)?;
            out.flush()?;
        }
    }
    if let Some(file) = file {
        let failed = |e| Failure::usage(format!("capture: {} is incomplete: {e}", args.write.display()));
        file.finish().await.map_err(failed)?;
    }
    eprintln!("{packets} packets captured\n{dropped} packets dropped by stackd");
    Ok(())
}
