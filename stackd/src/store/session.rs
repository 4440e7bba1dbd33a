//! A client as the stack's shell knows it: its sockets by number, what it may take and what it took.

use crate::dispatch::Wait;
use crate::shard::Claim;
use smallvec::SmallVec;
use stackd_base::{FifoId, Instant, SockId};
use stackd_netstack::{OwnerId, SocketKind};
use stackd_proto::{StatusError, v1};
use stackd_shm::abi::CHUNK_BYTES;
use stackd_shm::{DaemonRing, DaemonSession, SockStatus};
use std::os::fd::OwnedFd;
use tokio::sync::oneshot;

/// Index of a session in the store. Reused only when nothing refers to the old one.
pub type SessionKey = usize;

/// What one session may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Sockets.
    pub sockets: u32,
    /// Bytes of buffers.
    pub memory: u64,
}

/// What one session did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Socket calls.
    pub calls: u64,
    /// Bytes it wrote that the stack took.
    pub bytes_sent: u64,
    /// Bytes it read.
    pub bytes_received: u64,
    /// Times it woke the shard.
    pub doorbells: u64,
    /// Calls refused for a quota.
    pub refusals: u64,
    /// Buffer memory held on the heap.
    pub heap_bytes: u64,
}

/// One socket of a session.
#[derive(Debug)]
pub struct Socket {
    /// Halves of a shared FIFO that the stack has not asked for (yet: a listener never does).
    pub spare: Option<Box<(stackd_shm::fifo::TxReader, stackd_shm::fifo::RxWriter)>>,
    /// The words by which a shared-memory client sees its state.
    pub status: Option<SockStatus>,
    /// Goes with the number into a completion, so that a client can tell sockets that had the same number apart.
    pub number_generation: u32,
    /// The stack's name for it.
    pub sock: SockId,
    /// TCP or UDP.
    pub kind: SocketKind,
    /// Its bytes, while it has any.
    pub fifo: Option<FifoId>,
    /// The client knows its number (a connection that waits in an accept queue is not known yet).
    pub known: bool,
    /// Calls that wait for it.
    pub waits: SmallVec<[Wait; 1]>,
    /// The local port whose frames are steered to this shard on its account.
    pub claimed: Option<Claim>,
}

/// The shared-memory side of a session.
#[derive(Debug)]
pub struct SharedSession {
    /// Region, doorbell, numbers.
    pub memory: DaemonSession,
    /// One a client thread.
    pub rings: Vec<DaemonRing>,
    /// The attach connection: the client lives as long as it holds the other end.
    pub lease: OwnedFd,
}

/// How a session talks to us.
#[derive(Debug)]
pub enum Transport {
    /// Shared memory.
    Shared(Box<SharedSession>),
    /// gRPC: bytes on the daemon's heap; told through this when the daemon ends it.
    Grpc(Option<oneshot::Sender<StatusError>>),
}

/// Sockets by number. Numbers are small and dense: the lowest free one is not promised, but a freed one is used first.
#[derive(Debug, Default)]
pub struct Numbers {
    slots: Vec<Option<Socket>>,
    free: Vec<u32>,
    len: usize,
}

impl Numbers {
    /// Sockets that have a number.
    pub fn len(&self) -> usize {
        self.len
    }
    /// None has.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The socket with this number.
    pub fn get(&self, number: u32) -> Option<&Socket> {
        self.slots.get(number as usize)?.as_ref()
    }
    /// The same, to be changed.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Socket> {
        self.slots.get_mut(number as usize)?.as_mut()
    }
    /// A number nobody has. Only for sessions whose numbers are not chosen by their shared memory.
    pub fn choose(&mut self) -> u32 {
        self.free.pop().unwrap_or(self.slots.len() as u32)
    }
    /// Gives `number` to a socket; false if another one has it.
    pub fn insert(&mut self, number: u32, socket: Socket) -> bool {
        let at = number as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        if self.slots[at].is_some() {
            return false;
        }
        self.slots[at] = Some(socket);
        self.len += 1;
        true
    }
    /// Takes a socket out. `reuse`: `choose` may give its number out again.
    pub fn remove(&mut self, number: u32, reuse: bool) -> Option<Socket> {
        let socket = self.slots.get_mut(number as usize)?.take()?;
        self.len -= 1;
        if reuse {
            self.free.push(number);
        }
        Some(socket)
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Socket)> {
        (0u32..).zip(&self.slots).filter_map(|(n, s)| Some((n, s.as_ref()?)))
    }
    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Socket)> {
        (0u32..).zip(&mut self.slots).filter_map(|(n, s)| Some((n, s.as_mut()?)))
    }
}

/// One client.
#[derive(Debug)]
pub struct Session {
    /// Unique while the daemon lives.
    pub id: u64,
    /// Who it is, from SO_PEERCRED.
    pub process: v1::Process,
    /// How it talks to us.
    pub transport: Transport,
    /// Its sockets, by their number.
    pub sockets: Numbers,
    /// FIFOs that still belong to it, those of orphans included.
    pub fifos: usize,
    /// Limits.
    pub quota: Quota,
    /// Figures.
    pub usage: Usage,
    /// When it came.
    pub since: Instant,
    /// False once the client is gone and only orphans are left.
    pub alive: bool,
}

impl Session {
    /// What the stack calls this session.
    pub fn owner(&self) -> OwnerId {
        OwnerId(self.id)
    }

    /// Bytes of buffers held.
    pub fn memory(&self) -> u64 {
        match &self.transport {
            Transport::Shared(shared) => u64::from(shared.memory.pool().in_use()) * CHUNK_BYTES as u64,
            Transport::Grpc(_) => self.usage.heap_bytes,
        }
    }

    /// As `netctl clients` shows it.
    pub fn describe(&self, now: Instant) -> v1::ClientSession {
        let Self { id, process, transport, sockets, fifos: _, quota, usage, since, alive: _ } = self;
        let Usage { calls, bytes_sent, bytes_received, doorbells, refusals, heap_bytes: _ } = *usage;
        let (kind, rings) = match transport {
            Transport::Shared(shared) => (v1::ClientTransport::SharedMemory, shared.rings.len() as u32),
            Transport::Grpc(_) => (v1::ClientTransport::Grpc, 0),
        };
        v1::ClientSession {
            id: *id,
            process: Some(process.clone()),
            transport: kind as i32,
            sockets: sockets.len() as u32,
            max_sockets: quota.sockets,
            memory_bytes: self.memory(),
            max_memory_bytes: quota.memory,
            rings,
            calls,
            bytes_sent,
            bytes_received,
            doorbells,
            age_ms: now.saturating_since(*since).as_millis(),
            quota_refusals: refusals,
        }
    }
}
