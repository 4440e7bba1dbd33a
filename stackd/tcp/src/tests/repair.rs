//! `TCP_REPAIR`: the state of one connection moves into another.

use super::segments::{Test, seg, ts};
use crate::{Config, Connection, FlowParams, RepairCall, State};
use stackd_base::{DropReason, Duration, Mib};
use stackd_wire::TcpOptions;

fn cfg() -> Config {
    Config { congestion: "reno", nodelay: true, ..Config::default() }
}

/// Established with every option; 3000 bytes sent, 1000 of them acknowledged, 500 more written behind a full window; 300 received, 100
/// read.
fn busy() -> Test {
    let options = TcpOptions {
        mss: Some(1012),
        sack_permitted: true,
        window_scale: Some(2),
        timestamps: ts(500, 0),
        ..TcpOptions::NONE
    };
    let mut t = Test::established_with(cfg(), options);
    t.write(1000);
    t.drain();
    let echo = t.clock();
    t.recv(seg().seq(1).ack(1001).win(500).ts(501, echo)).write(3500);
    t.drain();
    t.after(Duration::from_millis(10)).recv(seg().seq(1).ack(1001).win(500).len(300).ts(510, echo));
    t.drain();
    let now = t.now;
    t.end.with(|c, env| c.handle_consumed(now, 100, env));
    t.drain();
    t
}

fn repair(t: &mut Test, call: RepairCall) {
    let now = t.now;
    t.end.with(|c, env| c.handle_repair(now, call, env));
}

/// As CRIU does it: all that was sent and not acknowledged, and all that was not read, begins the new streams; what was not sent is
/// written after the repair.
fn moved(t: &mut Test) {
    repair(t, RepairCall::Freeze);
    let now = t.now;
    let old = &t.end.conn;
    let (snd_seq, rcv_seq) = old.queue_seqs();
    let (window, clock, mss) = (old.repair_window(), old.timestamp_clock(now), old.peer_mss() as u16);
    let (queued, unsent) = ((old.written - old.tx_released()), old.not_sent());
    let unread = old.rcv_nxt - old.rcv.consumed;
    assert_eq!((queued, unsent, unread), (2500, 500, 200));
    let flow = FlowParams { port_paces: false, ..FlowParams::new(1, 2) };
    let fresh =
        t.end.with(|_, env| Connection::repaired(flow, snd_seq - queued as u32, rcv_seq - unread as u32, now, env));
    t.end.conn = fresh;
    for call in [
        RepairCall::Mss(mss),
        RepairCall::Scales { send: 2, receive: 7 },
        RepairCall::Sack,
        RepairCall::Timestamps,
        RepairCall::Clock(clock),
        RepairCall::Received { bytes: unread },
    ] {
        repair(t, call);
    }
    t.end.with(|c, env| c.handle_written(now, queued - unsent, env));
    repair(t, RepairCall::Window(window));
    let new = &t.end.conn;
    assert_eq!(new.queue_seqs(), (snd_seq - unsent as u32, rcv_seq));
    // The window came with a byte that was read meanwhile: no position of the new stream says so.
    assert_eq!(crate::RepairWindow { snd_wl1: window.snd_wl1, ..new.repair_window() }, window);
    assert_eq!(new.state(), State::Established);
    new.check_invariants().expect("sound");
}

#[test]
fn the_connection_goes_on_where_it_stopped() {
    let mut t = busy();
    let edge = t.end.conn.wire_ack(t.end.conn.rcv.edge);
    moved(&mut t);
    assert!(t.drain().is_empty(), "it stands still");
    repair(&mut t, RepairCall::Thaw { probe: true });
    let now = t.now;
    t.end.with(|c, env| c.handle_written(now, 2500, env));
    // tcp(7): "a window probe": one below the oldest byte, with the old clock and nothing of the peer's to echo yet.
    let out = t.drain();
    let probe = &out[0];
    let seq = |repr: &stackd_wire::TcpRepr| repr.seq.0.wrapping_sub(super::segments::ISS);
    assert_eq!((seq(&probe.repr), &probe.payload), (1000, &None), "{out:?}");
    let stamp = probe.repr.options.timestamps.expect("agreed on");
    assert_eq!((stamp.tsval, stamp.tsecr), (t.clock(), 0));
    assert_eq!(t.end.conn.wire_ack(t.end.conn.rcv.edge), edge, "no window was taken back");
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPWinProbe), 1);
    // Data and acknowledgments of the old connection are understood; its timestamps are news.
    let echo = t.clock();
    t.after(Duration::from_millis(10)).recv(seg().seq(301).ack(2001).win(1000).len(50).ts(3_000_000_000, echo));
    let p = t.ingress.place.expect("placed");
    assert_eq!((p.stream_offset, p.len, t.end.conn.tx_released()), (200, 50, 1000));
    assert_eq!(t.end.conn.ts_recent().map(|r| r.0), Some(3_000_000_000));
    // What was sent by the other one, and the peer does not acknowledge, goes out again after a timeout.
    let mut more = t.drain();
    // The first timer is that of the tail loss probe.
    for _ in 0..2 {
        t.after(Duration::from_secs(4));
        more.extend(t.drain());
    }
    assert!(more.iter().any(|o| o.is_retransmit && o.payload.as_ref().is_some_and(|p| p.start == 1000)), "{more:?}");
    let end = more.iter().filter_map(|o| o.payload.clone()).map(|p| p.end).max();
    assert_eq!(end, Some(2500), "{more:?}");
}

#[test]
fn under_repair_nothing_arrives_and_nothing_leaves() {
    let mut t = busy();
    repair(&mut t, RepairCall::Freeze);
    let before = t.end.conn.positions();
    assert_eq!(t.end.conn.next_deadline(), None);
    t.after(Duration::from_secs(60)).recv(seg().seq(301).ack(2001).win(500).len(50));
    assert_eq!((t.ingress.drop, t.end.conn.positions()), (Some(DropReason::TcpRepair), before));
    assert!(t.drain().is_empty());
    // And its end is nobody's business.
    t.end.with(|c, env| c.handle_abort(env));
    assert!(t.drain().is_empty());
    assert_eq!(t.end.conn.state(), State::Closed);
}

#[test]
fn one_that_was_only_looked_at_goes_on() {
    let mut t = busy();
    repair(&mut t, RepairCall::Freeze);
    t.after(Duration::from_secs(3));
    repair(&mut t, RepairCall::Thaw { probe: false });
    assert!(t.drain().is_empty(), "no probe was asked for, and the timeout begins anew");
    t.end.conn.check_at_rest(t.now).expect("a timer runs");
    t.after(Duration::from_secs(2));
    assert!(t.drain().iter().any(|o| o.is_retransmit));
}

/// What is written under repair counts as sent: a connection that waited for the peer's window waits for an acknowledgment then.
#[test]
fn what_is_written_under_repair_ends_the_wait_for_a_window() {
    let mut t = Test::established(cfg());
    t.recv(seg().seq(1).ack(1).win(0));
    t.write(100);
    assert!(t.drain().is_empty(), "the window is closed");
    repair(&mut t, RepairCall::Freeze);
    t.write(300);
    t.end.conn.check_invariants().expect("nobody probes a window while data is outstanding");
    repair(&mut t, RepairCall::Thaw { probe: false });
    t.end.conn.check_at_rest(t.now).expect("a timer runs for what is outstanding");
}
