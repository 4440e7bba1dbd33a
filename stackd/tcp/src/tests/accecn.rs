//! Accurate ECN (RFC 9768), a segment at a time.

use super::link::End;
use super::segments::{ISS, PEER, Seg, Test, seg};
use crate::cc::CaState;
use crate::connection::accecn::{ace_flags, ace_of, fail};
use crate::{Config, Connection, EcnMode, FlowParams, IpEcn, SegmentOut, State};
use stackd_base::{Duration, Instant, Mib, SeqNum};
use stackd_wire::{AccEcnOption, TcpFlags, TcpOptions, TcpRepr, Timestamps};

const MARKS: [IpEcn; 4] = [IpEcn::NotEct, IpEcn::Ect1, IpEcn::Ect0, IpEcn::Ce];
/// RFC 9768, tables 2 and 3, in that order.
const HANDSHAKE: [u8; 4] = [0b010, 0b011, 0b100, 0b110];

fn cfg(ecn: EcnMode) -> Config {
    Config { timestamps: false, congestion: "reno", ecn, ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn ace(n: u8) -> TcpFlags {
    ace_flags(n)
}

fn zero_option() -> AccEcnOption {
    AccEcnOption { order1: false, count: 3, counters: [1, 0, 1] }
}

/// As we send it: ECT(1) first.
fn our_zero_option() -> AccEcnOption {
    AccEcnOption { order1: true, ..zero_option() }
}

/// Segments of 1000 bytes have the option's 12 besides.
fn synack_options() -> TcpOptions {
    TcpOptions { mss: Some(1012), sack_permitted: true, accecn: Some(zero_option()), ..TcpOptions::NONE }
}

/// A client that got a SYN-ACK with these flags, marked so.
fn client(flags: u8, mark: IpEcn) -> Test {
    let mut t = Test::connect_over(cfg(EcnMode::Accurate), FlowParams { port_paces: false, ..FlowParams::new(1, 2) });
    t.expect(seg().seq(0).syn().flag(ace(0b111))).after(ms(10));
    t.ecn = mark;
    t.recv(seg().seq(0).ack(1).syn().flag(ace(flags)).options(synack_options()));
    t.ecn = IpEcn::NotEct;
    t
}

/// An established client; nothing was marked.
fn established() -> Test {
    let mut t = client(0b010, IpEcn::NotEct);
    t.expect(seg().seq(1).ack(1).flag(ace(0b010)));
    t
}

/// A server that got a SYN with these flags, marked so.
fn server(mode: EcnMode, flags: u8, mark: IpEcn) -> Test {
    let (now, cfg) = (Instant::from_nanos(5_000_000_000), cfg(mode));
    let syn = TcpRepr {
        src_port: 2,
        dst_port: 1,
        seq: SeqNum(PEER),
        flags: TcpFlags::SYN | ace(flags),
        window: 20_000,
        options: TcpOptions { mss: Some(1000), sack_permitted: true, ..TcpOptions::NONE },
        ..TcpRepr::default()
    };
    let flow = FlowParams { port_paces: false, ..FlowParams::new(1, 2) };
    let mut conn = Connection::accept(&cfg, flow, SeqNum(ISS), &syn, now);
    conn.note_syn_ecn(mark);
    Test::over(End::new(conn, cfg, 9), now)
}

fn mode(t: &Test) -> u8 {
    t.end.conn.info(t.now, &t.end.cfg).accecn.mode
}

fn failures(t: &Test) -> u8 {
    t.end.conn.info(t.now, &t.end.cfg).accecn.fail_mode
}

/// The ACE field of the next segment.
fn next_ace(t: &mut Test) -> (u8, SegmentOut) {
    let out = t.next().expect("a segment");
    (ace_of(out.repr.flags), out)
}

fn ack(n: u32, ace_field: u8) -> Seg {
    seg().ack(n).flag(ace(ace_field))
}

#[test]
fn rfc9768_table_2_each_syn_ack_means_what_it_says() {
    // 0 not ECN, 1 RFC 3168, 2 AccECN. (1,0,1) is reserved: 3.1.3.
    for (flags, want) in
        [(0b000, 0), (0b001, 1), (0b010, 2), (0b011, 2), (0b100, 2), (0b101, 2), (0b110, 2), (0b111, 0)]
    {
        let t = client(flags, IpEcn::NotEct);
        assert_eq!(mode(&t), want, "{flags:03b}");
        assert_eq!(t.end.conn.state(), State::Established);
    }
}

/// MSS, SACK and window scale take 12 bytes, a TCP-MD5 signature 20: a fuzzer found three counters (12 bytes) beside them, which are 44 bytes
/// where a header has 40.
#[test]
fn beside_a_signature_a_syn_ack_reports_the_counters_that_fit() {
    for (signature, timestamps, want) in
        [(0, true, Some(3)), (20, false, Some(2)), (20, true, None), (16, true, Some(1))]
    {
        let now = Instant::from_nanos(5_000_000_000);
        let cfg = Config { timestamps, ..cfg(EcnMode::Accurate) };
        let offered = Timestamps { tsval: 1, tsecr: 0 };
        let options = TcpOptions {
            mss: Some(1000),
            sack_permitted: true,
            window_scale: Some(2),
            timestamps: timestamps.then_some(offered),
            ..TcpOptions::NONE
        };
        let flags = TcpFlags::SYN | ace(0b111);
        let syn = TcpRepr {
            src_port: 2,
            dst_port: 1,
            seq: SeqNum(PEER),
            flags,
            window: 20_000,
            options,
            ..TcpRepr::default()
        };
        let flow = FlowParams { port_paces: false, signature, ..FlowParams::new(1, 2) };
        let conn = Connection::accept(&cfg, flow, SeqNum(ISS), &syn, now);
        let (_, out) = next_ace(&mut Test::over(End::new(conn, cfg, 9), now));
        let o = out.repr.options;
        assert_eq!(o.accecn.map(|a| a.count), want, "{signature} {timestamps}");
        assert!(o.len() + usize::from(signature) <= 40, "{} bytes beside {signature}", o.len());
    }
}

/// RFC 6691, 2: options are subtracted from the MSS, however small it is; Linux keeps eight bytes for data. A fuzzer found segments of 60 bytes
/// where the peer had said 48.
#[test]
fn the_least_mss_holds_timestamps_and_counters_too() {
    let now = Instant::from_nanos(5_000_000_000);
    let cfg = Config { timestamps: true, ..cfg(EcnMode::Accurate) };
    let timestamps = Some(Timestamps { tsval: 1, tsecr: 0 });
    let options = TcpOptions { mss: Some(48), sack_permitted: true, timestamps, ..TcpOptions::NONE };
    let flags = TcpFlags::SYN | ace(0b111);
    let syn =
        TcpRepr { src_port: 2, dst_port: 1, seq: SeqNum(PEER), flags, window: 20_000, options, ..TcpRepr::default() };
    let flow = FlowParams { port_paces: false, ..FlowParams::new(1, 2) };
    let mut t = Test::over(End::new(Connection::accept(&cfg, flow, SeqNum(ISS), &syn, now), cfg, 9), now);
    t.next().expect("a SYN-ACK");
    let accecn = Some(zero_option());
    t.recv(ack(1, 0b010).options(TcpOptions { timestamps, accecn, ..TcpOptions::NONE })).write(1000);
    let out = t.next().expect("data");
    let payload = out.payload.map_or(0, |r| r.end - r.start);
    let one = if out.gso_size == 0 { payload } else { u64::from(out.gso_size) };
    assert!(out.repr.options.accecn.is_some(), "{:?}", out.repr.options);
    assert_eq!(one + out.repr.options.len() as u64, 48, "{one} bytes of data");
}

#[test]
fn rfc9768_table_2_and_3_1_3_each_syn_is_answered_in_kind() {
    for (how, flags, mode_wanted, answer) in [
        (EcnMode::Accurate, 0b000, 0, 0b000),
        (EcnMode::Accurate, 0b011, 1, 0b001),
        (EcnMode::Accurate, 0b111, 2, 0b010),
        (EcnMode::AccuratePassive, 0b111, 2, 0b010),
        (EcnMode::AccurateAccept, 0b111, 2, 0b010),
        (EcnMode::Accurate, 0b001, 2, 0b010),
        (EcnMode::Accurate, 0b010, 2, 0b010),
        (EcnMode::Accurate, 0b100, 2, 0b010),
        (EcnMode::Accurate, 0b101, 2, 0b010),
        (EcnMode::Accurate, 0b110, 2, 0b010),
        (EcnMode::On, 0b011, 1, 0b001),
        (EcnMode::On, 0b111, 1, 0b001),
        (EcnMode::Passive, 0b111, 1, 0b001),
        (EcnMode::Passive, 0b101, 0, 0b000),
        (EcnMode::Off, 0b111, 0, 0b000),
        (EcnMode::Off, 0b011, 0, 0b000),
    ] {
        let mut t = server(how, flags, IpEcn::NotEct);
        let (field, out) = next_ace(&mut t);
        assert_eq!((mode(&t), field), (mode_wanted, answer), "{how:?} {flags:03b}");
        assert_eq!(out.repr.options.accecn, (mode_wanted == 2).then(our_zero_option));
    }
}

#[test]
fn what_each_mode_asks_for() {
    for (how, flags) in [
        (EcnMode::Off, 0),
        (EcnMode::On, 0b011),
        (EcnMode::Passive, 0),
        (EcnMode::Accurate, 0b111),
        (EcnMode::AccuratePassive, 0b011),
        (EcnMode::AccurateAccept, 0),
    ] {
        let mut t = Test::connect(cfg(how));
        assert_eq!(next_ace(&mut t).0, flags, "{how:?}");
    }
}

#[test]
fn rfc9768_table_2_the_syn_ack_says_how_the_syn_arrived() {
    for (mark, field) in MARKS.into_iter().zip(HANDSHAKE) {
        let mut t = server(EcnMode::Accurate, 0b111, mark);
        assert_eq!(next_ace(&mut t).0, field, "{mark:?}");
        // 3.2.2.2: "MUST NOT increment r.cep" for a CE-marked SYN.
        t.recv(ack(1, 0b010)).recv(seg().seq(1).ack(1).len(100).flag(ace(5)));
        assert_eq!(next_ace(&mut t).0, 5);
    }
}

#[test]
fn rfc9768_table_3_the_ack_says_how_the_syn_ack_arrived() {
    for (mark, field) in MARKS.into_iter().zip(HANDSHAKE) {
        let mut t = client(0b010, mark);
        t.write(10);
        let (got, out) = next_ace(&mut t);
        assert_eq!(
            (got, out.payload, out.repr.options.accecn.is_some()),
            (field, None, true),
            "a pure ACK, before data"
        );
        // r.cep is 5, or 6 after a CE mark.
        assert_eq!(next_ace(&mut t).0, if mark == IpEcn::Ce { 6 } else { 5 });
    }
}

#[test]
fn rfc9768_table_4_each_value_on_the_ack_of_the_syn_ack() {
    for (field, ect, delivered) in [
        (0b000, false, 0),
        (0b001, true, 0),
        (0b010, true, 0),
        // Our SYN-ACK was Not-ECT: other reports are invalid transitions (3.2.2.3).
        (0b011, false, 0),
        (0b100, false, 0),
        (0b101, true, 0),
        (0b110, false, 1),
        (0b111, true, 0),
    ] {
        let mut t = server(EcnMode::Accurate, 0b111, IpEcn::NotEct);
        t.drain();
        t.recv(ack(1, field)).write(100);
        let out = t.drain();
        let data = out.iter().find(|o| o.payload.is_some()).expect("data");
        assert_eq!(data.ecn == IpEcn::Ect0, ect, "{field:03b}");
        assert_eq!(failures(&t) & fail::ACE_RECV != 0, !ect, "{field:03b}");
        assert_eq!(t.end.conn.accurate().map(|a| a.delivered_ce), Some(delivered), "{field:03b}");
        assert_eq!(ace_of(data.repr.flags), 5, "3.2.2.1, note 1: as a data receiver it goes on");
    }
}

#[test]
fn rfc9768_3_2_2_3_a_mangled_syn_stops_ect_unless_fallback_is_off() {
    for (fallback, ecn) in [(true, IpEcn::NotEct), (false, IpEcn::Ect0)] {
        let mut t = Test::connect(Config { ecn_fallback: fallback, ..cfg(EcnMode::Accurate) });
        t.next();
        t.recv(seg().seq(0).ack(1).syn().flag(ace(0b100)).options(synack_options()));
        t.write(100);
        assert_eq!(t.drain().last().map(|o| o.ecn), Some(ecn));
    }
}

#[test]
fn rfc9768_3_1_4_1_a_syn_asks_twice_and_then_no_more() {
    let mut t = Test::connect(cfg(EcnMode::Accurate));
    assert_eq!(next_ace(&mut t).0, 0b111);
    assert_eq!(next_ace(t.after(ms(1001))).0, 0b111);
    assert_eq!(next_ace(t.after(ms(2001))).0, 0);
    // An answer to one of the first two still counts (3.1.4.1).
    t.recv(seg().seq(0).ack(1).syn().flag(ace(0b010)));
    assert_eq!(mode(&t), 2);
    let mut classic = Test::connect(cfg(EcnMode::On));
    assert_eq!(next_ace(&mut classic).0, 0b011);
    assert_eq!(next_ace(classic.after(ms(1001))).0, 0, "RFC 3168, 6.1.1.1");
    let mut stubborn = Test::connect(Config { ecn_fallback: false, ..cfg(EcnMode::Accurate) });
    for _ in 0..4 {
        assert_eq!(next_ace(&mut stubborn).0, 0b111);
        stubborn.after(Duration::from_secs(16));
    }
}

#[test]
fn rfc9768_3_2_3_2_2_a_syn_ack_again_goes_without_option_then_without_ecn() {
    let mut t = server(EcnMode::Accurate, 0b111, IpEcn::NotEct);
    assert!(t.next().is_some_and(|o| o.repr.options.accecn.is_some()));
    let (field, out) = next_ace(t.after(ms(1001)));
    assert_eq!((field, out.repr.options.accecn), (0b010, None));
    let (field, _) = next_ace(t.after(ms(2001)));
    assert_eq!(field, 0);
    // 3.1.5: a server that sent (0,0,0) "MUST NOT set ECT on any packet for the rest of the connection".
    t.recv(ack(1, 0b010)).write(100);
    assert!(t.drain().iter().all(|o| o.ecn == IpEcn::NotEct));
    assert_eq!(mode(&t), 2, "but the mode does not change");
}

#[test]
fn rfc9768_3_1_5_the_latest_syn_is_reflected_and_a_plain_one_forbids_ect() {
    let mut t = server(EcnMode::Accurate, 0b111, IpEcn::NotEct);
    assert_eq!(next_ace(&mut t).0, 0b010);
    t.ecn = IpEcn::Ect1;
    t.recv(seg().seq(0).syn().flag(ace(0b111)));
    assert_eq!(next_ace(&mut t).0, 0b011);
    t.ecn = IpEcn::NotEct;
    t.recv(seg().seq(0).syn());
    assert_eq!(next_ace(&mut t).0, 0b010, "acknowledged by an AccECN SYN/ACK");
    t.recv(ack(1, 0b010)).write(100);
    assert!(t.drain().iter().all(|o| o.ecn == IpEcn::NotEct));
}

#[test]
fn rfc9768_3_1_5_two_kinds_of_ecn_in_one_handshake_are_reset() {
    for (first, second) in [(0b111, 0b011), (0b011, 0b111)] {
        let mut t = server(EcnMode::Accurate, first, IpEcn::NotEct);
        t.drain();
        t.recv(seg().seq(0).syn().flag(ace(second)));
        assert!(t.drain().iter().any(|o| o.repr.flags.rst()), "{first:03b} then {second:03b}");
        assert_eq!(t.end.conn.state(), State::Closed);
    }
}

/// A host without Accurate ECN answers (1,1,1) as RFC 3168's SYN; the same SYN again, doubled on the way, was taken for a second kind of ECN, and the
/// connection reset (found by the simulation, seed 435).
#[test]
fn an_accecn_syn_twice_is_the_same_to_a_host_without_accecn() {
    for how in [EcnMode::On, EcnMode::Passive] {
        let mut t = server(how, 0b111, IpEcn::NotEct);
        assert_eq!(next_ace(&mut t).0, 0b001);
        t.recv(seg().seq(0).syn().flag(ace(0b111)));
        assert!(t.drain().iter().all(|o| !o.repr.flags.rst()), "{how:?}");
        assert_eq!(t.end.conn.state(), State::SynReceived);
    }
}

/// RFC 9768, 3.2: every CE-marked packet counts, pure ACKs too; the three bits wrap.
#[test]
fn each_mark_is_in_the_field_of_the_next_ack() {
    let mut t = established();
    t.end.cfg.quickack = true;
    for n in 0..20u32 {
        t.ecn = IpEcn::Ce;
        t.recv(seg().seq(1 + n * 1000).ack(1).len(1000).flag(ace(5)));
        let fields: Vec<u8> = t.drain().iter().map(|o| ace_of(o.repr.flags)).collect();
        assert_eq!(fields.last(), Some(&((6 + n) % 8).try_into().expect("three bits")), "mark {n}");
    }
    t.recv(seg().seq(20_001).ack(1).flag(ace(5)));
    let info = t.end.conn.info(t.now, &t.end.cfg).accecn;
    assert_eq!((info.received_ce, info.received_bytes), (21, [0, 0, 20_000]));
}

#[test]
fn rfc9768_3_2_2_5_1_a_change_of_the_mark_is_acknowledged_at_once() {
    let mut t = established();
    t.end.cfg.quickack = false;
    t.ecn = IpEcn::Ect0;
    t.recv(seg().seq(1).ack(1).len(1000)).drain();
    t.recv(seg().seq(1001).ack(1).len(1000)).drain();
    t.end.conn.ack.quick = 0;
    t.end.conn.ack.pingpong = true;
    t.recv(seg().seq(2001).ack(1).len(100)).quiet();
    t.ecn = IpEcn::Ce;
    t.recv(seg().seq(2101).ack(1).len(100)).expect(seg().ack(2201).flag(ace(6)));
}

/// RFC 9768, 3.2.3: bytes by mark, beginning at 1, 0 and 1, 24 bits each.
#[test]
fn the_option_says_how_many_bytes_arrived_with_each_mark() {
    let mut t = established();
    for (n, mark) in [IpEcn::Ect0, IpEcn::Ce, IpEcn::Ect1].into_iter().enumerate() {
        t.ecn = mark;
        t.recv(seg().seq(1 + 1000 * n as u32).ack(1).len(1000).flag(ace(5)));
    }
    let last = t.drain().pop().expect("an ACK").repr.options.accecn.expect("an option");
    assert_eq!(last, AccEcnOption { order1: true, count: 3, counters: [1001, 1000, 1001] });
    t.ecn = IpEcn::Ect0;
    t.recv(seg().seq(3001).ack(1).len(500).flag(ace(5)));
    let last = t.drain().pop().expect("an ACK").repr.options.accecn.expect("an option");
    assert_eq!(last, AccEcnOption { order1: true, count: 3, counters: [1001, 1000, 1501] });
}

#[test]
fn the_option_is_sent_as_the_sysctl_says_and_only_to_a_peer_that_sent_one() {
    let count = |option: u8, beacon: u32, peer_has: bool| {
        let c = Config { ecn_option: option, ecn_option_beacon: beacon, ..cfg(EcnMode::Accurate) };
        let mut t = Test::connect(c);
        t.next();
        let accecn = peer_has.then(zero_option);
        t.after(ms(10))
            .recv(seg().seq(0).ack(1).syn().flag(ace(0b010)).options(TcpOptions { accecn, ..synack_options() }));
        t.ecn = IpEcn::Ect0;
        let mut acks = t.drain();
        for n in 0..20u32 {
            t.after(ms(1)).recv(seg().seq(1 + n * 100).ack(1).len(100).flag(ace(5)));
            acks.extend(t.drain());
        }
        let with = acks.iter().filter(|o| o.repr.options.accecn.is_some()).count();
        if with == acks.len() { usize::MAX } else { with }
    };
    assert_eq!(count(2, 3, true), usize::MAX, "every ACK");
    assert_eq!(count(2, 3, false), 0, "RFC 9768, 3.2.3.2.1");
    assert_eq!(count(0, 3, true), 0);
    let (sparing, beacon) = (count(1, 0, true), count(1, 3, true));
    assert!((2..=4).contains(&sparing), "{sparing}: after the handshake, and when the mark changed");
    // Three times in 10 ms, over 20 ms.
    assert!((6..=9).contains(&beacon), "{beacon}");
}

#[test]
fn marks_reported_reduce_once_a_round_trip_and_cwr_is_never_set() {
    let mut t = established();
    t.write(10_000);
    assert!(t.drain().iter().all(|o| o.ecn == IpEcn::Ect0));
    t.write(60_000).after(ms(10)).recv(ack(2001, 6));
    assert_eq!(t.end.conn.ca_state, CaState::Cwr);
    let ssthresh = t.end.conn.ssthresh;
    assert!(ssthresh <= 6, "{ssthresh}");
    for n in 3..=10u32 {
        t.recv(ack(n * 1000 + 1, ((5 + n - 1) % 8) as u8));
        for o in t.drain() {
            assert_eq!(ace_of(o.repr.flags), 5, "our field counts what we received");
        }
    }
    assert_eq!((t.end.conn.ca_state, t.end.conn.ssthresh), (CaState::Cwr, ssthresh));
    let info = t.end.conn.info(t.now, &t.end.cfg);
    assert_eq!((info.delivered_ce, t.end.mib.get(Mib::TcpExtTCPDeliveredCE)), (9, 9));
    assert_eq!(info.options & 8, 8);
}

#[test]
fn the_peers_option_counts_bytes_and_resolves_what_three_bits_cannot() {
    let mut t = established();
    t.write(10_000);
    t.drain();
    let option = |e0: u32, ce: u32| TcpOptions {
        accecn: Some(AccEcnOption { order1: false, count: 3, counters: [1 + e0, ce, 1] }),
        ..TcpOptions::NONE
    };
    // Ten packets at once; the field says 2, or 10: all were marked.
    t.after(ms(10)).recv(ack(10_001, 7).options(option(0, 10_000)));
    let info = t.end.conn.info(t.now, &t.end.cfg);
    assert_eq!((info.delivered_ce, info.accecn.delivered_bytes), (10, [0, 0, 10_000]));
    let mut t = established();
    t.write(10_000);
    t.drain();
    t.after(ms(10)).recv(ack(10_001, 7).options(option(8000, 2000)));
    assert_eq!(t.end.conn.info(t.now, &t.end.cfg).delivered_ce, 2);
    let mut t = established();
    t.write(10_000);
    t.drain();
    t.after(ms(10)).recv(ack(10_001, 7));
    assert_eq!(t.end.conn.info(t.now, &t.end.cfg).delivered_ce, 10, "A.2.1: without bytes, the worst that fits");
}

#[test]
fn rfc9768_3_2_3_2_4_a_zeroed_option_is_not_believed() {
    let mut t = Test::connect(cfg(EcnMode::Accurate));
    t.next();
    let zeroed = AccEcnOption { counters: [0; 3], ..zero_option() };
    t.recv(seg().seq(0).ack(1).syn().flag(ace(0b010)).options(TcpOptions { accecn: Some(zeroed), ..synack_options() }));
    t.drain();
    let info = t.end.conn.info(t.now, &t.end.cfg).accecn;
    assert_eq!((info.mode, info.opt_seen, info.fail_mode), (2, 3, fail::OPT_RECV));
    t.write(3000);
    t.drain();
    t.recv(ack(3001, 6).options(TcpOptions { accecn: Some(zeroed), ..TcpOptions::NONE }));
    let info = t.end.conn.info(t.now, &t.end.cfg);
    assert_eq!((info.delivered_ce, info.accecn.delivered_bytes), (1, [0; 3]), "the field still counts");
}

#[test]
fn an_overtaken_ack_reports_nothing() {
    let mut t = established();
    t.write(5000);
    t.drain();
    t.after(ms(10)).recv(ack(3001, 7)).recv(ack(2001, 6));
    assert_eq!(t.end.conn.info(t.now, &t.end.cfg).delivered_ce, 2);
    t.recv(ack(5001, 7));
    assert_eq!(t.end.conn.info(t.now, &t.end.cfg).delivered_ce, 2);
}

#[test]
fn a_repeated_syn_ack_is_answered_in_the_handshakes_encoding() {
    let mut t = established();
    t.ecn = IpEcn::Ect0;
    t.after(ms(1000)).recv(seg().seq(0).ack(1).syn().flag(ace(0b010)));
    assert_eq!(next_ace(&mut t).0, 0b100);
    // And a server that gets such an ACK late does not take it for a counter.
    let mut t = server(EcnMode::Accurate, 0b111, IpEcn::NotEct);
    t.drain();
    t.recv(ack(1, 0b010)).write(1000).drain();
    t.recv(ack(1, 0b010));
    assert_eq!(t.end.conn.info(t.now, &t.end.cfg).delivered_ce, 0);
}

/// A segmenting device sets CWR on the first segment alone: here that would make two numbers of one.
#[test]
fn a_field_with_the_cwr_bit_is_not_left_to_a_segmenting_device() {
    let mut t = established();
    t.ecn = IpEcn::Ce;
    t.write(10_000);
    assert!(t.drain().iter().any(|o| o.gso_size > 0), "5 = 0b101");
    t.recv(seg().seq(1).ack(10_001).len(10).flag(ace(5)));
    t.write(20_000);
    let out = t.drain();
    assert!(out.iter().any(|o| o.payload.is_some()) && out.iter().all(|o| o.gso_size == 0), "6 = 0b110");
}

#[test]
fn with_accurate_ecn_all_segments_are_ect() {
    let mut t = established();
    t.write(5000);
    t.drain();
    t.after(ms(10)).recv(ack(1, 5).sack(1001, 5001));
    let again = t.drain();
    assert!(again.iter().any(|o| o.is_retransmit) && again.iter().all(|o| o.ecn == IpEcn::Ect0));
    t.ecn = IpEcn::Ect0;
    t.recv(seg().seq(1).ack(5001).len(100).flag(ace(5)));
    let acks = t.drain();
    assert!(!acks.is_empty() && acks.iter().all(|o| o.payload.is_none() && o.ecn == IpEcn::Ect0));
    t.end.with(|c, env| c.handle_abort(env));
    let (field, rst) = next_ace(&mut t);
    assert!(rst.repr.flags.rst() && rst.ecn == IpEcn::Ect0 && field == 5);
}

/// RFC 3168, 6.1.4, 6.1.5: without Accurate ECN only new data is.
#[test]
fn with_rfc_3168_pure_acks_and_retransmissions_are_not_ect() {
    let mut t = Test::connect_over(cfg(EcnMode::On), FlowParams { port_paces: false, ..FlowParams::new(1, 2) });
    t.expect(seg().seq(0).syn().flag(ace(0b011))).after(ms(10));
    t.recv(seg().seq(0).ack(1).syn().flag(ace(0b001)).options(TcpOptions { accecn: None, ..synack_options() }));
    assert!(t.drain().iter().all(|o| o.ecn == IpEcn::NotEct));
    t.write(5000);
    assert!(t.drain().iter().all(|o| o.ecn == IpEcn::Ect0));
    t.after(ms(10)).recv(seg().ack(1).sack(1012 + 1, 5001));
    let again = t.drain();
    assert!(again.iter().any(|o| o.is_retransmit) && again.iter().all(|o| o.ecn == IpEcn::NotEct));
}

/// What RFC 3168's echo acknowledges counts as delivered with a mark, as in Linux.
#[test]
fn rfc3168_delivered_ce_counts_what_ece_acknowledges() {
    let mut t = Test::connect_over(cfg(EcnMode::On), FlowParams { port_paces: false, ..FlowParams::new(1, 2) });
    t.expect(seg().seq(0).syn().flag(ace(0b011))).after(ms(10));
    let options = TcpOptions { mss: Some(1000), accecn: None, ..synack_options() };
    t.recv(seg().seq(0).ack(1).syn().flag(ace(0b001)).options(options)).drain();
    t.write(10_000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(2001)).recv(seg().ack(5001).flag(TcpFlags::ECE)).recv(seg().ack(6001));
    let info = t.end.conn.info(t.now, &t.end.cfg);
    assert_eq!((info.delivered_ce, info.delivered, t.end.mib.get(Mib::TcpExtTCPDeliveredCE)), (3, 7, 3));
    assert_eq!(t.end.conn.ca_state, CaState::Cwr);
}

/// Every packet marked for ten round trips: each is counted, each round trip reduces once, and the connection goes on at the least window.
#[test]
fn marks_without_end_are_all_counted_and_reduce_once_a_round_trip() {
    let mut t = established();
    let (mut una, mut marks, mut reductions) = (0u32, 0u32, 0);
    for _ in 0..10 {
        t.write(u64::from(una) + 20_000);
        let sent: u64 = t.drain().iter().filter_map(|o| o.payload.as_ref().map(|p| p.end - p.start)).sum();
        t.after(ms(10));
        let before = t.end.conn.ssthresh;
        for _ in 0..sent / 1000 {
            (una, marks) = (una + 1000, marks + 1);
            let o = AccEcnOption { order1: true, count: 3, counters: [1, una, 1] };
            t.recv(ack(una + 1, ((5 + marks) % 8) as u8).options(TcpOptions { accecn: Some(o), ..TcpOptions::NONE }));
        }
        reductions += u32::from(t.end.conn.ssthresh < before);
        assert!(sent > 0 && t.end.conn.ssthresh >= 2, "{sent} {una} {:#?}", t.end.conn.info(t.now, &t.end.cfg));
    }
    let info = t.end.conn.info(t.now, &t.end.cfg);
    assert_eq!((info.delivered_ce, info.accecn.delivered_bytes), (marks, [0, 0, una]));
    assert_eq!(reductions, 2, "10, 5, 2");
    assert_eq!(t.end.conn.ssthresh, 2);
}

/// RFC 9768, 3.2.3.3 as Linux fits it: what has changed is worth SACK blocks down to two, and no more than that.
#[test]
fn the_option_takes_the_place_of_sack_blocks_where_it_must() {
    let mut t = client(0b010, IpEcn::NotEct);
    t.drain();
    let last = |t: &mut Test, seq: u32, mark: IpEcn| {
        t.ecn = mark;
        t.recv(seg().seq(seq).ack(1).len(1000).flag(ace(5)));
        let o = t.drain().pop().expect("an ACK").repr.options;
        (o.accecn.map(|a| (a.count, a.counters)), o.sack.len())
    };
    // 40 bytes: four blocks take 36. CE, the second counter, changed: one block makes room for all three.
    for seq in [2001, 4001, 6001] {
        last(&mut t, seq, IpEcn::NotEct);
    }
    assert_eq!(last(&mut t, 8001, IpEcn::Ce), (Some((3, [1, 1000, 1])), 3));
    // Nothing changed, or the first counter alone: four blocks, and one counter in their padding.
    assert_eq!(last(&mut t, 10_001, IpEcn::NotEct), (Some((1, [1, 0, 0])), 4));
    assert_eq!(last(&mut t, 12_001, IpEcn::Ect1), (Some((1, [1001, 0, 0])), 4));
}

/// RFC 9768, 3.2.3.2.2: ACKs with the option seem to be lost: the same segment comes a third time. `tcp_ecn_option` = 3 persists.
#[test]
fn the_option_stops_where_acks_that_carry_it_are_lost() {
    for (how, stops) in [(2, true), (3, false)] {
        let mut t = established();
        t.end.cfg.ecn_option = how;
        t.recv(seg().seq(1).ack(1).len(100).flag(ace(5))).drain();
        for _ in 0..2 {
            t.after(ms(300)).recv(seg().seq(1).ack(1).len(100).flag(ace(5)));
            assert!(t.next().is_some_and(|o| o.repr.options.sack.len() == 1));
        }
        assert!(failures(&t) & fail::OPT_SEND != 0);
        t.recv(seg().seq(101).ack(1).len(100).flag(ace(5)));
        assert_eq!(t.next().map(|o| o.repr.options.accecn.is_none()), Some(stops));
    }
}

/// Data segments have room for the option on every one of them.
#[test]
fn full_segments_carry_the_option_too() {
    let mut t = established();
    t.write(5000);
    let out = t.drain();
    assert!(out.iter().all(|o| o.repr.options.accecn.is_some()), "{out:?}");
    assert_eq!(out.iter().filter_map(|o| o.payload.as_ref().map(|p| p.end - p.start)).sum::<u64>(), 5000);
    assert!(out.iter().all(|o| o.gso_size <= 1000));
}
