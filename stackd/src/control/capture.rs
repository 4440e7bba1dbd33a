//! CaptureService: frames of all shards as one pcapng stream.

use std::pin::Pin;

use bytes::BytesMut;
use stackd_netdev::pcapng::format::{self as pcapng, Frame, Interface};
use stackd_proto::{
    StatusError,
    v1::{self, Errno, capture_service_server::CaptureService},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    access,
    backend::{Backend, CaptureInterface, CapturedFrame, Command},
};

const DEFAULT_SNAP_LEN: u32 = 262_144;
const DEFAULT_BUFFER: u32 = 4096;
/// A reader may ask for more buffer, but not for the daemon's memory.
const MAX_BUFFER: u32 = 1 << 16;
/// Frames are gathered up to this many bytes a message while more are waiting.
const CHUNK_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Service {
    backend: Backend,
}

impl Service {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend }
    }
}

#[tonic::async_trait]
impl CaptureService for Service {
    type StartStream = Pin<Box<dyn Stream<Item = Result<v1::CaptureChunk, Status>> + Send>>;

    async fn start(&self, request: Request<v1::CaptureRequest>) -> Result<Response<Self::StartStream>, Status> {
        let caller = access::caller(&request)?;
        let v1::CaptureRequest { devices, snap_len, max_packets, buffer_packets } = request.into_inner();
        let snap_len = if snap_len == 0 { DEFAULT_SNAP_LEN } else { snap_len.min(DEFAULT_SNAP_LEN) };
        let buffer = if buffer_packets == 0 { DEFAULT_BUFFER } else { buffer_packets.min(MAX_BUFFER) };
        let (sink, frames) = mpsc::channel(buffer as usize);
        let answers = self
            .backend
            .ask_all(|reply| Command::CaptureStart { devices: devices.clone(), snap_len, sink: sink.clone(), reply })
            .await?;
        let mut interfaces: Vec<CaptureInterface> = Vec::new();
        for interface in answers.into_iter().flatten() {
            if !interfaces.contains(&interface) {
                interfaces.push(interface);
            }
        }
        if let Some(missing) = devices.iter().find(|d| !interfaces.iter().any(|i| &i.name == *d)) {
            return Err(StatusError::new(Errno::Enodev, "no such device")
                .argument("interface", missing)
                .remedy("a name that `netctl ip link` shows")
                .into());
        }
        tracing::info!(pid = caller.pid, uid = caller.uid, ?devices, snap_len, "capture started");
        let (out, chunks) = mpsc::channel(4);
        tokio::spawn(pump(interfaces, snap_len, max_packets, frames, out));
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }
}

/// Until `max_packets`, or the client or the shards are gone.
async fn pump(
    interfaces: Vec<CaptureInterface>,
    snap_len: u32,
    max_packets: u64,
    mut frames: mpsc::Receiver<CapturedFrame>,
    out: mpsc::Sender<Result<v1::CaptureChunk, Status>>,
) {
    let mut buffer = BytesMut::new();
    let described = interfaces.iter().map(|i| Interface { name: &i.name, link_type: i.link_type });
    pcapng::header(&mut buffer, described, snap_len);
    let (mut packets, mut dropped) = (0u64, 0u64);
    loop {
        let chunk = v1::CaptureChunk { pcapng: buffer.split().freeze(), packets, dropped };
        if out.send(Ok(chunk)).await.is_err() || (max_packets > 0 && packets >= max_packets) {
            return;
        }
        let mut next = tokio::select! {
            () = out.closed() => return,
            frame = frames.recv() => match frame {
                Some(frame) => Some(frame),
                None => return,
            },
        };
        while let Some(frame) = next.take() {
            dropped += frame.missed;
            if let Some(at) = interfaces.iter().position(|i| i.index == frame.interface) {
                let interface = u32::try_from(at).unwrap_or(0);
                let CapturedFrame { interface: _, unix_ns, original_len, ref data, outbound, missed } = frame;
                pcapng::packet(&mut buffer, &Frame { interface, unix_ns, original_len, data, outbound, missed });
                packets += 1;
            }
            if buffer.len() < CHUNK_BYTES && (max_packets == 0 || packets < max_packets) {
                next = frames.try_recv().ok();
            }
        }
    }
}
