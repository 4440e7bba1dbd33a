//! What the kernel of this namespace sees arrive from us: a packet socket read to the end of the test.

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt};
use std::io::PipeWriter;
use std::net::IpAddr;
use std::num::NonZero;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that reads every frame.
#[derive(Debug)]
pub struct Sniffer {
    stop: PipeWriter,
    thread: JoinHandle<Result<Seen>>,
}

/// One frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When the kernel took it, by its wall clock.
    pub at: Duration,
    /// Bytes, Ethernet header included.
    pub len: usize,
}

/// Frames that the watched address sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Each frame, if arrivals were asked for.
    pub arrivals: Vec<Arrival>,
    /// How many.
    pub frames: u64,
    /// Bytes of the longest, Ethernet header included.
    pub longest: usize,
}

impl Sniffer {
    /// Watches the frames with the source address `from` on all interfaces of this namespace. Needs CAP_NET_RAW.
    pub fn start(from: IpAddr) -> Result<Self> {
        Self::start_with(from, false)
    }

    /// The same, and writes each frame down.
    pub fn start_with(from: IpAddr, arrivals: bool) -> Result<Self> {
        // ETH_P_ALL, in network order.
        let all = NonZero::new(u32::from(3u16.to_be())).map(Protocol::from_raw);
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, all)
            .context("cannot open a packet socket")?;
        sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, 64 << 20))?;
        let (ended, stop) = std::io::pipe()?;
        let thread =
            std::thread::Builder::new().name("sniffer".into()).spawn(move || watch(&socket, &ended, from, arrivals))?;
        Ok(Self { stop, thread })
    }

    /// What it saw until now.
    pub fn stop(self) -> Result<Seen> {
        let Self { stop, thread } = self;
        drop(stop);
        thread.join().map_err(|_| anyhow::anyhow!("the sniffer panicked"))?
    }
}

fn watch(socket: &OwnedFd, ended: &std::io::PipeReader, from: IpAddr, arrivals: bool) -> Result<Seen> {
    if arrivals {
        // The first question has no answer yet, and switches the times on.
        let _ = arrived(socket);
    }
    let mut seen = Seen::default();
    let mut head = [0u8; 64];
    loop {
        let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        poll(&mut fds, None)?;
        let over = !fds[1].revents().is_empty();
        // TRUNC: the length of the frame, not of what fits.
        while let Ok((_, len)) = recv(socket, &mut head[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            if source(&head) == Some(from) {
                seen.frames += 1;
                seen.longest = seen.longest.max(len);
                if arrivals {
                    seen.arrivals.push(Arrival { at: arrived(socket)?, len });
                }
            }
        }
        if over {
            return Ok(seen);
        }
    }
}

/// When the frame that was read last arrived (socket(7), SIOCGSTAMPNS).
fn arrived(socket: &OwnedFd) -> std::io::Result<Duration> {
    /// SIOCGSTAMPNS with the kernel's long timespec.
    const SIOCGSTAMPNS: libc::Ioctl = 0x8907;
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, and `at` is one.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS, &raw mut at) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(Duration::new(at.tv_sec as u64, at.tv_nsec as u32))
}

/// The source address of an Ethernet frame's IP packet.
fn source(frame: &[u8; 64]) -> Option<IpAddr> {
    let field = |at: usize, len: usize| &frame[at..at + len];
    match field(12, 2) {
        [0x08, 0x00] => <[u8; 4]>::try_from(field(26, 4)).ok().map(IpAddr::from),
        [0x86, 0xdd] => <[u8; 16]>::try_from(field(22, 16)).ok().map(IpAddr::from),
        _ => None,
    }
}
