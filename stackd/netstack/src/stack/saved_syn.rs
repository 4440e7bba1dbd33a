//! `TCP_SAVE_SYN`: the headers of the SYN that a connection began with, for whoever wants to know its client by them.

use super::Stack;
use crate::demux::{FlowEntry, FlowKey};
use crate::ip::Datagram;
use crate::socket::Body;
use stackd_base::{Errno, SockId};
use std::collections::HashMap;

/// Of half-open connections. Beside their table: most listeners do not ask, and an entry there is to stay small.
pub(crate) type SavedSyns = HashMap<FlowKey, Box<[u8]>, rapidhash::fast::RandomState>;

impl Stack {
    /// A SYN was answered: keeps its headers if the listener asked for them. Of one that was answered by a cookie nothing is kept, as in Linux.
    pub(super) fn save_syn(&mut self, listener: SockId, flow: &FlowKey, d: &Datagram<'_>, header_len: usize) {
        if !self.sockets.get(listener).is_some_and(|s| s.opts.save_syn) {
            return;
        }
        let Some(headers) = d.packet.get(..d.transport_at + header_len).map(Box::from) else { return };
        match self.tcp_demux.flow(flow) {
            Some(FlowEntry::Request(_)) => {
                self.saved_syns.insert(*flow, headers);
            }
            // Data in the SYN made it a connection at once.
            Some(FlowEntry::Sock(child)) => {
                if let Some(t) = self.tcp_mut(child) {
                    t.birth.get_or_insert_default().saved_syn = Some(headers);
                }
            }
            Some(FlowEntry::TimeWait(_)) | None => {}
        }
    }

    /// `TCP_SAVED_SYN`: given out once, whole or not at all. Nothing was saved: no bytes.
    pub(super) fn take_saved_syn(&mut self, sock: SockId, out: &mut [u8]) -> Result<usize, Errno> {
        let s = self.sockets.get_mut(sock).ok_or(Errno::EBADF)?;
        let Body::Tcp(t) = &mut s.body else { return Ok(0) };
        let Some(saved) = t.birth.as_mut().map(|b| &mut b.saved_syn) else { return Ok(0) };
        let len = saved.as_ref().map_or(0, |s| s.len());
        let to = out.get_mut(..len).ok_or(Errno::EINVAL)?;
        if let Some(headers) = saved.take() {
            to.copy_from_slice(&headers);
        }
        Ok(len)
    }
}
