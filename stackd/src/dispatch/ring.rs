//! Shared-memory entries: read into calls, answered by completions.

use super::wait::{self, Answer, Wait, WaitKind};
use super::{Core, execute};
use crate::control::backend::{SocketCall, SocketResult};
use crate::store::SessionKey;
use stackd_base::{Errno, Instant};
use stackd_shm::abi::{Arg, Cqe, FLAG_NONBLOCK, Opcode};
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
            return kick(core, now, session, number);
        }
        Opcode::Nop => return done(core, to, Ok(SocketResult::Done)),
        Opcode::Consumed => {
            kick(core, now, session, number)?;
            return done(core, to, Ok(SocketResult::Done));
        }
        Opcode::PollAdd => {
            core.store.count_call(session);
            kick(core, now, session, number)?;
            wait::begin(core, now, session, number, Wait { kind: WaitKind::Poll(args[0] as u32), answer: to });
            return Ok(());
        }
        Opcode::PollRemove | Opcode::Cancel => {
            let polls_only = opcode == Opcode::PollRemove;
            let found = core.store.take_wait(session, |w| {
                let named =
                    matches!(w.answer, Answer::Ring { ring: r, user_data, .. } if r == ring && user_data == args[0]);
                named && (!polls_only || matches!(w.kind, WaitKind::Poll(_)))
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
            let result = execute(core, now, session, SocketCall::Connect { socket: number, remote: arg.addr()? });
            return match result {
                Err(Errno::EINPROGRESS) if waits => {
                    wait::begin(core, now, session, number, Wait { kind: WaitKind::Connect, answer: to });
                    Ok(())
                }
                result => done(core, to, result),
            };
        }
        Opcode::Accept => {
            return match execute(core, now, session, SocketCall::Accept { socket: number }) {
                Err(Errno::EAGAIN) if waits => {
                    wait::begin(core, now, session, number, Wait { kind: WaitKind::Accept, answer: to });
                    Ok(())
                }
                result => done(core, to, result),
            };
        }
        Opcode::Shutdown => {
            // What was published before is sent before the FIN, kicked or not.
            kick(core, now, session, number)?;
            SocketCall::Shutdown { socket: number, how: args[0] as i32 }
        }
        Opcode::Close => {
            kick(core, now, session, number)?;
            SocketCall::Close { socket: number }
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
    done(core, to, result)
}

fn done(core: &mut Core, to: Answer, result: Result<SocketResult, Errno>) -> Result<(), Breach> {
    wait::complete(core, to, result);
    Ok(())
}

/// Tells the stack what the client did to a socket's FIFO.
pub fn kick(core: &mut Core, now: Instant, session: SessionKey, number: u32) -> Result<(), Breach> {
    // A kick may cross a close on its way: no breach.
    let Ok(sock) = core.store.sock(session, number) else { return Ok(()) };
    let Some(fifo) = core.stack.fifo(sock) else {
        core.store.take_idle_kick(session, number);
        return Ok(());
    };
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
            send_datagrams(core, now, sock, fifo)?;
            // It may have been bound by sending; see `send` of the other transport.
            let _ = super::claim_bound(core, now, session, (number, sock));
        }
        if core.stack.fifo(sock) != Some(fifo) || !core.store.want_report(fifo) {
            break;
        }
    }
    Ok(())
}

fn send_datagrams(
    core: &mut Core,
    now: Instant,
    sock: stackd_base::SockId,
    fifo: stackd_base::FifoId,
) -> Result<(), Breach> {
    let (mut control, mut data) = (Vec::new(), Vec::new());
    while let Some(datagram) = core.store.next_datagram(fifo, &mut control, &mut data)? {
        if let Err(error) = core.stack.send_message(now, sock, datagram.to, &control, &data, &mut core.store) {
            core.store.set_error(sock, error);
        }
        core.store.datagram_sent(fifo, datagram.end);
    }
    Ok(())
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
        Ok(SocketResult::Names { .. } | SocketResult::Sent(_)) => {
            cqe.result = -(Errno::EINVAL as i32);
        }
    }
    let Some(target) = core.store.ring(session, ring) else { return };
    match target.complete(cqe, &arg) {
        Ok(()) => core.store.touch(session, ring),
        Err(breach) => core.store.condemn(session, breach),
    }
}
