//! Every parser takes any bytes; what it accepts survives being written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stackd_wire::{ArpRepr, EthernetRepr, Extensions, IcmpRepr, Ipv4Repr, Ipv6Repr, NdpRepr, TcpRepr, UdpRepr};

fuzz_target!(|data: &[u8]| {
    let _ = EthernetRepr::parse(data);
    let _ = ArpRepr::parse(data);
    let _ = Ipv4Repr::parse(data, data.len());
    let _ = Ipv4Repr::parse_quoted(data);
    let _ = Ipv6Repr::parse(data, data.len());
    let _ = Ipv6Repr::parse_quoted(data);
    let _ = IcmpRepr::parse_v4(data);
    let _ = IcmpRepr::parse_v6(data);
    let _ = NdpRepr::parse(data);
    let _ = UdpRepr::parse(data, data.len());
    if let Some((&first, rest)) = data.split_first() {
        let _ = Extensions::parse(first, rest);
    }
    if let Ok((repr, len)) = TcpRepr::parse(data) {
        assert!(len <= data.len());
        let mut bytes = [0; 60];
        let header = repr.header_len();
        repr.emit(&mut bytes[..header]);
        let (again, again_len) = TcpRepr::parse(&bytes[..header]).expect("what was emitted can be parsed");
        assert_eq!(again_len, header);
        kept(&repr, &again, usize::from(data[12] >> 4) * 4);
        // What fitted once fits again, to the bit.
        let mut twice = [0; 60];
        again.emit(&mut twice[..again.header_len()]);
        assert_eq!(twice[..again.header_len()], bytes[..header]);
    }
});

/// We pad options as Linux does; a peer that packs forty bytes without a gap said more than we have room to repeat. What an option is, it
/// stays: only the last SACK blocks, counters, a MAC or a cookie may be missing.
fn kept(was: &TcpRepr, is: &TcpRepr, header: usize) {
    let (a, b) = (&was.options, &is.options);
    assert_eq!((TcpRepr { options: *b, ..*was }), *is);
    assert_eq!((a.mss, a.window_scale, a.sack_permitted), (b.mss, b.window_scale, b.sack_permitted));
    assert_eq!((a.timestamps, a.md5), (b.timestamps, b.md5));
    assert!(a.sack.as_slice().starts_with(b.sack.as_slice()));
    assert!(b.ao.is_none() || a.ao == b.ao);
    assert!(b.fast_open.is_none() || a.fast_open == b.fast_open);
    if let Some(o) = b.accecn {
        let was = a.accecn.expect("an option that nobody sent");
        assert!(o.order1 == was.order1 && o.count <= was.count);
        let n = usize::from(o.count);
        assert_eq!(o.counters[..n], was.counters[..n]);
    }
    let whole = (a.sack.len(), a.accecn.map(|o| o.count), a.ao.is_some(), a.fast_open.is_some());
    let left = (b.sack.len(), b.accecn.map(|o| o.count), b.ao.is_some(), b.fast_open.is_some());
    assert!(whole == left || header > 40, "{whole:?} became {left:?} where there was room");
}
