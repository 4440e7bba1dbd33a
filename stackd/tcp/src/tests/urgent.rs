//! Urgent data (RFC 9293, 3.8.5; RFC 6093).

use super::segments::{Test, seg};
use crate::{Config, Event};
use stackd_base::Duration;
use stackd_wire::TcpFlags;

fn plain() -> Config {
    Config { timestamps: false, congestion: "reno", ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn write_urgent(t: &mut Test, head: u64) {
    let now = t.now;
    t.end.with(|c, env| c.handle_written_urgent(now, head, env));
}

fn consume(t: &mut Test, tail: u64) {
    let now = t.now;
    t.end.with(|c, env| c.handle_consumed(now, tail, env));
}

fn urgent_events(t: &mut Test) -> usize {
    std::iter::from_fn(|| t.end.conn.poll_event()).filter(|e| *e == Event::Urgent).count()
}

/// MUST-62: the octet following the urgent data, from the segment's own number on; every segment below it says so, none beyond.
#[test]
fn rfc9293_the_pointer_names_the_octet_after_the_urgent_data() {
    let mut t = Test::established(plain());
    write_urgent(&mut t, 2500);
    for (seq, len, pointer) in [(1, 1000, 2500), (1001, 1000, 1500), (2001, 500, 500)] {
        let out = t.next().expect("a segment");
        assert_eq!((out.repr.seq - stackd_base::SeqNum(super::segments::ISS), out.repr.urgent), (seq, pointer));
        assert_eq!(out.payload.map(|p| p.end - p.start), Some(len), "no GSO: the pointer is each segment's own");
        assert!(out.repr.flags.urg());
    }
    t.write(2600).expect(seg().seq(2501).len(100)).quiet();
    // Acknowledged: over.
    t.recv(seg().ack(2601)).write(2700).expect(seg().seq(2601).len(100));
}

/// MUST-31: "a sequence of urgent data of any length": beyond what the field can say it says 65,535, once that lies beyond SND.NXT.
#[test]
fn rfc9293_urgent_data_may_be_of_any_length() {
    let mut t = Test::established(Config { initial_cwnd: 200, ..plain() });
    t.recv(seg().ack(1).win(60_000));
    write_urgent(&mut t, 100_000);
    let first = t.next().expect("a segment");
    assert_eq!((first.repr.urgent, first.repr.flags.urg()), (0xffff, true));
    let last = t.drain().pop().expect("more");
    let p = last.payload.expect("data");
    assert_eq!(u64::from(last.repr.urgent), (100_000 - p.start).min(0xffff));
}

/// Neither Nagle nor a cork holds urgent data.
#[test]
fn urgent_data_leaves_at_once() {
    let mut t = Test::established(Config { cork: true, ..plain() });
    t.write(10).quiet();
    write_urgent(&mut t, 11);
    t.expect(seg().seq(1).len(11).flag(TcpFlags::URG));
}

/// A closed window holds the data, not the news: probes and ACKs carry the pointer (MUST-66 asks the receiver to take it).
#[test]
fn rfc9293_the_pointer_passes_a_closed_window() {
    let mut t = Test::established(plain());
    t.recv(seg().ack(1).win(0));
    write_urgent(&mut t, 100);
    t.quiet().after(ms(1000)).expect(seg().flag(TcpFlags::URG).ack(1));
    t.recv(seg().seq(1).ack(1).len(10).win(0)).expect(seg().seq(1).ack(11).flag(TcpFlags::URG));
}

/// MUST-30, 32, 33: the pointer is told at once, the mark and how far it is can be asked, and reading past it ends it.
#[test]
fn rfc9293_the_application_learns_of_urgent_data_and_how_much_is_left() {
    let mut t = Test::established(plain());
    urgent_events(&mut t);
    let mut s = seg().seq(1).ack(1).len(100).flag(TcpFlags::URG);
    s.urgent = 150;
    t.recv(s);
    assert_eq!((urgent_events(&mut t), t.end.conn.urgent_mark(), t.end.conn.has_urgent()), (1, Some(149), false));
    assert_eq!(t.end.conn.urgent_left(), Some(150));
    t.recv(seg().seq(101).ack(1).len(100));
    assert!(t.end.conn.has_urgent());
    consume(&mut t, 149);
    assert_eq!((t.end.conn.at_urgent_mark(), t.end.conn.urgent_left()), (true, Some(1)));
    consume(&mut t, 150);
    assert_eq!((t.end.conn.at_urgent_mark(), t.end.conn.urgent_mark()), (false, None));
}

/// MUST-32: told again only when the pointer moves on; what was read or marked already is no news.
#[test]
fn an_urgent_pointer_that_goes_back_is_no_news() {
    let mut t = Test::established(plain());
    urgent_events(&mut t);
    let urg = |t: &mut Test, seq: u32, pointer: u16| {
        let mut s = seg().seq(seq).ack(1).len(10).flag(TcpFlags::URG);
        s.urgent = pointer;
        t.recv(s);
        (urgent_events(t), t.end.conn.urgent_mark())
    };
    assert_eq!(urg(&mut t, 1, 50), (1, Some(49)));
    assert_eq!(urg(&mut t, 11, 40), (0, Some(49)));
    assert_eq!(urg(&mut t, 21, 20), (0, Some(49)), "the smaller one");
    assert_eq!(urg(&mut t, 31, 100), (1, Some(129)));
    assert_eq!(urg(&mut t, 1, 5), (0, Some(129)), "below what was received");
}

#[test]
fn tcp_stdurg_takes_the_pointer_for_the_last_urgent_byte() {
    for (stdurg, mark) in [(false, 49), (true, 50)] {
        let mut t = Test::established(Config { stdurg, ..plain() });
        let mut s = seg().seq(1).ack(1).flag(TcpFlags::URG);
        s.urgent = 50;
        t.recv(s);
        assert_eq!(t.end.conn.urgent_mark(), Some(mark));
    }
}

/// MUST-66: "a TCP endpoint MUST process the RST and URG fields of all incoming segments, even when the receive window is zero".
#[test]
fn rfc9293_urg_and_rst_count_with_a_closed_window() {
    let mut t = Test::established(Config { rcvbuf: Some(2000), ..plain() });
    t.recv(seg().seq(1).ack(1).len(1000)).recv(seg().seq(1001).ack(1).len(1000));
    t.drain();
    assert!(t.end.conn.rcv.zero);
    urgent_events(&mut t);
    let mut s = seg().seq(2001).ack(1).len(1).flag(TcpFlags::URG);
    s.urgent = 1;
    t.recv(s).expect(seg().ack(2001));
    assert_eq!((urgent_events(&mut t), t.end.conn.urgent_mark()), (1, Some(2000)));
    t.recv(seg().seq(2001).ack(1).rst());
    assert_eq!(t.end.conn.state(), crate::State::Closed);
}
