//! What the kernel of this namespace sees arrive from us: a packet socket read to the end of the test.

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt};
use std::io::PipeWriter;
use std::net::IpAddr;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

/// A thread that reads every frame.
#[derive(Debug)]
pub struct Sniffer {
    stop: PipeWriter,
    thread: JoinHandle<Result<Seen>>,
}

/// Frames that the watched address sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// How many.
    pub frames: u64,
    /// Bytes of the longest, Ethernet header included.
    pub longest: usize,
}

impl Sniffer {
    /// Watches the frames with the source address `from` on all interfaces of this namespace. Needs CAP_NET_RAW.
    pub fn start(from: IpAddr) -> Result<Self> {
        // ETH_P_ALL, in network order.
        let all = NonZero::new(u32::from(3u16.to_be())).map(Protocol::from_raw);
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, all)
            .context("cannot open a packet socket")?;
        sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, 64 << 20))?;
        let (ended, stop) = std::io::pipe()?;
        let thread = std::thread::Builder::new().name("sniffer".into()).spawn(move || watch(&socket, &ended, from))?;
        Ok(Self { stop, thread })
    }

    /// What it saw until now.
    pub fn stop(self) -> Result<Seen> {
        let Self { stop, thread } = self;
        drop(stop);
        thread.join().map_err(|_| anyhow::anyhow!("the sniffer panicked"))?
    }
}

fn watch(socket: &OwnedFd, ended: &std::io::PipeReader, from: IpAddr) -> Result<Seen> {
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
            }
        }
        if over {
            return Ok(seen);
        }
    }
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
