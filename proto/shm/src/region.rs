//! A session's shared memory: one sealed memfd, mapped whole by both sides.
//!
//! ```text
//! header page | ring pairs[R] | control blocks[S] x 256 B | chunk tables[S] x 2 x 16 KiB | chunks[C] x 64 KiB
//! ```
//! The file is sparse: a table or chunk that nobody touched costs nothing. It is sealed against growing and
//! shrinking before a client sees it, so no access inside the mapping can fault for want of file (SIGBUS).
//!
//! References handed out here are to atomics only; bytes of chunks are reached through raw pointers, because the other side may
//! write them at any moment and a Rust reference would promise that nobody does.

use crate::abi::{ABI_VERSION, ARG_BYTES, CHUNK_BYTES, MAGIC, TABLE_LEN};
use crate::breach::Breach;
use crate::ring::{ArgSlot, RingMem, Slot};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::io;
use std::sync::Arc;

const PAGE: usize = 4096;
const RING_INDEX_BYTES: usize = 1024;
const TABLE_BYTES: usize = TABLE_LEN * 4;
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
/// Bounds on what a header may claim, so that no product below overflows.
const MAX_RINGS: u32 = 1024;
const MAX_RING_ENTRIES: u32 = 1 << 15;
const MAX_SOCKETS: u32 = 1 << 20;
const MAX_CHUNKS: u32 = 1 << 24;

/// How much of everything a region has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Ring pairs: client threads that can call at the same time without sharing. 1..=1024.
    pub rings: u32,
    /// Entries of each ring: a power of two, 2..=32768.
    pub ring_entries: u32,
    /// Sockets. 1..=2^20.
    pub sockets: u32,
    /// Chunks of 64 KiB: the session's memory quota. 1..=2^24.
    pub chunks: u32,
}

impl Default for Geometry {
    /// 64 threads, 16384 sockets, 4 GiB of buffers (sparse).
    fn default() -> Self {
        Self { rings: 64, ring_entries: 128, sockets: 16384, chunks: 65536 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    ring_bytes: usize,
    controls: usize,
    tables: usize,
    chunks: usize,
    total: usize,
}

impl Geometry {
    fn layout(self) -> Option<Layout> {
        let ok = (1..=MAX_RINGS).contains(&self.rings)
            && (2..=MAX_RING_ENTRIES).contains(&self.ring_entries)
            && self.ring_entries.is_power_of_two()
            && (1..=MAX_SOCKETS).contains(&self.sockets)
            && (1..=MAX_CHUNKS).contains(&self.chunks);
        if !ok {
            return None;
        }
        let entries = self.ring_entries as usize;
        let per_entry = 2 * (size_of::<Slot>() + size_of::<ArgSlot>());
        let ring_bytes = (RING_INDEX_BYTES + entries * per_entry).next_multiple_of(PAGE);
        let controls = PAGE + ring_bytes * self.rings as usize;
        let tables = (controls + size_of::<Control>() * self.sockets as usize).next_multiple_of(PAGE);
        let chunks = (tables + 2 * TABLE_BYTES * self.sockets as usize).next_multiple_of(CHUNK_BYTES);
        Some(Layout { ring_bytes, controls, tables, chunks, total: chunks + CHUNK_BYTES * self.chunks as usize })
    }

    /// Size of the region's file.
    pub fn bytes(self) -> Option<usize> {
        self.layout().map(|l| l.total)
    }
}

/// First page of a region. The daemon writes it once; only `daemon_asleep` changes.
#[derive(Debug)]
#[repr(C)]
pub struct Header {
    magic: AtomicU64,
    version: AtomicU32,
    rings: AtomicU32,
    ring_entries: AtomicU32,
    sockets: AtomicU32,
    chunks: AtomicU32,
    table_len: AtomicU32,
    _pad: [u64; 4],
    daemon_asleep: AtomicU32,
}

/// The indices of one ring pair, each on its own pair of cache lines: processors fetch lines by twos, and an index that one side
/// writes must not drag away the one beside it that the other writes.
#[derive(Debug)]
#[repr(C)]
struct RingIndices {
    sq_head: Line,
    sq_tail: Line,
    cq_head: Line,
    cq_tail: Line,
    client_asleep: Line,
}
const _: () = assert!(size_of::<RingIndices>() <= RING_INDEX_BYTES);
const _: () = assert!(size_of::<ArgSlot>() == ARG_BYTES);

#[derive(Debug)]
#[repr(C, align(128))]
struct Line(AtomicU32);

/// A socket's shared state: one line the client writes, two the daemon writes.
#[derive(Debug)]
#[repr(C, align(256))]
pub struct Control {
    /// Client: the stream it wrote ends here.
    pub tx_head: AtomicU64,
    /// Client: it consumed everything below.
    pub rx_tail: AtomicU64,
    /// Client: 1 while a `Kick` for this socket is on a ring.
    pub kicked: AtomicU32,
    _pad0: [u32; 11],
    /// Daemon: in-order data ends here.
    pub rx_head: AtomicU64,
    /// Daemon: it wants a kick when `rx_tail` reaches this. `u64::MAX`: never.
    pub rx_wake: AtomicU64,
    /// Daemon: [`crate::abi::ready`] bits of the socket's state. Once RDHUP is seen (Acquire), `rx_head` is final.
    pub readiness: AtomicU32,
    /// Daemon: the pending socket error as a Linux errno (SO_ERROR), 0 if none.
    pub error: AtomicI32,
    /// Daemon: counts the sockets that had this number.
    pub generation: AtomicU32,
    _pad1: u32,
    /// Daemon: one more than the offset of the last urgent byte that the peer marked; 0: none yet. Written before the `rx_head` that covers it.
    pub rx_urgent: AtomicU64,
    _pad2: [u64; 3],
    /// Daemon: the client may write up to here.
    pub tx_limit: AtomicU64,
    /// Daemon: everything below was acknowledged by the peer and will not be read again.
    pub tx_released: AtomicU64,
    _pad3: [u64; 6],
    _pad4: [u64; 8],
}
const _: () = assert!(size_of::<Control>() == 256);

/// Direction of a FIFO: which of a socket's two chunk tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to network.
    Tx,
    /// Network to client.
    Rx,
}

/// A mapped region. Both sides use this type; what differs is who created the file, and who checks.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    geometry: Geometry,
    layout: Layout,
    memfd: OwnedFd,
}

// SAFETY: the mapping is plain memory owned by this value until drop; all access goes through atomics or raw pointers whose users
// state their own protocol. Nothing is tied to a thread.
unsafe impl Send for Region {}
// SAFETY: as above; `&Region` hands out only `&Atomic*` and raw pointers.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `base` and `total` are what mmap returned; every reference borrowed from `self` has ended, and raw slices
        // carry a lifetime bound to a holder of an `Arc` of this region.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.layout.total) };
    }
}

impl Region {
    /// Daemon: creates, seals and maps a region.
    pub fn create(geometry: Geometry) -> io::Result<Arc<Self>> {
        let Some(layout) = geometry.layout() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("impossible geometry {geometry:?}")));
        };
        let memfd = rustix::fs::memfd_create("stackd-session", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&memfd, layout.total as u64)?;
        rustix::fs::fcntl_add_seals(&memfd, SEALS)?;
        let region = Self::map(memfd, geometry, layout)?;
        let header = region.header();
        header.rings.store(geometry.rings, Ordering::Relaxed);
        header.ring_entries.store(geometry.ring_entries, Ordering::Relaxed);
        header.sockets.store(geometry.sockets, Ordering::Relaxed);
        header.chunks.store(geometry.chunks, Ordering::Relaxed);
        header.table_len.store(TABLE_LEN as u32, Ordering::Relaxed);
        header.version.store(u32::from(ABI_VERSION), Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(Arc::new(region))
    }

    /// Client: maps a region that came over the attach socket, after checking its seals, size, magic, version and geometry.
    pub fn open(memfd: OwnedFd, geometry: Geometry) -> io::Result<Arc<Self>> {
        let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("stackd region: {what}"));
        let layout = geometry.layout().ok_or_else(|| bad(format!("impossible geometry {geometry:?}")))?;
        let seals = rustix::fs::fcntl_get_seals(&memfd)?;
        if !seals.contains(SEALS) {
            return Err(bad(format!("not sealed against resizing ({seals:?})")));
        }
        let size = rustix::fs::fstat(&memfd)?.st_size;
        if size as usize != layout.total {
            return Err(bad(format!("{size} bytes; the geometry needs {}", layout.total)));
        }
        let region = Self::map(memfd, geometry, layout)?;
        region.check_header().map_err(|e| bad(e.to_string()))?;
        Ok(Arc::new(region))
    }

    fn map(memfd: OwnedFd, geometry: Geometry, layout: Layout) -> io::Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh shared mapping at an address the kernel picks; nothing else is unmapped by it.
        let base = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                layout.total,
                prot,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &memfd,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, geometry, layout, memfd })
    }

    /// Whether the header still says what was agreed. The daemon never acts on the header; this is for finding vandals.
    pub fn check_header(&self) -> Result<(), Breach> {
        let h = self.header();
        let found = Geometry {
            rings: h.rings.load(Ordering::Relaxed),
            ring_entries: h.ring_entries.load(Ordering::Relaxed),
            sockets: h.sockets.load(Ordering::Relaxed),
            chunks: h.chunks.load(Ordering::Relaxed),
        };
        let same = h.magic.load(Ordering::Acquire) == MAGIC
            && h.version.load(Ordering::Relaxed) == u32::from(ABI_VERSION)
            && h.table_len.load(Ordering::Relaxed) == TABLE_LEN as u32
            && found == self.geometry;
        if same { Ok(()) } else { Err(Breach::Header) }
    }

    /// How much of everything there is.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The file, to hand over.
    pub fn memfd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// The word that says the daemon sleeps.
    pub fn daemon_asleep(&self) -> &AtomicU32 {
        &self.header().daemon_asleep
    }

    /// A socket's control block; `None` beyond the last.
    pub fn control(&self, sock: u32) -> Option<&Control> {
        let at = self.layout.controls + size_of::<Control>() * sock as usize;
        // SAFETY: `sock` is below the count the layout was made for; `Control` is made of atomics and padding, aligned (controls
        // start on a page, 256 B each).
        (sock < self.geometry.sockets).then(|| unsafe { self.base.add(at).cast::<Control>().as_ref() })
    }

    /// A socket's chunk table: entry = chunk number + 1, 0 = none. `None` beyond the last socket.
    pub fn table(&self, sock: u32, direction: Direction) -> Option<&[AtomicU32; TABLE_LEN]> {
        let at = self.layout.tables + TABLE_BYTES * (2 * sock as usize + usize::from(direction == Direction::Rx));
        // SAFETY: in bounds by the layout; 4-byte aligned (tables start on a page); an array of atomics.
        (sock < self.geometry.sockets).then(|| unsafe { self.base.add(at).cast::<[AtomicU32; TABLE_LEN]>().as_ref() })
    }

    /// The first byte of a chunk of [`CHUNK_BYTES`]; `None` beyond the last.
    pub fn chunk(&self, chunk: u32) -> Option<NonNull<u8>> {
        // SAFETY: in bounds by the layout.
        (chunk < self.geometry.chunks)
            .then(|| unsafe { self.base.add(self.layout.chunks + CHUNK_BYTES * chunk as usize) })
    }

    /// Daemon: gives a free chunk's pages back to the system; it reads as zeroes afterwards.
    pub fn punch(&self, chunk: u32) -> io::Result<()> {
        if chunk >= self.geometry.chunks {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let at = (self.layout.chunks + CHUNK_BYTES * chunk as usize) as u64;
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.memfd, flags, at, CHUNK_BYTES as u64)?)
    }

    /// Daemon: gives every page of the file back to the system.
    pub(crate) fn punch_all(&self) -> io::Result<()> {
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.memfd, flags, 0, self.layout.total as u64)?)
    }

    /// The two rings of pair `index`, and the client's `asleep` word. `None` beyond the last.
    pub fn ring_pair(self: &Arc<Self>, index: u32) -> Option<RingPair> {
        (index < self.geometry.rings).then(|| RingPair { region: Arc::clone(self), index })
    }

    fn header(&self) -> &Header {
        // SAFETY: the first page of the mapping; a struct of atomics.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    fn ring_base(&self, index: u32) -> NonNull<u8> {
        debug_assert!(index < self.geometry.rings);
        // SAFETY: callers checked `index`; in bounds by the layout.
        unsafe { self.base.add(PAGE + self.layout.ring_bytes * index as usize) }
    }

    fn ring_indices(&self, index: u32) -> &RingIndices {
        // SAFETY: start of a ring pair, page-aligned; a struct of atomics.
        unsafe { self.ring_base(index).cast::<RingIndices>().as_ref() }
    }

    /// Slots lie behind the indices: sq slots, cq slots, sq args, cq args.
    fn ring_slots(&self, index: u32, completion: bool) -> &[Slot] {
        let n = self.geometry.ring_entries as usize;
        let at = RING_INDEX_BYTES + if completion { n * size_of::<Slot>() } else { 0 };
        // SAFETY: in bounds by the layout, 64-byte aligned, atomics.
        unsafe { core::slice::from_raw_parts(self.ring_base(index).add(at).cast::<Slot>().as_ptr(), n) }
    }

    fn ring_args(&self, index: u32, completion: bool) -> &[ArgSlot] {
        let n = self.geometry.ring_entries as usize;
        let at = RING_INDEX_BYTES + 2 * n * size_of::<Slot>() + if completion { n * size_of::<ArgSlot>() } else { 0 };
        // SAFETY: in bounds by the layout, 64-byte aligned, atomics.
        unsafe { core::slice::from_raw_parts(self.ring_base(index).add(at).cast::<ArgSlot>().as_ptr(), n) }
    }
}

/// One client thread's pair of rings.
#[derive(Clone, Debug)]
pub struct RingPair {
    region: Arc<Region>,
    index: u32,
}

impl RingPair {
    /// Its number.
    pub fn index(&self) -> u32 {
        self.index
    }
    /// Memory of the submission ring.
    pub fn submission(&self) -> MappedRing {
        MappedRing { pair: self.clone(), completion: false }
    }
    /// Memory of the completion ring.
    pub fn completion(&self) -> MappedRing {
        MappedRing { pair: self.clone(), completion: true }
    }
    /// The word that says the client thread sleeps.
    pub fn client_asleep(&self) -> &AtomicU32 {
        &self.region.ring_indices(self.index).client_asleep.0
    }
    /// Daemon: starts both rings over, for a new owner. The old owner must be gone.
    pub fn reset(&self) {
        let RingIndices { sq_head, sq_tail, cq_head, cq_tail, client_asleep } = self.region.ring_indices(self.index);
        for line in [sq_head, sq_tail, cq_head, cq_tail, client_asleep] {
            line.0.store(0, Ordering::Release);
        }
    }
}

/// One ring in a region.
#[derive(Clone, Debug)]
pub struct MappedRing {
    pair: RingPair,
    completion: bool,
}

impl RingMem for MappedRing {
    fn head(&self) -> &AtomicU32 {
        let i = self.pair.region.ring_indices(self.pair.index);
        if self.completion { &i.cq_head.0 } else { &i.sq_head.0 }
    }
    fn tail(&self) -> &AtomicU32 {
        let i = self.pair.region.ring_indices(self.pair.index);
        if self.completion { &i.cq_tail.0 } else { &i.sq_tail.0 }
    }
    fn slots(&self) -> &[Slot] {
        self.pair.region.ring_slots(self.pair.index, self.completion)
    }
    fn args(&self) -> &[ArgSlot] {
        self.pair.region.ring_args(self.pair.index, self.completion)
    }
}
