//! DiagService: sockets of all shards, once or again and again.

use std::{pin::Pin, time::Duration};

use stackd_proto::{StatusError, v1, v1::diag_service_server::DiagService};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    Started, access,
    backend::{Backend, ClosedSocket, Command},
    merge,
};

/// Sockets a message: 256 with all fields stay far below the 4 MiB a gRPC message may have.
const CHUNK: usize = 256;
/// Closed sockets that may wait for a slow reader.
const CLOSED_QUEUE: usize = 4096;

#[derive(Debug)]
pub(super) struct Service {
    backend: Backend,
    started: Started,
}

impl Service {
    pub(super) fn new(backend: Backend, started: Started) -> Self {
        Self { backend, started }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

async fn snapshot(backend: &Backend, filter: &v1::DiagFilter) -> Result<Vec<v1::SocketDiag>, StatusError> {
    let mut out = Vec::new();
    let answers = backend.ask_all(|reply| Command::DiagList(filter.clone(), reply)).await?;
    for (shard, sockets) in (0u32..).zip(answers) {
        out.extend(sockets.into_iter().map(|socket| v1::SocketDiag { shard, ..socket }));
    }
    Ok(out)
}

#[tonic::async_trait]
impl DiagService for Service {
    type ListStream = Answers<v1::DiagListResponse>;

    async fn list(&self, request: Request<v1::DiagListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let sockets = snapshot(&self.backend, &filter).await?;
        let chunks: Vec<_> =
            sockets.chunks(CHUNK).map(|chunk| Ok(v1::DiagListResponse { sockets: chunk.to_vec() })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    type WatchStream = Answers<v1::DiagWatchResponse>;

    async fn watch(&self, request: Request<v1::DiagWatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let interval = match request.interval_ms {
            0 => Duration::from_secs(1),
            ms if ms < 10 => {
                return Err(StatusError::invalid("interval_ms", ms, "too short")
                    .remedy("10 or more, or 0 for 1000")
                    .into());
            }
            ms => Duration::from_millis(ms.into()),
        };
        let filter = request.filter.unwrap_or_default();
        let closed = if request.closed {
            let (sink, closed) = mpsc::channel(CLOSED_QUEUE);
            for shard in 0..self.backend.shards() {
                self.backend.shard(shard).send(Command::DiagWatchClosed(sink.clone()))?;
            }
            Some(closed)
        } else {
            None
        };
        let (out, answers) = mpsc::channel(4);
        let watch = Watch {
            backend: self.backend.clone(),
            snapshots: request.snapshots || !request.closed,
            filter,
            interval,
            started: self.started,
        };
        tokio::spawn(watch.run(closed, out));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn kill(&self, request: Request<v1::DiagKillRequest>) -> Result<Response<v1::DiagKillResponse>, Status> {
        let caller = access::caller(&request)?;
        let cookies = request.into_inner().cookies;
        let killed: Vec<u64> = self
            .backend
            .ask_all(|reply| Command::DiagKill(cookies.clone(), reply))
            .await?
            .into_iter()
            .flatten()
            .collect();
        tracing::info!(pid = caller.pid, uid = caller.uid, count = killed.len(), "sockets killed");
        Ok(Response::new(v1::DiagKillResponse { killed }))
    }

    async fn summary(&self, _: Request<v1::DiagSummaryRequest>) -> Result<Response<v1::DiagSummaryResponse>, Status> {
        Ok(Response::new(merge::summaries(self.backend.ask_all(Command::DiagSummary).await?)))
    }
}

struct Watch {
    backend: Backend,
    filter: v1::DiagFilter,
    snapshots: bool,
    interval: Duration,
    started: Started,
}

impl Watch {
    /// Until the client or the daemon goes away.
    async fn run(
        self,
        mut closed: Option<mpsc::Receiver<ClosedSocket>>,
        out: mpsc::Sender<Result<v1::DiagWatchResponse, Status>>,
    ) {
        let mut tick = tokio::time::interval(self.interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let answer = tokio::select! {
                () = out.closed() => return,
                _ = tick.tick(), if self.snapshots => match snapshot(&self.backend, &self.filter).await {
                    Ok(sockets) => Ok(v1::DiagWatchResponse { sockets, at_ns: self.started.age_ns(), ..Default::default() }),
                    Err(error) => Err(Status::from(error)),
                },
                socket = next_closed(&mut closed) => match socket {
                    None => return,
                    Some(socket) if !passes(&self.filter, &socket.diag) => continue,
                    Some(ClosedSocket { diag, missed }) => Ok(v1::DiagWatchResponse {
                        closed: vec![diag],
                        missed,
                        at_ns: self.started.age_ns(),
                        ..Default::default()
                    }),
                },
            };
            let last = answer.is_err();
            if out.send(answer).await.is_err() || last {
                return;
            }
        }
    }
}

async fn next_closed(closed: &mut Option<mpsc::Receiver<ClosedSocket>>) -> Option<ClosedSocket> {
    match closed {
        Some(closed) => closed.recv().await,
        None => std::future::pending().await,
    }
}

/// The server-side filter, for sockets that shards report unasked.
fn passes(filter: &v1::DiagFilter, socket: &v1::SocketDiag) -> bool {
    let v1::DiagFilter { transports, family, states: _, with_info: _, session_id } = filter;
    (transports.is_empty() || transports.contains(&socket.transport))
        && (*family == 0 || *family == socket.family)
        && (*session_id == 0 || *session_id == socket.session_id)
}
