//! Selective acknowledgments and duplicates that the peer reports (RFC 2018, RFC 2883).

use super::Connection;
use super::ack::Seen;
use crate::seam::Env;
use stackd_base::Mib;
use stackd_wire::TcpRepr;

impl Connection {
    pub(super) fn take_sacks(&mut self, seg: &TcpRepr, ack: u64, seen: &mut Seen, env: &mut Env<'_>) {
        if !self.opts.sack || seg.options.sack.is_empty() {
            return;
        }
        let blocks = seg.options.sack;
        for (i, b) in blocks.iter().enumerate() {
            let (l, r) = (self.send_position(b.left), self.send_position(b.right));
            if l >= r || r > self.nxt as i64 || l < 0 {
                self.count_discarded(i == 0 && r <= ack as i64, env);
                continue;
            }
            let (l, r) = (l as u64, r as u64);
            // RFC 2883, 5: the first block is a D-SACK when it lies below the cumulative ACK or inside the second block.
            let nested = i == 0
                && blocks
                    .as_slice()
                    .get(1)
                    .is_some_and(|s| self.send_position(s.left) <= l as i64 && r as i64 <= self.send_position(s.right));
            if i == 0 && (r <= ack || nested) {
                self.take_dsack(l, r, r <= ack, seen, env);
                continue;
            }
            if r <= ack.max(self.una) {
                continue;
            }
            self.board.sack(l.max(self.una), r, &mut seen.out, &mut self.rate);
        }
    }

    pub(super) fn note_reordering(&mut self, low: u64, high: u64, env: &mut Env<'_>) {
        let metric = ((high - low) / u64::from(self.mss.max(1))).min(u64::from(u32::MAX)) as u32;
        self.rack.reordering_seen = true;
        self.stats.reord_seen += 1;
        if metric > self.reordering {
            self.reordering = metric.min(env.cfg.max_reordering);
        }
        env.mib.inc(if self.opts.ts { Mib::TcpExtTCPTSReorder } else { Mib::TcpExtTCPSACKReorder });
    }

    /// A block that says nothing of what was ever sent.
    fn count_discarded(&self, as_duplicate: bool, env: &mut Env<'_>) {
        env.mib.inc(match (as_duplicate, self.undo.marker) {
            (true, None) => Mib::TcpExtTCPDSACKIgnoredNoUndo,
            (true, Some(_)) => Mib::TcpExtTCPDSACKIgnoredOld,
            (false, _) => Mib::TcpExtTCPSACKDiscard,
        });
    }

    pub(super) fn take_dsack(&mut self, l: u64, r: u64, old: bool, seen: &mut Seen, env: &mut Env<'_>) {
        env.mib.inc(if old { Mib::TcpExtTCPDSACKRecv } else { Mib::TcpExtTCPDSACKOfoRecv });
        let packets = (r - l).div_ceil(u64::from(self.mss.max(1))) as u32;
        self.stats.dsack_dups += packets;
        // As Linux: reports of more duplicates than were ever retransmitted, or wider than any window, prove nothing.
        if self.stats.dsack_dups > self.stats.total_retrans || r - l > self.max_wnd {
            env.mib.inc(Mib::TcpExtTCPDSACKIgnoredDubious);
            return;
        }
        env.mib.add(Mib::TcpExtTCPDSACKRecvSegs, u64::from(packets));
        seen.dsack_end = Some(r);
        self.undo.on_dsack(r, packets);
        // RFC 8985, 6.2 step 4: a DSACK that only answers a tail loss probe says nothing of reordering.
        let by_probe = self.tlp.is_retrans && self.tlp.end == Some(r);
        if !by_probe {
            self.rack.on_dsack(self.una, self.nxt);
        }
    }
}
