//! The data of one connected socket over one gRPC stream: two tasks, one a direction.

use std::sync::Arc;

use bytes::Bytes;
use stackd_proto::{
    StatusError,
    v1::{self, Errno, client_frame, server_frame::Frame},
};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Status, Streaming};

use super::{Handle, POLL_IN, POLL_OUT, SocketCall, SocketResult, confused};

const DEFAULT_CREDIT: u64 = 1 << 20;
/// Bytes a frame; small enough that a gRPC message is never refused.
const MAX_FRAME: usize = 256 << 10;

type Out = mpsc::Sender<Result<v1::ServerFrame, Status>>;

/// Starts both directions; they end with the stream, the socket, or an error.
pub(super) fn start(
    handle: Handle,
    names: v1::GetNamesResponse,
    credit: u64,
    frames: Streaming<v1::ClientFrame>,
    out: Out,
) {
    let credit = if credit == 0 { DEFAULT_CREDIT } else { credit };
    let permits = Arc::new(Semaphore::new(0));
    grant(&permits, credit);
    tokio::spawn(async move {
        if out.send(frame(Frame::Attached(names))).await.is_err() {
            return;
        }
        let incoming = receive(&handle, Arc::clone(&permits), &out);
        let outgoing = send(&handle, frames, &permits, &out);
        tokio::pin!(incoming, outgoing);
        // A half-closed stream goes on: the directions end one by one, an error ends both.
        let (mut in_done, mut out_done) = (false, false);
        while !(in_done && out_done) {
            let result = tokio::select! {
                () = out.closed() => return,
                result = &mut incoming, if !in_done => { in_done = true; result }
                result = &mut outgoing, if !out_done => { out_done = true; result }
            };
            if let Err(error) = result {
                let _ = out.send(frame(Frame::Error(error.0))).await;
                return;
            }
        }
    });
}

fn frame(frame: Frame) -> Result<v1::ServerFrame, Status> {
    Ok(v1::ServerFrame { frame: Some(frame) })
}

/// Adds credit, saturating: a client that grants more than there can be means "unlimited".
fn grant(permits: &Semaphore, bytes: u64) {
    let room = Semaphore::MAX_PERMITS - permits.available_permits();
    permits.add_permits(usize::try_from(bytes).unwrap_or(usize::MAX).min(room));
}

/// Socket to client, while the client has credit.
async fn receive(handle: &Handle, permits: Arc<Semaphore>, out: &Out) -> Result<(), StatusError> {
    loop {
        // Wait for one byte of credit, then take all there is, up to a frame.
        let Ok(first) = permits.acquire().await else { return Ok(()) };
        first.forget();
        let more = permits.forget_permits(MAX_FRAME - 1);
        let max = u32::try_from(1 + more).unwrap_or(u32::MAX);
        let result = handle.retry(POLL_IN, || SocketCall::Receive { socket: handle.socket, max, peek: false }).await?;
        let SocketResult::Received { data, control: _, from: _, full_length: _, end_of_stream } = result else {
            return Err(confused(&result));
        };
        grant(&permits, u64::from(max).saturating_sub(data.len() as u64));
        if !data.is_empty() && out.send(frame(Frame::Data(data))).await.is_err() {
            return Ok(());
        }
        if end_of_stream {
            let _ = out.send(frame(Frame::Finish(v1::StreamFinish {}))).await;
            return Ok(());
        }
    }
}

/// Client to socket; not reading the stream while the send buffer is full is the backpressure.
async fn send(
    handle: &Handle,
    mut frames: Streaming<v1::ClientFrame>,
    permits: &Semaphore,
    out: &Out,
) -> Result<(), StatusError> {
    let mut accepted = 0u64;
    while let Some(v1::ClientFrame { frame: next }) = frames.message().await? {
        match next {
            Some(client_frame::Frame::Data(mut data)) => {
                while !data.is_empty() {
                    let sent = write(handle, &data).await?;
                    let taken = usize::try_from(sent).unwrap_or(usize::MAX).min(data.len());
                    data = data.split_off(taken);
                    accepted += sent;
                }
                if out.send(frame(Frame::AcceptedBytes(accepted))).await.is_err() {
                    return Ok(());
                }
            }
            Some(client_frame::Frame::CreditBytes(bytes)) => grant(permits, bytes),
            Some(client_frame::Frame::Finish(v1::StreamFinish {})) => {
                handle.done(SocketCall::Shutdown { socket: handle.socket, how: 1 }).await?;
            }
            Some(client_frame::Frame::Attach(_)) => {
                return Err(StatusError::new(Errno::Eproto, "a second `attach`").remedy("one stream a socket"));
            }
            None => return Err(StatusError::new(Errno::Eproto, "an empty frame")),
        }
    }
    Ok(())
}

async fn write(handle: &Handle, data: &Bytes) -> Result<u64, StatusError> {
    let call = || SocketCall::Send { socket: handle.socket, data: data.clone(), to: None, control: Bytes::new() };
    match handle.retry(POLL_OUT, call).await? {
        SocketResult::Sent(0) => Err(StatusError::new(Errno::Eio, "the shard took nothing and did not say EAGAIN")),
        SocketResult::Sent(sent) => Ok(sent),
        other => Err(confused(&other)),
    }
}
