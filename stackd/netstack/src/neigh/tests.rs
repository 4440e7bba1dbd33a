use super::*;
use std::net::Ipv4Addr;

const KEY: NeighKey = (PortId(1), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);

fn heard(mac: MacAddr, solicited: bool, replace: bool) -> Observation {
    Observation { mac: Some(mac), solicited, replace, router: None, create: true }
}
fn state(t: &NeighTable) -> NudState {
    t.get(KEY).expect("entry").state
}
fn secs(n: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(n)
}

#[test]
fn reachable_goes_stale_is_delayed_probed_and_fails() {
    let (mut t, cfg) = (NeighTable::default(), NeighConfig::default());
    assert_eq!(t.resolve(secs(0), &cfg, KEY), Resolution::Wait { solicit: true });
    assert_eq!(t.resolve(secs(0), &cfg, KEY), Resolution::Wait { solicit: false });
    t.observe(secs(0), &cfg, KEY, heard(MAC, true, true));
    assert_eq!((state(&t), t.next_deadline()), (NudState::Reachable, None));
    assert_eq!(t.resolve(secs(30), &cfg, KEY), Resolution::Ready(MAC));
    assert_eq!(state(&t), NudState::Reachable);
    assert_eq!(t.resolve(secs(31), &cfg, KEY), Resolution::Ready(MAC));
    assert_eq!((state(&t), t.next_deadline()), (NudState::Delay, Some(secs(36))));
    for i in 0..3 {
        let a = t.poll_timer(secs(36 + i), &cfg);
        assert!(matches!(a, Some(NeighAction::Solicit { unicast: Some(MAC), .. })), "{a:?}");
        assert_eq!(state(&t), NudState::Probe);
    }
    assert!(matches!(t.poll_timer(secs(39), &cfg), Some(NeighAction::Failed { .. })));
    assert_eq!((state(&t), t.next_deadline()), (NudState::Failed, None));
    // The next packet starts over.
    assert_eq!(t.resolve(secs(40), &cfg, KEY), Resolution::Wait { solicit: true });
}

#[test]
fn a_transports_progress_spares_the_probe() {
    let (mut t, cfg) = (NeighTable::default(), NeighConfig::default());
    t.observe(secs(0), &cfg, KEY, heard(MAC, false, true));
    assert_eq!(state(&t), NudState::Stale);
    t.resolve(secs(1), &cfg, KEY);
    t.confirm(secs(2), &cfg, KEY);
    assert_eq!((state(&t), t.next_deadline()), (NudState::Reachable, None));
}

#[test]
fn without_override_a_known_address_stays() {
    let (mut t, cfg) = (NeighTable::default(), NeighConfig::default());
    t.observe(secs(0), &cfg, KEY, heard(MAC, true, true));
    assert!(t.observe(secs(1), &cfg, KEY, heard(OTHER, true, false)).is_none());
    assert_eq!((state(&t), t.get(KEY).and_then(|e| e.mac)), (NudState::Stale, Some(MAC)));
    t.observe(secs(2), &cfg, KEY, heard(OTHER, false, true));
    assert_eq!((state(&t), t.get(KEY).and_then(|e| e.mac)), (NudState::Stale, Some(OTHER)));
}

#[test]
fn permanent_is_permanent() {
    let (mut t, cfg) = (NeighTable::default(), NeighConfig::default());
    assert!(t.set_permanent(secs(0), KEY, MAC).is_empty());
    t.observe(secs(1), &cfg, KEY, heard(OTHER, true, true));
    assert_eq!(t.resolve(secs(9999), &cfg, KEY), Resolution::Ready(MAC));
}

#[test]
fn the_table_and_the_queue_are_bounded() {
    let cfg = NeighConfig { max_entries: 8, gc_threshold: 4, unres_qlen_bytes: 150, ..NeighConfig::default() };
    let mut t = NeighTable::default();
    for i in 0..20u8 {
        let key = (PortId(1), IpAddr::V4(Ipv4Addr::new(10, 0, 1, i)));
        t.observe(secs(u64::from(i)), &cfg, key, heard(MAC, false, true));
    }
    assert_eq!(t.iter().count(), 8);
    let mut dropped = Vec::new();
    t.resolve(secs(30), &cfg, KEY);
    for _ in 0..3 {
        let p = Packet::new(crate::packet::HeaderBuf::zeroed(60), crate::packet::Payload::None);
        t.queue(&cfg, KEY, p, &mut dropped);
    }
    assert_eq!((dropped.len(), dropped[0].reason), (1, DropReason::NeighQueueFull));
    assert_eq!(t.get(KEY).map(Neighbour::queued), Some(2));
}
