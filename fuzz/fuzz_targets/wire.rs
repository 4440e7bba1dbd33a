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
        assert_eq!((again, again_len), (repr, header));
    }
});
