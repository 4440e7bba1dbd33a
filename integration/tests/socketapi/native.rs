//! The kernel's own calls, unadorned.

use super::os::{Got, Os, Outcome, Sock};
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Linux.
#[derive(Debug)]
pub struct Native;

struct Fd(OwnedFd);

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn check(n: i64) -> Outcome<i64> {
    if n < 0 { Err(errno()) } else { Ok(n) }
}

/// An address in the kernel's shape.
fn encode(addr: Option<SocketAddr>) -> (libc::sockaddr_storage, u32) {
    // SAFETY: all zeroes is a sockaddr_storage of family AF_UNSPEC.
    let mut out: libc::sockaddr_storage = unsafe { zeroed() };
    let len = match addr {
        None => 16,
        Some(SocketAddr::V4(v4)) => {
            // SAFETY: a sockaddr_storage is large and aligned enough for every address; both are plain bytes.
            let sin = unsafe { &mut *(&raw mut out).cast::<libc::sockaddr_in>() };
            sin.sin_family = libc::AF_INET as u16;
            sin.sin_port = v4.port().to_be();
            sin.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
            size_of::<libc::sockaddr_in>()
        }
        Some(SocketAddr::V6(v6)) => {
            // SAFETY: as above.
            let sin = unsafe { &mut *(&raw mut out).cast::<libc::sockaddr_in6>() };
            sin.sin6_family = libc::AF_INET6 as u16;
            sin.sin6_port = v6.port().to_be();
            sin.sin6_addr.s6_addr = v6.ip().octets();
            sin.sin6_scope_id = v6.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (out, len as u32)
}

fn decode(raw: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(raw.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what it is.
            let sin = unsafe { &*(&raw const *raw).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(sin.sin_addr.s_addr));
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(sin.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says what it is.
            let sin = unsafe { &*(&raw const *raw).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(sin.sin6_addr.s6_addr);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(sin.sin6_port), 0, sin.sin6_scope_id)))
        }
        _ => None,
    }
}

impl Os for Native {
    fn socket(&self, family: i32, kind: i32, protocol: i32) -> Outcome<Box<dyn Sock>> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }.into())?;
        // SAFETY: a fresh descriptor that nobody else has.
        Ok(Box::new(Fd(unsafe { OwnedFd::from_raw_fd(fd as i32) })))
    }
}

impl Fd {
    fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }
    fn name(&self, call: unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut u32) -> i32) -> Outcome<SocketAddr> {
        // SAFETY: all zeroes is a valid value.
        let mut raw: libc::sockaddr_storage = unsafe { zeroed() };
        let mut len = size_of::<libc::sockaddr_storage>() as u32;
        // SAFETY: the kernel writes at most `len` bytes into `raw`.
        check(unsafe { call(self.raw(), (&raw mut raw).cast(), &raw mut len) }.into())?;
        decode(&raw).ok_or(0)
    }
}

impl Sock for Fd {
    fn bind(&self, addr: SocketAddr) -> Outcome<()> {
        let (raw, len) = encode(Some(addr));
        // SAFETY: `len` bytes of `raw` are an address.
        check(unsafe { libc::bind(self.raw(), (&raw const raw).cast(), len) }.into()).map(drop)
    }
    fn connect(&self, addr: Option<SocketAddr>) -> Outcome<()> {
        let (raw, len) = encode(addr);
        // SAFETY: as in `bind`.
        check(unsafe { libc::connect(self.raw(), (&raw const raw).cast(), len) }.into()).map(drop)
    }
    fn listen(&self, backlog: i32) -> Outcome<()> {
        // SAFETY: no pointers.
        check(unsafe { libc::listen(self.raw(), backlog) }.into()).map(drop)
    }
    fn accept(&self, flags: i32) -> Outcome<(Box<dyn Sock>, SocketAddr)> {
        // SAFETY: all zeroes is a valid value.
        let mut raw: libc::sockaddr_storage = unsafe { zeroed() };
        let mut len = size_of::<libc::sockaddr_storage>() as u32;
        // SAFETY: the kernel writes at most `len` bytes into `raw`.
        let fd = check(unsafe { libc::accept4(self.raw(), (&raw mut raw).cast(), &raw mut len, flags) }.into())?;
        // SAFETY: a fresh descriptor that nobody else has.
        let fd = Fd(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        Ok((Box::new(fd), decode(&raw).ok_or(0)?))
    }
    fn shutdown(&self, how: i32) -> Outcome<()> {
        // SAFETY: no pointers.
        check(unsafe { libc::shutdown(self.raw(), how) }.into()).map(drop)
    }
    fn send(&self, data: &[u8], control: &[u8], flags: i32, to: Option<SocketAddr>) -> Outcome<usize> {
        let (mut raw, len) = encode(to);
        // SAFETY: all zeroes is a valid value.
        let mut head: libc::msghdr = unsafe { zeroed() };
        if to.is_some() {
            (head.msg_name, head.msg_namelen) = ((&raw mut raw).cast(), len);
        }
        let mut piece = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        (head.msg_iov, head.msg_iovlen) = (&raw mut piece, 1);
        let (words, _) = control.as_chunks::<8>();
        let mut aligned: Vec<u64> = words.iter().map(|w| u64::from_ne_bytes(*w)).collect();
        if !aligned.is_empty() {
            (head.msg_control, head.msg_controllen) = (aligned.as_mut_ptr().cast(), size_of_val(&aligned[..]));
        }
        // SAFETY: `head` names one piece, which is `data` and only read, an address and control messages; all live until the call returns.
        check(unsafe { libc::sendmsg(self.raw(), &raw const head, flags | libc::MSG_NOSIGNAL) } as i64)
            .map(|n| n as usize)
    }
    fn recv(&self, buf: &mut [u8], flags: i32) -> Outcome<Got> {
        // SAFETY: all zeroes are valid values of these.
        let (mut raw, mut head): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
        let mut piece = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        head.msg_name = (&raw mut raw).cast();
        head.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
        head.msg_iov = &raw mut piece;
        head.msg_iovlen = 1;
        let mut control = [0u64; 64];
        head.msg_control = control.as_mut_ptr().cast();
        head.msg_controllen = size_of_val(&control);
        // SAFETY: `head` names one piece, which is `buf`, and an address; all live until the call returns.
        let n = check(unsafe { libc::recvmsg(self.raw(), &raw mut head, flags) } as i64)?;
        let from = if head.msg_namelen == 0 { None } else { decode(&raw) };
        let mut came: Vec<u8> = control.iter().flat_map(|w| w.to_ne_bytes()).collect();
        came.truncate(head.msg_controllen);
        let flags = head.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC | libc::MSG_OOB | libc::MSG_ERRQUEUE);
        Ok(Got { len: n as usize, from, flags, control: came })
    }
    fn local(&self) -> Outcome<SocketAddr> {
        self.name(libc::getsockname)
    }
    fn peer(&self) -> Outcome<SocketAddr> {
        self.name(libc::getpeername)
    }
    fn set(&self, level: i32, name: i32, value: &[u8]) -> Outcome<()> {
        // SAFETY: `value` is readable for its length.
        let n = unsafe { libc::setsockopt(self.raw(), level, name, value.as_ptr().cast(), value.len() as u32) };
        check(n.into()).map(drop)
    }
    fn get(&self, level: i32, name: i32, max: usize) -> Outcome<Vec<u8>> {
        let mut out = vec![0u8; max];
        let mut len = max as u32;
        // SAFETY: the kernel writes at most `len` bytes into `out`.
        let n = unsafe { libc::getsockopt(self.raw(), level, name, out.as_mut_ptr().cast(), &raw mut len) };
        check(n.into())?;
        out.truncate(len as usize);
        Ok(out)
    }
    fn ioctl(&self, request: u32) -> Outcome<i32> {
        let mut value = 0i32;
        // SAFETY: these requests write one int.
        check(unsafe { libc::ioctl(self.raw(), request.into(), &raw mut value) }.into()).map(|_| value)
    }
    fn poll(&self) -> u32 {
        let mut fd = libc::pollfd { fd: self.raw(), events: 0x2007, revents: 0 };
        // SAFETY: one entry.
        unsafe { libc::poll(&raw mut fd, 1, 0) };
        u32::from(fd.revents as u16)
    }
}
