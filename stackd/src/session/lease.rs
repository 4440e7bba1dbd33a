//! A client's connection is its lease: requests for more rings come over it, and its end is the session's end.

use crate::dispatch::{Core, close, kick, serve_ring};
use crate::store::{SessionKey, Transport};
use stackd_base::{Errno, Instant};
use stackd_proto::StatusError;
use stackd_shm::attach::{self, Message};
use std::os::fd::AsFd;

/// Entries of a ring served when its session ends: no ring holds more.
const LAST_CALLS: usize = 4096;

/// What came of looking at a lease.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// The client lives.
    Alive,
    /// It hung up, or was killed.
    Gone,
    /// It said what no client says.
    Breach(String),
}

/// Reads what a client said over its lease.
pub fn look(core: &mut Core, key: SessionKey) -> Look {
    loop {
        let Some(shared) = core.store.shared(key) else { return Look::Gone };
        match attach::recv(&shared.lease) {
            Ok(None) => return Look::Gone,
            Ok(Some((Message::OpenRing, _))) => {
                let answered = match shared.memory.open_ring() {
                    Ok(Some(ring)) => {
                        let sent = attach::send(
                            &shared.lease,
                            &Message::RingOpened { index: ring.index() },
                            &[ring.eventfd().as_fd()],
                        );
                        shared.rings.push(ring);
                        sent
                    }
                    Ok(None) => {
                        refuse(shared.lease.as_fd(), Errno::EMFILE, "all ring pairs are in use; raise quota.rings")
                    }
                    Err(error) => refuse(shared.lease.as_fd(), Errno::ENOMEM, &error.to_string()),
                };
                // Never wait for a client: one that asks and does not listen until the socket is full breaks off.
                if answered.is_err() {
                    return Look::Gone;
                }
            }
            Ok(Some((message, _))) => return Look::Breach(format!("{message:?} on an open session")),
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock => return Look::Alive,
                std::io::ErrorKind::Interrupted => {}
                std::io::ErrorKind::InvalidData => return Look::Breach(error.to_string()),
                _ => return Look::Gone,
            },
        }
    }
}

fn refuse(lease: std::os::fd::BorrowedFd<'_>, errno: Errno, text: &str) -> std::io::Result<()> {
    attach::send(lease, &Message::Refused { errno: errno as i32, text: text.to_owned() }, &[])
}

/// Ends a session: what it published is sent, every socket is closed as close(2) would at process exit, and its memory is
/// freed when the last orphan is done. `why` is told to a client that still listens.
pub fn end(core: &mut Core, now: Instant, key: SessionKey, why: Option<StatusError>) {
    last_words(core, now, key, why.is_none());
    let socks = core.store.end_session(key);
    for (number, sock) in socks {
        close(core, now, key, number, sock);
    }
    if let Some(session) = core.store.session_mut(key) {
        match &mut session.transport {
            Transport::Shared(shared) => {
                // The client's end reports the hang-up at once, whatever it is blocked in.
                let _ = rustix::net::shutdown(&shared.lease, rustix::net::Shutdown::Both);
                shared.rings.clear();
            }
            Transport::Grpc(closing) => {
                if let (Some(closing), Some(why)) = (closing.take(), why) {
                    // The stream may have ended first.
                    let _ = closing.send(why);
                }
            }
        }
    }
    core.store.reap_session(key);
}

/// Takes in what the client published before it went: calls still in its rings, bytes written and bytes consumed without a kick. A process that
/// writes and exits at once is heard out; without this its last bytes were lost, and what it had read counted as unread: RST.
fn last_words(core: &mut Core, now: Instant, key: SessionKey, calls: bool) {
    let rings = core.store.shared(key).map_or(0, |s| s.rings.len());
    if calls {
        for ring in 0..rings as u32 {
            // A client that hung up may live on and go on filling its ring: it is heard once. A breach ends the hearing.
            let _ = serve_ring(core, now, key, ring, LAST_CALLS);
        }
    }
    if rings > 0 {
        for number in core.store.socket_numbers(key) {
            let _ = kick(core, now, key, number);
        }
    }
}
