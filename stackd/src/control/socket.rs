//! SocketService: the socket calls for clients without shared memory, over the same dispatcher as the rings.
//!
//! Shards never wait: a call that would block answers EAGAIN (EINPROGRESS), and the waiting happens here, as `Poll` and
//! another try, exactly as a program does with a non-blocking descriptor.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use stackd_proto::{
    StatusError,
    v1::{self, Errno, socket_service_server::SocketService},
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    access,
    backend::{Backend, Command, SessionId, ShardHandle, SocketCall, SocketResult},
};

mod pump;

const POLL_IN: u32 = 1;
const POLL_OUT: u32 = 4;
/// Most bytes one `Receive` answers; a gRPC message may have 4 MiB.
const MAX_RECEIVE: u32 = 1 << 20;

/// A session as the control plane knows it.
#[derive(Clone, Debug)]
struct Lease {
    shard: ShardHandle,
    id: SessionId,
    uid: u32,
}

#[derive(Debug, Default)]
struct Table {
    sessions: Mutex<HashMap<u64, Lease>>,
    next_shard: AtomicUsize,
}

impl Table {
    // A panic while the map was locked cannot leave it half-changed: every critical section is one map operation.
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Lease>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct Service {
    backend: Backend,
    table: Arc<Table>,
}

impl Service {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend, table: Arc::default() }
    }

    /// The session of a request; somebody else's token is as good as none.
    fn lease<T>(&self, request: &Request<T>, token: u64) -> Result<Lease, StatusError> {
        let caller = access::caller(request)?;
        self.table.lock().get(&token).filter(|lease| lease.uid == caller.uid).cloned().ok_or_else(no_session)
    }

    fn socket<T>(&self, request: &Request<T>, socket: Option<v1::SocketRef>) -> Result<Handle, StatusError> {
        let v1::SocketRef { session, socket } = socket
            .ok_or_else(|| StatusError::invalid("socket", "", "missing").remedy("a session and a socket number"))?;
        Ok(Handle { lease: self.lease(request, session)?, socket })
    }
}

fn no_session() -> StatusError {
    StatusError::new(Errno::Ebadf, "no such session")
        .argument("session", "")
        .remedy("the token of an OpenSession stream that is still open")
}

/// A socket of a session.
#[derive(Clone, Debug)]
struct Handle {
    lease: Lease,
    socket: u32,
}

impl Lease {
    async fn call(&self, call: SocketCall) -> Result<SocketResult, StatusError> {
        self.shard.ask(|reply| Command::Call { session: self.id, call, reply }).await
    }
}

impl Handle {
    async fn poll(&self, events: u32) -> Result<u32, StatusError> {
        match self.lease.call(SocketCall::Poll { socket: self.socket, events }).await? {
            SocketResult::Ready(events) => Ok(events),
            other => Err(confused(&other)),
        }
    }

    /// Repeats a call until it no longer says EAGAIN, waiting for `events` in between.
    async fn retry(&self, events: u32, call: impl Fn() -> SocketCall) -> Result<SocketResult, StatusError> {
        loop {
            match self.lease.call(call()).await {
                Err(error) if error.errno() == Errno::Eagain => self.poll(events).await?,
                done => return done,
            };
        }
    }

    async fn names(&self) -> Result<v1::GetNamesResponse, StatusError> {
        match self.lease.call(SocketCall::GetNames { socket: self.socket }).await? {
            SocketResult::Names { local, remote } => {
                Ok(v1::GetNamesResponse { local: Some(endpoint(local)), remote: remote.map(endpoint) })
            }
            other => Err(confused(&other)),
        }
    }

    async fn done(&self, call: SocketCall) -> Result<(), StatusError> {
        match self.lease.call(call).await? {
            SocketResult::Done => Ok(()),
            other => Err(confused(&other)),
        }
    }
}

fn confused(result: &SocketResult) -> StatusError {
    StatusError::new(Errno::Eio, format!("the shard answered another question: {result:?}"))
}

/// `addr` as the protocol spells it.
fn endpoint(addr: SocketAddr) -> v1::Endpoint {
    let (address, scope_id) = match addr {
        SocketAddr::V4(v4) => (v4.ip().octets().to_vec(), 0),
        SocketAddr::V6(v6) => (v6.ip().octets().to_vec(), v6.scope_id()),
    };
    v1::Endpoint { address, port: addr.port().into(), scope_id }
}

/// An endpoint that a client sent.
fn address(argument: &str, endpoint: Option<v1::Endpoint>) -> Result<SocketAddr, StatusError> {
    let v1::Endpoint { address, port, scope_id } =
        endpoint.ok_or_else(|| StatusError::new(Errno::Edestaddrreq, "no address given").argument(argument, ""))?;
    let port = u16::try_from(port)
        .map_err(|_| StatusError::invalid(format!("{argument}.port"), port, "not a port").remedy("0..=65535"))?;
    if let Ok(v4) = <[u8; 4]>::try_from(&*address) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(v4)), port));
    }
    match <[u8; 16]>::try_from(&*address) {
        Ok(v6) => Ok(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(v6), port, 0, scope_id))),
        Err(_) => Err(StatusError::new(Errno::Eafnosupport, "not the length of an address")
            .argument(format!("{argument}.address"), format!("{} bytes", address.len()))
            .remedy("4 bytes (IPv4) or 16 bytes (IPv6)")),
    }
}

/// Closes the session when the lease's stream ends, however it ends.
struct LeaseGuard {
    table: Arc<Table>,
    token: u64,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if let Some(Lease { shard, id, uid: _ }) = self.table.lock().remove(&self.token) {
            // A shard that is gone has closed everything already.
            let _ = shard.send(Command::SessionClose(id));
        }
    }
}

fn random_token() -> Result<u64, StatusError> {
    let mut bytes = [0u8; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(StatusError::new(Errno::Eagain, "the kernel gave no randomness for a session token")),
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SocketService for Service {
    type OpenSessionStream = Answers<v1::SessionEvent>;

    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        let caller = access::caller(&request)?;
        let mut process = caller.process();
        let name = request.into_inner().name;
        if process.comm.is_empty() {
            process.comm = name.chars().filter(|c| !c.is_control()).take(15).collect();
        }
        let token = random_token()?;
        let shard = self.backend.shard(self.table.next_shard.fetch_add(1, Ordering::Relaxed)).clone();
        let (closing, closed) = oneshot::channel();
        let opened = shard.ask(|reply| Command::SessionOpen { process, closing, reply }).await?;
        self.table.lock().insert(token, Lease { shard, id: opened.id, uid: caller.uid });
        let guard = LeaseGuard { table: Arc::clone(&self.table), token };
        let (out, events) = mpsc::channel(2);
        tokio::spawn(hold_lease(guard, opened, closed, out));
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }

    async fn socket(&self, request: Request<v1::SocketRequest>) -> Result<Response<v1::SocketResponse>, Status> {
        let lease = self.lease(&request, request.get_ref().session)?;
        let v1::SocketRequest { session: _, family, r#type: kind, protocol } = request.into_inner();
        let protocol = i32::try_from(protocol)
            .map_err(|_| StatusError::new(Errno::Eprotonosupport, "no such protocol").argument("protocol", protocol))?;
        match lease.call(SocketCall::Socket { family, kind, protocol }).await? {
            SocketResult::Socket(socket) => Ok(Response::new(v1::SocketResponse { socket })),
            other => Err(confused(&other).into()),
        }
    }

    async fn bind(&self, request: Request<v1::BindRequest>) -> Result<Response<v1::BindResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        let local = address("local", request.into_inner().local)?;
        match handle.lease.call(SocketCall::Bind { socket: handle.socket, local }).await? {
            SocketResult::Bound(local) => Ok(Response::new(v1::BindResponse { local: Some(endpoint(local)) })),
            other => Err(confused(&other).into()),
        }
    }

    async fn listen(&self, request: Request<v1::ListenRequest>) -> Result<Response<v1::ListenResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        handle.done(SocketCall::Listen { socket: handle.socket, backlog: request.get_ref().backlog }).await?;
        Ok(Response::new(v1::ListenResponse {}))
    }

    async fn connect(&self, request: Request<v1::ConnectRequest>) -> Result<Response<v1::ConnectResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        let v1::ConnectRequest { socket: _, remote, nonblocking } = request.into_inner();
        let remote = address("remote", remote)?;
        match handle.done(SocketCall::Connect { socket: handle.socket, remote }).await {
            Err(error) if error.errno() == Errno::Einprogress && !nonblocking => {
                handle.poll(POLL_OUT).await?;
                // The second call tells the outcome, as connect(2) does of a socket that does not wait.
                handle
                    .done(SocketCall::Connect { socket: handle.socket, remote })
                    .await
                    .map_err(|error| error.argument("remote", remote))?;
            }
            done => done?,
        }
        Ok(Response::new(v1::ConnectResponse { local: handle.names().await?.local }))
    }

    async fn accept(&self, request: Request<v1::AcceptRequest>) -> Result<Response<v1::AcceptResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        let call = || SocketCall::Accept { socket: handle.socket };
        let accepted = if request.get_ref().nonblocking {
            handle.lease.call(call()).await?
        } else {
            handle.retry(POLL_IN, call).await?
        };
        match accepted {
            SocketResult::Accepted { socket, local, remote } => Ok(Response::new(v1::AcceptResponse {
                socket,
                local: Some(endpoint(local)),
                remote: Some(endpoint(remote)),
            })),
            other => Err(confused(&other).into()),
        }
    }

    async fn shutdown(&self, request: Request<v1::ShutdownRequest>) -> Result<Response<v1::ShutdownResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        let how = match request.get_ref().how() {
            v1::ShutdownHow::Read => 0,
            v1::ShutdownHow::Write => 1,
            v1::ShutdownHow::Both => 2,
            v1::ShutdownHow::Unspecified => {
                return Err(StatusError::invalid("how", "unspecified", "no direction given")
                    .remedy("READ, WRITE or BOTH")
                    .into());
            }
        };
        handle.done(SocketCall::Shutdown { socket: handle.socket, how }).await?;
        Ok(Response::new(v1::ShutdownResponse {}))
    }

    async fn close(&self, request: Request<v1::CloseRequest>) -> Result<Response<v1::CloseResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        handle.done(SocketCall::Close { socket: handle.socket }).await?;
        Ok(Response::new(v1::CloseResponse {}))
    }

    async fn set_option(
        &self,
        request: Request<v1::SetOptionRequest>,
    ) -> Result<Response<v1::SetOptionResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        let v1::SetOptionRequest { socket: _, level, name, value } = request.into_inner();
        handle.done(SocketCall::SetOption { socket: handle.socket, level, name, value }).await?;
        Ok(Response::new(v1::SetOptionResponse {}))
    }

    async fn get_option(
        &self,
        request: Request<v1::GetOptionRequest>,
    ) -> Result<Response<v1::GetOptionResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        let v1::GetOptionRequest { socket: _, level, name, max_bytes } = request.into_inner();
        let call = SocketCall::GetOption { socket: handle.socket, level, name, max: max_bytes.min(4096) };
        match handle.lease.call(call).await? {
            SocketResult::Option(value) => Ok(Response::new(v1::GetOptionResponse { value })),
            other => Err(confused(&other).into()),
        }
    }

    async fn get_names(&self, request: Request<v1::GetNamesRequest>) -> Result<Response<v1::GetNamesResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        Ok(Response::new(handle.names().await?))
    }

    async fn send(&self, request: Request<v1::SendRequest>) -> Result<Response<v1::SendResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        let v1::SendRequest { socket: _, data, to, control } = request.into_inner();
        let to = to.map(|to| address("to", Some(to))).transpose()?;
        match handle.lease.call(SocketCall::Send { socket: handle.socket, data, to, control }).await? {
            SocketResult::Sent(sent) => Ok(Response::new(v1::SendResponse { sent })),
            other => Err(confused(&other).into()),
        }
    }

    async fn receive(&self, request: Request<v1::ReceiveRequest>) -> Result<Response<v1::ReceiveResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        let v1::ReceiveRequest { socket: _, max_bytes, peek, error_queue } = request.into_inner();
        let (socket, max) = (handle.socket, max_bytes.min(MAX_RECEIVE));
        let call = if error_queue {
            SocketCall::ReceiveError { socket, max, peek }
        } else {
            SocketCall::Receive { socket, max, peek }
        };
        match handle.lease.call(call).await? {
            SocketResult::Received { data, control, from, full_length, end_of_stream } => {
                let from = from.map(endpoint);
                Ok(Response::new(v1::ReceiveResponse { data, from, full_length, end_of_stream, control }))
            }
            other => Err(confused(&other).into()),
        }
    }

    async fn poll(&self, request: Request<v1::PollRequest>) -> Result<Response<v1::PollResponse>, Status> {
        let handle = self.socket(&request, request.get_ref().socket)?;
        let v1::PollRequest { socket: _, events, timeout_ms } = request.into_inner();
        let events = match timeout_ms {
            None => handle.poll(events).await?,
            Some(ms) => {
                // `timeout` polls the future once even with 0: readiness that holds is seen if the shard answers at once;
                // give it a turn of its loop.
                let limit = Duration::from_millis(u64::from(ms).max(1));
                match tokio::time::timeout(limit, handle.poll(events)).await {
                    Ok(events) => events?,
                    Err(_) => 0,
                }
            }
        };
        Ok(Response::new(v1::PollResponse { events }))
    }

    type StreamStream = Answers<v1::ServerFrame>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::ClientFrame>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        use v1::client_frame::Frame;
        let caller = access::caller(&request)?;
        let mut frames = request.into_inner();
        let Some(v1::ClientFrame { frame: Some(Frame::Attach(attach)) }) = frames.message().await? else {
            return Err(StatusError::new(Errno::Eproto, "the first frame names no socket")
                .remedy("`attach` first")
                .into());
        };
        let v1::SocketRef { session, socket } =
            attach.socket.ok_or_else(|| StatusError::invalid("attach.socket", "", "missing"))?;
        let lease = self.table.lock().get(&session).filter(|lease| lease.uid == caller.uid).cloned();
        let handle = Handle { lease: lease.ok_or_else(no_session)?, socket };
        let names = handle.names().await?;
        let (out, answers) = mpsc::channel(8);
        pump::start(handle, names, attach.credit_bytes, frames, out);
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

/// Keeps a session while its stream is open.
async fn hold_lease(
    guard: LeaseGuard,
    opened: super::backend::OpenedSession,
    closed: oneshot::Receiver<StatusError>,
    out: mpsc::Sender<Result<v1::SessionEvent, Status>>,
) {
    use v1::session_event::Event;
    let first = v1::SessionOpened {
        session: guard.token,
        max_sockets: opened.max_sockets,
        max_memory_bytes: opened.max_memory_bytes,
    };
    if out.send(Ok(v1::SessionEvent { event: Some(Event::Opened(first)) })).await.is_err() {
        return;
    }
    tokio::select! {
        () = out.closed() => {}
        reason = closed => {
            let error = reason.unwrap_or_else(|_| StatusError::new(Errno::Epipe, "the daemon is stopping"));
            let _ = out.send(Ok(v1::SessionEvent { event: Some(Event::Closing(error.0)) })).await;
        }
    }
    drop(guard);
}
