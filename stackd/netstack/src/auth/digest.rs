//! The digests themselves: TCP-MD5 (RFC 2385), and TCP-AO's two algorithms (RFC 5926).

use cmac::Cmac;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use stackd_base::SeqNum;
use stackd_wire::find_option;
use std::net::{IpAddr, SocketAddr};

/// Gives the payload out, piece by piece: the core never holds it.
pub type Visit<'a> = &'a dyn Fn(&mut dyn FnMut(&[u8]));

const FIXED: usize = 20;
const AO_KIND: u8 = 29;
/// Of RFC 5926, 3.1.1: "TCP-AO" as the label of the key derivation.
const LABEL: &[u8] = b"TCP-AO";

/// A segment as it is on the wire but for the digest itself.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)]
pub struct Segment<'a> {
    /// Its source and destination.
    pub src: IpAddr,
    /// The other end.
    pub dst: IpAddr,
    /// TCP header with options.
    pub header: &'a [u8],
    /// Payload.
    pub len: usize,
    /// Where to find it.
    pub payload: Visit<'a>,
}

impl Segment<'_> {
    /// The pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1).
    fn pseudo(&self, update: &mut dyn FnMut(&[u8])) {
        let len = (self.header.len() + self.len) as u32;
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                update(&src.octets());
                update(&dst.octets());
                update(&[0, 6]);
                update(&(len as u16).to_be_bytes());
            }
            (src, dst) => {
                update(&crate::demux::mapped(src).octets());
                update(&crate::demux::mapped(dst).octets());
                update(&len.to_be_bytes());
                update(&[0, 0, 0, 6]);
            }
        }
    }

    /// The header without options, its checksum zero.
    fn fixed(&self) -> [u8; FIXED] {
        let mut fixed = [0; FIXED];
        fixed.copy_from_slice(&self.header[..FIXED]);
        fixed[16..18].fill(0);
        fixed
    }

    /// RFC 2385, 2.0: "the TCP pseudo-header, the TCP header, excluding options, and assuming a checksum of zero, the TCP segment data
    /// (if any), an independently-specified key".
    pub fn md5(&self, key: &[u8]) -> [u8; 16] {
        let mut hash = Md5::new();
        self.pseudo(&mut |b| hash.update(b));
        hash.update(self.fixed());
        (self.payload)(&mut |b| hash.update(b));
        hash.update(key);
        hash.finalize().into()
    }

    /// RFC 5925, 5.1: "the SNE, ... the IP pseudoheader, ... the TCP header ... and ... TCP options, where the TCP checksum and TCP-AO MAC fields are
    /// set to zero, ... TCP data".
    fn ao_input(&self, sne: u32, options: bool, update: &mut dyn FnMut(&[u8])) {
        update(&sne.to_be_bytes());
        self.pseudo(update);
        update(&self.fixed());
        let mut all = [0; 40];
        let own = &self.header[FIXED..];
        let all = &mut all[..own.len()];
        all.copy_from_slice(own);
        if let Some(body) = find_option(all, AO_KIND) {
            all[body.start + 2..body.end].fill(0);
            // Without the flag the other options are left out, and TCP-AO alone stands for them.
            update(if options { all } else { &all[body.start - 2..body.end] });
        }
        (self.payload)(update);
    }
}

/// An algorithm of RFC 5926.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// HMAC-SHA-1-96.
    HmacSha1,
    /// AES-128-CMAC-96.
    AesCmac,
}

/// A traffic key: 20 bytes for SHA-1, 16 for AES.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TrafficKey {
    bytes: [u8; 20],
    algorithm: Algorithm,
}

impl Algorithm {
    /// Linux's name of it.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "hmac(sha1)" => Some(Self::HmacSha1),
            "cmac(aes128)" | "cmac(aes)" => Some(Self::AesCmac),
            _ => None,
        }
    }

    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac(sha1)",
            Self::AesCmac => "cmac(aes)",
        }
    }

    /// Bytes of a whole MAC: what can be cut from it.
    pub const fn mac_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::AesCmac => 16,
        }
    }

    /// RFC 5926, 3.1: a traffic key from the master key and the connection, as seen by who sends.
    pub fn derive(self, master: &[u8], from: (SocketAddr, SeqNum), to: (SocketAddr, SeqNum)) -> TrafficKey {
        let mut context = Vec::with_capacity(64);
        // RFC 5926, 3.1.1: "i || Label || Context || Output_Length", one block.
        context.push(1);
        context.extend_from_slice(LABEL);
        match (from.0.ip(), to.0.ip()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => context.extend_from_slice(&[a.octets(), b.octets()].concat()),
            (a, b) => context
                .extend_from_slice(&[crate::demux::mapped(a).octets(), crate::demux::mapped(b).octets()].concat()),
        }
        context.extend_from_slice(&from.0.port().to_be_bytes());
        context.extend_from_slice(&to.0.port().to_be_bytes());
        context.extend_from_slice(&from.1.0.to_be_bytes());
        context.extend_from_slice(&to.1.0.to_be_bytes());
        let bits = (self.mac_len() * 8) as u16;
        context.extend_from_slice(&bits.to_be_bytes());
        let mut bytes = [0; 20];
        match self {
            Self::HmacSha1 => bytes.copy_from_slice(&hmac_sha1(master, &mut |u| u(&context))),
            Self::AesCmac => {
                // RFC 5926, 3.1.1.2: "If it is exactly 128 bits, use it as-is; otherwise ... AES-CMAC(0^128, MK)" (RFC 4615).
                let key = match <[u8; 16]>::try_from(master) {
                    Ok(key) => key,
                    Err(_) => aes_cmac(&[0; 16], &mut |u| u(master)),
                };
                bytes[..16].copy_from_slice(&aes_cmac(&key, &mut |u| u(&context)));
            }
        }
        TrafficKey { bytes, algorithm: self }
    }
}

impl TrafficKey {
    /// The key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.mac_len()]
    }

    /// The whole MAC of a segment.
    pub fn mac(&self, segment: &Segment<'_>, sne: u32, options: bool) -> [u8; 20] {
        let mut out = [0; 20];
        let mut feed = |update: &mut dyn FnMut(&[u8])| segment.ao_input(sne, options, update);
        match self.algorithm {
            Algorithm::HmacSha1 => out.copy_from_slice(&hmac_sha1(&self.bytes, &mut feed)),
            Algorithm::AesCmac => {
                let mut key = [0; 16];
                key.copy_from_slice(self.as_bytes());
                out[..16].copy_from_slice(&aes_cmac(&key, &mut feed));
            }
        }
        out
    }
}

impl core::fmt::Debug for TrafficKey {
    /// Not the key.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "TrafficKey({})", self.algorithm.name())
    }
}

type Feed<'a> = &'a mut dyn FnMut(&mut dyn FnMut(&[u8]));

fn hmac_sha1(key: &[u8], feed: Feed<'_>) -> [u8; 20] {
    match Hmac::<sha1::Sha1>::new_from_slice(key) {
        Ok(mut mac) => {
            feed(&mut |b| mac.update(b));
            mac.finalize().into_bytes().into()
        }
        // HMAC takes keys of every length.
        Err(_) => [0; 20],
    }
}

fn aes_cmac(key: &[u8; 16], feed: Feed<'_>) -> [u8; 16] {
    let mut mac = Cmac::<aes::Aes128>::new(key.into());
    feed(&mut |b| mac.update(b));
    mac.finalize().into_bytes().into()
}

/// Whether two digests are the same, in a time that does not tell where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}
