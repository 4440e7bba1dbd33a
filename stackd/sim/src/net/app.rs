//! What a program does with one connection.

use super::content::{Reader, StreamId};
use stackd_base::{Duration, Errno, Instant, SockId};
use stackd_netstack::{HeapStore, Readiness, Shutdown, Stack};
use stackd_tcp::State;

/// When a program writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Writing {
    /// Bytes in all.
    pub total: u64,
    /// Bytes of one call.
    pub chunk: u32,
    /// Pause between two calls.
    pub gap: Duration,
    /// A dialogue: `first` bytes unasked, and then `answer` for every `request` bytes read.
    pub dialogue: Option<Dialogue>,
    /// The last byte of each call is urgent (`MSG_OOB`); its reader takes it where it stands (`SO_OOBINLINE`).
    pub urgent: bool,
}

/// See [`Writing::dialogue`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dialogue {
    /// Written before anything was read.
    pub first: u64,
    /// So many bytes read ...
    pub request: u64,
    /// ... allow so many to be written.
    pub answer: u64,
}

impl Writing {
    /// How far the stream may go when `read` bytes were read, and the end too.
    fn allowed(&self, read: u64, eof: bool) -> u64 {
        match self.dialogue {
            None => self.total,
            // Nobody will ask any more.
            Some(_) if eof => self.total,
            Some(d) => (d.first + read / d.request.max(1) * d.answer).min(self.total),
        }
    }
}

/// When a program reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// All there is, at once.
    AtOnce,
    /// So much, every so often.
    Slowly {
        /// Bytes of one call.
        bytes: u32,
        /// Time between two.
        every: Duration,
    },
    /// Not before this long after the connection is there; then all.
    Late(Duration),
}

/// How a program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Writes all, shuts its side, reads to the end, closes.
    Polite,
    /// Writes all, closes; whatever else comes is refused.
    Abrupt,
    /// After so many bytes read or written: `SO_LINGER` zero, close.
    Abort(u64),
    /// After so many bytes read, closes with the rest unread.
    Unread(u64),
}

/// One end of a connection, as its program means it to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Writes.
    pub writing: Writing,
    /// Reads.
    pub reading: Reading,
    /// Ends.
    pub ending: Ending,
}

/// Gives up and closes when nothing moves for this long.
const PATIENCE: Duration = Duration::from_secs(1200);

/// A program with one socket.
#[derive(Debug)]
pub struct Program {
    /// Its socket; `None` when it has closed it.
    pub sock: Option<SockId>,
    /// Flow it belongs to.
    pub flow: u16,
    plan: Plan,
    id: StreamId,
    reader: Reader,
    written: u64,
    opened_at: Instant,
    connected: bool,
    next_write: Instant,
    next_read: Instant,
    moved_at: Instant,
    shut: bool,
    eof: bool,
    error: Option<Errno>,
    gave_up: bool,
}

/// What came of a program's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Bytes written and read.
    pub written: u64,
    /// Bytes read, each as it was written.
    pub read: u64,
    /// End of file was read.
    pub eof: bool,
    /// What `SO_ERROR` said.
    pub error: Option<Errno>,
    /// It waited in vain.
    pub gave_up: bool,
    /// It got a connection.
    pub connected: bool,
}

impl Program {
    /// A program that holds `sock`, of connection `index` of `flow`.
    pub fn new(now: Instant, sock: SockId, flow: u16, index: u16, client: bool, plan: Plan) -> Self {
        Self {
            sock: Some(sock),
            flow,
            plan,
            id: StreamId { flow, index, from_client: client },
            reader: Reader::new(flow, !client),
            written: 0,
            opened_at: now,
            connected: false,
            next_write: now,
            next_read: now,
            moved_at: now,
            shut: false,
            eof: false,
            error: None,
            gave_up: false,
        }
    }

    /// What came of it.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            written: self.written,
            read: self.reader.read(),
            eof: self.eof,
            error: self.error,
            gave_up: self.gave_up,
            connected: self.connected,
        }
    }

    /// Does what it can do now. True when it did something.
    ///
    /// # Errors
    /// What it read is not what was written.
    pub fn step(&mut self, now: Instant, stack: &mut Stack, store: &mut HeapStore) -> Result<bool, String> {
        let Some(sock) = self.sock else { return Ok(false) };
        let mut worked = false;
        let state = stack.connection(sock).map(|c| c.state());
        if !self.connected && state.is_some_and(State::is_synchronized) {
            self.connected = true;
            self.opened_at = now;
            self.moved_at = now;
            if let Reading::Late(wait) = self.plan.reading {
                self.next_read = now + wait;
            }
            worked = true;
        }
        if let Some(error) = stack.take_error(sock) {
            self.error = Some(error);
            self.moved_at = now;
            worked = true;
        }
        worked |= self.read(now, sock, stack, store)?;
        worked |= self.write(now, sock, stack, store);
        worked |= self.end(now, sock, stack, store);
        if worked {
            self.moved_at = now;
        }
        Ok(worked)
    }

    fn read(&mut self, now: Instant, sock: SockId, stack: &mut Stack, store: &mut HeapStore) -> Result<bool, String> {
        if !self.connected || self.eof || now < self.next_read {
            return Ok(false);
        }
        let Some(fifo) = stack.fifo(sock) else { return Ok(false) };
        let mut most = match self.plan.reading {
            Reading::Slowly { bytes, .. } => bytes as usize,
            Reading::AtOnce | Reading::Late(_) => usize::MAX,
        };
        if let Ending::Unread(limit) = self.plan.ending {
            most = most.min(limit.saturating_sub(self.reader.read()) as usize);
        }
        let (tail, bytes) = store.read(fifo, most);
        if !bytes.is_empty() {
            self.reader.take(&bytes)?;
            if let Err(e) = stack.consumed(now, sock, tail, store) {
                return Err(format!("consumed({tail}) of bytes that were there: {e:?}"));
            }
            if let Reading::Slowly { every, .. } = self.plan.reading {
                self.next_read = now + every;
            }
            return Ok(true);
        }
        if stack.readiness(sock).contains(Readiness::RDHUP) && !self.has_unread(sock, stack) {
            self.eof = true;
            return Ok(true);
        }
        Ok(false)
    }

    fn has_unread(&self, sock: SockId, stack: &Stack) -> bool {
        stack.connection(sock).is_some_and(|c| c.rx_head() > self.reader.read())
    }

    fn write(&mut self, now: Instant, sock: SockId, stack: &mut Stack, store: &mut HeapStore) -> bool {
        let allowed = self.plan.writing.allowed(self.reader.read(), self.eof);
        // Fast Open takes data before the handshake: the socket says so.
        let may = self.connected || stack.readiness(sock).contains(Readiness::OUT);
        if !may || self.shut || self.written >= allowed || now < self.next_write || self.error.is_some() {
            return false;
        }
        let Some(fifo) = stack.fifo(sock) else { return false };
        let to = allowed.min(self.written + u64::from(self.plan.writing.chunk.max(1)));
        let (head, n) = store.write(fifo, &self.id.bytes(self.written, to));
        if n == 0 {
            return false;
        }
        let written = if self.plan.writing.urgent {
            stack.written_urgent(now, sock, head, store)
        } else {
            stack.written(now, sock, head, store)
        };
        if written.is_err() {
            // Reset meanwhile: what was written goes nowhere.
            self.error.get_or_insert(Errno::EPIPE);
            return true;
        }
        self.written += n as u64;
        self.next_write = now + self.plan.writing.gap;
        true
    }

    /// Shuts, closes, or gives up.
    fn end(&mut self, now: Instant, sock: SockId, stack: &mut Stack, store: &mut HeapStore) -> bool {
        let all_written = self.connected && self.written >= self.plan.writing.total;
        let moved = self.reader.read() + self.written;
        let close = match self.plan.ending {
            Ending::Polite => self.eof && (self.shut || self.error.is_some()),
            Ending::Abrupt => all_written,
            Ending::Abort(after) => moved >= after && self.connected,
            Ending::Unread(after) => self.reader.read() >= after && self.has_unread(sock, stack) && all_written,
        };
        let ended = self.error.is_some() || (self.eof && (self.shut || !matches!(self.plan.ending, Ending::Polite)));
        let tired = now - self.moved_at >= PATIENCE;
        if close || ended || tired {
            self.gave_up |= tired && !close && !ended;
            if matches!(self.plan.ending, Ending::Abort(_)) && close {
                let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
                // The only thing that could be wrong is the socket, which is there.
                let _ = stack.set_option(now, sock, SOL_SOCKET, SO_LINGER, &linger, store);
            }
            let _ = stack.close(now, sock, store);
            self.sock = None;
            return true;
        }
        if all_written && !self.shut && self.error.is_none() {
            self.shut = true;
            let _ = stack.shutdown(now, sock, Shutdown::Write, store);
            return true;
        }
        false
    }

    /// When it will do something by itself.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.sock?;
        let patience = self.moved_at + PATIENCE;
        if !self.connected {
            return Some(patience);
        }
        // What could have been done at a time that has passed waits for something else.
        let read = Some(self.next_read).filter(|&t| t > now && !self.eof);
        let write = Some(self.next_write).filter(|&t| t > now && self.written < self.plan.writing.total);
        [Some(patience), read, write].into_iter().flatten().min()
    }
}

const SOL_SOCKET: i32 = 1;
const SO_LINGER: i32 = 13;
