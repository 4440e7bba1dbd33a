//! One test a rule, named after it.

use super::link::End;
use super::segments::{Test, seg};
use crate::{CloseReason, Config, Connection, Event, FlowParams, IpEcn, State};
use stackd_base::{Bandwidth, DropReason, Duration, Instant, Mib, SeqNum};
use stackd_wire::{TcpFlags, TcpOptions, TcpRepr};

fn plain() -> Config {
    Config { timestamps: false, congestion: "reno", ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn rfc6298_syn_is_repeated_after_one_second_and_backs_off() {
    let mut t = Test::connect(Config { syn_linear_timeouts: 0, ..plain() });
    t.expect(seg().seq(0).syn()).after(ms(999)).quiet();
    t.after(ms(2)).expect(seg().seq(0).syn()).after(ms(1900)).quiet();
    t.after(ms(200)).expect(seg().seq(0).syn());
}

#[test]
fn rfc9293_rst_that_acks_the_syn_refuses() {
    let mut t = Test::connect(plain());
    t.expect(seg().syn()).recv(seg().seq(0).ack(1).rst()).quiet();
    assert_eq!(t.end.conn.poll_event(), Some(Event::Closed(CloseReason::Refused)));
}

#[test]
fn rfc9293_bad_ack_in_syn_sent_is_reset_with_its_own_number() {
    let mut t = Test::connect(plain());
    t.expect(seg().syn()).recv(seg().seq(0).ack(5)).expect(seg().seq(5).rst());
    assert_eq!(t.end.conn.state(), State::SynSent);
}

#[test]
fn rfc9293_simultaneous_open() {
    let mut t = Test::connect(plain());
    t.expect(seg().seq(0).syn()).recv(seg().seq(0).syn());
    assert_eq!(t.end.conn.state(), State::SynReceived);
    t.expect(seg().seq(0).ack(1).syn()).recv(seg().seq(1).ack(1));
    assert_eq!(t.end.conn.state(), State::Established);
}

#[test]
fn rfc5961_rst_in_window_but_not_exact_is_challenged() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(100).ack(1).rst()).expect(seg().seq(1).ack(1));
    assert_eq!(t.end.conn.state(), State::Established);
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPChallengeACK), 1);
    t.recv(seg().seq(1).ack(1).rst());
    assert_eq!(t.end.conn.state(), State::Closed);
}

#[test]
fn rfc5961_syn_in_a_connection_is_challenged() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(50).ack(1).syn()).expect(seg().seq(1).ack(1)).quiet();
    assert_eq!(t.end.conn.state(), State::Established);
}

#[test]
fn rfc5961_ack_of_what_was_never_sent_is_challenged() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(1).ack(5000)).expect(seg().ack(1)).quiet();
}

#[test]
fn rfc2018_first_block_is_the_newest() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(1001).ack(1).len(100)).expect(seg().ack(1).sack(1001, 1101));
    t.recv(seg().seq(2001).ack(1).len(100)).expect(seg().ack(1).sack(2001, 2101).sack(1001, 1101));
    t.recv(seg().seq(1101).ack(1).len(100)).expect(seg().ack(1).sack(1001, 1201).sack(2001, 2101));
    t.recv(seg().seq(1).ack(1).len(1000)).expect(seg().ack(1201).sack(2001, 2101));
}

#[test]
fn rfc2883_duplicate_is_reported_first() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(1).ack(1).len(500)).expect(seg().ack(501));
    t.recv(seg().seq(1).ack(1).len(500)).expect(seg().ack(501).sack(1, 501));
}

#[test]
fn nagle_holds_a_second_small_segment() {
    let mut t = Test::established(plain());
    t.write(10).expect(seg().seq(1).len(10)).write(20).quiet();
    t.recv(seg().seq(1).ack(11)).expect(seg().seq(11).len(10));
}

#[test]
fn nodelay_does_not_hold() {
    let mut t = Test::established(Config { nodelay: true, ..plain() });
    t.write(10).expect(seg().seq(1).len(10)).write(20).expect(seg().seq(11).len(10));
}

#[test]
fn cork_holds_a_partial_segment_until_its_timer() {
    let mut t = Test::established(Config { cork: true, ..plain() });
    t.write(10).quiet().after(ms(400)).expect(seg().seq(1).len(10));
}

#[test]
fn rack_resends_what_left_before_the_sacked_after_the_reordering_window() {
    let mut t = Test::established(plain());
    t.write(5000);
    while t.next().is_some() {}
    t.after(ms(10)).recv(seg().seq(1).ack(1).sack(1001, 2001)).quiet();
    // min_rtt is 10 ms: a quarter of it is the reordering window.
    t.after(ms(3)).expect(seg().seq(1).len(1000));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSackRecovery), 1);
}

#[test]
fn three_sacked_packets_need_no_reordering_window() {
    let mut t = Test::established(plain());
    t.write(6000);
    while t.next().is_some() {}
    t.after(ms(10)).recv(seg().seq(1).ack(1).sack(1001, 4001)).expect(seg().seq(1).len(1000));
}

#[test]
fn rfc8985_tail_loss_is_probed_before_the_rto() {
    let mut t = Test::established(plain());
    t.write(3000);
    while t.next().is_some() {}
    t.after(ms(30)).expect(seg().seq(2001).len(1000));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPLossProbes), 1);
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPTimeouts), 0);
}

#[test]
fn rto_resends_the_first_and_backs_off() {
    let mut t = Test::established(Config { early_retrans: 0, ..plain() });
    t.write(1000).expect(seg().seq(1).len(1000));
    t.after(ms(225)).expect(seg().seq(1).len(1000)).quiet();
    t.after(ms(300)).quiet().after(ms(150)).expect(seg().seq(1).len(1000));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPTimeouts), 2);
}

#[test]
fn close_and_half_close() {
    let mut t = Test::established(plain());
    let now = t.now;
    t.end.with(|c, env| c.handle_shutdown_write(now, env));
    t.expect(seg().seq(1).ack(1).fin());
    assert_eq!(t.end.conn.state(), State::FinWait1);
    t.recv(seg().seq(1).ack(2));
    assert_eq!(t.end.conn.state(), State::FinWait2);
    t.recv(seg().seq(1).ack(2).len(100));
    assert_eq!(t.end.conn.rx_head(), 100);
    t.recv(seg().seq(101).ack(2).fin()).expect(seg().seq(2).ack(102));
    assert_eq!(t.end.conn.state(), State::TimeWait);
}

#[test]
fn simultaneous_close_goes_through_closing() {
    let mut t = Test::established(plain());
    let now = t.now;
    t.end.with(|c, env| c.handle_shutdown_write(now, env));
    t.expect(seg().seq(1).fin()).recv(seg().seq(1).ack(1).fin());
    assert_eq!(t.end.conn.state(), State::Closing);
    t.expect(seg().seq(2).ack(2)).recv(seg().seq(2).ack(2));
    assert_eq!(t.end.conn.state(), State::TimeWait);
}

#[test]
fn closing_with_unread_data_resets() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(1).ack(1).len(10));
    t.next();
    let now = t.now;
    t.end.with(|c, env| c.handle_close(now, true, env));
    t.expect(seg().seq(1).rst()).quiet();
}

#[test]
fn keepalive_gives_up_after_its_probes() {
    let cfg = Config {
        keepalive: true,
        keepalive_time: Duration::from_secs(10),
        keepalive_intvl: Duration::from_secs(1),
        keepalive_probes: 2,
        ..plain()
    };
    let mut t = Test::established(cfg);
    t.after(ms(10_001)).expect(seg().seq(0).ack(1)).after(ms(1001)).expect(seg().seq(0).ack(1));
    t.after(ms(1001)).expect(seg().seq(1).rst());
    assert_eq!(t.end.conn.state(), State::Closed);
}

#[test]
fn quick_acks_first_then_every_second_segment() {
    let mut t = Test::established(plain());
    let mut acks = 0;
    for i in 0..60 {
        t.after(Duration::from_micros(100)).recv(seg().seq(1 + i * 1000).ack(1).len(1000));
        let (now, head) = (t.now, t.end.conn.rx_head());
        t.end.with(|c, env| c.handle_consumed(now, head, env));
        acks += u32::from(t.next().is_some());
    }
    assert!((30..=46).contains(&acks), "{acks} ACKs for 60 segments");
}

/// Found by fuzzing: a guessed ACK that came before the SYN-ACK had left established the connection at position 0, where data must not be.
#[test]
fn nothing_acknowledges_a_syn_ack_that_has_not_left() {
    let cfg = Config::default();
    let syn = TcpRepr {
        src_port: 2,
        dst_port: 1,
        seq: SeqNum(500),
        flags: TcpFlags::SYN,
        window: 1000,
        ..TcpRepr::default()
    };
    let now = Instant::from_nanos(1_000_000_000);
    let conn = Connection::accept(&cfg, FlowParams::new(1, 2), SeqNum(7), &syn, now);
    let mut end = End::new(conn, cfg, 1);
    let ack = TcpRepr { seq: SeqNum(501), ack: Some(SeqNum(8)), flags: TcpFlags::NONE, ..syn };
    let got = end.with(|c, env| c.handle_segment(now, &ack, 0, IpEcn::NotEct, env));
    assert_eq!(got.drop, Some(DropReason::TcpUnsentAck));
    assert_eq!(end.conn.state(), State::SynReceived);
}

/// Found by fuzzing: what pacing held back went on waking a connection that was aborted meanwhile.
#[test]
fn a_closed_connection_waits_for_nothing() {
    let cfg = Config { max_pacing_rate: Bandwidth::from_bytes_per_sec(100_000), ..Config::default() };
    let flow = FlowParams { port_paces: false, ..FlowParams::new(1, 2) };
    let now = Instant::from_nanos(1_000_000_000);
    let conn = Connection::connect(&cfg, flow, SeqNum(7), now);
    let mut end = End::new(conn, cfg, 1);
    assert!(end.with(|c, env| c.poll_transmit(now, env)).is_some());
    let answer = TcpRepr {
        src_port: 2,
        dst_port: 1,
        seq: SeqNum(500),
        ack: Some(SeqNum(8)),
        flags: TcpFlags::SYN,
        window: 60_000,
        ..TcpRepr::default()
    };
    end.with(|c, env| c.handle_segment(now, &answer, 0, IpEcn::NotEct, env));
    end.with(|c, env| c.handle_written(now, 10_000, env));
    while end.with(|c, env| c.poll_transmit(now, env)).is_some() {}
    assert!(end.conn.next_deadline().is_some(), "pacing holds segments back");
    end.with(|c, env| c.handle_abort(env));
    assert_eq!(end.conn.next_deadline(), None);
}

#[test]
fn a_shorter_keepalive_time_counts_at_once() {
    let cfg = Config { keepalive: true, ..Config::default() };
    let mut t = Test::established(cfg);
    let start = t.now;
    assert_eq!(t.end.conn.next_deadline(), Some(start + Duration::from_secs(7200)));
    t.end.cfg.keepalive_time = Duration::from_secs(60);
    let now = start + Duration::from_secs(10);
    t.end.with(|c, env| c.rearm_keepalive(now, env.cfg));
    assert_eq!(t.end.conn.next_deadline(), Some(start + Duration::from_secs(60)));
    t.end.cfg.keepalive = false;
    t.end.with(|c, env| c.rearm_keepalive(now, env.cfg));
    assert_eq!(t.end.conn.next_deadline(), None);
}

/// Found with tshark on a clean path: an ACK left at once while data before it waited in the pacing queue, so that the peer saw a hole, and
/// the data seemed to come out of order.
#[test]
fn an_ack_does_not_overtake_data_that_pacing_holds_back() {
    let cfg = Config { max_pacing_rate: Bandwidth::from_bytes_per_sec(100_000), ..Config::default() };
    let mut t = Test::connect_over(cfg, FlowParams { port_paces: true, ..FlowParams::new(1, 2) });
    t.expect(seg().seq(0).syn()).after(Duration::from_millis(10));
    t.recv(seg().seq(0).ack(1).syn().options(TcpOptions { mss: Some(1000), ..TcpOptions::NONE }))
        .expect(seg().seq(1).ack(1));
    t.write(4000);
    let last = t.drain().last().and_then(|o| o.departure).expect("paced");
    t.recv(seg().seq(1001).ack(1).len(1000));
    let ack = t.next().expect("what comes out of order is acknowledged at once");
    assert!(ack.payload.is_none() && ack.repr.seq == SeqNum(super::segments::ISS) + 4001);
    assert_eq!(ack.departure, Some(last));
    // When all has left, an ACK leaves at once.
    t.now = last + Duration::from_millis(1);
    t.recv(seg().seq(3001).ack(1).len(1000));
    assert_eq!(t.next().expect("an ACK").departure, None);
}

/// RFC 2018, 3 with RFC 9293, 3.4: a FIN takes a number, and what arrived out of order is reported by its numbers. Without the FIN's the sender
/// took it for lost, and resent it.
#[test]
fn rfc2018_a_fin_out_of_order_is_in_the_sack_block() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(1001).ack(1).len(500).fin()).expect(seg().ack(1).sack(1001, 1502));
    t.recv(seg().seq(501).ack(1).len(500)).expect(seg().ack(1).sack(501, 1502));
    t.recv(seg().seq(1).ack(1).len(500)).expect(seg().ack(1502));
    // Alone it is a block of its own, the newest until something else arrives.
    let mut t = Test::established(plain());
    t.recv(seg().seq(1001).ack(1).fin()).expect(seg().ack(1).sack(1001, 1002));
    t.recv(seg().seq(501).ack(1).len(100)).expect(seg().ack(1).sack(501, 601).sack(1001, 1002));
    t.recv(seg().seq(601).ack(1).len(400)).expect(seg().ack(1).sack(501, 1002));
    t.recv(seg().seq(1).ack(1).len(500)).expect(seg().ack(1002));
}

/// RFC 9293, 3.10.7.4, eighth: a FIN behind data that was all received before is new all the same. It was dropped with the data.
#[test]
fn a_fin_behind_old_data_is_taken() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(1).ack(1).len(1000)).expect(seg().ack(1001));
    t.recv(seg().seq(1).ack(1).len(1000).fin()).expect(seg().ack(1002));
    assert_eq!(t.end.conn.state(), State::CloseWait);
}

/// RFC 2883, 4: a segment in order that covers what was waiting out of order reports that as a duplicate, and what waits still after it.
#[test]
fn rfc2883_a_segment_that_covers_what_waited_reports_the_duplicate() {
    let mut t = Test::established(plain());
    for seq in [1001, 2001, 4001, 7001] {
        t.recv(seg().seq(seq).ack(1).len(1000)).drain();
    }
    t.recv(seg().seq(1).ack(1).len(6000)).expect(seg().ack(6001).sack(1001, 3001).sack(7001, 8001));
    t.recv(seg().seq(6001).ack(1).len(2000)).expect(seg().ack(8001).sack(7001, 8001));
    t.recv(seg().seq(8001).ack(1).len(1000)).expect(seg().ack(9001));
}
