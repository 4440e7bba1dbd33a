//! TAP devices: Ethernet frames to and from the host's kernel, checksums and segmentation left to it.

use crate::{Caps, Device, DeviceStats, RxMeta, TxFrame, TxResult, sys, vnet};
use stackd_base::{Instant, QueueId};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO4: libc::c_uint = 0x02;
const TUN_F_TSO6: libc::c_uint = 0x04;
const TUN_F_TSO_ECN: libc::c_uint = 0x08;
const TUN_F_USO: libc::c_uint = 0x20 | 0x40;

/// What to open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapConfig {
    /// Interface name; empty: the kernel chooses ("tap0").
    pub name: String,
    /// Queues, at least one.
    pub queues: u16,
    /// Largest IP packet that stackd's side sends.
    pub mtu: u32,
    /// Network namespace to make it in: a path such as `/proc/PID/ns/net` or `/run/netns/NAME`; `None`: the caller's.
    pub netns: Option<PathBuf>,
}

/// One queue of a TAP device.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
    queue: QueueId,
    mtu: u32,
    uso: bool,
    offload: bool,
    rx_invalid: u64,
}

impl Tap {
    /// Opens all queues.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN in the namespace, ENOENT without `/dev/net/tun`, EBUSY when the name is taken; the message says which step.
    pub fn open(config: &TapConfig) -> io::Result<Vec<Self>> {
        Self::open_with(config, true)
    }

    /// Opens all queues without offloads: every frame is a single segment with its checksum in place, both ways. The stack is happier with
    /// [`SoftOffload`](crate::SoftOffload) around each.
    ///
    /// # Errors
    /// As [`Tap::open`].
    pub fn open_plain(config: &TapConfig) -> io::Result<Vec<Self>> {
        Self::open_with(config, false)
    }

    fn open_with(config: &TapConfig, offload: bool) -> io::Result<Vec<Self>> {
        let Some(path) = &config.netns else { return Self::open_here(config, offload) };
        let ns = File::open(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        let config = config.clone();
        // setns changes the calling thread alone: a thread of its own leaves the caller where it is.
        let thread = std::thread::Builder::new().name("tap-netns".to_owned()).spawn(move || {
            // SAFETY: setns takes a descriptor, which `ns` keeps open.
            sys::check(unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) } as isize)?;
            Self::open_here(&config, offload)
        })?;
        thread.join().map_err(|_| io::Error::other("the thread that opened the TAP device panicked"))?
    }

    fn open_here(config: &TapConfig, offload: bool) -> io::Result<Vec<Self>> {
        let mut name = config.name.clone();
        let mut queues = Vec::new();
        for queue in 0..config.queues.max(1) {
            let tap = Self::open_queue(&name, queue, config, offload)?;
            name.clone_from(&tap.name);
            queues.push(tap);
        }
        Ok(queues)
    }

    fn open_queue(name: &str, queue: u16, config: &TapConfig, offload: bool) -> io::Result<Self> {
        let step = |what: &'static str| move |e: io::Error| io::Error::new(e.kind(), format!("{what}: {e}"));
        if name.len() >= libc::IFNAMSIZ {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "interface names have at most 15 bytes"));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(step("/dev/net/tun"))?;
        // SAFETY: an all-zero ifreq is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if config.queues > 1 {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        let fd = file.as_raw_fd();
        // SAFETY: TUNSETIFF reads and writes one ifreq.
        sys::check(unsafe { libc::ioctl(fd, libc::TUNSETIFF as _, &mut request) } as isize)
            .map_err(step("TUNSETIFF"))?;
        let size: libc::c_int = vnet::LEN as libc::c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int.
        sys::check(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ as _, &size) } as isize)
            .map_err(step("TUNSETVNETHDRSZ"))?;
        let base = if offload { TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN } else { 0 };
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let set = |f: libc::c_uint| unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD as _, libc::c_ulong::from(f)) };
        // Kernels before 6.2 refuse USO.
        let uso = offload && set(base | TUN_F_USO) == 0;
        if !uso {
            sys::check(set(base) as isize).map_err(step("TUNSETOFFLOAD"))?;
        }
        let name = request.ifr_name.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char).collect();
        Ok(Self { file, name, queue: QueueId(queue), mtu: config.mtu, uso, offload, rx_invalid: 0 })
    }

    /// The interface's name, as the kernel gave it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Device for Tap {
    fn queue(&self) -> QueueId {
        self.queue
    }
    fn caps(&self) -> Caps {
        let on = self.offload;
        Caps {
            mtu: self.mtu,
            tx_csum: on,
            tso_max: if on { 65_535 } else { 0 },
            uso: self.uso,
            gro: on,
            ethernet: true,
        }
    }
    fn receive(&mut self, now: Instant, buf: &mut [u8]) -> io::Result<Option<RxMeta>> {
        loop {
            let Some(len) = sys::receive_packet(self.file.as_fd(), buf)? else { return Ok(None) };
            let (header, frame) = buf[..len].split_at(len.min(vnet::LEN));
            // A header that contradicts its frame is the kernel's mistake; the frame is not worth more than the next one.
            if let Ok(offload) = vnet::decode(header, frame) {
                return Ok(Some(RxMeta { at: now, offload, start: vnet::LEN, len: frame.len() }));
            }
            self.rx_invalid += 1;
        }
    }
    unsafe fn transmit(&mut self, _: Instant, frame: &TxFrame<'_>) -> TxResult {
        let header = vnet::encode(&frame.offload);
        // SAFETY: by this function's contract.
        unsafe { sys::write_frame(self.file.as_fd(), &header, frame.pieces) }
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
    fn stats(&self) -> DeviceStats {
        DeviceStats { rx_invalid: self.rx_invalid, ..DeviceStats::default() }
    }
}
