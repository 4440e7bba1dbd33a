//! The same calls in a daemon, through the client library.

use super::os::{Got, Os, Outcome, Sock};
use stackd_client::Session;
use stackd_client::raw::Socket;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A daemon by shared memory.
#[derive(Debug)]
pub struct Ours(pub Session);

struct Wrapped(Socket);

fn code(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(-1)
}

fn tell<T>(result: io::Result<T>) -> Outcome<T> {
    result.map_err(|e| {
        let n = code(&e);
        if n < 0 {
            eprintln!("no errno: {e}");
        }
        n
    })
}

impl Os for Ours {
    fn socket(&self, family: i32, kind: i32, protocol: i32) -> Outcome<Box<dyn Sock>> {
        Ok(Box::new(Wrapped(tell(Socket::new(&self.0, family, kind, protocol))?)))
    }
}

impl Sock for Wrapped {
    fn bind(&self, addr: SocketAddr) -> Outcome<()> {
        tell(self.0.bind(addr))
    }
    fn connect(&self, addr: Option<SocketAddr>) -> Outcome<()> {
        tell(match addr {
            Some(addr) => self.0.connect(addr),
            None => self.0.disconnect(),
        })
    }
    fn listen(&self, backlog: i32) -> Outcome<()> {
        tell(self.0.listen(backlog))
    }
    fn accept(&self, flags: i32) -> Outcome<(Box<dyn Sock>, SocketAddr)> {
        let (sock, peer) = tell(self.0.accept4(flags))?;
        Ok((Box::new(Wrapped(sock)), peer))
    }
    fn shutdown(&self, how: i32) -> Outcome<()> {
        tell(self.0.shutdown(how))
    }
    fn send(&self, data: &[u8], control: &[u8], flags: i32, to: Option<SocketAddr>) -> Outcome<usize> {
        tell(self.0.send_msg(data, control, flags, to))
    }
    fn recv(&self, buf: &mut [u8], flags: i32) -> Outcome<Got> {
        let mut control = Vec::new();
        let got = tell(self.0.recv_msg(buf, &mut control, flags))?;
        let len = if flags & libc::MSG_TRUNC != 0 { got.full } else { got.len };
        Ok(Got { len, from: got.from, flags: got.flags, control })
    }
    fn local(&self) -> Outcome<SocketAddr> {
        tell(self.0.local_addr())
    }
    fn peer(&self) -> Outcome<SocketAddr> {
        tell(self.0.peer_addr())
    }
    fn set(&self, level: i32, name: i32, value: &[u8]) -> Outcome<()> {
        tell(self.0.set_option(level, name, value))
    }
    fn get(&self, level: i32, name: i32, max: usize) -> Outcome<Vec<u8>> {
        tell(self.0.option(level, name, max))
    }
    fn ioctl(&self, request: u32) -> Outcome<i32> {
        tell(self.0.ioctl(request))
    }
    fn poll(&self) -> u32 {
        self.0.poll(0x2007, Some(Duration::ZERO)).unwrap_or(0)
    }
}
