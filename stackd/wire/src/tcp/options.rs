//! TCP options as one small `Copy` struct, read as tolerantly and written in the same order as Linux does.

use core::fmt;
use core::ops::Range;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use stackd_base::SeqNum;

/// Room for options in a header whose data offset is 15.
pub const MAX_LEN: usize = 40;
/// RFC 7323, 2.3: "If a Window Scale option is received with a shift.cnt value larger than 14, TCP SHOULD log the error
/// but MUST use 14".
const MAX_WINDOW_SCALE: u8 = 14;

mod kind {
    pub const END: u8 = 0;
    pub const NOP: u8 = 1;
    pub const MSS: u8 = 2;
    pub const WINDOW_SCALE: u8 = 3;
    pub const SACK_PERMITTED: u8 = 4;
    pub const SACK: u8 = 5;
    pub const TIMESTAMPS: u8 = 8;
    pub const MD5: u8 = 19;
    pub const AO: u8 = 29;
    pub const FAST_OPEN: u8 = 34;
    pub const ACCECN0: u8 = 172;
    pub const ACCECN1: u8 = 174;
    /// RFC 6994: shared by experiments, told apart by two magic bytes.
    pub const EXPERIMENTAL: u8 = 254;
    /// RFC 7413, 4.1.1 before it had a kind of its own.
    pub const FAST_OPEN_MAGIC: [u8; 2] = [0xf9, 0x89];
}

/// RFC 7323, 3.2: sender's clock and the echo of the peer's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Timestamps {
    /// The sender's timestamp clock, in the sender's unit.
    pub tsval: u32,
    /// The peer's `tsval` that is echoed.
    pub tsecr: u32,
}

/// RFC 2018, 3: bytes `left..right` were received.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SackBlock {
    /// First sequence number of the block.
    pub left: SeqNum,
    /// The one after the last.
    pub right: SeqNum,
}

impl fmt::Debug for SackBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{:?}", self.left, self.right)
    }
}

/// At most four SACK blocks, in the order they stand in the option.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct SackBlocks {
    blocks: [SackBlock; 4],
    #[serde(deserialize_with = "at_most::<4, _>")]
    len: u8,
}

impl SackBlocks {
    /// Blocks an option can hold.
    pub const CAPACITY: usize = 4;
    /// No block.
    pub const EMPTY: Self = Self { blocks: [SackBlock { left: SeqNum(0), right: SeqNum(0) }; 4], len: 0 };

    /// Adds a block at the end; false when there are already four.
    pub fn push(&mut self, block: SackBlock) -> bool {
        let Some(slot) = self.blocks.get_mut(usize::from(self.len)) else { return false };
        *slot = block;
        self.len += 1;
        true
    }
    /// The blocks.
    pub fn as_slice(&self) -> &[SackBlock] {
        &self.blocks[..usize::from(self.len)]
    }
    /// The blocks, one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SackBlock> + '_ {
        self.as_slice().iter().copied()
    }
    /// Number of blocks.
    pub const fn len(&self) -> usize {
        self.len as usize
    }
    /// True without blocks.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl PartialEq for SackBlocks {
    fn eq(&self, o: &Self) -> bool {
        self.as_slice() == o.as_slice()
    }
}
impl Eq for SackBlocks {}
impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}
impl FromIterator<SackBlock> for SackBlocks {
    /// The first four.
    fn from_iter<I: IntoIterator<Item = SackBlock>>(it: I) -> Self {
        let mut out = Self::EMPTY;
        for b in it.into_iter().take(Self::CAPACITY) {
            out.push(b);
        }
        out
    }
}

/// A length that was serialised by somebody, perhaps with malice: an option that exists is legal.
fn at_most<'de, const N: u8, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let len = u8::deserialize(from)?;
    if len <= N { Ok(len) } else { Err(D::Error::custom(format_args!("{len} is more than {N}"))) }
}

/// RFC 7413, 4.1.1: a cookie of 4 to 16 bytes (even), or none: a request.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FastOpenCookie {
    bytes: [u8; 16],
    #[serde(deserialize_with = "at_most::<16, _>")]
    len: u8,
    experimental: bool,
}

impl FastOpenCookie {
    /// A request for a cookie.
    pub const REQUEST: Self = Self { bytes: [0; 16], len: 0, experimental: false };

    /// The cookie with these bytes; `None` when the length is not legal. Empty is a request.
    pub fn new(cookie: &[u8]) -> Option<Self> {
        // RFC 7413, 4.1.1: "MUST be at least 4 bytes, and at most 16"; "an even number".
        if !matches!(cookie.len(), 0 | 4 | 6 | 8 | 10 | 12 | 14 | 16) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..cookie.len()].copy_from_slice(cookie);
        Some(Self { bytes, len: cookie.len() as u8, experimental: false })
    }
    /// The same, in the form of before RFC 7413 (kind 254, magic 0xF989), or in the standard's.
    #[must_use]
    pub const fn in_experimental_form(self, experimental: bool) -> Self {
        Self { experimental, ..self }
    }
    /// Came (or goes) in the experimental form.
    pub const fn is_experimental(&self) -> bool {
        self.experimental
    }
    /// Bytes of the option, padding not counted.
    const fn option_len(&self) -> usize {
        self.len as usize + if self.experimental { 4 } else { 2 }
    }
    /// The cookie; empty for a request.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
    /// True for a request.
    pub const fn is_request(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for FastOpenCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cookie{:02x?}", self.as_bytes())
    }
}

/// Accurate ECN's byte counters (RFC 9768, 3.2.3), each modulo 2^24.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AccEcnOption {
    /// False: order 0 (EE0B, ECEB, EE1B); true: order 1 (EE1B, ECEB, EE0B).
    pub order1: bool,
    /// How many counters are there, 0 to 3, in the order of the option.
    #[serde(deserialize_with = "at_most::<3, _>")]
    pub count: u8,
    /// The counters in the order of the option.
    pub counters: [u32; 3],
}

/// RFC 5925, 2.2: which keys, and the MAC over the segment. Carried, not verified here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AoOption {
    /// The key this segment is authenticated with, as its sender numbers it.
    pub key_id: u8,
    /// The key its sender wants to receive next.
    pub rnext_key_id: u8,
    mac: [u8; 16],
    #[serde(deserialize_with = "at_most::<16, _>")]
    len: u8,
}

impl AoOption {
    /// With a MAC of up to 16 bytes; `None` when it is longer.
    pub fn new(key_id: u8, rnext_key_id: u8, mac: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        bytes.get_mut(..mac.len())?.copy_from_slice(mac);
        Some(Self { key_id, rnext_key_id, mac: bytes, len: mac.len() as u8 })
    }
    /// The MAC.
    pub fn mac(&self) -> &[u8] {
        &self.mac[..usize::from(self.len)]
    }
    /// Bytes that it takes of a header, padded.
    pub const fn padded_len(mac_len: usize) -> usize {
        (4 + mac_len).next_multiple_of(4)
    }
}

impl fmt::Debug for AoOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ao({},{},{:02x?})", self.key_id, self.rnext_key_id, self.mac())
    }
}

/// All options this stack understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TcpOptions {
    /// Maximum segment size; only on SYN.
    pub mss: Option<u16>,
    /// Window scale shift, 0 to 14; only on SYN.
    pub window_scale: Option<u8>,
    /// SACK permitted; only on SYN.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// Selective acknowledgments; never on SYN.
    pub sack: SackBlocks,
    /// TCP Fast Open cookie or request; only on SYN.
    pub fast_open: Option<FastOpenCookie>,
    /// Accurate ECN counters.
    pub accecn: Option<AccEcnOption>,
    /// MD5 signature (RFC 2385). Carried, not verified here.
    pub md5: Option<[u8; 16]>,
    /// TCP-AO (RFC 5925). Likewise.
    pub ao: Option<AoOption>,
}

impl TcpOptions {
    /// None at all.
    pub const NONE: Self = Self {
        mss: None,
        window_scale: None,
        sack_permitted: false,
        timestamps: None,
        sack: SackBlocks::EMPTY,
        fast_open: None,
        accecn: None,
        md5: None,
        ao: None,
    };

    /// Reads the options between the fixed header and the payload.
    pub(super) fn parse(mut bytes: &[u8], syn: bool) -> Self {
        // What nearly every segment of an established connection carries (RFC 7323, appendix A).
        if let [kind::NOP, kind::NOP, kind::TIMESTAMPS, 10, v @ ..] = bytes
            && let Ok(v) = <&[u8; 8]>::try_from(v)
        {
            return Self { timestamps: Some(read_timestamps(v)), ..Self::NONE };
        }
        let mut out = Self::NONE;
        while let [k, rest @ ..] = bytes {
            match *k {
                kind::END => break,
                kind::NOP => bytes = rest,
                k => {
                    // Linux: silly or partial options end the parsing, not the segment.
                    let Some((&len, _)) = rest.split_first() else { break };
                    let Some(body) = bytes.get(2..usize::from(len)) else { break };
                    out.take(k, body, syn);
                    bytes = &bytes[usize::from(len)..];
                }
            }
        }
        out
    }

    fn take(&mut self, kind: u8, body: &[u8], syn: bool) {
        match (kind, body) {
            // Zero would be "no segment can be sent": ignored as Linux does.
            (kind::MSS, &[a, b]) if syn && (a, b) != (0, 0) => self.mss = Some(u16::from_be_bytes([a, b])),
            (kind::WINDOW_SCALE, &[s]) if syn => self.window_scale = Some(s.min(MAX_WINDOW_SCALE)),
            (kind::SACK_PERMITTED, []) if syn => self.sack_permitted = true,
            (kind::TIMESTAMPS, v) => {
                if let Ok(v) = v.try_into() {
                    self.timestamps = Some(read_timestamps(v));
                }
            }
            (kind::SACK, v) if !syn && !v.is_empty() && v.len() % 8 == 0 => {
                self.sack = v.as_chunks::<8>().0.iter().map(read_sack).collect();
            }
            (kind::FAST_OPEN, v) if syn => {
                if let Some(c) = FastOpenCookie::new(v) {
                    self.fast_open = Some(c);
                }
            }
            (kind::EXPERIMENTAL, [a, b, v @ ..]) if syn && [*a, *b] == kind::FAST_OPEN_MAGIC => {
                if let Some(c) = FastOpenCookie::new(v) {
                    self.fast_open = Some(c.in_experimental_form(true));
                }
            }
            (kind::ACCECN0 | kind::ACCECN1, v) if v.len() % 3 == 0 && v.len() <= 9 => {
                let mut o = AccEcnOption { order1: kind == kind::ACCECN1, ..AccEcnOption::default() };
                for (c, b) in o.counters.iter_mut().zip(v.as_chunks::<3>().0) {
                    *c = u32::from_be_bytes([0, b[0], b[1], b[2]]);
                    o.count += 1;
                }
                self.accecn = Some(o);
            }
            (kind::AO, &[key_id, rnext, ref mac @ ..]) => self.ao = AoOption::new(key_id, rnext, mac).or(self.ao),
            (kind::MD5, v) => self.md5 = v.try_into().ok().or(self.md5),
            // RFC 9293, 3.1 MUST-6: "MUST ignore without error any TCP Option it does not implement".
            _ => {}
        }
    }

    /// Bytes `emit` writes: a multiple of four, at most 40.
    pub fn len(&self) -> usize {
        let p = self.plan();
        p.len
    }

    /// True when nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of the SACK blocks fit next to the other options.
    pub fn sack_blocks_that_fit(&self) -> usize {
        self.plan().sacks
    }

    /// What fits. Options that the connection cannot do without come first; SACK blocks, counters and a cookie take what is left.
    fn plan(&self) -> Plan {
        let Self { mss, window_scale, sack_permitted, timestamps, sack, fast_open, accecn, md5, ao } = self;
        let mut len = 0;
        len += if md5.is_some() { 20 } else { 0 };
        len += if mss.is_some() { 4 } else { 0 };
        len += if timestamps.is_some() {
            12
        } else if *sack_permitted {
            4
        } else {
            0
        };
        len += if window_scale.is_some() { 4 } else { 0 };
        let ao = ao.filter(|a| len + AoOption::padded_len(a.mac().len()) <= MAX_LEN);
        len += ao.map_or(0, |a| AoOption::padded_len(a.mac().len()));
        let sacks = if sack.is_empty() { 0 } else { sack.len().min((MAX_LEN - len).saturating_sub(4) / 8) };
        len += if sacks > 0 { 4 + 8 * sacks } else { 0 };
        // What is written next behind it.
        let shared = match (*sack_permitted && timestamps.is_none(), window_scale, sacks) {
            (true, ..) => 2,
            (false, Some(_), _) => 1,
            (false, None, 0) => 0,
            (false, None, _) => 2,
        };
        let cookie = fast_open.filter(|c| len + c.option_len().next_multiple_of(4) <= MAX_LEN);
        len += cookie.map_or(0, |c| c.option_len().next_multiple_of(4));
        let accecn_fits = accecn
            .and_then(|a| (0..=usize::from(a.count.min(3))).rev().find(|&n| len + accecn_len(n, shared) <= MAX_LEN));
        len += accecn_fits.map_or(0, |n| accecn_len(n, shared));
        Plan { len, ao, sacks, accecn: accecn_fits, cookie }
    }

    /// Writes the options padded to a multiple of four, in Linux's order, and returns their length.
    pub(super) fn emit(&self, out: &mut [u8; MAX_LEN]) -> usize {
        let plan = self.plan();
        let mut w = Writer { out, at: 0 };
        if let Some(digest) = &self.md5 {
            w.put(&[kind::NOP, kind::NOP, kind::MD5, 18]);
            w.put(digest);
        }
        if let Some(ao) = &plan.ao {
            w.put(&[kind::AO, 4 + ao.mac().len() as u8, ao.key_id, ao.rnext_key_id]);
            w.put(ao.mac());
            w.pad();
        }
        if let Some(mss) = self.mss {
            w.put(&[kind::MSS, 4]);
            w.put(&mss.to_be_bytes());
        }
        if let Some(Timestamps { tsval, tsecr }) = self.timestamps {
            let before = if self.sack_permitted { [kind::SACK_PERMITTED, 2] } else { [kind::NOP, kind::NOP] };
            w.put(&before);
            w.put(&[kind::TIMESTAMPS, 10]);
            w.put(&tsval.to_be_bytes());
            w.put(&tsecr.to_be_bytes());
        }
        if let (Some(n), Some(a)) = (plan.accecn, self.accecn) {
            w.put(&[if a.order1 { kind::ACCECN1 } else { kind::ACCECN0 }, 2 + 3 * n as u8]);
            for c in &a.counters[..n] {
                w.put(&c.to_be_bytes()[1..]);
            }
        }
        if self.sack_permitted && self.timestamps.is_none() {
            w.pad_before(2);
            w.put(&[kind::SACK_PERMITTED, 2]);
        }
        if let Some(scale) = self.window_scale {
            w.pad_before(3);
            w.put(&[kind::WINDOW_SCALE, 3, scale.min(MAX_WINDOW_SCALE)]);
        }
        if plan.sacks > 0 {
            w.pad_before(2);
            w.put(&[kind::SACK, 2 + 8 * plan.sacks as u8]);
            for b in self.sack.iter().take(plan.sacks) {
                w.put(&b.left.0.to_be_bytes());
                w.put(&b.right.0.to_be_bytes());
            }
        }
        w.pad();
        if let Some(c) = plan.cookie {
            if c.experimental {
                w.put(&[kind::EXPERIMENTAL, c.option_len() as u8]);
                w.put(&kind::FAST_OPEN_MAGIC);
            } else {
                w.put(&[kind::FAST_OPEN, c.option_len() as u8]);
            }
            w.put(c.as_bytes());
            w.pad();
        }
        debug_assert_eq!(w.at, plan.len);
        w.at
    }
}

/// Where the body of the option of this kind lies in the options `bytes`, if it is there.
pub fn find_option(mut bytes: &[u8], kind: u8) -> Option<Range<usize>> {
    let whole = bytes.len();
    while let [k, rest @ ..] = bytes {
        match *k {
            kind::END => return None,
            kind::NOP => bytes = rest,
            k => {
                let len = usize::from(*rest.first()?);
                bytes.get(2..len)?;
                let at = whole - bytes.len();
                if k == kind {
                    return Some(at + 2..at + len);
                }
                bytes = &bytes[len..];
            }
        }
    }
    None
}

/// What an AccECN option with `n` counters takes, where the option behind it brings `shared` bytes of padding that it may stand in.
const fn accecn_len(n: usize, shared: usize) -> usize {
    let len = 2 + 3 * n;
    if len % 4 <= shared { len - len % 4 } else { len.next_multiple_of(4) }
}

struct Plan {
    len: usize,
    ao: Option<AoOption>,
    sacks: usize,
    accecn: Option<usize>,
    cookie: Option<FastOpenCookie>,
}

struct Writer<'a> {
    out: &'a mut [u8; MAX_LEN],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
    /// So that what follows, `len` bytes of it, ends at a multiple of four.
    fn pad_before(&mut self, len: usize) {
        while !(self.at + len).is_multiple_of(4) {
            self.put(&[kind::NOP]);
        }
    }
    fn pad(&mut self) {
        while !self.at.is_multiple_of(4) {
            self.put(&[kind::NOP]);
        }
    }
}

fn read_timestamps(v: &[u8; 8]) -> Timestamps {
    let [a, b, c, d, e, f, g, h] = *v;
    Timestamps { tsval: u32::from_be_bytes([a, b, c, d]), tsecr: u32::from_be_bytes([e, f, g, h]) }
}

fn read_sack(v: &[u8; 8]) -> SackBlock {
    let Timestamps { tsval, tsecr } = read_timestamps(v);
    SackBlock { left: SeqNum(tsval), right: SeqNum(tsecr) }
}
