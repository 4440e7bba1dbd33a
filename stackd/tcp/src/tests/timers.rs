//! User timeout, keepalive, window probes, delayed ACKs, pacing.

use super::segments::{Test, seg};
use crate::{CloseReason, Config, Event, FlowParams, State};
use stackd_base::{Bandwidth, Duration, Instant, Mib};

fn plain() -> Config {
    Config { timestamps: false, congestion: "reno", ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn closed_by_timeout(t: &mut Test) -> bool {
    std::iter::from_fn(|| t.end.conn.poll_event()).any(|e| e == Event::Closed(CloseReason::TimedOut))
}

/// RFC 5482: counted from the first retransmission, and not rounded up to the next backed-off timeout.
#[test]
fn user_timeout_ends_retransmission_in_time() {
    let mut t = Test::established(Config { user_timeout: Some(ms(3000)), early_retrans: 0, ..plain() });
    t.write(1000).expect(seg().len(1000));
    let start = t.now;
    let mut resent = None;
    while t.end.conn.state() == State::Established && t.now - start < Duration::from_secs(30) {
        let next = t.end.conn.next_deadline().expect("a timer runs");
        t.after(next - t.now);
        if !t.drain().is_empty() {
            resent.get_or_insert(t.now);
        }
    }
    let first = resent.expect("resent at least once");
    assert!(closed_by_timeout(&mut t));
    assert!((ms(3000)..ms(3050)).contains(&(t.now - first)), "{:?}", t.now - first);
}

/// tcp(7): TCP_USER_TIMEOUT also bounds how long "buffered data may remain untransmitted (due to zero window size)", probes answered or
/// not.
#[test]
fn user_timeout_ends_a_window_that_stays_closed() {
    let mut t = Test::established(Config { user_timeout: Some(ms(3000)), ..plain() });
    t.recv(seg().ack(1).win(0)).write(1000).quiet();
    let start = t.now;
    while t.end.conn.state() == State::Established && t.now - start < Duration::from_secs(60) {
        let next = t.end.conn.next_deadline().expect("a timer runs");
        t.after(next - t.now);
        if !t.drain().is_empty() {
            t.recv(seg().ack(1).win(0));
        }
    }
    assert!(closed_by_timeout(&mut t));
    assert!(t.now - start < ms(8000), "{:?}", t.now - start);
}

/// RFC 1122, 4.2.2.17: without one, "MUST allow the connection to stay open" as long as the probes are answered.
#[test]
fn answered_window_probes_keep_a_connection_for_hours() {
    let mut t = Test::established(plain());
    t.recv(seg().ack(1).win(0)).write(1000).quiet();
    let start = t.now;
    while t.now - start < Duration::from_secs(4 * 3600) {
        let next = t.end.conn.next_deadline().expect("a timer runs");
        t.after(next - t.now);
        for _ in t.drain() {
            t.recv(seg().ack(1).win(0));
        }
        assert_eq!(t.end.conn.state(), State::Established);
    }
    assert!(t.end.mib.get(Mib::TcpExtTCPWinProbe) > 100);
    t.recv(seg().ack(1).win(5000)).expect(seg().seq(1).len(1000));
}

/// A window that closes over data in flight: the timeouts are the probes then, and an answered one is no reason to give up.
#[test]
fn a_window_closed_over_data_in_flight_is_probed_by_retransmission() {
    let mut t = Test::established(Config { retries2: 3, ..plain() });
    t.write(1000).expect(seg().len(1000));
    let start = t.now;
    while t.now - start < Duration::from_secs(600) {
        let next = t.end.conn.next_deadline().expect("a timer runs");
        t.after(next - t.now);
        for _ in t.drain() {
            t.recv(seg().ack(1).win(0));
        }
        assert_eq!(t.end.conn.state(), State::Established, "after {:?}", t.now - start);
    }
}

/// Two ACKs that swapped places: the older, smaller window must not replace the newer one.
#[test]
fn an_overtaken_ack_does_not_take_a_window_update_back() {
    let mut t = Test::established(plain());
    t.recv(seg().ack(1).win(8000)).recv(seg().ack(1).win(500)).write(1000);
    t.expect(seg().seq(1).len(1000));
}

/// A FIN waits for a closed window as data does.
#[test]
fn a_fin_behind_a_closed_window_is_sent_when_it_opens() {
    let mut t = Test::established(plain());
    t.write(1000).expect(seg().len(1000)).recv(seg().ack(1001).win(0));
    let now = t.now;
    t.end.with(|c, env| c.handle_shutdown_write(now, env));
    t.quiet();
    assert!(t.end.conn.next_deadline().is_some());
    t.recv(seg().ack(1001).win(1000)).expect(seg().seq(1001).fin());
    // And again until it is acknowledged.
    t.after(ms(1000));
    assert!(t.drain().iter().any(|o| o.repr.flags.fin()));
    t.recv(seg().ack(1002));
    assert_eq!(t.end.conn.state(), State::FinWait2);
}

#[test]
fn keepalive_starts_over_with_every_answer_and_ignores_lost_probes() {
    let cfg = Config {
        keepalive: true,
        keepalive_time: Duration::from_secs(10),
        keepalive_intvl: Duration::from_secs(1),
        keepalive_probes: 3,
        ..plain()
    };
    let mut t = Test::established(cfg);
    for _ in 0..5 {
        t.after(ms(10_001)).expect(seg().seq(0).ack(1)).after(ms(1001)).expect(seg().seq(0).ack(1)).recv(seg().ack(1));
        t.quiet().after(ms(9_000)).quiet().recv(seg().ack(1));
    }
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPKeepAlive), 10);
    assert_eq!(t.end.conn.state(), State::Established);
}

#[test]
fn delayed_acks_are_counted_and_leave_in_time() {
    let mut t = Test::established(plain());
    t.end.conn.ack.quick = 0;
    t.end.conn.ack.ato = ms(40);
    t.recv(seg().seq(1).ack(1).len(100)).quiet();
    t.after(ms(39)).quiet().after(ms(2)).expect(seg().ack(101));
    assert_eq!(t.end.mib.get(Mib::TcpExtDelayedACKs), 1);
    // One that data carries is none.
    t.recv(seg().seq(101).ack(1).len(100)).quiet().write(10).expect(seg().seq(1).ack(201).len(10));
    t.after(ms(300));
    assert_eq!(t.end.mib.get(Mib::TcpExtDelayedACKs), 1);
}

/// A GRO frame is many segments: acknowledged at once, and once.
#[test]
fn a_gro_frame_is_acknowledged_at_once_by_one_ack() {
    let mut t = Test::established(plain());
    t.end.conn.ack.quick = 0;
    t.end.conn.ack.ato = ms(40);
    t.recv(seg().seq(1).ack(1).len(30_000)).expect(seg().ack(30_001)).quiet();
}

/// The stamps of a paced flow, every one of them: exactly the bytes' time at the rate apart.
#[test]
fn internal_pacing_is_exact() {
    let rate = Bandwidth::from_bits_per_sec(80_000_000);
    let cfg = Config { max_pacing_rate: rate, initial_cwnd: 1000, nodelay: true, ..plain() };
    let flow = FlowParams { port_paces: false, gso_max: 1000, ..FlowParams::new(1, 2) };
    let mut t = Test::connect_over(cfg, flow);
    t.expect(seg().syn()).after(ms(10));
    let o = stackd_wire::TcpOptions { mss: Some(1000), sack_permitted: true, ..stackd_wire::TcpOptions::NONE };
    t.recv(seg().seq(0).ack(1).syn().options(o)).expect(seg().ack(1)).write(50_000);
    let mut left: Vec<Instant> = Vec::new();
    while left.len() < 50 {
        left.extend(t.drain().iter().filter(|o| o.payload.is_some()).map(|_| t.now));
        if left.len() < 50 {
            let next = t.end.conn.next_deadline().expect("paced");
            assert!(next > t.now, "a deadline that does not move");
            t.after(next - t.now);
        }
    }
    // 1040 bytes at 10 MB/s.
    let gaps: Vec<_> = left.windows(2).map(|w| (w[1] - w[0]).as_micros()).collect();
    assert!(gaps.iter().all(|g| *g == 104), "{gaps:?}");
}

/// With a clock of 100 Hz, what is due within a tick leaves in that tick, and the next tick is not slept through.
#[test]
fn pacing_on_a_coarse_clock_keeps_its_rate() {
    let tick = ms(10);
    let rate = Bandwidth::from_bits_per_sec(80_000_000);
    let cfg = Config { max_pacing_rate: rate, initial_cwnd: 10_000, nodelay: true, clock_tick: tick, ..plain() };
    let wide = stackd_wire::TcpOptions { mss: Some(1000), window_scale: Some(7), ..stackd_wire::TcpOptions::NONE };
    let mut t = Test::established_with(cfg, wide);
    t.recv(seg().ack(1).win(60_000));
    let start = t.now;
    t.write(20_000_000);
    let mut bytes = 0;
    while t.now - start < ms(1000) {
        t.recv(seg().ack(bytes as u32 + 1));
        bytes += t.drain().iter().filter_map(|o| o.payload.clone()).map(|p| p.end - p.start).sum::<u64>();
        let pacing = t.end.conn.stats.paced_until.expect("paced");
        let wake = (pacing + (tick - Duration::from_nanos(1))).coarsen(tick).max(t.now + tick);
        assert_eq!(wake, t.now + tick, "slept through a tick");
        t.now = wake;
        let now = t.now;
        t.end.with(|c, env| c.handle_timeout(now, env));
    }
    let mbit = bytes as f64 * 8.0 / 1e6;
    assert!((75.0..81.0).contains(&mbit), "{mbit}");
}

/// A peer that answers every probe and never opens its window held the memory of a socket that nobody has any more for ever. (Found by the fuzzer:
/// a connection to itself. Linux ends an orphan when the interval of its probes has grown as far as it does.)
#[test]
fn an_orphan_before_an_answered_zero_window_ends() {
    for cfg in [plain(), Config { orphan_retries: 3, ..plain() }, Config { retries2: 3, ..plain() }] {
        let patience = if cfg.retries2 == 3 { 4 } else { 300 };
        let mut t = Test::established(cfg);
        t.recv(seg().ack(1).win(0)).write(1000).quiet();
        let (now, start) = (t.now, t.now);
        t.end.with(|c, env| c.handle_close(now, false, env));
        while t.end.conn.state() != State::Closed {
            assert!(t.now - start < Duration::from_secs(600), "still there: {:?}", t.end.conn);
            let next = t.end.conn.next_deadline().expect("a timer runs");
            t.after(next - t.now);
            if t.next().is_some() {
                t.recv(seg().ack(1).win(0));
            }
        }
        assert!(t.now - start > Duration::from_secs(patience) / 2, "after {:?}", t.now - start);
        assert_eq!(t.end.mib.get(Mib::TcpExtTCPAbortOnTimeout), 1);
    }
}
