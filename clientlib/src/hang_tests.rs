//! Nobody hangs: what each of these does once made a thread wait for ever, or could.

use crate::fake_daemon::FakeDaemon;
use crate::{Session, TcpListener, TcpStream};
use stackd_shm::abi::ready;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

const ANY: &str = "127.0.0.1:0";
const ECONNRESET: i32 = 104;

/// Runs `act` in a thread. What is waited for is its end; the limit only turns a hang into a failure.
fn must_return<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || done.send(act()));
    finished.recv_timeout(Duration::from_secs(20)).expect("hangs")
}

fn pair(session: &Session) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind_in(session, ANY).unwrap();
    let client = TcpStream::connect_in(session, listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// A thread that spins never asked the kernel anything, so it never learnt that the daemon had gone.
#[test]
fn a_thread_that_spins_for_ever_notices_the_daemons_death() {
    let mut daemon = FakeDaemon::start(4);
    let session = Session::connect(&daemon.path).unwrap();
    let (mut client, _server) = pair(&session);
    session.set_spin(Duration::MAX);
    let reader = std::thread::spawn(move || client.read(&mut [0; 1]).unwrap_err());
    daemon.kill();
    let error = must_return(move || reader.join().unwrap());
    assert_eq!(error.raw_os_error(), Some(ECONNRESET));
    assert_eq!(must_return(move || session.ping().unwrap_err()).raw_os_error(), Some(ECONNRESET));
}

/// The spin came before the deadline was looked at.
#[test]
fn a_timeout_ends_a_spin() {
    let daemon = FakeDaemon::start(4);
    let session = Session::connect(&daemon.path).unwrap();
    let (mut client, _server) = pair(&session);
    session.set_spin(Duration::from_secs(3600));
    client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let start = Instant::now();
    let error = must_return(move || client.read(&mut [0; 1]).unwrap_err());
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(start.elapsed() >= Duration::from_millis(20));
}

/// It watched twice: for the short time a listener is watched, and then for the session's whole time, where it took a processor
/// from those who serve the connections that came before. (Neighbours at work end a watch too: one sleep in many tries says nothing.)
#[test]
fn a_thread_that_waits_for_connections_sleeps_however_long_its_session_watches() {
    let daemon = FakeDaemon::start(4);
    let session = Session::connect(&daemon.path).unwrap();
    session.set_spin(Duration::from_secs(3600));
    let listener = TcpListener::bind_in(&session, ANY).unwrap();
    let slept = must_return(move || {
        let tries = (0..10).filter(|_| {
            let before = session.stats().sleeps;
            let soon = Instant::now() + Duration::from_millis(20);
            assert!(listener.sock.wait_for(ready::IN, 0, Some(soon)).is_err(), "nobody comes");
            session.stats().sleeps > before
        });
        tries.count()
    });
    assert!(slept > 5, "slept {slept} times of 10");
}

/// Holds a future, and drops it when it is woken: what an executor does with a task that was cancelled.
struct Dropper(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>, Mutex<Option<mpsc::Sender<()>>>);

impl Wake for Dropper {
    fn wake(self: Arc<Self>) {
        let future = self.0.lock().unwrap().take();
        drop(future);
        self.1.lock().unwrap().take().map(|done| done.send(()));
    }
}

/// The waker ran under the ring's lock, and the drop of the future it woke wants that lock.
#[test]
fn a_waker_may_drop_the_future_it_wakes() {
    must_return(|| {
        let daemon = FakeDaemon::start(4);
        let session = Session::connect(&daemon.path).unwrap();
        let runtime = ::tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _here = runtime.enter();
        let listener = TcpListener::bind_in(&session, ANY).unwrap();
        let addr = listener.local_addr().unwrap();
        let accepting = crate::tokio::TcpListener::from(listener);
        let (woken, wait) = mpsc::channel();
        let dropper = Arc::new(Dropper(Mutex::new(None), Mutex::new(Some(woken))));
        let mut future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            let _ = accepting.accept().await;
        });
        let waker = Waker::from(Arc::clone(&dropper));
        assert_eq!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        *dropper.0.lock().unwrap() = Some(future);
        let _client = TcpStream::connect_in(&session, addr).unwrap();
        wait.recv().unwrap();
        session.ping().unwrap();
    });
}

async fn echo_once(session: Session) {
    use ::tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = crate::tokio::TcpListener::bind_in(&session, ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = ::tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buf = [0; 2];
        while stream.read_exact(&mut buf).await.is_ok() {
            stream.write_all(&buf).await.unwrap();
        }
    });
    let mut stream = crate::tokio::TcpStream::connect_in(&session, addr).await.unwrap();
    for round in 0..100u8 {
        stream.write_all(&[round, 1]).await.unwrap();
        let mut got = [0; 2];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [round, 1]);
    }
    drop(stream);
    server.await.unwrap();
}

/// A thread and a reactor that slept on one ring took each other's wake-ups.
#[test]
fn runtimes_and_more_threads_than_rings_do_not_lose_wakeups() {
    must_return(|| {
        let daemon = FakeDaemon::start(2);
        let session = Session::connect(&daemon.path).unwrap();
        session.set_spin(Duration::ZERO);
        std::thread::scope(|scope| {
            for runtime in 0..2 {
                let session = session.clone();
                scope.spawn(move || {
                    let mut builder = match runtime {
                        0 => ::tokio::runtime::Builder::new_current_thread(),
                        _ => ::tokio::runtime::Builder::new_multi_thread(),
                    };
                    builder.enable_all().build().unwrap().block_on(echo_once(session));
                });
            }
            for i in 0..3u8 {
                let session = session.clone();
                scope.spawn(move || {
                    let (mut client, mut server) = pair(&session);
                    let far = std::thread::spawn(move || {
                        let mut buf = [0; 2];
                        while server.read_exact(&mut buf).is_ok() {
                            server.write_all(&buf).unwrap();
                        }
                    });
                    for round in 0..100u8 {
                        client.write_all(&[i, round]).unwrap();
                        let mut got = [0; 2];
                        client.read_exact(&mut got).unwrap();
                        assert_eq!(got, [i, round]);
                    }
                    drop(client);
                    far.join().unwrap();
                });
            }
        });
        assert_eq!(session.stats().rings, 2);
    });
}

#[test]
fn what_arrived_is_read_before_the_daemons_death_is_told() {
    let mut daemon = FakeDaemon::start(4);
    let session = Session::connect(&daemon.path).unwrap();
    let (mut client, mut server) = pair(&session);
    server.write_all(b"bye").unwrap();
    while server.acknowledged() < 3 {
        std::thread::yield_now();
    }
    daemon.kill();
    let mut got = [0; 8];
    assert_eq!(client.read(&mut got).unwrap(), 3);
    assert_eq!(client.read(&mut got).unwrap_err().raw_os_error(), Some(ECONNRESET));
}

#[test]
fn shutting_down_in_one_thread_ends_a_read_in_another() {
    let daemon = FakeDaemon::start(4);
    let session = Session::connect(&daemon.path).unwrap();
    session.set_spin(Duration::ZERO);
    let (client, _server) = pair(&session);
    let sleeps = session.stats().sleeps;
    let mut reading = client.try_clone().unwrap();
    let reader = std::thread::spawn(move || reading.read(&mut [0; 1]).unwrap());
    while session.stats().sleeps == sleeps {
        std::thread::yield_now();
    }
    client.shutdown(Shutdown::Both).unwrap();
    assert_eq!(must_return(move || reader.join().unwrap()), 0);
}

/// A thread that called once held the mapping of every session it had ever used.
#[test]
fn an_idle_thread_does_not_keep_a_session_mapped() {
    let daemon = FakeDaemon::start(4);
    let session = Session::connect(&daemon.path).unwrap();
    let region = Arc::downgrade(&session.inner.region);
    let (called, when_called) = mpsc::channel();
    let (end, when_to_end) = mpsc::channel::<()>();
    let theirs = session.clone();
    let idler = std::thread::spawn(move || {
        theirs.ping().unwrap();
        drop(theirs);
        called.send(()).unwrap();
        when_to_end.recv().unwrap();
    });
    when_called.recv().unwrap();
    drop(session);
    assert!(region.upgrade().is_none());
    end.send(()).unwrap();
    idler.join().unwrap();
}

/// A ring of a thread that ended serves the next thread.
#[test]
fn rings_come_back_with_their_threads() {
    let daemon = FakeDaemon::start(8);
    let session = Session::connect(&daemon.path).unwrap();
    for _ in 0..50 {
        let session = session.clone();
        std::thread::spawn(move || session.ping().unwrap()).join().unwrap();
    }
    assert!(session.stats().rings <= 3, "{:?}", session.stats());
}
