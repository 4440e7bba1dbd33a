//! Handshakes under way: what they cost, and how they end (RFC 4987; RFC 9293, 3.10.7.4, SYN-RECEIVED).

use super::*;
use crate::DiagState;
use stackd_tcp::TcpInfo;

const TO: &str = "10.0.0.2:80";

fn connect(net: &mut Net) -> SockId {
    let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    let to = TO.parse().expect("address");
    assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::EINPROGRESS));
    client
}

fn info(host: &Host, now: Instant, sock: SockId) -> TcpInfo {
    *host.stack.socket_info(now, sock).and_then(|s| s.tcp).expect("a connection")
}

/// Host a's ACKs and resets are lost, its SYNs are not.
fn only_syns(_: u64, frame: &[u8]) -> bool {
    let from_a_over_tcp = frame[12..14] == [8, 0] && frame[23] == 6 && frame[29] == 1;
    from_a_over_tcp && frame[47] & 0x02 == 0
}

fn nothing_of_b(_: u64, frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] && frame[23] == 6 && frame[29] == 2
}

/// A SYN costs a request, not a socket; what the SYN said is not forgotten for that.
#[test]
fn a_flood_makes_no_sockets() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 2000);
    net.connected(listener, TO);
    net.filter = Some(only_syns);
    for _ in 0..500 {
        connect(&mut net);
    }
    net.run_ms(5);
    assert_eq!((net.b.stack.socket_counts().0, net.b.stack.half_open()), (2, 500));
    let shown = net.b.stack.sockets(net.now).filter(|s| s.state == DiagState::SynRecv).count();
    assert_eq!(shown, 500, "ss shows them");
    assert_eq!(net.b.stack.check_invariants(net.now), Ok(()));
    // Nobody finishes: 1 + 5 SYN-ACKs each, and then they are forgotten.
    net.run(Duration::from_secs(70));
    assert_eq!(net.b.stack.half_open(), 0);
    assert_eq!(net.b.stack.mib().get(Mib::TcpAttemptFails), 500);
    assert_eq!(net.b.stack.check_invariants(net.now), Ok(()));
}

#[test]
fn the_syn_ack_is_repeated_at_1_2_4_seconds_and_the_connection_is_the_same() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    net.connected(listener, TO);
    net.filter = Some(nothing_of_b);
    let client = connect(&mut net);
    net.run(Duration::from_millis(3500));
    // The client's own SYNs drew answers as well: 0, 1 and 3 s; the timer's are counted.
    assert_eq!(net.b.stack.mib().get(Mib::TcpExtTCPTimeouts), 2, "after 1 and 3 s");
    net.filter = None;
    net.run(Duration::from_secs(8));
    let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("in the end");
    net.a.write(net.now, client, b"hello");
    net.run_ms(5);
    assert_eq!(net.b.read(net.now, server), b"hello");
    let (a, b) = (info(&net.a, net.now, client), info(&net.b, net.now, server));
    assert_eq!((a.snd_wscale, a.rcv_wscale), (b.rcv_wscale, b.snd_wscale));
    assert_eq!((b.snd_mss, b.options & 7), (1448, 7));
    assert!(b.rtt < 5000, "an echoed timestamp tells which SYN-ACK was answered: {} us", b.rtt);
}

#[test]
fn a_clean_handshake_gives_the_first_rtt_sample() {
    let mut net = Net::new();
    net.b.stack.sysctl_set(net.now, "net.ipv4.tcp_timestamps", "0", &mut net.b.store).expect("sysctl");
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    net.connected(listener, TO);
    let (_, server) = net.connected(listener, TO);
    assert_eq!(info(&net.b, net.now, server).rtt, 100, "the wire's round trip");
}

#[test]
fn a_reset_or_an_error_ends_it_and_a_closed_listener_forgets_it() {
    for how in 0..3 {
        let mut net = Net::new();
        let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
        net.connected(listener, TO);
        net.filter = Some(only_syns);
        let client = connect(&mut net);
        net.run_ms(5);
        assert_eq!(net.b.stack.half_open(), 1);
        net.filter = None;
        match how {
            0 => net.a.stack.abort(net.now, client, &mut net.a.store).expect("abort"),
            1 => {
                let local = net.a.stack.local_addr(client).expect("bound");
                let flow = crate::demux::FlowKey::new(TO.parse().expect("address"), local);
                let Some(crate::demux::FlowEntry::Request(index)) = net.b.stack.tcp_demux.flow(&flow) else {
                    panic!("a request")
                };
                let seq = net.b.stack.requests.get(index).map(|h| h.request.isns().0).expect("there");
                let kind = stackd_tcp::IcmpKind::Hard(Errno::ECONNREFUSED);
                net.b.stack.request_error(net.now, index, stackd_tcp::IcmpError { seq, kind });
            }
            _ => net.b.stack.close(net.now, listener, &mut net.b.store).expect("close"),
        }
        net.run_ms(5);
        assert_eq!(net.b.stack.half_open(), 0, "{how}");
        // Linux counts those that a reset ends; it counted none of them here.
        assert_eq!(net.b.stack.mib().get(Mib::TcpExtEmbryonicRsts), u64::from(how == 0), "{how}");
        assert_eq!(net.b.stack.check_invariants(net.now), Ok(()));
    }
}

/// RFC 9293, 3.10.7.4: an ACK of what was not sent is answered with a RST; the handshake goes on.
#[test]
fn a_wrong_ack_is_reset_and_the_right_one_still_works() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    net.connected(listener, TO);
    net.filter = Some(|_, frame| {
        // The right ACK is lost, once.
        static LOST: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        let ack_of_a = frame[12..14] == [8, 0] && frame[23] == 6 && frame[29] == 1 && frame[47] & 0x12 == 0x10;
        ack_of_a && !LOST.swap(true, std::sync::atomic::Ordering::Relaxed)
    });
    let client = connect(&mut net);
    net.run_ms(5);
    let local = net.a.stack.local_addr(client).expect("bound");
    let flow = crate::demux::FlowKey::new(TO.parse().expect("address"), local);
    let Some(crate::demux::FlowEntry::Request(index)) = net.b.stack.tcp_demux.flow(&flow) else { panic!("a request") };
    let (iss, irs) = net.b.stack.requests.get(index).map(|h| h.request.isns()).expect("there");
    let wrong = stackd_wire::TcpRepr {
        src_port: local.port(),
        dst_port: 80,
        seq: irs + 1,
        ack: Some(iss + 77),
        window: 1000,
        ..stackd_wire::TcpRepr::default()
    };
    let rsts = net.b.stack.mib().get(Mib::TcpOutRsts);
    // As if it had come from the wire: host a sends it for nobody.
    let reverse = crate::demux::FlowKey::new(local, TO.parse().expect("address"));
    net.filter = Some(|_, frame| frame[12..14] == [8, 0] && frame[23] == 6 && frame[29] == 2);
    net.a.stack.send_bare(net.now, &reverse, &wrong, 0, crate::stack::authentic::Signer::None);
    net.run_ms(5);
    assert_eq!(net.b.stack.mib().get(Mib::TcpOutRsts), rsts + 1);
    assert_eq!(net.b.stack.half_open(), 1);
    net.filter = None;
    net.a.write(net.now, client, b"hello");
    net.run_ms(5);
    let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("accepted");
    assert_eq!(net.b.read(net.now, server), b"hello");
}
