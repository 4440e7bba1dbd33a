use super::*;
use stackd_base::{Rng, SplitMix64};

/// A TCP/IPv4 GSO frame of `n` payload bytes in segments of `size`.
fn gso(n: usize, size: u16) -> (Vec<u8>, Offload) {
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

fn send(device: &mut dyn Device, now: Instant, bytes: &[u8], offload: Offload) -> TxResult {
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
    assert_eq!((meta.offload, &buf[..meta.len]), (offload, &frame[..]));
    drop(b);
    assert!(a.receive(now, &mut buf).expect("peer gone").is_none() && !a.link_up());
    let mut b = Wire::connect(&path, 1500);
    a.receive(now, &mut buf).expect("accepts again");
    assert!(matches!(send(&mut a, now, &frame, offload), TxResult::Sent));
    assert!(b.receive(now, &mut buf).expect("reads").is_some());
    assert!(Wire::listen(&path, 1500).is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse));
}

#[test]
fn an_emulated_path_delays_and_loses_segments_of_gso_frames() {
    let path = std::env::temp_dir().join(format!("stackd-emu-{}", std::process::id()));
    let mut a = Wire::listen(&path, 1500).expect("listens");
    let config = "netem delay 10ms loss 20% limit 10000".parse().expect("valid");
    let mut b = Emulator::new(Wire::connect(&path, 1500), &config, 1).expect("valid");
    let (mut buf, mut got) = (vec![0; RX_BUFFER_LEN], 0);
    let (frame, offload) = gso(14_480, 1448);
    for _ in 0..100 {
        send(&mut b, Instant::ZERO, &frame, offload);
    }
    let due = b.next_deadline().expect("frames under way");
    assert_eq!(due.as_millis(), 10);
    assert!(a.receive(Instant::ZERO, &mut buf).expect("reads").is_none());
    while b.stats().qlen > 0 || b.held() {
        b.receive(due, &mut buf).expect("flushes");
        while a.receive(due, &mut buf).expect("reads").is_some() {
            got += 1;
        }
    }
    assert_eq!(got + b.stats().drops, 1000);
    assert!((130..270).contains(&b.stats().drops));
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
