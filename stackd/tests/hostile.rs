//! Garbage on the attach socket and on gRPC: the daemon neither falls nor keeps anything of it.

#![allow(clippy::disallowed_methods, reason = "a client program has threads of its own")]
#![allow(dead_code, reason = "each test file uses its part of `common`")]
mod common;

use common::Daemon;
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use stackd_client::{Session, TcpListener, TcpStream};
use stackd_proto::v1;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Descriptors that the daemon has open.
fn descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("its descriptors").count()
}

/// A connection over loopback: everything works still.
fn works(daemon: &Daemon) {
    let session = Session::connect(daemon.attach()).expect("attached");
    let listener = TcpListener::bind_in(&session, "127.0.0.1:0").expect("bound");
    let mut client = TcpStream::connect_in(&session, listener.local_addr().expect("an address")).expect("connected");
    let (mut server, _) = listener.accept().expect("accepted");
    client.write_all(b"alive").expect("written");
    let mut got = [0; 5];
    server.read_exact(&mut got).expect("read");
    assert_eq!(&got, b"alive");
}

/// Waits until the daemon has given everything back: it closes what it hears to be closed, a moment later.
fn settles(daemon: &Daemon, before: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = descriptors(daemon);
        if now <= before {
            return;
        }
        assert!(Instant::now() < deadline, "{now} descriptors, {before} before; its log:\n{}", daemon.log());
        std::thread::yield_now();
    }
}

/// Bytes that look random, the same ones every time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..len).map(|_| next()).collect()
}

fn seqpacket(path: &Path) -> OwnedFd {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).expect("a path")).expect("connected");
    socket
}

#[test]
fn the_attach_socket_takes_any_garbage() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path(), "");
    // Before anybody came: what a session leaves behind would be seen too.
    let before = descriptors(&daemon);
    works(&daemon);
    let hello: Vec<u8> = {
        // Tag 1 and right magic, then whatever: past the first checks.
        let mut bytes = 1u32.to_le_bytes().to_vec();
        bytes.extend_from_slice(&u64::from_le_bytes(*b"stackd\0\x01").to_le_bytes());
        bytes
    };
    for round in 0..200u64 {
        let socket = seqpacket(&daemon.attach());
        let mut message = match round % 5 {
            0 => Vec::new(),
            1 => noise(round, 1 + (round as usize * 7) % 600),
            2 => [hello.clone(), noise(round, (round as usize) % 60)].concat(),
            3 => vec![0; 4096],
            _ => u32::MAX.to_le_bytes().to_vec(),
        };
        // The daemon may have hung up already, which is an answer too.
        let _ = rustix::net::send(&socket, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        message.reverse();
        let _ = rustix::net::send(&socket, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        if round % 3 == 0 {
            let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Write);
        }
    }
    // Many who say nothing at all, held open at the same time, keep nobody else out.
    let silent: Vec<OwnedFd> = (0..50).map(|_| seqpacket(&daemon.attach())).collect();
    works(&daemon);
    drop(silent);
    settles(&daemon, before);
    works(&daemon);
    assert_eq!(daemon.stop().code(), Some(0));
}

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

#[test]
fn the_control_socket_takes_any_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path(), "");
    // Before anybody came: what a session leaves behind would be seen too.
    let before = descriptors(&daemon);
    works(&daemon);
    for round in 0..120u64 {
        let mut stream = UnixStream::connect(daemon.control()).expect("connected");
        stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let bytes = match round % 8 {
            0 => noise(round, 5000),
            1 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            2 => PREFACE[..(round as usize) % PREFACE.len()].to_vec(),
            3 => [PREFACE, &frame(4, 0, 0, &[]), &noise(round, 3000)].concat(),
            // Headers that are no HPACK, on a stream of the wrong parity.
            4 => [PREFACE, &frame(4, 0, 0, &[]), &frame(1, 4, 2, &noise(round, 100))].concat(),
            // Data for a stream that was never opened.
            5 => [PREFACE, &frame(4, 0, 0, &[]), &frame(0, 1, 7, &noise(round, 100))].concat(),
            // A frame that says it is 16 MiB long and is not.
            6 => [PREFACE, &frame(4, 0, 0, &[]), &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
            // Settings of a wrong length, and a window that overflows.
            _ => [PREFACE, &frame(4, 0, 0, &[1, 2, 3]), &frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])].concat(),
        };
        let _ = stream.write_all(&bytes);
        if round % 2 == 0 {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            let _ = stream.read(&mut [0; 4096]);
        }
    }
    settles(&daemon, before);
    works(&daemon);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn calls_that_make_no_sense_are_answered() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path(), "");
    // Before anybody came: what a session leaves behind would be seen too.
    let before = descriptors(&daemon);
    works(&daemon);
    // The runtime ends before the count: it holds the connection.
    tokio::runtime::Runtime::new().expect("a runtime").block_on(nonsense(&daemon));
    settles(&daemon, before);
    works(&daemon);
    assert_eq!(daemon.stop().code(), Some(0));
}

async fn nonsense(daemon: &Daemon) {
    use stackd_proto::v1::socket_service_client::SocketServiceClient;
    let channel = stackd_proto::connect(&daemon.control()).await.expect("connected");
    // A method that is not there, and a message of another type: both are answered with a status.
    for (path, body) in [
        ("/stackd.v1.SocketService/NoSuchCall", Vec::new()),
        ("/no.such.Service/Call", noise(1, 50)),
        ("/stackd.v1.SocketService/Socket", noise(2, 50)),
        ("/stackd.v1.SocketService/SetOption", vec![0xff; 300]),
    ] {
        let status = raw_call(&channel, path, body).await.expect_err("not understood");
        assert!(
            matches!(status.code(), tonic::Code::Unimplemented | tonic::Code::Internal | tonic::Code::InvalidArgument),
            "{path}: {status:?}"
        );
    }
    // More than a message may have.
    let status = raw_call(&channel, "/stackd.v1.SocketService/Send", vec![0; 5 << 20]).await.expect_err("too long");
    assert_ne!(status.code(), tonic::Code::Ok);
    let mut calls = SocketServiceClient::new(channel.clone());
    let nobody = Some(v1::SocketRef { session: 42, socket: 7 });
    assert!(calls.close(v1::CloseRequest { socket: nobody }).await.is_err());
    assert!(calls.close(v1::CloseRequest { socket: None }).await.is_err());
    // A session, and calls in it whose arguments are nonsense.
    let mut lease = calls.open_session(v1::OpenSessionRequest::default()).await.expect("a session").into_inner();
    let opened = lease.message().await.expect("an event").expect("an event");
    let Some(v1::session_event::Event::Opened(opened)) = opened.event else { panic!("{opened:?}") };
    let ask = |family, kind, protocol| v1::SocketRequest { session: opened.session, family, r#type: kind, protocol };
    for (family, kind, protocol) in [(-1, 1, 0), (2, -1, 0), (i32::MAX, i32::MIN, u32::MAX), (2, 1, u32::MAX)] {
        assert!(calls.socket(ask(family, kind, protocol)).await.is_err(), "{family} {kind} {protocol}");
    }
    let socket = calls.socket(ask(2, 1, 0)).await.expect("a socket").into_inner().socket;
    let socket = Some(v1::SocketRef { session: opened.session, socket });
    for (address, port) in [(vec![1; 3], 1), (vec![1; 4], 70_000), (Vec::new(), 0), (vec![1; 17], 5)] {
        let local = Some(v1::Endpoint { address, port, scope_id: 0 });
        assert!(calls.bind(v1::BindRequest { socket, local }).await.is_err());
    }
    for (level, name) in [(i32::MIN, i32::MAX), (1, -1), (6, 10_000), (-1, 4)] {
        let value = noise(3, 4096);
        assert!(calls.set_option(v1::SetOptionRequest { socket, level, name, value }).await.is_err());
        let get = v1::GetOptionRequest { socket, level, name, max_bytes: u32::MAX };
        assert!(calls.get_option(get).await.is_err());
    }
    // Streams whose first frame is missing, or names nobody's socket; and calls that are given up half-way.
    for frame in [
        v1::ClientFrame { frame: None },
        v1::ClientFrame { frame: Some(v1::client_frame::Frame::Data(noise(4, 100).into())) },
    ] {
        assert!(calls.stream(tokio_stream::iter([frame])).await.is_err());
    }
    for _ in 0..50 {
        let mut calls = calls.clone();
        let waiting = tokio::spawn(async move {
            let _ = calls.poll(v1::PollRequest { socket, events: 1, timeout_ms: None }).await;
        });
        waiting.abort();
        let _ = waiting.await;
    }
}

/// A unary call with a body of anybody's making.
async fn raw_call(channel: &tonic::transport::Channel, path: &str, body: Vec<u8>) -> Result<(), tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|e| tonic::Status::unknown(e.to_string()))?;
    let path = path.parse().expect("a path");
    grpc.unary(tonic::Request::new(body), path, Bytes).await.map(drop)
}

/// Messages that are bytes.
#[derive(Clone, Copy, Default)]
struct Bytes;

impl tonic::codec::Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

impl tonic::codec::Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = tonic::Status;
    fn encode(&mut self, item: Vec<u8>, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put_slice(out, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = tonic::Status;
    fn decode(&mut self, src: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, tonic::Status> {
        use bytes::Buf;
        let mut out = vec![0; src.remaining()];
        src.copy_to_slice(&mut out);
        Ok(Some(out))
    }
}
