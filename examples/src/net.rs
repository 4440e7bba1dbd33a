//! The same program over stackd's sockets and over the kernel's: what a comparison needs to be fair.

use std::io::{self, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Which stack a program runs on.
#[derive(Clone, Debug, clap::Args)]
pub struct StackArgs {
    /// Attach socket of the daemon (default: $STACKD_ATTACH, else the daemon's default path).
    #[arg(long, global = true, value_name = "PATH")]
    pub attach: Option<PathBuf>,
    /// Use the kernel's own TCP instead of stackd: the other arm of a comparison.
    #[arg(long, global = true, conflicts_with = "attach")]
    pub native: bool,
    /// How long a blocked call watches the shared memory before it sleeps, in microseconds.
    #[arg(long, global = true, value_name = "US")]
    pub spin_us: Option<u64>,
    /// With --native and --spin-us: let others run when a wait begins, and again whenever nothing came for so many microseconds, for
    /// ends that share a processor. (stackd's clients find out by themselves.)
    #[arg(long, global = true, requires = "native", value_name = "US")]
    pub yield_us: Option<u64>,
}

impl StackArgs {
    /// Opens the stack that was asked for.
    pub fn open(&self) -> io::Result<Box<dyn Net>> {
        if self.native {
            return Ok(Box::new(Native { spin: self.spin() }));
        }
        Ok(Box::new(self.session()?))
    }

    fn spin(&self) -> Spin {
        match (self.spin_us, self.yield_us) {
            (None | Some(0), _) => Spin::No,
            (Some(_), Some(turn)) => Spin::Yield(Duration::from_micros(turn)),
            (Some(_), None) => Spin::Pause,
        }
    }

    /// Attaches to the daemon.
    pub fn session(&self) -> io::Result<stackd_client::Session> {
        let session = match &self.attach {
            Some(path) => stackd_client::Session::connect(path)?,
            None => stackd_client::Session::open_default()?,
        };
        if let Some(us) = self.spin_us {
            session.set_spin(Duration::from_micros(us));
        }
        Ok(session)
    }
}

/// A stack that opens TCP sockets.
pub trait Net: Send + Sync {
    /// Connects, with a congestion control of choice.
    fn connect(&self, addr: SocketAddr, congestion: Option<&str>) -> io::Result<Box<dyn Stream>>;
    /// Listens.
    fn listen(&self, addr: SocketAddr) -> io::Result<Box<dyn Listener>>;
}

/// A listening socket.
pub trait Listener: Send + Sync {
    /// The next connection.
    fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)>;
    /// Where it listens: the port that was picked, if 0 was asked for.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A connected socket.
pub trait Stream: Read + Write + Send {
    /// `TCP_NODELAY`.
    fn set_nodelay(&self, on: bool) -> io::Result<()>;
    /// `SO_MAX_PACING_RATE`, in bytes per second.
    fn set_max_pacing_rate(&self, rate: u64) -> io::Result<()>;
    /// Ends one or both directions.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

impl Net for stackd_client::Session {
    fn connect(&self, addr: SocketAddr, congestion: Option<&str>) -> io::Result<Box<dyn Stream>> {
        let mut options = stackd_client::TcpConnect::new(self);
        if let Some(name) = congestion {
            options = options.congestion(name);
        }
        Ok(Box::new(options.connect(addr)?))
    }
    fn listen(&self, addr: SocketAddr) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(stackd_client::TcpListener::bind_in(self, addr)?))
    }
}

impl Listener for stackd_client::TcpListener {
    fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, peer) = self.accept()?;
        Ok((Box::new(stream), peer))
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl Stream for stackd_client::TcpStream {
    fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.set_nodelay(on)
    }
    fn set_max_pacing_rate(&self, rate: u64) -> io::Result<()> {
        self.set_max_pacing_rate(rate)
    }
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

/// What a reader of the kernel's TCP does when nothing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spin {
    /// It sleeps.
    No,
    /// It looks again.
    Pause,
    /// It lets others run, and looks for so long before it does so again.
    Yield(Duration),
}

/// The kernel's TCP. With `spin` a reader polls instead of sleeping, so that both stacks may burn the same CPU for latency.
#[derive(Debug)]
struct Native {
    spin: Spin,
}

impl Net for Native {
    fn connect(&self, addr: SocketAddr, congestion: Option<&str>) -> io::Result<Box<dyn Stream>> {
        use rustix::net::{self as rnet, AddressFamily, SocketFlags, SocketType};
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = rnet::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if let Some(name) = congestion {
            rnet::sockopt::set_tcp_congestion(&fd, name)?;
        }
        rnet::connect(&fd, &addr)?;
        Ok(Box::new(NativeStream { inner: net::TcpStream::from(fd), spin: self.spin }))
    }
    fn listen(&self, addr: SocketAddr) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(NativeListener { inner: net::TcpListener::bind(addr)?, spin: self.spin }))
    }
}

#[derive(Debug)]
struct NativeListener {
    inner: net::TcpListener,
    spin: Spin,
}

impl Listener for NativeListener {
    fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (inner, peer) = self.inner.accept()?;
        Ok((Box::new(NativeStream { inner, spin: self.spin }), peer))
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

#[derive(Debug)]
struct NativeStream {
    inner: net::TcpStream,
    spin: Spin,
}

impl Read for NativeStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.spin == Spin::No {
            return self.inner.read(buf);
        }
        let mut turn_ends = Instant::now();
        loop {
            match self.spin {
                Spin::Yield(turn) if Instant::now() >= turn_ends => {
                    std::thread::yield_now();
                    turn_ends = Instant::now() + turn;
                }
                _ => std::hint::spin_loop(),
            }
            match rustix::net::recv(&self.inner, &mut *buf, rustix::net::RecvFlags::DONTWAIT) {
                Err(rustix::io::Errno::AGAIN) => {}
                Ok((n, _)) => return Ok(n),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Write for NativeStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Stream for NativeStream {
    fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.inner.set_nodelay(on)
    }
    fn set_max_pacing_rate(&self, rate: u64) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let size = size_of_val(&rate) as libc::socklen_t;
        // No safe crate knows this option.
        // SAFETY: the pointer and the size are those of `rate`, which outlives the call; the kernel only reads it.
        let result = unsafe {
            libc::setsockopt(
                self.inner.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MAX_PACING_RATE,
                (&raw const rate).cast(),
                size,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.inner.shutdown(how)
    }
}
