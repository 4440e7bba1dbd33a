//! The syscall table over a real stack's loopback, as a gRPC client uses it.

use super::*;
use crate::store::{Quota, Transport};
use stackd_netstack::StackConfig;
use stackd_proto::v1;

const QUOTA: Quota = Quota { sockets: 8, memory: 64 << 20 };

struct World {
    core: Core,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut stack = Stack::new(StackConfig::default(), 1);
        stack.add_loopback();
        Self { core: Core { stack, store: Store::default() }, now: Instant::from_nanos(1_000_000_000) }
    }

    fn session(&mut self, id: u64) -> SessionKey {
        self.core.store.add_session(id, v1::Process::default(), Transport::Grpc(None), QUOTA, self.now)
    }

    fn call(&mut self, session: SessionKey, call: SocketCall) -> Result<SocketResult, Errno> {
        let result = execute(&mut self.core, self.now, session, call);
        self.settle();
        result
    }

    /// Lets loopback and timers run until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(packet) = self.core.stack.poll_loopback(self.now, &mut self.core.store) {
                self.core.stack.handle_loopback(self.now, packet, &mut self.core.store);
                moved = true;
            }
            while let Some(event) = self.core.stack.poll_event() {
                socket_event(&mut self.core, self.now, event);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn socket(&mut self, session: SessionKey) -> u32 {
        match self.call(session, SocketCall::Socket { family: AF_INET, kind: SOCK_STREAM, protocol: 0 }) {
            Ok(SocketResult::Socket(n)) => n,
            other => panic!("{other:?}"),
        }
    }

    /// A connected pair: (client's, server's) socket numbers.
    fn pair(&mut self, client: SessionKey, server: SessionKey) -> (u32, u32) {
        let listener = self.socket(server);
        let local = "127.0.0.1:0".parse().expect("an address");
        let Ok(SocketResult::Bound(at)) = self.call(server, SocketCall::Bind { socket: listener, local }) else {
            panic!("not bound")
        };
        self.call(server, SocketCall::Listen { socket: listener, backlog: 4 }).expect("listening");
        let socket = self.socket(client);
        assert_eq!(self.call(client, SocketCall::Connect { socket, remote: at }), Err(Errno::EINPROGRESS));
        let Ok(SocketResult::Accepted { socket: accepted, .. }) =
            self.call(server, SocketCall::Accept { socket: listener })
        else {
            panic!("nothing to accept")
        };
        self.call(server, SocketCall::Close { socket: listener }).expect("closed");
        (socket, accepted)
    }
}

#[test]
fn bytes_and_the_end_of_the_stream_arrive() {
    let mut w = World::new();
    let (a, b) = (w.session(1), w.session(2));
    let (client, server) = w.pair(a, b);
    let data = Bytes::from_static(b"hello");
    assert_eq!(
        w.call(a, SocketCall::Send { socket: client, data, to: None, control: Bytes::new() }),
        Ok(SocketResult::Sent(5))
    );
    let receive = |socket| SocketCall::Receive { socket, max: 100, peek: false };
    let Ok(SocketResult::Received { data, end_of_stream: false, .. }) = w.call(b, receive(server)) else {
        panic!("no data")
    };
    assert_eq!(&data[..], b"hello");
    assert_eq!(w.call(b, receive(server)), Err(Errno::EAGAIN));
    w.call(a, SocketCall::Shutdown { socket: client, how: 1 }).expect("shut down");
    let Ok(SocketResult::Received { end_of_stream: true, .. }) = w.call(b, receive(server)) else { panic!("no end") };
    let usage = w.core.store.session(b).expect("b").usage;
    assert_eq!(usage.bytes_received, 5);
}

#[test]
fn a_number_belongs_to_its_session_and_dies_with_close() {
    let mut w = World::new();
    let (a, b) = (w.session(1), w.session(2));
    let socket = w.socket(a);
    let names = SocketCall::GetNames { socket };
    assert_eq!(w.call(b, names.clone()), Err(Errno::EBADF), "somebody else's");
    assert!(w.call(a, names.clone()).is_ok());
    w.call(a, SocketCall::Close { socket }).expect("closed");
    assert_eq!(w.call(a, names), Err(Errno::EBADF));
    assert_eq!(w.call(a, SocketCall::Close { socket }), Err(Errno::EBADF));
}

#[test]
fn the_quota_of_sockets_holds_and_is_counted() {
    let mut w = World::new();
    let a = w.session(1);
    let first = w.socket(a);
    for _ in 1..QUOTA.sockets {
        w.socket(a);
    }
    let one_more = SocketCall::Socket { family: AF_INET, kind: SOCK_STREAM, protocol: 0 };
    assert_eq!(w.call(a, one_more.clone()), Err(Errno::EMFILE));
    assert_eq!(w.core.store.session(a).expect("a").usage.refusals, 1);
    w.call(a, SocketCall::Close { socket: first }).expect("closed");
    assert!(w.call(a, one_more).is_ok());
}

#[test]
fn a_poll_waits_until_its_bits_hold() {
    let mut w = World::new();
    let (a, b) = (w.session(1), w.session(2));
    let (client, server) = w.pair(a, b);
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    begin(
        &mut w.core,
        w.now,
        b,
        server,
        Wait { kind: WaitKind::Poll { events: 1, least: 0 }, answer: Answer::Grpc(reply) },
    );
    assert!(answer.try_recv().is_err(), "nothing to read yet");
    w.call(a, SocketCall::Send { socket: client, data: Bytes::from_static(b"x"), to: None, control: Bytes::new() })
        .expect("sent");
    assert_eq!(answer.try_recv().expect("answered").expect("fine"), SocketResult::Ready(1));
}

#[test]
fn a_dead_client_leaves_nothing() {
    let mut w = World::new();
    let (a, b) = (w.session(1), w.session(2));
    let (_, server) = w.pair(a, b);
    w.socket(a);
    crate::session::lease::end(&mut w.core, w.now, a, None);
    w.settle();
    // The peer hears of it and closes too; what remains is TIME_WAIT, which holds no memory of any session.
    w.call(b, SocketCall::Close { socket: server }).expect("closed");
    assert!(w.core.store.session_of(1).is_none());
    assert!(w.core.store.session(a).is_none(), "nothing is left of it");
}

#[test]
fn what_is_no_socket_of_ours_is_refused_as_linux_does() {
    let mut w = World::new();
    let a = w.session(1);
    let mut ask = |family, kind, protocol| w.call(a, SocketCall::Socket { family, kind, protocol });
    assert_eq!(ask(1, SOCK_STREAM, 0), Err(Errno::EAFNOSUPPORT));
    assert_eq!(ask(AF_INET, 3, 0), Err(Errno::ESOCKTNOSUPPORT));
    assert_eq!(ask(AF_INET, SOCK_STREAM, IPPROTO_UDP), Err(Errno::EPROTONOSUPPORT));
    assert!(ask(AF_INET6, SOCK_DGRAM | 0o4000, IPPROTO_UDP).is_ok(), "SOCK_NONBLOCK is the client's business");
}

#[test]
fn a_datagram_socket_holds_what_so_rcvbuf_says() {
    const SO_RCVBUF: i32 = 8;
    let mut w = World::new();
    let session = w.session(1);
    let mut held = |rcvbuf: Option<u32>| {
        let open = SocketCall::Socket { family: AF_INET, kind: SOCK_DGRAM, protocol: 0 };
        let Ok(SocketResult::Socket(socket)) = w.call(session, open) else { panic!("a socket") };
        if let Some(bytes) = rcvbuf {
            let value = bytes.to_ne_bytes().to_vec();
            w.call(session, SocketCall::SetOption { socket, level: SOL_SOCKET, name: SO_RCVBUF, value })
                .expect("an option");
        }
        let local = "127.0.0.1:0".parse().expect("an address");
        let Ok(SocketResult::Bound(local)) = w.call(session, SocketCall::Bind { socket, local }) else {
            panic!("bound")
        };
        for _ in 0..1000 {
            let data = Bytes::from_static(&[7; 1000]);
            w.call(session, SocketCall::Send { socket, data, to: Some(local), control: Bytes::new() })
                .expect("sent to itself");
        }
        let mut n = 0;
        while w.call(session, SocketCall::Receive { socket, max: 2000, peek: false }).is_ok() {
            n += 1;
        }
        w.call(session, SocketCall::Close { socket }).expect("open");
        n
    };
    let (usual, small, large) = (held(None), held(Some(8192)), held(Some(100_000)));
    // socket(7): "The kernel doubles this value ... when it is set using setsockopt(2)". A record is 64 bytes longer than its data.
    assert_eq!(small, 2 * 8192 / 1088, "data and header, in records of 64 bytes");
    assert!(small < large && large <= usual, "{small} {large} {usual}");
}
