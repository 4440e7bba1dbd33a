//! The scoreboard alone: what each of its operations counts (RFC 2018, RFC 6675's pipe). A count that is wrong here is a window that is wrong
//! for the whole life of the connection (`docs/mutants.md`).

use crate::rate::RateEstimator;
use crate::scoreboard::{AckOutcome, Scoreboard};
use stackd_base::Instant;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// A scoreboard from position 1 on.
struct Board {
    b: Scoreboard,
    rate: RateEstimator,
    nxt: u64,
}

/// Segments of these lengths in packets of 1000 bytes, a millisecond apart.
fn sent(lengths: &[u64]) -> Board {
    let mut t = Board { b: Scoreboard::default(), rate: RateEstimator::new(at(0)), nxt: 1 };
    for (i, len) in lengths.iter().enumerate() {
        t.push(*len, 1000, i as u64);
    }
    t
}

impl Board {
    fn push(&mut self, len: u64, mss: u32, ms: u64) {
        let stamp = self.rate.on_send(at(ms), self.b.packets_out());
        self.b.push(self.nxt, self.nxt + len, mss, at(ms), stamp);
        self.nxt += len;
    }
    fn sack(&mut self, left: u64, right: u64) -> AckOutcome {
        let mut out = AckOutcome::default();
        self.b.sack(left, right, &mut out, &mut self.rate);
        out
    }
    fn ack(&mut self, una: u64) -> AckOutcome {
        let mut out = AckOutcome::default();
        self.b.ack_to(una, &mut out, &mut self.rate);
        out
    }
    /// Resends what is first to be resent, at `ms`. Says where that began.
    fn resend(&mut self, ms: u64) -> Option<u64> {
        let start = self.b.next_to_resend()?.0;
        let stamp = self.rate.on_send(at(ms), self.b.packets_out());
        self.b.resend(start, 1000, 1000, at(ms), stamp);
        Some(start)
    }
    /// RACK, with everything newer delivered and `expired` up to `ms`.
    fn rack(&mut self, newest: &AckOutcome, ms: u64) -> (u32, u32) {
        let found = self.b.rack_detect(newest.newest.expect("delivered").order, |sent| sent <= at(ms));
        (found.lost, found.retrans_lost)
    }
    /// Packets out, sacked, lost, retransmitted; and ever lost.
    #[track_caller]
    fn holds(&self, una: u64, counts: (u32, u32, u32, u32), lost_total: u64) {
        let b = &self.b;
        assert_eq!((b.packets_out(), b.sacked_out(), b.lost_out(), b.retrans_out()), counts);
        assert_eq!(b.lost_total(), lost_total, "ever lost");
        b.check(una, self.nxt, true).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// RFC 6298, 3: the oldest packet that an ACK delivers is the RTT sample, the newest is what congestion control sees.
#[test]
fn an_ack_dates_the_oldest_and_the_newest_that_it_delivers() {
    let mut t = sent(&[1000; 6]);
    // The SACK of what left first and last comes in any order.
    let mut out = t.sack(4001, 6001);
    t.b.sack(2001, 3001, &mut out, &mut t.rate);
    assert_eq!((out.first_sacked_at, out.last_sacked_at), (Some(at(2)), Some(at(5))));
    assert_eq!((out.first_acked_at, out.last_acked_at), (None, None));
    let out = t.ack(6001);
    assert_eq!((out.first_acked_at, out.last_acked_at), (Some(at(0)), Some(at(3))));
    assert_eq!((out.first_sacked_at, out.last_sacked_at), (None, None));
}

/// RFC 9937, 6: what was SACKed before the episode is not delivered again by the ACK that covers it.
#[test]
fn an_ack_tells_what_it_covers_from_what_was_sacked() {
    let mut t = sent(&[5000]);
    assert_eq!(t.sack(2001, 4001).sacked, 2);
    let out = t.ack(5001);
    assert_eq!((out.acked, out.acked_sacked_before, out.sacked), (5, 2, 0));
    t.holds(5001, (0, 0, 0, 0), 0);
}

/// SACKed neighbours are one entry, whatever the order in which they are reported: the scoreboard is as long as there are holes.
#[test]
fn sacked_neighbours_are_one_entry() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 1, 3], [0, 3, 2, 1]] {
        let mut t = sent(&[1000; 4]);
        for i in order {
            t.sack(1 + i * 1000, 1001 + i * 1000);
        }
        assert!(t.b.at_most_one_segment(), "{order:?}");
        t.holds(1, (4, 4, 0, 0), 0);
    }
}

/// RFC 2018, 3: blocks are of contiguous bytes, and the last packet may be short: it is SACKed whole, or not at all.
#[test]
fn parts_of_packets_are_not_sacked() {
    // Position 1 is in the midst of nothing: packets are 1..1001, 1001..2001, 2001..2501.
    for (left, right, sacked) in [
        (1001, 2501, 2),
        (1, 2501, 3),
        (1002, 2501, 1),
        (1, 2500, 2),
        (1, 2001, 2),
        (1, 2000, 1),
        (2, 2001, 1),
        (2001, 2501, 1),
        (2002, 2501, 0),
        (1000, 2002, 1),
    ] {
        let mut t = sent(&[2500]);
        assert_eq!(t.sack(left, right).sacked, sacked, "{left}..{right}");
        t.holds(1, (3, sacked, 0, 0), 0);
    }
    // The same after part of the first packet was acknowledged.
    for (left, right, sacked) in [(1401, 2501, 1), (1001, 2501, 2), (1002, 2501, 1), (602, 1001, 0)] {
        let mut t = sent(&[2500]);
        t.ack(401);
        assert_eq!(t.sack(left, right).sacked, sacked, "{left}..{right}");
        t.holds(401, (3, sacked, 0, 0), 0);
    }
}

/// A peer that reports bytes of what it has SACKed already says nothing new: each report was an entry and a packet more.
#[test]
fn bytes_of_what_is_sacked_are_no_entries() {
    let mut t = sent(&[3000]);
    t.sack(1001, 2001);
    for i in 1002..2000 {
        assert_eq!(t.sack(i, 2001).sacked + t.sack(1001, i).sacked + t.sack(i, i + 1).sacked, 0);
    }
    t.holds(1, (3, 1, 0, 0), 0);
    // A block that begins in it and ends beyond.
    assert_eq!(t.sack(1501, 3001).sacked, 1);
    t.holds(1, (3, 2, 0, 0), 0);
    assert_eq!(t.b.highest_sacked(), 3001);
}

/// What a run of packets of several sizes is cut into adds up.
#[test]
fn a_sacked_run_of_two_sizes_keeps_its_sum() {
    let mut t = sent(&[1000]);
    t.push(1500, 1500, 1);
    t.push(1000, 1000, 2);
    t.sack(1, 2501);
    t.holds(1, (3, 2, 0, 0), 0);
    // By its first packet's size the run of two is three.
    let out = t.ack(2001);
    assert_eq!((out.acked, t.b.packets_out(), t.b.sacked_out()), (1, 2, 1));
    t.b.check(2001, t.nxt, true).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(t.ack(2501).acked, 1);
    t.holds(2501, (1, 0, 0, 0), 0);
}

/// A packet cut in two is two, also of those in flight again: a path's smaller MSS cuts what had been resent.
#[test]
fn what_is_cut_counts_in_every_sum() {
    let mut t = sent(&[1000]);
    t.b.mark_head_lost();
    t.resend(5);
    t.holds(1, (1, 0, 1, 1), 1);
    t.b.isolate(401);
    t.holds(1, (2, 0, 2, 2), 1);
    let mut t = sent(&[1000]);
    t.sack(1, 1001);
    t.b.isolate(401);
    t.holds(1, (2, 2, 0, 0), 0);
}

/// RFC 8985, 6.2 step 5: each transmission is lost once, each retransmission again.
#[test]
fn rfc8985_losses_by_time_are_counted() {
    let mut t = sent(&[2000, 1000, 1000]);
    let out = t.sack(3001, 4001);
    assert_eq!(t.rack(&out, 1), (3, 0));
    t.holds(1, (4, 1, 3, 0), 3);
    assert_eq!(t.rack(&out, 9), (0, 0), "again");
    assert_eq!((t.resend(10), t.resend(10)), (Some(1), Some(1001)));
    t.push(1000, 1000, 11);
    let out = t.sack(4001, 5001);
    assert_eq!(t.rack(&out, 9), (0, 0), "their time is not up: it counts from when they left again");
    assert_eq!(t.rack(&out, 10), (2, 2));
    t.holds(1, (5, 2, 3, 0), 5);
}

/// RFC 6582: one packet a time, whole, and once: also where part of it is acknowledged.
#[test]
fn rfc6582_the_first_packet_is_lost_once() {
    let mut t = sent(&[3000]);
    t.ack(401);
    assert_eq!(t.b.mark_head_lost(), 1);
    assert_eq!(t.b.head().map(|(s, h)| (s, h.end)), Some((401, 1001)));
    t.holds(401, (3, 0, 1, 0), 1);
    assert_eq!(t.b.mark_head_lost(), 0, "again");
    t.holds(401, (3, 0, 1, 0), 1);
    // Nor is what the peer has.
    let mut t = sent(&[2000]);
    t.sack(1, 1001);
    assert_eq!(t.b.mark_head_lost(), 0);
    t.holds(1, (2, 1, 0, 0), 0);
}

/// RFC 6298, 5.4 and RFC 2018, 8: after a timeout all is lost but what was SACKed; that too, if the peer reneged.
#[test]
fn rfc2018_a_timeout_forgets_sacks_only_of_a_peer_that_reneged() {
    for (forget, counts, high, newly) in [(false, (4, 1, 3, 0), 2001, 2), (true, (4, 0, 4, 0), 0, 3)] {
        let mut t = sent(&[1000; 4]);
        t.sack(1001, 2001);
        t.b.mark_head_lost();
        assert_eq!(t.b.mark_all_lost(forget), newly);
        assert_eq!(t.b.highest_sacked(), high);
        t.holds(1, counts, 1 + u64::from(newly));
        assert_eq!(t.b.mark_all_lost(forget), 0, "again");
    }
}

/// RFC 8985, 6.3: the oldest is lost, and of the others those whose time is up.
#[test]
fn rfc8985_a_timeout_spares_the_young() {
    let mut t = sent(&[1000; 5]);
    t.sack(1001, 2001);
    t.b.mark_expired_lost(|sent| sent > at(2));
    t.holds(1, (5, 1, 2, 0), 2);
    assert_eq!((t.resend(9), t.resend(9), t.resend(9)), (Some(1), Some(2001), None));
    // The oldest is lost however young.
    t.b.mark_expired_lost(|_| true);
    t.holds(1, (5, 1, 2, 1), 2);
    let mut t = sent(&[1000; 2]);
    t.b.mark_expired_lost(|_| true);
    t.holds(1, (2, 0, 1, 0), 1);
}

/// What a proof takes the loss mark from is judged again; what was SACKed is not.
#[test]
fn undone_losses_are_judged_again() {
    let mut t = sent(&[1000; 4]);
    let out = t.sack(3001, 4001);
    assert_eq!(t.rack(&out, 9), (3, 0));
    t.b.unmark_lost();
    t.holds(1, (4, 1, 0, 0), 3);
    assert_eq!(t.b.judgements_waiting(), 3);
    assert_eq!(t.rack(&out, 9), (3, 0));
}

/// RFC 8985, 6.1 and delivery rates: a retransmission has its own time and its own state of delivery.
#[test]
fn a_retransmission_is_dated_anew() {
    let mut t = sent(&[1000; 3]);
    t.sack(2001, 3001);
    t.b.mark_head_lost();
    t.resend(20);
    let (_, head) = t.b.head().expect("outstanding");
    assert_eq!((head.sent_at, head.rate.delivered), (at(20), 1));
    assert_eq!(t.ack(1001).newest.map(|n| (n.sent_at, n.ever_retrans)), Some((at(20), true)));
}

/// RFC 5681, 3.2: each duplicate ACK stands for a packet that left the network; at most for all but the one that is missing.
#[test]
fn rfc5681_duplicate_acks_take_packets_out_of_the_pipe() {
    let mut t = sent(&[1000; 4]);
    for (n, sacked, in_flight) in [(1, 1, 3), (2, 2, 2), (9, 3, 1), (0, 0, 4)] {
        t.b.set_reno_sacked(n);
        assert_eq!((t.b.sacked_out(), t.b.in_flight()), (sacked, in_flight), "{n} duplicates");
    }
    t.b.mark_head_lost();
    t.b.set_reno_sacked(9);
    assert_eq!((t.b.sacked_out(), t.b.in_flight()), (2, 1), "one is lost, one is missing");
}
