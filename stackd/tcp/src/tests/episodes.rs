//! Episodes of recovery, one ACK at a time: what begins one, what it is told by, what it leaves behind. Rules that a mutation check found no
//! test to hold (`docs/mutants.md`).

use super::segments::{Test, seg};
use crate::Config;
use crate::cc::CaState;
use crate::recovery::{Prr, RetransTimer, Undo, tlp};
use stackd_base::{Duration, Mib};
use stackd_wire::{TcpFlags, TcpOptions};

fn cfg() -> Config {
    Config { timestamps: false, congestion: "reno", early_retrans: 0, nodelay: true, ..Config::default() }
}

fn stamped() -> Config {
    Config { timestamps: true, ..cfg() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `packets` of 1000 bytes are out since 10 ms, which is the path's RTT.
fn sent(cfg: Config, packets: u64) -> Test {
    let mut t = if cfg.timestamps { Test::established_ts(cfg, 77) } else { Test::established(cfg) };
    t.write(packets * 1000);
    t.drain();
    t.after(ms(10));
    t
}

/// The same, of a peer without SACK.
fn sent_without_sack(packets: u64) -> Test {
    let mut t = Test::established_with(cfg(), TcpOptions { mss: Some(1000), ..TcpOptions::NONE });
    t.write(packets * 1000);
    t.drain();
    t
}

/// Positions of what is resent, and of what is new.
fn leaves(t: &mut Test) -> (Vec<u64>, Vec<u64>) {
    let (again, new): (Vec<_>, Vec<_>) = t.drain().into_iter().partition(|o| o.is_retransmit);
    let starts = |v: Vec<crate::SegmentOut>| v.into_iter().filter_map(|o| o.payload).map(|p| p.start + 1).collect();
    (starts(again), starts(new))
}

/// The next deadline is reached.
fn fire(t: &mut Test) {
    let next = t.end.conn.next_deadline().expect("a timer runs");
    t.after(next - t.now);
}

/// RFC 8985, 6.2 step 2: "if Segment.retransmitted is TRUE: If ACK.ts_option.echo_reply < Segment.xmit_ts: Return" — the ACK of the original says
/// nothing of the retransmission's round trip, though it comes later than the least RTT; the echo of the retransmission itself does.
#[test]
fn rfc8985_the_echo_of_an_original_does_not_time_its_retransmission() {
    for (of_original, rtt) in [(true, 20), (false, 15)] {
        let mut t = Test::established_ts(stamped(), 77);
        t.write(4000);
        t.drain();
        let original = t.clock();
        t.after(ms(20)).recv(seg().ack(1).sack(1001, 4001).ts(78, original));
        assert_eq!(leaves(&mut t).0, [1]);
        assert_eq!(t.end.conn.rack.rtt, ms(20));
        let again = t.clock();
        t.after(ms(15)).recv(seg().ack(4001).ts(79, if of_original { original } else { again }));
        assert_eq!(t.end.conn.rack.rtt, ms(rtt), "of the original: {of_original}");
    }
}

/// RFC 8985, 6.2 step 5 and RFC 6298, 5.3: when the gap that the reordering timer watched is filled, the retransmission timer watches the rest.
#[test]
fn rfc8985_a_filled_gap_ends_the_reordering_timer() {
    let mut t = sent(cfg(), 5);
    t.recv(seg().ack(1).sack(1001, 2001));
    assert!(matches!(t.end.conn.timer, Some((RetransTimer::Reorder, _))));
    t.recv(seg().ack(2001));
    assert!(matches!(t.end.conn.timer, Some((RetransTimer::Rto, _))), "{:?}", t.end.conn.timer);
}

/// RFC 8985, 7.4.2: a probe that repeated data is known to be a duplicate by its DSACK, or, of a peer without DSACK, by a duplicate ACK of its end "with no
/// SACK": data or a window update is none.
#[test]
fn rfc8985_only_a_bare_duplicate_ack_answers_a_probe() {
    for (answer, answered) in
        [(seg().ack(2001), true), (seg().ack(2001).len(10), false), (seg().ack(2001).win(60_001), false)]
    {
        let mut t = sent(Config { early_retrans: 3, ..cfg() }, 2);
        fire(&mut t);
        assert_eq!(leaves(&mut t).0, [1001]);
        t.after(ms(10)).recv(seg().ack(2001));
        assert_eq!(t.end.conn.tlp.end, Some(2001), "repaired or a duplicate: not known yet");
        t.recv(answer.clone());
        assert_eq!(t.end.conn.tlp.end.is_none(), answered, "{answer:?}");
        // More is acknowledged, and still no word of a duplicate: the probe repaired a loss.
        t.write(3000);
        t.drain();
        t.after(ms(10)).recv(seg().seq(11).ack(3001).win(answer.win));
        assert_eq!(t.end.mib.get(Mib::TcpExtTCPLossProbeRecovery), u64::from(!answered), "{answer:?}");
        assert_eq!(t.end.conn.ssthresh == u32::MAX, answered, "{answer:?}");
    }
}

/// RFC 8985, 7.4.2: a probe that carried new data is no retransmission: its acknowledgment repairs nothing.
#[test]
fn rfc8985_a_probe_of_new_data_repairs_nothing() {
    let probe = tlp::Tlp { end: Some(1001), is_retrans: false };
    for (ack, verdict) in
        [(1000, tlp::Verdict::Waiting), (1001, tlp::Verdict::Spurious), (1002, tlp::Verdict::Spurious)]
    {
        assert_eq!(probe.clone().on_ack(ack, false, false), verdict, "{ack}");
    }
}

/// RFC 8985, 6.2 step 4: a DSACK of anything but the probe widens the reordering window, although a probe is out.
#[test]
fn rfc8985_a_duplicate_beside_the_probe_is_a_sign_of_reordering() {
    for (block, steps) in [((1001, 2001), 1), ((1, 1001), 2)] {
        let mut t = sent(Config { early_retrans: 3, ..cfg() }, 2);
        fire(&mut t);
        assert_eq!(leaves(&mut t).0, [1001]);
        t.after(ms(10)).recv(seg().ack(2001).sack(block.0, block.1));
        assert_eq!(t.end.conn.rack.dsack_steps(), steps, "{block:?}");
    }
}

/// RFC 3168, 6.1.2: "the TCP data sender sets the CWR flag in the first new data packet sent after the window reduction", whatever it was reduced for.
#[test]
fn rfc3168_a_reduction_for_loss_is_told_by_cwr() {
    for ecn in [false, true] {
        let mut t = sent(cfg(), 10);
        t.end.conn.opts.ecn = ecn;
        t.write(30_000).recv(seg().ack(1).sack(1001, 10_001));
        let out = t.drain();
        let cwr =
            |again| out.iter().filter(|o| o.is_retransmit == again && o.repr.flags.contains(TcpFlags::CWR)).count();
        assert!(out.iter().any(|o| !o.is_retransmit));
        assert_eq!((cwr(true), cwr(false)), (0, usize::from(ecn)));
    }
}

/// RFC 9937, 6: "If (pipe > ssthresh)" in proportion; at ssthresh it is not above it: nothing more than fits.
#[test]
fn rfc9937_at_ssthresh_nothing_is_added() {
    assert_eq!(Prr::at(20, 9, 1).cwnd(10, 10, 1, false), 10);
    assert_eq!(Prr::at(20, 9, 1).cwnd(10, 11, 1, false), 15);
}

/// RFC 3168, 6.1.2: an ECN reduction is an episode of its own (Linux's `tcp_enter_cwr` and `tcp_init_cwnd_reduction`): proportional from its beginning; what
/// an earlier episode left to be proven does not take it back, and a probe's answer does not reduce again.
#[test]
fn rfc3168_an_ecn_reduction_begins_an_episode() {
    let mut t = sent(cfg(), 10);
    t.end.conn.opts.ecn = true;
    t.end.conn.prr = Prr::at(99, 50, 20);
    t.end.conn.undo = Undo { marker: Some(1), unreported: Some(1) };
    t.end.conn.tlp.end = Some(10_001);
    t.recv(seg().ack(1001).flag(TcpFlags::ECE));
    assert_eq!(t.end.conn.ca_state, CaState::Cwr);
    assert_eq!(t.end.conn.prr, Prr::at(10, 1, 0));
    assert_eq!((t.end.conn.undo.marker, t.end.conn.tlp.end), (None, None));
}

/// RFC 3168, 6.1.1: a connection that did not negotiate ECN knows no ECN-Echo.
#[test]
fn rfc3168_ece_says_nothing_where_ecn_was_not_agreed_on() {
    for ecn in [false, true] {
        let mut t = sent(cfg(), 10);
        t.end.conn.opts.ecn = ecn;
        t.recv(seg().ack(1001));
        assert_eq!(t.end.conn.ca_state, CaState::Open, "not echoed");
        t.recv(seg().ack(2001).flag(TcpFlags::ECE));
        assert_eq!(t.end.conn.ca_state == CaState::Cwr, ecn);
    }
}

/// RFC 3522 compares with the first retransmission of this episode: with the recovery its time is over, though newer data is out.
#[test]
fn rfc3522_a_recovery_that_ended_leaves_no_time_to_compare_with() {
    let mut t = sent(cfg(), 10);
    t.write(20_000).recv(seg().ack(1).sack(1001, 10_001));
    let (again, new) = leaves(&mut t);
    assert_eq!(again, [1]);
    assert!(!new.is_empty() && t.end.conn.retrans_since.is_some());
    t.end.conn.frto_new_data = true;
    t.after(ms(10)).recv(seg().ack(10_001));
    assert_eq!(t.end.conn.ca_state, CaState::Open);
    assert!(!t.end.conn.board.is_empty());
    assert_eq!((t.end.conn.retrans_since, t.end.conn.frto_new_data), (None, false));
    // Without a recovery: when all is acknowledged.
    let mut t = sent(Config { early_retrans: 3, ..cfg() }, 2);
    fire(&mut t);
    assert_eq!(leaves(&mut t).0, [1001]);
    assert!(t.end.conn.retrans_since.is_some());
    t.recv(seg().ack(2001));
    assert_eq!(t.end.conn.retrans_since, None);
}

/// RFC 6582, 3.2 and Linux's `tcp_remove_reno_sacks`: "One ACK acked hole. The rest eat duplicate acks." The end of recovery forgets them all.
#[test]
fn rfc6582_a_partial_ack_eats_duplicate_acks() {
    let mut t = sent_without_sack(10);
    for _ in 0..12 {
        t.recv(seg().ack(1));
    }
    assert_eq!((leaves(&mut t).0, t.end.conn.dupacks), (vec![1], 12));
    t.after(ms(10)).recv(seg().ack(3001));
    assert_eq!((t.end.conn.ca_state, t.end.conn.dupacks), (CaState::Recovery, 10));
    t.recv(seg().ack(10_001));
    assert_eq!((t.end.conn.ca_state, t.end.conn.dupacks), (CaState::Open, 0));
}

/// RFC 5682, 3.1 step 2.b and Linux's `tcp_try_undo_loss`: an original SACKed after two timeouts proves both wrong: the counts of the row are taken back
/// with the reduction, though nothing is acknowledged cumulatively.
#[test]
fn rfc5682_a_row_of_spurious_timeouts_is_forgotten() {
    let mut t = sent(cfg(), 5);
    for _ in 0..2 {
        fire(&mut t);
        t.drain();
    }
    assert_eq!((t.end.conn.retransmits, t.end.conn.ca_state), (2, CaState::Loss));
    t.end.conn.frto_new_data = true;
    t.recv(seg().ack(1).sack(2001, 3001));
    let c = &t.end.conn;
    assert_eq!((c.retransmits, c.stalled_since, c.frto_new_data), (0, None, false));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSpuriousRTOs), 1);
    assert_ne!(t.end.conn.ca_state, CaState::Loss);
}

/// RFC 3522 without SACK: duplicate ACKs of a reduction that was taken back do not begin the next.
#[test]
fn rfc3522_undone_duplicate_acks_do_not_count_again() {
    let o = TcpOptions { mss: Some(1012), timestamps: super::segments::ts(77, 0), ..TcpOptions::NONE };
    let mut t = Test::established_with(stamped(), o);
    t.write(10_000);
    t.drain();
    let original = t.clock();
    t.after(ms(10));
    for _ in 0..5 {
        t.recv(seg().ack(1).ts(78, original));
    }
    assert_eq!((leaves(&mut t).0, t.end.conn.ca_state), (vec![1], CaState::Recovery));
    t.after(ms(3)).recv(seg().ack(2001).ts(79, original));
    assert_eq!((t.end.conn.ca_state, t.end.conn.dupacks, t.end.conn.board.sacked_out()), (CaState::Open, 0, 0));
    assert!(leaves(&mut t).0.is_empty());
    t.recv(seg().ack(2001).ts(79, original));
    assert_eq!((t.end.conn.ca_state, t.end.conn.dupacks), (CaState::Disorder, 1));
}

/// RFC 5682, 3.1: after the timeout's first ACK "up to two new (previously unsent) segments" are sent; a duplicate or a SACK of what was new then means
/// that the timeout was right: what is lost may be resent again.
#[test]
fn rfc5682_a_duplicate_ack_after_new_data_means_that_the_timeout_was_right() {
    for ack in [seg().ack(1001), seg().ack(1001).sack(5001, 6001)] {
        let mut t = sent(cfg(), 5);
        fire(&mut t);
        assert_eq!(leaves(&mut t).0, [1]);
        t.write(20_000).after(ms(10)).recv(seg().ack(1001));
        assert_eq!(leaves(&mut t), (vec![], vec![5001]));
        assert!(t.end.conn.frto);
        t.end.conn.frto_new_data = true;
        t.after(ms(10)).recv(ack.clone());
        assert_eq!((t.end.conn.frto, t.end.conn.frto_new_data), (false, false), "{ack:?}");
        assert_eq!(t.end.conn.ca_state, CaState::Loss);
    }
}

/// RFC 3708 as Linux's `tcp_init_undo` and `tcp_check_dsack`: what was resent before counts; a duplicate that ends where the episode begins is none of it.
#[test]
fn rfc3708_duplicates_of_this_episode_count() {
    let mut u = Undo::start(1001, 2);
    assert_eq!(u.unreported, Some(2));
    u.on_dsack(1001, 1);
    assert_eq!(u.unreported, Some(2));
    u.on_dsack(1002, 1);
    u.on_dsack(3001, 1);
    assert!(u.all_duplicates());
    assert_eq!(Undo::start(1001, 0).unreported, None);
}

/// RFC 8985, 6.2 step 4: the window grows by a quarter of the least RTT with each round that saw a DSACK; `tcp_recovery` 2 keeps it at one quarter. 6.3: what
/// a timeout spares has that window.
#[test]
fn rfc8985_the_reordering_window_grows_in_quarters() {
    let mut r = crate::recovery::Rack::default();
    r.on_dsack(1, 10);
    r.on_dsack(10, 20);
    r.reordering_seen = true;
    let (min, srtt) = (Some(ms(40)), Some(ms(50)));
    for (recovery, want) in [(1, 30), (3, 10)] {
        let cfg = Config { recovery, ..cfg() };
        assert_eq!(r.window(&cfg, false, 0, 3, min, srtt), ms(want), "tcp_recovery {recovery}");
        let now = stackd_base::Instant::from_nanos(1_000_000_000);
        assert_eq!(r.still_expected(now, min, srtt, &cfg), None, "nothing delivered yet");
    }
    let mut t = sent(cfg(), 3);
    t.recv(seg().ack(1001));
    t.end.conn.rack.reordering_seen = true;
    let rack = &t.end.conn.rack;
    assert_eq!(rack.rtt, ms(10));
    assert_eq!(rack.still_expected(t.now, Some(ms(8)), Some(ms(50)), &cfg()), Some(t.now - ms(12)));
}

/// RFC 2018, 2: SACK blocks of a peer that may not send them are ignored.
#[test]
fn rfc2018_blocks_without_the_permission_are_ignored() {
    let mut t = sent_without_sack(5);
    t.recv(seg().ack(1).sack(1001, 5001));
    assert!(leaves(&mut t).0.is_empty());
    assert!(t.end.conn.board.at_most_one_segment() || t.end.conn.board.highest_sacked() == 0);
    assert_eq!(t.end.conn.board.highest_sacked(), 0);
}
