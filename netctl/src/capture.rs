//! `capture`: packets into a pcapng file.

use std::{fs::File, io::Write, path::PathBuf};

use stackd_proto::v1::{CaptureRequest, capture_service_client::CaptureServiceClient};

use crate::cli::{Context, Failure};

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
    let mut file: Box<dyn Write + '_> = if args.write.as_os_str() == "-" {
        Box::new(out)
    } else {
        let file = File::create(&args.write)
            .map_err(|e| Failure::usage(format!("capture: cannot write {}: {e}", args.write.display())))?;
        Box::new(file)
    };
    let (mut packets, mut dropped) = (0, 0);
    loop {
        let chunk = tokio::select! {
            chunk = stream.message() => chunk.map_err(failed)?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(chunk) = chunk else { break };
        (packets, dropped) = (chunk.packets, chunk.dropped);
        file.write_all(&chunk.pcapng)?;
        file.flush()?;
    }
    eprintln!("{packets} packets captured\n{dropped} packets dropped by stackd");
    Ok(())
}
