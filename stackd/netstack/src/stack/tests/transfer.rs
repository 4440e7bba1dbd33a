//! Bytes end to end.

use super::*;

fn pattern(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Sends `data` from `client` to `server` and returns what arrived.
fn pump(net: &mut Net, client: SockId, server: SockId, data: &[u8], to_b: bool) -> Vec<u8> {
    let (mut sent, mut got) = (0, Vec::new());
    for _ in 0..100_000 {
        let now = net.now;
        let (from, to) = if to_b { (&mut net.a, &mut net.b) } else { (&mut net.b, &mut net.a) };
        if sent < data.len() {
            sent += from.write(now, client, &data[sent..]);
        }
        got.extend(to.read(now, server));
        if got.len() >= data.len() {
            return got;
        }
        net.run(Duration::from_micros(500));
    }
    panic!("{} of {} bytes arrived", got.len(), data.len());
}

fn connect_transfer_close(listen: &str, to: &str) {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, listen, 10);
    let (client, server) = net.connected(listener, to);
    assert!(net.a.stack.readiness(client).contains(Readiness::OUT));
    let peer = net.b.stack.peer_addr(server).expect("peer");
    assert_eq!(peer.port(), net.a.stack.local_addr(client).expect("local").port());

    let data = pattern(3_000_000);
    assert_eq!(pump(&mut net, client, server, &data, true), data);
    assert_eq!(pump(&mut net, server, client, &data[..100_000], false), &data[..100_000]);

    net.a.stack.shutdown(net.now, client, Shutdown::Write, &mut net.a.store).expect("shutdown");
    net.run_ms(10);
    assert!(net.b.stack.readiness(server).contains(Readiness::IN | Readiness::RDHUP));
    net.b.stack.close(net.now, server, &mut net.b.store).expect("close");
    net.run_ms(10);
    assert!(net.a.stack.readiness(client).contains(Readiness::HUP));
    net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
    net.b.stack.close(net.now, listener, &mut net.b.store).expect("close");
    net.run_ms(1);
    assert_eq!(net.a.stack.socket_counts(), (0, 0, 1), "the active closer keeps TIME_WAIT alone");
    assert_eq!(net.b.stack.socket_counts(), (0, 0, 0));
    assert!(net.a.store.is_empty() && net.b.store.is_empty());
    assert_eq!((net.a.stack.mem.used, net.b.stack.mem.used), (0, 0));
    net.run(Duration::from_secs(61));
    assert_eq!(net.a.stack.socket_counts(), (0, 0, 0));
    assert_eq!(net.a.stack.mib().get(Mib::TcpCurrEstab), 0);
    assert_eq!(net.b.stack.mib().get(Mib::TcpCurrEstab), 0);
}

#[test]
fn connect_transfer_close_over_ipv4() {
    connect_transfer_close("0.0.0.0:80", "10.0.0.2:80");
}

#[test]
fn connect_transfer_close_over_ipv6() {
    connect_transfer_close("[::]:80", "[fd00::2]:80");
}

#[test]
fn a_dual_stack_listener_takes_ipv4() {
    connect_transfer_close("[::]:80", "10.0.0.2:80");
}

#[test]
fn loss_is_repaired() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let (client, server) = net.connected(listener, "10.0.0.2:80");
    net.filter = Some(|n, _| n % 50 == 0);
    let data = pattern(1_000_000);
    assert_eq!(pump(&mut net, client, server, &data, true), data);
    assert!(net.a.stack.mib().get(Mib::TcpRetransSegs) > 0);
}

#[test]
fn loopback_carries_a_connection_inside_one_stack() {
    let mut net = Net::new();
    let listener = net.a.listener(net.now, "127.0.0.1:80", 10);
    let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    let to = "127.0.0.1:80".parse().expect("address");
    assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::EINPROGRESS));
    net.run_ms(1);
    let (server, from) = net.a.stack.accept(net.now, listener, &mut net.a.store).expect("accepted");
    assert_eq!(from, net.a.stack.local_addr(client).expect("local"));
    let data = pattern(500_000);
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < data.len() {
        let now = net.now;
        sent += net.a.write(now, client, &data[sent..]);
        got.extend(net.a.read(now, server));
        net.run(Duration::from_micros(100));
        assert!(net.now < Instant::from_nanos(60_000_000_000), "{} of {} bytes", got.len(), data.len());
    }
    assert_eq!(got, data);
}
