//! Every service in process, over a real Unix socket, against a backend that answers from a script.

use std::{os::unix::net::UnixListener, path::PathBuf, sync::Arc, thread};

use bytes::Bytes;
use stackd_proto::{
    StatusError,
    v1::{self, Errno, client_frame, server_frame, session_event},
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{
    Facts, Limits,
    access::{Access, Caller, access_of, authorise},
    backend::{
        Backend, CaptureInterface, CapturedFrame, Command, OpenedSession, SessionId, ShardHandle, SocketCall,
        SocketResult,
    },
    serve,
};

/// What a fake shard saw that tests ask about.
type Seen = std::sync::mpsc::Receiver<String>;

/// A shard that echoes: bytes sent to a socket can be received from it, and its counters are its index plus one.
fn fake_shard(index: u64) -> (ShardHandle, Seen) {
    let (handle, commands) = ShardHandle::new(Arc::new(|| {}));
    let (note, seen) = std::sync::mpsc::channel();
    thread::Builder::new()
        .name("fake shard".into())
        .spawn(move || {
            let mut echo: Vec<u8> = Vec::new();
            let mut finished = false;
            let mut waiting = Vec::new();
            let mut leases = Vec::new();
            for command in commands {
                let command = match command {
                    Command::SessionOpen { closing, reply, .. } => {
                        // Dropping `closing` would end the session.
                        leases.push(closing);
                        let _ = reply.send(Ok(OpenedSession {
                            id: SessionId(9),
                            max_sockets: 16,
                            max_memory_bytes: 1 << 20,
                        }));
                        continue;
                    }
                    other => other,
                };
                answer(index, command, &note, &mut echo, &mut finished, &mut waiting);
            }
        })
        .expect("a thread");
    (handle, seen)
}

fn answer(
    index: u64,
    command: Command,
    note: &std::sync::mpsc::Sender<String>,
    echo: &mut Vec<u8>,
    finished: &mut bool,
    waiting: &mut Vec<super::backend::Reply<SocketResult>>,
) {
    match command {
        Command::SysctlGet(request, reply) => {
            let _ = reply.send(match request.names.first().map(String::as_str) {
                Some("net.ipv4.tcp_wmem") => Ok(v1::SysctlGetResponse {
                    entries: vec![v1::SysctlEntry {
                        name: "net.ipv4.tcp_wmem".into(),
                        value: "4096\t16384\t4194304".into(),
                        description: None,
                    }],
                }),
                _ => Err(StatusError::new(Errno::Enoent, "unknown key")
                    .argument("net.ipv4.tcp_wmen", "")
                    .remedy("net.ipv4.tcp_wmem")),
            });
        }
        Command::SysctlSet(request, reply) => {
            let value = request.assignments[0].value.clone();
            let refuse = StatusError::invalid("net.ipv4.tcp_wmem", &value, "too small");
            let refused = value == "1" || value == "only shard 0 likes this" && index == 1;
            let _ = note.send(format!("set {value}"));
            let _ = reply.send(if refused { Err(refuse) } else { Ok(v1::SysctlSetResponse::default()) });
        }
        Command::AddressModify(request, reply) => {
            let _ = note.send(request.mode().as_str_name().to_owned());
            let full = StatusError::new(Errno::Enobufs, "no room");
            let _ = reply.send(if index == 1 { Err(full) } else { Ok(v1::ModifyAddressResponse {}) });
        }
        Command::LinkList(_, reply) => {
            let stats = v1::LinkStats { rx_bytes: 10 + index, tx_packets: 1, ..Default::default() };
            let link =
                |index, name: &str| v1::Link { index, name: name.into(), stats: Some(stats), ..Default::default() };
            let _ = reply.send(Ok(v1::ListLinksResponse { links: vec![link(1, "lo"), link(2, "tap0")] }));
        }
        Command::QdiscList(_, reply) => {
            // The second shard alone has a packet that waits for its time.
            let fq = v1::FqStats {
                flows: 3,
                throttled_flows: u32::try_from(index).expect("small"),
                time_next_delayed_flow_ns: if index == 1 { 500 } else { 0 },
                ..Default::default()
            };
            let stats = v1::QdiscStats { packets: 7, qlen: 2, fq: Some(fq), ..Default::default() };
            let qdisc =
                v1::Qdisc { device: "tap0".into(), kind: "fq".into(), stats: Some(stats), ..Default::default() };
            let _ = reply.send(Ok(v1::QdiscListResponse { qdiscs: vec![qdisc] }));
        }
        Command::NeighbourList(_, reply) => {
            let neighbour = v1::Neighbour {
                address: vec![10, 0, 0, 9],
                device: "tap0".into(),
                hardware_address: vec![u8::try_from(index).expect("small"); 6],
                updated_ms: if index == 1 { 5 } else { 900 },
                ..Default::default()
            };
            let _ = reply.send(Ok(v1::ListNeighboursResponse { neighbours: vec![neighbour] }));
        }
        Command::ClientList(request, reply) => {
            let session = v1::ClientSession { id: index, sockets: 3, ..Default::default() };
            let breach =
                v1::Breach { session_id: 40 + index, reason: "index ran backwards".into(), ..Default::default() };
            let breaches = if request.breaches { vec![breach] } else { Vec::new() };
            let _ = reply.send(Ok(v1::ClientListResponse { sessions: vec![session], breaches }));
        }
        Command::CounterList(_, reply) => {
            let counter = v1::Counter { name: "TcpInSegs".into(), value: index + 1, ..Default::default() };
            let _ = reply.send(Ok(v1::CounterListResponse { mib: vec![counter], ..Default::default() }));
        }
        Command::DiagList(_, reply) => {
            let socket = v1::SocketDiag { cookie: 100 + index, ..Default::default() };
            let _ = reply.send(Ok(vec![socket; 300]));
        }
        Command::DiagKill(cookies, reply) => {
            let _ = reply.send(Ok(cookies.into_iter().filter(|c| *c == 100 + index).collect()));
        }
        Command::CaptureStart { sink, reply, .. } => {
            let _ = reply.send(Ok(vec![CaptureInterface { index: 3, name: "tap0".into(), link_type: 1 }]));
            let frame = CapturedFrame {
                interface: 3,
                unix_ns: 1,
                original_len: 5,
                data: Bytes::from_static(b"abcde"),
                outbound: true,
                missed: 0,
            };
            let _ = sink.try_send(frame.clone());
            let _ = sink.try_send(frame);
        }
        Command::ClientDisconnect(request, reply) => {
            let known = request.session_id == index;
            let _ = reply.send(if known {
                Ok(v1::DisconnectResponse {})
            } else {
                Err(StatusError::new(Errno::Enoent, "not mine"))
            });
        }
        Command::SessionClose(SessionId(9)) => {
            let _ = note.send("session closed".to_owned());
        }
        Command::Call { session: SessionId(9), call, reply } => {
            let addr = "10.0.0.1:7".parse().expect("an address");
            let again = || Err(StatusError::new(Errno::Eagain, "not now"));
            let result = match call {
                SocketCall::Socket { family: 2, kind: 1, protocol: 0 } => Ok(SocketResult::Socket(5)),
                SocketCall::GetNames { socket: 5 } => Ok(SocketResult::Names { local: addr, remote: Some(addr) }),
                SocketCall::Send { socket: 5, data, to: None, .. } => {
                    // Takes three bytes at a time, so that the pump must come again.
                    let taken = data.len().min(3);
                    echo.extend_from_slice(&data[..taken]);
                    Ok(SocketResult::Sent(taken as u64))
                }
                SocketCall::Receive { socket: 5, max, .. } if !echo.is_empty() => {
                    let rest = echo.split_off(echo.len().min(max as usize));
                    let data = Bytes::from(std::mem::replace(echo, rest));
                    let full_length = data.len() as u64;
                    Ok(SocketResult::Received {
                        data,
                        control: Bytes::new(),
                        from: None,
                        full_length,
                        end_of_stream: false,
                    })
                }
                SocketCall::Receive { socket: 5, .. } if *finished => Ok(SocketResult::Received {
                    data: Bytes::new(),
                    control: Bytes::new(),
                    from: None,
                    full_length: 0,
                    end_of_stream: true,
                }),
                SocketCall::Receive { .. } => again(),
                SocketCall::Shutdown { how: 1, .. } => {
                    *finished = true;
                    Ok(SocketResult::Done)
                }
                SocketCall::Poll { .. } if echo.is_empty() && !*finished => {
                    waiting.push(reply);
                    return;
                }
                SocketCall::Poll { events, .. } => Ok(SocketResult::Ready(events)),
                other => Err(StatusError::new(Errno::Ebadf, format!("{other:?}"))),
            };
            let _ = reply.send(result);
            if !echo.is_empty() || *finished {
                for reply in waiting.drain(..) {
                    let _ = reply.send(Ok(SocketResult::Ready(1)));
                }
            }
        }
        // Anything else: the reply is dropped, which the control plane must report, not hang on.
        _ => {}
    }
}

struct Daemon {
    channel: Channel,
    seen: Vec<Seen>,
    _file: SocketFile,
    _stop: oneshot::Sender<()>,
}

/// Removed when the test is over.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A socket of a test's own.
fn listen(name: &str) -> (UnixListener, SocketFile) {
    let path = std::env::temp_dir().join(format!("stackd-control-{}-{name}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    (UnixListener::bind(&path).expect("bind"), SocketFile(path))
}

async fn daemon(name: &str) -> Daemon {
    let (listener, file) = listen(name);
    let (handles, seen): (Vec<_>, Vec<_>) = (0..2).map(fake_shard).unzip();
    let (stop, stopped) = oneshot::channel();
    let facts = Facts { version: "test".into(), boot_id: 77, ..Default::default() };
    tokio::spawn(serve(listener, Backend::new(handles), facts, Limits::default(), async {
        let _ = stopped.await;
    }));
    let channel = stackd_proto::connect(&file.0).await.expect("connect");
    Daemon { channel, seen, _file: file, _stop: stop }
}

/// A server that is told to stop while somebody watches for sockets that close: what it will return, the watch, and the shard's end of it.
async fn stopping(
    name: &str,
    stop_timeout: std::time::Duration,
) -> (
    tokio::task::JoinHandle<anyhow::Result<()>>,
    tonic::Streaming<v1::DiagWatchResponse>,
    mpsc::Sender<super::backend::ClosedSocket>,
    SocketFile,
) {
    let (listener, file) = listen(name);
    let (handle, commands) = ShardHandle::new(Arc::new(|| {}));
    let (stop, stopped) = oneshot::channel::<()>();
    let limits = Limits { stop_timeout, ..Limits::default() };
    let server = tokio::spawn(serve(listener, Backend::new(vec![handle]), Facts::default(), limits, async {
        let _ = stopped.await;
    }));
    let channel = stackd_proto::connect(&file.0).await.expect("connect");
    let mut diag = v1::diag_service_client::DiagServiceClient::new(channel);
    let request = v1::DiagWatchRequest { closed: true, ..Default::default() };
    let watch = diag.watch(request).await.expect("watch").into_inner();
    let Ok(Command::DiagWatchClosed(sink)) = commands.recv() else { panic!("not a watch") };
    drop(stop);
    (server, watch, sink, file)
}

/// Every stop took a second once anything was open: the server slept that long, and then cut what was there, whatever it still had to say.
#[tokio::test]
async fn a_stop_waits_for_streams_as_long_as_they_have_something_to_say() {
    let (server, mut watch, sink, file) = stopping("patient", std::time::Duration::from_secs(3600)).await;
    // Nobody new is let in: from here on the server is stopping for certain.
    while stackd_proto::connect(&file.0).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for cookie in 0..200 {
        let diag = v1::SocketDiag { cookie, ..Default::default() };
        sink.send(super::backend::ClosedSocket { diag, missed: 0 }).await.expect("watched");
        let heard = watch.message().await.expect("not cut").expect("one");
        assert_eq!(heard.closed[0].cookie, cookie);
        assert!(!server.is_finished(), "given up after {cookie}");
    }
    drop(sink);
    assert!(watch.message().await.expect("a clean end").is_none());
    server.await.expect("no panic").expect("served");
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_its_limit() {
    let (server, mut watch, sink, _file) = stopping("limited", std::time::Duration::from_millis(1)).await;
    // Without a limit it would wait for the sink, which is still open.
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), server).await.expect("no limit");
    ended.expect("no panic").expect("served");
    drop(sink);
    assert!(!matches!(watch.message().await, Ok(Some(_))));
}

#[tokio::test]
async fn errors_arrive_with_argument_and_remedy() {
    let d = daemon("errors").await;
    let mut client = v1::sysctl_service_client::SysctlServiceClient::new(d.channel.clone());
    let get = |name: &str| v1::SysctlGetRequest { names: vec![name.into()], describe: false };
    let entries = client.get(get("net.ipv4.tcp_wmem")).await.expect("known").into_inner().entries;
    assert_eq!(entries[0].value, "4096\t16384\t4194304");
    let error = StatusError::from(client.get(get("net.ipv4.tcp_wmen")).await.expect_err("unknown"));
    assert_eq!((error.errno(), error.0.remedy.as_str()), (Errno::Enoent, "net.ipv4.tcp_wmem"));
}

#[tokio::test]
async fn a_change_that_shard_0_refuses_reaches_no_other() {
    let d = daemon("refused").await;
    let mut client = v1::sysctl_service_client::SysctlServiceClient::new(d.channel.clone());
    let assignments = vec![v1::SysctlAssignment { name: "net.ipv4.tcp_wmem".into(), value: "1".into() }];
    assert!(client.set(v1::SysctlSetRequest { assignments }).await.is_err());
    assert_eq!(d.seen[0].try_recv().as_deref(), Ok("set 1"));
    assert!(d.seen[1].try_recv().is_err());
}

/// Shard 0 took the change, shard 1 did not: shard 0 must go back to what it had, and the caller must be told why.
#[tokio::test]
async fn a_change_that_a_later_shard_refuses_is_taken_back() {
    let d = daemon("rollback").await;
    let mut client = v1::sysctl_service_client::SysctlServiceClient::new(d.channel.clone());
    let value = "only shard 0 likes this".to_owned();
    let assignments = vec![v1::SysctlAssignment { name: "net.ipv4.tcp_wmem".into(), value }];
    let error = StatusError::from(client.set(v1::SysctlSetRequest { assignments }).await.expect_err("shard 1 refuses"));
    assert_eq!(error.0.reason, "too small");
    let seen: Vec<String> = d.seen[0].try_iter().collect();
    assert_eq!(seen, ["set only shard 0 likes this", "set 4096\t16384\t4194304"]);

    let mut net = v1::net_service_client::NetServiceClient::new(d.channel.clone());
    let address = v1::Address { address: vec![10, 0, 0, 1], prefix_len: 24, ..Default::default() };
    let add = v1::ModifyAddressRequest { mode: v1::ModifyMode::Add as i32, address: Some(address) };
    assert!(net.modify_address(add).await.is_err());
    let seen: Vec<String> = d.seen[0].try_iter().collect();
    assert_eq!(seen, ["MODIFY_MODE_ADD", "MODIFY_MODE_DELETE"]);
}

#[tokio::test]
async fn what_each_shard_has_of_its_own_is_put_together() {
    let d = daemon("merged").await;
    let mut net = v1::net_service_client::NetServiceClient::new(d.channel.clone());
    let links = net.list_links(v1::ListLinksRequest::default()).await.expect("links").into_inner().links;
    let stats = links[1].stats.expect("statistics");
    assert_eq!((links.len(), links[1].name.as_str(), stats.rx_bytes, stats.tx_packets), (2, "tap0", 21, 2));
    let mut qdisc = v1::qdisc_service_client::QdiscServiceClient::new(d.channel.clone());
    let qdiscs = qdisc.list(v1::QdiscListRequest::default()).await.expect("qdiscs").into_inner().qdiscs;
    let stats = qdiscs[0].stats.clone().expect("statistics");
    let fq = stats.fq.expect("fq");
    assert_eq!((qdiscs.len(), stats.packets, stats.qlen, fq.flows), (1, 14, 4, 6));
    assert_eq!((fq.throttled_flows, fq.time_next_delayed_flow_ns), (1, 500));
    // Both shards know the neighbour; who heard of it last is believed.
    let known = net.list_neighbours(v1::ListNeighboursRequest::default()).await.expect("neighbours").into_inner();
    assert_eq!((known.neighbours.len(), known.neighbours[0].hardware_address[0]), (1, 1));
    let mut clients = v1::client_service_client::ClientServiceClient::new(d.channel.clone());
    let all = clients.list(v1::ClientListRequest { breaches: true }).await.expect("clients").into_inner();
    assert_eq!(all.sessions.iter().map(|s| s.id).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(all.breaches.iter().map(|b| b.session_id).collect::<Vec<_>>(), [40, 41]);
}

#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let d = daemon("health").await;
    let mut health = HealthClient::new(d.channel.clone());
    for service in ["", "stackd.v1.SysctlService", "stackd.v1.DiagService"] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.expect(service).into_inner();
        assert_eq!(answer.status, ServingStatus::Serving as i32, "{service}");
    }
    assert!(health.check(HealthCheckRequest { service: "stackd.v1.Nonsense".into() }).await.is_err());
    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut reflection = ServerReflectionClient::new(d.channel.clone());
    let mut answers = reflection.server_reflection_info(tokio_stream::once(ask)).await.expect("info").into_inner();
    let answer = answers.message().await.expect("answer").expect("one").message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.iter().map(|s| s.name.as_str()).collect();
    for service in ["Sysctl", "Net", "Qdisc", "Diag", "Counter", "Client", "Capture", "Daemon", "Socket"] {
        assert!(names.contains(&format!("stackd.v1.{service}Service").as_str()), "{service} is not in {names:?}");
    }
}

/// Timestamps count from the daemon's start, not from the watch's, so that two watches can be compared.
#[tokio::test]
async fn watches_share_the_daemons_clock() {
    let d = daemon("watch").await;
    let mut diag = v1::diag_service_client::DiagServiceClient::new(d.channel.clone());
    let watch = v1::DiagWatchRequest { snapshots: true, interval_ms: 10, ..Default::default() };
    let mut first = diag.watch(watch.clone()).await.expect("watch").into_inner();
    let early = first.message().await.expect("answer").expect("one").at_ns;
    let later = first.message().await.expect("answer").expect("two").at_ns;
    let mut second = diag.watch(watch).await.expect("watch").into_inner();
    let latest = second.message().await.expect("answer").expect("one").at_ns;
    assert!(0 < early && early < later && later < latest, "{early} {later} {latest}");
    let short = v1::DiagWatchRequest { interval_ms: 3, ..Default::default() };
    assert_eq!(StatusError::from(diag.watch(short).await.expect_err("3 ms")).errno(), Errno::Einval);
}

#[tokio::test]
async fn shards_are_summed_listed_and_searched() {
    let d = daemon("shards").await;
    let mut counters = v1::counter_service_client::CounterServiceClient::new(d.channel.clone());
    let answer = counters.list(v1::CounterListRequest::default()).await.expect("counters").into_inner();
    assert_eq!((answer.mib[0].value, answer.boot_id), (1 + 2, 77));
    let mut diag = v1::diag_service_client::DiagServiceClient::new(d.channel.clone());
    let mut stream = diag.list(v1::DiagListRequest::default()).await.expect("list").into_inner();
    let mut shards = Vec::new();
    while let Some(chunk) = stream.message().await.expect("chunk") {
        shards.extend(chunk.sockets.iter().map(|s| s.shard));
    }
    assert_eq!((shards.len(), shards.iter().sum::<u32>()), (600, 300));
    let killed = diag.kill(v1::DiagKillRequest { cookies: vec![101, 7] }).await.expect("kill").into_inner().killed;
    assert_eq!(killed, [101]);
    let mut clients = v1::client_service_client::ClientServiceClient::new(d.channel.clone());
    assert!(clients.disconnect(v1::DisconnectRequest { session_id: 1 }).await.is_ok());
    let error = clients.disconnect(v1::DisconnectRequest { session_id: 42 }).await.expect_err("nobody's");
    assert_eq!(StatusError::from(error).errno(), Errno::Enoent);
}

#[tokio::test]
async fn a_shard_that_drops_its_reply_is_an_error_not_a_hang() {
    let d = daemon("dropped").await;
    let mut client = v1::net_service_client::NetServiceClient::new(d.channel.clone());
    let error = StatusError::from(client.list_routes(v1::ListRoutesRequest::default()).await.expect_err("dropped"));
    assert_eq!(error.errno(), Errno::Epipe);
    let bad = v1::ModifyAddressRequest {
        mode: v1::ModifyMode::Add as i32,
        address: Some(v1::Address { address: vec![1, 2, 3], ..Default::default() }),
    };
    let error = StatusError::from(client.modify_address(bad).await.expect_err("three bytes"));
    assert_eq!((error.errno(), error.0.argument.as_str()), (Errno::Einval, "local"));
}

#[tokio::test]
async fn capture_is_a_valid_pcapng_and_stops_at_the_count() {
    let d = daemon("capture").await;
    let mut client = v1::capture_service_client::CaptureServiceClient::new(d.channel.clone());
    let request = v1::CaptureRequest { max_packets: 3, ..Default::default() };
    let mut stream = client.start(request).await.expect("start").into_inner();
    let mut file = Vec::new();
    while let Some(chunk) = stream.message().await.expect("chunk") {
        file.extend_from_slice(&chunk.pcapng);
    }
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let (mut at, mut kinds) = (0, Vec::new());
    while at < file.len() {
        let len = word(at + 4) as usize;
        assert_eq!(word(at + len - 4) as usize, len, "both lengths agree");
        kinds.push(word(at));
        at += len;
    }
    assert_eq!(kinds, [0x0a0d_0d0a, 1, 6, 6, 6]);
}

#[tokio::test]
async fn a_session_is_a_lease_and_its_socket_streams_both_ways() {
    let d = daemon("session").await;
    let mut client = v1::socket_service_client::SocketServiceClient::new(d.channel.clone());
    let mut lease = client.open_session(v1::OpenSessionRequest::default()).await.expect("open").into_inner();
    let event = lease.message().await.expect("event").expect("first").event;
    let Some(session_event::Event::Opened(opened)) = event else { panic!("not opened: {event:?}") };
    let request = v1::SocketRequest {
        session: opened.session,
        family: v1::AddressFamily::Inet as i32,
        r#type: v1::SocketType::Stream as i32,
        protocol: 0,
    };
    let socket = client.socket(request).await.expect("socket").into_inner().socket;
    let foreign = v1::SocketRequest { session: opened.session ^ 1, ..request };
    assert_eq!(StatusError::from(client.socket(foreign).await.expect_err("guessed")).errno(), Errno::Ebadf);

    let (send, frames) = mpsc::channel(4);
    let frame = |frame| v1::ClientFrame { frame: Some(frame) };
    let attach = v1::StreamAttach { socket: Some(v1::SocketRef { session: opened.session, socket }), credit_bytes: 0 };
    for f in [
        client_frame::Frame::Attach(attach),
        client_frame::Frame::Data(Bytes::from_static(b"hello, world")),
        client_frame::Frame::Finish(v1::StreamFinish {}),
    ] {
        send.send(frame(f)).await.expect("frame");
    }
    let mut answers = client.stream(ReceiverStream::new(frames)).await.expect("stream").into_inner();
    let (mut data, mut finished, mut accepted) = (Vec::new(), false, 0);
    while !finished || accepted < 12 {
        match answers.message().await.expect("frame").and_then(|f| f.frame).expect("not the end") {
            server_frame::Frame::Attached(names) => assert_eq!(names.local.expect("local").port, 7),
            server_frame::Frame::Data(bytes) => data.extend_from_slice(&bytes),
            server_frame::Frame::AcceptedBytes(total) => accepted = total,
            server_frame::Frame::Finish(_) => finished = true,
            server_frame::Frame::Error(error) => panic!("{error:?}"),
        }
    }
    assert_eq!((data.as_slice(), accepted), (&b"hello, world"[..], 12));
    drop(lease);
    let seen = d.seen.into_iter().next().expect("shard 0 got the first session");
    assert_eq!(tokio::task::spawn_blocking(move || seen.recv()).await.expect("join").as_deref(), Ok("session closed"));
}

#[test]
fn only_root_and_the_daemons_user_may_write() {
    let caller = |uid| Caller { pid: 1, uid, gid: 1 };
    assert!(authorise(caller(5), 7, "/stackd.v1.SysctlService/Get").is_ok());
    assert!(authorise(caller(0), 7, "/stackd.v1.SysctlService/Set").is_ok());
    assert!(authorise(caller(7), 7, "/stackd.v1.SysctlService/Set").is_ok());
    for path in
        ["SysctlService/Set", "QdiscService/Modify", "DiagService/Kill", "CaptureService/Start", "NetService/SetLink"]
    {
        let error = authorise(caller(5), 7, &format!("/stackd.v1.{path}")).expect_err(path);
        assert_eq!(error.errno(), Errno::Eperm);
    }
    // What nobody has thought about yet is closed.
    assert_eq!(access_of("/stackd.v1.NewService/Anything"), Access::Write);
    assert_eq!(access_of("/stackd.v1.RecordService/Record"), Access::Write);
    assert_eq!(access_of("nonsense"), Access::Write);
}
