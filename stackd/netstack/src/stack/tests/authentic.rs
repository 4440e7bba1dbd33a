//! TCP-MD5 (RFC 2385) and TCP-AO (RFC 5925) between two stacks.

use super::*;
use crate::socket::opts::name::*;
use stackd_base::DropReason;
use stackd_tcp::TcpInfo;

fn addr(s: &str) -> SocketAddr {
    s.parse().expect("test address")
}

fn storage(ip: IpAddr) -> [u8; 128] {
    let mut b = [0; 128];
    match ip {
        IpAddr::V4(v4) => {
            b[..2].copy_from_slice(&2u16.to_ne_bytes());
            b[4..8].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            b[..2].copy_from_slice(&10u16.to_ne_bytes());
            b[8..24].copy_from_slice(&v6.octets());
        }
    }
    b
}

/// `struct tcp_md5sig`.
fn md5sig(peer: &str, prefix: Option<u8>, key: &[u8]) -> Vec<u8> {
    let mut b = storage(peer.parse().expect("ip")).to_vec();
    b.extend([u8::from(prefix.is_some()), prefix.unwrap_or(0)]);
    b.extend((key.len() as u16).to_ne_bytes());
    b.extend(0i32.to_ne_bytes());
    b.extend(key);
    b.resize(216, 0);
    b
}

/// `struct tcp_ao_add`; ids are for sending and receiving.
fn ao_add(peer: &str, algorithm: &str, ids: (u8, u8), flags: u8, key: &[u8]) -> Vec<u8> {
    let ip: IpAddr = peer.parse().expect("ip");
    let mut b = storage(ip).to_vec();
    b.extend(algorithm.bytes());
    b.resize(208, 0);
    b[202] = if ip.is_ipv4() { 32 } else { 128 };
    (b[203], b[204], b[206], b[207]) = (ids.0, ids.1, flags, key.len() as u8);
    b.extend(key);
    b.resize(288, 0);
    b
}

fn set(host: &mut Host, now: Instant, sock: SockId, option: i32, value: &[u8]) -> Result<(), Errno> {
    host.stack.set_option(now, sock, SOL_TCP, option, value, &mut host.store)
}

fn info(host: &Host, now: Instant, sock: SockId) -> TcpInfo {
    *host.stack.socket_info(now, sock).and_then(|s| s.tcp).expect("a connection")
}

fn count(host: &Host, mib: Mib) -> u64 {
    host.stack.mib().get(mib)
}

struct Ends {
    listen: &'static str,
    to: &'static str,
    a: &'static str,
    b: &'static str,
}

const FAMILIES: [Ends; 2] = [
    Ends { listen: "0.0.0.0:80", to: "10.0.0.2:80", a: "10.0.0.1", b: "10.0.0.2" },
    Ends { listen: "[::]:80", to: "[fd00::2]:80", a: "fd00::1", b: "fd00::2" },
];

/// A client with `option`, connecting; it may take `ms`.
fn connect(net: &mut Net, to: &str, option: Option<(i32, Vec<u8>)>, ms: u64) -> SockId {
    let to = addr(to);
    let client = net.a.socket(net.now, if to.is_ipv4() { Domain::V4 } else { Domain::V6 }, SocketKind::Stream);
    if let Some((option, value)) = option {
        set(&mut net.a, net.now, client, option, &value).expect("option");
    }
    assert_eq!(net.a.stack.connect(net.now, client, to, &mut net.a.store), Err(Errno::EINPROGRESS));
    net.run_ms(ms);
    client
}

fn exchange(net: &mut Net, client: SockId, listener: SockId) -> SockId {
    let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("accepted");
    let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    for _ in 0..400 {
        sent += net.a.write(net.now, client, &data[sent..]);
        net.run_ms(1);
        got.extend(net.b.read(net.now, server));
    }
    assert_eq!(got.len(), data.len());
    assert!(got == data, "the same bytes");
    net.b.write(net.now, server, b"answer");
    net.run_ms(5);
    assert_eq!(net.a.read(net.now, client), b"answer");
    server
}

/// No frame is larger than its link: the MSS leaves room for the digest.
fn too_large(_: u64, frame: &[u8]) -> bool {
    assert!(frame.len() <= 1514, "{} bytes", frame.len());
    false
}

#[test]
fn rfc2385_both_ends_with_the_key_talk_over_both_families() {
    for ends in &FAMILIES {
        for timestamps in ["1", "0"] {
            let mut net = Net::new();
            net.a.stack.sysctl_set(net.now, "net.ipv4.tcp_timestamps", timestamps, &mut net.a.store).expect("sysctl");
            net.filter = Some(too_large);
            let listener = net.b.listener(net.now, ends.listen, 10);
            set(&mut net.b, net.now, listener, TCP_MD5SIG, &md5sig(ends.a, None, b"secret")).expect("key");
            let client = connect(&mut net, ends.to, Some((TCP_MD5SIG, md5sig(ends.b, None, b"secret"))), 5);
            let server = exchange(&mut net, client, listener);
            let mtu_part = if ends.a.contains(':') { 1440 } else { 1460 };
            let options = if timestamps == "1" { 12 } else { 0 };
            assert_eq!(info(&net.a, net.now, client).snd_mss, mtu_part - 20 - options);
            assert_eq!((info(&net.a, net.now, client).total_retrans, net.b.stack.drops().total()), (0, 0));
            // To the end, TIME_WAIT's ACK of a repeated FIN included.
            net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
            net.run_ms(5);
            net.b.stack.close(net.now, server, &mut net.b.store).expect("close");
            net.run_ms(5);
            assert_eq!((net.a.stack.socket_counts().0, net.b.stack.socket_counts().0), (0, 1));
            assert_eq!((net.a.stack.drops().total(), net.b.stack.drops().total()), (0, 0));
        }
    }
}

#[test]
fn rfc2385_what_does_not_fit_is_dropped_without_an_answer_and_counted() {
    let good = || md5sig("10.0.0.1", None, b"secret");
    for (server, client, counter, reason) in [
        (Some(good()), None, Mib::TcpExtTCPMD5NotFound, DropReason::TcpMd5NotFound),
        (None, Some(md5sig("10.0.0.2", None, b"secret")), Mib::TcpExtTCPMD5Unexpected, DropReason::TcpMd5Unexpected),
        (Some(good()), Some(md5sig("10.0.0.2", None, b"Secret")), Mib::TcpExtTCPMD5Failure, DropReason::TcpMd5Failure),
    ] {
        let mut net = Net::new();
        let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
        if let Some(key) = server {
            set(&mut net.b, net.now, listener, TCP_MD5SIG, &key).expect("key");
        }
        let client = connect(&mut net, "10.0.0.2:80", client.map(|k| (TCP_MD5SIG, k)), 2000);
        assert_eq!(info(&net.a, net.now, client).state, 2, "SYN_SENT: nobody answered");
        assert_eq!((count(&net.b, counter), net.b.stack.drops().get(reason)), (2, 2), "{reason:?}: a SYN and another");
    }
}

#[test]
fn a_prefix_covers_its_peers_and_the_longest_one_rules() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    for (prefix, key) in [(8, &b"wide"[..]), (24, b"narrow")] {
        let value = md5sig("10.0.0.0", Some(prefix), key);
        set(&mut net.b, net.now, listener, TCP_MD5SIG_EXT, &value).expect("key");
    }
    let client = connect(&mut net, "10.0.0.2:80", Some((TCP_MD5SIG, md5sig("10.0.0.2", None, b"narrow"))), 5);
    exchange(&mut net, client, listener);
    let client = connect(&mut net, "10.0.0.2:80", Some((TCP_MD5SIG, md5sig("10.0.0.2", None, b"wide"))), 5);
    assert_eq!(info(&net.a, net.now, client).state, 2);
    // Without the narrow one the wide one covers it.
    let gone = md5sig("10.0.0.0", Some(24), b"");
    set(&mut net.b, net.now, listener, TCP_MD5SIG_EXT, &gone).expect("removed");
    assert_eq!(set(&mut net.b, net.now, listener, TCP_MD5SIG_EXT, &gone), Err(Errno::ENOENT));
    net.run(Duration::from_secs(2));
    assert_eq!(info(&net.a, net.now, client).state, 1);
}

#[test]
fn a_reset_of_a_keyed_listener_is_signed_and_believed() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    set(&mut net.b, net.now, listener, TCP_MD5SIG, &md5sig("10.0.0.1", None, b"secret")).expect("key");
    let client = connect(&mut net, "10.0.0.2:80", Some((TCP_MD5SIG, md5sig("10.0.0.2", None, b"secret"))), 5);
    let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("accepted");
    net.b.stack.abort(net.now, server, &mut net.b.store).expect("abort");
    net.run_ms(5);
    assert_eq!(net.a.stack.take_error(client), Some(Errno::ECONNRESET));
    // A segment of a connection that the listener does not know: its RST is signed with the listener's key.
    let client = connect(&mut net, "10.0.0.2:80", Some((TCP_MD5SIG, md5sig("10.0.0.2", None, b"secret"))), 5);
    let (server, _) = net.b.stack.accept(net.now, listener, &mut net.b.store).expect("accepted");
    net.filter = Some(|_, frame| frame[12..14] == [8, 0] && frame[29] == 2);
    net.b.stack.abort(net.now, server, &mut net.b.store).expect("abort");
    net.run_ms(5);
    net.filter = None;
    net.a.write(net.now, client, b"anybody?");
    net.run_ms(5);
    assert_eq!(net.a.stack.take_error(client), Some(Errno::ECONNRESET));
    assert_eq!(net.a.stack.drops().get(DropReason::TcpMd5NotFound), 0);
}

#[test]
fn a_port_without_listener_does_not_answer_signed_segments() {
    let mut net = Net::new();
    let client = connect(&mut net, "10.0.0.2:81", Some((TCP_MD5SIG, md5sig("10.0.0.2", None, b"secret"))), 2000);
    assert_eq!((info(&net.a, net.now, client).state, count(&net.b, Mib::TcpOutRsts)), (2, 0));
}

#[test]
fn cookies_and_fast_open_work_with_a_key() {
    let mut net = Net::new();
    net.b.stack.sysctl_set(net.now, "net.ipv4.tcp_syncookies", "2", &mut net.b.store).expect("sysctl");
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    set(&mut net.b, net.now, listener, TCP_MD5SIG, &md5sig("10.0.0.1", None, b"secret")).expect("key");
    let client = connect(&mut net, "10.0.0.2:80", Some((TCP_MD5SIG, md5sig("10.0.0.2", None, b"secret"))), 5);
    exchange(&mut net, client, listener);
    assert_eq!(count(&net.b, Mib::TcpExtSyncookiesRecv), 1);
}

#[test]
fn rfc5925_both_algorithms_over_both_families_with_and_without_options() {
    for ends in &FAMILIES {
        for algorithm in ["hmac(sha1)", "cmac(aes128)"] {
            for exclude_options in [0, 2] {
                let mut net = Net::new();
                net.filter = Some(too_large);
                let listener = net.b.listener(net.now, ends.listen, 10);
                let theirs = ao_add(ends.a, algorithm, (7, 9), exclude_options, b"a shared master key");
                set(&mut net.b, net.now, listener, TCP_AO_ADD_KEY, &theirs).expect("key");
                let ours = ao_add(ends.b, algorithm, (9, 7), exclude_options, b"a shared master key");
                let client = connect(&mut net, ends.to, Some((TCP_AO_ADD_KEY, ours)), 5);
                let server = exchange(&mut net, client, listener);
                let mtu_part = if ends.a.contains(':') { 1440 } else { 1460 };
                assert_eq!(info(&net.a, net.now, client).snd_mss, mtu_part - 16 - 12);
                let mut out = [0; 48];
                assert_eq!(net.b.stack.get_option(net.now, server, SOL_TCP, TCP_AO_INFO, &mut out), Ok(48));
                let good = u64::from_ne_bytes(*out[8..].first_chunk().expect("eight"));
                assert!(good > 60, "{good} good segments");
                assert_eq!(out[16..], [0; 32], "nothing bad");
                net.a.stack.close(net.now, client, &mut net.a.store).expect("close");
                net.run_ms(5);
                net.b.stack.close(net.now, server, &mut net.b.store).expect("close");
                net.run_ms(5);
                assert_eq!((net.a.stack.drops().total(), net.b.stack.drops().total()), (0, 0));
            }
        }
    }
}

#[test]
fn rfc5925_7_5_what_does_not_fit_is_dropped_and_counted() {
    let key = |peer, ids, key: &[u8]| ao_add(peer, "hmac(sha1)", ids, 0, key);
    for (client, counter) in [
        (None, Mib::TcpExtTCPAORequired),
        (Some(key("10.0.0.2", (8, 7), b"secret")), Mib::TcpExtTCPAOKeyNotFound),
        (Some(key("10.0.0.2", (9, 7), b"Secret")), Mib::TcpExtTCPAOBad),
    ] {
        let mut net = Net::new();
        let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
        set(&mut net.b, net.now, listener, TCP_AO_ADD_KEY, &key("10.0.0.1", (7, 9), b"secret")).expect("key");
        let client = connect(&mut net, "10.0.0.2:80", client.map(|k| (TCP_AO_ADD_KEY, k)), 2000);
        assert_eq!((info(&net.a, net.now, client).state, count(&net.b, counter)), (2, 2), "{counter:?}");
    }
    let mut net = Net::new();
    net.b.listener(net.now, "0.0.0.0:80", 10);
    connect(&mut net, "10.0.0.2:80", Some((TCP_AO_ADD_KEY, key("10.0.0.2", (9, 7), b"secret"))), 2000);
    assert_eq!(count(&net.b, Mib::TcpExtTCPAOKeyNotFound), 2, "no keys at all");
}

/// RFC 5925, 6.1: one end asks for another key by RNextKeyID, and the other begins to send with it.
#[test]
fn a_live_connection_changes_its_keys() {
    let mut net = Net::new();
    let listener = net.b.listener(net.now, "0.0.0.0:80", 10);
    let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
    for (n, key) in [(1, &b"old"[..]), (2, b"new")] {
        let theirs = ao_add("10.0.0.1", "hmac(sha1)", (n, n + 10), 0, key);
        set(&mut net.b, net.now, listener, TCP_AO_ADD_KEY, &theirs).expect("key");
        let ours = ao_add("10.0.0.2", "hmac(sha1)", (n + 10, n), 0, key);
        set(&mut net.a, net.now, client, TCP_AO_ADD_KEY, &ours).expect("key");
    }
    assert_eq!(net.a.stack.connect(net.now, client, addr("10.0.0.2:80"), &mut net.a.store), Err(Errno::EINPROGRESS));
    net.run_ms(5);
    let server = exchange(&mut net, client, listener);
    let keys = |host: &mut Host, now: Instant, sock: SockId| {
        let mut out = [0; 4096];
        let n = host.stack.get_option(now, sock, SOL_TCP, TCP_AO_GET_KEYS, &mut out).expect("keys");
        assert_eq!(n, 2 * 304);
        // is_current and is_rnext of each.
        [out[276], out[304 + 276]]
    };
    assert_eq!(keys(&mut net.b, net.now, server), [3, 0], "the first key, both ways");
    // The client asks to be sent with its second key (receive id 2).
    let mut ask = [0; 48];
    ask[0] = 2;
    ask[7] = 2;
    set(&mut net.a, net.now, client, TCP_AO_INFO, &ask).expect("rnext");
    net.a.write(net.now, client, b"x");
    net.run_ms(50);
    assert_eq!(keys(&mut net.b, net.now, server), [2, 1], "the server sends with the second key");
    assert_eq!(net.b.read(net.now, server), b"x");
    net.b.write(net.now, server, b"y");
    net.run_ms(50);
    assert_eq!(net.a.read(net.now, client), b"y");
    // In use: it cannot go; the other one can.
    let del = |ids: (u8, u8)| {
        let mut b = storage("10.0.0.1".parse().expect("ip")).to_vec();
        b.resize(144, 0);
        (b[138], b[139], b[140]) = (32, ids.0, ids.1);
        b
    };
    assert_eq!(set(&mut net.b, net.now, server, TCP_AO_DEL_KEY, &del((2, 12))), Err(Errno::EBUSY));
    assert_eq!(set(&mut net.b, net.now, server, TCP_AO_DEL_KEY, &del((5, 5))), Err(Errno::ENOENT));
    assert_eq!((net.a.stack.drops().total(), net.b.stack.drops().total()), (0, 0));
}

/// Streams beyond 4 GiB go on: the sequence number's extension is part of the MAC (RFC 5925, 6.2).
#[test]
fn the_sequence_number_extension_follows_the_wrap() {
    let cfg = stackd_tcp::Config::default();
    let flow = stackd_tcp::FlowParams::new(1, 2);
    let iss = stackd_base::SeqNum(u32::MAX - 100);
    let c = stackd_tcp::Connection::connect(&cfg, flow, iss, Instant::from_nanos(1));
    assert_eq!((c.send_sne(iss), c.send_sne(iss + 100), c.send_sne(iss + 101)), (0, 0, 1));
    assert_eq!(c.isns(), (iss, None));
}

#[test]
fn options_are_checked_as_linux_checks_them() {
    let mut net = Net::new();
    let now = net.now;
    let b = &mut net.b;
    let v4 = b.socket(now, Domain::V4, SocketKind::Stream);
    let good = md5sig("10.0.0.1", None, b"secret");
    assert_eq!(set(b, now, v4, TCP_MD5SIG, &good[..200]), Err(Errno::EINVAL), "too short");
    assert_eq!(set(b, now, v4, TCP_MD5SIG, &md5sig("fd00::1", None, b"k")), Err(Errno::EINVAL), "another family");
    assert_eq!(set(b, now, v4, TCP_MD5SIG_EXT, &md5sig("10.0.0.1", Some(33), b"k")), Err(Errno::EINVAL));
    let mut long = good.clone();
    long[130..132].copy_from_slice(&81u16.to_ne_bytes());
    assert_eq!(set(b, now, v4, TCP_MD5SIG, &long), Err(Errno::EINVAL));
    assert_eq!(set(b, now, v4, TCP_MD5SIG, &md5sig("10.0.0.1", None, b"")), Err(Errno::ENOENT));
    assert_eq!(set(b, now, v4, TCP_MD5SIG, &good), Ok(()));
    let ao = |ids| ao_add("10.0.0.1", "hmac(sha1)", ids, 0, b"key");
    assert_eq!(set(b, now, v4, TCP_AO_ADD_KEY, &ao((1, 2))), Err(Errno::EINVAL), "one or the other for a peer");
    let other = b.socket(now, Domain::V4, SocketKind::Stream);
    assert_eq!(set(b, now, other, TCP_AO_ADD_KEY, &ao((1, 2))), Ok(()));
    assert_eq!(set(b, now, other, TCP_AO_ADD_KEY, &ao((1, 3))), Err(Errno::EEXIST));
    assert_eq!(set(b, now, other, TCP_MD5SIG, &good), Err(Errno::EINVAL));
    let unknown = ao_add("10.0.0.1", "hmac(md4)", (4, 4), 0, b"key");
    assert_eq!(set(b, now, other, TCP_AO_ADD_KEY, &unknown), Err(Errno::ENOENT));
    let mut reserved = ao((5, 5));
    reserved[200] = 1;
    assert_eq!(set(b, now, other, TCP_AO_ADD_KEY, &reserved), Err(Errno::EINVAL));
    let mut out = [0; 48];
    assert_eq!(b.stack.get_option(now, v4, SOL_TCP, TCP_MD5SIG, &mut out), Err(Errno::ENOPROTOOPT), "never read back");
    // A dual-stack socket names IPv4 peers v4-mapped.
    let v6 = b.socket(now, Domain::V6, SocketKind::Stream);
    assert_eq!(set(b, now, v6, TCP_MD5SIG, &md5sig("::ffff:10.0.0.1", None, b"k")), Ok(()));
    let udp = b.socket(now, Domain::V4, SocketKind::Dgram);
    assert_eq!(set(b, now, udp, TCP_MD5SIG, &good), Err(Errno::ENOPROTOOPT));
}

/// RFC 5925, 7.8: anybody can make an ICMP error; a connection that proves its segments is not ended by one.
#[test]
fn icmp_errors_are_ignored_unless_accepted() {
    for (accept, state) in [(false, 2), (true, 7)] {
        let mut net = Net::new();
        let client = net.a.socket(net.now, Domain::V4, SocketKind::Stream);
        let key = ao_add("10.0.0.2", "hmac(sha1)", (9, 7), 0, b"secret");
        set(&mut net.a, net.now, client, TCP_AO_ADD_KEY, &key).expect("key");
        let mut flags = [0; 48];
        flags[0] = if accept { 16 } else { 0 };
        set(&mut net.a, net.now, client, TCP_AO_INFO, &flags).expect("info");
        assert_eq!(
            net.a.stack.connect(net.now, client, addr("10.0.0.2:80"), &mut net.a.store),
            Err(Errno::EINPROGRESS)
        );
        net.run_ms(5);
        let (local, conn) = (net.a.stack.local_addr(client).expect("bound"), info(&net.a, net.now, client));
        assert_eq!(conn.state, 2);
        let seq = net.a.stack.tcp_mut(client).map(|t| t.conn.isns().0);
        let error = crate::ip::TransportError {
            port: net.a.port,
            kind: 3,
            code: 3,
            payload: Vec::new(),
            protocol: 6,
            local,
            remote: addr("10.0.0.2:80"),
            seq,
            reporter: IpAddr::from([10, 0, 0, 2]),
            error: stackd_wire::IcmpRepr::DestUnreachable(stackd_wire::Unreachable::Port),
        };
        net.a.stack.handle_transport_error(net.now, &error, &mut net.a.store);
        assert_eq!(info(&net.a, net.now, client).state, state);
        assert_eq!(count(&net.a, Mib::TcpExtTCPAODroppedIcmps), u64::from(!accept));
    }
}
