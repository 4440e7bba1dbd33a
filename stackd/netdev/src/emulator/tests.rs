use super::*;
use crate::segment;
use crate::testdev::Memory;
use crate::tests::{gso, send};
use stackd_wire::Sum;

fn memory() -> Memory {
    Memory { offloads: true, ..Memory::default() }
}

fn config(text: &str) -> QdiscConfig {
    text.parse().expect("valid")
}

fn ms(n: u64) -> Instant {
    Instant::from_nanos(n * 1_000_000)
}

/// Every segment as it would be on the wire: (sequence number, payload), its checksums verified.
fn segments(frame: &[u8], offload: &Offload) -> Vec<(u32, Vec<u8>)> {
    let one = |s: &[u8]| {
        assert!(Sum::of(&s[14..34]).is_valid(), "IPv4 header checksum");
        assert_eq!(usize::from(u16::from_be_bytes([s[16], s[17]])), s.len() - 14);
        let pseudo = Sum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, (s.len() - 34) as u32);
        assert!(pseudo.and(Sum::of(&s[34..])).is_valid(), "TCP checksum");
        (u32::from_be_bytes([s[38], s[39], s[40], s[41]]), s[54..].to_vec())
    };
    if offload.gso_size > 0 {
        return (0..).map_while(|i| segment::segment(frame, offload, i)).map(|s| one(&s)).collect();
    }
    let (mut s, mut o) = (frame.to_vec(), *offload);
    segment::complete_checksum(&mut s, &mut o);
    vec![one(&s)]
}

#[test]
fn loss_strikes_segments_and_the_survivors_leave_with_their_neighbours() {
    let mut e = Emulator::new(memory(), &config("netem delay 10ms loss 20% limit 10000"), 1).expect("valid");
    let (frame, offload) = gso(14_480, 1448);
    for _ in 0..100 {
        assert!(matches!(send(&mut e, Instant::ZERO, &frame, offload), TxResult::Sent));
    }
    assert_eq!(e.next_deadline(), Some(ms(10)));
    assert!(e.device.sent.is_empty());
    e.receive(ms(10), &mut []).expect("flushes");
    let all: Vec<_> = e.device.sent.iter().flat_map(|(f, o)| segments(f, o)).collect();
    let lost = e.stats().egress.expect("has one").drops;
    assert!((130..270).contains(&lost), "{lost}");
    assert_eq!(all.len() as u64 + lost, 1000);
    assert!(e.device.sent.len() * 2 < all.len(), "{} frames for {} segments", e.device.sent.len(), all.len());
    for (seq, payload) in &all {
        assert_eq!(payload[..], frame[54 + *seq as usize..][..1448]);
    }
    assert_eq!(e.next_deadline(), None);
}

#[test]
fn a_delay_alone_leaves_gso_frames_whole_both_ways() {
    let c = config("netem delay 3ms");
    let mut e = Emulator::both(memory(), Some(&c), Some(&c), 1).expect("valid");
    let (frame, offload) = gso(64_000, 1448);
    e.device.waiting.push_back((frame.clone(), offload));
    let mut buf = vec![0; RX_BUFFER_LEN];
    assert!(e.receive(ms(1), &mut buf).expect("reads").is_none());
    send(&mut e, ms(2), &frame, offload);
    assert_eq!(e.next_deadline(), Some(ms(4)));
    let meta = e.receive(ms(4), &mut buf).expect("reads").expect("due");
    assert_eq!((meta.at, meta.offload.gso_size, meta.len), (ms(4), 1448, frame.len()));
    assert_eq!(segments(meta.frame(&buf).expect("whole"), &meta.offload), segments(&frame, &offload));
    assert!(e.device.sent.is_empty());
    e.receive(ms(5), &mut buf).expect("flushes");
    assert_eq!(segments(&e.device.sent[0].0, &e.device.sent[0].1), segments(&frame, &offload));
}

#[test]
fn what_arrives_is_lost_per_segment_and_every_loss_is_counted() {
    let mut e = Emulator::both(memory(), None, Some(&config("netem loss 10% limit 10000")), 7).expect("valid");
    let (frame, offload) = gso(14_480, 1448);
    e.device.waiting.extend((0..100).map(|_| (frame.clone(), offload)));
    let (mut buf, mut got) = (vec![0; RX_BUFFER_LEN], 0);
    while let Some(m) = e.receive(ms(1), &mut buf).expect("reads") {
        got += segments(&buf[..m.len], &m.offload).len() as u64;
    }
    let path = e.stats().ingress.expect("has one");
    assert_eq!((got + path.drops, path.packets), (1000, got));
    assert!((60..140).contains(&path.drops), "{}", path.drops);
    assert_eq!(e.stats().egress, None);
    // The way out was left alone.
    send(&mut e, ms(1), &frame, offload);
    assert_eq!(e.device.sent, [(frame, offload)]);
}

#[test]
fn corruption_is_seen_by_the_checksum_and_duplicates_arrive_twice() {
    let (frame, offload) = gso(1000, 1448);
    let plain = Offload { csum: offload.csum, ..Offload::default() };
    let mut e = Emulator::new(memory(), &config("netem corrupt 100%"), 3).expect("valid");
    let mut twice = Emulator::new(memory(), &config("netem duplicate 100%"), 3).expect("valid");
    let (mut fixed, mut o) = (frame.clone(), plain);
    segment::complete_checksum(&mut fixed, &mut o);
    for _ in 0..50 {
        send(&mut e, ms(1), &frame, plain);
        send(&mut twice, ms(1), &frame, plain);
    }
    for (bytes, o) in &e.device.sent {
        assert_eq!(*o, Offload::default(), "the receiver has to look");
        let flipped: u32 = bytes.iter().zip(&fixed).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((flipped, &bytes[..14]), (1, &fixed[..14]));
    }
    assert_eq!((e.device.sent.len(), twice.device.sent.len()), (50, 100));
}

#[test]
fn a_full_device_delays_and_a_broken_one_is_counted() {
    let mut e = Emulator::new(memory(), &config("netem delay 1ms limit 100"), 1).expect("valid");
    let (frame, offload) = gso(5000, 1448);
    e.device.room = Some(3);
    for _ in 0..40 {
        send(&mut e, ms(0), &frame, offload);
    }
    e.receive(ms(1), &mut []).expect("flushes");
    assert_eq!((e.device.sent.len(), e.held(), e.next_deadline()), (3, true, None));
    e.device.room = None;
    e.receive(ms(1), &mut []).expect("flushes");
    assert_eq!((e.device.sent.len(), e.held()), (40, false));
    e.device.broken = true;
    for _ in 0..110 {
        send(&mut e, ms(1), &frame, offload);
    }
    e.receive(ms(2), &mut []).expect("flushes");
    let stats = e.stats();
    assert_eq!((stats.tx_refused, stats.egress.expect("has one").drops), (100, 10));
}

#[test]
fn buffers_are_used_again_once_all_their_segments_left() {
    let mut e = Emulator::new(memory(), &config("netem delay 1ms loss 30% limit 10000"), 5).expect("valid");
    let (frame, offload) = gso(20_000, 1448);
    for round in 0..20 {
        for _ in 0..10 {
            send(&mut e, ms(round * 2), &frame, offload);
        }
        e.receive(ms(round * 2 + 1), &mut []).expect("flushes");
        let pool = &e.egress.as_ref().expect("has one").pool;
        assert_eq!(pool.idle(), 10, "round {round}");
    }
}

#[test]
fn new_parameters_keep_what_is_under_way() {
    let mut e = Emulator::new(memory(), &config("netem delay 10ms"), 1).expect("valid");
    let (frame, offload) = gso(100, 1448);
    send(&mut e, ms(0), &frame, offload);
    e.change(&config("netem delay 1ms"), ms(0)).expect("valid");
    send(&mut e, ms(0), &frame, offload);
    e.receive(ms(1), &mut []).expect("flushes");
    assert_eq!(e.device.sent.len(), 1);
    e.change(&config("pfifo limit 10"), ms(1)).expect("valid");
    e.receive(ms(1), &mut []).expect("flushes");
    assert_eq!(e.device.sent.len(), 2);
}
