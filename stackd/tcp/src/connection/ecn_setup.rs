//! What of ECN the handshake agrees on (RFC 3168, 6.1.1; RFC 9768, 3.1).

use super::Connection;
use super::accecn::{AccEcn, OptSeen, ace_flags, ace_of, fail, first_look, handshake_ace};
use crate::config::Config;
use crate::record::What;
use stackd_wire::{AccEcnOption, EcnCodepoint, TcpFlags, TcpOptions, TcpRepr};

/// Of a SYN: what it asks for.
const CLASSIC: u8 = 0b011;
const ACCURATE: u8 = 0b111;

impl Connection {
    /// An active open: what our SYN will ask for.
    pub(crate) fn ask_for_ecn(&mut self, cfg: &Config) {
        self.opts.ecn = cfg.ecn.asks_classic();
        self.accecn = cfg.ecn.asks_accurate().then(|| Box::new(AccEcn::default()));
    }

    /// Flags of our SYN.
    pub(crate) fn syn_ecn_flags(&self, cfg: &Config) -> TcpFlags {
        // RFC 9768, 3.1.4.1: "at least one more time by continuing to set all three ... on the first retransmitted SYN", RFC 3168,
        // 6.1.1.1: "a SYN packet ... without ... ECE and CWR"; unless `tcp_ecn_fallback` is off.
        let times = if self.accecn.is_some() { 1 } else { 0 };
        if cfg.ecn_fallback && self.retransmits > times {
            return TcpFlags::NONE;
        }
        match (&self.accecn, self.opts.ecn) {
            (Some(_), _) => ace_flags(ACCURATE),
            (None, true) => ace_flags(CLASSIC),
            (None, false) => TcpFlags::NONE,
        }
    }

    /// A SYN arrived, as `ip`: the first one settles the mode (RFC 9768, table 2, and 3.1.3 for what is not in it).
    pub(crate) fn answer_ecn_of_syn(&mut self, cfg: &Config, syn: &TcpRepr, ip: EcnCodepoint) {
        let ace = ace_of(syn.flags);
        let accurate = cfg.ecn.accepts_accurate() && ace != 0 && ace != CLASSIC;
        // RFC 9768, table 2: a host that does not know AccECN takes (1,1,1) for RFC 3168's ECN-setup SYN, which had no AE.
        self.opts.ecn = !accurate && ace & CLASSIC == CLASSIC && cfg.ecn.accepts();
        self.accecn = accurate.then(|| Box::new(AccEcn::agreed(ip)));
    }

    /// The SYN that [`accept`](Self::accept) was given had this ECN field in its IP header.
    pub fn note_syn_ecn(&mut self, ip: EcnCodepoint) {
        if self.tape.is_some() {
            self.taped_bare(None, What::NoteSynEcn(ip), None);
            return;
        }
        if let Some(a) = self.accurate_mut() {
            a.syn_ect = ip as u8;
        }
    }

    /// Flags and AccECN option of our SYN-ACK, sent for the first time or `again`.
    pub(crate) fn syn_ack_ecn(&mut self, cfg: &Config, again: bool) -> (TcpFlags, Option<AccEcnOption>) {
        let timeouts = self.retransmits;
        let classic = self.opts.ecn;
        let Some(a) = self.accurate_mut() else {
            // RFC 3168, 6.1.1: an ECN-setup SYN-ACK has ECE and not CWR.
            return (if classic { TcpFlags::ECE } else { TcpFlags::NONE }, None);
        };
        if timeouts >= 2 {
            // RFC 9768, 3.2.3.2.2: "the SYN/ACK with (AE,CWR,ECE) = (0,0,0)"; 3.1.5: then no ECT from us for good.
            a.fail |= fail::ACE_SEND;
            return (TcpFlags::NONE, None);
        }
        // 3.2.3.2.2: "retransmits the SYN/ACK ... without the AccECN Option", which may be what was dropped.
        let option = (cfg.ecn_option > 0 && (!again || cfg.ecn_option >= 3)).then_some(AccEcnOption {
            order1: true,
            count: 3,
            counters: [1, 0, 1],
        });
        if again {
            a.fail |= fail::OPT_SEND;
        }
        (ace_flags(handshake_ace(a.syn_ect)), option)
    }

    /// The option beside a SYN-ACK's others and a signature. They leave room for two counters, one, or none, as in Linux.
    pub(crate) fn add_accecn_option(&self, options: &mut TcpOptions, full: Option<AccEcnOption>) {
        let Some(full) = full else { return };
        let most = 40 - usize::from(self.flow.signature);
        let shorter = |count: u8| {
            let mut counters = full.counters;
            counters[usize::from(count)..].fill(0);
            Some(AccEcnOption { count, counters, ..full })
        };
        let fits = (0..=full.count).rev().map(shorter).find(|&accecn| TcpOptions { accecn, ..*options }.len() <= most);
        options.accecn = fits.flatten();
    }

    /// The same SYN again, while our SYN-ACK is out. False: the connection was reset, for two kinds of ECN cannot be negotiated at once.
    pub(crate) fn ecn_of_repeated_syn(&mut self, cfg: &Config, syn: &TcpRepr, ip: EcnCodepoint) -> bool {
        let ace = ace_of(syn.flags);
        let classic = self.opts.ecn;
        match self.accurate_mut() {
            // RFC 9768, 3.1.5: "MUST reset the connection ... if it receives a 'Classic' ECN-setup SYN ... and a SYN requesting AccECN
            // feedback during the same handshake".
            Some(_) if ace == CLASSIC => false,
            // To a host without AccECN the two are the same.
            None if classic && ace == ACCURATE && cfg.ecn.accepts_accurate() => false,
            Some(a) => {
                // "MUST feed back the IP-ECN field on the latest valid SYN"; after (0,0,0) "MUST NOT set ECT".
                a.syn_ect = ip as u8;
                if ace == 0 {
                    a.fail |= fail::ACE_SEND;
                }
                true
            }
            None => true,
        }
    }

    /// The SYN-ACK arrived, as `ip` (RFC 9768, table 2).
    pub(crate) fn take_ecn_of_syn_ack(&mut self, cfg: &Config, seg: &TcpRepr, ip: EcnCodepoint) {
        let ace = ace_of(seg.flags);
        let Some(a) = &mut self.accecn else {
            // RFC 3168: also when the second SYN went without: the answer may be the first one's, and the peer will mark its data.
            self.opts.ecn = self.opts.ecn && seg.flags.ece() && !seg.flags.cwr();
            return;
        };
        self.opts.ecn = ace == 0b001;
        match ace {
            // No ECN, or a server that reflects what it does not understand.
            0b000 | ACCURATE | 0b001 => {
                self.accecn = None;
                return;
            }
            _ => {}
        }
        a.on = true;
        a.syn_ect = ip as u8;
        a.reflect = true;
        if let Some(o) = &seg.options.accecn {
            a.saw(first_look(o));
            a.demand = 2;
        }
        if ip == EcnCodepoint::Ce {
            // 3.2.2.2: "MUST increment r.cep, but no more than once".
            a.received_ce = 1;
        }
        // 3.2.2.3: our SYN left as Not-ECT: any other report is an invalid transition. (1,0,1), reserved, counts as unchanged (3.1.3).
        let mangled = ace != 0b101 && ace != handshake_ace(EcnCodepoint::NotEct as u8);
        if cfg.ecn_fallback && mangled {
            a.fail |= fail::ACE_RECV;
        }
    }

    /// The ACK that ends our passive handshake (RFC 9768, table 4).
    pub(crate) fn take_ace_of_third_ack(&mut self, cfg: &Config, seg: &TcpRepr, len: u32) {
        let ace = ace_of(seg.flags);
        let Some(a) = self.accurate_mut() else { return };
        if let Some(o) = &seg.options.accecn
            && a.opt_seen == OptSeen::Not
        {
            a.saw(first_look(o));
        }
        a.demand = a.demand.max(1);
        // 3.2.2.1: only "a pure ACK ... with no SACK blocks" is in the handshake's encoding.
        if len > 0 || seg.flags.fin() || !seg.options.sack.is_empty() {
            return;
        }
        a.spent = true;
        match ace {
            // Note 1: "MUST NOT set ECT on outgoing packets and MUST NOT respond to AccECN feedback".
            0b000 => a.fail |= fail::ACE_RECV | fail::OPT_RECV,
            // Note 2: unused, and without meaning.
            0b001 | 0b101 | 0b111 => {}
            _ => {
                // Our SYN-ACK left as Not-ECT.
                if cfg.ecn_fallback && ace != handshake_ace(EcnCodepoint::NotEct as u8) {
                    a.fail |= fail::ACE_RECV;
                }
                if ace == handshake_ace(EcnCodepoint::Ce as u8) {
                    a.delivered_ce = 1;
                }
            }
        }
    }
}
