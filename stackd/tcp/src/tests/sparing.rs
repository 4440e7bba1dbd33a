//! What keeps a sender from sending: the queue below, autocorking, windows that were never filled, the unsent bytes that an application may
//! pile up; and how large its segments are.

use super::segments::{ISS, Test, seg};
use crate::cc::CaState;
use crate::{Config, FlowParams};
use stackd_base::{Bandwidth, Duration, Mib, SeqNum};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn plain() -> Config {
    Config { timestamps: false, congestion: "reno", early_retrans: 0, ..Config::default() }
}

/// Lengths of all that may leave.
fn lengths(t: &mut Test) -> Vec<u64> {
    t.drain().iter().map(|o| o.payload.as_ref().map_or(0, |p| p.end - p.start)).collect()
}

/// A connection that has sent and heard of `windows` windows of its own.
fn warmed(cfg: Config, windows: u32) -> Test {
    let mut t = Test::established(cfg);
    let mut head = 0;
    for _ in 0..windows {
        head += u64::from(t.end.conn.cwnd) * 1000;
        t.write(head);
        t.drain();
        t.after(ms(10)).recv(seg().ack(head as u32 + 1));
    }
    t
}

// ---- small queues ----

#[test]
fn tcp_limit_output_bytes_bounds_what_waits_below() {
    let mut t = Test::established(Config { limit_output_bytes: 3000, min_tso_segs: 2, ..plain() });
    t.slow_device = true;
    // RTT 10 ms and ten packets: the pacing rate makes segments of two packets; two may wait, by rate and by number.
    t.write(20_000);
    assert_eq!(lengths(&mut t), [2000, 2000]);
    t.recv(seg().ack(1)).quiet();
    // At or below the limit more may follow, until it is exceeded.
    t.complete(2000);
    assert_eq!(lengths(&mut t), [2000]);
    t.complete(2000).complete(2000);
    assert_eq!(lengths(&mut t), [2000, 2000]);
}

/// Linux: "Always send skb if rtx queue is empty or has one skb": completions may be late.
#[test]
fn one_segment_outstanding_waits_for_no_completion() {
    let mut t = Test::established(Config { limit_output_bytes: 0, ..plain() });
    t.slow_device = true;
    t.write(10_000);
    assert_eq!(lengths(&mut t), [2000, 2000]);
    t.after(ms(10)).recv(seg().ack(2001));
    assert_eq!(lengths(&mut t), [2000], "what is acknowledged has left, whatever the device says");
}

#[test]
fn a_port_that_paces_is_bounded_by_the_rate_alone() {
    let flow = FlowParams { port_paces: true, ..FlowParams::new(1, 2) };
    let mut t = Test::connect_over(Config { limit_output_bytes: 0, ..plain() }, flow);
    t.slow_device = true;
    t.expect(seg().seq(0).syn()).after(ms(10));
    let o = stackd_wire::TcpOptions { mss: Some(1000), sack_permitted: true, ..stackd_wire::TcpOptions::NONE };
    t.recv(seg().seq(0).ack(1).syn().options(o)).expect(seg().seq(1).ack(1));
    t.write(20_000);
    assert_eq!(lengths(&mut t), [2000, 2000, 2000], "two segments, and one that exceeds them");
}

#[test]
fn retransmissions_may_have_twice_as_much_below() {
    let mut t = Test::established(plain());
    t.write(10_000);
    t.drain();
    t.slow_device = true;
    // Packets 1, 3, 5, 7 and 9 are lost; each hole is a segment of its own.
    t.after(ms(10)).recv(seg().ack(1).sack(1001, 2001).sack(3001, 4001).sack(5001, 6001));
    t.recv(seg().ack(1).sack(7001, 8001).sack(9001, 10_001));
    t.end.conn.cwnd = 20;
    let out = t.drain();
    assert!(out.iter().all(|o| o.is_retransmit));
    assert_eq!(out.len(), 5, "5000 bytes are more than 2 x 2000, and not more than twice that");
}

// ---- segment sizes ----

#[test]
fn tso_segments_hold_a_millisecond_at_the_pacing_rate() {
    // 1000 packets a 10 ms, twice that in slow start: 200 MB/s; a 1024th is 195,000 bytes, more than one can be.
    let mut t = Test::established(plain());
    t.end.conn.cwnd = 1000;
    // Half of the largest window (60,000) is the limit.
    assert_eq!(t.end.conn.tso_bytes(&plain()), 30_000);
    t.recv(seg().ack(1).win(65_535));
    assert_eq!(t.end.conn.tso_bytes(&plain()), 32_000);
    // 100 packets: 20 MB/s: 19 packets.
    t.end.conn.cwnd = 100;
    assert_eq!(t.end.conn.tso_bytes(&plain()), 19_000);
    let slow = Config { max_pacing_rate: Bandwidth::from_bytes_per_sec(100_000), ..plain() };
    assert_eq!(t.end.conn.tso_bytes(&slow), 2000, "tcp_min_tso_segs");
    assert_eq!(t.end.conn.tso_bytes(&Config { min_tso_segs: 7, ..slow.clone() }), 7000);
    assert_eq!(t.end.conn.tso_bytes(&Config { min_tso_segs: 1, ..slow }), 1000);
}

#[test]
fn tcp_tso_rtt_log_makes_segments_of_short_paths_larger() {
    let slow = Config { max_pacing_rate: Bandwidth::from_bytes_per_sec(1_024_000), ..plain() };
    let size = |rtt: Duration, cfg: &Config| {
        let mut t = Test::connect_over(cfg.clone(), FlowParams { gso_max: 64_000, ..FlowParams::new(1, 2) });
        t.expect(seg().seq(0).syn()).after(rtt);
        let o = stackd_wire::TcpOptions { mss: Some(1000), sack_permitted: true, ..stackd_wire::TcpOptions::NONE };
        t.recv(seg().seq(0).ack(1).syn().options(o));
        t.end.conn.max_wnd = 1 << 20;
        t.end.conn.tso_bytes(cfg) / 1000
    };
    // The least RTT in units of 512 us halves the allowance of 64,000 bytes that often. A millisecond at the rate is one packet.
    assert_eq!(size(Duration::from_micros(300), &slow), 64);
    assert_eq!(size(Duration::from_micros(600), &slow), 33);
    assert_eq!(size(Duration::from_micros(1100), &slow), 17);
    assert_eq!(size(ms(10), &slow), 2, "tcp_min_tso_segs");
    assert_eq!(size(Duration::from_micros(300), &Config { tso_rtt_log: 0, ..slow.clone() }), 2);
    // BBR says how many segments at least; the path's shortness adds to that too.
    let bbr = Config { congestion: "bbr", ..slow };
    assert_eq!(size(Duration::from_micros(300), &bbr), 64);
    assert!(size(ms(10), &bbr) <= 11);
}

/// Linux's `tcp_bound_to_half_wnd`: a peer with small windows gets segments that leave room for another.
#[test]
fn segments_are_at_most_half_of_the_largest_window() {
    let mut t = Test::connect_over(plain(), FlowParams { port_paces: false, ..FlowParams::new(1, 2) });
    t.expect(seg().seq(0).syn()).after(ms(10));
    let o = stackd_wire::TcpOptions { mss: Some(1460), sack_permitted: true, ..stackd_wire::TcpOptions::NONE };
    t.recv(seg().seq(0).ack(1).syn().win(2000).options(o)).expect(seg().seq(1).ack(1));
    t.write(5000).expect(seg().seq(1).len(1000)).expect(seg().seq(1001).len(1000)).quiet();
    // A larger window than ever: the segments grow with it.
    t.recv(seg().ack(2001).win(2600)).expect(seg().seq(2001).len(1300));
    // Up to RFC 9293's default segment the window itself is the limit.
    let mut t = Test::connect_over(plain(), FlowParams { port_paces: false, ..FlowParams::new(1, 2) });
    t.expect(seg().seq(0).syn()).after(ms(10));
    t.recv(seg().seq(0).ack(1).syn().win(500).options(o)).expect(seg().seq(1).ack(1));
    t.write(5000).expect(seg().seq(1).len(500)).quiet();
}

// ---- autocorking ----

#[test]
fn tcp_autocorking_waits_for_the_queue_below_with_nodelay_too() {
    for nodelay in [false, true] {
        let mut t = Test::established(Config { nodelay, ..plain() });
        t.slow_device = true;
        t.write(100).expect(seg().seq(1).len(100));
        t.write(200).quiet().write(300).quiet();
        assert_eq!(t.end.mib.get(Mib::TcpExtTCPAutoCorking), 1, "each wait counts once");
        t.complete(100);
        if nodelay {
            t.expect(seg().seq(101).len(200));
        } else {
            // Nagle still has its say.
            t.quiet().recv(seg().ack(101)).expect(seg().seq(101).len(200));
        }
        // Nothing unacknowledged: what the device holds must have left.
        t.recv(seg().ack(301)).write(400).expect(seg().seq(301).len(100));
        t.write(500).quiet();
        assert_eq!(t.end.mib.get(Mib::TcpExtTCPAutoCorking), 2);
    }
    let mut t = Test::established(Config { nodelay: true, autocorking: false, ..plain() });
    t.slow_device = true;
    t.write(100).expect(seg().seq(1).len(100)).write(200).expect(seg().seq(101).len(100));
}

// ---- the congestion window ----

/// Linux remembers a full window for as long as what it held is unacknowledged. Forgotten at the first ACK, a program that writes a window at a
/// time and then waits did not grow in congestion avoidance, for its other ACKs counted as those of an idle sender.
#[test]
fn rfc7661_all_acks_of_a_full_window_widen_it() {
    let mut t = Test::established(plain());
    t.end.conn.set_congestion(t.now, "reno", &t.end.cfg.clone());
    // Into congestion avoidance: a loss, recovered.
    t.write(10_000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1).sack(1001, 10_001));
    t.drain();
    t.after(ms(10)).recv(seg().ack(10_001));
    assert_eq!((t.end.conn.ca_state, t.end.conn.cwnd, t.end.conn.ssthresh), (CaState::Open, 5, 5));
    let mut head = 10_000;
    for round in 1..=4u32 {
        head += u64::from(t.end.conn.cwnd) * 1000;
        let cwnd = t.end.conn.cwnd;
        t.write(head);
        t.drain();
        t.after(ms(10));
        for i in (0..cwnd).rev() {
            t.recv(seg().ack(head as u32 + 1 - i * 1000));
        }
        assert_eq!(t.end.conn.cwnd, 5 + round, "a packet a round trip");
    }
}

#[test]
fn rfc7661_a_window_that_is_not_filled_does_not_widen() {
    let mut t = warmed(plain(), 2);
    let cwnd = t.end.conn.cwnd;
    assert_eq!(cwnd, 40);
    let mut head = 30_000;
    // Below half of it in slow start: no growth.
    for _ in 0..20 {
        head += 19_000;
        t.write(head);
        t.drain();
        t.after(ms(10)).recv(seg().ack(head as u32 + 1));
    }
    assert_eq!(t.end.conn.cwnd, cwnd);
    // More than half: it may double what was used.
    head += 21_000;
    t.write(head);
    t.drain();
    t.after(ms(10)).recv(seg().ack(head as u32 + 1));
    assert!(t.end.conn.cwnd > cwnd);
}

#[test]
fn rfc5681_a_window_that_the_peer_kept_closed_is_idle_too() {
    for (restart, expected) in [(true, 10), (false, 80)] {
        let mut t = warmed(Config { slow_start_after_idle: restart, ..plain() }, 3);
        assert_eq!(t.end.conn.cwnd, 80);
        t.recv(seg().ack(70_001).win(0));
        t.write(150_000).quiet();
        // As long as the peer answers probes the connection lives; the path's state is what it was ages ago.
        for _ in 0..3 {
            t.after(Duration::from_secs(1));
            t.drain();
            t.recv(seg().ack(70_001).win(0));
        }
        t.recv(seg().ack(70_001).win(60_000));
        let sent: u64 = lengths(&mut t).iter().sum();
        assert_eq!((t.end.conn.cwnd, sent), (expected, u64::from(expected.min(60)) * 1000));
    }
}

// ---- unsent bytes ----

#[test]
fn tcp_notsent_lowat_lets_no_more_be_written_and_wakes_at_half() {
    let lowat = Config { notsent_lowat: 8000, ..plain() };
    let flow = FlowParams { gso_max: 4000, port_paces: false, ..FlowParams::new(1, 2) };
    let mut t = Test::connect_over(lowat.clone(), flow);
    t.expect(seg().seq(0).syn()).after(ms(10));
    let o = stackd_wire::TcpOptions { mss: Some(1000), sack_permitted: true, ..stackd_wire::TcpOptions::NONE };
    t.recv(seg().seq(0).ack(1).syn().options(o)).expect(seg().seq(1).ack(1));
    // Ten packets may leave at once.
    assert_eq!(t.end.conn.notsent_limit(&lowat), 18_000);
    t.write(18_000);
    t.drain();
    assert_eq!((t.end.conn.not_sent(), t.end.conn.notsent_limit(&lowat)), (8000, 18_000));
    assert!(!t.end.conn.below_notsent_lowat(&lowat));
    t.after(ms(10)).recv(seg().ack(2001));
    t.drain();
    assert_eq!(t.end.conn.not_sent(), 4000);
    assert!(!t.end.conn.below_notsent_lowat(&lowat), "half is not below half");
    assert_eq!(t.end.conn.notsent_limit(&lowat), 22_000);
    t.recv(seg().ack(3001));
    t.drain();
    assert!(t.end.conn.below_notsent_lowat(&lowat));
    // Less than a segment of the largest size: one may be written all the same.
    assert_eq!(t.end.conn.notsent_limit(&Config { notsent_lowat: 1, ..lowat }), 16_000 + 4000);
    assert_eq!(t.end.conn.notsent_limit(&plain()), u64::MAX);
}

// ---- timeouts ----

#[test]
fn total_rto_counts_timeouts_rows_of_them_and_their_time() {
    let mut t = Test::established(Config { frto: 0, ..plain() });
    let info = |t: &Test| {
        let i = t.end.conn.info(t.now, &t.end.cfg);
        (i.total_rto, i.total_rto_recoveries, i.total_rto_time)
    };
    t.write(2000);
    t.drain();
    assert_eq!(info(&t), (0, 0, 0));
    // RTO is 210 ms, and doubles.
    t.after(ms(210)).drain();
    assert_eq!(info(&t), (1, 1, 0));
    t.after(ms(420)).drain();
    assert_eq!(info(&t), (2, 1, 420), "a row that goes on");
    t.after(ms(30)).recv(seg().ack(2001));
    assert_eq!(info(&t), (2, 1, 450));
    t.after(ms(500));
    assert_eq!(info(&t), (2, 1, 450), "over");
    t.write(3000);
    t.drain();
    let rto = t.end.conn.rto(&t.end.cfg.clone());
    t.after(rto).drain();
    assert_eq!((info(&t).0, info(&t).1), (3, 2));
}

#[test]
fn total_rto_counts_the_handshakes_timeouts() {
    let mut t = Test::connect(plain());
    t.expect(seg().seq(0).syn());
    t.after(ms(1000)).expect(seg().seq(0).syn());
    t.after(ms(1000)).expect(seg().seq(0).syn());
    t.after(ms(50)).recv(seg().seq(0).ack(1).syn());
    let i = t.end.conn.info(t.now, &t.end.cfg);
    assert_eq!((i.total_rto, i.total_rto_recoveries, i.total_rto_time), (2, 1, 1050));
}

/// One reduction a window: a timeout that interrupts fast recovery does not halve a second time.
#[test]
fn a_timeout_within_recovery_keeps_ssthresh() {
    let mut t = Test::established(plain());
    t.write(10_000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1).sack(1001, 10_001)).expect(seg().seq(1).len(1000));
    assert_eq!((t.end.conn.ca_state, t.end.conn.ssthresh), (CaState::Recovery, 5));
    t.after(ms(300)).expect(seg().seq(1).len(1000));
    assert_eq!((t.end.conn.ca_state, t.end.conn.ssthresh, t.end.conn.cwnd), (CaState::Loss, 5, 1));
    assert_eq!(t.end.conn.snd_nxt(), SeqNum(ISS) + 10_001);
}

/// RFC 5681, 3.1: "when a TCP sender detects segment loss using the retransmission timer and the given segment has not yet been resent";
/// a backed-off timeout begins the flight anew and reduces nothing.
#[test]
fn a_repeated_timeout_keeps_ssthresh_and_begins_anew() {
    let mut t = Test::established(Config { frto: 0, ..plain() });
    t.write(10_000);
    t.drain();
    t.after(ms(210)).expect(seg().seq(1).len(1000));
    t.after(ms(420)).expect(seg().seq(1).len(1000));
    assert_eq!((t.end.conn.ssthresh, t.end.conn.cwnd), (5, 1));
}
