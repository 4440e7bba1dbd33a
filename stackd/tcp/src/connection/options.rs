//! Options: what we say and what we take from the peer's SYN.

use super::Connection;
use crate::config::Config;
use crate::window::RecvWindow;
use smallvec::SmallVec;
use stackd_base::Instant;
use stackd_wire::{SackBlock, TcpOptions, TcpRepr, Timestamps};

impl Connection {
    /// Options of our SYN, or of the SYN-ACK: there only what the peer offered.
    pub(crate) fn syn_options(&mut self, cfg: &Config, now: Instant, answer: bool) -> TcpOptions {
        let ts = if answer { self.opts.ts } else { cfg.timestamps };
        let wscale = if answer { self.opts.wscale } else { cfg.window_scaling };
        self.rcv.scale = if wscale { RecvWindow::scale_for(cfg) } else { 0 };
        TcpOptions {
            mss: Some(self.advmss),
            window_scale: wscale.then_some(self.rcv.scale),
            sack_permitted: if answer { self.opts.sack } else { cfg.sack },
            timestamps: ts
                .then(|| Timestamps { tsval: self.ts_now(now), tsecr: if answer { self.opts.ts_recent } else { 0 } }),
            ..TcpOptions::NONE
        }
    }

    /// RFC 7323, 1.3 and RFC 2018, 2: an option is in force when both SYNs carried it.
    pub(crate) fn absorb_syn_options(&mut self, cfg: &Config, syn: &TcpRepr, now: Instant) {
        let o = &syn.options;
        self.opts.ts = cfg.timestamps && o.timestamps.is_some();
        if let (true, Some(t)) = (self.opts.ts, o.timestamps) {
            self.opts.ts_recent = t.tsval;
            self.opts.ts_recent_at = now;
        }
        self.opts.sack = cfg.sack && o.sack_permitted;
        self.opts.wscale = cfg.window_scaling && o.window_scale.is_some();
        self.opts.snd_scale = if self.opts.wscale { o.window_scale.unwrap_or(0) } else { 0 };
        if !self.opts.wscale {
            self.rcv.scale = 0;
        }
        if let Some(m) = o.mss {
            self.opts.peer_mss = u32::from(m);
        }
        self.update_mss(cfg);
    }

    /// Options of an ordinary segment; `room` bytes are free for SACK blocks.
    pub(crate) fn segment_options(&mut self, now: Instant, room: u32, cfg: &Config) -> TcpOptions {
        let mut o = TcpOptions::NONE;
        if self.opts.ts {
            o.timestamps = Some(Timestamps { tsval: self.ts_now(now), tsecr: self.opts.ts_recent });
        }
        // Of pure ACKs: beside timestamps and a signature.
        let most = 40u32.saturating_sub(u32::from(self.flow.signature));
        let room = (room + if self.opts.ts { 12 } else { 0 }).min(most).saturating_sub(o.len() as u32);
        let dsack = self.dsack;
        if self.opts.sack {
            self.report_blocks(room, &mut o);
        }
        // A report of a duplicate that did not fit is not lost: it is still there.
        let reported = dsack.filter(|_| self.dsack.is_none()).map(|d| d.0);
        let (accecn, blocks) = self.accecn_option(now, room, o.sack.len(), reported, cfg);
        o.accecn = accecn;
        if blocks < o.sack.len() {
            o.sack = o.sack.iter().take(blocks).collect();
        }
        o
    }

    /// A FIN that waits for what precedes it.
    fn early_fin(&self) -> Option<u64> {
        self.peer_fin.filter(|&f| f > self.rcv_nxt)
    }

    /// End of the last thing that arrived out of order.
    pub(crate) fn sack_edge(&self) -> Option<u64> {
        self.early_fin().map(|f| f + 1).or(self.reasm.end())
    }

    /// What arrived out of order, most recent first. RFC 9293, 3.4: FIN takes a number like a byte, and RFC 2018 reports numbers: without the FIN's
    /// own, a sender resends it for ever.
    fn waiting_blocks(&self, max: usize) -> SmallVec<[(u64, u64); 5]> {
        let fin = self.early_fin();
        let mut blocks: SmallVec<[(u64, u64); 5]> =
            self.reasm.sack_blocks(max).map(|(l, r)| (l, r + u64::from(fin == Some(r)))).collect();
        if let Some(f) = fin
            && self.reasm.end() != Some(f)
        {
            let place = if self.fin_is_newest { 0 } else { blocks.len() };
            blocks.insert(place, (f, f + 1));
        }
        blocks
    }

    /// SACK blocks, as many as fit into `room` bytes (RFC 2018, 3: at most four, three beside timestamps).
    fn report_blocks(&mut self, room: u32, o: &mut TcpOptions) {
        let fit = if self.opts.ts { 3 } else { 4 }.min((room.saturating_sub(4) / 8) as usize);
        if fit == 0 {
            return;
        }
        let block = |(l, r): (u64, u64), c: &Self| SackBlock { left: c.wire_ack(l), right: c.wire_ack(r) };
        let mut left = fit;
        // RFC 2883, 4: "the D-SACK block ... is the first block".
        if let Some((l, r)) = self.dsack.take() {
            o.sack.push(block((l, r), self));
            left -= 1;
            // RFC 2883, 4.1: a duplicate within an out-of-order block is followed by that block.
            if left > 0
                && let Some(around) = self.reasm.around(l)
            {
                o.sack.push(block(around, self));
                left -= 1;
            }
        }
        for b in self.waiting_blocks(fit) {
            let b = SackBlock { left: self.wire_ack(b.0), right: self.wire_ack(b.1) };
            if left == 0 {
                break;
            }
            if !o.sack.iter().skip(usize::from(o.sack.len() > 1)).any(|x| x == b) {
                o.sack.push(b);
                left -= 1;
            }
        }
    }
}
