//! The one syscall table: what a client asks, over shared memory or gRPC, becomes a call of the stack and an answer.
//!
//! `ring.rs` reads shared-memory entries into [`SocketCall`]s and writes answers back; `wait.rs` keeps what completes later.

mod ring;
mod wait;

#[cfg(test)]
mod tests;

pub use ring::{kick, serve_ring};
pub use wait::{Answer, Wait, WaitKind, begin, complete, socket_event};

use crate::control::backend::{SocketCall, SocketResult};
use crate::shard::ClaimKind;
use crate::store::{HeapDatagram, SessionKey, Store};
use bytes::Bytes;
use stackd_base::{Errno, Instant, SockId};
use stackd_netstack::socket::repair::Queue;
use stackd_netstack::{Domain, Readiness, Shutdown, SocketKind, Stack};
use stackd_proto::StatusError;
use std::net::SocketAddr;

const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const SOCK_STREAM: i32 = 1;
const SOCK_DGRAM: i32 = 2;
/// SOCK_NONBLOCK and SOCK_CLOEXEC may be or'ed into the type (socket(2)); both are the client's own business.
const SOCK_TYPE_MASK: i32 = 0xf;
const SOCK_FLAGS: i32 = 0o4000 | 0o2_000_000;
/// Linux's SOCK_PACKET and IPPROTO_MPTCP, the last of their kind.
const SOCK_TYPE_MAX: i32 = 10;
const IPPROTO_MAX: i32 = 262;
const SOL_SOCKET: i32 = 1;
const SO_REUSEPORT: i32 = 15;
const IPPROTO_TCP: i32 = 6;
/// Level and number of the option.
const TCP_REPAIR: (i32, i32) = (IPPROTO_TCP, 19);
const IPPROTO_UDP: i32 = 17;
/// Most bytes one `Receive` of a datagram can need.
const MAX_DATAGRAM: usize = 65_535;

/// The stack, and where its sockets' bytes live: what a call acts upon.
#[derive(Debug)]
pub struct Core {
    /// The protocols.
    pub stack: Stack,
    /// The bytes, and whose they are.
    pub store: Store,
}

/// Executes one call for a session. What would have to wait answers EAGAIN (EINPROGRESS for connect); `Poll` answers what holds now.
pub fn execute(core: &mut Core, now: Instant, session: SessionKey, call: SocketCall) -> Result<SocketResult, Errno> {
    core.store.count_call(session);
    match call {
        SocketCall::Socket { family, kind, protocol } => socket(core, now, session, family, kind, protocol),
        SocketCall::Bind { socket, local } => {
            let sock = core.store.sock(session, socket)?;
            bind(core, now, session, (socket, sock), local)
        }
        SocketCall::Listen { socket, backlog } => {
            let sock = core.store.sock(session, socket)?;
            core.stack.listen(sock, backlog)?;
            claim_bound(core, now, session, (socket, sock))?;
            Ok(SocketResult::Done)
        }
        SocketCall::Connect { socket, remote } => {
            let sock = core.store.sock(session, socket)?;
            core.stack.connect(now, sock, remote, &mut core.store)?;
            // A UDP socket that was not bound is now. (TCP's answer is EINPROGRESS; its port was chosen for this shard.)
            claim_bound(core, now, session, (socket, sock))?;
            Ok(SocketResult::Done)
        }
        SocketCall::ConnectWithData { socket, remote } => {
            let sock = core.store.sock(session, socket)?;
            core.stack.connect_with_data(now, sock, remote, &mut core.store)?;
            Ok(SocketResult::Done)
        }
        SocketCall::Disconnect { socket } => {
            let sock = core.store.sock(session, socket)?;
            core.stack.disconnect(now, sock, &mut core.store)?;
            Ok(SocketResult::Done)
        }
        SocketCall::Accept { socket } => {
            let sock = core.store.sock(session, socket)?;
            accept(core, now, session, sock)
        }
        SocketCall::Shutdown { socket, how } => {
            let sock = core.store.sock(session, socket)?;
            let how = match how {
                0 => Shutdown::Read,
                1 => Shutdown::Write,
                2 => Shutdown::Both,
                _ => return Err(Errno::EINVAL),
            };
            core.stack.shutdown(now, sock, how, &mut core.store)?;
            Ok(SocketResult::Done)
        }
        SocketCall::Close { socket } => {
            let sock = core.store.sock(session, socket)?;
            close(core, now, session, socket, sock);
            Ok(SocketResult::Done)
        }
        SocketCall::SetOption { socket, level, name, value } => {
            let sock = core.store.sock(session, socket)?;
            core.stack.set_option(now, sock, level, name, &value, &mut core.store)?;
            Ok(SocketResult::Done)
        }
        SocketCall::GetOption { socket, level, name, max } => {
            let sock = core.store.sock(session, socket)?;
            let mut value = vec![0; (max as usize).min(4096)];
            let len = core.stack.get_option(now, sock, level, name, &mut value)?;
            value.truncate(len);
            Ok(SocketResult::Option(value))
        }
        SocketCall::GetNames { socket } => {
            let sock = core.store.sock(session, socket)?;
            Ok(SocketResult::Names { local: core.stack.local_addr(sock)?, remote: core.stack.peer_addr(sock).ok() })
        }
        SocketCall::Send { socket, data, to, control } => send(core, now, session, socket, &data, to, &control),
        SocketCall::Receive { socket, max, peek } => receive(core, now, session, socket, max as usize, peek),
        SocketCall::ReceiveError { socket, max, peek } => receive_error(core, session, socket, max as usize, peek),
        SocketCall::Ioctl { socket, request } => ioctl(core, session, socket, request),
        SocketCall::Poll { socket, events } => {
            let sock = core.store.sock(session, socket)?;
            let ready = core.stack.readiness(sock);
            Ok(SocketResult::Ready(ready.0 & wait::mask(events)))
        }
    }
}

fn socket(
    core: &mut Core,
    now: Instant,
    session: SessionKey,
    family: i32,
    kind: i32,
    protocol: i32,
) -> Result<SocketResult, Errno> {
    let domain = match family {
        AF_INET => Domain::V4,
        AF_INET6 => Domain::V6,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    if kind & !(SOCK_TYPE_MASK | SOCK_FLAGS) != 0
        || kind & SOCK_TYPE_MASK > SOCK_TYPE_MAX
        || !(0..=IPPROTO_MAX).contains(&protocol)
    {
        return Err(Errno::EINVAL);
    }
    let kind = match (kind & SOCK_TYPE_MASK, protocol) {
        (SOCK_STREAM, 0 | IPPROTO_TCP) => SocketKind::Stream,
        (SOCK_DGRAM, 0 | IPPROTO_UDP) => SocketKind::Dgram,
        (SOCK_STREAM | SOCK_DGRAM, _) => return Err(Errno::EPROTONOSUPPORT),
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    let owner = core.store.admit(session)?;
    let sock = core.stack.socket(now, domain, kind, owner, &mut core.store)?;
    core.stack.set_uid(sock, core.store.session(session).map_or(u32::MAX, |s| s.process.uid));
    match core.store.adopt(session, sock, kind) {
        Ok(number) => {
            core.store.set_readiness(sock, core.stack.readiness(sock));
            Ok(SocketResult::Socket(number))
        }
        Err(error) => {
            // Nobody learnt of it, so nobody can miss it.
            let _ = core.stack.close(now, sock, &mut core.store);
            Err(error)
        }
    }
}

/// bind(2). Other shards are asked first: a port that one of them has is in use, as far as they can tell.
fn bind(
    core: &mut Core,
    now: Instant,
    session: SessionKey,
    (number, sock): (u32, SockId),
    local: SocketAddr,
) -> Result<SocketResult, Errno> {
    let had = core.store.has_claim(session, number);
    if local.port() != 0 && !had {
        let kind = bound_kind(core, now, sock);
        if !core.store.claim(session, number, local.port(), kind) {
            return Err(Errno::EADDRINUSE);
        }
    }
    if let Err(error) = core.stack.bind(sock, local) {
        if !had {
            core.store.unclaim(session, number);
        }
        return Err(error);
    }
    claim_bound(core, now, session, (number, sock))?;
    Ok(SocketResult::Bound(core.stack.local_addr(sock)?))
}

/// Steers the port that a socket is bound to here, if it is bound and that was not done yet.
fn claim_bound(core: &mut Core, now: Instant, session: SessionKey, (number, sock): (u32, SockId)) -> Result<(), Errno> {
    if core.store.has_claim(session, number) {
        return Ok(());
    }
    let port = core.stack.local_addr(sock).map_or(0, |a| a.port());
    let kind = bound_kind(core, now, sock);
    if port == 0 || core.store.claim(session, number, port, kind) { Ok(()) } else { Err(Errno::EADDRINUSE) }
}

fn bound_kind(core: &mut Core, now: Instant, sock: SockId) -> ClaimKind {
    let mut value = [0; 4];
    let got = core.stack.get_option(now, sock, SOL_SOCKET, SO_REUSEPORT, &mut value);
    // One that is put together again may stand beside a listener, as the accepted connection that it was.
    if core.stack.repair_queue(sock).is_some() {
        return ClaimKind::Accepted;
    }
    ClaimKind::Bound { shares: got.is_ok() && value != [0; 4] }
}

fn accept(
    core: &mut Core,
    now: Instant,
    session: SessionKey,
    listener: stackd_base::SockId,
) -> Result<SocketResult, Errno> {
    loop {
        let (sock, remote) = core.stack.accept(now, listener, &mut core.store)?;
        // A child whose FIFO could not be made when its handshake ended is gone already; the next one may be whole.
        let Ok(number) = core.store.adopt(session, sock, SocketKind::Stream) else {
            let _ = core.stack.abort(now, sock, &mut core.store);
            continue;
        };
        core.store.set_readiness(sock, core.stack.readiness(sock));
        let local = core.stack.local_addr(sock)?;
        core.store.claim(session, number, local.port(), ClaimKind::Accepted);
        return Ok(SocketResult::Accepted { socket: number, local, remote });
    }
}

/// close(2). What was written is still sent; the number is the client's no more.
pub fn close(core: &mut Core, now: Instant, session: SessionKey, number: u32, sock: stackd_base::SockId) {
    for wait in core.store.take_waits(session, number) {
        complete(core, wait.answer, Err(Errno::EBADF));
    }
    // The number is given up first: closing may end the socket at once, and its FIFO with it.
    core.store.abandon(session, number);
    let _ = core.stack.close(now, sock, &mut core.store);
    core.store.reap(session, number);
}

fn send(
    core: &mut Core,
    now: Instant,
    session: SessionKey,
    number: u32,
    data: &Bytes,
    to: Option<SocketAddr>,
    control: &[u8],
) -> Result<SocketResult, Errno> {
    let sock = core.store.sock(session, number)?;
    if core.store.kind(session, number)? == SocketKind::Dgram {
        let sent = core.stack.send_message(now, sock, to, control, data, &mut core.store)?;
        // It may have been bound by sending. The datagram is gone: a port that another shard has costs the answers, not the call.
        let _ = claim_bound(core, now, session, (number, sock));
        core.store.count_sent(session, sent as u64);
        return Ok(SocketResult::Sent(sent as u64));
    }
    match core.stack.repair_queue(sock) {
        Some(Queue::Receive) => {
            let taken = core.stack.refill(now, sock, data, &mut core.store)?;
            return Ok(SocketResult::Sent(taken as u64));
        }
        Some(Queue::None) => return Err(Errno::EINVAL),
        Some(Queue::Send) | None => {}
    }
    if let Some(error) = core.stack.take_error(sock) {
        return Err(error);
    }
    let ready = core.stack.readiness(sock);
    if ready.contains(Readiness::HUP) {
        return Err(Errno::EPIPE);
    }
    let fifo = core.stack.fifo(sock).ok_or(Errno::ENOTCONN)?;
    let Some((taken, head)) = core.store.heap_write(fifo, data)? else {
        return if data.is_empty() { Ok(SocketResult::Sent(0)) } else { Err(Errno::EAGAIN) };
    };
    core.stack.written(now, sock, head, &mut core.store)?;
    core.store.count_sent(session, taken as u64);
    Ok(SocketResult::Sent(taken as u64))
}

fn receive(
    core: &mut Core,
    now: Instant,
    session: SessionKey,
    number: u32,
    max: usize,
    peek: bool,
) -> Result<SocketResult, Errno> {
    let sock = core.store.sock(session, number)?;
    if core.store.kind(session, number)? == SocketKind::Dgram {
        return receive_datagram(core, sock, session, max, peek);
    }
    let Some(fifo) = core.stack.fifo(sock) else {
        return Err(core.stack.take_error(sock).unwrap_or(Errno::ENOTCONN));
    };
    match core.stack.repair_queue(sock) {
        Some(_) if !peek => return Err(Errno::EPERM),
        Some(Queue::None) => return Err(Errno::EINVAL),
        // What was sent, and not acknowledged.
        Some(Queue::Send) => {
            let data = core.store.heap_unacked(fifo, max)?;
            let full_length = data.len() as u64;
            let data = data.into();
            return Ok(SocketResult::Received {
                data,
                from: None,
                control: Bytes::new(),
                full_length,
                end_of_stream: false,
            });
        }
        Some(Queue::Receive) | None => {}
    }
    let (data, tail) = read_in_line(core, now, sock, fifo, max, peek)?;
    if !data.is_empty() {
        if !peek {
            core.stack.consumed(now, sock, tail, &mut core.store)?;
            core.store.count_received(session, data.len() as u64);
        }
        let full_length = data.len() as u64;
        return Ok(SocketResult::Received {
            data: data.into(),
            from: None,
            control: Bytes::new(),
            full_length,
            end_of_stream: false,
        });
    }
    if let Some(error) = core.stack.take_error(sock) {
        return Err(error);
    }
    if core.stack.readiness(sock).intersects(Readiness::RDHUP | Readiness::HUP) {
        return Ok(SocketResult::Received {
            data: Bytes::new(),
            from: None,
            control: Bytes::new(),
            full_length: 0,
            end_of_stream: true,
        });
    }
    if max == 0 {
        return Ok(SocketResult::Received {
            data: Bytes::new(),
            from: None,
            control: Bytes::new(),
            full_length: 0,
            end_of_stream: false,
        });
    }
    Err(Errno::EAGAIN)
}

/// Reads a stream up to the next urgent byte; one that stands first is passed over, unless it is read in line.
fn read_in_line(
    core: &mut Core,
    now: Instant,
    sock: SockId,
    fifo: stackd_base::FifoId,
    max: usize,
    peek: bool,
) -> Result<(Vec<u8>, u64), Errno> {
    let Some(mark) = core.stack.out_of_line(sock) else { return core.store.heap_read(fifo, max, peek) };
    let (_, tail) = core.store.heap_read(fifo, 0, true)?;
    match mark.checked_sub(tail) {
        Some(0) => {
            let (_, tail) = core.store.heap_read(fifo, 1, false)?;
            core.stack.consumed(now, sock, tail, &mut core.store)?;
            core.store.heap_read(fifo, max, peek)
        }
        Some(before) => core.store.heap_read(fifo, max.min(usize::try_from(before).unwrap_or(max)), peek),
        None => core.store.heap_read(fifo, max, peek),
    }
}

fn receive_datagram(
    core: &mut Core,
    sock: stackd_base::SockId,
    session: SessionKey,
    max: usize,
    peek: bool,
) -> Result<SocketResult, Errno> {
    if let Some(error) = core.stack.take_error(sock) {
        return Err(error);
    }
    let fifo = core.stack.fifo(sock).ok_or(Errno::EAGAIN)?;
    let datagram = core.store.heap_datagram(fifo, max.min(MAX_DATAGRAM), peek)?.ok_or(Errno::EAGAIN)?;
    let HeapDatagram { data, full, control, from, last } = datagram;
    if last {
        core.stack.rx_drained(sock);
    }
    core.store.count_received(session, data.len() as u64);
    let (data, control) = (data.into(), control.into());
    Ok(SocketResult::Received { data, control, from, full_length: full as u64, end_of_stream: false })
}

/// `MSG_ERRQUEUE`: what the packet carried, where it went, and `struct sock_extended_err`.
fn receive_error(
    core: &mut Core,
    session: SessionKey,
    number: u32,
    max: usize,
    peek: bool,
) -> Result<SocketResult, Errno> {
    let sock = core.store.sock(session, number)?;
    let entry = core.stack.receive_error(sock, peek)?;
    let control = entry.control().into();
    let full_length = entry.payload.len() as u64;
    let mut data = entry.payload;
    data.truncate(max);
    Ok(SocketResult::Received { data: data.into(), control, from: entry.to, full_length, end_of_stream: false })
}

fn ioctl(core: &mut Core, session: SessionKey, number: u32, request: u32) -> Result<SocketResult, Errno> {
    let sock = core.store.sock(session, number)?;
    if let Some(value) = core.stack.ioctl(sock, request)? {
        return Ok(SocketResult::Number(value));
    }
    // SIOCINQ of a datagram socket, udp(7): "the size of the next pending datagram". Its bytes are the store's.
    let fifo = core.stack.fifo(sock).ok_or(Errno::EBADF)?;
    Ok(SocketResult::Number(core.store.next_datagram_len(fifo).unwrap_or(0) as i32))
}

/// An errno as the control plane says it.
pub fn status(errno: Errno) -> StatusError {
    StatusError::from_raw(errno as i32, errno.text())
}
