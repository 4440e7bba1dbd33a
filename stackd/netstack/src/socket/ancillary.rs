//! Control messages of datagrams (cmsg(3)): Linux's byte layouts, read from `sendmsg` and written for `recvmsg`.

use crate::demux::mapped;
use crate::socket::opts::name;
use crate::types::Domain;
use stackd_base::{Errno, Instant, PortId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `sizeof(struct cmsghdr)`.
const HEADER: usize = 16;
/// Linux's `UDP_MAX_SEGMENTS`.
pub const MAX_SEGMENTS: usize = 128;

/// What `sendmsg` says of one datagram besides its bytes. `None`: as the socket says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendControl {
    /// Source (`ipi_spec_dst`, `ipi6_addr`).
    pub source: Option<IpAddr>,
    /// Interface (`ipi_ifindex`, `ipi6_ifindex`).
    pub port: Option<PortId>,
    /// Hop limit (`IP_TTL`, `IPV6_HOPLIMIT`).
    pub ttl: Option<u8>,
    /// DSCP and ECN (`IP_TOS`, `IPV6_TCLASS`).
    pub tos: Option<u8>,
    /// `UDP_SEGMENT`: payload bytes of each datagram that the data are cut into.
    pub gso_size: Option<u16>,
    /// `SO_MARK`.
    pub mark: Option<u32>,
    /// `SO_PRIORITY`.
    pub priority: Option<u8>,
    /// `IPV6_DONTFRAG`.
    pub dont_fragment: Option<bool>,
    /// `SCM_TXTIME`: when it is to leave. Only sockets with `SO_TXTIME` may say so.
    pub departure: Option<Instant>,
}

impl SendControl {
    /// Reads the control messages of a `sendmsg` on a socket of this family.
    ///
    /// # Errors
    /// `EINVAL` for a malformed message, a bad value, or one of `SOL_SOCKET`, `SOL_IP`, `SOL_IPV6`, `SOL_UDP` that is not known. Other
    /// levels are passed over, as Linux does.
    pub fn parse(domain: Domain, mut bytes: &[u8]) -> Result<Self, Errno> {
        let mut out = Self::default();
        while let Some(header) = bytes.first_chunk::<HEADER>() {
            let len = usize::from_ne_bytes(*header.first_chunk().ok_or(Errno::EINVAL)?);
            let int = |at: usize| i32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            // cmsg(3), CMSG_OK: the length counts the header and ends within what was passed.
            let data = bytes.get(HEADER..len).ok_or(Errno::EINVAL)?;
            out.take(domain, int(8), int(12), data)?;
            bytes = bytes.get(len.next_multiple_of(8)..).unwrap_or_default();
        }
        Ok(out)
    }

    fn take(&mut self, domain: Domain, level: i32, kind: i32, data: &[u8]) -> Result<(), Errno> {
        let int = || data.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EINVAL);
        let byte = |low: i32| match int()? {
            -1 if low < 0 => Ok(None),
            n => u8::try_from(n).map(Some).map_err(|_| Errno::EINVAL),
        };
        match (level, kind) {
            (name::SOL_IP, name::IP_PKTINFO) => {
                let d: &[u8; 12] = data.try_into().map_err(|_| Errno::EINVAL)?;
                self.set_port([d[0], d[1], d[2], d[3]])?;
                self.set_source(Ipv4Addr::new(d[4], d[5], d[6], d[7]).into());
            }
            (name::SOL_IP, name::IP_TTL) => {
                self.ttl = Some(int().ok().and_then(|n| u8::try_from(n).ok()).filter(|n| *n > 0).ok_or(Errno::EINVAL)?);
            }
            // Linux takes an int or a byte here.
            (name::SOL_IP, name::IP_TOS) => match data {
                [b] => self.tos = Some(*b),
                _ => self.tos = byte(0)?,
            },
            (name::SOL_IPV6, name::IPV6_PKTINFO) if domain == Domain::V6 => {
                let (addr, index) = data.split_first_chunk::<16>().ok_or(Errno::EINVAL)?;
                self.set_port(index.try_into().map_err(|_| Errno::EINVAL)?)?;
                self.set_source(Ipv6Addr::from(*addr).into());
            }
            (name::SOL_IPV6, name::IPV6_HOPLIMIT) if domain == Domain::V6 => self.ttl = byte(-1)?,
            (name::SOL_IPV6, name::IPV6_TCLASS) if domain == Domain::V6 => self.tos = byte(-1)?,
            (name::SOL_IPV6, name::IPV6_DONTFRAG) if domain == Domain::V6 => self.dont_fragment = Some(int()? != 0),
            (name::SOL_UDP, name::UDP_SEGMENT) => {
                self.gso_size = Some(data.try_into().map(u16::from_ne_bytes).map_err(|_| Errno::EINVAL)?);
            }
            (name::SOL_SOCKET, name::SO_MARK) => self.mark = Some(int()? as u32),
            (name::SOL_SOCKET, name::SO_TXTIME) => {
                let nanos = data.try_into().map(u64::from_ne_bytes).map_err(|_| Errno::EINVAL)?;
                self.departure = Some(Instant::from_nanos(nanos));
            }
            (name::SOL_SOCKET, name::SO_PRIORITY) => {
                self.priority = Some(u8::try_from(int()?).ok().filter(|p| *p <= 6).ok_or(Errno::EPERM)?);
            }
            (name::SOL_SOCKET | name::SOL_IP | name::SOL_IPV6 | name::SOL_UDP, _) => return Err(Errno::EINVAL),
            _ => {}
        }
        Ok(())
    }

    fn set_port(&mut self, index: [u8; 4]) -> Result<(), Errno> {
        self.port = match i32::from_ne_bytes(index) {
            0 => None,
            n => Some(PortId(u32::try_from(n).map_err(|_| Errno::ENODEV)?)),
        };
        Ok(())
    }

    fn set_source(&mut self, source: IpAddr) {
        self.source = Some(source.to_canonical()).filter(|a| !a.is_unspecified());
    }
}

/// What is known of a received datagram besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecvControl {
    /// Interface it came in by.
    pub port: PortId,
    /// Its destination.
    pub dst: SocketAddr,
    /// Our address that it came to: for a group or a broadcast, the interface's (`ipi_spec_dst`).
    pub local: IpAddr,
    /// Hop limit left.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Bytes per datagram, of several that were put together (`UDP_GRO`).
    pub gso_size: Option<u16>,
    /// When it came in: nanoseconds since 1970.
    pub unix_ns: u64,
}

/// `SO_TIMESTAMP` and its three relatives: how a receive time is told. One of them holds at a time, the last that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// `SO_TIMESTAMPNS`: a `struct timespec`; else a `struct timeval`.
    pub nanos: bool,
    /// Asked for by the number of 32-bit systems with 64-bit time (`SO_TIMESTAMP_NEW`), and told by it. The layout is the same here.
    pub new: bool,
}

impl Stamp {
    /// What the option of this number asks for.
    pub const fn of_option(option: i32) -> Option<Self> {
        let (nanos, new) = match option {
            name::SO_TIMESTAMP => (false, false),
            name::SO_TIMESTAMPNS => (true, false),
            name::SO_TIMESTAMP_NEW => (false, true),
            name::SO_TIMESTAMPNS_NEW => (true, true),
            _ => return None,
        };
        Some(Self { nanos, new })
    }
    /// The option's number, which is the message's too.
    const fn option(self) -> i32 {
        match (self.nanos, self.new) {
            (false, false) => name::SO_TIMESTAMP,
            (true, false) => name::SO_TIMESTAMPNS,
            (false, true) => name::SO_TIMESTAMP_NEW,
            (true, true) => name::SO_TIMESTAMPNS_NEW,
        }
    }
    fn write(self, unix_ns: u64, w: &mut Writer) {
        let (seconds, nanos) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
        let part = if self.nanos { nanos } else { nanos / 1000 };
        w.put(name::SOL_SOCKET, self.option(), &[seconds.to_ne_bytes(), part.to_ne_bytes()].concat());
    }
}

/// Which control messages a socket asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Wanted {
    pub pktinfo: bool,
    pub ttl: bool,
    pub tos: bool,
    pub origdstaddr: bool,
    pub pktinfo6: bool,
    pub hoplimit: bool,
    pub tclass: bool,
    pub origdstaddr6: bool,
    pub gro: bool,
    pub stamp: Option<Stamp>,
}

impl Wanted {
    /// Something is wanted.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// Control messages under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// One message.
    pub fn put(&mut self, level: i32, kind: i32, data: &[u8]) {
        self.0.extend_from_slice(&(HEADER + data.len()).to_ne_bytes());
        self.0.extend_from_slice(&level.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        // CMSG_SPACE: the next one is aligned.
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }
    /// An `int`.
    pub fn int(&mut self, level: i32, kind: i32, n: i32) {
        self.put(level, kind, &n.to_ne_bytes());
    }
    /// All of them.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

impl RecvControl {
    /// The control messages that a socket wants of this datagram, in Linux's order. IPv4's options act on IPv4 packets, IPv6's on IPv6
    /// packets; `IPV6_RECVPKTINFO` on both (an IPv4 destination shows v4-mapped).
    pub fn write(&self, wanted: &Wanted) -> Vec<u8> {
        if !wanted.any() {
            return Vec::new();
        }
        let Self { port, dst, local, ttl, tos, gso_size, unix_ns } = *self;
        let mut w = Writer::default();
        let index = (port.0 as i32).to_ne_bytes();
        if let Some(stamp) = wanted.stamp {
            stamp.write(unix_ns, &mut w);
        }
        if let Some(size) = gso_size.filter(|_| wanted.gro) {
            w.int(name::SOL_UDP, name::UDP_GRO, i32::from(size));
        }
        if wanted.pktinfo6 {
            let addr = mapped(dst.ip()).octets();
            w.put(name::SOL_IPV6, name::IPV6_PKTINFO, &[&addr[..], &index].concat());
        }
        match (dst.ip(), local) {
            (IpAddr::V4(to), IpAddr::V4(local)) => {
                if wanted.pktinfo {
                    let data = [index, local.octets(), to.octets()].concat();
                    w.put(name::SOL_IP, name::IP_PKTINFO, &data);
                }
                if wanted.ttl {
                    w.int(name::SOL_IP, name::IP_TTL, ttl.into());
                }
                if wanted.tos {
                    // One byte here, four in IPV6_TCLASS: so Linux does it.
                    w.put(name::SOL_IP, name::IP_TOS, &[tos]);
                }
                if wanted.origdstaddr {
                    w.put(name::SOL_IP, name::IP_ORIGDSTADDR, &sockaddr(dst));
                }
            }
            _ => {
                if wanted.hoplimit {
                    w.int(name::SOL_IPV6, name::IPV6_HOPLIMIT, ttl.into());
                }
                if wanted.tclass {
                    w.int(name::SOL_IPV6, name::IPV6_TCLASS, tos.into());
                }
                if wanted.origdstaddr6 {
                    w.put(name::SOL_IPV6, name::IPV6_ORIGDSTADDR, &sockaddr(dst));
                }
            }
        }
        w.finish()
    }
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
pub fn sockaddr(addr: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(28);
    match addr {
        SocketAddr::V4(a) => {
            out.extend_from_slice(&2u16.to_ne_bytes());
            out.extend_from_slice(&a.port().to_be_bytes());
            out.extend_from_slice(&a.ip().octets());
            out.resize(16, 0);
        }
        SocketAddr::V6(a) => {
            out.extend_from_slice(&10u16.to_ne_bytes());
            out.extend_from_slice(&a.port().to_be_bytes());
            out.extend_from_slice(&a.flowinfo().to_be_bytes());
            out.extend_from_slice(&a.ip().octets());
            out.extend_from_slice(&a.scope_id().to_ne_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut w = Writer::default();
        w.put(level, kind, data);
        w.finish()
    }

    #[test]
    fn what_sendmsg_says_is_read() {
        let mut bytes = message(name::SOL_IP, name::IP_PKTINFO, &[3, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0]);
        bytes.extend(message(name::SOL_IP, name::IP_TTL, &7i32.to_ne_bytes()));
        bytes.extend(message(name::SOL_IP, name::IP_TOS, &[0x10]));
        bytes.extend(message(name::SOL_UDP, name::UDP_SEGMENT, &1200u16.to_ne_bytes()));
        bytes.extend(message(name::SOL_SOCKET, name::SO_MARK, &9i32.to_ne_bytes()));
        // Another level's business.
        bytes.extend(message(263, 1, &[1]));
        let got = SendControl::parse(Domain::V4, &bytes).expect("legal");
        let want = SendControl {
            source: Some([10, 0, 0, 1].into()),
            port: Some(PortId(3)),
            ttl: Some(7),
            tos: Some(0x10),
            gso_size: Some(1200),
            mark: Some(9),
            ..SendControl::default()
        };
        assert_eq!(got, want);
    }

    #[test]
    fn bad_control_messages_are_einval() {
        let bad = |level, kind, data: &[u8]| SendControl::parse(Domain::V4, &message(level, kind, data));
        assert_eq!(bad(name::SOL_IP, name::IP_TTL, &0i32.to_ne_bytes()), Err(Errno::EINVAL));
        assert_eq!(bad(name::SOL_IP, name::IP_TTL, &256i32.to_ne_bytes()), Err(Errno::EINVAL));
        assert_eq!(bad(name::SOL_IP, name::IP_PKTINFO, &[0; 11]), Err(Errno::EINVAL));
        assert_eq!(bad(name::SOL_UDP, name::UDP_SEGMENT, &[0; 4]), Err(Errno::EINVAL));
        assert_eq!(bad(name::SOL_IP, 999, &[0; 4]), Err(Errno::EINVAL));
        // IPv6's are unknown to an IPv4 socket.
        assert_eq!(bad(name::SOL_IPV6, name::IPV6_HOPLIMIT, &3i32.to_ne_bytes()), Err(Errno::EINVAL));
        let mut cut = message(name::SOL_IP, name::IP_TTL, &7i32.to_ne_bytes());
        cut.truncate(18);
        assert_eq!(SendControl::parse(Domain::V4, &cut), Err(Errno::EINVAL));
    }

    #[test]
    fn an_ipv4_packet_on_a_dual_socket_shows_mapped_in_ipv6_pktinfo() {
        let wanted = Wanted { pktinfo6: true, ttl: true, hoplimit: true, ..Wanted::default() };
        let dst = SocketAddr::from(([10, 0, 0, 1], 53));
        let r = RecvControl { port: PortId(2), dst, local: dst.ip(), ttl: 9, tos: 0, gso_size: None, unix_ns: 0 };
        let mut want = message(
            name::SOL_IPV6,
            name::IPV6_PKTINFO,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1, 2, 0, 0, 0],
        );
        want.extend(message(name::SOL_IP, name::IP_TTL, &9i32.to_ne_bytes()));
        assert_eq!(r.write(&wanted), want);
    }

    #[test]
    fn a_receive_time_is_told_as_it_was_asked_for() {
        let dst = SocketAddr::from(([10, 0, 0, 1], 53));
        let unix_ns = 1_700_000_000_123_456_789;
        let r = RecvControl { port: PortId(2), dst, local: dst.ip(), ttl: 9, tos: 0, gso_size: None, unix_ns };
        for (option, part) in [(29, 123_456u64), (35, 123_456_789), (63, 123_456), (64, 123_456_789)] {
            let wanted = Wanted { stamp: Stamp::of_option(option), ..Wanted::default() };
            let data = [1_700_000_000u64.to_ne_bytes(), part.to_ne_bytes()].concat();
            assert_eq!(r.write(&wanted), message(name::SOL_SOCKET, option, &data), "{option}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), v6 in any::<bool>()) {
            let _ = SendControl::parse(if v6 { Domain::V6 } else { Domain::V4 }, &bytes);
        }
    }
}
