//! Firewalls that know better which options a SYN should carry.

use super::{Dir, Emitted, Middlebox};
use crate::net::packet::IpPacket;
use stackd_base::Instant;

/// What is taken out of SYNs and SYN-ACKs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Strip {
    /// SACK-permitted.
    pub sack: bool,
    /// Timestamps.
    pub timestamps: bool,
    /// Window scale.
    pub window_scale: bool,
    /// The MSS option: the default then counts.
    pub mss: bool,
    /// Only out of SYN-ACKs: the two ends then disagree about what was offered.
    pub answers_only: bool,
    /// The MSS option says at most this.
    pub clamp: Option<u16>,
}

/// Strips options, clamps the MSS.
#[derive(Debug)]
pub struct OptionStripper(pub Strip);

impl Middlebox for OptionStripper {
    fn handle(&mut self, _: Instant, dir: Dir, packet: IpPacket, out: &mut Emitted) {
        let Some(mut s) = packet.segment().filter(|s| s.tcp.flags.syn()) else {
            out.push((dir, packet));
            return;
        };
        let o = &mut s.tcp.options;
        if let (Some(mss), Some(clamp)) = (&mut o.mss, self.0.clamp) {
            *mss = (*mss).min(clamp);
        }
        if s.tcp.ack.is_some() || !self.0.answers_only {
            if self.0.sack {
                o.sack_permitted = false;
            }
            if self.0.timestamps {
                o.timestamps = None;
            }
            if self.0.window_scale {
                o.window_scale = None;
            }
            if self.0.mss {
                o.mss = None;
            }
        }
        out.push((dir, s.emit()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::tests::segment;
    use stackd_wire::{TcpFlags, Timestamps};

    #[test]
    fn only_what_was_asked_for_goes_out_of_syns_only() {
        let mut s = segment(false, 1, 0);
        s.tcp.flags = TcpFlags::SYN;
        s.tcp.options.mss = Some(1460);
        s.tcp.options.sack_permitted = true;
        s.tcp.options.timestamps = Some(Timestamps { tsval: 1, tsecr: 0 });
        let strip = Strip { sack: true, clamp: Some(1000), ..Strip::default() };
        let mut out = Vec::new();
        OptionStripper(strip).handle(Instant::ZERO, Dir::Right, s.emit(), &mut out);
        let got = out[0].1.segment().unwrap_or_else(|| panic!("valid")).tcp.options;
        assert!(got.mss == Some(1000) && !got.sack_permitted && got.timestamps.is_some());
    }
}
