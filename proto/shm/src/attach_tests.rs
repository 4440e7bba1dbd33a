use super::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

const GEOMETRY: Geometry = Geometry { rings: 3, ring_entries: 8, sockets: 5, chunks: 7 };

fn samples() -> Vec<Message> {
    vec![
        Message::Hello { min_version: 1, max_version: 2, rings: 3, name: "curl".into() },
        Message::Welcome { version: 1, geometry: GEOMETRY, rings: 2 },
        Message::Refused { errno: 13, text: "not your daemon".into() },
        Message::OpenRing,
        Message::RingOpened { index: 9 },
    ]
}

#[test]
fn messages_survive_the_wire_and_no_prefix_of_one_panics() {
    for message in samples() {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Ok(message));
        for cut in 0..bytes.len() {
            // A shorter text is still a message; anything else says what is wrong.
            let _ = Message::decode(&bytes[..cut]);
        }
    }
    assert_eq!(Message::decode(&[1, 0, 0]), Err(Malformed::Length(3)));
    assert_eq!(Message::decode(&[9, 0, 0, 0]), Err(Malformed::Tag(9)));
    assert_eq!(Message::decode(b"\x01\0\0\0GET / HTTP/1.1"), Err(Malformed::Magic(u64::from_le_bytes(*b"GET / HT"))));
    assert_eq!(Message::decode(&[0; 600]), Err(Malformed::Length(600)));
}

#[test]
fn long_texts_are_cut_between_characters() {
    let long = Message::Hello { min_version: 1, max_version: 1, rings: 1, name: "fünfzehnzeichenöö".into() };
    let Ok(Message::Hello { name, .. }) = Message::decode(&long.encode()) else { panic!("not a hello") };
    assert_eq!(name, "fünfzehnzeichen");
    let refused = Message::Refused { errno: 1, text: "ß".repeat(1000) };
    let Ok(Message::Refused { text, .. }) = Message::decode(&refused.encode()) else { panic!("not a refusal") };
    assert!(refused.encode().len() <= MAX_MESSAGE && text.chars().all(|c| c == 'ß'));
}

#[test]
fn descriptors_cross_and_a_hangup_is_none() {
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (session, ring) = {
        let session = crate::DaemonSession::create(GEOMETRY, 7, 5).unwrap();
        let ring = session.open_ring().unwrap().unwrap();
        (session, ring)
    };
    let sent = Message::Welcome { version: 1, geometry: GEOMETRY, rings: 1 };
    send(&a, &sent, &[session.region().memfd(), session.doorbell(), ring.eventfd().as_fd()]).unwrap();
    let (message, mut fds) = recv(&b).unwrap().unwrap();
    assert_eq!((message, fds.len()), (sent, 3));
    crate::Region::open(fds.remove(0), GEOMETRY).unwrap();
    rustix::net::send(&a, &[7; 600], SendFlags::empty()).unwrap();
    assert_eq!(recv(&b).unwrap_err().kind(), io::ErrorKind::InvalidData);
    drop(a);
    assert!(recv(&b).unwrap().is_none());
    assert!(send(&b, &Message::OpenRing, &[]).is_err(), "an error, and no SIGPIPE");
}

#[test]
fn versions_meet_where_ranges_overlap() {
    assert_eq!(negotiate(1, 5), Some(ABI_VERSION));
    assert_eq!(negotiate(ABI_VERSION + 1, 9), None);
    assert_eq!(negotiate(3, 0), None);
}

/// Names and texts reach logs and terminals.
#[test]
fn escape_sequences_do_not_survive() {
    let hello = Message::Hello { min_version: 1, max_version: 1, rings: 1, name: "\x1b[2J\nroot".into() };
    let Ok(Message::Hello { name, .. }) = Message::decode(&hello.encode()) else { panic!("not a hello") };
    assert_eq!(name, "?[2J?root");
}

/// A client that asks for rings and never reads the answers: its session ends, nobody waits for it.
#[test]
fn a_peer_that_never_reads_is_would_block() {
    let (a, _b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let answer = Message::RingOpened { index: 1 };
    let full = (0..100_000).find_map(|_| send(&a, &answer, &[]).err()).unwrap();
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
}

/// Descriptors that no message asked for, and more than fit, are closed and not kept.
#[test]
fn a_flood_of_descriptors_leaves_none_behind() {
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (probe, passed) = rustix::pipe::pipe().unwrap();
    let many = vec![passed.as_fd(); 100];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(100))];
    for bytes in [Message::OpenRing.encode(), vec![9; 600]] {
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&many)));
        rustix::net::sendmsg(&a, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::empty()).unwrap();
        assert!(recv(&b).is_err());
    }
    drop(many);
    drop(passed);
    // End of file: no write end is left anywhere.
    assert_eq!(rustix::io::read(&probe, &mut [0u8; 1]).unwrap(), 0);
}
