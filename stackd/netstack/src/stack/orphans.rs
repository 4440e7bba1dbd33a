//! Connections that their application let go: they finish by themselves, but not at any price (`tcp_max_orphans`).

use super::Stack;
use crate::socket::Body;
use crate::store::ByteStore;
use stackd_base::{Instant, Mib, SockId};
use stackd_tcp::State;

/// Linux's `SOCK_MIN_SNDBUF`: whoever holds no more is not what makes memory short.
const LITTLE: u64 = 4608;

impl Stack {
    /// An orphan that is one too many is reset (Linux's `tcp_check_oom`): by their number, which counts doubled for each of `doubts`, or
    /// because memory is short. True if it was.
    pub(super) fn reset_surplus_orphan(&mut self, sock: SockId, doubts: u32) -> bool {
        let Some(Body::Tcp(t)) = self.sockets.get(sock).map(|s| &s.body) else { return false };
        let crowded = u64::from(self.orphans) << doubts > u64::from(self.sysctls.net.tcp_max_orphans);
        let greedy = self.mem.exhausted() && t.written.saturating_sub(t.published.1) > LITTLE;
        if !crowded && !greedy {
            return false;
        }
        self.mib.inc(Mib::TcpExtTCPAbortOnMemory);
        if let Some((conn, mut env)) = self.tcp_parts(sock) {
            conn.handle_abort(&mut env);
        }
        true
    }

    /// A connection's time has come. An orphan that the peer leaves unanswered must be worth going on with (Linux's `tcp_out_of_resources`).
    pub(super) fn connection_timeout<S: ByteStore>(&mut self, now: Instant, sock: SockId, store: &mut S) {
        let detached = self.sockets.get(sock).is_some_and(|s| s.detached);
        let Some((conn, mut env)) = self.tcp_parts(sock) else { return };
        let before = conn.timeouts();
        conn.handle_timeout(now, &mut env);
        let doubts =
            (detached && conn.timeouts() > before && conn.state() != State::Closed).then(|| conn.doubts(now, env.cfg));
        if let Some(doubts) = doubts {
            self.reset_surplus_orphan(sock, doubts);
        }
        self.mark_dirty(sock);
        self.after_event(now, sock, store);
    }
}
