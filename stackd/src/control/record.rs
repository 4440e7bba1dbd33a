//! RecordService: the tapes of all shards as one file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use bytes::Bytes;
use stackd_proto::{
    StatusError,
    v1::{self, Errno, flow_filter, record_request, record_service_server::RecordService},
};
use stackd_tcp::record::{BlockKind, Framer, Head, TapeOptions};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    access,
    backend::{Backend, Command},
};
use crate::clock::wall_nanos;
use crate::shard::record::{BLOCK_BYTES, End, Piece, Recording, Test, Wanted};

const DEFAULT_BUFFER: u32 = 8 << 20;
/// A reader may ask for more buffer, but not for the daemon's memory.
const MAX_BUFFER: u32 = 256 << 20;
/// Connections that one recording may wait for.
const MAX_FLOWS: u32 = 10_000;
/// Deeper nesting than any human writes.
const MAX_DEPTH: u32 = 64;
/// Blocks are gathered up to this many bytes a message while more are waiting.
const CHUNK_BYTES: usize = 512 << 10;

#[derive(Debug)]
pub(super) struct Service {
    backend: Backend,
    next: AtomicU64,
}

impl Service {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend, next: AtomicU64::new(1) }
    }
}

#[tonic::async_trait]
impl RecordService for Service {
    type RecordStream = Pin<Box<dyn Stream<Item = Result<v1::RecordChunk, Status>> + Send>>;

    async fn record(
        &self,
        request: Request<Streaming<v1::RecordRequest>>,
    ) -> Result<Response<Self::RecordStream>, Status> {
        let caller = access::caller(&request)?;
        let mut requests = request.into_inner();
        let Some(v1::RecordRequest { what: Some(record_request::What::Start(start)) }) = requests.message().await?
        else {
            return Err(StatusError::invalid("what", "", "the first request says what to record").into());
        };
        let (pieces, taken) = mpsc::unbounded_channel();
        let (recording, cookies) = read(start, pieces)?;
        let count = recording.left.load(Ordering::Relaxed);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let shards = self
            .backend
            .ask_all(|reply| Command::RecordStart {
                id,
                recording: Box::new(recording.clone()),
                cookies: cookies.clone(),
                reply,
            })
            .await;
        // Shards alone hold an end of the channel from here on: it closes when they have ended the last tape.
        drop(recording);
        let stop = Stop { backend: self.backend.clone(), id };
        let found: Vec<u64> = match shards {
            Ok(found) => found.into_iter().flatten().collect(),
            Err(error) => {
                stop.all().await;
                return Err(error.into());
            }
        };
        if found.is_empty() && count == 0 {
            stop.all().await;
            return Err(StatusError::new(Errno::Enoent, "no such connection, or it is being recorded already").into());
        }
        tracing::info!(pid = caller.pid, uid = caller.uid, live = found.len(), new = count, "recording started");
        let (out, chunks) = mpsc::channel(4);
        let expected = found.len() as u32 + count;
        tokio::spawn(Pump::new(expected).run(stop, requests, taken, out));
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }
}

/// Ends a recording on all shards.
struct Stop {
    backend: Backend,
    id: u64,
}

impl Stop {
    async fn all(&self) {
        // A shard that is gone records nothing any more.
        let _ = self.backend.ask_all(|reply| Command::RecordStop { id: self.id, reply }).await;
    }
}

/// Makes the file.
struct Pump {
    file: Vec<u8>,
    began: Vec<v1::RecordedFlow>,
    ended: Vec<v1::RecordedEnd>,
    empties: BTreeMap<u32, Sender<Vec<u8>>>,
    /// Connections that have not ended or not even begun.
    open: u32,
}

impl Pump {
    fn new(expected: u32) -> Self {
        let mut file = Vec::new();
        Framer::head(&mut file, &Head::of_this_build(wall_nanos()));
        Self { file, began: Vec::new(), ended: Vec::new(), empties: BTreeMap::new(), open: expected }
    }

    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Began { flow, head, from_birth, empties } => {
                Framer::flow(&mut self.file, flow, &head);
                let (local, remote) = (head.local.to_string(), head.remote.to_string());
                self.began.push(v1::RecordedFlow { flow, local, remote, from_birth });
                self.empties.insert(flow, empties);
            }
            Piece::Block { flow, kind, mut bytes } => {
                Framer::block(&mut self.file, kind, flow, &bytes);
                if kind == BlockKind::End {
                    self.empties.remove(&flow);
                    self.open = self.open.saturating_sub(1);
                    self.ended.extend(stackd_tcp::record::End::read(&bytes).map(|end| v1::RecordedEnd {
                        flow,
                        reason: end.reason.text().into(),
                        too_slow: end.reason == stackd_tcp::record::EndReason::TooSlow,
                        calls: end.records,
                    }));
                } else if let Some(empties) = self.empties.get(&flow).filter(|_| bytes.capacity() >= BLOCK_BYTES) {
                    bytes.clear();
                    // The connection may have ended.
                    let _ = empties.send(bytes);
                }
            }
        }
    }

    fn chunk(&mut self) -> v1::RecordChunk {
        v1::RecordChunk {
            file: Bytes::from(std::mem::take(&mut self.file)),
            began: std::mem::take(&mut self.began),
            ended: std::mem::take(&mut self.ended),
        }
    }

    /// Until all connections have ended, the client says stop, or nobody reads any more.
    async fn run(
        mut self,
        stop: Stop,
        mut requests: Streaming<v1::RecordRequest>,
        mut pieces: mpsc::UnboundedReceiver<Piece>,
        out: mpsc::Sender<Result<v1::RecordChunk, Status>>,
    ) {
        let mut stopping = false;
        loop {
            if !self.file.is_empty() {
                let chunk = self.chunk();
                if out.send(Ok(chunk)).await.is_err() {
                    return stop.all().await;
                }
            }
            if self.open == 0 && !stopping {
                stopping = true;
                stop.all().await;
            }
            let piece = tokio::select! {
                () = out.closed() => return stop.all().await,
                // Stop, the end of the requests, and a broken connection are all the same here.
                _ = requests.message(), if !stopping => {
                    stopping = true;
                    stop.all().await;
                    continue;
                }
                piece = pieces.recv() => piece,
            };
            let Some(piece) = piece else { break };
            self.take(piece);
            while self.file.len() < CHUNK_BYTES
                && let Ok(piece) = pieces.try_recv()
            {
                self.take(piece);
            }
        }
        Framer::done(&mut self.file);
        let _ = out.send(Ok(self.chunk())).await;
    }
}

fn read(start: v1::RecordStart, pieces: mpsc::UnboundedSender<Piece>) -> Result<(Recording, Vec<u64>), StatusError> {
    let v1::RecordStart { cookies, new, digest_every, buffer_bytes } = start;
    let (wanted, count) = match new {
        None => (Wanted::None, 0),
        Some(v1::RecordNew { filter, count }) => {
            let test = filter.map_or(Ok(Test::All), |f| read_test(f, 0))?;
            (Wanted::New(test), count.max(1))
        }
    };
    if count > MAX_FLOWS {
        return Err(StatusError::invalid("count", count, format!("at most {MAX_FLOWS}")));
    }
    if cookies.is_empty() && count == 0 {
        return Err(StatusError::invalid("cookies", "", "nothing is to be recorded"));
    }
    let buffer = if buffer_bytes == 0 { DEFAULT_BUFFER } else { buffer_bytes.min(MAX_BUFFER) };
    let mut options = TapeOptions::default();
    if digest_every > 0 {
        options.digest_every = digest_every;
    }
    let recording = Recording {
        wanted,
        left: Arc::new(AtomicU32::new(count)),
        flows: Arc::default(),
        options,
        // One is being written, one is on its way.
        blocks: (buffer as usize / BLOCK_BYTES).max(2),
        pieces,
    };
    Ok((recording, cookies))
}

fn read_test(filter: v1::FlowFilter, depth: u32) -> Result<Test, StatusError> {
    use flow_filter::Test as Wire;
    if depth > MAX_DEPTH {
        return Err(StatusError::invalid("filter", "", format!("nested deeper than {MAX_DEPTH}")));
    }
    let missing = || StatusError::invalid("filter", "", "an expression without an operand");
    let operand = |f: Option<Box<v1::FlowFilter>>| read_test(*f.ok_or_else(missing)?, depth + 1).map(Box::new);
    Ok(match filter.test.ok_or_else(missing)? {
        Wire::And(pair) => Test::And(operand(pair.a)?, operand(pair.b)?),
        Wire::Or(pair) => Test::Or(operand(pair.a)?, operand(pair.b)?),
        Wire::Not(f) => Test::Not(operand(Some(f))?),
        Wire::Local(end) => Test::Local(read_end(&end)?),
        Wire::Remote(end) => Test::Remote(read_end(&end)?),
        Wire::Mark(v1::FlowMark { value, mask }) => Test::Mark { value, mask },
        Wire::Device(name) => Test::Device(name),
    })
}

fn read_end(end: &v1::FlowEnd) -> Result<End, StatusError> {
    let v1::FlowEnd { address, prefix_len, first_port, last_port } = end;
    let prefix = match address.len() {
        0 => None,
        4 => <[u8; 4]>::try_from(&address[..]).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(&address[..]).ok().map(|a| IpAddr::from(a).to_canonical()),
        n => return Err(StatusError::invalid("address", n, "4 or 16 bytes")),
    };
    let port = |name, value: u32| u16::try_from(value).map_err(|_| StatusError::invalid(name, value, "0 to 65535"));
    let last = if *last_port == 0 { 65_535 } else { *last_port };
    let len = u8::try_from(*prefix_len).map_err(|_| StatusError::invalid("prefix_len", prefix_len, "0 to 128"))?;
    Ok(End { prefix: prefix.map(|p| (p, len)), ports: (port("first_port", *first_port)?, port("last_port", last)?) })
}
