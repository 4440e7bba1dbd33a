use crate::fake_daemon::FakeDaemon;
use crate::{Session, TcpConnect, TcpListener, TcpStream, UdpSocket};
use stackd_shm::abi::ready;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const ANY: &str = "127.0.0.1:0";
const ECONNRESET: i32 = 104;

/// With no spinning, so that every wait goes through the doorbells.
fn attach(daemon: &FakeDaemon) -> Session {
    let session = Session::connect(&daemon.path).unwrap();
    session.set_spin(Duration::ZERO);
    session
}

fn pair(session: &Session) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind_in(session, ANY).unwrap();
    let client = TcpStream::connect_in(session, listener.local_addr().unwrap()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(client.peer_addr().unwrap(), listener.local_addr().unwrap());
    (client, server)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn a_missing_daemon_is_named_with_the_remedy() {
    let e = Session::connect("/nonexistent/attach.sock").unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::NotFound);
    let text = e.to_string();
    assert!(text.contains("/nonexistent/attach.sock") && text.contains("STACKD_ATTACH"), "{text}");
}

#[test]
fn bytes_arrive_both_ways_through_more_than_a_window() {
    let daemon = FakeDaemon::start(8);
    let session = attach(&daemon);
    let (mut client, mut server) = pair(&session);
    let sent = pattern(3_000_001);
    let echo = std::thread::spawn(move || {
        let mut buf = vec![0; 70_000];
        loop {
            let n = server.read(&mut buf).unwrap();
            if n == 0 {
                return server.shutdown(Shutdown::Write).unwrap();
            }
            server.write_all(&buf[..n]).unwrap();
        }
    });
    let mut reader = client.try_clone().unwrap();
    let back = std::thread::spawn(move || {
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        got
    });
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(back.join().unwrap() == sent);
    echo.join().unwrap();
    assert_eq!(client.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(client.read(&mut [0; 4]).unwrap(), 0);
}

/// A listener has no bytes to watch for: one that looked only for bytes saw nobody come until its time of watching was over.
#[test]
fn whoever_watches_a_listener_sees_connections_come() {
    let daemon = FakeDaemon::start(8);
    let session = attach(&daemon);
    let listener = TcpListener::bind_in(&session, ANY).unwrap();
    assert!(!listener.sock.ready_now(ready::IN, 0));
    let _client = TcpStream::connect_in(&session, listener.local_addr().unwrap()).unwrap();
    assert!(listener.sock.ready_now(ready::IN, 0), "somebody came");
    listener.accept().unwrap();
    assert!(!listener.sock.ready_now(ready::IN, 0), "nobody else");
}

#[test]
fn zero_copy_calls_see_the_same_stream() {
    let daemon = FakeDaemon::start(8);
    let (client, server) = pair(&attach(&daemon));
    let wrote = client
        .write_with(100_000, |room| {
            room[..5].copy_from_slice(b"hello");
            (5, room.len())
        })
        .unwrap();
    assert_eq!(wrote, 65536, "to the end of a chunk");
    let mut peeked = [0; 8];
    assert_eq!(server.peek(&mut peeked).unwrap(), 5);
    assert_eq!(server.read_with(|bytes| (2, bytes.to_vec())).unwrap(), b"hello");
    assert_eq!(server.read_with(|bytes| (bytes.len(), bytes.to_vec())).unwrap(), b"llo");
    client.shutdown(Shutdown::Write).unwrap();
    assert!(server.read_with(|bytes| (0, bytes.is_empty())).unwrap());
}

#[test]
fn a_read_timeout_is_would_block_and_data_still_comes_later() {
    let daemon = FakeDaemon::start(8);
    let (mut client, mut server) = pair(&attach(&daemon));
    client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let start = Instant::now();
    assert_eq!(client.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(client.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    client.set_nonblocking(true).unwrap();
    assert_eq!(client.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(None).unwrap();
    server.write_all(b"late").unwrap();
    let mut got = [0; 4];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"late");
}

#[test]
fn the_daemons_death_wakes_everybody_with_connection_reset() {
    let mut daemon = FakeDaemon::start(8);
    let session = attach(&daemon);
    let (client, _server) = pair(&session);
    let (mut writer, _reader) = pair(&session);
    let listener = TcpListener::bind_in(&session, ANY).unwrap();
    let sleeps = session.stats().sleeps;
    let mut reading = client.try_clone().unwrap();
    let blocked = [
        std::thread::spawn(move || reading.read(&mut [0; 1]).unwrap_err()),
        std::thread::spawn(move || listener.accept().map(drop).unwrap_err()),
        std::thread::spawn(move || writer.write_all(&vec![0; 10_000_000]).unwrap_err()),
    ];
    while session.stats().sleeps < sleeps + 3 {
        std::thread::yield_now();
    }
    daemon.kill();
    for thread in blocked {
        assert_eq!(thread.join().unwrap().raw_os_error(), Some(ECONNRESET));
    }
    assert!(session.is_dead());
    assert_eq!(session.ping().unwrap_err().raw_os_error(), Some(ECONNRESET));
    assert_eq!(TcpListener::bind_in(&session, ANY).unwrap_err().raw_os_error(), Some(ECONNRESET));
}

#[test]
fn more_threads_than_rings_share_them() {
    let daemon = FakeDaemon::start(2);
    let session = attach(&daemon);
    let listener = TcpListener::bind_in(&session, ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        for i in 0..6u8 {
            let session = session.clone();
            scope.spawn(move || {
                let mut stream = TcpStream::connect_in(&session, addr).unwrap();
                for round in 0..50u8 {
                    stream.write_all(&[i, round]).unwrap();
                    let mut got = [0; 2];
                    stream.read_exact(&mut got).unwrap();
                    assert_eq!(got, [i, round]);
                }
            });
        }
        for _ in 0..6 {
            let (mut stream, _) = listener.accept().unwrap();
            scope.spawn(move || {
                let mut buf = [0; 2];
                while stream.read_exact(&mut buf).is_ok() {
                    stream.write_all(&buf).unwrap();
                }
            });
        }
    });
    assert_eq!(session.stats().rings, 2);
}

#[test]
fn errors_and_options_cross_the_ring() {
    let daemon = FakeDaemon::start(4);
    let session = attach(&daemon);
    let refused = TcpStream::connect_in(&session, "127.0.0.1:9").unwrap_err();
    assert_eq!((refused.kind(), refused.raw_os_error()), (io::ErrorKind::ConnectionRefused, Some(111)));
    let listener = TcpListener::bind_in(&session, "127.0.0.1:80").unwrap();
    assert_eq!(TcpListener::bind_in(&session, "127.0.0.1:80").unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let stream = TcpConnect::new(&session).congestion("bbr").connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(stream.congestion().unwrap(), "bbr");
    stream.set_nodelay(true).unwrap();
    assert!(stream.nodelay().unwrap());
    stream.set_linger(Some(Duration::from_millis(1500))).unwrap();
    assert_eq!(stream.linger().unwrap(), Some(Duration::from_secs(2)), "a fraction rounds up");
}

#[test]
fn sockets_are_closed_with_their_last_handle() {
    let daemon = FakeDaemon::start(4);
    let session = attach(&daemon);
    for _ in 0..200 {
        let (client, server) = pair(&session);
        let clone = client.try_clone().unwrap();
        drop((client, server));
        clone.set_nodelay(true).unwrap();
    }
    session.ping().unwrap();
    assert_eq!(session.stats().sockets, 0);
    // The ping came after every close on the same ring.
    while daemon.open.load(Ordering::Acquire) != 0 {
        session.ping().unwrap();
    }
}

#[test]
fn datagrams_keep_their_boundaries_and_senders() {
    let daemon = FakeDaemon::start(4);
    let session = attach(&daemon);
    let a = UdpSocket::bind_in(&session, ANY).unwrap();
    let b = UdpSocket::bind_in(&session, ANY).unwrap();
    let to = b.local_addr().unwrap();
    for len in [0, 1, 31, 32, 33, 1472, 65507] {
        let sent = pattern(len);
        assert_eq!(a.send_to(&sent, to).unwrap(), len);
        let mut buf = vec![0; 70_000];
        let (n, from) = b.recv_from(&mut buf).unwrap();
        assert_eq!(from, a.local_addr().unwrap());
        assert!(buf[..n] == sent[..]);
    }
    assert_eq!(a.send_to(&vec![0; 65508], to).unwrap_err().raw_os_error(), Some(90));
    a.connect(to).unwrap();
    a.send(b"first").unwrap();
    a.send(b"second").unwrap();
    let mut short = [0; 3];
    assert_eq!(b.recv(&mut short).unwrap(), 3);
    assert_eq!(b.peek_from(&mut short).unwrap().0, 3);
    assert_eq!((b.recv(&mut short).unwrap(), &short), (3, b"sec"));
}

#[test]
fn tokio_streams_carry_bytes_and_die_with_the_daemon() {
    use ::tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut daemon = FakeDaemon::start(4);
    let session = attach(&daemon);
    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = crate::tokio::TcpListener::bind_in(&session, ANY).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = ::tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut rx, mut tx) = ::tokio::io::split(stream);
            ::tokio::io::copy(&mut rx, &mut tx).await.unwrap();
            tx.shutdown().await.unwrap();
        });
        let sent = pattern(1_000_000);
        let stream = crate::tokio::TcpStream::connect_in(&session, addr).await.unwrap();
        let (mut rx, mut tx) = ::tokio::io::split(stream);
        let data = sent.clone();
        let writer = ::tokio::spawn(async move {
            tx.write_all(&data).await.unwrap();
            tx.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        rx.read_to_end(&mut got).await.unwrap();
        assert!(got == sent);
        writer.await.unwrap();
        server.await.unwrap();

        let listener = crate::tokio::TcpListener::bind_in(&session, ANY).await.unwrap();
        let waiting = ::tokio::spawn(async move { listener.accept().await.map(drop).unwrap_err() });
        ::tokio::task::yield_now().await;
        ::tokio::task::spawn_blocking(move || daemon.kill()).await.unwrap();
        assert_eq!(waiting.await.unwrap().raw_os_error(), Some(ECONNRESET));
    });
}
