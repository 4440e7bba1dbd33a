//! Captures: frames copied out to whoever watches, without ever holding up the data path.

use crate::clock::wall_nanos;
use crate::control::backend::CapturedFrame;
use bytes::Bytes;
use stackd_base::PortId;
use stackd_netdev::IoVec;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

#[derive(Debug)]
struct Capture {
    /// Empty: all.
    ports: Vec<PortId>,
    snap_len: usize,
    sink: Sender<CapturedFrame>,
    missed: u64,
}

/// The captures in progress.
#[derive(Debug, Default)]
pub struct Captures(Vec<Capture>);

impl Captures {
    /// Starts one.
    pub fn start(&mut self, ports: Vec<PortId>, snap_len: usize, sink: Sender<CapturedFrame>) {
        self.0.push(Capture { ports, snap_len, sink, missed: 0 });
    }

    /// True when nobody watches: the usual case, and the only cost of captures then.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Shows a frame made of `pieces`.
    pub fn show(&mut self, port: PortId, outbound: bool, pieces: &[IoVec]) {
        if self.0.is_empty() {
            return;
        }
        let original: usize = pieces.iter().map(|p| p.len).sum();
        let unix_ns = wall_nanos();
        self.0.retain_mut(|capture| {
            if !capture.ports.is_empty() && !capture.ports.contains(&port) {
                return !capture.sink.is_closed();
            }
            let permit = match capture.sink.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Full(())) => {
                    capture.missed += 1;
                    return true;
                }
                Err(TrySendError::Closed(())) => return false,
            };
            permit.send(CapturedFrame {
                interface: port.0,
                unix_ns,
                original_len: original as u32,
                data: gather(pieces, capture.snap_len),
                outbound,
                missed: std::mem::take(&mut capture.missed),
            });
            true
        });
    }
}

/// The first `max` bytes of the pieces.
fn gather(pieces: &[IoVec], max: usize) -> Bytes {
    let mut out = Vec::with_capacity(pieces.iter().map(|p| p.len).sum::<usize>().min(max));
    for piece in pieces {
        let n = piece.len.min(max - out.len());
        let at = out.len();
        out.resize(at + n, 0);
        // SAFETY: callers pass pieces that are readable for their length while the call lasts (headers on the stack, chunks of a
        // FIFO that the store holds); `out` is ours and has room for `n` more bytes. The bytes may change meanwhile; then the
        // capture shows one state or the other.
        unsafe { std::ptr::copy_nonoverlapping(piece.base, out.as_mut_ptr().add(at), n) };
        if out.len() == max {
            break;
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: &[u8]) -> IoVec {
        IoVec { base: bytes.as_ptr(), len: bytes.len() }
    }

    #[test]
    fn a_slow_watcher_misses_frames_and_is_told_how_many() {
        let (sink, mut frames) = tokio::sync::mpsc::channel(1);
        let mut captures = Captures::default();
        captures.start(vec![PortId(2)], 3, sink);
        let (a, b) = (b"he", b"llo");
        captures.show(PortId(1), true, &[piece(a)]);
        for _ in 0..3 {
            captures.show(PortId(2), true, &[piece(a), piece(b)]);
        }
        let first = frames.try_recv().expect("one fits");
        assert_eq!((&first.data[..], first.original_len, first.missed), (&b"hel"[..], 5, 0));
        captures.show(PortId(2), false, &[piece(b)]);
        assert_eq!(frames.try_recv().expect("room again").missed, 2);
        drop(frames);
        captures.show(PortId(2), false, &[piece(b)]);
        assert!(captures.is_empty(), "a capture nobody reads ends");
    }
}
