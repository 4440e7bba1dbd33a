//! Bugs that other implementations shipped, where the whole connection is needed to see them. Those of an algorithm alone stand in
//! `cc/bbr/tests.rs`, those of a whole path in `stackd/sim/tests/shipped.rs`.

use super::segments::{Test, seg};
use crate::{Config, FlowParams};
use stackd_base::{Bandwidth, Duration};
use stackd_wire::TcpOptions;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Paces itself at 100 kB/s; peer's MSS is 1000, RTT 10 ms.
fn paced(congestion: &'static str) -> Test {
    let rate = Bandwidth::from_bytes_per_sec(100_000);
    let cfg = Config { max_pacing_rate: rate, nodelay: true, timestamps: false, congestion, ..Config::default() };
    let flow = FlowParams { port_paces: false, gso_max: 1000, ..FlowParams::new(1, 2) };
    let mut t = Test::connect_over(cfg, flow);
    t.expect(seg().syn()).after(ms(10));
    let o = TcpOptions { mss: Some(1000), sack_permitted: true, ..TcpOptions::NONE };
    t.recv(seg().seq(0).ack(1).syn().options(o)).expect(seg().ack(1));
    t
}

/// Shipped bug 4: a sender that its own pacing held back was taken for one whose application had nothing to send, and its samples were then ignored.
#[test]
fn held_back_by_pacing_is_not_limited_by_the_application() {
    for cc in ["cubic", "bbr"] {
        let mut t = paced(cc);
        t.write(50_000);
        let sent = t.drain().len();
        assert!(sent < 20 && t.end.conn.stats.paced_until.is_some(), "{cc}: {sent} segments left at once");
        assert!(!t.end.conn.rate.is_app_limited(), "{cc}");
        // And the other way round: all is sent, and nothing more was written.
        let mut t = paced(cc);
        t.write(1000);
        t.drain();
        t.after(ms(100));
        t.drain();
        assert!(t.end.conn.rate.is_app_limited(), "{cc}");
    }
}

/// Shipped bug 5: small packets charged to the pacer as full ones. 140 bytes at 100 kB/s take 1.4 ms, and not 10.
#[test]
fn a_small_packet_is_paced_by_its_own_size() {
    let mut t = paced("cubic");
    let mut left = Vec::new();
    for i in 1..=20 {
        t.write(i * 100);
        loop {
            let sent = t.drain().len();
            if sent > 0 {
                assert_eq!(sent, 1);
                left.push(t.now);
                break;
            }
            let next = t.end.conn.next_deadline().expect("paced");
            t.after(next - t.now);
        }
        t.recv(seg().ack(i as u32 * 100 + 1));
    }
    let gaps: Vec<_> = left.windows(2).map(|w| (w[1] - w[0]).as_micros()).collect();
    assert!(gaps.iter().all(|g| *g == 1400), "{gaps:?}");
}

/// Shipped bug 9: an ACK that waited in the host was counted as a slow path. What counts is when it arrived.
#[test]
fn an_ack_processed_late_is_no_longer_round_trip() {
    let mut t = Test::established(Config { timestamps: false, ..Config::default() });
    t.write(1000);
    let sent_at = t.now;
    t.drain();
    // It arrives after 10 ms; the host looks at it 200 ms later (the timers already stand there), with the time of arrival.
    t.now = sent_at + ms(10);
    t.recv(seg().ack(1001));
    t.now = sent_at + ms(210);
    let now = t.now;
    t.end.with(|c, env| c.handle_timeout(now, env));
    assert_eq!(t.end.conn.rtt.min(), Some(ms(10)));
    assert!(t.end.conn.rtt.srtt() <= Some(ms(11)), "{:?}", t.end.conn.rtt.srtt());
}

/// Shipped bug 11: a counter of delayed ACKs that stuck: after the first timeout no ACK was delayed any more, or none left any more.
#[test]
fn delayed_acks_go_on_being_delayed_and_sent() {
    let mut t = Test::established(Config { timestamps: false, ..Config::default() });
    let mut seq = 1;
    for round in 0..200 {
        // One segment, and a pause longer than any delay: an ACK leaves within 200 ms, exactly one.
        t.recv(seg().seq(seq).ack(1).len(1000));
        seq += 1000;
        let mut acks = t.drain().len();
        t.after(ms(200));
        acks += t.drain().len();
        assert_eq!(acks, 1, "round {round}");
        t.after(ms(300));
        assert!(t.drain().is_empty(), "round {round}");
        let rx = t.end.conn.rx_head();
        let now = t.now;
        t.end.with(|c, env| c.handle_consumed(now, rx, env));
        t.drain();
    }
}
