//! TCP options in the order they stand on the wire.

use crate::ast::TcpOption;

/// Magic number of Fast Open in the experimental option (RFC 7413, appendix A.1).
const FAST_OPEN_MAGIC: [u8; 2] = [0xf9, 0x89];

impl TcpOption {
    /// Bytes on the wire.
    pub fn wire_len(&self) -> usize {
        let mut out = Vec::new();
        self.put(&mut out);
        out.len()
    }

    fn put(&self, out: &mut Vec<u8>) {
        let mut long = |kind: u8, data: &[u8]| {
            out.extend_from_slice(&[kind, data.len() as u8 + 2]);
            out.extend_from_slice(data);
        };
        match self {
            Self::Eol => out.push(0),
            Self::Nop => out.push(1),
            Self::Mss(n) => long(2, &n.to_be_bytes()),
            Self::WindowScale(n) => long(3, &[*n]),
            Self::SackOk => long(4, &[]),
            Self::Sack(blocks) => {
                let bytes: Vec<u8> =
                    blocks.iter().flat_map(|(l, r)| [l.to_be_bytes(), r.to_be_bytes()]).flatten().collect();
                long(5, &bytes);
            }
            Self::Timestamp { val, ecr } => long(8, &[val.to_be_bytes(), ecr.to_be_bytes()].concat()),
            Self::FastOpen(cookie) => long(34, cookie),
            Self::FastOpenExp(cookie) => long(254, &[&FAST_OPEN_MAGIC[..], cookie].concat()),
            Self::Md5(digest) => long(19, digest),
            Self::AccEcn { e1_first, counters } => {
                let bytes: Vec<u8> = counters.iter().flat_map(|c| c.to_be_bytes()[1..].to_vec()).collect();
                long(if *e1_first { 174 } else { 172 }, &bytes);
            }
            Self::Other { kind, data } => long(*kind, data),
        }
    }
}

/// Options as bytes; whoever wrote them padded them.
pub fn encode(options: &[TcpOption]) -> Vec<u8> {
    let mut out = Vec::new();
    options.iter().for_each(|o| o.put(&mut out));
    out
}

/// Bytes as options, in their order, padding included; `None` when a length is impossible.
pub fn parse_options(mut bytes: &[u8]) -> Option<Vec<TcpOption>> {
    let mut out = Vec::new();
    while let Some((&kind, rest)) = bytes.split_first() {
        if kind < 2 {
            out.push(if kind == 0 { TcpOption::Eol } else { TcpOption::Nop });
            bytes = rest;
            continue;
        }
        let len = usize::from(*rest.first()?);
        let data = rest.get(1..len.checked_sub(1)?)?;
        bytes = &rest[len - 1..];
        out.push(one(kind, data));
    }
    Some(out)
}

fn one(kind: u8, data: &[u8]) -> TcpOption {
    let word = |at: usize| u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
    match (kind, data.len()) {
        (2, 2) => TcpOption::Mss(u16::from_be_bytes([data[0], data[1]])),
        (3, 1) => TcpOption::WindowScale(data[0]),
        (4, 0) => TcpOption::SackOk,
        (5, n) if n.is_multiple_of(8) => TcpOption::Sack((0..n / 8).map(|i| (word(i * 8), word(i * 8 + 4))).collect()),
        (8, 8) => TcpOption::Timestamp { val: word(0), ecr: word(4) },
        (34, _) => TcpOption::FastOpen(data.to_vec()),
        (254, _) if data.starts_with(&FAST_OPEN_MAGIC) => TcpOption::FastOpenExp(data[2..].to_vec()),
        (19, _) => TcpOption::Md5(data.to_vec()),
        (172 | 174, n) if n.is_multiple_of(3) => TcpOption::AccEcn {
            e1_first: kind == 174,
            counters: data.chunks(3).map(|c| u32::from_be_bytes([0, c[0], c[1], c[2]])).collect(),
        },
        _ => TcpOption::Other { kind, data: data.to_vec() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_survives_the_wire() {
        let all = vec![
            TcpOption::Mss(1460),
            TcpOption::Nop,
            TcpOption::WindowScale(7),
            TcpOption::SackOk,
            TcpOption::Sack(vec![(1, 2), (3, 4)]),
            TcpOption::Timestamp { val: 5, ecr: 6 },
            TcpOption::FastOpen(vec![1, 2, 3, 4]),
            TcpOption::FastOpen(vec![]),
            TcpOption::FastOpenExp(vec![9, 9]),
            TcpOption::Md5(vec![7; 16]),
            TcpOption::AccEcn { e1_first: true, counters: vec![1, 0xff_ffff, 3] },
            TcpOption::AccEcn { e1_first: false, counters: vec![1] },
            TcpOption::Other { kind: 77, data: vec![1] },
            TcpOption::Eol,
        ];
        assert_eq!(parse_options(&encode(&all)), Some(all));
    }

    #[test]
    fn impossible_lengths_are_seen() {
        for bytes in [&[2, 1][..], &[2, 0], &[2, 9, 1], &[8]] {
            assert_eq!(parse_options(bytes), None, "{bytes:?}");
        }
    }
}
