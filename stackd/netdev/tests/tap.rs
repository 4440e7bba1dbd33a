//! TAP against the kernel, in a network namespace of its own. Where none can be made, it says why and passes.

use stackd_base::Instant;
use stackd_netdev::{Device, Gso, IoVec, Offload, RX_BUFFER_LEN, SoftOffload, Tap, TapConfig, TxFrame, TxResult, host};
use stackd_wire::Sum;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

/// Runs `test` in a new network namespace on a thread of its own. An ordinary user's test process cannot make one (it has threads): it runs the one test
/// again in a user namespace.
fn in_new_netns(test: impl FnOnce() + Send + 'static) {
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        return in_user_namespace();
    }
    let thread = std::thread::Builder::new().spawn(move || {
        // SAFETY: takes a number; affects this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return eprintln!("SKIPPED: no network namespace: {}", std::io::Error::last_os_error());
        }
        // On some machines the device is root's alone.
        if let Err(e) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
            return eprintln!("SKIPPED: /dev/net/tun: {e}");
        }
        test();
    });
    thread.expect("a thread").join().expect("the test in the namespace");
}

fn in_user_namespace() {
    match Command::new("unshare").args(["-Urn", "true"]).output() {
        Ok(out) if out.status.success() => {}
        Ok(out) => return eprintln!("SKIPPED: no user namespace: {}", String::from_utf8_lossy(&out.stderr).trim()),
        Err(e) => return eprintln!("SKIPPED: unshare: {e}"),
    }
    let name = std::thread::current().name().expect("tests run on threads named after them").to_owned();
    let me = std::env::current_exe().expect("knows itself");
    let out = Command::new("unshare").arg("-Urn").arg(me).args(["--exact", &name, "--nocapture"]).output();
    let out = out.expect("ran a moment ago");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    eprintln!("{text}");
    assert!(out.status.success() && text.contains("1 passed"), "in the user namespace: {text}");
}

fn config(queues: u16) -> TapConfig {
    TapConfig { name: "st0".to_owned(), queues, mtu: 1500, netns: None }
}

fn wait(tap: &impl Device) {
    let mut p = libc::pollfd { fd: tap.as_fd().expect("has one").as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, exclusively borrowed.
    assert_eq!(unsafe { libc::poll(&mut p, 1, 5000) }, 1, "nothing from the kernel in 5 s");
}

#[test]
fn the_kernel_answers_an_arp_request() {
    in_new_netns(|| {
        let mut tap = Tap::open(&config(1)).expect("opens").remove(0);
        assert_eq!(tap.name(), "st0");
        host::link_up("st0").expect("up");
        host::addr_add("st0", [10, 99, 0, 1].into(), 24).expect("address");
        let mut arp = vec![0xff; 6];
        arp.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 99, 0, 2]);
        arp.extend([0, 0, 0, 0, 0, 0, 10, 99, 0, 1]);
        let pieces = [IoVec { base: arp.as_ptr(), len: 14 }, IoVec { base: arp[14..].as_ptr(), len: arp.len() - 14 }];
        let frame = TxFrame { pieces: &pieces, offload: Default::default() };
        // SAFETY: the pieces are parts of `arp`.
        assert!(matches!(unsafe { tap.transmit(Instant::ZERO, &frame) }, TxResult::Sent));
        let mut buf = vec![0; RX_BUFFER_LEN];
        loop {
            wait(&tap);
            let Some(meta) = tap.receive(Instant::ZERO, &mut buf).expect("reads") else { continue };
            let f = meta.frame(&buf).expect("whole");
            // Whatever else the kernel says on a new link (IPv6 router solicitations) is passed over.
            if f[12..14] == [8, 6] && f[20..22] == [0, 2] {
                assert_eq!((&f[..6], &f[28..32]), (&[2, 0, 0, 0, 0, 9][..], &[10, 99, 0, 1][..]));
                return;
            }
        }
    });
}

#[test]
fn two_queues_open_on_one_interface() {
    in_new_netns(|| match Tap::open(&config(2)) {
        Ok(queues) => {
            assert_eq!(queues.iter().map(|q| (q.name(), q.queue().0)).collect::<Vec<_>>(), [("st0", 0), ("st0", 1)])
        }
        Err(e) => eprintln!("SKIPPED: {e}"),
    });
}

const OURS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const KERNELS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

fn send(device: &mut impl Device, bytes: &[u8], offload: Offload) {
    let pieces = [IoVec { base: bytes.as_ptr(), len: bytes.len() }];
    // SAFETY: the piece is a live slice.
    let result = unsafe { device.transmit(Instant::ZERO, &TxFrame { pieces: &pieces, offload }) };
    assert!(matches!(result, TxResult::Sent), "{result:?}");
}

fn up() {
    host::link_up("st0").expect("up");
    host::addr_add("st0", KERNELS.into(), 24).expect("address");
}

/// The kernel's Ethernet address, learnt from its answer or question; its questions for ours are answered.
fn arp(device: &mut impl Device, f: &[u8]) -> Option<[u8; 6]> {
    if f[12..14] != [8, 6] || f[21] != 1 || f[38..42] != OURS.octets() {
        return None;
    }
    let mut reply = [&f[6..12], &MAC[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
    reply.extend_from_slice(&[&MAC[..], &OURS.octets(), &f[22..32]].concat());
    send(device, &reply, Offload::default());
    f[6..12].try_into().ok()
}

/// An IPv4 frame to the kernel with an open checksum.
fn frame(protocol: u8, transport: &[u8], field: u16) -> (Vec<u8>, Offload) {
    let len = (20 + transport.len()) as u16;
    // To everybody: the kernel's address need not be known.
    let mut f =
        [&[0xff; 6][..], &MAC, &[8, 0, 0x45, 0], &len.to_be_bytes(), &[0, 1, 0x40, 0, 64, protocol, 0, 0]].concat();
    f.extend_from_slice(&[OURS.octets(), KERNELS.octets()].concat());
    let sum = Sum::of(&f[14..34]).finish();
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f.extend_from_slice(transport);
    let pseudo = Sum::pseudo_v4(OURS, KERNELS, protocol, transport.len() as u32).partial();
    let at = 34 + usize::from(field);
    f[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    (f, Offload { csum: Some((34, field)), ..Offload::default() })
}

fn tcp(kernel: [u8; 6], seq: u32, ack: u32, flags: u8, data: &[u8]) -> (Vec<u8>, Offload) {
    let mut t = [&4000u16.to_be_bytes()[..], &80u16.to_be_bytes(), &seq.to_be_bytes(), &ack.to_be_bytes()].concat();
    let mss: &[u8] = if flags & SYN != 0 { &[2, 4, 5, 0xb4] } else { &[] };
    t.extend_from_slice(&[(5 + mss.len() as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    t.extend_from_slice(&[mss, data].concat());
    let (mut f, mut offload) = frame(6, &t, 16);
    f[..6].copy_from_slice(&kernel);
    if data.len() > 1460 {
        offload = Offload { gso_size: 1460, gso: Gso::TcpV4, hdr_len: 54, ..offload };
    }
    (f, offload)
}

/// The next TCP frame from the kernel: its bytes and state.
fn next_tcp(device: &mut impl Device, kernel: &mut [u8; 6]) -> (Vec<u8>, Offload) {
    let mut buf = vec![0; RX_BUFFER_LEN];
    loop {
        let Some(meta) = device.receive(Instant::ZERO, &mut buf).expect("reads") else {
            wait(device);
            continue;
        };
        let f = meta.frame(&buf).expect("whole");
        if let Some(mac) = arp(device, f) {
            *kernel = mac;
        } else if f[12..14] == [8, 0] && f[23] == 6 {
            return (f.to_vec(), meta.offload);
        }
    }
}

fn word(f: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([f[at], f[at + 1], f[at + 2], f[at + 3]])
}

/// A TCP connection with the kernel, made by hand: 30 kB each way. Returns the largest frame that came.
fn exchange_tcp(device: &mut impl Device) -> usize {
    let listener = TcpListener::bind((KERNELS, 80)).expect("listens");
    let data: Vec<u8> = (0..30_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let mut kernel = [0xff; 6];
    // A broadcast SYN would be ignored: whose question for our address is answered is the kernel.
    let probe = UdpSocket::bind((KERNELS, 0)).expect("binds");
    probe.send_to(b"?", (OURS, 9)).expect("asks");
    let mut buf = vec![0; RX_BUFFER_LEN];
    while kernel == [0xff; 6] {
        match device.receive(Instant::ZERO, &mut buf).expect("reads") {
            Some(meta) => kernel = arp(device, meta.frame(&buf).expect("whole")).unwrap_or(kernel),
            None => wait(device),
        }
    }
    let (syn, o) = tcp(kernel, 1000, 0, SYN, &[]);
    send(device, &syn, o);
    let (synack, _) = next_tcp(device, &mut kernel);
    assert_eq!(synack[47], SYN | ACK);
    let theirs = word(&synack, 38).wrapping_add(1);
    let (segment, o) = tcp(kernel, 1001, theirs, ACK | PSH, &data);
    send(device, &segment, o);
    let (mut stream, _) = listener.accept().expect("accepts");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
    let mut got = vec![0; data.len()];
    stream.read_exact(&mut got).expect("all that was sent");
    assert!(got == data, "the kernel read something else");
    stream.write_all(&data).expect("fits the send buffer");
    let (mut at, mut largest) = (0usize, 0);
    while at < data.len() {
        let (f, o) = next_tcp(device, &mut kernel);
        let head = 34 + usize::from(f[46] >> 4) * 4;
        let end = 14 + usize::from(u16::from_be_bytes([f[16], f[17]]));
        if end == head {
            continue;
        }
        assert_eq!((word(&f, 38), &f[head..end]), (theirs.wrapping_add(at as u32), &data[at..at + end - head]));
        if o.csum.is_none() {
            let pseudo = Sum::pseudo_v4(KERNELS, OURS, 6, (end - 34) as u32);
            assert!(pseudo.and(Sum::of(&f[34..end])).is_valid(), "neither asked for a checksum nor wrote one");
        }
        assert_eq!(o.gso_size > 0, end - head > 1460, "{o:?}");
        at += end - head;
        largest = largest.max(end);
        let (ack, o) = tcp(kernel, 31_001, theirs.wrapping_add(at as u32), ACK, &[]);
        send(device, &ack, o);
    }
    largest
}

#[test]
fn gso_frames_cross_whole_both_ways() {
    in_new_netns(|| {
        let mut tap = Tap::open(&config(1)).expect("opens").remove(0);
        up();
        assert!(exchange_tcp(&mut tap) > 1514, "the kernel sent single segments although offload was asked for");
        assert_eq!(tap.stats().rx_invalid, 0);
    });
}

#[test]
fn without_offload_the_kernel_sends_finished_segments_and_ours_are_finished_in_software() {
    in_new_netns(|| {
        let tap = Tap::open_plain(&config(1)).expect("opens").remove(0);
        assert!(!tap.caps().tx_csum && tap.caps().tso_max == 0);
        up();
        let mut soft = SoftOffload::new(tap);
        assert!(exchange_tcp(&mut soft) <= 1514);
    });
}

#[test]
fn the_kernel_cuts_udp_frames() {
    in_new_netns(|| {
        let mut tap = Tap::open(&config(1)).expect("opens").remove(0);
        if !tap.caps().uso {
            return eprintln!("SKIPPED: this kernel has no USO on TAP (Linux 6.2 has)");
        }
        up();
        let socket = UdpSocket::bind((KERNELS, 7)).expect("binds");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
        let data: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
        let mut t = [&9u16.to_be_bytes()[..], &7u16.to_be_bytes(), &5008u16.to_be_bytes(), &[0, 0]].concat();
        t.extend_from_slice(&data);
        let (f, offload) = frame(17, &t, 6);
        let mut f = f;
        let mut mac = None;
        let probe = UdpSocket::bind((KERNELS, 0)).expect("binds");
        probe.send_to(b"?", (OURS, 9)).expect("asks");
        let mut buf = vec![0; RX_BUFFER_LEN];
        while mac.is_none() {
            match tap.receive(Instant::ZERO, &mut buf).expect("reads") {
                Some(meta) => mac = arp(&mut tap, meta.frame(&buf).expect("whole")),
                None => wait(&tap),
            }
        }
        f[..6].copy_from_slice(&mac.expect("learnt"));
        send(&mut tap, &f, Offload { gso_size: 1400, gso: Gso::UdpL4, hdr_len: 42, ..offload });
        for part in data.chunks(1400) {
            let n = socket.recv(&mut buf).expect("a datagram");
            assert_eq!(&buf[..n], part);
        }
    });
}

#[test]
fn a_tap_opens_in_the_namespace_of_a_path() {
    in_new_netns(|| {
        let index = |name: &std::ffi::CStr| {
            // SAFETY: a string that ends in NUL.
            unsafe { libc::if_nametoindex(name.as_ptr()) }
        };
        // SAFETY: takes nothing.
        let path = format!("/proc/self/task/{}/ns/net", unsafe { libc::gettid() });
        let here = std::fs::File::open(&path).expect("opens");
        // SAFETY: takes a number; affects this thread alone.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        let there = format!("/proc/self/fd/{}", here.as_raw_fd()).into();
        let taps = Tap::open(&TapConfig { netns: Some(there), ..config(1) }).expect("opens");
        assert_eq!((taps[0].name(), index(c"st0")), ("st0", 0), "it must not be here");
        // SAFETY: `here` is a descriptor of a network namespace.
        assert_eq!(unsafe { libc::setns(here.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
        assert_ne!(index(c"st0"), 0, "it must be there");
        let missing = Tap::open(&TapConfig { netns: Some("/nowhere".into()), ..config(1) });
        assert!(missing.is_err_and(|e| e.to_string().contains("/nowhere")));
    });
}
