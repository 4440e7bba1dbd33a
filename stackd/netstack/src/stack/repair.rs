//! `TCP_REPAIR` and its relatives: a connection's state out of one socket and into another one, with Linux's numbers, layouts and errors.

use super::Stack;
use crate::socket::opts::{OptionValue, int, name};
use crate::socket::repair::{Queue, Repair};
use crate::socket::{Body, Socket};
use crate::store::ByteStore;
use stackd_base::{Errno, Instant, SeqNum, SockId};
use stackd_tcp::{RepairCall, RepairWindow, State};

/// Options handled here.
pub(super) fn is_repair_option(level: i32, option: i32) -> bool {
    level == name::SOL_TCP
        && matches!(
            option,
            name::TCP_REPAIR
                | name::TCP_REPAIR_QUEUE
                | name::TCP_QUEUE_SEQ
                | name::TCP_REPAIR_OPTIONS
                | name::TCP_TIMESTAMP
                | name::TCP_REPAIR_WINDOW
        )
}

/// `struct tcp_repair_window`.
const WINDOW_BYTES: usize = 20;
/// RFC 7323, 2.3.
const MAX_SHIFT: u32 = 14;

/// Kinds of TCP options, as `struct tcp_repair_opt` names them.
mod code {
    pub const MSS: u32 = 2;
    pub const WINDOW: u32 = 3;
    pub const SACK_PERMITTED: u32 = 4;
    pub const TIMESTAMPS: u32 = 8;
}

impl Stack {
    /// `setsockopt` of one of these.
    pub(super) fn set_repair_option<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        option: i32,
        value: &[u8],
        store: &mut S,
    ) -> Result<(), Errno> {
        let n = int(value)?;
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let closed = is_closed(s);
        let on = s.is_repairing();
        match option {
            name::TCP_REPAIR => return self.set_repair(now, sock, n, store),
            name::TCP_REPAIR_QUEUE if !on => return Err(Errno::EPERM),
            name::TCP_REPAIR_QUEUE => s.repair_mut().queue = Queue::from_raw(n).ok_or(Errno::EINVAL)?,
            name::TCP_QUEUE_SEQ if !closed => return Err(Errno::EPERM),
            name::TCP_QUEUE_SEQ => {
                let queue = s.repair.as_ref().map_or(Queue::None, |r| r.queue);
                match queue {
                    Queue::None => return Err(Errno::EINVAL),
                    Queue::Receive => s.repair_mut().rcv_seq = SeqNum(n as u32),
                    Queue::Send => s.repair_mut().snd_seq = SeqNum(n as u32),
                }
            }
            name::TCP_REPAIR_OPTIONS if !on => return Err(Errno::EINVAL),
            name::TCP_REPAIR_OPTIONS => return self.set_negotiated(now, sock, value),
            name::TCP_TIMESTAMP if !on => return Err(Errno::EPERM),
            name::TCP_TIMESTAMP => match &s.body {
                Body::Tcp(t) if t.attached => self.repair_call(now, sock, RepairCall::Clock(n as u32)),
                _ => s.repair_mut().clock = Some((n as u32, now)),
            },
            name::TCP_REPAIR_WINDOW if !on => return Err(Errno::EPERM),
            name::TCP_REPAIR_WINDOW => return self.set_repair_window(now, sock, value),
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    fn set_repair<S: ByteStore>(&mut self, now: Instant, sock: SockId, n: i32, store: &mut S) -> Result<(), Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        // Linux's tcp_can_repair_sock.
        if s.uid != 0 || matches!(s.body, Body::Listen(_)) {
            return Err(Errno::EPERM);
        }
        let call = match n {
            1 => {
                let r = s.repair_mut();
                (r.on, r.queue) = (true, Queue::None);
                RepairCall::Freeze
            }
            0 | -1 => {
                if let Some(r) = &mut s.repair {
                    r.on = false;
                }
                // Linux: whatever SO_REUSEADDR said before, it says no now.
                std::sync::Arc::make_mut(&mut s.opts).reuseaddr = false;
                RepairCall::Thaw { probe: n == 0 }
            }
            _ => return Err(Errno::EINVAL),
        };
        self.claim_repaired(sock);
        self.repair_call(now, sock, call);
        self.mark_dirty(sock);
        self.after_event(now, sock, store);
        Ok(())
    }

    /// Does it to the connection, where there is one.
    fn repair_call(&mut self, now: Instant, sock: SockId, call: RepairCall) {
        if let Some((conn, mut env)) = self.tcp_parts(sock)
            && conn.state() != State::Closed
        {
            conn.handle_repair(now, call, &mut env);
        }
    }

    /// `TCP_REPAIR_OPTIONS`: an array of `struct tcp_repair_opt`. What precedes a bad one was taken, as in Linux.
    fn set_negotiated(&mut self, now: Instant, sock: SockId, value: &[u8]) -> Result<(), Errno> {
        if !self.connection(sock).is_some_and(stackd_tcp::Connection::is_unspoken) {
            return Err(Errno::EPERM);
        }
        for pair in value.as_chunks::<8>().0 {
            let word = |at: usize| u32::from_ne_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
            let (code, val) = (word(0), word(4));
            let call = match code {
                // Zero would leave no room for a byte; Linux would go on with it for ever.
                code::MSS if val as u16 == 0 => return Err(Errno::EINVAL),
                code::MSS => RepairCall::Mss(val as u16),
                code::WINDOW => {
                    let (send, receive) = (val & 0xffff, val >> 16);
                    if send > MAX_SHIFT || receive > MAX_SHIFT {
                        return Err(Errno::EFBIG);
                    }
                    RepairCall::Scales { send: send as u8, receive: receive as u8 }
                }
                code::SACK_PERMITTED | code::TIMESTAMPS if val != 0 => return Err(Errno::EINVAL),
                code::SACK_PERMITTED => RepairCall::Sack,
                code::TIMESTAMPS => RepairCall::Timestamps,
                _ => continue,
            };
            self.repair_call(now, sock, call);
        }
        Ok(())
    }

    fn set_repair_window(&mut self, now: Instant, sock: SockId, value: &[u8]) -> Result<(), Errno> {
        let bytes: &[u8; WINDOW_BYTES] = value.try_into().map_err(|_| Errno::EINVAL)?;
        let word = |i: usize| u32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
        let window = RepairWindow {
            snd_wl1: SeqNum(word(0)),
            snd_wnd: word(1),
            max_window: word(2),
            rcv_wnd: word(3),
            rcv_wup: SeqNum(word(4)),
        };
        let rcv_nxt = match self.connection(sock) {
            Some(conn) => conn.rcv_nxt(),
            None => self.sockets.get(sock).and_then(|s| s.repair.as_ref()).map_or(SeqNum(0), |r| r.rcv_seq),
        };
        let after = |a: SeqNum, b: SeqNum| a.distance_from(b) > 0;
        if window.max_window < window.snd_wnd
            || after(window.snd_wl1, rcv_nxt + window.rcv_wnd)
            || after(window.rcv_wup, rcv_nxt)
        {
            return Err(Errno::EINVAL);
        }
        // Without a connection it is forgotten by the connect that makes one, as in Linux.
        self.repair_call(now, sock, RepairCall::Window(window));
        Ok(())
    }

    /// `getsockopt` of one of these.
    pub(super) fn get_repair_option(
        &self,
        now: Instant,
        sock: SockId,
        option: i32,
        room: usize,
    ) -> Result<OptionValue, Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let conn = self.connection(sock);
        let (on, queue) = s.repair.as_ref().map_or((false, Queue::None), |r| (r.on, r.queue));
        let number = |n: u32| Ok(OptionValue::Int(n as i32));
        match option {
            name::TCP_REPAIR => number(u32::from(on)),
            name::TCP_REPAIR_QUEUE if !on => Err(Errno::EINVAL),
            name::TCP_REPAIR_QUEUE => number(queue as u32),
            name::TCP_QUEUE_SEQ => {
                let stored = s.repair.as_ref().map_or((SeqNum(0), SeqNum(0)), |r| (r.snd_seq, r.rcv_seq));
                let (send, receive) = conn.map_or(stored, stackd_tcp::Connection::queue_seqs);
                match queue {
                    Queue::None => Err(Errno::EINVAL),
                    Queue::Receive => number(receive.0),
                    Queue::Send => number(send.0),
                }
            }
            // The lowest bit says that the clock counts microseconds: ours counts milliseconds.
            name::TCP_TIMESTAMP => number(conn.map_or(now.as_millis() as u32, |c| c.timestamp_clock(now)) & !1),
            name::TCP_REPAIR_WINDOW if room != WINDOW_BYTES => Err(Errno::EINVAL),
            name::TCP_REPAIR_WINDOW if !on => Err(Errno::EPERM),
            name::TCP_REPAIR_WINDOW => {
                let w = conn.map_or_else(RepairWindow::default, stackd_tcp::Connection::repair_window);
                let words = [w.snd_wl1.0, w.snd_wnd, w.max_window, w.rcv_wnd, w.rcv_wup.0];
                Ok(OptionValue::Bytes(words.iter().flat_map(|n| n.to_ne_bytes()).collect()))
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    /// Which queue of a socket under repair its program works on; `None`: it is under no repair.
    pub fn repair_queue(&self, sock: SockId) -> Option<Queue> {
        self.sockets.get(sock)?.repair.as_ref().filter(|r| r.on).map(|r| r.queue)
    }

    /// `send(2)` under repair with the receive queue chosen: `data` goes to its end. How much of it fitted.
    ///
    /// # Errors
    /// `EPERM` (no repair of this queue), `ENOTCONN`, `ENOMEM` (`SO_RCVBUF`), `EINVAL` (something that arrived stands behind the queue).
    pub fn refill<S: ByteStore>(
        &mut self,
        now: Instant,
        sock: SockId,
        data: &[u8],
        store: &mut S,
    ) -> Result<usize, Errno> {
        if self.repair_queue(sock) != Some(Queue::Receive) {
            return Err(Errno::EPERM);
        }
        let t = self.tcp_mut(sock).filter(|t| t.attached).ok_or(Errno::ENOTCONN)?;
        if !t.conn.takes_received() {
            return Err(Errno::EINVAL);
        }
        let (head, consumed) = (t.conn.rx_head(), t.consumed);
        let room = (consumed + t.conn.rcvbuf()).saturating_sub(head);
        let data = &data[..data.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        let fifo = self.fifo_of(sock, store).ok_or(Errno::ENOMEM)?;
        if data.is_empty() || !store.rx_place_bytes(fifo, head, data) {
            return Err(Errno::ENOMEM);
        }
        self.repair_call(now, sock, RepairCall::Received { bytes: data.len() as u64 });
        self.after_event(now, sock, store);
        Ok(data.len())
    }

    /// The claim of a socket whose repair begins or ends: under repair it may stand beside whoever is there.
    fn claim_repaired(&mut self, sock: SockId) {
        let Some(s) = self.sockets.get(sock) else { return };
        if s.binding == crate::socket::Binding::Claim && s.kind() == crate::types::SocketKind::Stream {
            let claim = super::calls::claim_of(sock, s, s.local.ip());
            self.tcp_ports.replace(s.local.port(), claim);
        }
    }
}

impl Repair {
    /// What the timestamp clock of a connection that begins now is ahead of the stack's; `None`: as any other one's.
    pub(super) fn clock_offset(&self) -> Option<u32> {
        self.clock.map(|(shown, at)| shown.wrapping_sub(at.as_millis() as u32))
    }
}

/// Linux's `TCP_CLOSE`.
fn is_closed(s: &Socket) -> bool {
    match &s.body {
        Body::TcpClosed => true,
        Body::Tcp(t) => !t.attached,
        Body::Listen(_) | Body::Udp(_) => false,
    }
}
