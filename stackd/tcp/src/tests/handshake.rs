//! The handshake's rarer paths, and segments a peer should not send.

use super::segments::{Test, seg};
use crate::{Config, State};
use stackd_base::Duration;
use stackd_wire::TcpOptions;

fn plain() -> Config {
    Config { timestamps: false, congestion: "reno", ..Config::default() }
}

/// Both ends of a simultaneous open answer the other's SYN with a SYN-ACK. It was taken for a lost answer of ours and answered with
/// another one, for ever.
#[test]
fn rfc9293_simultaneous_open_ends_with_the_peers_syn_ack() {
    let mut t = Test::connect(plain());
    t.expect(seg().seq(0).syn()).recv(seg().seq(0).syn()).expect(seg().seq(0).ack(1).syn());
    t.recv(seg().seq(0).ack(1).syn());
    assert_eq!(t.end.conn.state(), State::Established);
    assert!(t.next().is_none_or(|o| !o.repr.flags.syn()));
}

/// SYN occupies a sequence number: the first byte behind it is byte 0 of the stream, not byte -1.
#[test]
fn payload_on_a_syn_ack_begins_at_offset_zero() {
    let mut t = Test::connect(plain());
    t.expect(seg().syn()).recv(seg().seq(0).ack(1).syn().len(100));
    let p = t.ingress.place.expect("placed");
    assert_eq!((p.stream_offset, p.at, p.len), (0, 0, 100));
    t.expect(seg().seq(1).ack(101));
}

/// A FIN below what was received moved the end of the stream backwards, past bytes that the application had been given.
#[test]
fn a_fin_in_the_middle_of_what_arrived_is_refused() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(1).ack(1).len(100)).expect(seg().ack(101));
    t.end.cfg.quickack = false;
    t.end.conn.ack.quick = 0;
    t.recv(seg().seq(101).ack(1).len(900)).recv(seg().seq(501).ack(1).fin());
    assert_eq!(t.end.conn.rx_head(), 1000);
    assert_eq!(t.end.conn.state(), State::Established);
}

/// Our ACK of it was lost: a FIN that repeats is no nonsense in the middle of the stream.
#[test]
fn a_repeated_fin_is_acknowledged_again() {
    let mut t = Test::established(plain());
    t.recv(seg().seq(1).ack(1).len(100).fin()).expect(seg().ack(102));
    t.after(Duration::from_millis(300)).recv(seg().seq(101).ack(1).fin()).expect(seg().ack(102));
    t.after(Duration::from_millis(300)).recv(seg().seq(1).ack(1).len(100).fin()).expect(seg().ack(102));
}

#[test]
fn syn_retransmissions_carry_the_same_options() {
    let mut t = Test::connect(Config { congestion: "reno", ..Config::default() });
    let strip = |o: TcpOptions| TcpOptions { timestamps: None, ..o };
    let first = t.next().expect("a SYN").repr.options;
    assert!(first.mss.is_some() && first.sack_permitted && first.window_scale.is_some() && first.timestamps.is_some());
    let again = t.after(Duration::from_millis(1001)).next().expect("another").repr.options;
    assert_eq!(strip(first), strip(again));
}

/// PAWS guards against old data. A pure ACK that was merely overtaken says nothing new and is let pass; one that would move anything
/// is not.
#[test]
fn rfc7323_paws_lets_only_harmless_pure_acks_pass() {
    let mut t = Test::established_ts(Config { congestion: "reno", ..Config::default() }, 1000);
    t.write(3000);
    t.drain();
    t.recv(seg().seq(1).ack(1001).ts(1010, t.clock()));
    t.recv(seg().seq(1).ack(1001).ts(1008, t.clock()));
    assert_eq!(t.ingress.drop, None);
    t.recv(seg().seq(1).ack(2001).ts(500, t.clock()));
    assert_eq!(t.ingress.drop, Some(stackd_base::DropReason::TcpPaws));
    assert_eq!(t.end.conn.tx_released(), 1000);
}

/// Sequence positions are 64 bits wide, the wire has 32: a stream of more than 4 GiB passes the wrap more than once.
#[test]
fn streams_longer_than_four_gigabytes_keep_their_place() {
    let mut t = Test::established(plain());
    let mut sent = 0u64;
    let step = 40_000u64;
    while sent < (5 << 30) {
        // Pretend that all up to here went through: the same as sending it, in a reasonable time.
        let skip = 1 << 30;
        t.end.conn.una += skip;
        t.end.conn.nxt += skip;
        t.end.conn.written += skip;
        t.end.conn.rcv_nxt += skip;
        t.end.conn.acked_to += skip;
        t.end.conn.rcv.edge += skip;
        t.end.conn.rcv.consumed += skip;
        t.end.conn.wl1 += skip;
        sent += skip;
        t.write(sent + step);
        let out = t.drain();
        assert_eq!(out[0].payload, Some(sent..sent + out[0].payload.clone().map_or(0, |p| p.end - p.start)));
        let end = out.iter().filter_map(|o| o.payload.clone()).map(|p| p.end).max().unwrap_or(0);
        t.recv(seg().seq((sent + 1) as u32).ack((end + 1) as u32).len(10));
        assert_eq!(t.end.conn.tx_released(), end);
        assert_eq!(t.ingress.place.map(|p| p.stream_offset), Some(sent));
        t.end.conn.rcv_nxt = sent;
        t.end.conn.acked_to = sent;
        t.end.conn.una = sent + 1;
        t.end.conn.nxt = sent + 1;
        t.end.conn.written = sent;
        t.end.conn.board = Default::default();
        t.end.conn.timer = None;
    }
}

/// The smallest segments with the widest holes cost the receiver an entry each.
#[test]
fn holes_are_bounded_by_the_buffer() {
    let mut t = Test::established(plain());
    for i in 0..10_000u32 {
        t.recv(seg().seq(10 + 4 * i).ack(1).len(1));
        t.drain();
    }
    assert!(t.end.conn.reasm.len() <= 1024, "{}", t.end.conn.reasm.len());
    assert_eq!(t.ingress.drop, Some(stackd_base::DropReason::TcpOfoPrune));
}
