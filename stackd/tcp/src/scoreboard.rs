//! What was sent and is not yet cumulatively acknowledged, and what is known of it (RFC 2018, RFC 6675's scoreboard).
//!
//! Keyed by sequence position in a B-tree: an ACK, a SACK block, a split or a loss mark costs O(log n) however much is in flight.
//! Neighbouring sacked ranges merge, so a block that merely grows touches two entries. A second queue holds
//! transmissions in the order they left; RACK reads it from the front and never twice.

use crate::connection::check::ensure;
use crate::rate::{RateEstimator, TxRateState};
use serde::{Deserialize, Serialize};
use stackd_base::Instant;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One transmission, or a run of sacked ones. Positions are sequence space as `u64`, SYN = 0.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct TxSegment {
    /// One after the last position.
    pub end: u64,
    /// MSS packets in it.
    pub packets: u32,
    /// Bytes of each packet.
    pub mss: u32,
    /// Bytes of the first packet that are not part of it any more: acknowledged, or cut off.
    pub gone: u32,
    /// When it left last.
    pub sent_at: Instant,
    /// Number of that transmission.
    pub xmit: u64,
    /// Delivery state at that moment.
    pub rate: TxRateState,
    /// The peer has it.
    pub sacked: bool,
    /// Deemed lost.
    pub lost: bool,
    /// A retransmission of it is in flight.
    pub retrans: bool,
    /// Was retransmitted at some time (Karn).
    pub ever_retrans: bool,
    /// Its last packet says PSH, whenever it is sent again.
    pub psh: bool,
}

impl TxSegment {
    /// The last boundary of packets of this entry, which begins at `start`, that is not after `at`.
    fn whole_packets(&self, start: u64, at: u64) -> u64 {
        at.saturating_sub(self.phase(start, at)).max(start)
    }

    /// How far into its packet `at` lies.
    fn phase(&self, start: u64, at: u64) -> u64 {
        (at - start + u64::from(self.gone)) % u64::from(self.mss.max(1))
    }

    /// Packets that its bytes are.
    fn packets_of_bytes(&self, start: u64) -> u32 {
        packets_of(self.end - start + u64::from(self.gone), self.mss)
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Sent {
    xmit: u64,
    start: u64,
    end: u64,
    sent_at: Instant,
}

/// What leaves again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Resent {
    pub end: u64,
    pub packets: u32,
    /// The last of them says PSH.
    pub psh: bool,
}

/// What one ACK newly acknowledged.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct AckOutcome {
    /// Packets cumulatively acknowledged, sacked before or not.
    pub acked: u32,
    /// Of those, sacked before.
    pub acked_sacked_before: u32,
    /// Packets newly sacked.
    pub sacked: u32,
    /// When the oldest never-retransmitted packet that it cumulatively acknowledges left.
    pub first_acked_at: Option<Instant>,
    /// When the newest such packet left.
    pub last_acked_at: Option<Instant>,
    /// The same for newly sacked ones.
    pub first_sacked_at: Option<Instant>,
    /// The newest of them.
    pub last_sacked_at: Option<Instant>,
    /// Newest of all newly delivered: RACK's candidate.
    pub newest: Option<Newest>,
    /// Some packet acked had been retransmitted.
    pub retrans_acked: bool,
    /// A never-retransmitted packet below F-RTO's point was (s)acked.
    pub orig_delivered_below: Option<u64>,
    /// Lowest position newly delivered that was never retransmitted (reordering when below what was already sacked).
    pub lowest_orig: Option<u64>,
}

/// The most recently sent packet that an ACK delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newest {
    pub sent_at: Instant,
    /// Its place in the order of transmissions.
    pub order: XmitOrder,
    pub ever_retrans: bool,
}

/// Order in which packets left: by transmission, and by sequence within a GSO segment. RFC 8985, 6.1 orders by time and breaks ties by
/// sequence; on a coarse clock a retransmission and new data of one tick would then be in the wrong order, and the
/// retransmission be deemed lost as soon as the new data is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct XmitOrder {
    xmit: u64,
    end: u64,
}

impl AckOutcome {
    fn deliver(&mut self, start: u64, seg: &TxSegment, by_sack: bool, rate: &mut RateEstimator) {
        rate.on_delivered(&seg.rate, seg.sent_at, seg.end, seg.packets, seg.ever_retrans);
        if by_sack {
            self.sacked += seg.packets;
        }
        if seg.ever_retrans {
            self.retrans_acked = true;
        } else {
            self.lowest_orig = Some(self.lowest_orig.map_or(start, |l| l.min(start)));
            self.orig_delivered_below = Some(self.orig_delivered_below.map_or(seg.end, |l| l.min(seg.end)));
            if by_sack {
                self.first_sacked_at = Some(self.first_sacked_at.map_or(seg.sent_at, |t| t.min(seg.sent_at)));
                self.last_sacked_at = self.last_sacked_at.max(Some(seg.sent_at));
            } else {
                self.first_acked_at.get_or_insert(seg.sent_at);
                self.last_acked_at = Some(seg.sent_at);
            }
        }
        let order = XmitOrder { xmit: seg.xmit, end: seg.end };
        if self.newest.is_none_or(|n| order > n.order) {
            self.newest = Some(Newest { sent_at: seg.sent_at, order, ever_retrans: seg.ever_retrans });
        }
    }
}

/// The retransmission queue.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Scoreboard {
    segs: BTreeMap<u64, TxSegment>,
    order: VecDeque<Sent>,
    to_resend: BTreeSet<u64>,
    next_xmit: u64,
    packets_out: u32,
    sacked_out: u32,
    lost_out: u32,
    retrans_out: u32,
    lost_total: u64,
    /// End of the highest sacked range.
    highest_sacked: u64,
}

const fn packets_of(len: u64, mss: u32) -> u32 {
    let n = len.div_ceil(if mss == 0 { 1 } else { mss as u64 });
    if n == 0 { 1 } else { n as u32 }
}

impl Scoreboard {
    /// Packets sent and not cumulatively acknowledged.
    pub fn packets_out(&self) -> u32 {
        self.packets_out
    }
    /// Of those, sacked.
    pub fn sacked_out(&self) -> u32 {
        self.sacked_out
    }
    /// Of those, deemed lost.
    pub fn lost_out(&self) -> u32 {
        self.lost_out
    }
    /// Retransmissions in flight.
    pub fn retrans_out(&self) -> u32 {
        self.retrans_out
    }
    /// Packets ever marked lost.
    pub fn lost_total(&self) -> u64 {
        self.lost_total
    }
    /// RFC 6675's pipe as Linux counts it.
    pub fn in_flight(&self) -> u32 {
        (self.packets_out + self.retrans_out).saturating_sub(self.sacked_out + self.lost_out)
    }
    /// Nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.segs.is_empty()
    }
    /// End of the highest range the peer sacked; 0 before any.
    pub fn highest_sacked(&self) -> u64 {
        self.highest_sacked
    }
    /// The oldest transmission.
    pub fn head(&self) -> Option<(u64, &TxSegment)> {
        self.segs.first_key_value().map(|(&s, t)| (s, t))
    }
    /// Nothing is outstanding, or what left in one piece.
    pub fn at_most_one_segment(&self) -> bool {
        self.segs.len() <= 1
    }
    /// The last one.
    pub fn tail(&self) -> Option<(u64, &TxSegment)> {
        self.segs.last_key_value().map(|(&s, t)| (s, t))
    }

    /// `start..end` leaves for the first time.
    pub fn push(&mut self, start: u64, end: u64, mss: u32, sent_at: Instant, rate: TxRateState) -> &mut TxSegment {
        let packets = packets_of(end - start, mss);
        let xmit = self.stamp(start, end, sent_at);
        self.packets_out += packets;
        let seg = TxSegment {
            end,
            packets,
            mss,
            gone: 0,
            sent_at,
            xmit,
            rate,
            sacked: false,
            lost: false,
            retrans: false,
            ever_retrans: false,
            psh: false,
        };
        self.segs.entry(start).insert_entry(seg).into_mut()
    }

    /// As [`push`](Self::push), for bytes that left at another time: their acknowledgment says nothing about the path's RTT.
    pub fn push_old(&mut self, start: u64, end: u64, mss: u32, at: Instant, rate: TxRateState) {
        self.push(start, end, mss, at, rate).ever_retrans = true;
    }

    fn stamp(&mut self, start: u64, end: u64, sent_at: Instant) -> u64 {
        let xmit = self.next_xmit;
        self.next_xmit += 1;
        self.order.push_back(Sent { xmit, start, end, sent_at });
        xmit
    }

    /// Makes `at` a boundary between two entries.
    fn split(&mut self, at: u64) {
        let Some((&start, seg)) = self.segs.range_mut(..at).next_back() else { return };
        if seg.end <= at {
            return;
        }
        let mut right = *seg;
        let before = seg.packets;
        right.gone = seg.phase(start, at) as u32;
        seg.end = at;
        seg.psh = false;
        // A packet cut in two is two.
        seg.packets = seg.packets_of_bytes(start);
        right.packets = right.packets_of_bytes(at);
        if seg.sacked {
            // A run knows only the sum of its packets.
            seg.packets = if before == 1 { 1 } else { seg.packets.min(before - 1) };
            right.packets = (before - seg.packets).max(1);
        }
        let more = seg.packets + right.packets - before;
        self.packets_out += more;
        if right.sacked {
            self.sacked_out += more;
        }
        if right.lost {
            self.lost_out += more;
        }
        if right.retrans {
            self.retrans_out += more;
        }
        if self.to_resend.contains(&start) {
            self.to_resend.insert(at);
        }
        self.segs.insert(at, right);
    }

    /// Forgets everything below `una`.
    pub fn ack_to(&mut self, una: u64, out: &mut AckOutcome, rate: &mut RateEstimator) {
        // The entry that `una` lies in need not be the first one.
        if let Some((&start, seg)) = self.segs.range(..una).next_back()
            && una < seg.end
        {
            let at = seg.whole_packets(start, una);
            self.split(at);
        }
        while let Some(entry) = self.segs.first_entry() {
            if entry.get().end > una {
                break;
            }
            let (start, seg) = entry.remove_entry();
            self.uncount(start, &seg);
            self.packets_out -= seg.packets;
            out.acked += seg.packets;
            if seg.sacked {
                self.sacked_out -= seg.packets;
                out.acked_sacked_before += seg.packets;
            } else {
                out.deliver(start, &seg, false, rate);
            }
        }
        self.trim_head(una);
        // Loss detection takes these out; without SACK it never looks.
        while self.order.front().is_some_and(|s| s.end <= una) {
            self.order.pop_front();
        }
        if self.segs.is_empty() {
            // An idle connection holds no memory for what it might send: even an empty tree keeps a node of a kilobyte.
            self.segs = BTreeMap::new();
            self.order = VecDeque::new();
        }
    }

    /// Part of a packet is acknowledged: the rest is still that one packet (RFC 3465, 4.2: whoever acknowledges single bytes must not
    /// be paid for packets).
    fn trim_head(&mut self, una: u64) {
        let Some(entry) = self.segs.first_entry() else { return };
        if *entry.key() >= una {
            return;
        }
        let (start, mut seg) = entry.remove_entry();
        seg.gone = seg.phase(start, una) as u32;
        if self.to_resend.remove(&start) {
            self.to_resend.insert(una);
        }
        self.segs.insert(una, seg);
    }

    /// Takes loss and retransmission marks of `seg` out of the counts.
    fn uncount(&mut self, start: u64, seg: &TxSegment) {
        if seg.lost {
            self.lost_out -= seg.packets;
            self.to_resend.remove(&start);
        }
        if seg.retrans {
            self.retrans_out -= seg.packets;
        }
    }

    /// The peer reports `left..right` received. Both lie within what is outstanding.
    pub fn sack(&mut self, left: u64, right: u64, out: &mut AckOutcome, rate: &mut RateEstimator) {
        let (left, right) = (self.whole_packets_after(left), self.whole_packets_before(right));
        if left >= right {
            return;
        }
        self.split(left);
        self.split(right);
        let mut at = left;
        while let Some((&start, &seg)) = self.segs.range(at..right).next() {
            at = seg.end;
            if seg.sacked {
                continue;
            }
            out.deliver(start, &seg, true, rate);
            self.uncount(start, &seg);
            self.sacked_out += seg.packets;
            if let Some(s) = self.segs.get_mut(&start) {
                s.sacked = true;
                s.lost = false;
                s.retrans = false;
            }
            self.merge_sacked(start);
        }
        self.highest_sacked = self.highest_sacked.max(right);
    }

    /// `at`, or the next boundary of packets after it: of what is SACKed already, its end. A peer that SACKs parts of packets, or parts of
    /// what it has SACKed, must not make us keep an entry for each.
    fn whole_packets_after(&self, at: u64) -> u64 {
        match self.segs.range(..=at).next_back() {
            Some((_, seg)) if at < seg.end && seg.sacked => seg.end,
            Some((&start, seg)) if at < seg.end => {
                let below = seg.whole_packets(start, at);
                if below == at { at } else { (at - seg.phase(start, at) + u64::from(seg.mss.max(1))).min(seg.end) }
            }
            _ => at,
        }
    }

    /// `at`, or the last boundary of packets before it: of what is SACKed already, its beginning.
    fn whole_packets_before(&self, at: u64) -> u64 {
        match self.segs.range(..at).next_back() {
            Some((&start, seg)) if at < seg.end && seg.sacked => start,
            Some((&start, seg)) if at < seg.end => seg.whole_packets(start, at),
            _ => at,
        }
    }

    /// Joins the sacked entry at `start` with sacked neighbours.
    fn merge_sacked(&mut self, mut start: u64) {
        if let Some((&p, prev)) = self.segs.range(..start).next_back()
            && prev.sacked
            && prev.end == start
        {
            if let Some(seg) = self.segs.remove(&start)
                && let Some(prev) = self.segs.get_mut(&p)
            {
                prev.end = seg.end;
                prev.packets += seg.packets;
            }
            start = p;
        }
        let Some(end) = self.segs.get(&start).map(|s| s.end) else { return };
        if self.segs.get(&end).is_some_and(|n| n.sacked)
            && let Some(next) = self.segs.remove(&end)
            && let Some(seg) = self.segs.get_mut(&start)
        {
            seg.end = next.end;
            seg.packets += next.packets;
        }
    }

    /// RFC 8985, 6.2 step 5: marks lost what left before `newest` and whose time is up at `deadline(sent_at) <= now`. Returns packets
    /// newly marked, how many of them were retransmissions, and whether something is left to judge later.
    pub fn rack_detect(&mut self, newest: XmitOrder, expired: impl Fn(Instant) -> bool) -> RackOutcome {
        let mut out = RackOutcome::default();
        while let Some(&Sent { xmit, start, end, sent_at }) = self.order.front() {
            let mut judged = true;
            for (&s, seg) in self.segs.range_mut(start..end) {
                if seg.xmit != xmit || seg.sacked || (seg.lost && !seg.retrans) {
                    continue;
                }
                if (XmitOrder { xmit, end: seg.end }) >= newest {
                    judged = false;
                    break;
                }
                if !expired(sent_at) {
                    out.waiting = Some(sent_at);
                    judged = false;
                    break;
                }
                if seg.retrans {
                    seg.retrans = false;
                    self.retrans_out -= seg.packets;
                    out.retrans_lost += seg.packets;
                }
                if !seg.lost {
                    seg.lost = true;
                    self.lost_out += seg.packets;
                }
                self.to_resend.insert(s);
                out.lost += seg.packets;
            }
            if !judged {
                break;
            }
            self.order.pop_front();
        }
        self.lost_total += u64::from(out.lost);
        out
    }

    /// Marks the first `packets` packets that are neither sacked nor lost (RFC 6582 for peers without SACK).
    pub fn mark_head_lost(&mut self) -> u32 {
        let Some((start, seg)) = self.head() else { return 0 };
        if seg.sacked || seg.lost {
            return 0;
        }
        let cut = start + u64::from(seg.mss - seg.gone);
        self.split(cut);
        let Some(seg) = self.segs.get_mut(&start) else { return 0 };
        seg.lost = true;
        let n = seg.packets;
        // As Linux: what was resent and did not count as lost (a probe, or undone since) is resent again.
        if core::mem::take(&mut seg.retrans) {
            self.retrans_out -= n;
        }
        self.lost_out += n;
        self.lost_total += u64::from(n);
        self.to_resend.insert(start);
        self.limit_reno_sacked();
        n
    }

    /// After a timeout all that is not sacked is lost (RFC 6298 with SACK as in RFC 6675, 5.1). `forget_sacks` when the peer reneged.
    /// Returns packets newly marked.
    pub fn mark_all_lost(&mut self, forget_sacks: bool) -> u32 {
        let mut newly = 0;
        for (&start, seg) in &mut self.segs {
            if forget_sacks && core::mem::take(&mut seg.sacked) {
                // A run knows only the sum of its packets; what will be resent is cut by its bytes.
                let packets = seg.packets_of_bytes(start);
                self.packets_out = self.packets_out - seg.packets + packets;
                seg.packets = packets;
            }
            seg.retrans = false;
            if seg.sacked {
                continue;
            }
            if !seg.lost {
                seg.lost = true;
                newly += seg.packets;
                self.lost_out += seg.packets;
            }
            self.to_resend.insert(start);
        }
        if forget_sacks {
            self.sacked_out = 0;
            self.highest_sacked = 0;
        }
        self.limit_reno_sacked();
        self.retrans_out = 0;
        self.order.clear();
        self.lost_total += u64::from(newly);
        newly
    }

    /// After a timeout the oldest packet is lost, and of the others what `is_young` does not still wait for. The young ones go on being
    /// judged by time.
    pub fn mark_expired_lost(&mut self, is_young: impl Fn(Instant) -> bool) {
        let Some(head) = self.segs.first_key_value().map(|(&s, _)| s) else { return };
        let mut newly = 0;
        for (&start, seg) in &mut self.segs {
            if seg.sacked || (start != head && is_young(seg.sent_at)) {
                continue;
            }
            if seg.retrans {
                seg.retrans = false;
                self.retrans_out -= seg.packets;
            }
            if !seg.lost {
                seg.lost = true;
                newly += seg.packets;
                self.lost_out += seg.packets;
            }
            self.to_resend.insert(start);
        }
        self.lost_total += u64::from(newly);
    }

    /// Takes loss marks back where no retransmission was made yet (undo).
    pub fn unmark_lost(&mut self) {
        for (_, seg) in self.segs.iter_mut() {
            if seg.lost {
                seg.lost = false;
                self.lost_out -= seg.packets;
            }
        }
        self.to_resend.clear();
        // What is not lost any more must be judged again by time.
        self.order.clear();
        for (&start, s) in &self.segs {
            if !s.sacked {
                self.order.push_back(Sent { xmit: s.xmit, start, end: s.end, sent_at: s.sent_at });
            }
        }
        self.order.make_contiguous().sort_by_key(|s| (s.xmit, s.end));
    }

    /// Start of the first range to be resent.
    pub fn next_to_resend(&self) -> Option<(u64, &TxSegment)> {
        let &start = self.to_resend.first()?;
        self.segs.get(&start).map(|s| (start, s))
    }

    /// The range from `start`, at most `max_bytes`, is resent at `sent_at`. Returns its end and packets.
    pub fn resend(
        &mut self,
        start: u64,
        max_bytes: u64,
        mss: u32,
        sent_at: Instant,
        rate: TxRateState,
    ) -> Option<Resent> {
        let end = self.segs.get(&start)?.end.min(start + max_bytes.max(1));
        self.split(end);
        let xmit = self.stamp(start, end, sent_at);
        self.to_resend.remove(&start);
        let seg = self.segs.get_mut(&start)?;
        // The path's MSS may have changed since.
        let packets = packets_of(seg.end - start, mss);
        let was = seg.packets;
        seg.mss = mss;
        seg.gone = 0;
        seg.packets = packets;
        seg.sent_at = sent_at;
        seg.xmit = xmit;
        seg.rate = rate;
        seg.ever_retrans = true;
        seg.psh |= packets > 1;
        let psh = seg.psh;
        let (lost, retrans) = (seg.lost, seg.retrans);
        seg.retrans = true;
        self.packets_out = self.packets_out - was + packets;
        if lost {
            self.lost_out = self.lost_out - was + packets;
        }
        if retrans {
            self.retrans_out -= was;
        }
        self.retrans_out += packets;
        self.limit_reno_sacked();
        Some(Resent { end, packets, psh })
    }

    /// Bytes of the tail that one probe may repeat: start of the last packet.
    pub fn tail_probe(&self) -> Option<u64> {
        let (start, seg) = self.tail()?;
        Some(seg.whole_packets(start, seg.end - 1))
    }

    /// Makes `at` the start of an entry. Says where that ends, `end` at most, and whether the peer has it; `None`: nothing is outstanding there.
    pub fn isolate_within(&mut self, at: u64, end: u64) -> Option<(u64, bool)> {
        self.split(at);
        self.segs.get(&at).map(|s| (s.end.min(end), s.sacked))
    }

    /// Makes the entry that starts at `at` exist on its own, for a probe.
    pub fn isolate(&mut self, at: u64) {
        self.split(at);
    }

    /// Without SACK, duplicate ACKs stand for packets that arrived (RFC 5681): at most all but one.
    pub fn set_reno_sacked(&mut self, n: u32) {
        self.sacked_out = n.min(self.packets_out.saturating_sub(self.lost_out).saturating_sub(1));
    }

    /// Packets that were marked lost, or that became fewer, leave less room for those that duplicate ACKs stood for: the sum must not exceed
    /// what is out (Linux's `tcp_limit_reno_sacked`). With SACK it never does.
    fn limit_reno_sacked(&mut self) {
        self.sacked_out = self.sacked_out.min(self.packets_out.saturating_sub(self.lost_out));
    }

    /// Transmissions that loss detection has not passed yet: for tests.
    #[cfg(test)]
    pub fn judgements_waiting(&self) -> usize {
        self.order.len()
    }

    /// The entries cover exactly `una..nxt`, and the counts are their sums.
    pub fn check(&self, una: u64, nxt: u64, sack: bool) -> Result<(), String> {
        let (mut p, mut s, mut l, mut r) = (0, 0, 0, 0);
        let (mut at, mut resend) = (una, 0);
        for (&start, seg) in &self.segs {
            ensure!(start == at && seg.end > start, "scoreboard: {start}..{} after {at} (from {una})", seg.end);
            at = seg.end;
            p += seg.packets;
            s += if seg.sacked { seg.packets } else { 0 };
            l += if seg.lost { seg.packets } else { 0 };
            r += if seg.retrans { seg.packets } else { 0 };
            ensure!(
                seg.sacked || seg.packets == seg.packets_of_bytes(start),
                "scoreboard: {start}..{} is {} packets: {seg:?}",
                seg.end,
                seg.packets_of_bytes(start)
            );
            ensure!(seg.packets > 0, "scoreboard: {start}..{} in no packet", seg.end);
            ensure!(
                !seg.sacked || (!seg.lost && !seg.retrans),
                "scoreboard: {start} is sacked and in recovery: {seg:?}"
            );
            let waits = self.to_resend.contains(&start);
            ensure!(waits == (seg.lost && !seg.retrans), "scoreboard: {start} is to be resent, {waits}: {seg:?}");
            resend += usize::from(waits);
        }
        ensure!(at == nxt, "scoreboard: ends at {at}, sent was {nxt}");
        let counts = (self.packets_out, self.lost_out, self.retrans_out);
        ensure!((p, l, r) == counts, "scoreboard: out, lost, retransmitted are {:?}, counted {counts:?}", (p, l, r));
        if sack {
            ensure!(s == self.sacked_out, "scoreboard: {s} sacked, counted {}", self.sacked_out);
        }
        ensure!(
            self.sacked_out + self.lost_out <= self.packets_out,
            "scoreboard: {} sacked and {} lost of {}",
            self.sacked_out,
            self.lost_out,
            self.packets_out
        );
        ensure!(resend == self.to_resend.len(), "scoreboard: {:?} is to be resent and not there", self.to_resend);
        Ok(())
    }
}

/// What RACK found.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct RackOutcome {
    /// Packets newly marked lost.
    pub lost: u32,
    /// Of those, retransmissions.
    pub retrans_lost: u32,
    /// The reordering window of some packet is still open: when that packet left.
    pub waiting: Option<Instant>,
}
