//! Shared-memory entries: read into calls, answered by completions.

use super::wait::{self, Answer, Wait, WaitKind};
use super::{Core, execute};
use crate::control::backend::{SocketCall, SocketResult};
use crate::store::SessionKey;
use stackd_base::{Errno, Instant};
use stackd_shm::abi::{Arg, Cqe, FLAG_FAST_OPEN, FLAG_MORE, FLAG_NONBLOCK, FLAG_URGENT, Opcode};
use stackd_shm::{Breach, Call};

/// A client that reads while we look can make us look again; not for ever.
const LOOKS: usize = 4;

/// Serves up to `budget` entries of one ring. How many there were; a breach ends the session.
pub fn serve_ring(
    core: &mut Core,
    now: Instant,
    session: SessionKey,
    ring: u32,
    budget: usize,
) -> Result<usize, Breach> {
    let mut arg = Arg::new();
    let mut served = 0;
    while served < budget {
        let Some(source) = core.store.ring(session, ring) else { break };
        let Some(call) = source.pop(&mut arg)? else { break };
        served += 1;
        serve(core, now, session, ring, call, &arg)?;
    }
    Ok(served)
}

fn serve(core: &mut Core, now: Instant, session: SessionKey, ring: u32, call: Call, arg: &Arg) -> Result<(), Breach> {
    let Call { opcode, sqe } = call;
    let number = sqe.sock;
    let args = sqe.args;
    let waits = sqe.flags & FLAG_NONBLOCK == 0;
    let to = Answer::Ring { session, ring, user_data: sqe.user_data };
    let call = match opcode {
        Opcode::Kick => {
            core.store.count_call(session);
            return kick_with(core, now, session, number, Some(sqe.flags & FLAG_MORE != 0));
        }
        Opcode::Nop => return done(core, to, Ok(SocketResult::Done)),
        Opcode::Consumed => {
            kick(core, now, session, number)?;
            if sqe.flags & FLAG_URGENT != 0 {
                let sock = core.store.sock(session, number);
                let marked = sock.and_then(|sock| core.stack.mark_urgent(sock, args[0]));
                return done(core, to, marked.map(|()| SocketResult::Done));
            }
            return done(core, to, Ok(SocketResult::Done));
        }
        Opcode::PollAdd => {
            core.store.count_call(session);
            kick(core, now, session, number)?;
            if !waits {
                let result = execute(core, now, session, SocketCall::Poll { socket: number, events: args[0] as u32 });
                return done(core, to, result);
            }
            let least = u32::try_from(args[1]).unwrap_or(u32::MAX);
            let kind = WaitKind::Poll { events: args[0] as u32, least };
            wait::begin(core, now, session, number, Wait { kind, answer: to });
            return Ok(());
        }
        Opcode::PollRemove | Opcode::Cancel => {
            let polls_only = opcode == Opcode::PollRemove;
            let found = core.store.take_wait(session, |w| {
                let named =
                    matches!(w.answer, Answer::Ring { ring: r, user_data, .. } if r == ring && user_data == args[0]);
                named && (!polls_only || matches!(w.kind, WaitKind::Poll { .. }))
            });
            let result = match found {
                Some(wait) => {
                    wait::complete(core, wait.answer, Err(Errno::ECANCELED));
                    Ok(SocketResult::Done)
                }
                None => Err(Errno::ENOENT),
            };
            return done(core, to, result);
        }
        Opcode::Socket => SocketCall::Socket { family: args[0] as i32, kind: args[1] as i32, protocol: args[2] as i32 },
        Opcode::Bind => SocketCall::Bind { socket: number, local: arg.addr()? },
        Opcode::Listen => SocketCall::Listen { socket: number, backlog: args[0] as i32 },
        Opcode::Connect => {
            let result = match arg.maybe_addr()? {
                Some(remote) if sqe.flags & FLAG_FAST_OPEN != 0 => {
                    execute(core, now, session, SocketCall::ConnectWithData { socket: number, remote })
                }
                Some(remote) => execute(core, now, session, SocketCall::Connect { socket: number, remote }),
                None => {
                    kick(core, now, session, number)?;
                    execute(core, now, session, SocketCall::Disconnect { socket: number })
                }
            };
            return match result {
                // connect(2) of a socket that does not block answers EALREADY the second time; one that blocks waits for the handshake then too.
                Err(Errno::EINPROGRESS | Errno::EALREADY) if waits => {
                    wait::begin(core, now, session, number, Wait { kind: WaitKind::Connect, answer: to });
                    Ok(())
                }
                result => done_with(core, session, number, to, result),
            };
        }
        Opcode::Accept => {
            return match execute(core, now, session, SocketCall::Accept { socket: number }) {
                Err(Errno::EAGAIN) if waits => {
                    wait::begin(core, now, session, number, Wait { kind: WaitKind::Accept, answer: to });
                    Ok(())
                }
                result => done_with(core, session, number, to, result),
            };
        }
        Opcode::Flush => {
            core.store.count_call(session);
            let sent = flush(core, now, session, number, args[0])?;
            return done_with(core, session, number, to, sent.map(SocketResult::Sent));
        }
        Opcode::Ioctl => {
            kick(core, now, session, number)?;
            SocketCall::Ioctl { socket: number, request: args[0] as u32 }
        }
        Opcode::Shutdown => {
            // What was published before is sent before the FIN, kicked or not.
            kick(core, now, session, number)?;
            SocketCall::Shutdown { socket: number, how: args[0] as i32 }
        }
        Opcode::Close => {
            kick(core, now, session, number)?;
            if args[0] & 1 != 0
                && let Ok(sock) = core.store.sock(session, number)
                && core.stack.begin_close(now, sock, &mut core.store)
            {
                wait::begin(core, now, session, number, Wait { kind: WaitKind::Close, answer: to });
                return Ok(());
            }
            SocketCall::Close { socket: number }
        }
        Opcode::RecvUrgent => {
            core.store.count_call(session);
            kick(core, now, session, number)?;
            let sock = core.store.sock(session, number);
            let result = sock.and_then(|sock| core.stack.receive_urgent(sock, args[0] & 1 != 0));
            return done_with(core, session, number, to, result.map(SocketResult::Urgent));
        }
        Opcode::RepairFill => SocketCall::Send {
            socket: number,
            data: arg.as_bytes().to_vec().into(),
            to: None,
            control: Vec::new().into(),
        },
        // What was written before a repair begins or ends belongs to the time before.
        Opcode::SetSockOpt if (args[0] as i32, args[1] as i32) == super::TCP_REPAIR => {
            kick(core, now, session, number)?;
            SocketCall::SetOption {
                socket: number,
                level: args[0] as i32,
                name: args[1] as i32,
                value: arg.as_bytes().to_vec(),
            }
        }
        Opcode::SetSockOpt => SocketCall::SetOption {
            socket: number,
            level: args[0] as i32,
            name: args[1] as i32,
            value: arg.as_bytes().to_vec(),
        },
        Opcode::GetSockOpt => SocketCall::GetOption {
            socket: number,
            level: args[0] as i32,
            name: args[1] as i32,
            max: args[2].min(stackd_shm::abi::ARG_BYTES as u64) as u32,
        },
        Opcode::ErrQueue => {
            let max = stackd_shm::abi::ARG_BYTES as u32;
            SocketCall::ReceiveError { socket: number, max, peek: args[0] & 1 != 0 }
        }
        Opcode::GetSockName | Opcode::GetPeerName => {
            let names = execute(core, now, session, SocketCall::GetNames { socket: number });
            let result = match (names, opcode) {
                (Ok(SocketResult::Names { local, .. }), Opcode::GetSockName) => Ok(SocketResult::Bound(local)),
                (Ok(SocketResult::Names { remote: Some(remote), .. }), _) => Ok(SocketResult::Bound(remote)),
                (Ok(_), _) => Err(Errno::ENOTCONN),
                (Err(error), _) => Err(error),
            };
            return done(core, to, result);
        }
    };
    let makes = matches!(call, SocketCall::Socket { .. });
    let result = execute(core, now, session, call);
    if makes && let Some(source) = core.store.ring(session, ring) {
        source.made(match result {
            Ok(SocketResult::Socket(number)) => Some(number),
            _ => None,
        });
    }
    done_with(core, session, number, to, result)
}

/// Answers. The state word is brought up to date first: a client that has the answer finds there what the call changed.
fn done_with(
    core: &mut Core,
    session: SessionKey,
    number: u32,
    to: Answer,
    result: Result<SocketResult, Errno>,
) -> Result<(), Breach> {
    if let Ok(sock) = core.store.sock(session, number) {
        core.store.set_readiness(sock, core.stack.readiness(sock));
    }
    done(core, to, result)
}

fn done(core: &mut Core, to: Answer, result: Result<SocketResult, Errno>) -> Result<(), Breach> {
    wait::complete(core, to, result);
    Ok(())
}

/// Tells the stack what the client did to a socket's FIFO.
pub fn kick(core: &mut Core, now: Instant, session: SessionKey, number: u32) -> Result<(), Breach> {
    kick_with(core, now, session, number, None)
}

/// As [`kick`]; `more`: with or without MSG_MORE, when a write says so.
fn kick_with(
    core: &mut Core,
    now: Instant,
    session: SessionKey,
    number: u32,
    more: Option<bool>,
) -> Result<(), Breach> {
    // A kick may cross a close on its way: no breach.
    let Ok(sock) = core.store.sock(session, number) else { return Ok(()) };
    let Some(fifo) = core.stack.fifo(sock) else {
        core.store.take_idle_kick(session, number);
        return Ok(());
    };
    if more == Some(true) {
        core.stack.set_more(now, sock, true, &mut core.store);
    }
    for _ in 0..LOOKS {
        let moved = core.store.poll_shared(fifo)?;
        core.store.count_sent(session, moved.bytes.0);
        core.store.count_received(session, moved.bytes.1);
        if let Some(head) = moved.head {
            // A stream that can take no more (reset, shut down) says so by its readiness, as a write to it would.
            let _ = core.stack.written(now, sock, head, &mut core.store);
        }
        if let Some(tail) = moved.tail {
            let _ = core.stack.consumed(now, sock, tail, &mut core.store);
            if moved.drained {
                core.stack.rx_drained(sock);
            }
        }
        if moved.datagrams {
            let (_, error) = send_datagrams(core, now, sock, fifo, 0)?;
            if let Some(error) = error {
                // Nobody waits for the outcome: the next call reports it, as one does for what an ICMP message said.
                core.stack.set_error(sock, error);
            }
            // It may have been bound by sending; see `send` of the other transport.
            let _ = super::claim_bound(core, now, session, (number, sock));
        }
        if core.stack.fifo(sock) != Some(fifo) || !core.store.want_report(fifo) {
            break;
        }
    }
    if more == Some(false) {
        core.stack.set_more(now, sock, false, &mut core.store);
    }
    Ok(())
}

/// Sends what was published. How many datagrams went out that start at `from` or later. The first of those that fails ends it, and what is
/// behind it is dropped; one before `from` has nobody who waits for it, and stops none.
fn send_datagrams(
    core: &mut Core,
    now: Instant,
    sock: stackd_base::SockId,
    fifo: stackd_base::FifoId,
    from: u64,
) -> Result<(u64, Option<Errno>), Breach> {
    let (mut control, mut data) = (Vec::new(), Vec::new());
    let (mut sent, mut failed) = (0, None);
    while let Some(datagram) = core.store.next_datagram(fifo, &mut control, &mut data)? {
        let asked = datagram.data.start > from;
        if failed.is_none() || !asked {
            match core.stack.send_message(now, sock, datagram.to, &control, &data, &mut core.store) {
                Ok(_) => sent += u64::from(asked),
                Err(error) if asked => failed = Some(error),
                Err(error) => core.stack.set_error(sock, error),
            }
        }
        core.store.datagram_sent(fifo, datagram.end);
    }
    Ok((sent, failed))
}

/// Sends the datagrams that wait and says what became of those from `from` on.
fn flush(
    core: &mut Core,
    now: Instant,
    session: SessionKey,
    number: u32,
    from: u64,
) -> Result<Result<u64, Errno>, Breach> {
    let Ok(sock) = core.store.sock(session, number) else { return Ok(Err(Errno::EBADF)) };
    let Some(fifo) = core.stack.fifo(sock) else { return Ok(Err(Errno::EOPNOTSUPP)) };
    let moved = core.store.poll_shared(fifo)?;
    core.store.count_sent(session, moved.bytes.0);
    let (sent, failed) = send_datagrams(core, now, sock, fifo, from)?;
    let _ = super::claim_bound(core, now, session, (number, sock));
    kick(core, now, session, number)?;
    Ok(match failed {
        Some(error) if sent == 0 => Err(error),
        _ => Ok(sent),
    })
}

/// Writes a completion.
pub(super) fn answer(
    core: &mut Core,
    session: SessionKey,
    ring: u32,
    user_data: u64,
    result: Result<SocketResult, Errno>,
) {
    let mut cqe = Cqe { user_data, ..Cqe::default() };
    let mut arg = Arg::new();
    match result {
        Err(error) => cqe.result = -(error as i32),
        Ok(SocketResult::Socket(number)) => {
            cqe.result = number as i32;
            cqe.args[0] = core.store.number_generation(session, number).into();
        }
        Ok(SocketResult::Accepted { socket, remote, .. }) => {
            cqe.result = socket as i32;
            cqe.args[0] = core.store.number_generation(session, socket).into();
            arg = Arg::from_addr(remote);
        }
        Ok(SocketResult::Bound(addr)) => arg = Arg::from_addr(addr),
        Ok(SocketResult::Option(value)) => match Arg::from_bytes(&value) {
            Some(bytes) => arg = bytes,
            None => cqe.result = -(Errno::EINVAL as i32),
        },
        Ok(SocketResult::Ready(bits)) => cqe.result = bits as i32,
        Ok(SocketResult::Number(n)) => cqe.args[0] = i64::from(n) as u64,
        Ok(SocketResult::Sent(n)) => cqe.result = i32::try_from(n).unwrap_or(i32::MAX),
        Ok(SocketResult::Urgent(at)) => (cqe.result, cqe.args[0]) = (i32::from(at.is_some()), at.unwrap_or(0)),
        Ok(SocketResult::Done) => {}
        // Of a ring's calls only `ErrQueue` gives data this way.
        Ok(SocketResult::Received { data, control, from, .. }) => {
            let mut bytes = stackd_shm::abi::encode_addr(from).to_vec();
            bytes.extend_from_slice(&control);
            let room = stackd_shm::abi::ARG_BYTES - bytes.len();
            let data = &data[..data.len().min(room)];
            bytes.extend_from_slice(data);
            (cqe.result, cqe.args[0]) = (data.len() as i32, control.len() as u64);
            arg = Arg::from_bytes(&bytes).unwrap_or_default();
        }
        // Calls that only gRPC makes, for bytes that a ring's client moves itself.
        Ok(SocketResult::Names { .. }) => {
            cqe.result = -(Errno::EINVAL as i32);
        }
    }
    let Some(target) = core.store.ring(session, ring) else { return };
    match target.complete(cqe, &arg) {
        Ok(()) => core.store.touch(session, ring),
        Err(breach) => core.store.condemn(session, breach),
    }
}
