//! Sockets by `stackd.v1.SocketService` alone: no shared memory, what a program in any language would do.

use anyhow::{Context, Result, bail};
use stackd_proto::v1::socket_service_client::SocketServiceClient;
use stackd_proto::v1::{
    AcceptRequest, AddressFamily, BindRequest, ConnectRequest, Endpoint, ListenRequest, OpenSessionRequest,
    PollRequest, ReceiveRequest, SendRequest, SessionEvent, ShutdownHow, ShutdownRequest, SocketRef, SocketRequest,
    SocketType, session_event,
};
use stackd_proto::{StatusError, connect, control_path};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tonic::Streaming;
use tonic::transport::Channel;

/// `POLLOUT`.
const POLLOUT: u32 = 4;
/// What a full send buffer or an empty receive buffer answers.
const EAGAIN: i32 = 11;
/// `SOMAXCONN` and more: the daemon clamps it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A session: its sockets are closed when the last handle to it goes.
#[derive(Clone, Debug)]
pub struct Session {
    client: SocketServiceClient<Channel>,
    token: u64,
    /// The lease: the daemon closes what is left when this stream ends.
    _lease: Arc<Streaming<SessionEvent>>,
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    session: Session,
    socket: u32,
    /// Where it listens.
    pub local: SocketAddr,
}

/// A connected socket.
#[derive(Debug)]
pub struct Socket {
    session: Session,
    socket: u32,
}

impl Session {
    /// Opens a session at the daemon's control socket.
    pub async fn open(control: Option<PathBuf>, name: &str) -> Result<Self> {
        let mut client = SocketServiceClient::new(connect(&control_path(control)).await?);
        let mut lease = client.open_session(OpenSessionRequest { name: name.into() }).await?.into_inner();
        match lease.message().await?.and_then(|e| e.event) {
            Some(session_event::Event::Opened(opened)) => {
                Ok(Self { client, token: opened.session, _lease: Arc::new(lease) })
            }
            other => bail!("the daemon opened no session: {other:?}"),
        }
    }

    fn at(&self, socket: u32) -> Option<SocketRef> {
        Some(SocketRef { session: self.token, socket })
    }

    async fn socket(&self, peer: SocketAddr) -> Result<u32> {
        let family = if peer.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let request = SocketRequest {
            session: self.token,
            family: family.into(),
            r#type: SocketType::Stream.into(),
            protocol: 0,
        };
        Ok(self.client.clone().socket(request).await?.into_inner().socket)
    }

    /// Connects to `addr`.
    pub async fn connect(&self, addr: SocketAddr) -> Result<Socket> {
        let socket = self.socket(addr).await?;
        let request = ConnectRequest { socket: self.at(socket), remote: Some(endpoint(addr)), nonblocking: false };
        self.client.clone().connect(request).await.with_context(|| format!("cannot connect to {addr}"))?;
        Ok(Socket { session: self.clone(), socket })
    }

    /// Listens on `addr`.
    pub async fn listen(&self, addr: SocketAddr) -> Result<Listener> {
        let mut client = self.client.clone();
        let socket = self.socket(addr).await?;
        let bound =
            client.bind(BindRequest { socket: self.at(socket), local: Some(endpoint(addr)) }).await?.into_inner();
        client.listen(ListenRequest { socket: self.at(socket), backlog: BACKLOG }).await?;
        let local = bound.local.as_ref().and_then(socket_addr).context("the daemon did not say what it bound")?;
        Ok(Listener { session: self.clone(), socket, local })
    }
}

impl Listener {
    /// Waits for the next connection.
    pub async fn accept(&self) -> Result<Socket> {
        let request = AcceptRequest { socket: self.session.at(self.socket), nonblocking: false };
        let accepted = self.session.client.clone().accept(request).await?.into_inner();
        Ok(Socket { session: self.session.clone(), socket: accepted.socket })
    }
}

impl Socket {
    /// Sends all of `data`, waiting for room in the send buffer.
    pub async fn send(&mut self, data: &[u8]) -> Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            let request =
                SendRequest { socket: self.session.at(self.socket), data: rest.to_vec().into(), ..Default::default() };
            match self.session.client.send(request).await {
                Ok(answer) => rest = rest.get(answer.into_inner().sent as usize..).unwrap_or_default(),
                Err(status) if is_again(&status) => self.poll(POLLOUT).await?,
                Err(status) => return Err(status.into()),
            }
        }
        Ok(())
    }

    /// Waits for bytes; empty = the peer sent FIN.
    pub async fn receive(&mut self, max: u32) -> Result<Vec<u8>> {
        const POLLIN: u32 = 1;
        loop {
            let request = ReceiveRequest { socket: self.session.at(self.socket), max_bytes: max, ..Default::default() };
            match self.session.client.receive(request).await {
                Ok(answer) => return Ok(answer.into_inner().data.into()),
                Err(status) if is_again(&status) => self.poll(POLLIN).await?,
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// FIN after everything that was sent.
    pub async fn finish(&mut self) -> Result<()> {
        let request = ShutdownRequest { socket: self.session.at(self.socket), how: ShutdownHow::Write.into() };
        self.session.client.shutdown(request).await?;
        Ok(())
    }

    async fn poll(&mut self, events: u32) -> Result<()> {
        let request = PollRequest { socket: self.session.at(self.socket), events, timeout_ms: None };
        self.session.client.poll(request).await?;
        Ok(())
    }
}

fn is_again(status: &tonic::Status) -> bool {
    StatusError::from(status).raw() == EAGAIN
}

fn endpoint(addr: SocketAddr) -> Endpoint {
    let address = match addr.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    Endpoint { address, port: addr.port().into(), scope_id: 0 }
}

fn socket_addr(e: &Endpoint) -> Option<SocketAddr> {
    let ip: IpAddr = match e.address.len() {
        4 => <[u8; 4]>::try_from(&e.address[..]).ok()?.into(),
        16 => <[u8; 16]>::try_from(&e.address[..]).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::try_from(e.port).ok()?))
}
