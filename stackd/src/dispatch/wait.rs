//! Calls that complete later: a poll, a connect, an accept.

use super::{Core, execute, status};
use crate::control::backend::{Reply, SocketCall, SocketResult};
use crate::store::SessionKey;
use stackd_base::{Errno, Instant, SockId};
use stackd_netstack::{Readiness, SockEvent};

/// Where an answer goes.
#[derive(Debug)]
pub enum Answer {
    /// A completion on a client's ring.
    Ring {
        /// The session.
        session: SessionKey,
        /// The ring pair.
        ring: u32,
        /// What the client called it.
        user_data: u64,
    },
    /// A gRPC call.
    Grpc(Reply<SocketResult>),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitKind {
    /// Any of these EPOLL* bits; a stream is readable from `least` bytes on (0: as SO_RCVLOWAT says).
    Poll { events: u32, least: u32 },
    /// The end of a handshake.
    Connect,
    /// A connection to accept.
    Accept,
    /// The end of a connection whose socket lingers; it is closed then.
    Close,
}

/// A call that waits.
#[derive(Debug)]
pub struct Wait {
    /// For what.
    pub kind: WaitKind,
    /// Who hears of it.
    pub answer: Answer,
}

/// ERR and HUP are always waited for (poll(2)).
pub fn mask(events: u32) -> u32 {
    events | Readiness::ERR.0 | Readiness::HUP.0
}

impl WaitKind {
    fn wants(self, ready: Readiness) -> bool {
        let bits = match self {
            Self::Poll { events, .. } => mask(events),
            // Whatever happens may be its end.
            Self::Connect | Self::Close => return true,
            Self::Accept => mask(Readiness::IN.0),
        };
        ready.0 & bits != 0
    }
}

/// Starts a wait, or answers at once if it need not wait.
pub fn begin(core: &mut Core, now: Instant, session: SessionKey, number: u32, wait: Wait) {
    let sock = match core.store.sock(session, number) {
        Ok(sock) => sock,
        Err(error) => return complete(core, wait.answer, Err(error)),
    };
    if let Some(wait) = try_finish(core, now, session, number, sock, wait)
        && let Err((wait, error)) = core.store.add_wait(session, number, wait)
    {
        complete(core, wait.answer, Err(error));
    }
}

/// A socket's readiness changed: tells the client's shared word and whoever waits.
pub fn socket_event(core: &mut Core, now: Instant, event: SockEvent) {
    let SockEvent { sock, readiness, .. } = event;
    core.store.set_readiness(sock, readiness);
    let Some((session, number)) = core.store.locate(sock) else { return };
    if !core.store.has_waits(session, number) {
        return;
    }
    for wait in core.store.take_waits(session, number) {
        if let Some(wait) = try_finish(core, now, session, number, sock, wait)
            && let Err((wait, error)) = core.store.add_wait(session, number, wait)
        {
            complete(core, wait.answer, Err(error));
        }
    }
}

/// Answers if what is waited for holds; else gives the wait back.
fn try_finish(
    core: &mut Core,
    now: Instant,
    session: SessionKey,
    number: u32,
    sock: SockId,
    wait: Wait,
) -> Option<Wait> {
    let ready = match wait.kind {
        WaitKind::Poll { least, .. } if least > 0 => core.stack.readiness_from(sock, least),
        WaitKind::Poll { .. } | WaitKind::Connect | WaitKind::Accept | WaitKind::Close => core.stack.readiness(sock),
    };
    if !wait.kind.wants(ready) {
        return Some(wait);
    }
    let result = match wait.kind {
        WaitKind::Poll { events, .. } => Ok(SocketResult::Ready(ready.0 & mask(events))),
        WaitKind::Connect => match core.stack.connect_outcome(now, sock, &mut core.store) {
            Err(Errno::EINPROGRESS) => return Some(wait),
            result => result.map(|()| SocketResult::Done),
        },
        WaitKind::Accept => match execute(core, now, session, SocketCall::Accept { socket: number }) {
            // Somebody else took it: wait on.
            Err(Errno::EAGAIN) => return Some(wait),
            result => result,
        },
        WaitKind::Close if core.stack.is_closing(sock) => return Some(wait),
        WaitKind::Close => {
            super::close(core, now, session, number, sock);
            Ok(SocketResult::Done)
        }
    };
    complete(core, wait.answer, result);
    None
}

/// Delivers an answer.
pub fn complete(core: &mut Core, answer: Answer, result: Result<SocketResult, Errno>) {
    match answer {
        // A gRPC call that was given up meanwhile is nobody's loss.
        Answer::Grpc(reply) => drop(reply.send(result.map_err(status))),
        Answer::Ring { session, ring, user_data } => super::ring::answer(core, session, ring, user_data, result),
    }
}
