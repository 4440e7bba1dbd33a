use super::parse;
use crate::ast::{Action, Body, Expr, Outer, Quoted, Script, TcpOption, Time, Tos, flag};
use crate::error::Kind;
use crate::lex::Defines;
use stackd_base::Duration;

fn script(text: &str) -> Script {
    parse("t.pkt", text, &mut Defines::new()).unwrap_or_else(|e| panic!("{e}"))
}

fn error(text: &str) -> (Kind, String) {
    let e = parse("t.pkt", text, &mut Defines::new()).expect_err("must not parse");
    (e.kind, e.to_string())
}

fn packet(text: &str) -> crate::ast::Packet {
    match script(text).events.remove(0).action {
        Action::Packet(p) => *p,
        other => panic!("{other:?}"),
    }
}

fn call(text: &str) -> crate::ast::Syscall {
    match script(text).events.remove(0).action {
        Action::Syscall(s) => s,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_form_of_time() {
    let ms = Duration::from_millis;
    for (text, want) in [
        ("0.100 > . 1:1(0) ack 1", Time::Absolute(ms(100))),
        ("+.1 > . 1:1(0) ack 1", Time::Relative(ms(100))),
        ("* > . 1:1(0) ack 1", Time::Any),
        ("0~0.2 > . 1:1(0) ack 1", Time::AbsoluteRange(ms(0), ms(200))),
        ("+0~+1 > . 1:1(0) ack 1", Time::RelativeRange(ms(0), ms(1000))),
        ("1 > . 1:1(0) ack 1", Time::Absolute(ms(1000))),
        ("+0.000001 > . 1:1(0) ack 1", Time::Relative(Duration::from_micros(1))),
    ] {
        assert_eq!(script(text).events[0].time, want, "{text}");
    }
    assert!(error("* < . 1:1(0) win 1").1.contains("outbound packets only"));
    assert!(error("+1~+0.5 > . 1:1(0)").1.contains("backwards"));
    assert!(error("-1 > . 1:1(0)").1.contains("negative"));
}

#[test]
fn tcp_segments_with_all_their_parts() {
    let p = packet("+0 < [ect0] 1000>2000 FPUE. 1:1001(1000) ack 5 win 7 urg 3 <nop,nop,TS val 1 ecr 2>");
    assert!(p.inbound);
    assert_eq!(p.ip.tos, Tos::Ecn(2));
    let Body::Tcp(t) = p.body else { panic!() };
    assert_eq!(t.ports, Some((1000, 2000)));
    assert_eq!(t.flags, flag::FIN | flag::PSH | flag::URG | flag::ECE | flag::ACK);
    assert_eq!((t.seq, t.len, t.ack, t.win, t.urg), (1, 1000, 5, Some(7), 3));
    assert_eq!(t.options, Some(vec![TcpOption::Nop, TcpOption::Nop, TcpOption::Timestamp { val: 1, ecr: 2 }]));

    let Body::Tcp(t) = packet("+0 > P.5 1:1(0) ack 1 <...>").body else { panic!() };
    assert_eq!((t.flags, t.ace, t.options), (flag::PSH | flag::ACK | flag::AE | flag::ECE, true, None));
    let Body::Tcp(t) = packet("+0 > .2 1:1(0) ack 1").body else { panic!() };
    assert_eq!((t.flags, t.ace), (flag::ACK | flag::CWR, true));
    let Body::Tcp(t) = packet("+0 < - 1:1(0) win 0").body else { panic!() };
    assert_eq!(t.flags, 0);
    let Body::Tcp(t) = packet("+0 < SEWA 4294967295:4294967295(0) win 0").body else { panic!() };
    assert_eq!((t.flags, t.seq), (flag::SYN | flag::ECE | flag::CWR | flag::AE, u32::MAX));
}

#[test]
fn every_tcp_option() {
    let Body::Tcp(t) = packet(
        "+0 < S 0:0(0) win 1 <mss 1460,sackOK,wscale 7,nop,FO 1234abcd,FOEXP,nop,ECN e1b 1 ceb 2,nop,nop,nop,nop,eol,opt 77>",
    )
    .body
    else {
        panic!()
    };
    let options = t.options.expect("options");
    assert_eq!(options[4], TcpOption::FastOpen(vec![0x12, 0x34, 0xab, 0xcd]));
    assert_eq!(options[7], TcpOption::AccEcn { e1_first: true, counters: vec![1, 2] });
    assert_eq!(options.last(), Some(&TcpOption::Other { kind: 77, data: vec![] }));
    let Body::Tcp(t) = packet("+0 < . 1:1(0) ack 1 win 1 <sack 1:2 5:6,nop,nop>").body else { panic!() };
    assert_eq!(t.options.expect("options")[0], TcpOption::Sack(vec![(1, 2), (5, 6)]));
    assert!(error("+0 < S 0:0(0) win 1 <mss 1460,nop>").1.contains("pad them with nop"));
    assert_eq!(error("\n+0 < S 0:0(0) win 1 <mp_capable 1>").0, Kind::Unsupported);
}

#[test]
fn icmp_udp_and_encapsulation() {
    let Body::Icmp(i) = packet("+0 < icmp unreachable frag_needed mtu 1200 [1:1461(1460)]").body else { panic!() };
    assert_eq!((i.kind.as_str(), i.code.as_deref(), i.mtu), ("unreachable", Some("frag_needed"), Some(1200)));
    assert_eq!(i.quoted, Some(Quoted::Tcp { seq: 1, len: 1460 }));
    let Body::Icmp(i) = packet("+0 < icmp echo_request id 7 [raw (100)]").body else { panic!() };
    assert_eq!((i.id, i.quoted), (Some(7), Some(Quoted::Raw { len: 100 })));
    assert_eq!(packet("+0 > udp 1>2 (1000)").body, Body::Udp { ports: Some((1, 2)), len: 1000 });
    let p = packet(
        "+0 < ipv4 1.1.1.1 > 2.2.2.2: gre: ipv6 2001:db8::1 > 2001:db8::2: mpls (label 3, tc 1, [S], ttl 9): . 1:1(0) ack 1 win 1",
    );
    assert_eq!(p.outer.len(), 4);
    assert_eq!(p.outer[3], Outer::Mpls(vec![3 << 12 | 1 << 9 | 1 << 8 | 9]));
    assert_eq!(error("\n\n+0 > udplite (1)").0, Kind::Unsupported);
}

#[test]
fn system_calls_with_structs_lists_and_errors() {
    let c = call("0.1...0.2 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)");
    assert_eq!(c.end, Some(Duration::from_millis(200)));
    assert_eq!(c.errno.as_deref(), Some("EINPROGRESS"));
    assert_eq!(c.note.as_deref(), Some("Operation now in progress"));
    let c = call(
        r#"+0 sendmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 4}], msg_flags=MSG_X|1, msg_control=[{cmsg_level=SOL_IP, cmsg_type=IP_TTL, cmsg_data=5}]}, 0) = 4"#,
    );
    let Expr::Struct(fields) = &c.args[1] else { panic!() };
    assert_eq!(fields.len(), 4);
    assert_eq!(fields[1].arg, Some(Expr::Int(1, false)));
    let c =
        call(r#"+0 bind(3, {sa_family = AF_INET, sin_port = htons(80), sin_addr = inet_addr("1.2.3.4")}, ...) = 0"#);
    assert!(matches!(&c.args[1], Expr::Struct(f) if f.len() == 3));
    let c = call("+0 fcntl(4, F_GETFL) = 0x2 (flags O_RDWR)");
    assert_eq!((c.errno, c.note.as_deref()), (None, Some("flags O_RDWR")));
    assert_eq!(call(r#"+0 write(4, "ab" "c", 3) = 3"#).args[1], Expr::Str(b"abc".to_vec()));
    let texts = [r#"f(1, 0x2, A|B, [1, {x=1, y(2)=...}], {..., 5}, "a")"#];
    for text in texts {
        assert_eq!(call(&format!("+0 {text} = 0")).to_string(), text);
    }
}

#[test]
fn options_commands_and_code_stand_where_they_belong() {
    let s = script("--ip_version=ipv4-mapped-ipv6\n--mss=100\n`init`\n0 `first`\n+0 %{ assert 1 }%\n`cleanup`");
    assert_eq!(s.options[0].value.as_deref(), Some("ipv4-mapped-ipv6"));
    assert_eq!(s.init.expect("init").text, "init");
    assert_eq!(s.events.len(), 2);
    assert_eq!(s.cleanup.expect("cleanup").line, 6);
}

#[test]
fn what_is_not_supported_is_named_with_its_line() {
    let (kind, text) = error("+0 < . 1:1(0) ack 1 win 1\n+0 < . 1:1(0) ack 1 win 1 {mut tcp mss}");
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.starts_with("t.pkt:2: unsupported: "), "{text}");
    assert!(error("\n\n+0 > Q. 1:1(0)").1.starts_with("t.pkt:3: syntax error: at \"Q\""));
    assert!(error("+0 > . 1:10(5)").1.contains("1:10 is not 5 bytes"));
}
