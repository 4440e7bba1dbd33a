//! SYN cookies (RFC 4987, 3.6): when the SYN queue is full, the SYN-ACK itself carries what would have been kept.
//!
//! The initial sequence number is 30 bits of a keyed hash over the flow, the peer's ISN and the minute, and the index of an MSS in
//! two bits. The other options ride in the low six bits of our timestamp, where the peer sent one, and come back echoed; without
//! timestamps the connection has none of them.

use super::authentic::Signer;
use super::{Stack, config};
use crate::demux::FlowKey;
use crate::ip::RouteDecision;
use crate::isn;
use crate::socket::opts::SockOpts;
use stackd_base::{Duration, Instant, Mib, SeqNum, SockId};
use stackd_tcp::{Config, Connection, Env, FlowParams, SegmentOut};
use stackd_wire::{EcnCodepoint, TcpFlags, TcpOptions, TcpRepr, Timestamps};

/// What a cookie can say of the peer's MSS: the largest that is not beyond it (as Linux).
const MSS_V4: [u16; 4] = [536, 1300, 1440, 1460];
const MSS_V6: [u16; 4] = [1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60];

/// Bits of the timestamp that carry options.
const OPTION_BITS: u32 = 6;
const OPTION_MASK: u32 = (1 << OPTION_BITS) - 1;
const NO_SCALE: u32 = 0xf;
const SACK_BIT: u32 = 1 << 4;
const ECN_BIT: u32 = 1 << 5;

/// A cookie is good in the minute it was made in and in the next.
const MINUTE: u64 = 60_000_000_000;
/// After the last one sent, cookies are looked for in stray ACKs for that long.
const LASTS: Duration = Duration::from_secs(120);

fn mss_table(v6: bool) -> &'static [u16; 4] {
    if v6 { &MSS_V6 } else { &MSS_V4 }
}

/// RFC 9293, 3.7.1: "If an MSS Option is not received at connection setup, TCP implementations MUST assume a default send MSS of 536
/// (576 - 40) for IPv4 or 1220 (1280 - 60) for IPv6".
fn offered_mss(syn: &TcpRepr, v6: bool) -> u16 {
    syn.options.mss.unwrap_or(if v6 { 1220 } else { 536 })
}

impl Stack {
    fn cookie(&self, flow: &FlowKey, irs: SeqNum, minute: u64, mss_index: u8) -> SeqNum {
        let mut input = [0; 50];
        input[..36].copy_from_slice(&flow.bytes());
        input[36..40].copy_from_slice(&irs.0.to_be_bytes());
        input[40..48].copy_from_slice(&minute.to_be_bytes());
        input[48] = mss_index;
        input[49] = b'c';
        let hash = self.secret.hash_bytes(&input) as u32;
        SeqNum(hash & !3 | u32::from(mss_index))
    }

    /// Whether a SYN is to be answered with a cookie: always, or when the queue is full. Not if the peer takes less than the smallest MSS
    /// that a cookie can say: every segment would exceed it (Linux sends them all the same).
    pub(super) fn wants_cookie(&self, syn_queue_full: bool, least_iss: SeqNum, flow: &FlowKey, syn: &TcpRepr) -> bool {
        let mode = self.sysctls.net.tcp_syncookies;
        let v6 = flow.remote().is_ipv6();
        if offered_mss(syn, v6) < mss_table(v6)[0] {
            return false;
        }
        // An old connection of this flow in TIME_WAIT asks for a sequence number that a cookie cannot have.
        least_iss == SeqNum(0) && (mode == 2 || mode == 1 && syn_queue_full)
    }

    /// Answers a SYN and forgets it.
    pub(super) fn send_cookie(
        &mut self,
        now: Instant,
        listener: SockId,
        flow: &FlowKey,
        (syn, syn_ecn): (&TcpRepr, EcnCodepoint),
        path: &RouteDecision,
        opts: &SockOpts,
    ) {
        let v6 = flow.remote().is_ipv6();
        let offered = offered_mss(syn, v6);
        let index = mss_table(v6).iter().rposition(|&mss| mss <= offered).unwrap_or(0) as u8;
        let iss = self.cookie(flow, syn.seq, now.as_nanos() / MINUTE, index);
        let mut known = *syn;
        known.options.mss = Some(mss_table(v6)[usize::from(index)].min(offered));
        let cfg = self.config_for(opts, path);
        if !self.read(&cfg).timestamps || known.options.timestamps.is_none() {
            known.options = TcpOptions { mss: known.options.mss, ..TcpOptions::NONE };
            // RFC 3168's ECN has nowhere to be remembered; Accurate ECN comes back in the ACE field (RFC 9768, 5.1).
            if !(self.read(&cfg).ecn.accepts_accurate() && known.flags.ae()) {
                known.flags = known.flags.without(TcpFlags::ECE | TcpFlags::CWR);
            }
        }
        let params = self.child_params(listener, opts, flow, path);
        let (_, Some(answer)) = self.revive(&cfg, params, iss, (&known, syn_ecn), now) else { return };
        let mut answer = answer.repr;
        if let Some(ts) = &mut answer.options.timestamps {
            let scale = known.options.window_scale.map_or(NO_SCALE, u32::from);
            let sack = if answer.options.sack_permitted { SACK_BIT } else { 0 };
            let classic = answer.flags.ece() && !answer.flags.cwr() && !answer.flags.ae();
            let ecn = if classic { ECN_BIT } else { 0 };
            let clock = ts.tsval.wrapping_sub(params.ts_offset);
            let mut carrying = clock & !OPTION_MASK | scale | sack | ecn;
            // Our clock must not have been ahead when the connection speaks next (RFC 7323, 5.3).
            if carrying > clock {
                carrying = carrying.wrapping_sub(1 << OPTION_BITS);
            }
            ts.tsval = carrying.wrapping_add(params.ts_offset);
        }
        if let Some(l) = self.listener_mut(listener) {
            l.cookies_until = Some(now + LASTS);
        }
        self.mib.inc(Mib::TcpExtSyncookiesSent);
        self.send_bare(
            now,
            flow,
            &answer,
            opts.ip.tos & !3,
            Signer::Listener(listener, iss, Some(syn.seq), syn.options.ao.map(|a| (a.key_id, a.rnext_key_id))),
        );
    }

    /// The SYN and the ISS that an ACK to a listener answers, if it brings a cookie of ours back.
    pub(super) fn read_cookie(
        &mut self,
        now: Instant,
        listener: SockId,
        flow: &FlowKey,
        seg: &TcpRepr,
    ) -> Option<(TcpRepr, SeqNum)> {
        let ack = seg.ack.filter(|_| !seg.flags.syn() && !seg.flags.rst())?;
        let recent = self.listener_mut(listener)?.cookies_until.is_some_and(|until| now < until);
        if self.sysctls.net.tcp_syncookies == 0 || !recent {
            return None;
        }
        let (iss, irs) = (ack - 1, seg.seq - 1);
        let index = (iss.0 & 3) as u8;
        let minute = now.as_nanos() / MINUTE;
        let ours = [Some(minute), minute.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|minute| self.cookie(flow, irs, minute, index) == iss);
        if !ours {
            self.mib.inc(Mib::TcpExtSyncookiesFailed);
            return None;
        }
        self.mib.inc(Mib::TcpExtSyncookiesRecv);
        let mss = mss_table(flow.remote().is_ipv6())[usize::from(index)];
        let mut options = TcpOptions { mss: Some(mss), ..TcpOptions::NONE };
        let mut flags = TcpFlags::SYN;
        if let Some(t) = seg.options.timestamps {
            let bits = t.tsecr.wrapping_sub(isn::timestamp_offset(&self.secret, flow)) & OPTION_MASK;
            options.timestamps = Some(Timestamps { tsval: t.tsval, tsecr: 0 });
            options.sack_permitted = bits & SACK_BIT != 0;
            options.window_scale = Some(bits & 0xf).filter(|&s| s != NO_SCALE).map(|s| s.min(14) as u8);
            if bits & ECN_BIT != 0 {
                flags = flags | TcpFlags::ECE | TcpFlags::CWR;
            }
        }
        // RFC 9768, 5.1: an ACE field of 0b010 to 0b111 says that Accurate ECN was agreed on. RFC 3168's ACK has none of the three bits set.
        if seg.flags.ae() || seg.flags.cwr() {
            flags = flags | TcpFlags::AE | TcpFlags::ECE | TcpFlags::CWR;
        }
        let (src_port, dst_port) = (seg.src_port, seg.dst_port);
        let syn = TcpRepr { src_port, dst_port, seq: irs, ack: None, flags, window: seg.window, urgent: 0, options };
        Some((syn, iss))
    }

    /// The connection that a cookie stands for, and its SYN-ACK.
    pub(super) fn revive(
        &mut self,
        own: &Option<Box<Config>>,
        params: FlowParams,
        iss: SeqNum,
        (syn, syn_ecn): (&TcpRepr, EcnCodepoint),
        now: Instant,
    ) -> (Connection, Option<SegmentOut>) {
        let Self { sysctls, mib, rng, mem, challenge, .. } = self;
        let cfg = own.as_deref().unwrap_or(&sysctls.tcp);
        let mut env = Env { mib, rng, cfg, mem, challenge };
        Connection::accept_cookie(params, iss, (syn, syn_ecn), now, &mut env)
    }

    pub(super) fn config_for(&self, opts: &SockOpts, path: &RouteDecision) -> Option<Box<Config>> {
        config::resolve(&self.sysctls, opts, Some(&path.options))
    }

    pub(super) fn child_params(
        &self,
        listener: SockId,
        opts: &SockOpts,
        flow: &FlowKey,
        path: &RouteDecision,
    ) -> FlowParams {
        let auth = self.sockets.get(listener).and_then(|s| s.auth.as_deref());
        let traits = self.port_traits(path.port);
        let params = config::flow_params(&self.sysctls, opts, flow, path, traits, &self.secret);
        config::signed(params, super::authentic::overhead(auth, flow.remote().ip()))
    }

    fn read<'a>(&'a self, own: &'a Option<Box<Config>>) -> &'a Config {
        own.as_deref().unwrap_or(&self.sysctls.tcp)
    }
}
