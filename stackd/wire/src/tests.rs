//! Round trips, an independent oracle (etherparse), and arbitrary bytes, for every header but TCP's.

use super::*;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn v4() -> impl Strategy<Value = Ipv4Repr> {
    (
        any::<[u8; 4]>(),
        any::<[u8; 4]>(),
        any::<[u8; 3]>(),
        any::<u16>(),
        any::<(bool, bool)>(),
        0u16..8192,
        0u16..=65515,
    )
        .prop_map(|(s, d, [protocol, ttl, tos], ident, (df, mf), off, payload_len)| Ipv4Repr {
            src: s.into(),
            dst: d.into(),
            protocol,
            ttl,
            tos,
            ident,
            dont_fragment: df,
            more_fragments: mf,
            fragment_offset: off * 8,
            payload_len,
        })
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), len in 0usize..2000, first in any::<u8>()) {
        let _ = EthernetRepr::parse(&bytes);
        let _ = ArpRepr::parse(&bytes);
        let _ = Ipv4Repr::parse(&bytes, len);
        let _ = Ipv4Repr::parse_quoted(&bytes);
        let _ = Ipv6Repr::parse(&bytes, len);
        for next in [first, 0, 43, 44, 60] {
            if let Ok(e) = Extensions::parse(next, &bytes) { prop_assert!(e.len <= bytes.len()); }
        }
        let _ = UdpRepr::parse(&bytes, len);
        let _ = IcmpRepr::parse_v4(&bytes);
        let _ = IcmpRepr::parse_v6(&bytes);
        let mut ndp = bytes.clone();
        if let [k, c, ..] = ndp.as_mut_slice() { (*k, *c) = (133 + *k % 4, 0); }
        let _ = NdpRepr::parse(&ndp);
    }

    #[test]
    fn ipv4_round_trips_and_etherparse_agrees(r in v4()) {
        let mut b = [0; 20];
        r.emit(&mut b);
        let total = 20 + usize::from(r.payload_len);
        prop_assert_eq!(Ipv4Repr::parse(&b, total), Ok((r, 20)));
        prop_assert_eq!(Ipv4Repr::parse(&b, total - 1), Err(ParseError::Length));
        prop_assert_eq!(Ipv4Repr::parse_quoted(&b), Ok((r, 20)));
        let (h, _) = etherparse::Ipv4Header::from_slice(&b).expect("oracle");
        prop_assert_eq!(h.header_checksum, h.calc_header_checksum());
        prop_assert_eq!((h.identification, h.dont_fragment, h.fragment_offset.value()), (r.ident, r.dont_fragment, r.fragment_offset / 8));
    }

    #[test]
    fn a_flipped_bit_breaks_an_ipv4_header(r in v4(), bit in 0usize..160) {
        let mut b = [0; 20];
        r.emit(&mut b);
        b[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Ipv4Repr::parse(&b, 65535).is_err());
    }

    #[test]
    fn ipv6_round_trips_and_etherparse_agrees(s in any::<[u8; 16]>(), d in any::<[u8; 16]>(), next in any::<u8>(), hop in any::<u8>(),
                                               tc in any::<u8>(), label in 0u32..1 << 20, len in any::<u16>()) {
        let r = Ipv6Repr { src: s.into(), dst: d.into(), next_header: next, hop_limit: hop, traffic_class: tc, flow_label: label, payload_len: len };
        let mut b = [0; 40];
        r.emit(&mut b);
        prop_assert_eq!(Ipv6Repr::parse(&b, 40 + usize::from(len)), Ok((r, 40)));
        let (h, _) = etherparse::Ipv6Header::from_slice(&b).expect("oracle");
        prop_assert_eq!((h.traffic_class, h.flow_label.value(), h.next_header.0), (tc, label, next));
    }

    #[test]
    fn udp_round_trips_and_verifies(ports in any::<(u16, u16)>(), payload in proptest::collection::vec(any::<u8>(), 0..99), v6 in any::<bool>()) {
        let (src, dst): (IpAddr, IpAddr) = if v6 { (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()) }
            else { (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()) };
        let r = UdpRepr { src_port: ports.0, dst_port: ports.1, payload_len: payload.len() as u16 };
        let mut b = [0; 8];
        r.emit(&mut b, src, dst, Sum::of(&payload));
        prop_assert_eq!(UdpRepr::parse(&b, 8 + payload.len()).map(|x| x.0), Ok(r));
        prop_assert!(udp::verify(&b, src, dst, Sum::of(&payload), payload.len() as u16));
        b[0] ^= 1;
        prop_assert!(!udp::verify(&b, src, dst, Sum::of(&payload), payload.len() as u16));
    }

    #[test]
    fn arp_round_trips(s in any::<[u8; 6]>(), t in any::<[u8; 6]>(), ip in any::<[u8; 4]>(), reply in any::<bool>()) {
        let mut s = s;
        s[0] &= 0xfe;
        let r = ArpRepr {
            operation: if reply { ArpOperation::Reply } else { ArpOperation::Request },
            sender_mac: MacAddr(s), sender_ip: Ipv4Addr::new(10, 1, 2, 3), target_mac: MacAddr(t), target_ip: ip.into(),
        };
        let mut b = [0; 28];
        r.emit(&mut b);
        prop_assert_eq!(ArpRepr::parse(&b), Ok(r));
    }
}

#[test]
fn icmp_messages_round_trip_in_both_families() {
    let (s, d) = (Ipv6Addr::LOCALHOST, "fe80::1".parse().expect("address"));
    for r in [
        IcmpRepr::EchoRequest { ident: 1, seq: 2 },
        IcmpRepr::EchoReply { ident: 3, seq: 4 },
        IcmpRepr::DestUnreachable(Unreachable::Port),
        IcmpRepr::DestUnreachable(Unreachable::Host),
        IcmpRepr::DestUnreachable(Unreachable::Prohibited),
        IcmpRepr::PacketTooBig { mtu: 1280 },
        IcmpRepr::TimeExceeded { reassembly: true },
        IcmpRepr::ParameterProblem { code: 0, pointer: 40 },
        IcmpRepr::Other { kind: 200, code: 1, rest: [1, 2, 3, 4] },
    ] {
        let mut m = *b"........payload";
        r.emit_v4(&mut m);
        assert!(icmp::verify_v4(&m));
        assert_eq!(IcmpRepr::parse_v4(&m), Ok(r));
        r.emit_v6(&mut m, s, d);
        assert!(icmp::verify_v6(&m, s, d) && !icmp::verify_v6(&m, s, s));
        assert_eq!(IcmpRepr::parse_v6(&m), Ok(r));
    }
}

#[test]
fn ndp_messages_round_trip() {
    let (s, d): (Ipv6Addr, Ipv6Addr) = ("fe80::1".parse().expect("address"), "ff02::1".parse().expect("address"));
    let mac = Some(MacAddr([2, 0, 0, 0, 0, 1]));
    let prefix = PrefixInfo {
        prefix: "2001:db8::".parse().expect("prefix"),
        prefix_len: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime: 86400,
        preferred_lifetime: u32::MAX,
    };
    for r in [
        NdpRepr::RouterSolicit { source_mac: mac },
        NdpRepr::NeighborSolicit { target: s, source_mac: None, nonce: None },
        NdpRepr::NeighborSolicit { target: s, source_mac: Some(MacAddr([1; 6])), nonce: Some([7; 6]) },
        NdpRepr::Redirect { target: s, destination: s, target_mac: Some(MacAddr([3; 6])) },
        NdpRepr::NeighborAdvert { target: s, router: true, solicited: false, override_: true, target_mac: mac },
        NdpRepr::RouterAdvert(RouterAdvert {
            hop_limit: 64,
            preference: -1,
            router_lifetime: 1800,
            reachable_time: 30000,
            retrans_timer: 1000,
            source_mac: mac,
            mtu: Some(1400),
            prefixes: [Some(prefix), None, None, None],
        }),
    ] {
        let mut b = [0; 128];
        let len = r.emit(&mut b, s, d);
        assert!(icmp::verify_v6(&b[..len], s, d));
        assert_eq!(NdpRepr::parse(&b[..len]), Ok(Some(r)));
    }
}

#[test]
fn ndp_options_of_length_zero_and_multicast_targets_are_refused() {
    let mut b = [0; 32];
    b[0] = ndp::kind::NEIGHBOR_SOLICIT;
    b[24] = 1;
    assert_eq!(NdpRepr::parse(&b), Err(ParseError::Length));
    b[25] = 1;
    assert!(matches!(NdpRepr::parse(&b), Ok(Some(_))));
    b[8] = 0xff;
    assert_eq!(NdpRepr::parse(&b), Err(ParseError::Field));
}

#[test]
fn ipv4_options_are_skipped() {
    let mut b = [0; 24];
    let r = Ipv4Repr {
        src: Ipv4Addr::LOCALHOST,
        dst: Ipv4Addr::LOCALHOST,
        protocol: 6,
        ttl: 64,
        tos: 0,
        ident: 7,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        payload_len: 4,
    };
    r.emit(&mut b);
    b[0] = 0x46;
    b[20..].copy_from_slice(&[1, 1, 1, 0]);
    b[10..12].fill(0);
    let sum = Sum::of(&b).finish();
    b[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(Ipv4Repr::parse(&b, 24), Ok((Ipv4Repr { payload_len: 0, ..r }, 24)));
    assert_eq!(Ipv4Repr::parse_quoted(&b), Ok((Ipv4Repr { payload_len: 0, ..r }, 24)));
}

#[test]
fn extension_headers_are_walked_to_the_transport() {
    // Hop-by-hop (PadN), destination options, routing with nothing left, then TCP.
    let b = [60, 0, 1, 4, 0, 0, 0, 0, 43, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 99];
    let e = Extensions::parse(proto::HOP_BY_HOP, &b).expect("legal");
    assert_eq!((e.upper, e.len, e.fragment, e.upper_named_at), (proto::TCP, 24, None, Some(16)));
}

#[test]
fn extension_headers_that_must_be_answered() {
    // An unknown option whose high bits are 10: discard and answer, multicast or not.
    let e = Extensions::parse(proto::DEST_OPTS, &[6, 0, 0x80, 4, 0, 0, 0, 0]).expect_err("unknown option");
    assert_eq!(e, ExtensionError { at: 2, answer: Some(ParameterProblem::Option), even_multicast: true });
    // High bits 00: skip.
    assert!(Extensions::parse(proto::DEST_OPTS, &[6, 0, 0x1e, 4, 0, 0, 0, 0]).is_ok());
    // A routing header with segments left.
    let e = Extensions::parse(proto::ROUTING, &[6, 0, 0, 1, 0, 0, 0, 0]).expect_err("segments left");
    assert_eq!((e.at, e.answer), (2, Some(ParameterProblem::Field)));
    // Hop-by-hop elsewhere than first.
    let e =
        Extensions::parse(proto::DEST_OPTS, &[0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0]).expect_err("misplaced");
    assert_eq!(e.answer, Some(ParameterProblem::NextHeader));
}

#[test]
fn the_walk_stops_behind_a_fragment_header() {
    let f = Ipv6Fragment { next_header: 17, offset: 1232, more: true, ident: 0xdead_beef };
    let mut b = [0; 16];
    f.emit(&mut b);
    let e = Extensions::parse(proto::FRAGMENT, &b).expect("legal");
    assert_eq!((e.fragment, e.upper, e.len), (Some(f), 17, 8));
}
