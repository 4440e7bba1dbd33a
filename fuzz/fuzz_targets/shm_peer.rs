//! A client that writes anything anywhere it can: the daemon's half returns calls or breaches.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stackd_shm::abi::{Arg, Cqe};
use stackd_shm::fifo::{RawSlice, RecvBuffer, SendBuffer, TxWriter};
use stackd_shm::ring::RingMem;
use stackd_shm::{Breach, DaemonSession, Geometry};
use std::sync::atomic::Ordering::Relaxed;

const GEOMETRY: Geometry = Geometry { rings: 1, ring_entries: 4, sockets: 2, chunks: 4 };

fn run(data: &[u8]) -> Result<(), Breach> {
    let Ok(session) = DaemonSession::create(GEOMETRY, 4, 2) else { return Ok(()) };
    let Ok(Some(mut ring)) = session.open_ring() else { return Ok(()) };
    let Some(mut socket) = session.open_socket() else { return Ok(()) };
    let region = session.region().clone();
    let (Some(pair), Some(control)) = (region.ring_pair(0), region.control(socket.sock)) else { return Ok(()) };
    let sq = pair.submission();
    let mut client = TxWriter::new(region.clone(), socket.sock)?;
    socket.tx.grant(70_000);
    socket.rx.place(0, RawSlice::from(&[1; 1000][..]));
    socket.rx.publish(1000);
    let mut arg = Arg::new();
    for step in data.chunks_exact(10) {
        let (what, at) = (step[0], usize::from(step[1]));
        let value = u64::from_ne_bytes([step[2], step[3], step[4], step[5], step[6], step[7], step[8], step[9]]);
        match what % 11 {
            0 => sq.slots()[at % 4][at / 4 % 8].store(value, Relaxed),
            1 => sq.tail().store(value as u32, Relaxed),
            2 => control.tx_head.store(value, Relaxed),
            3 => control.rx_tail.store(value, Relaxed),
            4 => drop(client.write(&step[2..])?),
            5 => {
                ring.pop(&mut arg)?;
            }
            6 => {
                let head = socket.tx.poll_head()?;
                socket.tx.datagram_at(u64::from(step[1]) * 64)?;
                socket.tx.release(head.min(value));
            }
            7 => {
                socket.rx.poll_tail()?;
            }
            8 => {
                ring.complete(Cqe { user_data: value, ..Cqe::default() }, &arg)?;
                ring.flush()?;
            }
            9 => {
                pair.completion().head().store(value as u32, Relaxed);
                pair.client_asleep().store(1, Relaxed);
            }
            _ => {
                let tail = socket.rx.poll_tail()?;
                if socket.rx.place(socket.rx.head() + value % 200_000, RawSlice::from(&step[2..])) {
                    socket.rx.publish(tail + value % 1000);
                }
                socket.tx.grant(value % 300_000);
                assert!(session.pool().in_use() <= 4);
            }
        }
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data);
});
