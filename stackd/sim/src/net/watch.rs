//! What an observer on a host's wire sees, and what must never be there.

use super::packet::{IpPacket, Segment};
use stackd_base::{Bandwidth, Instant};
use std::collections::HashMap;
use std::net::SocketAddr;

/// What is known of one flow from its packets.
#[derive(Debug, Default)]
struct Flow {
    /// The peer's MSS option as it arrived; `None` before a SYN.
    peer_mss: Option<Option<u16>>,
    /// `SO_MAX_PACING_RATE` in force.
    limit: Option<Bandwidth>,
    /// Bytes ahead of that rate, and when that was.
    ahead: u64,
    ahead_at: Instant,
    largest_burst: u64,
}

/// An observer between a stack and its link.
#[derive(Debug, Default)]
pub struct Watch {
    flows: HashMap<(SocketAddr, SocketAddr), Flow>,
    /// Segments with payload, and bytes of payload, that left.
    pub segments: u64,
}

impl Watch {
    /// A packet arrived whole.
    pub fn incoming(&mut self, packet: &IpPacket) {
        let Some(s) = packet.segment().filter(|s| s.tcp.flags.syn()) else { return };
        // The flow as this host sends it.
        let flow = self.flows.entry((s.dst, s.src)).or_default();
        // A firewall may have taken the option out of one of two: either counts.
        flow.peer_mss = Some(flow.peer_mss.flatten().max(s.tcp.options.mss));
    }

    /// From now on the flow keeps to a rate.
    pub fn limit(&mut self, now: Instant, src: SocketAddr, dst: SocketAddr, rate: Bandwidth) {
        let flow = self.flows.entry((src, dst)).or_default();
        flow.limit = Some(rate);
        flow.ahead_at = now;
    }

    /// A packet leaves.
    ///
    /// # Errors
    /// It is larger than the peer said it takes, or earlier than its rate allows.
    pub fn outgoing(&mut self, now: Instant, packet: &IpPacket, mtu: usize) -> Result<(), String> {
        if packet.len() > mtu {
            return Err(format!("a packet of {} bytes leaves through an MTU of {mtu}", packet.len()));
        }
        let Some((protocol, _)) = packet.transport() else { return Err(String::from("half a packet leaves")) };
        if protocol != stackd_wire::proto::TCP {
            return Ok(());
        }
        let Some(s) = packet.segment() else { return Err(String::from("a segment leaves with a wrong checksum")) };
        if s.payload.is_empty() {
            return Ok(());
        }
        self.segments += 1;
        let flow = self.flows.entry((s.src, s.dst)).or_default();
        flow.check_size(&s)?;
        flow.check_rate(now, &s)
    }
}

impl Flow {
    /// RFC 6691, 2: the MSS counts no options; they come off it. RFC 9293, 3.7.1: without an option, 536 or 1220.
    fn check_size(&self, s: &Segment) -> Result<(), String> {
        let default = if s.src.is_ipv6() { 1220 } else { 536 };
        let mss = match self.peer_mss {
            Some(option) => option.map_or(default, u32::from),
            // Data on a SYN, before anything was heard.
            None if s.tcp.flags.syn() => return Ok(()),
            None => default,
        };
        let size = s.payload.len() as u32 + s.tcp.options.len() as u32;
        // Linux takes no MSS below tcp_min_snd_mss (48).
        if size > mss.max(48) {
            return Err(format!(
                "{} -> {}: {size} bytes of payload and options, the peer's MSS is {mss}",
                s.src, s.dst
            ));
        }
        Ok(())
    }

    /// A bucket that leaks at the rate: what is ahead of it is a GSO segment and what its pacer credits, never more.
    fn check_rate(&mut self, now: Instant, s: &Segment) -> Result<(), String> {
        let Some(rate) = self.limit else { return Ok(()) };
        let passed = rate.bytes_in(now.saturating_since(self.ahead_at));
        // Another hundredth for the rounding of times.
        self.ahead = self.ahead.saturating_sub(passed + passed / 100) + s.payload.len() as u64;
        self.ahead_at = now;
        self.largest_burst = self.largest_burst.max(self.ahead);
        if self.ahead > MOST_AHEAD {
            return Err(format!("{} -> {}: {} bytes ahead of a rate of {rate:?}", s.src, s.dst, self.ahead));
        }
        Ok(())
    }
}

/// Two GSO segments.
const MOST_AHEAD: u64 = 2 * 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::tests::segment;
    use stackd_base::Duration;
    use stackd_wire::TcpFlags;

    #[test]
    fn what_exceeds_the_mss_or_the_rate_is_seen() {
        let mut w = Watch::default();
        let mut syn = segment(false, 0, 0);
        (syn.src, syn.dst) = (syn.dst, syn.src);
        syn.tcp.flags = TcpFlags::SYN;
        syn.tcp.options.mss = Some(1000);
        w.incoming(&syn.emit());
        let now = Instant::from_nanos(1_000_000_000);
        assert!(w.outgoing(now, &segment(false, 1, 1000).emit(), 1500).is_ok());
        assert!(w.outgoing(now, &segment(false, 1, 1001).emit(), 1500).is_err());
        assert!(w.outgoing(now, &segment(false, 1, 900).emit(), 900).is_err());
        let s = segment(false, 1, 1000);
        w.limit(now, s.src, s.dst, Bandwidth::from_bytes_per_sec(1_000_000));
        let mut at = now;
        for _ in 0..1000 {
            at += Duration::from_millis(1);
            assert_eq!(w.outgoing(at, &s.emit(), 1500), Ok(()));
        }
        assert!((0..200).any(|_| w.outgoing(at, &s.emit(), 1500).is_err()));
    }
}
