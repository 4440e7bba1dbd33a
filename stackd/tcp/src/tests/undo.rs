//! Reductions that prove unnecessary are taken back: Eifel (timestamps), DSACK, F-RTO.

use super::segments::{Test, seg};
use crate::Config;
use crate::cc::CaState;
use stackd_base::{Duration, Mib};

fn cfg(cc: &'static str, timestamps: bool) -> Config {
    Config { timestamps, congestion: cc, early_retrans: 0, ..Config::default() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn eifel_an_echo_older_than_the_retransmission_takes_the_reduction_back() {
    for cc in ["reno", "cubic"] {
        let mut t = Test::established_ts(cfg(cc, true), 77);
        t.write(10_000);
        t.drain();
        let (sent, cwnd) = (t.clock(), t.end.conn.cwnd);
        t.after(ms(10)).recv(seg().ack(1).sack(1001, 6001).ts(78, sent));
        assert!(t.drain().iter().any(|o| o.is_retransmit));
        assert_eq!(t.end.conn.ca_state, CaState::Recovery);
        // The original was only late: its ACK echoes its own time.
        t.after(ms(3)).recv(seg().ack(6001).ts(79, sent));
        assert_eq!(t.end.conn.ca_state, CaState::Open, "{cc}");
        assert!(t.end.conn.cwnd >= cwnd, "{cc} {} {cwnd}", t.end.conn.cwnd);
        assert_eq!(t.end.conn.ssthresh, u32::MAX, "{cc}");
    }
}

#[test]
fn eifel_an_echo_of_the_retransmission_undoes_nothing() {
    let mut t = Test::established_ts(cfg("reno", true), 77);
    t.write(10_000);
    t.drain();
    let sent = t.clock();
    t.after(ms(10)).recv(seg().ack(1).sack(1001, 6001).ts(78, sent));
    t.drain();
    let resent = t.clock();
    t.after(ms(10)).recv(seg().ack(6001).ts(79, resent));
    assert_eq!(t.end.conn.ca_state, CaState::Recovery);
    t.recv(seg().ack(10_001).ts(79, resent));
    assert_eq!((t.end.conn.ca_state, t.end.conn.ssthresh), (CaState::Open, 5));
}

/// The duplicate's report comes a round trip after the retransmission, when recovery is usually over already.
#[test]
fn dsack_after_recovery_takes_the_reduction_back() {
    for cc in ["reno", "cubic"] {
        let mut t = Test::established(cfg(cc, false));
        t.write(10_000);
        t.drain();
        let cwnd = t.end.conn.cwnd;
        t.after(ms(10)).recv(seg().ack(1).sack(1001, 6001));
        assert_eq!(t.drain().iter().filter(|o| o.is_retransmit).count(), 1);
        t.after(ms(3)).recv(seg().ack(10_001));
        assert_eq!(t.end.conn.ca_state, CaState::Open);
        assert!(t.end.conn.cwnd < cwnd);
        t.write(12_000);
        t.drain();
        t.after(ms(7)).recv(seg().ack(10_001).sack(1, 1001));
        assert_eq!(t.end.mib.get(Mib::TcpExtTCPDSACKUndo), 1, "{cc}");
        assert!(t.end.conn.cwnd >= cwnd, "{cc} {} {cwnd}", t.end.conn.cwnd);
    }
}

#[test]
fn dsack_of_one_of_two_retransmissions_undoes_nothing() {
    let mut t = Test::established(cfg("reno", false));
    t.write(10_000);
    t.drain();
    t.after(ms(10)).recv(seg().ack(1).sack(2001, 8001));
    t.drain();
    t.after(ms(1)).recv(seg().ack(1).sack(2001, 10_001));
    t.drain();
    t.after(ms(10)).recv(seg().ack(10_001).sack(1, 1001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPDSACKUndo) + t.end.mib.get(Mib::TcpExtTCPFullUndo), 0);
    assert!(t.end.conn.ssthresh < 10);
}

#[test]
fn frto_an_original_delivered_after_the_timeout_proves_it_spurious() {
    for cc in ["reno", "cubic", "bbr"] {
        let mut t = Test::established(cfg(cc, false));
        t.write(8_000);
        // BBR paces the first window out.
        for _ in 0..20 {
            t.drain();
            t.after(ms(1));
        }
        let cwnd = t.end.conn.cwnd;
        t.after(ms(300));
        let out = t.drain();
        assert_eq!(out.iter().filter(|o| o.is_retransmit).count(), 1, "{cc} {out:?}");
        assert_eq!(t.end.conn.ca_state, CaState::Loss);
        // The whole flight was delayed: the ACK covers what was never sent twice.
        t.after(ms(5)).recv(seg().ack(3001));
        assert_eq!(t.end.mib.get(Mib::TcpExtTCPSpuriousRTOs), 1, "{cc}");
        assert!(t.end.conn.cwnd >= cwnd, "{cc} {} {cwnd}", t.end.conn.cwnd);
        assert!(t.drain().iter().all(|o| !o.is_retransmit), "{cc}");
    }
}

#[test]
fn frto_an_ack_of_the_retransmission_alone_sends_new_data_and_waits() {
    let mut t = Test::established(cfg("reno", false));
    t.write(10_000);
    t.drain();
    t.write(14_000).after(ms(300)).expect(seg().seq(1).len(1000));
    t.after(ms(10)).recv(seg().ack(1001)).expect(seg().seq(10_001).len(2000));
    // A duplicate ACK, with the SACK of new data: the flight is gone indeed.
    t.after(ms(10)).recv(seg().ack(1001).sack(10_001, 12_001)).expect(seg().seq(1001).len(1000));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSpuriousRTOs), 0);
}

/// Without SACK an ACK that jumps over the retransmission may come from what was buffered long ago: no proof.
#[test]
fn frto_needs_sack_to_tell_originals_from_buffered_data() {
    let mut t = Test::established_with(
        Config { sack: false, ..cfg("reno", false) },
        stackd_wire::TcpOptions { mss: Some(1000), ..stackd_wire::TcpOptions::NONE },
    );
    t.write(5_000);
    t.drain();
    t.after(ms(300)).expect(seg().seq(1).len(1000));
    t.after(ms(10)).recv(seg().ack(4001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSpuriousRTOs), 0);
}

/// RFC 5682, 2.1: each expiry of the timer begins the algorithm afresh; one within fast recovery does not.
#[test]
fn frto_a_second_timeout_may_be_spurious_too() {
    let mut t = Test::established(cfg("reno", false));
    t.write(10_000);
    t.drain();
    t.write(14_000).after(ms(250)).expect(seg().seq(1).len(1000));
    t.after(ms(500)).expect(seg().seq(1).len(1000));
    t.after(ms(10)).recv(seg().ack(1001)).expect(seg().seq(10_001).len(2000));
    t.after(ms(10)).recv(seg().ack(2001));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSpuriousRTOs), 1);
}

#[test]
fn frto_not_when_the_timeout_interrupts_fast_recovery() {
    let mut t = Test::established(cfg("reno", false));
    t.write(10_000);
    t.drain();
    t.write(14_000).after(ms(10)).recv(seg().ack(1).sack(1001, 9001)).expect(seg().seq(1).len(1000));
    t.drain();
    t.after(ms(400)).expect(seg().seq(1).len(1000));
    // Conventional recovery: what follows the hole, not new data.
    t.after(ms(10)).recv(seg().ack(9001)).expect(seg().seq(9001).len(1000));
    assert_eq!(t.end.mib.get(Mib::TcpExtTCPSpuriousRTOs), 0);
}

#[test]
fn frto_off_retransmits_conventionally() {
    let mut t = Test::established(Config { frto: 0, ..cfg("reno", false) });
    t.write(10_000);
    t.drain();
    t.write(14_000).after(ms(250)).expect(seg().seq(1).len(1000));
    t.after(ms(10)).recv(seg().ack(1001)).expect(seg().seq(1001).len(1000));
}

/// Step 2b: "If the TCP sender has no new data to send or the receiver's advertised window prevents it: conventional recovery."
#[test]
fn frto_without_new_data_recovers_conventionally() {
    for window in [60_000, 9000] {
        let mut t = Test::established(cfg("reno", false));
        t.write(10_000);
        t.drain();
        if window < 60_000 {
            t.write(14_000);
        }
        t.after(ms(250)).expect(seg().seq(1).len(1000));
        t.after(ms(10)).recv(seg().ack(1001).win(window)).expect(seg().seq(1001).len(1000));
    }
}
