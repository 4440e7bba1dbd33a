//! Frames made by hand; two or more shards.

use super::claims::ClaimKind;
use super::*;
use crate::shard::HandedFrame;
use stackd_base::Instant;
use std::sync::Arc;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 0x10;
const SYN: u8 = 0x02;

fn ipv4(protocol: u8, sport: u16, dport: u16, flags: u8, fragment: u16, id: u16) -> Vec<u8> {
    let mut f = vec![0; 12];
    f.extend([0x08, 0x00, 0x45, 0, 0, 40]);
    f.extend(id.to_be_bytes());
    f.extend(fragment.to_be_bytes());
    f.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    f.extend(sport.to_be_bytes());
    f.extend(dport.to_be_bytes());
    f.extend([0; 8]);
    f.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    f
}

fn tcp(sport: u16, dport: u16, flags: u8) -> Vec<u8> {
    ipv4(TCP, sport, dport, flags, 0x4000, 0)
}

fn bound(port: u16, shares: bool) -> Claim {
    Claim { tcp: true, port, kind: ClaimKind::Bound { shares } }
}

fn shards(n: u8) -> (Arc<Steering>, Vec<Claims>) {
    let steering = Arc::new(Steering::new(n));
    let claims = (0..n).map(|i| Claims::new(steering.clone(), i)).collect();
    (steering, claims)
}

#[test]
fn a_flow_of_nobodys_port_has_the_same_owner_in_both_directions() {
    let (s, _) = shards(2);
    let mut seen = [false; 2];
    for port in 1000..1100 {
        let Owner::Shard(there) = s.owner(&tcp(port, 80, ACK)) else { panic!("one owner") };
        let mut back = tcp(80, port, ACK);
        back[26..34].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
        assert_eq!(s.owner(&back), Owner::Shard(there));
        seen[usize::from(there)] = true;
    }
    assert_eq!(seen, [true; 2], "both shards get flows");
}

#[test]
fn a_listener_gets_every_syn_and_other_segments_are_looked_for_at_the_hash_too() {
    let (s, mut claims) = shards(2);
    assert!(claims[1].claim(bound(80, false)));
    let (mut direct, mut searched) = (0, 0);
    for port in 1000..1050 {
        assert_eq!(s.owner(&tcp(port, 80, SYN)), Owner::Shard(1));
        match s.owner(&tcp(port, 80, ACK)) {
            Owner::Shard(1) => direct += 1,
            Owner::Search { candidates: 0b11, last: 1, .. } => searched += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(direct > 0 && searched > 0, "{direct} {searched}");
    claims[1].release(bound(80, false));
    assert!((1000..1050).any(|p| s.owner(&tcp(p, 80, SYN)) == Owner::Shard(0)));
}

#[test]
fn accepted_connections_are_found_after_their_listener_went_and_keep_nobody_from_binding() {
    let (s, mut claims) = shards(2);
    let accepted = Claim { kind: ClaimKind::Accepted, ..bound(80, false) };
    assert!(claims[1].claim(bound(80, false)) && claims[1].claim(accepted));
    claims[1].release(bound(80, false));
    assert!(claims[0].claim(bound(80, false)), "the server restarted, on another shard");
    for port in 1000..1050 {
        assert_eq!(s.owner(&tcp(port, 80, SYN)), Owner::Shard(0));
        let Owner::Search { candidates: 0b11, last: 0, .. } = s.owner(&tcp(port, 80, ACK)) else { panic!("a search") };
    }
}

#[test]
fn a_port_is_one_shards_unless_all_share_it() {
    let (s, mut claims) = shards(3);
    assert!(claims[0].claim(bound(80, false)));
    assert!(!claims[1].claim(bound(80, false)) && !claims[1].claim(bound(80, true)));
    claims[0].release(bound(80, false));
    assert!(claims[1].claim(bound(80, true)) && claims[2].claim(bound(80, true)));
    assert!(!claims[0].claim(bound(80, false)));
    assert_eq!(s.claimants(true, 80), (0b110, 0), "a refused claim leaves nothing");
    let mut seen = [0; 3];
    for port in 1000..1300 {
        let Owner::Shard(n) = s.owner(&tcp(port, 80, SYN)) else { panic!("one owner") };
        seen[usize::from(n)] += 1;
    }
    assert_eq!(seen[0], 0);
    assert!(seen[1] > 100 && seen[2] > 100, "{seen:?}: both listeners get their share");
}

#[test]
fn a_search_asks_every_candidate_once_and_ends_at_the_one_that_answers() {
    for here in 0..4u8 {
        let (mut at, mut left, mut asked) = (here, 0b1011u64, Vec::new());
        while let Some((next, rest)) = next_candidate(at, left, 1) {
            asked.push(next);
            (at, left) = (next, rest);
        }
        let wanted: Vec<u8> = [0, 3, 1].into_iter().filter(|n| *n != here || here == 1).collect();
        assert_eq!(asked, wanted, "from {here}");
    }
}

#[test]
fn what_has_no_ports_goes_to_one_or_to_all() {
    let (s, _) = shards(2);
    assert_eq!(s.owner(&[0; 10]), Owner::All);
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(s.owner(&arp), Owner::All);
    let mut ping = ipv4(1, 0x0800, 0, 0, 0, 0);
    assert_eq!(s.owner(&ping), Owner::Shard(0), "answered once");
    ping[34] = 3;
    assert_eq!(s.owner(&ping), Owner::All, "an error concerns whom it concerns");
    assert_eq!(s.owner(&ipv4(99, 0, 0, 0, 0, 0)), Owner::Shard(0), "refused once");
    let mut group = ipv4(UDP, 1, 2, 0, 0, 0);
    group[30] = 224;
    assert_eq!(s.owner(&group), Owner::All);
}

#[test]
fn ipv6_ports_stand_behind_extension_headers() {
    let (s, mut claims) = shards(2);
    assert!(claims[1].claim(Claim { tcp: false, ..bound(53, false) }));
    let mut f = vec![0; 12];
    f.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 60, 64]);
    f.extend([0xfd; 16]);
    f.extend([0xfd; 16]);
    f.extend([UDP, 0, 1, 4, 0, 0, 0, 0]);
    f.extend([0x30, 0x39, 0, 53, 0, 8, 0, 0]);
    assert_eq!(s.owner(&f), Owner::Shard(1));
    f.truncate(f.len() - 6);
    assert_eq!(s.owner(&f), Owner::Shard(0), "cut off: counted by one shard");
}

fn held(bytes: &[u8]) -> HandedFrame {
    let meta = stackd_netdev::RxMeta {
        at: Instant::ZERO,
        offload: stackd_netdev::Offload::default(),
        start: 0,
        len: bytes.len(),
    };
    HandedFrame { bytes: bytes.to_vec(), meta, search: None }
}

#[test]
fn fragments_follow_their_first_and_wait_for_it() {
    let (s, mut claims) = shards(2);
    assert!(claims[1].claim(Claim { tcp: false, ..bound(53, false) }));
    let mut fragments = Fragments::default();
    let first = ipv4(UDP, 9, 53, 0, 0x2000, 7);
    let second = ipv4(UDP, 0xffff, 0xffff, 0, 0x2005, 7);
    let stranger = ipv4(UDP, 0xffff, 0xffff, 0, 0x0005, 8);
    assert_eq!(s.owner(&first), Owner::Fragment);
    assert!(matches!(fragments.judge(&s, &second, || held(&second)), Verdict::Kept(false)));
    assert!(matches!(fragments.judge(&s, &stranger, || held(&stranger)), Verdict::Kept(false)));
    let Verdict::Owned(1, waited) = fragments.judge(&s, &first, || held(&first)) else {
        panic!("port 53 is shard 1's")
    };
    assert_eq!(waited.len(), 1);
    assert_eq!(waited[0].bytes, second);
    assert!(matches!(fragments.judge(&s, &second, || held(&second)), Verdict::Owned(1, w) if w.is_empty()));
    // One place is taken by the stranger.
    let full = (0..100u16).map(|id| ipv4(UDP, 0, 0, 0, 1, 1000 + id));
    let lost = full.filter(|f| matches!(fragments.judge(&s, f, || held(f)), Verdict::Kept(true))).count();
    assert_eq!(lost, 100 - 63);
}
