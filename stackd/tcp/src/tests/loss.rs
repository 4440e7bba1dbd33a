//! Detecting losses: RACK, TLP, peers that try to confuse the scoreboard.

use super::segments::{Test, seg};
use crate::cc::CaState;
use crate::{Config, State};
use stackd_base::{Duration, Mib};

fn plain() -> Config {
    Config { timestamps: false, congestion: "reno", ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Established, and `packets` of 1000 bytes sent, 10 ms ago.
fn sent(cfg: Config, packets: u64) -> Test {
    let mut t = Test::established(cfg);
    t.write(packets * 1000);
    t.drain();
    t.after(ms(10));
    t
}

#[test]
fn a_lost_retransmission_is_resent_without_a_timeout() {
    let mut t = sent(plain(), 8);
    t.recv(seg().ack(1).sack(1001, 5001)).expect(seg().seq(1).len(1000));
    t.write(12_000);
    t.drain();
    // What left with or after the retransmission is delivered a round trip later; the retransmission is not.
    t.after(ms(12)).recv(seg().ack(1).sack(1001, 8001)).recv(seg().ack(1).sack(1001, 9001));
    t.expect(seg().seq(1).len(1000));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPLostRetransmit), 1);
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPTimeouts), 0);
}

/// On a coarse clock, new data and a retransmission leave in the same tick. Ordered by sequence within it, the retransmission seemed the
/// older: lost as soon as the new data was acknowledged, whatever the round trip.
#[test]
fn a_retransmission_is_younger_than_new_data_sent_before_it_in_the_same_tick() {
    let mut t = sent(plain(), 5);
    t.write(8_000);
    let first = t.drain().len();
    assert!(first > 0);
    t.recv(seg().ack(1).sack(1001, 5001));
    assert!(t.drain().iter().any(|o| o.is_retransmit));
    // The data that left before it, at the same instant, arrives.
    t.after(ms(10)).recv(seg().ack(1).sack(5001, 6001).sack(1001, 5001));
    assert!(t.drain().iter().all(|o| !o.is_retransmit));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPLostRetransmit), 0);
}

/// A hole that an original fills is acknowledged cumulatively, not by SACK: it is reordering all the same.
#[test]
fn rfc8985_a_late_original_that_fills_the_hole_is_reordering() {
    let mut t = sent(plain(), 4);
    t.recv(seg().ack(1).sack(1001, 2001)).quiet();
    assert!(!t.end.conn.rack.reordering_seen);
    t.after(ms(1)).recv(seg().ack(2001));
    assert!(t.end.conn.rack.reordering_seen);
    assert_eq!(t.end.mib.get(Mib::TcpRetransSegs), 0);
}

#[test]
fn a_probe_with_new_data_is_followed_by_the_rto_and_not_by_another_probe() {
    let mut t = Test::established(Config { nodelay: true, ..plain() });
    t.write(10_000);
    assert_eq!(t.drain().iter().filter_map(|o| o.payload.clone()).map(|p| p.end).max(), Some(10_000));
    t.write(20_000).quiet();
    t.after(ms(30)).expect(seg().seq(10_001).len(1000)).quiet();
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPLossProbes), 1);
    t.after(ms(100)).quiet();
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPLossProbes), 1);
    t.after(ms(150)).expect(seg().seq(1).len(1000));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPTimeouts), 1);
}

#[test]
fn a_loss_that_the_probe_repaired_costs_a_reduction() {
    let mut t = sent(plain(), 3);
    t.after(ms(20)).expect(seg().seq(2001).len(1000));
    let before = t.end.conn.cwnd;
    t.after(ms(5)).recv(seg().ack(3001));
    t.write(4000).expect(seg().seq(3001).len(1000)).after(ms(5)).recv(seg().ack(4001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPLossProbeRecovery), 1);
    assert!(t.end.conn.cwnd < before, "{} {before}", t.end.conn.cwnd);
}

/// RFC 2018, 8: "The data receiver is permitted to discard data ... that has not been acknowledged": the timeout forgets all SACKs.
#[test]
fn reneged_data_is_resent_after_the_timeout() {
    let mut t = sent(plain(), 4);
    t.recv(seg().ack(1).sack(1001, 4001)).expect(seg().seq(1).len(1000));
    // The hole is filled, and yet the rest is not acknowledged with it.
    t.after(ms(10)).recv(seg().ack(1001)).quiet();
    t.after(ms(300)).expect(seg().seq(1001).len(1000));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSACKReneging), 1);
    t.after(ms(10)).recv(seg().ack(4001)).quiet();
    assert!(t.end.conn.board.is_empty());
}

/// Whoever acknowledges single bytes must not be paid for whole packets (RFC 3465, 4.2: ACK division), nor make us keep an entry
/// for each.
#[test]
fn acknowledging_byte_by_byte_neither_opens_the_window_nor_fills_the_scoreboard() {
    let mut t = sent(plain(), 10);
    let before = t.end.conn.cwnd;
    for i in 2..900 {
        t.recv(seg().ack(i));
    }
    assert_eq!(t.end.conn.cwnd, before);
    assert_eq!(t.end.conn.board.packets_out(), 10);
    t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn sacking_single_bytes_splits_nothing() {
    let mut t = sent(plain(), 10);
    for i in 0..2000 {
        t.recv(seg().ack(1).sack(1002 + 4 * i, 1003 + 4 * i));
    }
    assert_eq!((t.end.conn.board.packets_out(), t.end.conn.board.sacked_out()), (10, 0));
    t.recv(seg().ack(1).sack(1501, 3500));
    assert_eq!((t.end.conn.board.packets_out(), t.end.conn.board.sacked_out()), (10, 1));
    t.end.conn.check_invariants().unwrap_or_else(|e| panic!("{e}"));
}

/// With data outstanding there is always a timer, whatever arrives.
#[test]
fn a_timer_runs_whenever_data_is_outstanding() {
    let mut t = sent(plain(), 6);
    // A reordering timer, overtaken by a duplicate ACK that comes after it is due and before it is handled.
    t.recv(seg().ack(1).sack(1001, 2001)).quiet();
    t.now += ms(5);
    t.recv(seg().ack(1).sack(1001, 2001));
    assert!(t.end.conn.timer.is_some());
    assert!(t.drain().iter().any(|o| o.is_retransmit));
    assert!(t.end.conn.timer.is_some());
}

/// RFC 6298, 5.7 and Karn: without a new measurement the backed-off timeout stands, or a path that became slower than the RTO would see
/// each segment twice, for ever.
#[test]
fn karn_an_ack_of_a_retransmission_does_not_take_the_backoff_back() {
    let mut t = sent(Config { early_retrans: 0, frto: 0, ..plain() }, 1);
    t.after(ms(230)).expect(seg().seq(1).len(1000)).after(ms(300)).recv(seg().ack(1001));
    assert_eq!(t.end.conn.backoff, 1);
    t.write(2000).expect(seg().seq(1001).len(1000)).after(ms(10)).recv(seg().ack(2001));
    assert_eq!(t.end.conn.backoff, 0);
}

#[test]
fn a_peer_without_sack_does_not_fill_a_queue_for_judgements_that_never_come() {
    let mut t = Test::established_with(
        Config { sack: false, ..plain() },
        stackd_wire::TcpOptions { mss: Some(1000), ..stackd_wire::TcpOptions::NONE },
    );
    let mut head = 0u32;
    t.write(4000);
    for _ in 0..3000 {
        t.drain();
        head += 1000;
        t.write(u64::from(head) + 4000).after(Duration::from_micros(50)).recv(seg().ack(head + 1));
    }
    assert_eq!(t.end.conn.state(), State::Established);
    assert!(t.end.conn.board.judgements_waiting() < 100, "{}", t.end.conn.board.judgements_waiting());
}

#[test]
fn three_duplicate_acks_are_a_loss_for_peers_without_sack() {
    let mut t = Test::established_with(
        Config { sack: false, ..plain() },
        stackd_wire::TcpOptions { mss: Some(1000), ..stackd_wire::TcpOptions::NONE },
    );
    t.write(8000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1)).recv(seg().ack(1)).quiet().recv(seg().ack(1)).expect(seg().seq(1).len(1000));
    assert_eq!(t.end.conn.ca_state, CaState::Recovery);
    // RFC 6582, 3.2: a partial ACK: the next hole at once.
    t.after(ms(10)).recv(seg().ack(3001)).expect(seg().seq(3001).len(1000));
}
