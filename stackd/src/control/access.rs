//! Who may do what: identity by SO_PEERCRED, decided per method before any service sees the call.
//!
//! Whoever can open the control socket (its file's mode, see `instance::Door`) may read and may use sockets. Writes are
//! for root and the daemon's own user. A method that is not in the table counts as a write: a new one is closed until listed.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use stackd_proto::{StatusError, v1, v1::Errno};
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
    transport::server::UdsConnectInfo,
};
use tower::{Layer, Service};

/// The process at the other end, from SO_PEERCRED; an extension of every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Process id; 0 when the kernel does not tell (another pid namespace).
    pub pid: u32,
    /// Effective user when it connected.
    pub uid: u32,
    /// Effective group when it connected.
    pub gid: u32,
}

impl Caller {
    /// The process with its command name as /proc tells it now; empty when it is gone.
    pub fn process(&self) -> v1::Process {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        v1::Process { pid: self.pid, uid: self.uid, gid: self.gid, comm: comm.trim_end().to_owned() }
    }
}

/// What a method does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Looks, or uses sockets of the caller's own session.
    Read,
    /// Changes what others see.
    Write,
}

/// The kind of a method by its path, `/stackd.v1.SysctlService/Set`.
pub fn access_of(path: &str) -> Access {
    let Some((service, method)) = path.strip_prefix('/').and_then(|p| p.split_once('/')) else { return Access::Write };
    match (service, method) {
        ("stackd.v1.SocketService", _) => Access::Read,
        ("grpc.health.v1.Health" | "grpc.reflection.v1.ServerReflection", _) => Access::Read,
        ("stackd.v1.SysctlService", "List" | "Get") => Access::Read,
        (
            "stackd.v1.NetService",
            "ListLinks" | "ListAddresses" | "ListRoutes" | "GetRoute" | "ListNeighbours" | "ListRules" | "ListGroups",
        ) => Access::Read,
        ("stackd.v1.QdiscService" | "stackd.v1.CounterService" | "stackd.v1.ClientService", "List") => Access::Read,
        ("stackd.v1.DiagService", "List" | "Watch" | "Summary") => Access::Read,
        ("stackd.v1.DaemonService", "Info" | "Doctor") => Access::Read,
        // Capture shows other users' bytes, and a recording what their connections did: as with tcpdump, not for everybody.
        _ => Access::Write,
    }
}

/// Decides; the error says who may.
pub fn authorise(caller: Caller, daemon_uid: u32, path: &str) -> Result<(), StatusError> {
    match access_of(path) {
        Access::Read => Ok(()),
        Access::Write if caller.uid == 0 || caller.uid == daemon_uid => Ok(()),
        Access::Write => Err(StatusError::new(
            Errno::Eperm,
            format!("uid {} may look but not change ({})", caller.uid, path.trim_start_matches('/')),
        )
        .remedy(format!("root or the daemon's user (uid {daemon_uid})"))),
    }
}

/// Puts a [`Caller`] into each request and refuses what it may not do.
#[derive(Clone, Copy, Debug)]
pub struct AccessLayer {
    daemon_uid: u32,
}

impl AccessLayer {
    /// With the uid this process runs as.
    pub fn for_this_process() -> Self {
        Self { daemon_uid: rustix::process::geteuid().as_raw() }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = AccessService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        AccessService { inner, daemon_uid: self.daemon_uid }
    }
}

/// See [`AccessLayer`].
#[derive(Clone, Debug)]
pub struct AccessService<S> {
    inner: S,
    daemon_uid: u32,
}

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S> Service<Request<Body>> for AccessService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let verdict = caller_of(&request).and_then(|caller| {
            authorise(caller, self.daemon_uid, request.uri().path()).map(|()| caller).inspect_err(|error| {
                tracing::warn!(pid = caller.pid, uid = caller.uid, path = request.uri().path(), %error, "refused");
            })
        });
        match verdict {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(error) => Box::pin(async move { Ok(Status::from(error).into_http()) }),
        }
    }
}

fn caller_of(request: &Request<Body>) -> Result<Caller, StatusError> {
    let cred = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    let cred = cred.ok_or_else(|| StatusError::new(Errno::Eacces, "the kernel does not tell who is calling"))?;
    let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    Ok(Caller { pid, uid: cred.uid(), gid: cred.gid() })
}

/// The caller of a request that passed [`AccessLayer`].
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, StatusError> {
    request.extensions().get::<Caller>().copied().ok_or_else(|| StatusError::new(Errno::Eacces, "caller unknown"))
}
