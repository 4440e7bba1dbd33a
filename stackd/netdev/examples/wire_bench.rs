//! What a virtual wire carries between two processes: `cargo run --release -p stackd-netdev --example wire_bench`.
//!
//! One process sends frames of one size as fast as the wire takes them, the other receives. Both poll, as busy shards do.

use stackd_base::Instant;
use stackd_netdev::{Device, Gso, IoVec, Offload, RX_BUFFER_LEN, TxFrame, TxResult, Wire};
use std::path::{Path, PathBuf};
use std::process::Command;

const ETH_IP_TCP: usize = 66;

fn frame(len: usize) -> (Vec<u8>, Offload) {
    let mut f = vec![0x5a; len];
    f[12..14].copy_from_slice(&[8, 0]);
    f[14] = 0x45;
    f[46] = 8 << 4;
    let gso = len > 1514;
    let kind = if gso { Gso::TcpV4 } else { Gso::None };
    let (gso_size, hdr_len) = if gso { (1448, ETH_IP_TCP as u16) } else { (0, 0) };
    (f, Offload { csum: Some((34, 16)), gso_size, gso: kind, hdr_len, ..Offload::default() })
}

fn send_all(path: &Path, len: usize, count: u64, batch: usize) {
    let mut wire = Wire::connect(path, 1500);
    let (bytes, offload) = frame(len);
    // Two pieces, as a stack sends: headers, and a range of a send buffer.
    let (head, data) = bytes.split_at(ETH_IP_TCP.min(len));
    let pieces = [IoVec { base: head.as_ptr(), len: head.len() }, IoVec { base: data.as_ptr(), len: data.len() }];
    let mut left = count as usize;
    while left > 0 {
        let frames: Vec<_> = (0..batch.min(left)).map(|_| TxFrame { pieces: &pieces, offload }).collect();
        // SAFETY: the pieces are parts of `bytes`.
        let done = unsafe { wire.transmit_batch(Instant::ZERO, &frames) };
        left -= done.sent;
        match done.stopped {
            None | Some(TxResult::Sent) => {}
            Some(TxResult::Busy) => std::thread::yield_now(),
            Some(TxResult::Refused(e)) => panic!("{e}"),
        }
    }
}

#[allow(clippy::disallowed_methods)] // A benchmark measures real time.
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, path, len, count, batch] = &args[..] {
        let number = |s: &String| s.parse::<u64>().expect("a number");
        return send_all(Path::new(path), number(len) as usize, number(count), number(batch) as usize);
    }
    let me: PathBuf = std::env::current_exe().expect("knows itself");
    for (len, count) in [(66, 2_000_000u64), (1514, 2_000_000), (16_066, 400_000), (65_226, 200_000)] {
        for batch in [1, 16] {
            let path = std::env::temp_dir().join(format!("stackd-wire-bench-{}-{len}-{batch}", std::process::id()));
            let mut wire = Wire::listen(&path, 1500).expect("listens");
            let mut sender = Command::new(&me)
                .arg(&path)
                .args([len.to_string(), count.to_string(), batch.to_string()])
                .spawn()
                .expect("starts");
            let mut buf = vec![0; RX_BUFFER_LEN];
            let (mut got, mut start) = (0u64, std::time::Instant::now());
            while got < count {
                match wire.receive(Instant::ZERO, &mut buf).expect("reads") {
                    Some(meta) => {
                        assert_eq!(meta.len, len);
                        if got == 0 {
                            start = std::time::Instant::now();
                        }
                        got += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
            let secs = start.elapsed().as_secs_f64();
            let (mpps, gbps) = (count as f64 / secs / 1e6, count as f64 * len as f64 * 8.0 / secs / 1e9);
            println!("{len:>6} B, {batch:>2} a call: {mpps:6.3} M frames/s  {gbps:6.1} Gbit/s");
            assert!(sender.wait().expect("waits").success());
        }
    }
}
