//! What must hold of a whole stack, asked by simulations, fuzzers and tests after every event.

use super::Stack;
use crate::demux::{FlowEntry, FlowKey};
use crate::socket::{Body, Socket, TcpSock};
use stackd_base::{Instant, Mib, SockId};
use stackd_tcp::{Connection, State};

impl Stack {
    /// The connection of a socket, while it has one.
    pub fn connection(&self, sock: SockId) -> Option<&Connection> {
        match &self.sockets.get(sock)?.body {
            Body::Tcp(t) => Some(&t.conn),
            Body::TcpClosed | Body::Listen(_) | Body::Udp(_) => None,
        }
    }

    /// Every connection of this stack, those included that no program holds any more or holds not yet.
    pub fn connections(&self) -> impl Iterator<Item = (SockId, &Connection)> {
        self.sockets.iter().filter_map(|(id, s)| match &s.body {
            Body::Tcp(t) => Some((id, &t.conn)),
            Body::TcpClosed | Body::Listen(_) | Body::Udp(_) => None,
        })
    }

    /// Bytes of buffers accounted in `net.ipv4.tcp_mem`.
    pub fn memory_used(&self) -> u64 {
        self.mem.used
    }

    /// What holds when the stack was polled until nothing came at `now`: every connection's own invariants, each one's timer set
    /// as it asked, accounts and gauges equal to the sums of their parts. Costs a walk over every socket and all that is in flight.
    ///
    /// # Errors
    /// The first thing that does not hold, with its figures.
    pub fn check_invariants(&self, now: Instant) -> Result<(), String> {
        let (mut used, mut orphans, mut established, mut flows) = (0, 0, 0, 0);
        for (id, s) in self.sockets.iter() {
            if s.dirty != self.dirty.contains(&id) {
                return Err(format!(
                    "{id:?}: marked as having something to send: {}, in the list: {}",
                    s.dirty, !s.dirty
                ));
            }
            let Body::Tcp(t) = &s.body else { continue };
            self.check_tcp(now, id, s, t).map_err(|e| format!("{id:?} {} -> {:?}: {e}", s.local, s.peer))?;
            used += t.charged;
            orphans += u32::from(s.detached && t.attached);
            established += u64::from(matches!(t.conn.state(), State::Established | State::CloseWait));
            flows += usize::from(t.attached);
        }
        if used != self.mem.used {
            return Err(format!("memory: sockets hold {used} bytes, accounted {}", self.mem.used));
        }
        if orphans != self.orphans {
            return Err(format!("{orphans} orphans, counted {}", self.orphans));
        }
        if self.saved_syns.len() > self.requests.len() {
            return Err(format!("{} SYNs are kept of {} handshakes", self.saved_syns.len(), self.requests.len()));
        }
        let gauge = self.mib.get(Mib::TcpCurrEstab);
        if established != gauge {
            return Err(format!("{established} connections are established, TcpCurrEstab says {gauge}"));
        }
        let filed = self.tcp_demux.flows();
        let (waiting, half_open) = (self.tw.len(), self.requests.len());
        if flows + waiting + half_open != filed {
            return Err(format!("{flows} flows, {half_open} half open, {waiting} in TIME_WAIT, filed {filed}"));
        }
        Ok(())
    }

    fn check_tcp(&self, now: Instant, id: SockId, s: &Socket, t: &TcpSock) -> Result<(), String> {
        let deadline = if t.attached { t.conn.next_deadline() } else { None };
        let armed = self.timers.get(id.slot);
        if armed != deadline {
            return Err(format!("the connection waits for {deadline:?}, its timer is set to {armed:?}"));
        }
        if t.attached {
            t.conn.check_at_rest(now)?;
            let found = s.peer.and_then(|peer| self.tcp_demux.flow(&FlowKey::new(s.local, peer)));
            if found != Some(FlowEntry::Sock(id)) {
                return Err(format!("its four-tuple leads to {found:?}"));
            }
        }
        let (head, released, limit) = t.published;
        let holds = head.saturating_sub(t.consumed) + t.written.saturating_sub(released) + t.conn.rx_out_of_order();
        if holds != t.charged {
            return Err(format!("holds {holds} bytes, charged {}", t.charged));
        }
        if t.consumed > head || t.written > limit {
            return Err(format!("read {} of {head}, written {} of {limit}", t.consumed, t.written));
        }
        Ok(())
    }

    /// What holds when every program is gone and time has passed: nothing is left of any connection.
    ///
    /// # Errors
    /// What is left.
    pub fn check_empty(&self) -> Result<(), String> {
        let left = (
            self.sockets.len(),
            self.tw.len(),
            self.requests.len(),
            self.tcp_demux.flows(),
            self.mem.used,
            self.orphans,
        );
        if left != (0, 0, 0, 0, 0, 0) {
            let states: Vec<_> = self.sockets.iter().map(|(id, s)| (id, s.local, s.peer)).collect();
            return Err(format!("sockets, TIME_WAIT, half open, flows, bytes, orphans left: {left:?}; {states:?}"));
        }
        Ok(())
    }
}
