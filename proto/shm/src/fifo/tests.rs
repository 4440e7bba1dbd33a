use super::*;
use crate::sync::Ordering;
use crate::{DaemonSession, DaemonSocket, Geometry};

const SMALL: Geometry = Geometry { rings: 1, ring_entries: 4, sockets: 4, chunks: 8 };

fn open() -> (DaemonSession, DaemonSocket, TxWriter, RxReader) {
    let session = DaemonSession::create(SMALL, 6, 4).unwrap();
    let socket = session.open_socket().unwrap();
    let tx = TxWriter::new(session.region().clone(), socket.sock).unwrap();
    let rx = RxReader::new(session.region().clone(), socket.sock).unwrap();
    (session, socket, tx, rx)
}

fn pattern(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect()
}

#[test]
fn sent_bytes_are_read_where_they_lie_until_released() {
    let (session, mut d, mut tx, _) = open();
    assert_eq!(tx.write(b"early").unwrap().0, 0, "nothing was granted yet");
    let mut at = 0;
    for _ in 0..20 {
        assert_eq!(d.tx.grant(at + 150_000), at + 150_000);
        let data = pattern(at, 200_000);
        let (n, _) = tx.write(&data).unwrap();
        assert_eq!(n, 150_000, "as much as was granted");
        d.tx.poll_head().unwrap();
        let mut out = Vec::new();
        // Twice: a retransmission reads the same bytes.
        assert!(d.tx.copy_out(at + 1..at + 150_000, &mut out) && d.tx.copy_out(at + 1..at + 150_000, &mut out));
        assert!(out[..149_999] == data[1..150_000] && out[149_999..] == data[1..150_000]);
        at += 150_000;
        d.tx.release(at);
        assert!(!d.tx.copy_out(at - 10..at, &mut out), "released");
    }
    assert!(d.tx.memory() <= 65536 && session.pool().in_use() <= 1);
}

#[test]
fn segments_land_out_of_order_and_chunks_come_back() {
    let (session, mut d, _, mut rx) = open();
    let mut at = 0u64;
    for _ in 0..20 {
        let data = pattern(at, 140_000);
        assert!(d.rx.place(at + 70_000, RawSlice::from(&data[70_000..])));
        assert_eq!(rx.available(), 0);
        assert!(d.rx.place(at, RawSlice::from(&data[..70_000])));
        at += 140_000;
        d.rx.publish(at);
        let mut out = vec![0; 200_000];
        let (n, _) = rx.read(&mut out).unwrap();
        assert!(out[..n] == data[..]);
        assert_eq!(d.rx.poll_tail().unwrap(), at);
    }
    drop(d);
    assert_eq!(session.pool().in_use(), 0);
}

#[test]
fn a_quota_stops_grants_and_placement_and_trimming_gives_pages_back() {
    let (session, mut d, _, _) = open();
    assert_eq!(d.tx.grant(10 << 20), 6 << CHUNK, "six chunks are all there is");
    assert!(!d.rx.place(0, RawSlice::from(&b"x"[..])));
    drop(d);
    assert_eq!(session.pool().trim(2, 100).unwrap(), 4);
    assert_eq!(session.pool().trim(2, 100).unwrap(), 0, "each once");
    let mut again = session.open_socket().unwrap();
    assert_eq!(again.tx.grant(10 << 20), 6 << CHUNK);
}
const CHUNK: u32 = crate::abi::CHUNK_SHIFT;

#[test]
fn a_place_that_was_published_is_never_overwritten() {
    let (_s, mut d, _, _) = open();
    assert!(d.rx.place(0, RawSlice::from(&b"abcd"[..])));
    d.rx.publish(4);
    assert!(!d.rx.place(2, RawSlice::from(&b"XX"[..])));
    assert!(!d.rx.place(u64::MAX, RawSlice::from(&b"XX"[..])));
    assert!(!d.rx.place(1 << 40, RawSlice::from(&b"XX"[..])));
}

#[test]
fn a_wake_wish_is_met_by_a_kick_or_at_once() {
    let (_s, mut d, _, mut rx) = open();
    assert!(d.rx.place(0, RawSlice::from(&[7; 100][..])));
    d.rx.publish(100);
    assert!(!rx.consume(10), "no wish, no kick");
    assert!(!d.rx.set_wake(Some(50)));
    assert!(!rx.consume(39));
    assert!(rx.consume(1), "reached");
    assert!(!rx.consume(1), "already kicked");
    d.tx.take_kick();
    assert!(rx.consume(1));
    assert!(d.rx.set_wake(Some(52)), "it passed already");
}

/// ss showed bytes as unread that the client had long read: a client tells of its reading only when it is asked for more window.
#[test]
fn what_was_read_without_a_word_is_known_to_whoever_looks() {
    let (session, DaemonSocket { mut rx, sock, .. }, _, mut reader) = open();
    assert!(rx.place(0, RawSlice::from(&[7; 100][..])));
    rx.publish(100);
    assert!(!reader.consume(60), "nobody wished for a report");
    assert_eq!((rx.unread(), rx.tail()), (40, 0), "seen, and nothing changed by looking");
    let control = session.region().control(sock).expect("its words");
    for lie in [u64::MAX, 101] {
        control.rx_tail.store(lie, Ordering::Release);
        assert_eq!(rx.unread(), 0, "a lie is bent to what is possible");
    }
}

#[test]
fn the_heap_fifo_is_the_same_fifo() {
    let mut tx = HeapFifo::new(200_000);
    let mut rx = HeapFifo::new(200_000);
    let mut at = 0u64;
    for _ in 0..10 {
        assert_eq!(tx.grant(at + 180_000), at + 180_000);
        let data = pattern(at, 180_000);
        assert_eq!(tx.write(&data), 180_000);
        let mut to = at;
        tx.for_each(at..at + 180_000, &mut |piece| {
            assert!(rx.place(to, piece));
            to += piece.len() as u64;
        });
        rx.publish(to);
        tx.release(to);
        let mut out = vec![0; 180_000];
        assert_eq!(rx.read(&mut out).0, 180_000);
        assert!(out == data);
        at = to;
    }
    let from = "[2001:db8::1]:53".parse().unwrap();
    let mut dgram = HeapFifo::new(100_000);
    assert!(dgram.push_datagram(from, &[], RawSlice::from(&b"abc"[..]), 1000));
    let record = |data: &[u8], full, control: &[u8]| HeapRecord {
        data: data.to_vec(),
        full,
        control: control.to_vec(),
        from: Some(from),
    };
    assert_eq!(dgram.read_datagram(2, true).unwrap(), record(b"ab", 3, &[]));
    assert_eq!(dgram.read_datagram(9, false).unwrap(), record(b"abc", 3, &[]));
    assert!(dgram.read_datagram(9, false).is_none());
    assert!(dgram.push_datagram(from, &[7; 20], RawSlice::from(&[1; 100][..]), 1000));
    assert_eq!(dgram.read_datagram(100, false).unwrap(), record(&[1; 100], 100, &[7; 20]));
}

/// Control messages go both ways beside the data, whatever the lengths of either.
#[test]
fn control_messages_travel_with_their_datagram() {
    let (_session, mut d, mut tx, mut rx) = open();
    let addr: std::net::SocketAddr = "192.0.2.1:7".parse().unwrap();
    d.tx.grant(200_000);
    for (control, len) in [(0, 0), (0, 32), (1, 0), (20, 5), (24, 9), (1024, 1400)] {
        let (control, data) = (pattern(1, control), pattern(2, len));
        assert!(tx.send_message(Some(addr), &control, &data).unwrap().is_some());
        d.tx.poll_head().unwrap();
        let got = d.tx.datagram_at(d.tx.released()).unwrap().unwrap();
        let mut out = (Vec::new(), Vec::new());
        assert!(d.tx.copy_out(got.control.clone(), &mut out.0) && d.tx.copy_out(got.data.clone(), &mut out.1));
        assert_eq!((out.0, out.1, got.to), (control.clone(), data.clone(), Some(addr)));
        d.tx.release(got.end);
        assert!(d.rx.push_datagram(addr, &control, RawSlice::from(&data[..]), 100_000));
        let (mut out, mut into) = (vec![0; 2000], vec![9; 3]);
        let (received, _) = rx.recv_message(&mut out, &mut into, false).unwrap().unwrap();
        assert_eq!((&out[..received.len], into, received.from), (&data[..], control, addr));
    }
    assert_eq!(rx.available(), 0);
}
