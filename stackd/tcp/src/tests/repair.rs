//! `TCP_REPAIR`: the state of one connection moves into another.

use super::segments::{Test, seg, ts};
use crate::{Config, Connection, FlowParams, State};
use stackd_base::Duration;
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
    let echo = t.clock();
    t.recv(seg().seq(1).ack(1).win(750).ts(501, echo)).write(3500);
    t.drain();
    t.after(Duration::from_millis(10)).recv(seg().seq(1).ack(1001).win(500).len(300).ts(510, echo));
    t.drain();
    let now = t.now;
    t.end.with(|c, env| c.handle_consumed(now, 100, env));
    t.drain();
    t
}

fn moved(t: &mut Test) {
    let now = t.now;
    let state = t.end.conn.repair_state(now).expect("established");
    let text = serde_json::to_string(&state).expect("written");
    let state = serde_json::from_str(&text).expect("read back");
    let flow = FlowParams { port_paces: false, ..FlowParams::new(1, 2) };
    let fresh = t.end.with(|_, env| Connection::repaired(flow, &state, now, env));
    t.end.conn = fresh;
}

#[test]
fn what_is_taken_out_is_what_was_put_in() {
    let mut t = busy();
    let before = t.end.conn.repair_state(t.now).expect("established");
    moved(&mut t);
    let after = t.end.conn.repair_state(t.now).expect("established");
    // The window came with a byte that was read meanwhile: no position of the new stream says so.
    assert_eq!(crate::Repair { snd_wl1: before.snd_wl1, ..after }, before);
    assert_eq!(t.end.conn.state(), State::Established);
    t.end.conn.check_invariants().expect("sound");
}

#[test]
fn the_connection_goes_on_where_it_stopped() {
    let mut t = busy();
    let edge = t.end.conn.wire_ack(t.end.conn.rcv.edge);
    moved(&mut t);
    // What was in flight goes out again, under the old numbers and the old clock.
    let out = t.drain();
    let first = &out[0];
    assert_eq!((first.repr.seq.0.wrapping_sub(super::segments::ISS), first.is_retransmit), (1001, true));
    let stamp = first.repr.options.timestamps.expect("agreed on");
    assert_eq!((stamp.tsval, stamp.tsecr), (t.clock(), 510));
    assert_eq!(t.end.conn.wire_ack(t.end.conn.rcv.edge), edge, "no window was taken back");
    // Data and acknowledgments of the old connection are understood.
    let echo = t.clock();
    t.after(Duration::from_millis(10)).recv(seg().seq(301).ack(3001).win(500).len(50).ts(520, echo));
    let p = t.ingress.place.expect("placed");
    assert_eq!((p.stream_offset, p.len, t.end.conn.tx_released()), (200, 50, 2000));
    let more = t.drain();
    let end = out.iter().chain(&more).filter_map(|o| o.payload.clone()).map(|p| p.end).max();
    assert_eq!(end, Some(2500), "{more:?}");
    assert_eq!(t.end.conn.ts_recent().map(|r| r.0), Some(520));
}

#[test]
fn a_closing_connection_cannot_be_moved() {
    let mut t = busy();
    let now = t.now;
    t.end.with(|c, env| c.handle_shutdown_write(now, env));
    assert_eq!(t.end.conn.repair_state(now), None);
}
