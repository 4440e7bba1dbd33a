//! Accurate ECN (RFC 9768): the receiver counts CE-marked packets and bytes, and every ACK says how many so far.
//!
//! `received_*` is what we count as a data receiver (the RFC's `r.*` less its initial value), `delivered_*` what the peer told us of our
//! own data (`s.*`). The handshake's part is in `ecn_setup.rs`.

use super::Connection;
use crate::cc::CaState;
use crate::config::Config;
use crate::seam::Env;
use serde::{Deserialize, Serialize};
use stackd_base::{Instant, Mib};
use stackd_wire::{AccEcnOption, EcnCodepoint, TcpFlags, TcpRepr};

/// RFC 9768, 3.2.1: "r.cep = 5, r.e0b = r.e1b = 1 and r.ceb = 0": distinct from what a middlebox zeroes.
const CEP_INIT: u32 = 5;
const BYTES_INIT: [u32; 3] = [1, 1, 0];
const BYTES_MASK: u32 = 0xff_ffff;
/// RFC 9768, 3.2.2: three bits of the packet counter fit into the ACE field.
const ACE_MASK: u32 = 7;
/// An ACK is due when so many marks were not reported (3.2.2.5.1: "between 3 and 7 inclusive").
const MOST_UNREPORTED: u32 = 6;
/// RFC 9768, A.2.2: a factor of 2 between what the byte counter proves and what is believed.
const SAFETY_SHIFT: u32 = 1;

/// `tcpi_accecn_fail_mode`.
pub(crate) mod fail {
    /// We may have said (0,0,0) during the handshake, or received it: no ECT from us.
    pub const ACE_SEND: u8 = 1;
    /// The peer's feedback is mangled.
    pub const ACE_RECV: u8 = 2;
    /// Our option did not come through.
    pub const OPT_SEND: u8 = 4;
    /// The peer's is mangled or absent.
    pub const OPT_RECV: u8 = 8;
}

/// `tcpi_accecn_opt_seen`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum OptSeen {
    #[default]
    Not = 0,
    Empty = 1,
    Counter = 2,
    Fail = 3,
}

/// Of a connection that negotiates or uses Accurate ECN.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AccEcn {
    /// Both ends agreed; before that, our SYN asked.
    pub on: bool,
    /// `fail::*`.
    pub fail: u8,
    pub opt_seen: OptSeen,
    /// Segments that must carry the option.
    pub demand: u8,
    /// IP-ECN of the peer's SYN or SYN-ACK, the latest: what ours reflects. Not-ECT = 0, ECT(1) = 1, ECT(0) = 2, CE = 3.
    pub syn_ect: u8,
    /// The next pure ACK answers a SYN-ACK, in the handshake's encoding.
    pub reflect: bool,
    /// The ACE field of the segment in hand was the handshake's: no counter.
    pub spent: bool,
    /// IP-ECN of the last packet.
    last_field: u8,
    /// CE-marked packets received, and of those, not yet reported.
    pub received_ce: u32,
    unreported: u32,
    /// Payload received as ECT(1), ECT(0), CE.
    pub received: [u32; 3],
    /// The peer's reports about our packets.
    pub delivered_ce: u32,
    pub delivered: [u32; 3],
    /// Which of them grew last, if only one did: an ACK without option continues that.
    growing: Option<u8>,
    last_tsval: Option<u32>,
    option_at: Instant,
    /// Counters that the next option must have to tell what changed: ECT(1) comes first, CE second, ECT(0) third.
    least: u8,
    /// An option left together with the report of this duplicate.
    with_dsack: Option<u64>,
}

/// What of AccECN `TCP_INFO` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct AccEcnInfo {
    /// `TCPI_ECN_MODE_*`: 0 disabled, 1 RFC 3168, 2 AccECN, 3 pending.
    pub mode: u8,
    pub opt_seen: u8,
    pub fail_mode: u8,
    pub received_ce: u32,
    /// ECT(1), ECT(0), CE.
    pub delivered_bytes: [u32; 3],
    /// Likewise.
    pub received_bytes: [u32; 3],
}

/// The three flags as one number.
pub(crate) fn ace_of(flags: TcpFlags) -> u8 {
    u8::from(flags.ae()) << 2 | u8::from(flags.cwr()) << 1 | u8::from(flags.ece())
}

/// And back.
pub(crate) fn ace_flags(ace: u8) -> TcpFlags {
    let bit = |on: u8, flag| if ace & on != 0 { flag } else { TcpFlags::NONE };
    bit(4, TcpFlags::AE) | bit(2, TcpFlags::CWR) | bit(1, TcpFlags::ECE)
}

/// RFC 9768, tables 2 and 3: the flags that say how the SYN or SYN-ACK arrived.
pub(crate) fn handshake_ace(ect: u8) -> u8 {
    [0b010, 0b011, 0b100, 0b110][usize::from(ect & 3)]
}

impl AccEcn {
    /// Agreed on by the server, whose SYN arrived as `ip`.
    pub fn agreed(ip: EcnCodepoint) -> Self {
        Self { on: true, syn_ect: ip as u8, ..Self::default() }
    }

    /// 24 bits of a counter as they stand in an option.
    fn field(&self, i: usize) -> u32 {
        self.received[i].wrapping_add(BYTES_INIT[i]) & BYTES_MASK
    }

    /// An acceptable packet of `segments` segments arrived. True: an ACK must say so at once.
    fn count(&mut self, ip: EcnCodepoint, segments: u32, len: u32) -> bool {
        let field = ip as u8;
        let ce = ip == EcnCodepoint::Ce;
        if ce {
            // RFC 9768, 3.2: "MUST increment the CE packet counter (r.cep), for every Acceptable packet", control packets too.
            self.received_ce = self.received_ce.wrapping_add(segments);
            self.unreported = self.unreported.saturating_add(segments);
        }
        if field != 0 && len > 0 {
            self.least = self.least.max([1, 3, 2][usize::from(field) - 1]);
            let counter = &mut self.received[usize::from(field) - 1];
            let before = *counter;
            *counter = counter.wrapping_add(len);
            // 3.2.3.3: often enough that the peer sees no wrap of 24 bits: every 2^22 bytes.
            if (*counter ^ before) >> 22 != 0 {
                self.demand = self.demand.max(1);
            }
        }
        let edge = field != self.last_field;
        self.last_field = field;
        if edge || ce {
            // 3.2.3.3: two, so that the second one says without doubt what the last packet carried.
            self.demand = 2;
        }
        // 3.2.2.5.1, change-triggered ACKs, and increment-triggered ones.
        edge || self.unreported >= MOST_UNREPORTED
    }

    /// Takes the peer's option in. Whether its deltas can be trusted, and how many CE bytes it adds.
    fn take_option(&mut self, o: Option<&AccEcnOption>, bytes: u32, sent: u64) -> Option<u32> {
        if self.fail & fail::OPT_RECV != 0 {
            return None;
        }
        let Some(o) = o else {
            // 3.2.3.2.4: counters may have wrapped before a first option came this late.
            if self.opt_seen == OptSeen::Not && sent >= (1 << 23) - 1 {
                self.saw(OptSeen::Fail);
            }
            let i = self.growing?;
            let counter = &mut self.delivered[usize::from(i)];
            *counter = counter.wrapping_add(bytes);
            return Some(if i == 2 { bytes } else { 0 });
        };
        if self.opt_seen < OptSeen::Counter {
            self.saw(first_look(o));
            if self.opt_seen == OptSeen::Fail {
                return None;
            }
        }
        let before = self.delivered[2];
        let was = self.growing;
        let (mut grew, mut valid) = (None, true);
        for (slot, &value) in o.counters[..usize::from(o.count.min(3))].iter().enumerate() {
            // Table 5: order 0 is EE0B, ECEB, EE1B; order 1 EE1B, ECEB, EE0B.
            let i = match (slot, o.order1) {
                (1, _) => 2,
                (0, true) | (2, false) => 0,
                _ => 1,
            };
            let truncated = value.wrapping_sub(BYTES_INIT[i]) & BYTES_MASK;
            let delta = ((truncated.wrapping_sub(self.delivered[i]) << 8) as i32) >> 8;
            self.delivered[i] = self.delivered[i].wrapping_add(delta as u32);
            if delta != 0 {
                valid &= delta > 0 && grew.is_none();
                grew = Some(i as u8);
            }
        }
        self.growing = if valid { grew.or(was) } else { None };
        // A report of several growing counters is right; only what follows from it for ACKs without option is not.
        (o.count >= 2 && self.delivered[2].wrapping_sub(before) <= BYTES_MASK / 2)
            .then(|| self.delivered[2].wrapping_sub(before))
    }

    /// 3.2.3.2.1: not to a peer that sent none with its half of the handshake; nor where ours seem to be dropped, unless told to persist.
    fn may_send_option(&self, cfg: &Config) -> bool {
        cfg.ecn_option > 0 && self.opt_seen != OptSeen::Not && (self.fail & fail::OPT_SEND == 0 || cfg.ecn_option >= 3)
    }

    pub(crate) fn saw(&mut self, seen: OptSeen) {
        self.opt_seen = seen;
        if seen == OptSeen::Fail {
            self.fail |= fail::OPT_RECV;
        }
    }
}

/// RFC 9768, 3.2.3.2.4: "MAY check that the initial value of the EE0B field or the EE1B field is non-zero".
pub(crate) fn first_look(o: &AccEcnOption) -> OptSeen {
    match o.count {
        0 => OptSeen::Empty,
        _ if o.counters[0] == 0 || o.count >= 3 && o.counters[2] == 0 => OptSeen::Fail,
        _ => OptSeen::Counter,
    }
}

impl Connection {
    /// Accurate ECN is in use.
    pub(crate) fn accurate(&self) -> Option<&AccEcn> {
        self.accecn.as_deref().filter(|a| a.on)
    }

    pub(crate) fn accurate_mut(&mut self) -> Option<&mut AccEcn> {
        self.accecn.as_deref_mut().filter(|a| a.on)
    }

    /// ECN field of a packet, with new data or without. RFC 3168, 6.1.4 and 6.1.5: pure ACKs and retransmissions go without; with
    /// Accurate ECN, whose counters notice marks of any packet, Linux sends all as ECT (RFC 9768, 3.2.2.5, and draft-ietf-tcpm-generalized-ecn).
    pub(crate) fn packet_ecn(&self, is_new_data: bool) -> EcnCodepoint {
        // 3.1.5, 3.2.2.1 note 1, 3.2.2.3: no ECT where the handshake showed that feedback or marks are not to be trusted.
        let may = match self.accurate() {
            Some(a) => a.fail & (fail::ACE_SEND | fail::ACE_RECV) == 0,
            None => self.opts.ecn && is_new_data,
        };
        if may { EcnCodepoint::Ect0 } else { EcnCodepoint::NotEct }
    }

    /// Bytes that the option takes of every segment: those with data have room for it then.
    pub(crate) fn accecn_room(&self, cfg: &Config) -> u32 {
        let regular = cfg.ecn_option >= 2 && self.accurate().is_some_and(|a| a.may_send_option(cfg));
        if regular { 12 } else { 0 }
    }

    /// `start` of a segment that was received before. When the ACK that said so carried an option and the segment comes yet again, ACKs with
    /// options may be what is lost (3.2.3.2.2, "if a TCP ... suspects that AccECN Options are being dropped").
    pub(crate) fn accecn_duplicate(&mut self, start: u64) {
        if let Some(a) = self.accurate_mut()
            && a.with_dsack.take() == Some(start)
        {
            a.fail |= fail::OPT_SEND;
        }
    }

    /// Flags of a segment after the SYNs, and what they report is reported.
    pub(crate) fn ecn_flags(&mut self, pure_ack: bool) -> TcpFlags {
        let Some(a) = self.accurate_mut() else {
            // RFC 3168, 6.1.3: ECE on every ACK until CWR arrives.
            return if self.opts.ecn && self.demand_cwr { TcpFlags::ECE } else { TcpFlags::NONE };
        };
        if pure_ack && core::mem::take(&mut a.reflect) {
            // RFC 9768, 3.2.2.1: the ACK of a SYN-ACK says how that arrived.
            return ace_flags(handshake_ace(a.syn_ect));
        }
        a.unreported = 0;
        ace_flags((a.received_ce.wrapping_add(CEP_INIT) & ACE_MASK) as u8)
    }

    /// A device that segments sets CWR on the first segment alone (RFC 3168); here it is a bit of a number.
    pub(crate) fn ace_forbids_gso(&self) -> bool {
        self.accurate().is_some_and(|a| a.received_ce.wrapping_add(CEP_INIT) & 2 != 0)
    }

    /// The option must leave on a segment of its own: data has no room for it.
    pub(crate) fn accecn_wants_ack(&self, cfg: &Config) -> bool {
        self.accurate().is_some_and(|a| a.reflect || cfg.ecn_option == 1 && a.demand > 0 && a.opt_seen != OptSeen::Not)
    }

    /// The option of a segment that has `room` bytes for options and wants to report `sacks` blocks, and how many of those it leaves room for
    /// (RFC 9768, 3.2.3.3: "counters that have changed" are what it must have). `dsack`: where the duplicate begins that is reported too.
    pub(crate) fn accecn_option(
        &mut self,
        now: Instant,
        room: u32,
        sacks: usize,
        dsack: Option<u64>,
        cfg: &Config,
    ) -> (Option<AccEcnOption>, usize) {
        let srtt = self.rtt.srtt();
        let Some(a) = self.accurate_mut() else { return (None, sacks) };
        if !a.may_send_option(cfg) {
            return (None, sacks);
        }
        // "at least three times per RTT" by default.
        let beacon = cfg.ecn_option_beacon > 0
            && srtt.is_none_or(|s| (now - a.option_at).as_nanos() * u64::from(cfg.ecn_option_beacon) >= s.as_nanos());
        if cfg.ecn_option < 2 && a.demand == 0 && !beacon {
            return (None, sacks);
        }
        let Some((count, sacks)) = fit(room, sacks, a.least) else { return (None, sacks) };
        a.demand = a.demand.saturating_sub(1);
        a.option_at = now;
        a.least = 0;
        a.with_dsack = dsack;
        // Always in this order, as Linux: ECT(1) is what senders of the future mark with.
        let mut counters = [a.field(0), a.field(2), a.field(1)];
        counters[usize::from(count)..].fill(0);
        (Some(AccEcnOption { order1: true, count, counters }), sacks)
    }

    /// The data receiver's part: counts what arrived (RFC 9768, 3.2; RFC 3168, 6.1.3).
    pub(crate) fn take_ecn(&mut self, seg: &TcpRepr, len: u32, ip: EcnCodepoint) {
        self.stats.ecn_seen |= ip != EcnCodepoint::NotEct;
        // A frame that several segments were joined to is longer than one can be.
        let joined = len > u32::from(self.advmss);
        let segments = if joined { len.div_ceil(self.ack.rcv_mss.max(1)) } else { 1 };
        if let Some(a) = self.accurate_mut() {
            if !seg.flags.syn() && a.count(ip, segments, len) && (len > 0 || a.unreported >= MOST_UNREPORTED) {
                self.ack.now = true;
                self.ack.pending = true;
            }
            return;
        }
        if !self.opts.ecn {
            return;
        }
        if seg.flags.contains(TcpFlags::CWR) {
            self.demand_cwr = false;
        }
        if ip == EcnCodepoint::Ce && len > 0 {
            if !self.demand_cwr {
                self.ack.now = true;
                self.ack.pending = true;
            }
            self.demand_cwr = true;
        }
    }

    /// The data sender's part: how many packets the peer reports as marked since the last report, of `packets` newly delivered ones
    /// (RFC 9768, 3.2.2.2 and A.2). An ACK that was overtaken says nothing new: `progress` is false then.
    pub(crate) fn take_ace(&mut self, seg: &TcpRepr, packets: u32, progress: bool, env: &mut Env<'_>) -> u32 {
        let (mss, sent) = (self.mss, self.stats.bytes_sent);
        let sack = self.opts.sack;
        let calm = matches!(self.ca_state, CaState::Open | CaState::Cwr);
        let classic = self.opts.ecn && seg.flags.ece() && !seg.flags.syn();
        let Some(a) = self.accurate_mut() else {
            return if classic { self.count_delivered_ce(packets, env) } else { 0 };
        };
        let tsval = seg.options.timestamps.map(|t| t.tsval);
        let newer = tsval.is_some_and(|t| a.last_tsval.is_none_or(|old| (t.wrapping_sub(old) as i32) > 0));
        if newer {
            a.last_tsval = tsval;
        }
        // As Linux: what acknowledges nothing new counts when its timestamp is newer than any before.
        if core::mem::take(&mut a.spent) || seg.flags.syn() || !(progress || newer) {
            return 0;
        }
        let bytes = packets.saturating_mul(mss);
        let ceb = a.take_option(seg.options.accecn.as_ref(), bytes, sent);
        // 3.2.2.4: nor is feedback believed that began with zero.
        if a.fail & fail::ACE_RECV != 0 {
            return 0;
        }
        let ace = u32::from(ace_of(seg.flags)).wrapping_sub(CEP_INIT);
        let delta = ace.wrapping_sub(a.delivered_ce) & ACE_MASK;
        let marked = believed(delta, packets, bytes, ceb.filter(|_| sack || calm), mss);
        a.delivered_ce = a.delivered_ce.wrapping_add(marked);
        self.count_delivered_ce(marked, env)
    }

    /// RFC 3168's echo stands for all that it acknowledges (as Linux counts it).
    fn count_delivered_ce(&mut self, packets: u32, env: &mut Env<'_>) -> u32 {
        self.rate.on_ce(packets);
        env.mib.add(Mib::TcpExtTCPDeliveredCE, u64::from(packets));
        packets
    }

    /// What `TCP_INFO` shows of it.
    pub(crate) fn accecn_info(&self) -> AccEcnInfo {
        let Some(a) = self.accecn.as_deref() else {
            return AccEcnInfo { mode: u8::from(self.opts.ecn), ..AccEcnInfo::default() };
        };
        AccEcnInfo {
            mode: if a.on { 2 } else { 3 },
            opt_seen: a.opt_seen as u8,
            fail_mode: a.fail,
            received_ce: a.received_ce,
            delivered_bytes: a.delivered,
            received_bytes: a.received,
        }
    }
}

/// How many counters fit beside how many of `sacks` SACK blocks. A counter that must be reported may cost blocks, as long as two are left;
/// if that is not enough, the blocks are worth more. An option of five or two bytes stands in the padding before the blocks.
fn fit(room: u32, sacks: usize, least: u8) -> Option<(u8, usize)> {
    let least_blocks = if least > 0 { sacks.min(2) } else { sacks };
    (least_blocks..=sacks).rev().find_map(|blocks| {
        let left = room.checked_sub(if blocks > 0 { 4 + 8 * blocks as u32 } else { 0 })?;
        let cost = |n: u8| {
            let len = 2 + 3 * u32::from(n);
            if blocks > 0 && len % 4 <= 2 { len - len % 4 } else { len.next_multiple_of(4) }
        };
        (least..=3).rev().find(|&n| cost(n) <= left).map(|n| (n, blocks))
    })
}

/// RFC 9768, A.2: the ACE field may have wrapped within a large ACK. `delta` is the least increase; the most that is consistent with the
/// field is assumed, unless the byte counter proves less.
fn believed(delta: u32, packets: u32, bytes: u32, ceb: Option<u32>, mss: u32) -> u32 {
    if packets <= ACE_MASK {
        return delta;
    }
    let safe = packets - (packets.wrapping_sub(delta) & ACE_MASK);
    let Some(ceb) = ceb else { return safe };
    if ceb == 0 {
        return delta;
    }
    if packets >= 2 * (ACE_MASK + 1) {
        if bytes <= ceb {
            return safe;
        }
        let estimate = (u64::from(ceb) * u64::from(packets)).div_ceil(u64::from(bytes.max(1))) as u32;
        return safe.min(delta + (estimate & !ACE_MASK));
    }
    if u64::from(ceb) > u64::from(delta) * u64::from(mss) {
        return safe;
    }
    if u64::from(ceb) < (u64::from(safe) * u64::from(mss)) >> SAFETY_SHIFT { delta } else { safe }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9768, A.2.1: "s.cep = 8 ... ACE 0 and 7": the least increase, while fewer packets than the field can count were acknowledged.
    #[test]
    fn a_small_ack_is_read_as_it_stands_and_a_large_one_at_its_worst() {
        assert_eq!(believed(2, 7, 7000, None, 1000), 2);
        assert_eq!(believed(2, 9, 9000, None, 1000), 2, "9 packets: 10 would be one too many");
        assert_eq!(believed(2, 10, 10_000, None, 1000), 10);
        assert_eq!(believed(0, 16, 16_000, None, 1000), 16);
    }

    #[test]
    fn the_byte_counter_decides_where_the_field_is_ambiguous() {
        assert_eq!(believed(2, 12, 12_000, Some(0), 1000), 2);
        assert_eq!(believed(2, 12, 12_000, Some(2000), 1000), 2);
        assert_eq!(believed(2, 12, 12_000, Some(10_000), 1000), 10);
        assert_eq!(believed(2, 40, 40_000, Some(18_000), 1000), 18);
        assert_eq!(believed(2, 40, 40_000, Some(40_000), 1000), 34);
    }

    #[test]
    fn a_counter_of_24_bits_wraps_and_goes_back_a_little() {
        let mut a = AccEcn { on: true, opt_seen: OptSeen::Counter, ..AccEcn::default() };
        let option = |e0: u32| AccEcnOption { order1: false, count: 3, counters: [e0 & BYTES_MASK, 0, 1] };
        a.take_option(Some(&option(0xff_ffff)), 0, 0);
        assert_eq!(a.delivered[1], (-2i32) as u32, "less than half a turn forward, or backward");
        let mut a = AccEcn { on: true, opt_seen: OptSeen::Counter, ..AccEcn::default() };
        for bytes in [0x70_0000u32, 0xe0_0000, 0x150_0000] {
            a.take_option(Some(&option(bytes + 1)), 0, 0);
            assert_eq!(a.delivered[1], bytes);
        }
        a.take_option(Some(&option(0x14f_0001)), 0, 0);
        assert_eq!(a.delivered[1], 0x14f_0000, "an estimate was too high");
    }
}
