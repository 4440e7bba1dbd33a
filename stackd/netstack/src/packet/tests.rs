use super::*;
use stackd_base::SeqNum;
use stackd_wire::{Ipv4Repr, Ipv6Repr, tcp};
use std::net::{Ipv4Addr, Ipv6Addr};

const MSS: u16 = 1000;

/// A GSO packet of `len` payload bytes with every flag that must be placed with care.
fn gso(len: u64, v6: bool, fifo: bool) -> Packet {
    let ip_header = if v6 { 40 } else { 20 };
    let t = 14 + ip_header;
    let repr = TcpRepr {
        src_port: 1,
        dst_port: 2,
        seq: SeqNum(u32::MAX - 500),
        ack: Some(SeqNum(7)),
        flags: TcpFlags::FIN | TcpFlags::PSH | TcpFlags::CWR,
        window: 9,
        ..TcpRepr::default()
    };
    let mut head = HeaderBuf::zeroed(t + repr.header_len());
    repr.emit(&mut head[t..]);
    let payload = if fifo {
        Payload::Stream { fifo: FifoId(3), range: 100..100 + len }
    } else {
        Payload::Owned((0..len).map(|i| i as u8).collect())
    };
    if v6 {
        let ip = Ipv6Repr {
            src: Ipv6Addr::LOCALHOST,
            dst: Ipv6Addr::LOCALHOST,
            next_header: proto::TCP,
            hop_limit: 64,
            traffic_class: 2,
            flow_label: 5,
            payload_len: (20 + len) as u16,
        };
        ip.emit(&mut head[14..]);
    } else {
        let ip = Ipv4Repr {
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
            protocol: proto::TCP,
            ttl: 64,
            tos: 2,
            ident: 0xffff,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            payload_len: (20 + len) as u16,
        };
        ip.emit(&mut head[14..]);
    }
    let mut p = Packet::new(head, payload);
    (p.protocol, p.transport_at) = (proto::TCP, t as u8);
    p.offload.csum = Some((t as u16, tcp::CHECKSUM_AT));
    p.offload.gso = if v6 { Gso::TcpV6 } else { Gso::TcpV4 };
    p.offload.gso_size = MSS;
    p.fix_lengths();
    p
}

fn pieces(mut p: Packet) -> Vec<Packet> {
    let mut out = Vec::new();
    while let Some(first) = p.split_first() {
        out.push(first);
    }
    out.push(p);
    out
}

#[test]
fn wire_length_counts_headers_once_a_segment() {
    let p = gso(2500, false, true);
    assert_eq!((p.segments(), p.wire_len()), (3, 2500 + 3 * 54));
    assert_eq!(gso(1000, false, true).segments(), 1);
}

#[test]
fn pieces_are_contiguous_and_flags_stand_where_they_belong() {
    let ps = pieces(gso(2500, false, true));
    assert_eq!(ps.len(), 3);
    let flags: Vec<_> = ps.iter().map(|p| p.tcp().expect("tcp").flags).collect();
    assert_eq!(flags, [TcpFlags::CWR, TcpFlags::NONE, TcpFlags::FIN | TcpFlags::PSH]);
    let seqs: Vec<_> = ps.iter().map(|p| p.tcp().expect("tcp").seq.0).collect();
    assert_eq!(seqs, [u32::MAX - 500, 499, 1499]);
    let ranges: Vec<_> = ps.iter().map(|p| p.payload.clone()).collect();
    let stream = |range| Payload::Stream { fifo: FifoId(3), range };
    assert_eq!(ranges, [stream(100..1100), stream(1100..2100), stream(2100..2600)]);
    let ids: Vec<_> = ps.iter().map(|p| Ipv4Repr::parse(&p.head[14..], p.ip_len()).expect("ip").0.ident).collect();
    assert_eq!(ids, [0xffff, 0, 1]);
    assert!(ps.iter().all(|p| p.segments() == 1 && p.offload.gso == Gso::None));
}

#[test]
fn every_piece_has_a_right_checksum_once_completed() {
    for v6 in [false, true] {
        for p in pieces(gso(2500, v6, false)) {
            let Payload::Owned(bytes) = &p.payload else { panic!("owned payload stays owned") };
            let mut frame = Vec::new();
            p.write_frame(bytes, &mut frame);
            let (src, dst) = p.addresses().expect("ip");
            let t = usize::from(p.transport_at);
            assert!(tcp::verify(&frame[t..t + 20], src, dst, Sum::of(bytes), bytes.len()));
        }
    }
}

#[test]
fn ce_marking_keeps_the_header_valid() {
    let mut p = gso(10, false, true);
    assert!(p.ecn_capable());
    p.mark_ce();
    let (ip, _) = Ipv4Repr::parse(&p.head[14..], p.ip_len()).expect("checksum fixed");
    assert_eq!(ip.tos, 3);
    let mut p = gso(10, true, true);
    p.mark_ce();
    assert_eq!(Ipv6Repr::parse(&p.head[14..], p.ip_len()).expect("ip").0.traffic_class, 3);
}

#[test]
fn corruption_flips_one_bit_behind_the_link_header_and_the_checksum_catches_it() {
    let mut p = gso(100, false, false);
    p.offload.gso_size = 0;
    let Payload::Owned(bytes) = p.payload.clone() else { panic!("owned") };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    p.write_frame(&bytes, &mut good);
    for random in [0u64, 12345, u64::MAX] {
        bad.clear();
        p.corrupt(random);
        p.write_frame(&bytes, &mut bad);
        let flipped: u32 = good.iter().zip(&bad).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((flipped, good[..14] == bad[..14]), (1, true));
    }
}

/// A frame that the device could not segment was reported as left once for every piece: its connection then counted fewer frames below
/// itself than there were, and the limit that keeps it below fq's `flow_limit` did not hold. netem's duplicates were reported too, and took
/// bytes of others off the small-queue account.
#[test]
fn a_frame_leaves_once_however_it_is_cut_and_a_copy_never_does() {
    let mut rest = gso(3500, false, true);
    let mut copy = rest.duplicate().expect("a copy");
    let mut left = Vec::new();
    while let Some(piece) = rest.split_first() {
        left.push(piece.accounting);
    }
    left.push(rest.accounting);
    use Accounting::{Copy, Frame, Piece};
    assert_eq!(left, [Piece, Piece, Piece, Frame]);
    assert_eq!(copy.split_first().map(|p| p.accounting), Some(Copy));
    assert_eq!(copy.accounting, Copy);
}
