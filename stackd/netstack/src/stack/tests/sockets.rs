//! What socket calls say and do.

use super::*;
use crate::socket::opts::name::*;

#[test]
fn connecting_to_a_closed_port_is_refused() {
    let mut net = Net::new();
    let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    let to = "10.0.0.2:81".parse().expect("address");
    assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::EINPROGRESS));
    assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::EALREADY));
    net.run_ms(5);
    assert!(net.a.stack.readiness(client).contains(Readiness::ERR | Readiness::HUP | Readiness::OUT));
    let error = net.a.get_int(net.now, client, SOL_SOCKET, SO_ERROR).expect("SO_ERROR");
    assert_eq!(error, Errno::ECONNREFUSED as i32);
    assert_eq!(net.a.get_int(net.now, client, SOL_SOCKET, SO_ERROR), Ok(0), "reading clears it");
    assert_eq!(net.b.stack.mib().get(Mib::TcpOutRsts), 1);
    // Linux tells the outcome once more, for the error was taken, and lets the socket try again.
    assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::ECONNABORTED));
    let listener = net.b.listener(net.now, "0.0.0.0:81", 1);
    assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::EINPROGRESS));
    net.run_ms(5);
    assert!(net.b.stack.accept(net.now, listener, &mut net.b.store).is_ok());
}

#[test]
fn a_full_accept_queue_drops_and_later_admits() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 1);
    let to: SocketAddr = "10.0.0.2:80".parse().expect("address");
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let c = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
            let _ = net.a.stack.connect(net.now, c, to, &mut net.a.store);
            net.run_ms(5);
            c
        })
        .collect();
    // Backlog 1 holds two (Linux's `>`).
    assert!(net.b.stack.mib().get(Mib::TcpExtListenOverflows) > 0);
    let mut accepted = 0;
    while net.b.stack.accept(net.now, listener, &mut net.b.store).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, 2);
    net.run(Duration::from_secs(8));
    while net.b.stack.accept(net.now, listener, &mut net.b.store).is_ok() {
        accepted += 1;
    }
    assert_eq!(accepted, clients.len(), "repeated SYNs get in once there is room");
}

#[test]
fn closing_with_unread_data_resets_the_peer() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let (client, server) = net.connected(listener, "10.0.0.2:80");
    let now = net.now;
    net.a.write(now, client, b"unread");
    net.run_ms(5);
    net.b.stack.close(net.now, server, &mut net.b.store).expect("close");
    net.run_ms(5);
    assert_eq!(net.a.stack.take_error(client), Some(Errno::ECONNRESET));
    assert_eq!(net.b.stack.mib().get(Mib::TcpExtTCPAbortOnClose), 1);
    assert_eq!(net.b.stack.socket_counts().0, 1, "only the listener is left");
}

#[test]
fn closing_a_listener_resets_what_was_not_accepted() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    let to = "10.0.0.2:80".parse().expect("address");
    let _ = net.a.stack.connect(net.now, client, to, &mut net.a.store);
    net.run_ms(5);
    net.b.stack.close(net.now, listener, &mut net.b.store).expect("close");
    net.run_ms(5);
    assert_eq!(net.a.stack.take_error(client), Some(Errno::ECONNRESET));
    assert_eq!(net.b.stack.socket_counts(), (0, 0, 0));
    assert!(net.b.store.is_empty());
}

/// Found by fuzzing: a connection that its peer reset while it waited for `accept` outlived its listener for ever.
#[test]
fn closing_a_listener_frees_what_died_unaccepted() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    let to: SocketAddr = "10.0.0.2:80".parse().expect("address");
    assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::EINPROGRESS));
    net.run_ms(5);
    net.a.stack.abort(net.now, client, &mut net.a.store).expect("abort");
    net.run_ms(5);
    assert_eq!(net.b.stack.socket_counts(), (2, 0, 0), "it waits to be accepted, dead as it is");
    net.b.stack.close(net.now, listener, &mut net.b.store).expect("close");
    assert_eq!(net.b.stack.socket_counts(), (0, 0, 0));
    assert!(net.b.store.is_empty());
}

#[test]
fn udp_goes_both_ways_and_learns_of_closed_ports() {
    let mut net = Net::new();
    for (any, to) in [("0.0.0.0:53", "10.0.0.2:53"), ("[::]:54", "[fd00::2]:54")] {
        let (any, to): (SocketAddr, SocketAddr) = (any.parse().expect("address"), to.parse().expect("address"));
        let domain = if to.is_ipv4() { Domain::V4 } else { Domain::V6 };
        let server = net.b.socket(net.now, domain, SocketKind::Dgram);
        net.b.stack.bind(server, any).expect("bind");
        let client = net.a.socket(net.now, domain, SocketKind::Dgram);
        assert_eq!(net.a.stack.send_to(net.now, client, None, b"x", &mut net.a.store), Err(Errno::EDESTADDRREQ));
        net.a.stack.connect(net.now, client, to, &mut net.a.store).expect("connect");
        // Larger than the MTU: fragments and is put together.
        let big = vec![7; 4000];
        for data in [&b"hello"[..], &big] {
            let n = net.a.stack.send_to(net.now, client, None, data, &mut net.a.store);
            assert_eq!(n, Ok(data.len()));
            net.run_ms(5);
            assert!(net.b.stack.readiness(server).contains(Readiness::IN));
            let fifo = net.b.stack.fifo(server).expect("fifo");
            let (from, got, last) = net.b.store.receive(fifo).expect("a datagram");
            assert_eq!((&got[..], last), (data, true));
            net.b.stack.rx_drained(server);
            assert!(!net.b.stack.readiness(server).contains(Readiness::IN));
            net.b.stack.send_to(net.now, server, Some(from), b"pong", &mut net.b.store).expect("answer");
            net.run_ms(5);
            let fifo = net.a.stack.fifo(client).expect("fifo");
            assert_eq!(&net.a.store.receive(fifo).expect("the answer").1[..], b"pong");
        }
        net.b.stack.close(net.now, server, &mut net.b.store).expect("close");
        net.a.stack.send_to(net.now, client, None, b"anyone?", &mut net.a.store).expect("sent");
        net.run_ms(5);
        let again = net.a.stack.send_to(net.now, client, None, b"anyone?", &mut net.a.store);
        assert_eq!(again, Err(Errno::ECONNREFUSED));
        net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
    }
}

/// Ports in TIME_WAIT were lost to every destination: 200,000 short connections in a row ran out of them.
#[test]
fn a_port_in_time_wait_serves_other_destinations_and_with_tw_reuse_the_same_one_again() {
    let mut net = Net::new();
    let range = net.a.stack.sysctl_set(net.now, "net.ipv4.ip_local_port_range", "40000 40000", &mut net.a.store);
    range.expect("legal");
    let short = |net: &mut Net, listener: SockId, to: &str| {
        let (client, server) = net.connected(listener, to);
        assert_eq!(net.a.stack.local_addr(client).expect("local").port(), 40_000);
        net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
        net.run_ms(5);
        net.b.stack.close(net.now, server, &mut net.b.store).expect("close");
        net.run_ms(5);
    };
    let one = net.b.listener(net.now, "0.0.0.0:81", 10);
    let two = net.b.listener(net.now, "0.0.0.0:82", 10);
    short(&mut net, one, "10.0.0.2:81");
    short(&mut net, two, "10.0.0.2:82");
    assert_eq!(net.a.stack.socket_counts(), (0, 0, 2));
    let again = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    let to = "10.0.0.2:81".parse().expect("address");
    assert_eq!(net.a.stack.connect(net.now, again, to, &mut net.a.store), Err(Errno::EADDRNOTAVAIL));
    net.a.stack.sysctl_set(net.now, "net.ipv4.tcp_tw_reuse", "1", &mut net.a.store).expect("legal");
    net.run(Duration::from_secs(2));
    short(&mut net, one, "10.0.0.2:81");
    assert_eq!(net.a.stack.mib().get(Mib::TcpExtTWRecycled), 1);
}

#[test]
fn a_full_udp_buffer_drops_and_counts() {
    let mut net = Net::new();
    let server = net.b.socket(net.now, Domain::V4, SocketKind::Dgram);
    net.b.stack.bind(server, "0.0.0.0:53".parse().expect("address")).expect("bind");
    net.b.option(net.now, server, SOL_SOCKET, SO_RCVBUF, 2000).expect("rcvbuf");
    let client = net.a.socket(net.now, Domain::V4, SocketKind::Dgram);
    let to = "10.0.0.2:53".parse().expect("address");
    for _ in 0..6 {
        net.a.stack.send_to(net.now, client, Some(to), &[0; 1000], &mut net.a.store).expect("sent");
    }
    net.run_ms(5);
    // 4000 bytes hold three datagrams of 1000 and their cost.
    assert_eq!(net.b.stack.mib().get(Mib::UdpInDatagrams), 3);
    assert_eq!(net.b.stack.mib().get(Mib::UdpRcvbufErrors), 3);
    assert_eq!(net.b.stack.drops().get(stackd_base::DropReason::UdpRcvBuf), 3);
}

#[test]
fn options_reach_the_connection() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    net.b.option(net.now, listener, SOL_TCP, TCP_NODELAY, 1).expect("inherited");
    let (client, server) = net.connected(listener, "10.0.0.2:80");
    assert_eq!(net.b.get_int(net.now, server, SOL_TCP, TCP_NODELAY), Ok(1));
    assert_eq!(net.b.get_int(net.now, listener, SOL_SOCKET, SO_ACCEPTCONN), Ok(1));
    assert_eq!(net.a.get_int(net.now, client, SOL_SOCKET, SO_TYPE), Ok(1));
    assert_eq!(net.a.get_int(net.now, client, SOL_IP, IP_MTU), Ok(1500));
    // 1500 - 20 - 20 - 12 of timestamps.
    assert_eq!(net.a.get_int(net.now, client, SOL_TCP, TCP_MAXSEG), Ok(1448));
    net.a.option(net.now, client, SOL_SOCKET, SO_SNDBUF, 50_000).expect("sndbuf");
    assert_eq!(net.a.get_int(net.now, client, SOL_SOCKET, SO_SNDBUF), Ok(100_000));
    let now = net.now;
    net.a.stack.set_option(now, client, SOL_TCP, TCP_CONGESTION, b"bbr\0", &mut net.a.store).expect("bbr");
    let mut name = [0; 16];
    assert_eq!(net.a.stack.get_option(now, client, SOL_TCP, TCP_CONGESTION, &mut name), Ok(16));
    assert_eq!(&name[..4], b"bbr\0");
    let mut info = [0; 512];
    assert_eq!(net.a.stack.get_option(now, client, SOL_TCP, TCP_INFO, &mut info), Ok(280));
    assert_eq!(info[0], 1, "ESTABLISHED");
    assert_eq!(u32::from_ne_bytes([info[16], info[17], info[18], info[19]]), 1448, "tcpi_snd_mss");
}

#[test]
fn a_sysctl_reaches_live_connections() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let (client, _server) = net.connected(listener, "10.0.0.2:80");
    let now = net.now;
    net.a.stack.sysctl_set(now, "net.ipv4.tcp_keepalive_time", "1", &mut net.a.store).expect("legal");
    net.a.option(now, client, SOL_SOCKET, SO_KEEPALIVE, 1).expect("keepalive");
    net.run(Duration::from_secs(4));
    assert!(net.a.stack.mib().get(Mib::TcpExtTCPKeepAlive) > 0);
    let error = net.a.stack.sysctl_set(now, "net.ipv4.tcp_wmem", "9 1 1", &mut net.a.store);
    assert!(error.is_err());
}

#[test]
fn diag_tells_what_there_is() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let (client, server) = net.connected(listener, "10.0.0.2:80");
    let now = net.now;
    net.a.write(now, client, b"12345");
    net.run_ms(100);
    let info = net.b.stack.socket_info(net.now, server).expect("it exists");
    assert_eq!((info.recv_q, info.state, info.owner), (5, crate::DiagState::Established, OWNER));
    let states: Vec<_> = net.b.stack.sockets(net.now).map(|s| s.state).collect();
    assert_eq!(states.len(), 2);
    assert!(states.contains(&crate::DiagState::Listen));
    assert_eq!(net.b.stack.owner_usage(OWNER).bytes, 5);
}

#[test]
fn a_freed_id_is_dead() {
    let mut net = Net::new();
    let s = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    net.a.stack.close(net.now, s, &mut net.a.store).expect("close");
    assert_eq!(net.a.stack.close(net.now, s, &mut net.a.store), Err(Errno::EBADF));
    let again = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    assert_eq!(again.slot, s.slot);
    assert_ne!(again, s);
    assert_eq!(net.a.stack.local_addr(s), Err(Errno::EBADF));
}

/// Two ends that both speak Accurate ECN (RFC 9768), and what `TCP_INFO` says of it at Linux's offsets; also through a SYN cookie (5.1).
#[test]
fn accurate_ecn_is_agreed_on_and_shown() {
    for cookies in ["0", "2"] {
        for timestamps in ["1", "0"] {
            let mut net = Net::new();
            for host in [&mut net.a, &mut net.b] {
                for (key, value) in [("net.ipv4.tcp_ecn", "3"), ("net.ipv4.tcp_timestamps", timestamps)] {
                    host.stack.sysctl_set(net.now, key, value, &mut host.store).expect("sysctl");
                }
            }
            net.b.stack.sysctl_set(net.now, "net.ipv4.tcp_syncookies", cookies, &mut net.b.store).expect("sysctl");
            let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
            let (client, server) = net.connected(listener, "10.0.0.2:80");
            net.a.write(net.now, client, &[7; 5000]);
            net.run_ms(50);
            assert_eq!(net.b.read(net.now, server), [7; 5000]);
            let word =
                |info: &[u8; 280], at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
            let (mut a, mut b) = ([0; 280], [0; 280]);
            net.a.stack.get_option(net.now, client, SOL_TCP, TCP_INFO, &mut a).expect("TCP_INFO");
            net.b.stack.get_option(net.now, server, SOL_TCP, TCP_INFO, &mut b).expect("TCP_INFO");
            assert_eq!((word(&a, 276) & 3, word(&b, 276) & 3), (2, 2), "tcpi_ecn_mode, cookies {cookies}");
            assert_eq!(((word(&a, 276) >> 4) & 15, (word(&b, 276) >> 4) & 15), (0, 0), "tcpi_accecn_fail_mode");
            assert_eq!(word(&b, 268), 5000, "tcpi_received_e0_bytes");
            assert_eq!(word(&a, 256), 5000, "tcpi_delivered_e0_bytes");
            assert_eq!((a[5] & 8, b[5] & 24), (8, 24), "TCPI_OPT_ECN, ECN_SEEN");
        }
    }
}

/// SO_RCVBUF of a connection that lives was kept and shown, and changed nothing.
#[test]
fn the_receive_buffer_of_a_live_connection_follows_its_option() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let (_, server) = net.connected(listener, "10.0.0.2:80");
    let rcvbuf = |net: &Net| net.b.stack.connection(server).expect("alive").rcvbuf();
    let set = |net: &mut Net, option: i32, bytes: i32| {
        let value = bytes.to_ne_bytes();
        net.b.stack.set_option(net.now, server, 1, option, &value, &mut net.b.store).expect("legal");
    };
    const SO_RCVBUF: i32 = 8;
    const SO_RCVLOWAT: i32 = 18;
    set(&mut net, SO_RCVBUF, 20_000);
    assert_eq!(rcvbuf(&net), 40_000, "doubled, as Linux does");
    set(&mut net, SO_RCVBUF, 100_000);
    assert_eq!(rcvbuf(&net), 200_000);
    // A low-water mark makes room, and takes none away.
    set(&mut net, SO_RCVLOWAT, 1000);
    assert_eq!(rcvbuf(&net), 200_000);
}
