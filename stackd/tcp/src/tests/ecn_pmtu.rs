//! Explicit congestion notification (RFC 3168) and paths that take less than was thought.

use super::segments::{ISS, Test, seg};
use crate::cc::CaState;
use crate::{Config, Connection, EcnMode, FlowParams, IcmpError, IcmpKind, IpEcn};
use stackd_base::{Duration, Instant, Mib, SeqNum};
use stackd_wire::{EcnCodepoint, TcpFlags, TcpOptions, TcpRepr};

fn plain() -> Config {
    Config { timestamps: false, congestion: "reno", ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const SETUP: TcpFlags = TcpFlags::ECE;

fn with_ecn() -> Test {
    let mut t = Test::connect(Config { ecn: EcnMode::On, ..plain() });
    t.expect(seg().seq(0).syn().flag(TcpFlags::ECE).flag(TcpFlags::CWR)).after(ms(10));
    let o = TcpOptions { mss: Some(1000), sack_permitted: true, ..TcpOptions::NONE };
    t.recv(seg().seq(0).ack(1).syn().flag(SETUP).options(o)).expect(seg().seq(1).ack(1));
    t
}

#[test]
fn ecn_is_negotiated_and_data_is_marked_capable_but_acks_and_retransmissions_are_not() {
    let mut t = with_ecn();
    t.write(5000);
    assert!(t.drain().iter().all(|o| o.ecn == EcnCodepoint::Ect0));
    t.after(ms(10)).recv(seg().ack(1).sack(1001, 5001));
    let again = t.drain();
    assert!(again.iter().any(|o| o.is_retransmit));
    assert!(again.iter().all(|o| o.ecn == EcnCodepoint::NotEct));
    t.recv(seg().seq(1).ack(1).len(100));
    assert!(t.drain().iter().all(|o| o.ecn == EcnCodepoint::NotEct));
}

/// RFC 3168, 6.1.2: one reduction a round trip, CWR on the next new data; held until more than that round is acknowledged, so that the
/// receiver has seen CWR.
#[test]
fn an_echo_reduces_once_a_round_trip_and_is_answered_by_cwr() {
    let mut t = with_ecn();
    t.write(10_000);
    t.drain();
    t.write(40_000).after(ms(10)).recv(seg().ack(2001).flag(TcpFlags::ECE));
    assert_eq!(t.end.conn.ca_state, CaState::Cwr);
    let ssthresh = t.end.conn.ssthresh;
    assert!(ssthresh <= 6, "{ssthresh}");
    for ack in 3..=10 {
        t.recv(seg().ack(ack * 1000 + 1).flag(TcpFlags::ECE));
        for (i, o) in t.drain().iter().enumerate() {
            let first = o.payload.as_ref().is_some_and(|p| p.start == 10_000);
            assert_eq!(o.repr.flags.contains(TcpFlags::CWR), first, "{ack} {i}");
        }
    }
    assert_eq!((t.end.conn.ca_state, t.end.conn.ssthresh), (CaState::Cwr, ssthresh));
    t.after(ms(10)).recv(seg().ack(11_001));
    assert_eq!((t.end.conn.ca_state, t.end.conn.ssthresh), (CaState::Open, ssthresh));
}

#[test]
fn ce_is_echoed_on_every_ack_until_cwr() {
    let mut t = with_ecn();
    t.ecn = IpEcn::Ce;
    t.recv(seg().seq(1).ack(1).len(1000)).expect(seg().ack(1001).flag(TcpFlags::ECE));
    t.ecn = IpEcn::Ect0;
    t.recv(seg().seq(1001).ack(1).len(1000)).expect(seg().ack(2001).flag(TcpFlags::ECE));
    t.recv(seg().seq(2001).ack(1).len(1000).flag(TcpFlags::CWR)).expect(seg().ack(3001));
}

/// The SYN that goes without ECN is the second; an ECN-setup answer may be the first one's, and the peer will mark its data.
#[test]
fn an_ecn_setup_answer_to_either_syn_counts() {
    let mut t = Test::connect(Config { ecn: EcnMode::On, ..plain() });
    t.expect(seg().syn().flag(TcpFlags::ECE).flag(TcpFlags::CWR)).after(ms(1001)).expect(seg().syn());
    t.recv(seg().seq(0).ack(1).syn().flag(TcpFlags::ECE));
    assert!(t.end.conn.opts.ecn);
}

#[test]
fn an_ecn_setup_syn_is_answered_in_kind() {
    let cfg = plain();
    let syn = TcpRepr {
        src_port: 2,
        dst_port: 1,
        seq: SeqNum(5),
        ack: None,
        flags: TcpFlags::SYN | TcpFlags::ECE | TcpFlags::CWR,
        window: 1000,
        urgent: 0,
        options: TcpOptions::NONE,
    };
    let c = Connection::accept(&cfg, FlowParams::new(1, 2), SeqNum(9), &syn, Instant::from_nanos(1));
    assert!(c.opts.ecn);
    let off = Config { ecn: EcnMode::Off, ..plain() };
    assert!(!Connection::accept(&off, FlowParams::new(1, 2), SeqNum(9), &syn, Instant::from_nanos(1)).opts.ecn);
}

/// RFC 1191, 6.3: what did not fit is cut anew, at once, and no congestion is inferred from it, not even when an ACK comes in between.
#[test]
fn a_smaller_path_mtu_re_segments_without_a_reduction() {
    let mut t = Test::established(plain());
    t.write(8000);
    t.drain();
    let bytes = t.end.conn.cwnd * 1000;
    let (now, seq) = (t.now, SeqNum(ISS) + 1);
    t.end.with(|c, env| c.handle_icmp(now, IcmpError { seq, kind: IcmpKind::TooBig { mss: 500 } }, env));
    // Half of it fits the window at once; an ACK of the first pieces lets more go.
    let mut resent = Vec::new();
    let mut una = 0u64;
    while una < 8000 {
        for o in t.drain() {
            let p = o.payload.clone().expect("data");
            assert!(o.gso_size == 500 || p.end - p.start <= 500, "{o:?}");
            assert!(o.is_retransmit || p.start >= 8000);
            resent.push(p.clone());
        }
        una = (una + 2000).min(8000);
        t.after(ms(10)).recv(seg().ack(una as u32 + 1));
    }
    assert_eq!(resent.iter().map(|p| p.end - p.start).sum::<u64>(), 8000, "{resent:?}");
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSackRecovery), 0);
    assert_eq!(t.end.conn.ssthresh, u32::MAX);
    assert!(t.end.conn.cwnd * 500 >= bytes, "{} of {bytes}", t.end.conn.cwnd * 500);
    assert_eq!(t.end.conn.ca_state, CaState::Open);
}

#[test]
fn a_packet_too_big_about_what_was_not_sent_is_ignored() {
    let mut t = Test::established(plain());
    t.write(2000);
    t.drain();
    let now = t.now;
    for seq in [SeqNum(ISS) - 1000, SeqNum(ISS) + 90_000] {
        t.end.with(|c, env| c.handle_icmp(now, IcmpError { seq, kind: IcmpKind::TooBig { mss: 500 } }, env));
    }
    assert_eq!(t.end.conn.mss, 1000);
    assert_eq!(t.end.mib.get(Mib::TcpExtOutOfWindowIcmps), 2);
}
