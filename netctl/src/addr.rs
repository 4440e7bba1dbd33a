//! Addresses and prefixes as text and as the protocol's bytes.

use std::net::IpAddr;

/// Bytes of an address.
pub fn bytes(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// `10.0.0.1`; `?` for bytes that are no address.
pub fn show(bytes: &[u8]) -> String {
    ss_rs::filter::ip(bytes).map_or_else(|| "?".into(), |addr| addr.to_string())
}

/// An address without a prefix length.
pub fn parse(text: &str) -> Option<Vec<u8>> {
    text.parse().ok().map(bytes)
}

/// `10.0.0.1/8`, or an address alone (its full length).
pub fn parse_prefix(text: &str) -> Option<(Vec<u8>, u32)> {
    let (addr, len) = text.split_once('/').map_or((text, None), |(addr, len)| (addr, Some(len)));
    let addr = parse(addr)?;
    let max = addr.len() as u32 * 8;
    let len = match len {
        None => max,
        Some(len) => len.parse().ok().filter(|len| *len <= max)?,
    };
    Some((addr, len))
}

/// `02:00:00:00:00:01`.
pub fn show_mac(mac: &[u8]) -> String {
    mac.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

/// `2:0:0:0:0:1`.
pub fn parse_mac(text: &str) -> Option<Vec<u8>> {
    let bytes: Vec<u8> =
        text.split([':', '-']).map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>().ok()?;
    (bytes.len() == 6).then_some(bytes)
}

/// AF_INET or AF_INET6 by length.
pub fn is_v6(bytes: &[u8]) -> bool {
    bytes.len() == 16
}
