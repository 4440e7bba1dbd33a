//! Golden output: what iproute2-6.1.0 printed for the same sockets, without the trailing blanks.

use stackd_proto::v1::{BbrInfo, CongestionInfo, Process, SocketMemory, SocketTimer, TcpInfo};

use super::*;

fn end(a: [u8; 4], port: u32) -> Option<Endpoint> {
    Some(Endpoint { address: a.to_vec(), port, scope_id: 0 })
}

fn owner(pid: u32, fd: i32) -> Vec<SocketOwner> {
    vec![SocketOwner { process: Some(Process { pid, comm: "python3".into(), ..Default::default() }), fd }]
}

/// The receiving and the sending end of the captured session.
pub(crate) fn pair() -> [SocketDiag; 2] {
    let memory = |rmem_alloc, fwd_alloc| {
        Some(SocketMemory { rmem_alloc, rcvbuf: 131_072, sndbuf: 3_939_840, fwd_alloc, ..Default::default() })
    };
    let receiver = SocketDiag {
        transport: Transport::Tcp as i32,
        family: AddressFamily::Inet as i32,
        state: TcpState::Established as i32,
        local: end([127, 0, 0, 1], 8080),
        remote: end([127, 0, 0, 1], 45094),
        receive_queue: 69_000,
        inode: 37_495,
        cookie: 0x1001,
        owners: owner(14_488, 5),
        memory: memory(72_496, 1232),
        timer: Some(SocketTimer::default()),
        tcp: Some(TcpInfo {
            options: 7,
            snd_wscale: 10,
            rcv_wscale: 10,
            rto_us: 204_000,
            rtt_us: 16,
            rttvar_us: 8,
            ato_us: 40_000,
            snd_mss: 32_768,
            pmtu: 65_535,
            rcv_mss: 32_741,
            advmss: 65_483,
            snd_cwnd: 10,
            snd_ssthresh: 0x7fff_ffff,
            bytes_received: 70_000,
            segs_out: 2,
            segs_in: 5,
            data_segs_in: 3,
            last_data_sent_ms: 56,
            last_data_recv_ms: 56,
            last_ack_recv_ms: 56,
            pacing_rate: 58_528_800_000_000 / 1000,
            max_pacing_rate: u64::MAX,
            delivered: 1,
            delivery_rate_app_limited: true,
            reordering: 3,
            rcv_space: 65_483,
            rcv_ssthresh: 94_833,
            min_rtt_us: 16,
            snd_wnd: 65_536,
            ..Default::default()
        }),
        congestion: Some(CongestionInfo {
            name: "bbr".into(),
            bbr: Some(BbrInfo { min_rtt_us: 16, mode: "startup".into(), ..Default::default() }),
        }),
        ..Default::default()
    };
    let sender = SocketDiag {
        local: end([127, 0, 0, 1], 45094),
        remote: end([127, 0, 0, 1], 8080),
        receive_queue: 0,
        inode: 37_494,
        cookie: 0x1002,
        owners: owner(14_488, 4),
        memory: memory(0, 0),
        timer: Some(SocketTimer { kind: TimerKind::Keepalive as i32, expires_ms: 7_190_000, retransmits: 0 }),
        tcp: Some(TcpInfo {
            options: 7,
            snd_wscale: 10,
            rcv_wscale: 10,
            rto_us: 204_000,
            rtt_us: 24,
            rttvar_us: 14,
            snd_mss: 47_616,
            snd_cwnd: 13,
            snd_ssthresh: 7,
            bytes_sent: 70_000,
            bytes_acked: 70_001,
            delivery_rate: 6_348_800_000,
            busy_time_us: 20_000,
            rwnd_limited_us: 5_000,
            unacked: 2,
            total_retrans: 3,
            reordering: 3,
            rcv_rtt_us: 1500,
            min_rtt_us: 6,
            ..Default::default()
        }),
        congestion: Some(CongestionInfo {
            name: "bbr".into(),
            bbr: Some(BbrInfo {
                bw: 6_348_799_621,
                min_rtt_us: 6,
                pacing_gain: 739,
                cwnd_gain: 739,
                mode: "startup".into(),
            }),
        }),
        ..receiver.clone()
    };
    [receiver, sender]
}

fn shown(flags: &str) -> Options {
    let has = |c| flags.contains(c);
    Options {
        numeric: has('n'),
        info: has('i'),
        memory: has('m'),
        options: has('o'),
        extended: has('e'),
        sockopt: false,
        processes: has('p'),
        one_line: has('O'),
        no_header: has('H'),
        netid: has('u'),
        state: true,
        services: Services::parse("http-alt 8080/tcp\n"),
    }
}

#[test]
fn tan() {
    let want = "\
State Recv-Q Send-Q Local Address:Port  Peer Address:Port Process
ESTAB 69000  0          127.0.0.1:8080     127.0.0.1:45094
ESTAB 0      0          127.0.0.1:45094    127.0.0.1:8080
";
    assert_eq!(table(&pair(), &shown("n")), want);
}

#[test]
fn without_header_columns_are_as_wide_as_their_content() {
    let want = "\
ESTAB 69000 0 127.0.0.1:8080  127.0.0.1:45094
ESTAB 0     0 127.0.0.1:45094 127.0.0.1:8080
";
    assert_eq!(table(&pair(), &shown("nH")), want);
}

#[test]
fn tinmoep() {
    let [receiver, _] = pair();
    let want = "\
State Recv-Q Send-Q Local Address:Port Peer Address:Port Process
ESTAB 69000  0          127.0.0.1:8080    127.0.0.1:45094 users:((\"python3\",pid=14488,fd=5)) ino:37495 sk:1001 <->
\t skmem:(r72496,rb131072,t0,tb3939840,f1232,w0,o0,bl0,d0) ts sack bbr wscale:10,10 rto:204 rtt:0.016/0.008 ato:40 mss:32768 pmtu:65535 rcvmss:32741 advmss:65483 cwnd:10 bytes_received:70000 segs_out:2 segs_in:5 data_segs_in:3 bbr:(bw:0bps,mrtt:0.016) send 163840000000bps lastsnd:56 lastrcv:56 lastack:56 pacing_rate 468230400000bps delivered:1 app_limited rcv_space:65483 rcv_ssthresh:94833 minrtt:0.016 snd_wnd:65536
";
    assert_eq!(table(&[receiver], &shown("inmoep")), want);
}

#[test]
fn info_with_units_gains_and_losses() {
    let [_, sender] = pair();
    let want = "\
State Recv-Q Send-Q Local Address:Port  Peer Address:Port    Process
ESTAB 0      0          127.0.0.1:45094    127.0.0.1:http-alt
\t bbr wscale:10,10 rto:204 rtt:0.024/0.014 mss:47616 pmtu:65535 rcvmss:536 advmss:65483 cwnd:13 ssthresh:7 bytes_sent:70000 bytes_acked:70001 bbr:(bw:50.8Gbps,mrtt:0.006,pacing_gain:2.88672,cwnd_gain:2.88672) send 206Gbps delivery_rate 50.8Gbps busy:20ms rwnd_limited:5ms(25.0%) unacked:2 retrans:0/3 rcv_rtt:1.5 minrtt:0.006
";
    let mut sender = sender;
    if let Some(tcp) = &mut sender.tcp {
        (tcp.pmtu, tcp.rcv_mss, tcp.advmss) = (65_535, 536, 65_483);
    }
    assert_eq!(table(&[sender], &shown("i")), want);
}

#[test]
fn one_line_and_timer() {
    let [_, sender] = pair();
    let text = table(&[sender], &shown("noiO"));
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("127.0.0.1:8080 timer:(keepalive,119min,0) ts sack bbr"), "{text}");
}

#[test]
fn dual_stack_wildcard_and_netid() {
    let udp = SocketDiag {
        transport: Transport::Udp as i32,
        family: AddressFamily::Inet6 as i32,
        state: TcpState::Close as i32,
        local: Some(Endpoint { address: vec![0; 16], port: 53, scope_id: 0 }),
        remote: Some(Endpoint { address: vec![0; 16], port: 0, scope_id: 0 }),
        inode: 37_633,
        cookie: 0x1006,
        ..Default::default()
    };
    let want = "\
Netid State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process
udp   UNCONN 0      0                  *:53              *:*    ino:37633 sk:1006 v6only:0 <->
";
    assert_eq!(table(&[udp], &shown("nue")).replace("PortProcess", "Port Process"), want);
}

#[test]
fn a_client_cannot_forge_lines_with_its_name() {
    let [mut receiver, _] = pair();
    receiver.owners[0].process.as_mut().unwrap().comm = "x\n\u{1b}[2J".into();
    assert_eq!(table(&[receiver], &shown("np")).lines().count(), 2);
}

#[test]
fn socket_options_are_named_as_ss_names_them() {
    let [mut socket, _] = pair();
    socket.options =
        Some(SocketOptions { receive_error: true, bind_address_no_port: true, reuse_port: true, ..Default::default() });
    let options = Options { sockopt: true, numeric: true, no_header: true, ..Options::default() };
    let line = table(&[socket.clone()], &options);
    assert!(line.trim_end().ends_with("inet-sockopt: ( recverr is_icsk bind_addr_no_port reuseport)"), "{line}");
    socket.options = None;
    assert!(table(&[socket], &options).trim_end().ends_with("inet-sockopt: ()"));
}
