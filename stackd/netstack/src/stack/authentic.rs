//! Where segments with proof of their sender meet connections: signing, checking, and the socket options.

use super::Stack;
use super::ingress::{Beyond, Bytes};
use crate::auth::digest::Segment;
use crate::auth::{
    AoInfoOpt, AoKeyArgs, Auth, Place, ao_key_entry, check_without_keys, parse_ao_add, parse_ao_del, parse_md5,
};
use crate::demux::FlowKey;
use crate::ip::Datagram;
use crate::socket::opts::{OptionValue, name};
use crate::socket::{Body, Socket};
use crate::store::ByteStore;
use crate::types::Domain;
use stackd_base::{DropReason, Errno, Instant, PortId, SeqNum, SockId};
use stackd_wire::TcpRepr;
use std::net::IpAddr;

/// On whose behalf a segment that no connection sends is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signer {
    /// Nobody.
    None,
    /// A listener; ISNs of ours and of the peer's, where the segment in hand tells them; the keys that a SYN asked for.
    Listener(SockId, SeqNum, Option<SeqNum>, Option<(u8, u8)>),
    /// A TIME_WAIT entry.
    TimeWait(u32),
}

/// What outlives a connection that signed.
#[derive(Clone, Debug)]
pub(crate) struct TimeWaitAuth {
    auth: Box<Auth>,
    isns: (SeqNum, SeqNum),
    /// Of what we send, and of what arrives.
    snes: (u32, u32),
}

/// Options handled here.
pub(super) fn is_auth_option(level: i32, option: i32) -> bool {
    level == name::SOL_TCP
        && matches!(
            option,
            name::TCP_MD5SIG
                | name::TCP_MD5SIG_EXT
                | name::TCP_AO_ADD_KEY
                | name::TCP_AO_DEL_KEY
                | name::TCP_AO_INFO
                | name::TCP_AO_GET_KEYS
        )
}

fn place_of(s: &Socket, seq: SeqNum, sending: bool, port: Option<PortId>) -> Option<Place> {
    let (peer, Body::Tcp(t)) = (s.peer?, &s.body) else { return None };
    let (iss, irs) = t.conn.isns();
    let sne = if sending { t.conn.send_sne(seq) } else { t.conn.recv_sne(seq) };
    Some(Place { local: (s.local, iss), remote: (peer, irs), sne, port, live: true })
}

/// Bytes that a socket's segments to `peer` spend on proof.
pub(super) fn overhead(auth: Option<&Auth>, peer: IpAddr) -> u8 {
    auth.map_or(0, |a| a.overhead(peer))
}

impl Stack {
    /// Puts the digest into the header of a connection's segment.
    pub(super) fn sign_segment(s: &mut Socket, seq: SeqNum, header: &mut [u8], payload: &[u8]) {
        let Some(place) = place_of(s, seq, true, None) else { return };
        if let Some(auth) = &mut s.auth {
            auth.sign(header, &place, payload);
        }
    }

    /// The same for a segment that no connection sends. False: it cannot be signed, and must not leave.
    pub(super) fn sign_bare(
        &mut self,
        signer: Signer,
        flow: &FlowKey,
        repr: &TcpRepr,
        header: &mut [u8; 60],
    ) -> Option<usize> {
        let peer = flow.remote();
        let (auth, local_isn, remote_isn, sne) = match signer {
            Signer::None => return Some(repr.emit(header)),
            Signer::Listener(sock, ours, theirs, _) => {
                let Some(auth) = self.sockets.get_mut(sock).and_then(|s| s.auth.as_mut()) else {
                    return Some(repr.emit(header));
                };
                (auth, ours, theirs, 0)
            }
            Signer::TimeWait(index) => {
                let Some(tw) = self.tw_auth.get_mut(&index) else { return Some(repr.emit(header)) };
                (&mut tw.auth, tw.isns.0, Some(tw.isns.1), tw.snes.0)
            }
        };
        // RFC 5925, 7.5: a SYN-ACK answers with the key that the SYN asked for. The listener itself prefers none.
        let own = (auth.ao.current, auth.ao.rnext);
        if let Signer::Listener(.., Some((key, next))) = signer {
            (auth.ao.current, auth.ao.rnext) = (Some(next), Some(key));
        }
        let (options, signed) = auth.reserve(repr.options, peer.ip());
        let len = TcpRepr { options, ..*repr }.emit(header);
        // RFC 5925, 7.7: a RST without the connection's ISNs cannot be authenticated.
        if options.ao.is_some() && remote_isn.is_none() {
            (auth.ao.current, auth.ao.rnext) = own;
            return None;
        }
        if signed {
            let place =
                Place { local: (flow.local(), local_isn), remote: (peer, remote_isn), sne, port: None, live: false };
            auth.sign(&mut header[..len], &place, &[]);
        }
        (auth.ao.current, auth.ao.rnext) = own;
        Some(len)
    }

    /// Whether a segment for a connection or a listener is what its sender made; what it lacks is counted.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn check_segment<S: ByteStore>(
        &mut self,
        sock: SockId,
        flow: &FlowKey,
        seg: &TcpRepr,
        d: &Datagram<'_>,
        bytes: &Bytes<'_, S::Payload<'_>>,
        isns: Option<(SeqNum, SeqNum)>,
        store: &S,
    ) -> Result<(), DropReason> {
        let Self { sockets, mib, .. } = self;
        let Some(s) = sockets.get_mut(sock) else { return Err(DropReason::SocketClosed) };
        let place = place_of(s, seg.seq, false, Some(d.port)).unwrap_or(Place {
            // A listener: an ACK names both ISNs (of a SYN cookie), a SYN its own.
            local: (flow.local(), isns.map_or_else(|| seg.ack.map_or(SeqNum(0), |a| a - 1), |i| i.0)),
            remote: (flow.remote(), isns.map(|i| i.1).or_else(|| seg.ack.map(|_| seg.seq - 1))),
            sne: 0,
            port: Some(d.port),
            live: false,
        });
        let verdict = match &mut s.auth {
            None => check_without_keys(seg),
            Some(auth) => with_segment(d, bytes, store, |segment| auth.check(seg, &place, segment)),
        };
        verdict.map_err(|(reason, counter)| {
            mib.inc(counter);
            reason
        })
    }

    /// The same for what is left of a connection.
    pub(super) fn check_time_wait<S: ByteStore>(
        &mut self,
        index: u32,
        flow: &FlowKey,
        seg: &TcpRepr,
        d: &Datagram<'_>,
        bytes: &Bytes<'_, S::Payload<'_>>,
        store: &S,
    ) -> Result<(), DropReason> {
        let Self { tw_auth, mib, .. } = self;
        let verdict = match tw_auth.get_mut(&index) {
            None => check_without_keys(seg),
            Some(tw) => {
                let place = Place {
                    local: (flow.local(), tw.isns.0),
                    remote: (flow.remote(), Some(tw.isns.1)),
                    sne: tw.snes.1,
                    port: Some(d.port),
                    live: false,
                };
                with_segment(d, bytes, store, |segment| tw.auth.check(seg, &place, segment))
            }
        };
        verdict.map_err(|(reason, counter)| {
            mib.inc(counter);
            reason
        })
    }

    /// A connection that signed enters TIME_WAIT as this entry.
    pub(super) fn keep_auth(&mut self, sock: SockId, index: u32) {
        let Some(s) = self.sockets.get(sock) else { return };
        let (Some(auth), Body::Tcp(t)) = (&s.auth, &s.body) else { return };
        let ((iss, Some(irs)), conn) = (t.conn.isns(), &t.conn) else { return };
        let snes = (conn.send_sne(conn.snd_nxt()), conn.recv_sne(conn.rcv_nxt()));
        self.tw_auth.insert(index, TimeWaitAuth { auth: auth.clone(), isns: (iss, irs), snes });
    }

    /// RFC 5925, 7.8: "a TCP-AO implementation ... SHOULD ... ignore" ICMP errors that would end a connection, for anybody can make them.
    pub(super) fn ignores_icmp(&mut self, sock: SockId) -> bool {
        let Some(ao) = self.sockets.get_mut(sock).and_then(|s| s.auth.as_mut()).map(|a| &mut a.ao) else {
            return false;
        };
        let ignores = !ao.keys.is_empty() && !ao.accept_icmps;
        if ignores {
            ao.count.dropped_icmps += 1;
            self.mib.inc(stackd_base::Mib::TcpExtTCPAODroppedIcmps);
        }
        ignores
    }

    // ---- options ----

    /// `setsockopt` of one of these.
    pub(super) fn set_auth_option(
        &mut self,
        now: Instant,
        sock: SockId,
        option: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let _ = now;
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let (domain, live) = match &s.body {
            Body::TcpClosed | Body::Listen(_) => (s.domain, false),
            Body::Tcp(t) => (s.domain, t.attached),
            Body::Udp(_) => return Err(Errno::ENOPROTOOPT),
        };
        let listening = matches!(s.body, Body::Listen(_));
        let (peer, had) = (s.peer, s.auth.take());
        let mut auth = had.clone().unwrap_or_default();
        let done = match option {
            name::TCP_MD5SIG | name::TCP_MD5SIG_EXT => {
                set_md5(&mut auth, value, domain, option == name::TCP_MD5SIG_EXT)
            }
            name::TCP_AO_ADD_KEY => parse_ao_add(value, domain).and_then(|(key, args)| {
                if listening && args != AoKeyArgs::default() || auth.has_md5(key.peers.addr) {
                    return Err(Errno::EINVAL);
                }
                auth.ao.add(key)?;
                choose(&mut auth, args)
            }),
            name::TCP_AO_DEL_KEY => parse_ao_del(value, domain).and_then(|(peers, ids, args)| {
                choose(&mut auth, args)?;
                auth.ao.remove(&peers, ids, live)
            }),
            name::TCP_AO_INFO => AoInfoOpt::parse(value).and_then(|info| {
                if listening && info.keys != AoKeyArgs::default() {
                    return Err(Errno::EINVAL);
                }
                choose(&mut auth, info.keys)?;
                (auth.ao.required, auth.ao.accept_icmps) = (info.required, info.accept_icmps);
                auth.ao.count = info.count.unwrap_or(auth.ao.count);
                Ok(())
            }),
            _ => Err(Errno::ENOPROTOOPT),
        };
        // The MSS of a connection was agreed on with or without the room that a digest takes.
        let spends = |a: Option<&Auth>| peer.map_or(0, |p| overhead(a, p.ip()));
        let done = match done {
            Ok(()) if live && spends(Some(&auth)) != spends(had.as_deref()) => Err(Errno::EISCONN),
            done => done,
        };
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        s.auth =
            if done.is_ok() { Some(auth).filter(|a| !a.is_empty() || a.ao.required || a.ao.accept_icmps) } else { had };
        done
    }

    /// `getsockopt` of one of these; `most` bytes fit.
    pub(super) fn get_auth_option(&self, sock: SockId, option: i32, most: usize) -> Result<OptionValue, Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        let ao = s.auth.as_ref().map(|a| &a.ao).ok_or(Errno::ENOENT);
        match option {
            name::TCP_AO_INFO => ao.map(|ao| OptionValue::Bytes(AoInfoOpt::of(ao))),
            name::TCP_AO_GET_KEYS => {
                let ao = ao?;
                let (of, fit) = (ao.keys.len(), most / 304);
                let entries = ao.keys.iter().take(fit).flat_map(|k| ao_key_entry(k, ao, of, s.domain));
                Ok(OptionValue::Bytes(entries.collect()))
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }
}

fn set_md5(auth: &mut Auth, value: &[u8], domain: Domain, ext: bool) -> Result<(), Errno> {
    let key = parse_md5(value, domain, ext)?;
    if key.key.is_empty() {
        return auth.remove_md5(&key.peers).then_some(()).ok_or(Errno::ENOENT);
    }
    if auth.ao.keys.iter().any(|k| k.peers == key.peers) {
        return Err(Errno::EINVAL);
    }
    auth.set_md5(key);
    Ok(())
}

fn choose(auth: &mut Auth, args: AoKeyArgs) -> Result<(), Errno> {
    if let Some(id) = args.current {
        auth.ao.set_current(id)?;
    }
    args.rnext.map_or(Ok(()), |id| auth.ao.set_rnext(id))
}

/// A received segment, to be hashed.
fn with_segment<S: ByteStore, R>(
    d: &Datagram<'_>,
    bytes: &Bytes<'_, S::Payload<'_>>,
    store: &S,
    check: impl FnOnce(&Segment<'_>) -> R,
) -> R {
    let transport = d.transport();
    let header_len = (usize::from(transport[12] >> 4) * 4).min(transport.len());
    let visit = |f: &mut dyn FnMut(&[u8])| {
        f(bytes.visible);
        match &bytes.beyond {
            // What lies in a sender's buffer was sent by a stack that signed nothing: the digest will not fit.
            Beyond::Nothing | Beyond::Fifo(..) => {}
            Beyond::Shell(p) => store.payload_visit(*p, 0, bytes.len - bytes.visible.len(), f),
        }
    };
    check(&Segment { src: d.src, dst: d.dst, header: &transport[..header_len], len: bytes.len, payload: &visit })
}
