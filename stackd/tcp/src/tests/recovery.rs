//! Recovery: RACK-TLP (RFC 8985), PRR (RFC 9937), SACK reneging (RFC 2018), what Linux counts.

use super::segments::{Test, seg};
use crate::cc::CaState;
use crate::{Config, FlowParams};
use stackd_base::{Bandwidth, Duration, Mib};
use stackd_wire::TcpOptions;

fn plain() -> Config {
    Config { timestamps: false, congestion: "reno", nodelay: true, ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Established, one exchange done, so that RACK knows a round trip of 10 ms.
fn warm(cfg: Config) -> Test {
    let mut t = Test::established(cfg);
    t.write(1000).expect(seg().seq(1).len(1000)).after(ms(10)).recv(seg().ack(1001));
    t
}

/// Found by fuzzing: the reordering timer was set by when the newest delivered packet left. Behind a pacing queue, packets of an earlier
/// transmission may leave after that one: the deadline lay in the past, and the timer fired every microsecond until they did.
#[test]
fn racks_timer_waits_for_a_packet_that_pacing_put_later() {
    let cfg = Config { max_pacing_rate: Bandwidth::from_bytes_per_sec(10_000), ..plain() };
    let mut t = Test::connect_over(cfg, FlowParams { port_paces: true, ..FlowParams::new(1, 2) });
    t.expect(seg().seq(0).syn()).after(ms(10));
    t.recv(seg().seq(0).ack(1).syn().options(TcpOptions { mss: Some(1000), sack_permitted: true, ..TcpOptions::NONE }));
    t.expect(seg().seq(1).ack(1)).write(10_000);
    let last = t.drain().last().and_then(|o| o.departure).expect("paced");
    assert!(last > t.now + ms(800), "the tail leaves in {:?}", last - t.now);
    // The tail loss probe overtakes what still waits in the queue, and is delivered.
    let probe = t.end.conn.next_deadline().expect("a probe is scheduled");
    t.after(probe - t.now);
    assert!(t.drain().iter().any(|o| o.is_retransmit));
    t.after(ms(11)).recv(seg().ack(1).sack(9001, 10_001));
    let (end, mut fired) = (t.now + ms(200), 0);
    while let Some(at) = t.end.conn.next_deadline().filter(|at| *at < end) {
        assert!(at > t.now, "a deadline that does not move");
        t.after(at - t.now);
        t.drain();
        fired += 1;
        assert!(fired < 20, "the timer spins: {fired} times by {:?}", end - t.now);
    }
}

/// RFC 8985, 6.3: all segments were marked lost, those too that had left a millisecond before.
#[test]
fn rfc8985_an_rto_spares_what_left_within_the_reordering_window() {
    let mut t = warm(Config { early_retrans: 0, ..plain() });
    t.write(2000).expect(seg().seq(1001).len(1000));
    t.after(ms(205)).write(3000).expect(seg().seq(2001).len(1000));
    t.after(ms(6));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPTimeouts), 1);
    assert_eq!((t.end.conn.ca_state, t.end.conn.board.lost_out()), (CaState::Loss, 1));
    t.expect(seg().seq(1001).len(1000)).quiet();
    // Both arrive: the second was never sent twice.
    t.after(ms(10)).recv(seg().ack(3001));
    assert_eq!(t.end.mib.get(Mib::TcpRetransSegs), 1);
}

#[test]
fn rfc8985_a_probe_answered_by_its_own_dsack_costs_nothing() {
    let mut t = warm(plain());
    t.write(3000);
    t.drain();
    let cwnd = t.end.conn.cwnd;
    t.after(ms(40)).expect(seg().seq(2001).len(1000));
    // Original and probe both arrived.
    t.recv(seg().ack(3001)).recv(seg().ack(3001).sack(2001, 3001));
    assert_eq!(t.end.conn.tlp.end, None);
    t.write(4000).expect(seg().seq(3001).len(1000)).after(ms(10)).recv(seg().ack(4001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPLossProbeRecovery), 0);
    assert!(t.end.conn.cwnd >= cwnd);
    assert!(t.end.conn.rack.dsack_steps() == 1, "the probe's duplicate is no reordering");
}

/// All was acknowledged when the report of the duplicate came: what it said of probe and reduction was not looked at.
#[test]
fn a_dsack_counts_although_nothing_is_outstanding() {
    let mut t = warm(plain());
    t.write(7000);
    t.drain();
    let cwnd = t.end.conn.cwnd;
    t.after(ms(10)).recv(seg().ack(1001).sack(2001, 7001)).expect(seg().seq(1001).len(1000));
    t.after(ms(3)).recv(seg().ack(7001));
    assert!(t.end.conn.cwnd < cwnd);
    t.after(ms(7)).recv(seg().ack(7001).sack(1001, 2001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPDSACKUndo), 1);
    assert!(t.end.conn.cwnd >= cwnd);
}

/// RFC 8985, 7.4.2 wants the duplicate that the probe made. Any DSACK was taken for it.
#[test]
fn rfc8985_another_dsack_does_not_answer_the_probe() {
    let mut t = warm(plain());
    t.write(3000);
    t.drain();
    t.after(ms(40)).expect(seg().seq(2001).len(1000));
    t.recv(seg().ack(3001).sack(1001, 2001));
    assert_eq!(t.end.conn.tlp.end, Some(3001));
    t.write(4000).expect(seg().seq(3001).len(1000)).after(ms(10)).recv(seg().ack(4001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPLossProbeRecovery), 1);
}

#[test]
fn rfc8985_a_probe_inside_a_recovery_reduces_once() {
    let mut t = warm(plain());
    t.write(6000);
    t.drain();
    t.after(ms(40));
    assert!(t.drain().iter().any(|o| o.is_retransmit), "the probe");
    t.after(ms(10)).recv(seg().ack(1001).sack(3001, 6001));
    assert_eq!(t.end.conn.ca_state, CaState::Recovery);
    let ssthresh = t.end.conn.ssthresh;
    t.drain();
    t.write(7000);
    t.after(ms(10)).recv(seg().ack(6001));
    t.drain();
    t.after(ms(10)).recv(seg().ack(7001));
    assert_eq!((t.end.conn.ca_state, t.end.conn.ssthresh), (CaState::Open, ssthresh));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPLossProbeRecovery), 0);
}

/// As Linux's `tcp_check_sack_reneging`: the retransmission timer had its full length left, and the window stood still for it.
#[test]
fn rfc2018_reneging_is_believed_after_a_short_grace() {
    let mut t = warm(plain());
    t.write(6000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1001).sack(2001, 6001)).expect(seg().seq(1001).len(1000));
    // The hole is filled: what lies behind it was SACKed, and must be acknowledged with it.
    t.after(ms(10)).recv(seg().ack(2001)).quiet();
    t.after(ms(9)).quiet().after(ms(2));
    let again = t.next().expect("resent");
    assert_eq!((again.payload.map(|p| p.start), again.is_retransmit), (Some(2000), true));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSACKReneging), 1);
}

#[test]
fn rfc2018_a_peer_that_explains_itself_in_time_reneged_on_nothing() {
    let mut t = warm(plain());
    t.write(6000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1001).sack(2001, 6001)).expect(seg().seq(1001).len(1000));
    t.after(ms(10)).recv(seg().ack(2001)).after(ms(2)).recv(seg().ack(6001));
    t.after(ms(300)).quiet();
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSACKReneging), 0);
}

/// As Linux: duplicates that we did not cause prove nothing about what we sent again.
#[test]
fn rfc2883_more_duplicates_than_retransmissions_are_ignored() {
    let mut t = warm(plain());
    t.recv(seg().ack(1001).sack(1, 1001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPDSACKRecv), 1);
    t.write(3000);
    t.drain();
    t.recv(seg().ack(1001).sack(1, 1001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPDSACKIgnoredDubious), 2);
    assert_eq!(t.end.conn.rack.dsack_steps(), 1);
}

#[test]
fn a_duplicate_block_beyond_what_was_sent_is_counted_by_its_kind() {
    let mut t = warm(plain());
    t.write(3000);
    t.drain();
    t.recv(seg().ack(1001).sack(90_001, 91_001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSACKDiscard), 1);
    // Below everything: a duplicate of what was never sent.
    t.recv(seg().ack(1001).sack(0u32.wrapping_sub(500), 500));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPDSACKIgnoredNoUndo), 1);
}

/// RFC 9937, 6: RecoverFS is the flight, not the window: an application-limited sender with a large window reduced what it sent by less
/// than it should have.
#[test]
fn rfc9937_reduces_in_proportion_to_the_flight() {
    let mut t = Test::established(Config { initial_cwnd: 100, ..plain() });
    t.write(20_000);
    t.drain();
    t.write(120_000);
    t.after(ms(10)).recv(seg().ack(1).sack(1001, 5001).win(60_000));
    assert_eq!(t.end.conn.ca_state, CaState::Recovery);
    // 20 packets were in flight, 4 delivered: RecoverFS counts them all.
    assert_eq!(t.end.conn.prr, crate::recovery::Prr::at(20, 4, 0));
}

#[test]
fn rfc9937_the_flight_ends_at_ssthresh() {
    let mut t = Test::established(Config { initial_cwnd: 20, ..plain() });
    t.write(20_000);
    t.drain();
    t.write(100_000);
    let mut sent = Vec::new();
    for i in 1..=21u32 {
        t.after(ms(if i == 1 { 10 } else { 1 })).recv(seg().ack(1).sack(1001, 1001 + i * 1000));
        sent.push(t.drain().iter().filter_map(|o| o.payload.clone()).map(|p| (p.end - p.start) / 1000).sum::<u64>());
    }
    assert_eq!(t.end.conn.ca_state, CaState::Recovery);
    assert_eq!(t.end.conn.board.in_flight(), t.end.conn.ssthresh);
    // Spread over the round trip, not in a burst at its end and no silence at its beginning.
    assert!(sent[3..].iter().all(|n| *n <= 1), "{sent:?}");
    assert!((8..=11).contains(&sent[3..].iter().sum::<u64>()), "{sent:?}");
}

#[test]
fn a_timeout_counts_as_the_failure_of_what_should_have_made_it_unnecessary() {
    let counters = [Mib::TcpExtTCPSackRecoveryFail, Mib::TcpExtTCPSackFailures, Mib::TcpExtTCPLossFailures];
    let count = |t: &Test| counters.map(|m| t.end.mib.get(m));
    let mut t = warm(Config { early_retrans: 0, ..plain() });
    t.write(6000);
    t.drain();
    t.after(ms(300));
    assert_eq!(count(&t), [0, 0, 0], "nothing was SACKed");
    let mut t = warm(Config { early_retrans: 0, recovery: 0, ..plain() });
    t.write(6000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1001).sack(5001, 6001)).after(ms(300));
    assert_eq!(count(&t), [0, 1, 0]);
    let mut t = warm(Config { early_retrans: 0, ..plain() });
    t.write(6000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1001).sack(2001, 6001));
    t.drain();
    t.after(ms(500));
    assert_eq!(count(&t), [1, 0, 0]);
}

/// RFC 8985, 6.2 step 4: "on exiting Fast or RTO recovery". An ECN reduction used one of the sixteen up.
#[test]
fn rfc8985_only_recoveries_use_the_wider_reordering_window_up() {
    let mut rack = crate::recovery::Rack::default();
    rack.on_dsack(1, 100);
    rack.on_dsack(50, 150);
    assert_eq!(rack.dsack_steps(), 2, "once a round");
    rack.on_dsack(100, 200);
    assert_eq!(rack.dsack_steps(), 3);
    for _ in 0..15 {
        rack.on_recovery_end();
    }
    assert_eq!(rack.dsack_steps(), 3);
    rack.on_recovery_end();
    assert_eq!(rack.dsack_steps(), 1);
}
