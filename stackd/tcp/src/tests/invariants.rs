//! The checker of invariants sees what is broken.

use super::segments::Test;
use crate::{Config, Connection};

/// A connection with ten packets in flight, and then something broken in it.
fn broken(how: impl FnOnce(&mut Connection)) -> String {
    let mut t = Test::established(Config::default());
    t.write(10_000);
    t.drain();
    let now = t.now;
    t.end.conn.check_at_rest(now).unwrap_or_else(|e| panic!("whole: {e}"));
    how(&mut t.end.conn);
    t.end.conn.check_at_rest(now).expect_err("the checker must see it")
}

type Break = fn(&mut Connection);

#[test]
fn what_is_broken_is_named() {
    let cases: [(&str, Break); 9] = [
        ("no timer runs", |c| c.timer = None),
        ("cwnd", |c| c.cwnd = 0),
        ("beyond what was written", |c| c.nxt += 1),
        ("scoreboard", |c| c.una = 2001),
        ("mss", |c| c.mss = 1461),
        ("received", |c| c.rcv_nxt += 1_000_000),
        ("no delayed ACK", |c| c.rcv_nxt += 1),
        ("RST", |c| c.due.rst = true),
        ("in no frame", |c| c.queued_below = 1),
    ];
    for (what, how) in cases {
        let said = broken(how);
        assert!(said.contains(what), "{what}: {said}");
    }
}
