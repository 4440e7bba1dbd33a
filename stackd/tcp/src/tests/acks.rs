//! What an acknowledgment resets, and what it must not: rules that a mutation check found no test to hold (`docs/mutants.md`).

use super::segments::{ISS, PEER, Test, seg};
use crate::cc::CaState;
use crate::{Config, IcmpError, IcmpKind, State};
use stackd_base::{Duration, Mib, SeqNum};
use stackd_wire::TcpOptions;

fn cfg() -> Config {
    Config { timestamps: false, congestion: "reno", early_retrans: 0, nodelay: true, ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn resent(t: &mut Test) -> usize {
    t.drain().iter().filter(|o| o.is_retransmit).count()
}

/// The next deadline is reached and what it wants sent is sent.
fn timeout(t: &mut Test) -> usize {
    let next = t.end.conn.next_deadline().expect("a timer runs");
    t.after(next - t.now);
    resent(t)
}

/// RFC 9293, 3.8.3: R1 and R2 count the retransmissions of one segment: an acknowledgment begins anew.
#[test]
fn rfc9293_an_acknowledgment_ends_the_count_towards_r2() {
    let mut t = Test::established(cfg());
    t.write(2000);
    t.drain();
    assert_eq!((timeout(&mut t), timeout(&mut t)), (1, 1));
    assert_eq!(t.end.conn.retransmits, 2);
    assert!(t.end.conn.stalled_since.is_some());
    t.recv(seg().ack(1001));
    assert_eq!((t.end.conn.retransmits, t.end.conn.stalled_since), (0, None));
}

/// RFC 6298, 5: the backoff stays until a segment that was not resent is acknowledged (Karn).
#[test]
fn rfc6298_karn_an_ambiguous_acknowledgment_keeps_the_backoff() {
    let mut t = Test::established(cfg());
    t.write(1000);
    t.drain();
    timeout(&mut t);
    timeout(&mut t);
    let srtt = t.end.conn.rtt.srtt();
    assert_eq!(t.end.conn.backoff, 2);
    t.after(ms(3)).recv(seg().ack(1001));
    assert_eq!((t.end.conn.backoff, t.end.conn.rtt.srtt()), (2, srtt));
    t.write(2000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(2001));
    assert_eq!(t.end.conn.backoff, 0);
}

/// Linux's `tcp_check_sack_reordering`: the extent of reordering in packets, never beyond `tcp_max_reordering`, and never less than it was.
#[test]
fn reordering_is_measured_in_packets_and_bounded() {
    for (most, want) in [(300, 7), (5, 5)] {
        let mut t = Test::established(Config { max_reordering: most, ..cfg() });
        t.write(10_000);
        t.drain();
        // The eighth arrives; then the second comes late.
        t.after(ms(10)).recv(seg().ack(1).sack(7001, 8001));
        assert_eq!(t.end.conn.reordering, 3);
        t.recv(seg().ack(1).sack(1001, 2001).sack(7001, 8001));
        assert_eq!(t.end.conn.reordering, want, "7001 was sacked before 1001 was: seven packets");
        assert_eq!(t.end.mib.get(Mib::TcpExtTCPSACKReorder), 1);
        // Less reordering later says nothing new.
        t.recv(seg().ack(1).sack(6001, 8001).sack(1001, 2001));
        assert_eq!((t.end.conn.reordering, t.end.conn.stats.reord_seen), (want, 2));
    }
}

/// RFC 9293, 3.8.6.1: an answered probe of a window that stays closed begins the count anew; a window that opens ends probing and its backoff.
#[test]
fn rfc9293_an_opened_window_ends_probing_and_its_backoff() {
    let mut t = Test::established(cfg());
    t.recv(seg().ack(1).win(0)).write(1000).quiet();
    for _ in 0..3 {
        let next = t.end.conn.next_deadline().expect("a timer runs");
        t.after(next - t.now);
        t.expect(seg().seq(0).ack(1));
    }
    assert_eq!((t.end.conn.probes_out, t.end.conn.backoff), (3, 3));
    assert!(t.end.conn.persist_since.is_some());
    t.recv(seg().ack(1).win(0));
    assert_eq!((t.end.conn.probes_out, t.end.conn.backoff), (0, 3), "answered, still closed");
    assert!(t.end.conn.persist_since.is_some(), "what TCP_USER_TIMEOUT bounds runs on");
    t.recv(seg().ack(1).win(5000)).expect(seg().seq(1).len(1000));
    assert_eq!((t.end.conn.backoff, t.end.conn.persist_since), (0, None));
    // Data is out: what runs is a retransmission timer, not the old probe.
    t.recv(seg().ack(1001).win(5000));
    assert_eq!(t.end.conn.next_deadline(), None);
}

/// RFC 6582: duplicate ACKs of the window before are no sign of a loss in this one.
#[test]
fn rfc6582_duplicate_acks_do_not_outlive_their_window() {
    let mut t = Test::established_with(cfg(), TcpOptions { mss: Some(1000), ..TcpOptions::NONE });
    t.write(10_000);
    t.drain();
    for ack in [1, 1, 2001, 2001, 4001, 4001, 6001, 6001] {
        t.recv(seg().ack(ack));
        assert_eq!(
            (resent(&mut t), t.end.conn.ca_state == CaState::Recovery),
            (0, false),
            "two at most in a row, ack {ack}"
        );
    }
    assert_eq!(t.end.conn.dupacks, 1);
    t.recv(seg().ack(6001));
    t.recv(seg().ack(6001));
    assert_eq!((resent(&mut t), t.end.conn.ca_state), (1, CaState::Recovery));
}

/// RFC 5681, 2: an ACK with data, or one that changes the window, is no duplicate.
#[test]
fn rfc5681_data_and_window_updates_are_no_duplicate_acks() {
    let mut t = Test::established_with(cfg(), TcpOptions { mss: Some(1000), ..TcpOptions::NONE });
    t.write(10_000);
    t.drain();
    for i in 0..4 {
        t.recv(seg().seq(1 + i * 10).ack(1).len(10));
    }
    for i in 1..5 {
        t.recv(seg().seq(41).ack(1).win(60_000 + i));
    }
    assert_eq!((resent(&mut t), t.end.conn.dupacks), (0, 0));
    for _ in 0..3 {
        t.recv(seg().seq(41).ack(1).win(60_004));
    }
    assert_eq!(resent(&mut t), 1);
}

/// RFC 6582, 3.2 step 3: without SACK a partial ACK means that the next segment is lost too; with SACK only what SACK says is.
#[test]
fn rfc6582_a_partial_ack_resends_the_next_only_without_sack() {
    for sack_permitted in [false, true] {
        let mut t = Test::established_with(cfg(), TcpOptions { mss: Some(1000), sack_permitted, ..TcpOptions::NONE });
        t.write(9000);
        t.drain();
        if sack_permitted {
            t.after(ms(10)).recv(seg().ack(1).sack(4001, 9001));
        } else {
            for _ in 0..3 {
                t.recv(seg().ack(1));
            }
        }
        let first = resent(&mut t);
        assert!(first >= 1);
        let lost = t.end.conn.board.lost_total();
        t.after(ms(10)).recv(if sack_permitted { seg().ack(1001).sack(4001, 9001) } else { seg().ack(1001) });
        assert_eq!(t.end.conn.board.lost_total() - lost, u64::from(!sack_permitted), "SACK: {sack_permitted}");
    }
}

/// What recovery leaves behind is nothing: the next episode begins with no flag, count or time of this one.
#[test]
fn an_episode_leaves_nothing_behind() {
    let mut t = Test::established(cfg());
    t.write(5000);
    t.drain();
    timeout(&mut t);
    assert!(t.end.conn.frto && t.end.conn.ca_state == CaState::Loss);
    t.after(ms(10)).recv(seg().ack(5001));
    let c = &t.end.conn;
    assert_eq!(
        (c.ca_state, c.frto, c.frto_new_data, c.dupacks, c.retrans_since),
        (CaState::Open, false, false, 0, None)
    );
    assert_eq!((c.retransmits, c.stalled_since, c.next_deadline()), (0, None, None));
}

/// The same where the timeout proves spurious: F-RTO's second ACK of an original.
#[test]
fn an_undone_episode_leaves_nothing_behind() {
    let mut t = Test::established(Config { frto: 2, ..cfg() });
    t.write(5000);
    t.drain();
    timeout(&mut t);
    t.write(12_000);
    t.after(ms(1)).recv(seg().ack(2001));
    t.drain();
    t.after(ms(1)).recv(seg().ack(3001));
    let c = &t.end.conn;
    assert_eq!((c.ca_state, c.frto, c.frto_new_data), (CaState::Open, false, false));
    assert_eq!((c.undo.marker, c.retransmits, c.stalled_since, c.retrans_since), (None, 0, None, None));
    assert_eq!(c.board.lost_out(), 0);
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSpuriousRTOs), 1);
}

/// RFC 9293, 3.10.7.4: the larger of two windows of one sequence number and one acknowledgment is the later.
#[test]
fn rfc9293_a_window_update_that_was_overtaken_is_not_taken() {
    let mut t = Test::established(cfg());
    t.recv(seg().seq(1).ack(1).win(5000).len(10));
    t.recv(seg().seq(11).ack(1).win(9000));
    assert_eq!(t.end.conn.positions().snd_wnd, 9000);
    // Sent before: an older sequence number.
    t.recv(seg().seq(1).ack(1).win(3000).len(10));
    assert_eq!(t.end.conn.positions().snd_wnd, 9000);
    t.recv(seg().seq(11).ack(1).win(8000));
    assert_eq!(t.end.conn.positions().snd_wnd, 9000);
    t.recv(seg().seq(11).ack(1).win(0));
    assert_eq!(t.end.conn.positions().snd_wnd, 0, "to refuse everything is allowed");
}

/// RFC 2883, 5: a report as wide as no window, or of more duplicates than were resent, proves nothing.
#[test]
fn rfc2883_dubious_reports_are_ignored() {
    let mut t = Test::established(cfg());
    t.write(9000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(9001));
    t.recv(seg().ack(9001).sack(1, 1001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPDSACKIgnoredDubious), 1, "nothing was ever resent");
    let mut t = Test::established(cfg());
    t.recv(seg().ack(1).win(3000));
    t.end.conn.max_wnd = 3000;
    t.write(9000);
    for end in [3001, 6001, 9001] {
        t.drain();
        t.end.conn.stats.total_retrans = 100;
        t.after(ms(10)).recv(seg().ack(end).win(3000));
    }
    t.recv(seg().ack(9001).win(3000).sack(1, 3001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPDSACKIgnoredDubious), 0, "as wide as the window");
    t.recv(seg().ack(9001).win(3000).sack(1, 3002));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPDSACKIgnoredDubious), 1, "wider");
}

/// The scoreboard after a run was SACKed and is then cut by an acknowledgment in its midst: packets, all of them SACKed, add up.
#[test]
fn a_sacked_run_that_is_cut_keeps_its_sum() {
    let mut t = Test::established(cfg());
    t.write(8000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1).sack(2001, 4001));
    t.recv(seg().ack(1).sack(5001, 6001).sack(2001, 4001));
    t.recv(seg().ack(1).sack(4001, 5001).sack(2001, 4001).sack(5001, 6001));
    assert_eq!(t.end.conn.board.sacked_out(), 4);
    // One run now: it is acknowledged in part, which a peer that reneges does.
    for (ack, out, sacked) in [(2501, 6, 4), (3001, 5, 3), (5501, 3, 1), (6001, 2, 0)] {
        t.recv(seg().ack(ack));
        t.end.conn.check_invariants().unwrap_or_else(|e| panic!("ack {ack}: {e}"));
        let b = &t.end.conn.board;
        assert_eq!((b.packets_out(), b.sacked_out()), (out, sacked), "ack {ack}");
    }
}

/// An idle connection holds no memory for what it might send.
#[test]
fn nothing_outstanding_waits_to_be_judged() {
    let mut t = Test::established(cfg());
    t.write(5000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1).sack(1001, 5001));
    t.drain();
    t.after(ms(10)).recv(seg().ack(5001));
    assert!(t.end.conn.board.is_empty());
    assert_eq!(t.end.conn.board.judgements_waiting(), 0);
}

/// As Linux: an ICMP error quotes what is outstanding, or it is somebody else's word.
#[test]
fn an_icmp_error_beyond_what_was_sent_is_not_believed() {
    let mut t = Test::established(cfg());
    t.write(5000);
    t.drain();
    for seq in [5002, 60_000, 0] {
        let icmp = IcmpError { seq: SeqNum(ISS) + seq, kind: IcmpKind::TooBig { mss: 500 } };
        let now = t.now;
        t.end.with(|c, env| c.handle_icmp(now, icmp, env));
        assert_eq!(t.end.conn.mss(), 1000, "seq {seq}");
    }
    assert_eq!((t.end.conn.state(), t.end.conn.rcv_nxt()), (State::Established, SeqNum(PEER) + 1));
}
