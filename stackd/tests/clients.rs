//! Clients through a real daemon: bytes over loopback, and what a sudden death leaves behind.

#![allow(clippy::disallowed_methods, reason = "a client program has threads of its own")]
#![allow(dead_code, reason = "each test file uses its part of `common`")]
mod common;

use common::Daemon;
use stackd_client::{Session, TcpListener, TcpStream};
use std::io::{ErrorKind, Read, Write};

fn session(daemon: &Daemon) -> Session {
    Session::connect(daemon.attach()).expect("attached")
}

#[test]
fn bytes_come_back_over_loopback() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path(), "");
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let server = session(&daemon);
        let listener = TcpListener::bind_in(&server, addr).expect("bound");
        let at = listener.local_addr().expect("an address");
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut buffer = [0; 64 * 1024];
            loop {
                match stream.read(&mut buffer).expect("read") {
                    0 => return,
                    n => stream.write_all(&buffer[..n]).expect("written"),
                }
            }
        });
        let client = session(&daemon);
        let mut stream = TcpStream::connect_in(&client, at).expect("connected");
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i * 31 % 251) as u8).collect();
        let mut back = stream.try_clone().expect("cloned");
        let want = sent.len();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; want];
            back.read_exact(&mut got).expect("read");
            got
        });
        stream.write_all(&sent).expect("written");
        assert!(reader.join().expect("reader") == sent, "the bytes differ");
        stream.shutdown(std::net::Shutdown::Write).expect("shut down");
        assert_eq!(stream.read(&mut [0; 1]).expect("end"), 0);
        echo.join().expect("echo");
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Socket and connect travel together: when there is no socket, both fail, and neither answer is left for whoever calls next.
#[test]
fn a_socket_too_many_fails_its_connect_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path(), "[quota]\nsockets = 4\n");
    let (server, client) = (session(&daemon), session(&daemon));
    let listener = TcpListener::bind_in(&server, "127.0.0.1:0").expect("bound");
    let at = listener.local_addr().expect("an address");
    let more = [(); 2].map(|()| TcpListener::bind_in(&client, "127.0.0.1:0").expect("bound"));
    let held = TcpStream::connect_in(&client, at).expect("the third socket");
    let _other = TcpStream::connect_in(&client, at).expect("the fourth");
    const EMFILE: i32 = 24;
    for _ in 0..3 {
        let error = TcpStream::connect_in(&client, at).expect_err("one too many");
        assert_eq!(error.raw_os_error(), Some(EMFILE));
        assert_eq!(held.peer_addr().expect("its own answer"), at);
    }
    drop(more);
    let again = TcpStream::connect_in(&client, at).expect("there is room again");
    assert_eq!(again.peer_addr().expect("connected"), at);
}

#[test]
fn nobody_listens_means_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path(), "");
    let client = session(&daemon);
    let error = TcpStream::connect_in(&client, "127.0.0.1:9").expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_dead_daemon_wakes_who_waits() {
    let dir = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(dir.path(), "");
    let server = session(&daemon);
    let listener = TcpListener::bind_in(&server, "127.0.0.1:0").expect("bound");
    let waiting = std::thread::spawn(move || listener.accept().map(drop));
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait();
    let error = waiting.join().expect("woken").expect_err("the daemon is gone");
    assert!(
        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted),
        "{error:?}"
    );
}
