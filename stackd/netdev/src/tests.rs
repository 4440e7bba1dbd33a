use super::*;
use stackd_base::{Rng, SplitMix64};

/// A TCP/IPv4 GSO frame of `n` payload bytes in segments of `size`.
pub(crate) fn gso(n: usize, size: u16) -> (Vec<u8>, Offload) {
    let mut f = vec![0; 54];
    f[12..14].copy_from_slice(&[8, 0]);
    f[14] = 0x45;
    f[23] = 6;
    f[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    f[46] = 5 << 4;
    f[47] = 0x18;
    f.extend((0..n).map(|i| i as u8));
    (f, Offload { csum: Some((34, 16)), gso_size: size, gso: Gso::TcpV4, hdr_len: 54, ..Offload::default() })
}

pub(crate) fn send(device: &mut dyn Device, now: Instant, bytes: &[u8], offload: Offload) -> TxResult {
    let pieces = [IoVec { base: bytes.as_ptr(), len: bytes.len() }];
    // SAFETY: the piece is a live slice.
    unsafe { device.transmit(now, &TxFrame { pieces: &pieces, offload }) }
}

#[test]
fn vnet_headers_survive_the_round_trip_and_random_ones_never_point_outside() {
    let (frame, offload) = gso(4000, 1448);
    assert_eq!(vnet::decode(&vnet::encode(&offload), &frame), Ok(offload));
    let mut rng = SplitMix64::new(3);
    for _ in 0..200_000 {
        let mut header = [0u8; 10];
        header.fill_with(|| if rng.chance(1 << 31) { rng.below(70) as u8 } else { 0 });
        header[1] &= 0x87;
        let len = rng.below(200) as usize;
        if let Ok(o) = vnet::decode(&header, &frame[..len]) {
            assert!(o.csum.is_none_or(|(s, f)| usize::from(s) + usize::from(f) + 2 <= len));
            assert!(usize::from(o.hdr_len) <= len && (o.gso == Gso::None || o.gso_size > 0));
            for i in 0..=segment::count(len, &o).min(5) {
                let _ = segment::segment(&frame[..len], &o, i);
            }
        }
    }
}

#[test]
fn software_segments_carry_right_lengths_numbers_flags_and_checksums() {
    let (frame, offload) = gso(3000, 1448);
    let all: Vec<_> = (0..).map_while(|i| segment::segment(&frame, &offload, i)).collect();
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [1502, 1502, 158]);
    let mut payload = Vec::new();
    for (i, s) in all.iter().enumerate() {
        let pseudo = stackd_wire::Sum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, (s.len() - 34) as u32);
        assert!(pseudo.and(stackd_wire::Sum::of(&s[34..])).is_valid() && stackd_wire::Sum::of(&s[14..34]).is_valid());
        assert_eq!(u32::from_be_bytes([s[38], s[39], s[40], s[41]]), i as u32 * 1448);
        assert_eq!((usize::from(u16::from_be_bytes([s[16], s[17]])), s[47] & 8 != 0), (s.len() - 14, i == 2));
        payload.extend_from_slice(&s[54..]);
    }
    assert_eq!(payload, frame[54..]);
}

#[test]
fn a_wire_carries_gso_frames_whole_and_survives_its_peer() {
    let path = std::env::temp_dir().join(format!("stackd-wire-{}", std::process::id()));
    let mut a = Wire::listen(&path, 1500).expect("listens");
    let mut b = Wire::connect(&path, 1500);
    let (mut buf, now) = (vec![0; RX_BUFFER_LEN], Instant::ZERO);
    assert!(a.receive(now, &mut buf).expect("accepts").is_none() && a.link_up() && b.link_up());
    let (frame, offload) = gso(65_000, 1448);
    assert!(matches!(send(&mut b, now, &frame, offload), TxResult::Sent));
    let meta = a.receive(now, &mut buf).expect("reads").expect("a frame");
    assert_eq!((meta.offload, meta.frame(&buf).expect("whole")), (offload, &frame[..]));
    drop(b);
    // A process that another test starts at this moment holds a copy of the peer's socket until its exec.
    for _ in 0..5_000_000 {
        assert!(a.receive(now, &mut buf).expect("peer gone").is_none());
        if !a.link_up() {
            break;
        }
        std::thread::yield_now();
    }
    assert!(!a.link_up());
    let mut b = Wire::connect(&path, 1500);
    a.receive(now, &mut buf).expect("accepts again");
    assert!(matches!(send(&mut a, now, &frame, offload), TxResult::Sent));
    assert!(b.receive(now, &mut buf).expect("reads").is_some());
    assert!(Wire::listen(&path, 1500).is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse));
}

#[test]
fn a_tee_captures_both_ways_counts_what_it_missed_and_tshark_reads_it() {
    let path = std::env::temp_dir().join(format!("stackd-tee-{}", std::process::id()));
    let mut a = Wire::listen(&path, 1500).expect("listens");
    let (mut b, captured) = pcapng::Tee::new(Wire::connect(&path, 1500), 100, 2);
    let (mut buf, now) = (vec![0; RX_BUFFER_LEN], Instant::from_nanos(5));
    a.receive(now, &mut buf).expect("accepts");
    let (frame, offload) = gso(999, 1448);
    for _ in 0..4 {
        send(&mut b, now, &frame, offload);
    }
    let mut file = Vec::new();
    let mut w = pcapng::Writer::new(&mut file, "wire0", 100, 1_700_000_000_000_000_000).expect("writes");
    let mut take = || captured.try_iter().inspect(|c| w.frame(c).expect("writes")).collect::<Vec<_>>();
    assert_eq!(
        take().iter().map(|c| (c.outbound, c.bytes == frame[..100], c.len)).collect::<Vec<_>>(),
        [(true, true, 1053); 2]
    );
    send(&mut a, now, &frame, offload);
    b.receive(now, &mut buf).expect("reads").expect("a frame");
    assert_eq!(take().iter().map(|c| (c.outbound, c.missed)).collect::<Vec<_>>(), [(false, 2)]);
    let name = path.with_extension("pcapng");
    std::fs::write(&name, &file).expect("writes");
    match std::process::Command::new("tshark")
        .args(["-r"])
        .arg(&name)
        .args(["-T", "fields", "-e", "frame.time_epoch"])
        .output()
    {
        Ok(out) => {
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            assert_eq!(text.lines().collect::<Vec<_>>(), ["1700000000.000000005"; 3]);
        }
        Err(e) => eprintln!("SKIPPED: tshark: {e}"),
    }
    std::fs::remove_file(&name).expect("removes");
}

#[test]
fn a_wire_reads_ahead_of_small_frames_and_keeps_order_among_large_ones() {
    let path = std::env::temp_dir().join(format!("stackd-ahead-{}", std::process::id()));
    let mut a = Wire::listen(&path, 1500).expect("listens");
    let mut b = Wire::connect(&path, 1500);
    let (mut buf, now) = (vec![0; RX_BUFFER_LEN], Instant::ZERO);
    a.receive(now, &mut buf).expect("accepts");
    let (mut rng, mut expected) = (SplitMix64::new(9), std::collections::VecDeque::new());
    for n in 0..2000u32 {
        let len = if rng.chance(1 << 30) { 20_000 + rng.below(40_000) } else { 60 + rng.below(1400) };
        let (mut frame, _) = gso(len as usize, 1448);
        frame[54..58].copy_from_slice(&n.to_be_bytes());
        while let TxResult::Busy = send(&mut b, now, &frame, Offload::default()) {
            let meta = a.receive(now, &mut buf).expect("reads").expect("what made it full");
            assert_eq!(expected.pop_front().as_deref(), Some(meta.frame(&buf).expect("whole")));
        }
        expected.push_back(frame);
    }
    drop(b);
    while let Some(meta) = a.receive(now, &mut buf).expect("reads") {
        assert_eq!(expected.pop_front().as_deref(), Some(meta.frame(&buf).expect("whole")));
    }
    assert!(expected.is_empty() && !a.link_up());
}

#[test]
fn a_wire_counts_what_its_peer_described_wrongly() {
    use std::os::fd::AsRawFd;
    let path = std::env::temp_dir().join(format!("stackd-wrong-{}", std::process::id()));
    let mut a = Wire::listen(&path, 1500).expect("listens");
    let b = Wire::connect(&path, 1500);
    let (mut buf, now) = (vec![0; RX_BUFFER_LEN], Instant::ZERO);
    a.receive(now, &mut buf).expect("accepts");
    let fd = b.as_fd().expect("connected").as_raw_fd();
    for len in [1usize, 9, 10, 23, 80_000, 100] {
        let junk = vec![0x7f; len];
        // SAFETY: sends a live slice.
        assert_eq!(unsafe { libc::send(fd, junk.as_ptr().cast(), len, libc::MSG_NOSIGNAL) }, len as isize);
    }
    assert!(a.receive(now, &mut buf).expect("reads").is_none() && a.link_up());
    assert_eq!(a.stats().rx_invalid, 6);
}

#[test]
fn software_offload_cuts_and_completes_what_a_plain_device_cannot() {
    let mut d = SoftOffload::new(testdev::Memory { room: Some(20), ..testdev::Memory::default() });
    let (frame, offload) = gso(64_000, 1000);
    assert!(d.caps().tx_csum && d.caps().tso_max == 65_535);
    // 64 segments for 20 places: the frame is taken, and nothing overtakes what is left of it.
    assert!(matches!(send(&mut d, Instant::ZERO, &frame, offload), TxResult::Sent));
    assert!(matches!(send(&mut d, Instant::ZERO, &frame, Offload::default()), TxResult::Busy));
    let expected: Vec<_> = (0..64).filter_map(|i| segment::segment(&frame, &offload, i)).collect();
    assert_eq!((d.device().sent.len(), &d.device().sent[19].0), (20, &expected[19]));
    d.device_mut().room = None;
    d.receive(Instant::ZERO, &mut []).expect("goes on");
    assert_eq!(d.device().sent.iter().map(|s| &s.0).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    let mut d = SoftOffload::new(testdev::Memory::default());
    send(&mut d, Instant::ZERO, &frame, offload);
    assert_eq!(d.device().sent.iter().map(|s| &s.0).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert!(d.device().sent.iter().all(|s| s.1.csum.is_none() && s.1.gso_size == 0));
    let one = Offload { csum: Some((34, 16)), ..Offload::default() };
    send(&mut d, Instant::ZERO, &expected[63], Offload::default());
    let (mut open, _) = gso(500, 1000);
    send(&mut d, Instant::ZERO, &open, one);
    segment::complete_checksum(&mut open, &mut one.clone());
    assert_eq!((&d.device().sent[64].0, &d.device().sent[65].0), (&expected[63], &open));
    // Headers that do not lie in the frame: counted, not sent.
    let lie = Offload { hdr_len: 64_100, ..offload };
    send(&mut d, Instant::ZERO, &frame, lie);
    assert_eq!((d.stats().tx_refused > 0, d.device().sent.len()), (true, 66));
}

#[test]
fn a_trace_sees_every_frame_and_its_fate() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = seen.clone();
    let inner = testdev::Memory { room: Some(1), offloads: true, ..testdev::Memory::default() };
    let mut d = Trace::new(inner, move |e: &trace::TraceEvent| sink.lock().expect("locks").push((e.outcome, e.len)));
    let (frame, offload) = gso(3000, 1448);
    send(&mut d, Instant::ZERO, &frame, offload);
    send(&mut d, Instant::ZERO, &frame, offload);
    use trace::Outcome::{Busy, Sent};
    assert_eq!(*seen.lock().expect("locks"), [(Sent, 3054), (Busy, 3054)]);
    assert_eq!(d.counts(), trace::TraceCounts { sent: (1, 3054), busy: 1, ..Default::default() });
}
