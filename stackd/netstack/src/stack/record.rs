//! Recordings of connections: which, and when they begin and end.

use super::Stack;
use crate::socket::Body;
use stackd_base::{Errno, Instant, SockId};
use stackd_tcp::record::{EndReason, FlowHead, Start, Tape, TapeOptions, TapeSink};
use std::net::SocketAddr;

/// A connection that begins.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow<'a> {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// `SO_MARK`.
    pub mark: u32,
    /// `SO_BINDTODEVICE`.
    pub device: Option<&'a str>,
}

/// Who records connections.
pub trait Recorder: core::fmt::Debug + Send {
    /// Whether a connection that begins is to be recorded.
    fn wants(&mut self, flow: &NewFlow<'_>) -> bool;
    /// Where its tape goes. `None`: no more are taken.
    fn sink(&mut self, head: FlowHead, from_birth: bool) -> Option<Box<dyn TapeSink>>;
    /// How closely to look.
    fn options(&self) -> TapeOptions;
}

/// The recordings of a shard.
#[derive(Debug, Default)]
pub(crate) struct Recordings {
    recorders: Vec<(u64, Box<dyn Recorder>)>,
    taped: Vec<(u64, SockId)>,
}

impl Stack {
    /// From now on `recorder` is asked about each connection that begins, until [`Stack::stop_recording`].
    pub fn start_recording(&mut self, id: u64, recorder: Box<dyn Recorder>) {
        self.recordings.recorders.push((id, recorder));
    }

    /// Records a connection that is alive, for recorder `id`.
    ///
    /// # Errors
    /// `EBADF`, `ENOTCONN` (no connection), `EALREADY` (it is recorded), `ENOBUFS` (the recorder takes no more).
    pub fn record_socket(&mut self, now: Instant, id: u64, sock: SockId) -> Result<(), Errno> {
        let s = self.sockets.get(sock).ok_or(Errno::EBADF)?;
        match &s.body {
            Body::Tcp(t) if t.conn.is_taped() => return Err(Errno::EALREADY),
            Body::Tcp(t) if t.attached => {}
            Body::Tcp(_) | Body::TcpClosed | Body::Listen(_) | Body::Udp(_) => return Err(Errno::ENOTCONN),
        }
        let at = self.recordings.recorders.iter().position(|r| r.0 == id).ok_or(Errno::ENOENT)?;
        self.begin_tape(now, at, sock, &Start::Live).ok_or(Errno::ENOBUFS)
    }

    /// Ends all recordings of a recorder.
    pub fn stop_recording(&mut self, id: u64) {
        self.recordings.recorders.retain(|r| r.0 != id);
        let (ours, others) = self.recordings.taped.drain(..).partition(|t| t.0 == id);
        self.recordings.taped = others;
        let ours: Vec<(u64, SockId)> = ours;
        for (_, sock) in ours {
            if let Some(t) = self.tcp_mut(sock) {
                t.conn.end_tape(EndReason::Stopped);
            }
        }
    }

    /// A connection was just made as `start` tells.
    pub(super) fn born(&mut self, now: Instant, sock: SockId, start: &Start) {
        for at in 0..self.recordings.recorders.len() {
            let Some(s) = self.sockets.get(sock) else { return };
            let Some(remote) = s.peer else { return };
            let device = s.opts.device.and_then(|id| self.ip.port(id)).map(|p| p.config.name.as_str());
            let flow = NewFlow { local: s.local, remote, mark: s.opts.mark, device };
            let (_, recorder) = &mut self.recordings.recorders[at];
            if recorder.wants(&flow) && self.begin_tape(now, at, sock, start).is_some() {
                return;
            }
        }
    }

    fn begin_tape(&mut self, now: Instant, at: usize, sock: SockId, start: &Start) -> Option<()> {
        let s = self.sockets.get(sock)?;
        let head = FlowHead { local: s.local, remote: s.peer?, cookie: s.cookie };
        let (id, recorder) = &mut self.recordings.recorders[at];
        let (id, options) = (*id, recorder.options());
        let sink = recorder.sink(head, !matches!(start, Start::Live))?;
        let (conn, mut env) = self.tcp_parts(sock)?;
        let tape = Tape::begin(now, start, conn, &mut env, options, sink)?;
        conn.start_tape(tape);
        let sockets = &self.sockets;
        self.recordings.taped.retain(|&(_, sock)| sockets.get(sock).is_some());
        self.recordings.taped.push((id, sock));
        Some(())
    }
}
