//! The checker of invariants sees what is broken; and what it found in simulations.

use super::segments::{ISS, PEER, Test, seg};
use crate::scoreboard::AckOutcome;
use crate::{Config, Connection, IcmpError, IcmpKind, State};
use stackd_base::{Duration, Instant, SeqNum, SplitMix64};
use stackd_wire::TcpOptions;

/// A connection with ten packets in flight, and then something broken in it.
fn broken(how: impl FnOnce(&mut Connection)) -> String {
    let mut t = Test::established(Config::default());
    t.write(10_000);
    t.drain();
    let now = t.now;
    t.end.conn.check_at_rest(now).unwrap_or_else(|e| panic!("whole: {e}"));
    how(&mut t.end.conn);
    t.end.conn.check_at_rest(now).expect_err("the checker must see it")
}

type Break = fn(&mut Connection);

#[test]
fn what_is_broken_is_named() {
    let cases: [(&str, Break); 9] = [
        ("no timer runs", |c| c.timer = None),
        ("cwnd", |c| c.cwnd = 0),
        ("beyond what was written", |c| c.nxt += 1),
        ("scoreboard", |c| c.una = 2001),
        ("mss", |c| c.mss = 1461),
        ("received", |c| c.rcv_nxt += 1_000_000),
        ("no delayed ACK", |c| c.rcv_nxt += 1),
        ("RST", |c| c.due.rst = true),
        ("without a byte", |c| c.frames_below += 1),
    ];
    for (what, how) in cases {
        let said = broken(how);
        assert!(said.contains(what), "{what}: {said}");
    }
}

/// An ACK that covered one transmission and a part of the next, a GSO segment of several packets, took no packet off the second: in flight there
/// seemed to be more than there was, for as long as the rest was not acknowledged. (Found by the simulation.)
#[test]
fn an_ack_of_one_segment_and_a_part_of_the_next_counts_whole_packets_of_both() {
    let mut t = Test::established(Config::default());
    t.write(1000);
    t.drain();
    t.write(5000);
    t.drain();
    assert_eq!(t.end.conn.board.packets_out(), 5);
    t.recv(seg().ack(3001));
    assert_eq!(t.end.conn.board.packets_out(), 2);
    t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
}

/// A receiver whose segments were cut on the way acknowledges parts of packets: several such ACKs that completed a packet were never counted as
/// one, and the last bytes of a GSO segment stood for all of its packets. (Found by the simulation.)
#[test]
fn parts_of_a_packet_acknowledged_one_by_one_add_up_to_a_packet() {
    let mut t = Test::established(Config::default());
    t.write(4000);
    t.drain();
    for (ack, out) in [(401, 4), (801, 4), (1201, 3), (1601, 3), (2001, 2), (2401, 2), (2999, 2), (3001, 1), (3999, 1)]
    {
        t.recv(seg().ack(ack));
        assert_eq!(t.end.conn.board.packets_out(), out, "ack {ack}");
        t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Without SACK the packets that duplicate ACKs stood for were not fewer when others were marked lost: together they were more than what is
/// out, and in flight was less than nothing. (Found by the simulation; Linux has `tcp_limit_reno_sacked` for it.)
#[test]
fn duplicate_acks_and_losses_are_never_more_than_what_is_out() {
    let mut t = Test::established_with(Config::default(), TcpOptions { mss: Some(1400), ..TcpOptions::NONE });
    t.write(14_000);
    t.drain();
    for _ in 0..3 {
        t.recv(seg().ack(1));
    }
    t.drain();
    for _ in 0..5 {
        t.recv(seg().ack(1));
    }
    // The path's MTU is smaller: all that is out is lost, and is cut anew.
    let icmp = IcmpError { seq: SeqNum(ISS + 1), kind: IcmpKind::TooBig { mss: 1000 } };
    let now = t.now;
    t.end.with(|c, env| c.handle_icmp(now, icmp, env));
    t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
    t.drain();
    t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
}

/// A FIN behind data that filled the window exactly went with it, one position beyond what the peer had offered. (Found by the simulation.)
#[test]
fn a_fin_takes_a_place_in_the_window() {
    let mut t = Test::established(Config::default());
    t.recv(seg().seq(1).ack(1).win(0));
    t.recv(seg().seq(1).ack(1).win(1000));
    t.write(1000);
    let now = t.now;
    t.end.with(|c, env| c.handle_shutdown_write(now, env));
    t.expect(seg().seq(1).ack(1).len(1000)).quiet();
    assert_eq!(t.end.conn.positions().snd_nxt, 1001);
    t.recv(seg().seq(1).ack(1001).win(1));
    t.expect(seg().seq(1001).ack(1).fin());
}

/// `tcp_challenge_ack_limit` 1 meant none at all: half of it, rounded down, and a random number below one. In a simultaneous open whose last SYN-ACK
/// was lost, that challenge ACK is the only answer there is. (Found by the simulation.)
#[test]
fn a_challenge_limit_of_one_allows_one() {
    for seed in 0..50 {
        let (mut limit, mut rng) = (crate::ChallengeLimit::default(), SplitMix64::new(seed));
        let now = Instant::from_nanos(5_000_000_000);
        assert!(limit.allow(now, 1, &mut rng));
        assert!(!limit.allow(now, 1, &mut rng));
    }
}

/// A FIN that came out of order, before the bytes that say that there is no such end, stayed the end of the stream after they had passed it: the
/// connection took them, showed none of them to its reader and never ended. (Found by the fuzzer; Linux forgets a FIN that data overtook.)
#[test]
fn a_fin_that_data_overtakes_is_forgotten() {
    let mut t = Test::established(Config::default());
    t.recv(seg().seq(4).ack(1).fin()).expect(seg().seq(1).ack(1));
    t.recv(seg().seq(1).ack(1).len(10));
    t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((t.end.conn.rx_head(), t.end.conn.state()), (10, State::Established));
    // The same when what lies beyond it is itself out of order.
    t.recv(seg().seq(21).ack(1).fin());
    t.recv(seg().seq(18).ack(1).len(8));
    t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
    t.recv(seg().seq(11).ack(1).len(10));
    assert_eq!((t.end.conn.rx_head(), t.end.conn.state()), (25, State::Established));
    t.recv(seg().seq(26).ack(1).fin());
    assert_eq!((t.end.conn.rx_head(), t.end.conn.state()), (25, State::CloseWait));
}

/// A FIN below bytes that are held: out of order they contradict it; in order it ends the stream, and they are none of it (Linux: `tcp_fin`
/// purges the out-of-order queue). Neither was so: the checker saw bytes beyond the end of the stream. (Found by the fuzzer.)
#[test]
fn a_fin_in_order_ends_the_stream_before_what_is_held_beyond() {
    let mut t = Test::established(Config::default());
    t.recv(seg().seq(31).ack(1).len(10));
    t.recv(seg().seq(11).ack(1).len(5).fin());
    t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
    t.recv(seg().seq(1).ack(1).len(10));
    assert_eq!((t.end.conn.rx_head(), t.end.conn.state()), (15, State::Established));
    t.recv(seg().seq(16).ack(1).len(5).fin());
    t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((t.end.conn.rx_head(), t.end.conn.state()), (20, State::CloseWait));
    assert_eq!(t.end.conn.rx_out_of_order(), 0);
    t.drain();
    assert_eq!(t.end.conn.rcv_nxt(), SeqNum(PEER) + 22);
}

/// A retransmission that was no loss (a probe; one whose loss was undone) and is then taken for lost by duplicate ACKs was both in flight and waiting
/// to be resent: counted twice, and resent at once even when it had just left. (Found by the fuzzer, with `tcp_recovery` cleared in recovery.)
#[test]
fn a_probe_that_is_deemed_lost_is_in_flight_no_more() {
    let mut t = Test::established(Config::default());
    t.write(1000);
    t.drain();
    assert!(t.after(Duration::from_millis(300)).drain().iter().any(|o| o.is_retransmit));
    let board = &mut t.end.conn.board;
    assert_eq!((board.lost_out(), board.retrans_out()), (0, 1));
    board.mark_head_lost();
    assert_eq!((board.lost_out(), board.retrans_out(), board.in_flight()), (1, 0, 0));
    t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
}

/// A SACKed run joins transmissions of different sizes, and knows the sum of their packets. When the peer reneges it is data to be resent like any
/// other, whose packets follow from its bytes: they did not, and cutting it counted less than none. (Found by the fuzzer.)
#[test]
fn a_run_of_several_sizes_that_was_reneged_is_counted_by_its_bytes() {
    let mut t = Test::established(Config::default());
    t.write(1000);
    t.drain();
    t.end.conn.mss = 100;
    t.write(1300);
    t.drain();
    let c = &mut t.end.conn;
    assert_eq!(c.board.packets_out(), 4);
    c.board.sack(1, 1301, &mut AckOutcome::default(), &mut c.rate);
    assert_eq!((c.board.packets_out(), c.board.sacked_out()), (4, 4));
    c.board.mark_all_lost(true);
    c.board.check(1, 1301, true).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((c.board.packets_out(), c.board.lost_out(), c.board.in_flight()), (2, 2, 0));
    c.board.isolate(1001);
    c.board.check(1, 1301, true).unwrap_or_else(|e| panic!("{e}"));
}
