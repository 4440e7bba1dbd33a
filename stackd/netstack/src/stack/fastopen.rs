//! TCP Fast Open (RFC 7413), the stack's part: cookies made and checked for clients, cookies of servers remembered, and paths given up
//! on that swallow SYNs with data.

use super::Stack;
use crate::demux::{FlowKey, mapped};
use crate::socket::opts::SockOpts;
use core::hash::Hasher;
use hashbrown::HashMap;
use siphasher::sip::SipHasher24;
use stackd_base::{Duration, Instant, Mib, Rng, SockId};
use stackd_tcp::{FastOpen, FastOpenLesson};
use stackd_wire::{FastOpenCookie, TcpRepr};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};

/// Bits of `net.ipv4.tcp_fastopen`.
pub mod bits {
    /// Active opens may use it.
    pub const CLIENT: u32 = 0x1;
    /// Listeners may.
    pub const SERVER: u32 = 0x2;
    /// Data goes without a cookie.
    pub const CLIENT_NO_COOKIE: u32 = 0x4;
    /// Data is taken without a cookie.
    pub const SERVER_NO_COOKIE: u32 = 0x200;
    /// Every listener does, as if it had set `TCP_FASTOPEN`.
    pub const ALL_LISTENERS: u32 = 0x400;
}

/// Servers remembered; beyond that the oldest are forgotten.
const MOST_SERVERS: usize = 4096;
/// RFC 7413, 5.1: a reset child goes on being counted that long, or spoofed SYNs with resets behind them would cost nothing (as Linux).
const RESET_COUNTS: Duration = Duration::from_secs(60);

/// Keys that cookies are made with: the first one for new cookies, both to check (RFC 7413, 4.1.2: "change the key periodically").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FastOpenKeys {
    /// In use.
    pub primary: [u8; 16],
    /// Still accepted.
    pub backup: Option<[u8; 16]>,
}

impl FastOpenKeys {
    /// Nobody chose one yet.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    /// `TCP_FASTOPEN_KEY`: 16 or 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let primary = *bytes.first_chunk()?;
        match bytes.len() {
            16 => Some(Self { primary, backup: None }),
            32 => Some(Self { primary, backup: bytes.last_chunk().copied() }),
            _ => None,
        }
    }

    /// The same bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        self.primary.into_iter().chain(self.backup.into_iter().flatten()).collect()
    }

    /// As the sysctl takes it: four hexadecimal words joined by `-`, and after a comma four more.
    pub fn parse(text: &str) -> Option<Self> {
        let mut keys = text.trim().split(',').map(|key| {
            let mut words = key.split('-').map(|w| {
                let plain = !w.is_empty() && w.len() <= 8 && w.bytes().all(|b| b.is_ascii_hexdigit());
                plain.then(|| u32::from_str_radix(w, 16).ok()).flatten()
            });
            let mut out = [0; 16];
            for chunk in out.as_chunks_mut::<4>().0 {
                *chunk = words.next()??.to_le_bytes();
            }
            words.next().is_none().then_some(out)
        });
        let primary = keys.next()??;
        let backup = match keys.next() {
            None => None,
            Some(key) => Some(key?),
        };
        keys.next().is_none().then_some(Self { primary, backup })
    }

    /// As the sysctl prints it.
    pub fn print(&self) -> String {
        let one = |key: &[u8; 16]| {
            let words = key.as_chunks::<4>().0.iter().map(|w| format!("{:08x}", u32::from_le_bytes(*w)));
            words.collect::<Vec<_>>().join("-")
        };
        match &self.backup {
            None => one(&self.primary),
            Some(backup) => format!("{},{}", one(&self.primary), one(backup)),
        }
    }

    /// Cookie of a client's address for a server's: SipHash-2-4 over both, as Linux makes it, so that servers of one name may share a key.
    fn cookie(key: &[u8; 16], client: IpAddr, server: IpAddr) -> FastOpenCookie {
        let mut hash = SipHasher24::new_with_key(key);
        match (client, server) {
            (IpAddr::V4(c), IpAddr::V4(s)) => hash.write(&[c.octets(), s.octets()].concat()),
            (c, s) => hash.write(&[mapped(c).octets(), mapped(s).octets()].concat()),
        }
        FastOpenCookie::new(&hash.finish().to_le_bytes()).unwrap_or_default()
    }
}

/// What is known of a server.
#[derive(Clone, Copy, Debug, Default)]
struct Server {
    mss: Option<u16>,
    cookie: Option<FastOpenCookie>,
    /// It gave no cookie in this form: 1 the standard's, 2 the experimental one either.
    refused: u8,
}

/// The client's memory.
#[derive(Debug, Default)]
pub(crate) struct FastOpenClient {
    servers: HashMap<(Ipv6Addr, Ipv6Addr), Server, rapidhash::fast::RandomState>,
    order: VecDeque<(Ipv6Addr, Ipv6Addr)>,
    blackholes: u32,
    last_blackhole: Instant,
}

/// What to do about a SYN, as far as Fast Open goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FastSyn {
    /// Nothing.
    Ordinary,
    /// An ordinary handshake that grants this cookie.
    Grant(FastOpenCookie),
    /// Its data is taken now; a cookie made with the old key is replaced by this one.
    Take(Option<FastOpenCookie>),
}

impl Stack {
    // ---- client ----

    /// How an active open makes use of Fast Open; `None` = not at all.
    pub(super) fn fast_open_for(&self, now: Instant, flow: &FlowKey, opts: &SockOpts) -> Option<FastOpen> {
        let net = &self.sysctls.net;
        if net.tcp_fastopen & bits::CLIENT == 0 || self.fast_open_disabled(now) {
            return None;
        }
        let key = (mapped(flow.local().ip()), mapped(flow.remote().ip()));
        let server = self.fast_open.servers.get(&key).copied().unwrap_or_default();
        if opts.fastopen_no_cookie || net.tcp_fastopen & bits::CLIENT_NO_COOKIE != 0 {
            return Some(FastOpen::Data { cookie: None, mss: server.mss });
        }
        Some(match server.cookie {
            Some(cookie) => FastOpen::Data { cookie: Some(cookie), mss: server.mss },
            None => FastOpen::Ask { experimental: server.refused == 1 },
        })
    }

    /// A handshake taught something about a server.
    pub(super) fn fast_open_learn(&mut self, now: Instant, sock: SockId) {
        let Some(s) = self.sockets.get_mut(sock) else { return };
        let (local, Some(peer)) = (s.local.ip(), s.peer) else { return };
        let crate::socket::Body::Tcp(t) = &mut s.body else { return };
        let Some(lesson) = t.conn.fast_open_lesson() else { return };
        let FastOpenLesson { mss, cookie, refused, syn_lost: _, blackhole } = lesson;
        if blackhole {
            self.fast_open_blackhole(now);
            return;
        }
        let key = (mapped(local), mapped(peer.ip()));
        let FastOpenClient { servers, order, .. } = &mut self.fast_open;
        if !servers.contains_key(&key) {
            if servers.len() >= MOST_SERVERS
                && let Some(oldest) = order.pop_front()
            {
                servers.remove(&oldest);
            }
            order.push_back(key);
        }
        let server = servers.entry(key).or_default();
        server.mss = mss.or(server.mss);
        match (cookie, refused) {
            (Some(cookie), _) => server.cookie = Some(cookie),
            (None, Some(experimental)) if server.cookie.is_none() => {
                server.refused = server.refused.max(if experimental { 2 } else { 1 });
            }
            (None, _) => {}
        }
    }

    /// An active connection ended: what its life says of the path (RFC 7413, 4.1.3.1).
    pub(super) fn fast_open_ended(&mut self, now: Instant, verdict: Option<bool>, loopback: bool) {
        match verdict {
            Some(true) => self.fast_open_blackhole(now),
            Some(false) if !loopback => self.fast_open.blackholes = 0,
            Some(false) | None => {}
        }
    }

    fn fast_open_blackhole(&mut self, now: Instant) {
        if self.sysctls.net.tcp_fastopen_blackhole_timeout == 0 {
            return;
        }
        self.fast_open.blackholes = self.fast_open.blackholes.saturating_add(1);
        self.fast_open.last_blackhole = now;
        self.mib.inc(Mib::TcpExtTCPFastOpenBlackhole);
    }

    /// ip-sysctl, tcp_fastopen_blackhole_timeout_sec: "Initial time period in second to disable Fastopen on active TCP sockets ... grows
    /// exponentially"; 64 times as long at most.
    fn fast_open_disabled(&self, now: Instant) -> bool {
        let FastOpenClient { blackholes, last_blackhole, .. } = self.fast_open;
        let first = self.sysctls.net.tcp_fastopen_blackhole_timeout;
        let times = u64::from(first) << blackholes.saturating_sub(1).min(6);
        first > 0 && blackholes > 0 && now - last_blackhole < Duration::from_secs(times)
    }

    /// The sysctl was written: suspicions are forgotten (as Linux).
    pub(super) fn fast_open_trust_again(&mut self) {
        self.fast_open.blackholes = 0;
    }

    // ---- server ----

    /// Cookies need a key: the first listener that wants some makes one, unless somebody has.
    pub(super) fn ensure_fast_open_key(&mut self) {
        if self.sysctls.net.tcp_fastopen_key.is_unset() {
            let (a, b) = (self.rng.next_u64(), self.rng.next_u64());
            let mut primary = [0; 16];
            primary[..8].copy_from_slice(&a.to_le_bytes());
            primary[8..].copy_from_slice(&b.to_le_bytes());
            self.sysctls.net.tcp_fastopen_key = FastOpenKeys { primary, backup: None };
        }
    }

    /// What a SYN with `len` bytes to a listener asks and brings (RFC 7413, 4.2.2).
    pub(super) fn judge_fast_syn(
        &mut self,
        now: Instant,
        listener: SockId,
        flow: &FlowKey,
        syn: &TcpRepr,
        len: usize,
        opts: &SockOpts,
    ) -> FastSyn {
        let cookie = syn.options.fast_open;
        if cookie.is_some_and(|c| c.is_request()) {
            self.mib.inc(Mib::TcpExtTCPFastOpenCookieReqd);
        }
        let mode = self.sysctls.net.tcp_fastopen;
        if mode & bits::SERVER == 0 || (len == 0 && cookie.is_none()) || !self.fast_open_has_room(now, listener) {
            return FastSyn::Ordinary;
        }
        if opts.fastopen_no_cookie || mode & bits::SERVER_NO_COOKIE != 0 {
            return FastSyn::Take(None);
        }
        let Some(cookie) = cookie else { return FastSyn::Ordinary };
        let keys = opts.fastopen_key.as_deref().copied().unwrap_or(self.sysctls.net.tcp_fastopen_key);
        let (client, server) = (flow.remote().ip(), flow.local().ip());
        let form = |c: FastOpenCookie| c.in_experimental_form(cookie.is_experimental());
        let current = form(FastOpenKeys::cookie(&keys.primary, client, server));
        if cookie.is_request() {
            return FastSyn::Grant(current);
        }
        if cookie == current {
            return FastSyn::Take(None);
        }
        if keys.backup.is_some_and(|key| cookie == form(FastOpenKeys::cookie(&key, client, server))) {
            return FastSyn::Take(Some(current));
        }
        // RFC 7413, 4.2.2 (2): "If the cookie is ... invalid, ... SHOULD return a valid cookie" and take the SYN as one without data.
        self.mib.inc(Mib::TcpExtTCPFastOpenPassiveFail);
        FastSyn::Grant(current)
    }

    /// RFC 7413, 4.2.2: "PendingFastOpenRequests" is bounded, or spoofed SYNs with stolen cookies would each make a connection.
    fn fast_open_has_room(&mut self, now: Instant, listener: SockId) -> bool {
        let Some(l) = self.listener_mut(listener) else { return false };
        if l.fast_open_most == 0 {
            return false;
        }
        while l.fast_open_resets.front().is_some_and(|&until| until <= now) {
            l.fast_open_resets.pop_front();
        }
        let full = l.fast_open_pending + l.fast_open_resets.len() as u32 >= l.fast_open_most;
        if full {
            self.mib.inc(Mib::TcpExtTCPFastOpenListenOverflow);
        }
        !full
    }

    /// A Fast Open child finished its handshake, or died before that (`reset`).
    pub(super) fn fast_open_settled(&mut self, now: Instant, listener: SockId, reset: bool) {
        if let Some(l) = self.listener_mut(listener) {
            l.fast_open_pending = l.fast_open_pending.saturating_sub(1);
            if reset {
                l.fast_open_resets.push_back(now + RESET_COUNTS);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "00112233-44556677-8899aabb-ccddeeff";

    #[test]
    fn keys_are_printed_as_they_are_written() {
        let two = format!("{KEY},0000000a-0000000b-0000000c-0000000d");
        for text in [KEY, &two] {
            assert_eq!(FastOpenKeys::parse(text).expect("legal").print(), text);
        }
        assert_eq!(FastOpenKeys::parse("a-b-c-d").expect("short words").print(), "0000000a-0000000b-0000000c-0000000d");
        for bad in
            ["", "a-b-c", "a-b-c-d-e", "a-b-c-x", "a-b-c-d,", "a-b-c-d,a-b-c-d,a-b-c-d", "123456789-b-c-d", "+a-b-c-d"]
        {
            assert_eq!(FastOpenKeys::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_sysctls_words_are_the_options_bytes_in_linuxs_order() {
        let keys = FastOpenKeys::parse(KEY).expect("legal");
        assert_eq!(keys.to_bytes()[..4], [0x33, 0x22, 0x11, 0x00]);
        assert_eq!(FastOpenKeys::from_bytes(&keys.to_bytes()), Some(keys));
        assert_eq!(FastOpenKeys::from_bytes(&[1; 32]).map(|k| k.to_bytes().len()), Some(32));
        assert_eq!(FastOpenKeys::from_bytes(&[1; 17]), None);
    }

    #[test]
    fn a_cookie_belongs_to_a_client_a_server_and_a_key() {
        let (k1, k2) = ([1; 16], [2; 16]);
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let cookie = FastOpenKeys::cookie(&k1, a, b);
        assert_eq!(cookie.as_bytes().len(), 8);
        assert_eq!(cookie, FastOpenKeys::cookie(&k1, a, b));
        assert!([FastOpenKeys::cookie(&k2, a, b), FastOpenKeys::cookie(&k1, b, a)].iter().all(|&c| c != cookie));
    }
}
