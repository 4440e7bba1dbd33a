//! What each timer does when it is due, and what it leaves behind: rules that a mutation check found no test to hold (`docs/mutants.md`).

use super::link::End;
use super::segments::{ISS, PEER, Test, seg};
use crate::recovery::RetransTimer;
use crate::{CloseReason, Config, Connection, Event, FlowParams, State};
use stackd_base::{Bandwidth, Duration, Instant, Mib, SeqNum};
use stackd_wire::{TcpFlags, TcpOptions, TcpRepr};

fn cfg() -> Config {
    Config { timestamps: false, congestion: "reno", early_retrans: 0, nodelay: true, ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The next deadline is reached.
fn fire(t: &mut Test) {
    let next = t.end.conn.next_deadline().expect("a timer runs");
    t.after(next - t.now);
}

/// How long until the connection ends, when nobody answers.
fn lives(t: &mut Test) -> Duration {
    let start = t.now;
    while t.end.conn.state() != State::Closed {
        assert!(t.now - start < secs(3600), "it never ends: {:?}", t.end.conn);
        fire(t);
        if t.end.conn.state() != State::Closed {
            t.drain();
        }
    }
    t.now - start
}

fn close(t: &mut Test) {
    let now = t.now;
    t.end.with(|c, env| c.handle_close(now, false, env));
}

/// The timer, and how long it still has.
fn timer(t: &Test) -> Option<(RetransTimer, Duration)> {
    t.end.conn.timer.map(|(kind, at)| (kind, at - t.now))
}

/// `ss -o`: what runs, when it fires, how often it did.
#[test]
fn the_timer_that_ss_shows_is_the_one_that_runs() {
    let keepalive = Config { keepalive: true, ..cfg() };
    let mut t = Test::established(keepalive);
    let shown = |t: &Test| t.end.conn.timer_info().map(|i| (i.kind, i.at, i.retransmits));
    assert_eq!(shown(&t), Some((2, t.now + secs(7200), 0)));
    t.write(1000);
    t.drain();
    fire(&mut t);
    assert_eq!(shown(&t), Some((1, t.now + ms(420), 1)));
    t.drain();
    t.recv(seg().ack(1001).win(0)).write(2000).quiet();
    fire(&mut t);
    let at = t.end.conn.next_deadline().expect("a timer runs");
    assert_eq!(shown(&t), Some((4, at, 1)));
}

/// An ACK that ends the wait for a tail loss probe leaves the timeout of what is oldest, never one that is past already.
#[test]
fn rfc6298_a_timer_that_replaces_a_probe_is_the_heads_own_and_in_the_future() {
    for late in [5, 350, 400, 3000] {
        let mut t = Test::established(Config { early_retrans: 3, recovery: 0, rto_max: ms(400), ..cfg() });
        t.write(5000);
        t.drain();
        assert_eq!(timer(&t).map(|t| t.0), Some(RetransTimer::Tlp));
        let sent = t.now;
        // Whoever runs the timers is late.
        t.now += ms(late);
        t.recv(seg().ack(1).sack(3001, 4001));
        let due = (sent + t.end.conn.rto(&t.end.cfg)).max(t.now + Duration::from_micros(1));
        assert_eq!(t.end.conn.timer, Some((RetransTimer::Rto, due)), "{late} ms later");
    }
}

/// RFC 8985, 7.2: no probe while something is SACKed: SACKs tell of losses already. A reduction by ECN does not change that.
#[test]
fn rfc8985_no_probe_is_scheduled_while_something_is_sacked() {
    let mut t = Test::established(Config { early_retrans: 3, recovery: 0, ..cfg() });
    t.end.conn.opts.ecn = true;
    t.write(5000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1001).flag(TcpFlags::ECE));
    assert_eq!(timer(&t).map(|t| t.0), Some(RetransTimer::Tlp));
    t.recv(seg().ack(1001).sack(2001, 3001));
    assert_eq!(timer(&t).map(|t| t.0), Some(RetransTimer::Rto));
}

/// RFC 9293, 3.8.6.1: the wait before a closed window is one: what is written meanwhile does not begin it anew.
#[test]
fn rfc9293_writing_does_not_put_a_window_probe_off() {
    let mut t = Test::established(cfg());
    t.recv(seg().ack(1).win(0)).write(1000).quiet();
    let due = t.end.conn.next_deadline();
    t.after(ms(100)).write(2000).quiet();
    assert_eq!(t.end.conn.next_deadline(), due);
}

/// A closed window holds a FIN back, too: it is probed for the FIN's sake.
#[test]
fn rfc9293_a_window_closed_before_a_fin_is_probed() {
    let mut t = Test::established(cfg());
    t.recv(seg().ack(1).win(0));
    let now = t.now;
    t.end.with(|c, env| c.handle_shutdown_write(now, env));
    t.quiet();
    fire(&mut t);
    t.expect(seg().seq(0).ack(1));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPWinProbe), 1);
}

/// RFC 9293, 3.8.6.2.1: the "override timeout" of silly window avoidance: what fits is sent, however little, and the window was not closed.
#[test]
fn rfc9293_a_sliver_of_a_window_is_used_in_the_end() {
    let mut t = Test::established(cfg());
    t.recv(seg().ack(1).win(0)).recv(seg().ack(1).win(1)).write(1000).quiet();
    assert!(t.end.conn.persist_since.is_some());
    fire(&mut t);
    t.expect(seg().seq(1).len(1));
    assert_eq!((t.end.conn.persist_since, t.end.mib.get(Mib::TcpExtTCPWinProbe)), (None, 0));
}

/// How many unanswered probes end a connection: `tcp_retries2`, of an orphan `tcp_orphan_retries`, where 0 stands for 8; TCP_USER_TIMEOUT
/// replaces either. The first probe is sent after 210 ms, and the wait doubles.
#[test]
fn an_unanswered_closed_window_ends_a_connection_after_so_many_probes() {
    let user = Config { user_timeout: Some(ms(3000)), ..cfg() };
    for (cfg, orphan, probes) in [
        (Config { retries2: 5, ..cfg() }, false, 5),
        (Config { orphan_retries: 3, ..cfg() }, true, 3),
        (Config { orphan_retries: 3, retries2: 6, ..cfg() }, false, 6),
        (cfg(), true, 8),
        (user.clone(), false, 3),
        (user, true, 3),
    ] {
        let mut t = Test::established(cfg.clone());
        t.recv(seg().ack(1).win(0)).write(1000).quiet();
        if orphan {
            close(&mut t);
        }
        lives(&mut t);
        assert_eq!(t.end.mib.get(Mib::TcpExtTCPWinProbe), probes, "{orphan} {cfg:?}");
        assert_eq!(t.end.mib.get(Mib::TcpExtTCPAbortOnTimeout), 1);
        t.quiet();
    }
}

/// An orphan's data goes unanswered: as long as so many timeouts take that begin at 200 ms; 0 stands for 8 of them. Nothing is said to a peer that
/// does not answer.
#[test]
fn an_orphan_gives_up_in_silence_after_its_retries() {
    for (orphan_retries, want) in [(0, 107), (3, 6)] {
        let mut t = Test::established(Config { orphan_retries, ..cfg() });
        t.write(1000);
        t.drain();
        close(&mut t);
        assert_eq!(lives(&mut t).as_millis() / 1000, want, "{orphan_retries}");
        t.quiet();
    }
}

/// A server's child that its application let go during the handshake: the peer may think that it is connected.
#[test]
fn a_forsaken_handshake_ends_with_a_reset() {
    let syn = TcpRepr { src_port: 2, dst_port: 1, seq: SeqNum(PEER), flags: TcpFlags::SYN, ..TcpRepr::default() };
    for closed in [false, true] {
        let now = Instant::from_nanos(5_000_000_000);
        let conn = Connection::accept(&cfg(), FlowParams::new(1, 2), SeqNum(ISS), &syn, now);
        let mut t = Test::over(End::new(conn, cfg(), 9), now);
        t.drain();
        if closed {
            close(&mut t);
        }
        lives(&mut t);
        assert_eq!(t.next().is_some_and(|o| o.repr.flags.rst()), closed);
        assert_eq!(t.end.mib.get(Mib::TcpAttemptFails), 1);
    }
}

/// RFC 6298, 5.7: whatever becomes of the SYN that is due, the next timeout is set already.
#[test]
fn a_syns_next_timeout_does_not_wait_for_the_device() {
    let mut t = Test::connect(Config { syn_linear_timeouts: 0, ..cfg() });
    t.expect(seg().syn());
    for wait in [2000, 4000, 8000] {
        fire(&mut t);
        assert_eq!(timer(&t), Some((RetransTimer::Rto, ms(wait))));
    }
    assert_eq!(t.end.conn.info(t.now, &t.end.cfg).rehash, 3, "another path is tried each time");
}

/// RFC 9293, 3.6.1 (MSL): TIME-WAIT lasts a minute, and each repeated FIN begins it anew.
#[test]
fn rfc9293_time_wait_ends_a_minute_after_the_last_fin() {
    let mut t = Test::established(cfg());
    let now = t.now;
    t.end.with(|c, env| c.handle_shutdown_write(now, env));
    t.expect(seg().fin()).recv(seg().seq(1).ack(2).fin()).expect(seg().ack(2));
    assert_eq!(t.end.conn.state(), State::TimeWait);
    t.after(secs(30)).recv(seg().seq(1).ack(2).fin()).expect(seg().ack(2));
    t.after(ms(59_999));
    assert_eq!(t.end.conn.state(), State::TimeWait);
    t.after(ms(1));
    assert_eq!((t.end.conn.state(), t.end.conn.next_deadline()), (State::Closed, None));
}

/// tcp-thin: fewer than four packets in flight. A backoff of before that is taken back.
#[test]
fn a_stream_that_becomes_thin_forgets_its_backoff() {
    let mut t = Test::established(Config { thin_linear_timeouts: true, frto: 0, ..cfg() });
    t.write(4000);
    t.drain();
    fire(&mut t);
    assert_eq!(t.end.conn.backoff, 1, "four are not thin");
    t.drain();
    t.recv(seg().ack(1001));
    assert_eq!(t.end.conn.backoff, 1, "Karn");
    t.drain();
    fire(&mut t);
    assert_eq!(t.end.conn.backoff, 0);
}

/// RFC 5482: a user timeout that is over before the next tick of the clock: still no deadline that spins.
#[test]
fn rfc5482_a_user_timeout_is_a_millisecond_away_at_least() {
    let mut t = Test::established(Config { user_timeout: Some(Duration::from_micros(300)), ..cfg() });
    t.write(1000);
    t.drain();
    fire(&mut t);
    assert_eq!(timer(&t), Some((RetransTimer::Rto, ms(1))));
    fire(&mut t);
    assert_eq!(t.end.conn.state(), State::Closed);
}

/// What a timeout or a tail loss probe sends leaves at once: what paced the flight before it does not matter any more.
#[test]
fn rfc6298_the_head_is_resent_whatever_paced_the_flight() {
    for early_retrans in [0, 3] {
        let slow = Bandwidth::from_bytes_per_sec(10_000);
        let mut t = Test::established(Config { early_retrans, ..cfg() });
        t.write(3000);
        t.drain();
        t.end.cfg.max_pacing_rate = slow;
        t.end.conn.next_departure = t.now + secs(10);
        let head = if early_retrans == 0 { 1 } else { 2001 };
        fire(&mut t);
        t.expect(seg().seq(head).len(1000));
    }
}

/// Keepalive after ten seconds, then every 75 of them.
fn alive(more: Config) -> Config {
    Config { keepalive: true, keepalive_time: secs(10), keepalive_intvl: secs(75), ..more }
}

/// RFC 1122, 4.2.3.6: keepalive is for idle connections: with data outstanding or held back by a closed window other timers ask. It looks again an
/// interval later.
#[test]
fn rfc1122_keepalive_asks_nothing_while_other_timers_do() {
    for win in [60_000, 0] {
        let mut t = Test::established(alive(cfg()));
        t.recv(seg().ack(1).win(win)).write(1000);
        t.drain();
        let start = t.now;
        for _ in 0..20 {
            let due = t.end.conn.keepalive_at == t.end.conn.next_deadline();
            fire(&mut t);
            t.drain();
            if due {
                break;
            }
        }
        assert_eq!(t.now - start, secs(10), "window {win}");
        assert_eq!(t.end.conn.keepalive_at, Some(t.now + secs(75)));
        assert_eq!(t.end.mib.get(Mib::TcpExtTCPKeepAlive), 0);
    }
}

/// `tcp_keepalive_time` was raised meanwhile: the idle time counts from the last word of the peer.
#[test]
fn a_raised_keepalive_time_counts_from_the_last_word() {
    let mut t = Test::established(alive(cfg()));
    let start = t.now;
    t.end.cfg.keepalive_time = secs(30);
    fire(&mut t);
    assert_eq!(t.now - start, secs(10));
    assert_eq!(t.end.conn.next_deadline(), Some(start + secs(30)));
    t.quiet();
    fire(&mut t);
    t.expect(seg().seq(0).ack(1));
}

/// SO_KEEPALIVE cleared: no timer; set again: from the last word of the peer, unless probes are out.
#[test]
fn so_keepalive_starts_and_stops_the_timer() {
    let mut t = Test::established(alive(cfg()));
    let (start, on) = (t.now, t.end.cfg.clone());
    let off = Config { keepalive: false, ..on.clone() };
    let rearm = |t: &mut Test, cfg: &Config| {
        let now = t.now;
        t.end.cfg = cfg.clone();
        t.end.conn.rearm_keepalive(now, cfg);
        t.end.conn.next_deadline()
    };
    t.after(secs(3));
    assert_eq!(rearm(&mut t, &off), None);
    assert_eq!(rearm(&mut t, &on), Some(start + secs(10)));
    let idle = Config { keepalive_time: secs(20), ..on.clone() };
    assert_eq!(rearm(&mut t, &idle), Some(start + secs(20)));
    fire(&mut t);
    t.expect(seg().seq(0).ack(1));
    let probed = t.now + secs(75);
    assert_eq!(rearm(&mut t, &on), Some(probed), "a probe is out: its answer is waited for");
    assert_eq!(rearm(&mut t, &off), None, "off is off");
}

/// tcp(7): TCP_USER_TIMEOUT "will override keepalive to determine when to close a connection due to keepalive failure", but one probe is sent first.
#[test]
fn a_user_timeout_overrides_the_number_of_keepalive_probes() {
    for (user, time, probes, want) in [(3500, 1, 3, 4), (3000, 10, 1, 11), (1000, 1, 1, 2)] {
        let keepalive = Config { keepalive_time: secs(time), keepalive_intvl: secs(1), ..alive(cfg()) };
        let mut t = Test::established(Config { user_timeout: Some(ms(user)), ..keepalive });
        assert_eq!((lives(&mut t), t.end.mib.get(Mib::TcpExtTCPKeepAlive)), (secs(want), probes), "{user} ms");
        let end = std::iter::from_fn(|| t.end.conn.poll_event()).last();
        assert_eq!(end, Some(Event::Closed(CloseReason::TimedOut)));
        t.expect(seg().rst());
    }
}

/// As Linux counts them: a timeout is the failure of SACK or of duplicate ACKs, whichever there was; a row of timeouts is one failure.
#[test]
fn a_timeout_counts_as_the_failure_of_what_went_before() {
    let fails = [
        Mib::TcpExtTCPSackRecoveryFail,
        Mib::TcpExtTCPRenoRecoveryFail,
        Mib::TcpExtTCPSackFailures,
        Mib::TcpExtTCPRenoFailures,
        Mib::TcpExtTCPLossFailures,
    ];
    // With SACK or without, duplicate ACKs; what is counted.
    for (sack, dups, want) in [(true, 0, 9), (true, 1, 2), (true, 4, 0), (false, 0, 9), (false, 1, 3), (false, 4, 1)] {
        let o = TcpOptions { mss: Some(1000), sack_permitted: sack, ..TcpOptions::NONE };
        let mut t = Test::established_with(Config { recovery: 0, ..cfg() }, o);
        t.write(8000);
        t.drain();
        for i in 0..dups {
            t.recv(if sack { seg().ack(1).sack(1001, 2001 + i * 1000) } else { seg().ack(1) });
        }
        if sack && dups == 4 {
            t.end.conn.ca_state = crate::cc::CaState::Recovery;
        }
        t.drain();
        for _ in 0..2 {
            fire(&mut t);
            t.drain();
        }
        for (i, m) in fails.into_iter().enumerate() {
            assert_eq!(t.end.mib.get(m), u64::from(i == want), "SACK {sack}, {dups} duplicates: {m:?}");
        }
    }
}
