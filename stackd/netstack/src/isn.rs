//! Initial sequence numbers that an off-path attacker cannot guess (RFC 6528).

use crate::demux::{FlowKey, Keyed};
use stackd_base::{Instant, SeqNum};

/// RFC 6528, 3: "ISN = M + F(localip, localport, remoteip, remoteport, secretkey)", M being a clock of one tick every 4
/// microseconds in the RFC; Linux's and ours ticks every 64 ns (RFC 9293, 3.4.1 wants it not faster than the network can use up
/// numbers: a full turn takes 275 s, longer than a segment lives).
pub fn initial_sequence(secret: &Keyed, flow: &FlowKey, now: Instant) -> SeqNum {
    let f = secret.hash_bytes(&flow.bytes()) as u32;
    SeqNum(f.wrapping_add((now.as_nanos() >> 6) as u32))
}

/// Start of a connection's timestamp clock, so that timestamps reveal no uptime (RFC 7323, 7.1) but stay monotonic per address pair.
pub fn timestamp_offset(secret: &Keyed, flow: &FlowKey) -> u32 {
    let mut pair = [0; 33];
    pair[..32].copy_from_slice(&flow.bytes()[..32]);
    pair[32] = b't';
    secret.hash_bytes(&pair) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> FlowKey {
        FlowKey::new(([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 80).into())
    }

    #[test]
    fn numbers_of_a_reused_flow_grow_and_other_flows_tell_nothing() {
        let secret = Keyed::new(1, 2);
        let (t0, t1) = (Instant::from_nanos(0), Instant::from_nanos(64_000));
        assert_eq!(initial_sequence(&secret, &flow(1), t1) - initial_sequence(&secret, &flow(1), t0), 1000);
        assert_ne!(initial_sequence(&secret, &flow(1), t0), initial_sequence(&secret, &flow(2), t0));
        assert_ne!(initial_sequence(&secret, &flow(1), t0), initial_sequence(&Keyed::new(1, 3), &flow(1), t0));
    }

    #[test]
    fn timestamps_of_two_ports_share_an_offset() {
        let secret = Keyed::new(1, 2);
        assert_eq!(timestamp_offset(&secret, &flow(1)), timestamp_offset(&secret, &flow(2)));
    }
}
