//! Handshakes of which nothing was kept (RFC 4987, 3.6: SYN cookies).

use super::Connection;
use crate::config::{Config, FlowParams};
use crate::seam::{Env, SegmentOut};
use stackd_base::{Instant, MibCounters, SeqNum};
use stackd_wire::{EcnCodepoint, TcpRepr};

impl Connection {
    /// The connection of a SYN-ACK that carried a cookie: as [`accept`](Self::accept) would have made it from `syn`, with its SYN-ACK
    /// sent already. Give it the segment that brought the cookie back next. Also what such a SYN-ACK says, for who sends one.
    pub fn accept_cookie(
        flow: FlowParams,
        iss: SeqNum,
        (syn, syn_ecn): (&TcpRepr, EcnCodepoint),
        now: Instant,
        env: &mut Env<'_>,
    ) -> (Self, Option<SegmentOut>) {
        let cfg: &Config = env.cfg;
        let mut c = Self::accept(cfg, flow, iss, syn, now);
        c.note_syn_ecn(syn_ecn);
        // Whether and when the SYN-ACK really leaves is not for this connection to count.
        let mut uncounted = MibCounters::default();
        let Env { rng, mem, challenge, .. } = env;
        let mut apart = Env { mib: &mut uncounted, rng: &mut **rng, cfg, mem, challenge };
        let answer = c.poll_transmit(now, &mut apart);
        // Nobody remembers when it left: its acknowledgment is no RTT sample, as after a retransmission (Karn).
        c.retransmits = 1;
        (c, answer)
    }
}
