//! Requirements of RFC 9293 that no other test holds; `docs/rfc9293.md` lists them all.

use super::link::End;
use super::segments::{ISS, PEER, Test, seg, ts};
use crate::{Config, Connection, FlowParams, IpEcn, State};
use stackd_base::{Duration, Instant, Mss, SeqNum};
use stackd_wire::{TcpFlags, TcpOptions, TcpRepr};

fn plain() -> Config {
    Config { timestamps: false, congestion: "reno", ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// MUST-1: "the window size MUST be treated as an unsigned number"; REC-1: 32 bits of it, here with the largest scale.
#[test]
fn rfc9293_windows_are_unsigned_and_wide() {
    let o = TcpOptions { mss: Some(1000), window_scale: Some(14), ..TcpOptions::NONE };
    let mut t = Test::established_with(plain(), o);
    t.recv(seg().ack(1).win(0xffff));
    assert_eq!(t.end.conn.snd_wnd, 0xffff << 14);
    let mut t = Test::established(plain());
    t.recv(seg().seq(1).ack(1).len(1)).recv(seg().seq(2).ack(1).win(0x8001));
    assert_eq!(t.end.conn.snd_wnd, 0x8001);
}

/// MUST-15: without an MSS option 536 bytes over IPv4 and 1220 over IPv6.
#[test]
fn rfc9293_the_default_mss_is_536_or_1220() {
    for (ipv6, mss) in [(false, 536), (true, 1220)] {
        let flow = FlowParams { ipv6, mss: Mss::new_clamped(1440), ..FlowParams::new(1, 2) };
        let mut t = Test::connect_over(plain(), flow);
        t.expect(seg().syn()).recv(seg().seq(0).ack(1).syn());
        assert_eq!(t.end.conn.mss, mss);
    }
}

/// MUST-14, MUST-67, SHLD-5, MAY-3: the SYN says what a segment may carry: MTU minus the fixed headers. MUST-65: no other segment does.
#[test]
fn rfc9293_only_syns_carry_the_mss() {
    let mut t = Test::connect_over(plain(), FlowParams { mss: Mss::new_clamped(1460), ..FlowParams::new(1, 2) });
    assert_eq!(t.next().expect("a SYN").repr.options.mss, Some(1460));
    t.recv(seg().seq(0).ack(1).syn().options(TcpOptions { mss: Some(1000), ..TcpOptions::NONE })).write(5000);
    let out = t.drain();
    assert!(!out.is_empty() && out.iter().all(|o| o.repr.options.mss.is_none()));
}

/// MUST-11: a connection in SYN-RECEIVED remembers how it came there: one that began as our OPEN is refused by a RST. (A listener's child
/// vanishes: `rfc9293_a_reset_in_syn_received_leaves_the_listener`.)
#[test]
fn rfc9293_a_reset_in_a_simultaneous_open_refuses_the_connection() {
    let mut t = Test::connect(plain());
    t.expect(seg().syn()).recv(seg().seq(0).syn()).expect(seg().seq(0).ack(1).syn());
    t.recv(seg().seq(1).ack(1).rst());
    let closed = std::iter::from_fn(|| t.end.conn.poll_event()).last();
    assert_eq!(closed, Some(crate::Event::Closed(crate::CloseReason::Refused)));
}

/// MUST-25: keepalive is off unless asked for. MUST-28: and then not before two hours. SHLD-10, SHLD-11: R1 is at least three
/// retransmissions, R2 at least 100 seconds.
#[test]
fn rfc9293_defaults_are_patient() {
    let cfg = Config::default();
    assert!(!cfg.keepalive);
    assert!(cfg.keepalive_time >= Duration::from_secs(7200));
    assert!(cfg.retries1 >= 3);
    let r2 = crate::recovery::retry_span(cfg.retries2, ms(200), &cfg);
    assert!(r2 >= Duration::from_secs(100), "{r2:?}");
    let mut t = Test::established(plain());
    t.after(Duration::from_secs(100_000)).quiet();
    assert_eq!(t.end.conn.state(), State::Established);
}

/// MUST-34: "a sender MUST be robust against window shrinking". SHLD-15: nothing new is sent; SHLD-16: what is within the window goes on
/// being retransmitted; SHLD-17: the connection does not time out for what is beyond; MAY-7: nothing beyond is repeated.
#[test]
fn rfc9293_a_window_that_shrinks_over_data_in_flight_is_survived() {
    let mut t = Test::established(Config { early_retrans: 0, retries2: 2, ..plain() });
    t.write(9000);
    assert_eq!(t.drain().iter().filter_map(|o| o.payload.clone()).map(|p| p.end).max(), Some(9000));
    t.write(12_000).after(ms(10)).recv(seg().ack(1001).win(2000));
    t.quiet();
    let again = |t: &mut Test| {
        let next = t.end.conn.next_deadline().expect("a timer runs");
        t.after(next - t.now);
        let out = t.drain();
        assert!(out.iter().all(|o| o.is_retransmit), "{out:?}");
        out.iter().filter_map(|o| o.payload.clone()).collect::<Vec<_>>()
    };
    assert!(again(&mut t).iter().all(|p| p.start >= 1000 && p.end <= 3000));
    t.recv(seg().ack(3001).win(0));
    // Longer than R2: what lies beyond the edge is no failure, and only the oldest of it is repeated, as a probe.
    for _ in 0..8 {
        assert!(again(&mut t).iter().all(|p| p.start == 3000));
        t.recv(seg().ack(3001).win(0));
    }
    t.recv(seg().ack(9001).win(9000)).write(13_000);
    assert!(t.drain().iter().any(|o| o.payload.as_ref().is_some_and(|p| p.end > 9000)));
}

/// SHLD-14: "a TCP receiver SHOULD NOT shrink the window, i.e., move the right window edge to the left", though its buffer shrank.
#[test]
fn rfc9293_the_right_edge_never_moves_left() {
    let mut t = Test::established(Config { rcvbuf: Some(40_000), ..plain() });
    let edge = t.end.conn.rcv.edge;
    t.end.conn.rcv.rcvbuf = 5_000;
    t.recv(seg().seq(1).ack(1).len(1000));
    let out = t.next().expect("an ACK");
    assert_eq!(1000 + (u64::from(out.repr.window) << t.end.conn.rcv.scale), edge);
}

/// SHLD-29: "the first zero-window probe when a zero window has existed for the retransmission timeout period"; SHLD-30: "and SHOULD
/// increase exponentially the interval between successive probes".
#[test]
fn rfc9293_zero_windows_are_probed_after_an_rto_and_then_ever_more_rarely() {
    let mut t = Test::established(plain());
    t.recv(seg().ack(1).win(0)).write(1000).quiet();
    let mut at = vec![t.now];
    for _ in 0..5 {
        let next = t.end.conn.next_deadline().expect("a timer runs");
        t.after(next - t.now).expect(seg().seq(0).ack(1)).recv(seg().ack(1).win(0));
        at.push(t.now);
    }
    let gaps: Vec<u64> = at.windows(2).map(|w| (w[1] - w[0]).as_millis()).collect();
    let rto = t.end.conn.rtt.rto(Duration::from_secs(120)).as_millis();
    assert_eq!(gaps, [rto, 2 * rto, 4 * rto, 8 * rto, 16 * rto]);
}

/// MUST-38: the sender's silly window avoidance: less than half the largest window seen is not worth a segment, until time runs out.
#[test]
fn rfc9293_a_sliver_of_window_is_left_alone() {
    let mut t = Test::established(Config { nodelay: true, ..plain() });
    t.recv(seg().ack(1).win(4000)).write(20_000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(4001).win(100));
    assert!(t.next().is_none() || t.end.conn.board.packets_out() == 1);
    let mut t = Test::established(Config { nodelay: true, ..plain() });
    t.recv(seg().ack(1).win(4000)).write(20_000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(3001).win(1100)).quiet();
}

/// MUST-39: the receiver's: the window opens by a segment or half the buffer, not by the byte.
#[test]
fn rfc9293_a_full_buffer_opens_by_whole_segments() {
    let mut t = Test::established(Config { rcvbuf: Some(8000), ..plain() });
    for i in 0..8 {
        t.recv(seg().seq(1 + i * 1000).ack(1).len(1000));
        t.drain();
    }
    let now = t.now;
    for tail in (100..1400).step_by(100) {
        t.end.with(|c, env| c.handle_consumed(now, tail, env));
        t.quiet();
    }
    t.end.with(|c, env| c.handle_consumed(now, 1460, env));
    assert!(t.next().is_some_and(|o| o.repr.window > 0), "a segment fits");
}

/// MUST-58, MUST-59: what arrived together is acknowledged once, after all of it was processed.
#[test]
fn rfc9293_acknowledgments_are_aggregated() {
    let mut t = Test::established(plain());
    for i in 0..6 {
        t.recv(seg().seq(1 + i * 1000).ack(1).len(1000));
    }
    t.expect(seg().ack(6001)).quiet();
}

/// MUST-60, MUST-61: no PUSH in the call: nothing is buffered for ever, and the last segment says PSH. SHLD-27: no PSH for each write, but as
/// Linux one at the end of each GSO frame; SHLD-28: segments are as large as they may be.
#[test]
fn rfc9293_the_last_segment_of_what_was_written_has_psh() {
    let mut t = Test::established(Config { initial_cwnd: 4, ..plain() });
    for head in [300, 600, 4500] {
        t.write(head);
    }
    let pushes = |out: &[crate::SegmentOut]| out.iter().filter(|o| o.repr.flags.contains(TcpFlags::PSH)).count();
    let first = t.drain();
    let sent = |out: &[crate::SegmentOut]| out.iter().filter_map(|o| o.payload.clone()).map(|p| p.end).max();
    assert_eq!((first.len(), sent(&first), pushes(&first)), (2, Some(4000), 2));
    t.after(ms(10)).recv(seg().ack(4001));
    let last = t.drain();
    assert_eq!((last.len(), pushes(&last)), (1, 1));
}

/// SHLD-2: "a TCP implementation SHOULD allow a received RST segment to include data".
#[test]
fn rfc9293_a_reset_may_carry_data() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(1).ack(1).len(20).rst());
    assert_eq!(t.end.conn.state(), State::Closed);
}

/// 3.10.7.4, eighth: data in LAST-ACK or CLOSING "should not occur, since a FIN has been received from the remote side. Ignore the segment
/// text"; MUST-13: TIME-WAIT ends by itself.
#[test]
fn rfc9293_text_after_the_peers_fin_is_ignored() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(1).ack(1).fin()).expect(seg().ack(2));
    t.recv(seg().seq(2).ack(1).len(100)).expect(seg().ack(2));
    assert_eq!(t.end.conn.rx_head(), 0);
    let now = t.now;
    t.end.with(|c, env| c.handle_shutdown_write(now, env));
    t.expect(seg().seq(1).fin()).recv(seg().seq(2).ack(2));
    assert_eq!(t.end.conn.state(), State::Closed);
}

/// RFC 7323, 2.2: "The window field in a segment where the SYN bit is set MUST NOT be scaled"; 2.3: a shift beyond 14 counts as 14.
#[test]
fn rfc7323_windows_of_syns_are_not_scaled_and_shifts_end_at_14() {
    let mut t = Test::connect(Config { rcvbuf: Some(1 << 30), ..plain() });
    let syn = t.next().expect("a SYN").repr;
    assert_eq!((syn.window, syn.options.window_scale), (65_535, Some(14)));
    t.recv(seg().seq(0).ack(1).syn().win(5000).options(TcpOptions { window_scale: Some(9), ..TcpOptions::NONE }));
    assert_eq!(t.end.conn.snd_wnd, 5000);
    t.recv(seg().ack(1).win(5000));
    assert_eq!(t.end.conn.snd_wnd, 5000 << 9);
}

fn stamped() -> Config {
    Config { congestion: "reno", ..Config::default() }
}

/// RFC 7323, 4.3 (A): with delayed ACKs the echo is of the earliest segment not acknowledged yet: the RTT measured includes the delay.
#[test]
fn rfc7323_a_delayed_ack_echoes_the_first_of_the_segments() {
    let mut t = Test::established_ts(stamped(), 100);
    t.end.conn.ack.quick = 0;
    t.end.conn.ack.ato = ms(40);
    t.end.conn.ack.rcv_mss = 1000;
    let echo = t.clock();
    t.recv(seg().seq(1).ack(1).len(1000).ts(110, echo)).quiet();
    t.recv(seg().seq(1001).ack(1).len(1000).ts(120, echo));
    assert_eq!(t.next().and_then(|o| o.repr.options.timestamps).map(|s| s.tsecr), Some(110));
    // Nothing of the second was echoed yet: it is the next one's to be older than.
    t.recv(seg().seq(2001).ack(1).len(1000).ts(130, echo)).recv(seg().seq(3001).ack(1).len(1000).ts(140, echo));
    assert_eq!(t.next().and_then(|o| o.repr.options.timestamps).map(|s| s.tsecr), Some(130));
}

/// (B): a hole: the echo is of the last segment in sequence: the network is congested, and the RTT should be long. (C): a filled hole
/// echoes the segment that filled it.
#[test]
fn rfc7323_behind_a_hole_the_last_in_sequence_is_echoed_and_then_the_filler() {
    let mut t = Test::established_ts(stamped(), 100);
    let echo = t.clock();
    let echoed = |t: &mut Test| t.drain().last().and_then(|o| o.repr.options.timestamps).map(|s| s.tsecr);
    t.recv(seg().seq(1).ack(1).len(1000).ts(110, echo));
    assert_eq!(echoed(&mut t), Some(110));
    t.recv(seg().seq(2001).ack(1).len(1000).ts(120, echo));
    assert_eq!(echoed(&mut t), Some(110));
    t.recv(seg().seq(3001).ack(1).len(1000).ts(130, echo));
    assert_eq!(echoed(&mut t), Some(110));
    t.recv(seg().seq(1001).ack(1).len(1000).ts(125, echo));
    assert_eq!(echoed(&mut t), Some(125));
}

/// RFC 7323, 4.1: the echo tells the original from the retransmission: the RTT of a retransmitted segment may be measured.
#[test]
fn rfc7323_the_echo_measures_what_karn_must_not() {
    let mut t = Test::established_ts(Config { early_retrans: 0, ..stamped() }, 100);
    t.write(1000);
    t.drain();
    t.after(ms(300));
    t.drain();
    let before = t.end.conn.rtt.srtt().expect("the handshake's");
    let resent = t.clock();
    t.after(ms(90)).recv(seg().ack(1001).ts(110, resent));
    let after = t.end.conn.rtt.srtt().expect("measured");
    assert_eq!(after, before + (ms(90) - before) / 8);
    assert_eq!(t.end.conn.backoff, 0);
}

/// RFC 7323, 5.3 R1: "and if the RST bit is not set"; RSTs of old are taken, whatever their time.
#[test]
fn rfc7323_a_reset_needs_no_timestamp() {
    for options in [TcpOptions { timestamps: ts(5, 0), ..TcpOptions::NONE }, TcpOptions::NONE] {
        let mut t = Test::established_ts(stamped(), 1000);
        let rst = TcpRepr {
            src_port: 2,
            dst_port: 1,
            seq: SeqNum(PEER) + 1,
            ack: Some(SeqNum(ISS) + 1),
            flags: TcpFlags::RST,
            options,
            ..TcpRepr::default()
        };
        let now = t.now;
        t.end.with(|c, env| c.handle_segment(now, &rst, 0, IpEcn::NotEct, env));
        assert_eq!(t.end.conn.state(), State::Closed);
    }
}

/// RFC 7323, 5.5: after 24 days without a segment TS.Recent means nothing: the peer's clock may have wrapped.
#[test]
fn rfc7323_ts_recent_is_invalid_after_24_days() {
    for (days, accepted) in [(23, false), (25, true)] {
        let mut t = Test::established_ts(stamped(), 1_000_000);
        t.after(Duration::from_secs(days * 86_400));
        let echo = t.clock();
        t.recv(seg().seq(1).ack(1).len(100).ts(5, echo));
        assert_eq!(t.end.conn.rx_head() == 100, accepted, "{days} days");
        if accepted {
            assert_eq!(t.end.conn.ts_recent().map(|r| r.0), Some(5));
        }
    }
}

/// RFC 6691, 2: the option counts no options; the sender subtracts what it puts into each segment, SACK blocks too.
#[test]
fn rfc6691_options_come_out_of_the_segment_and_not_out_of_the_option() {
    let mut t = Test::established_ts(Config { nodelay: true, ..stamped() }, 100);
    assert_eq!(t.end.conn.mss, 1012 - 12);
    let echo = t.clock();
    t.recv(seg().seq(2001).ack(1).len(1000).ts(110, echo));
    t.drain();
    t.write(5000);
    for o in t.drain() {
        let len = o.payload.as_ref().map_or(0, |p| (p.end - p.start) as u32);
        let each = if o.gso_size == 0 { len } else { u32::from(o.gso_size) };
        assert!(each + o.repr.header_len() as u32 - 20 <= 1012, "{o:?}");
    }
}

/// RFC 9293, 3.10.7.4, second, and RFC 5961: what a listener's half-open child does with a RST that is not exact: it is challenged too.
#[test]
fn rfc5961_an_inexact_reset_does_not_end_a_handshake() {
    let syn = TcpRepr {
        src_port: 2,
        dst_port: 1,
        seq: SeqNum(PEER),
        flags: TcpFlags::SYN,
        window: 60_000,
        ..TcpRepr::default()
    };
    let now = Instant::from_nanos(5_000_000_000);
    let cfg = plain();
    let conn = Connection::accept(&cfg, FlowParams::new(1, 2), SeqNum(ISS), &syn, now);
    let mut end = End::new(conn, cfg, 1);
    assert!(end.with(|c, env| c.poll_transmit(now, env)).is_some());
    for (seq, state) in [(500, State::SynReceived), (1, State::Closed)] {
        let rst = TcpRepr { seq: SeqNum(PEER) + seq, flags: TcpFlags::RST, ..syn };
        end.with(|c, env| c.handle_segment(now, &rst, 0, IpEcn::NotEct, env));
        assert_eq!(end.conn.state(), state, "{seq}");
    }
}
