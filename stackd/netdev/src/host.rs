//! Configures interfaces of the host kernel through rtnetlink: what `ip link` and `ip addr` do, without needing them installed.

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Skip duplicate address detection: an address of a link that has two ends is usable at once.
const IFA_F_NODAD: u8 = 0x02;
const RTA_GATEWAY: u16 = 5;
const NESTED: u16 = 0x8000;

/// One rtnetlink request under construction.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nest(kind, |r| r.0.extend_from_slice(value))
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        fill(self);
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Sends the request and waits for the kernel's verdict.
    fn run(mut self) -> io::Result<()> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        // Protocol 0 of AF_NETLINK is NETLINK_ROUTE.
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        send(&fd, &self.0, SendFlags::empty())?;
        let mut answer = [0u8; 4096];
        let (n, _) = recv(&fd, &mut answer[..], RecvFlags::empty())?;
        let kind = answer.get(4..6).map(|b| u16::from_ne_bytes([b[0], b[1]]));
        if n < 20 || kind != Some(NLMSG_ERROR) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected answer from rtnetlink"));
        }
        match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            e => Err(io::Error::from_raw_os_error(-e)),
        }
    }
}

/// `struct ifinfomsg`.
fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut b = [0; 16];
    b[4..8].copy_from_slice(&index.to_ne_bytes());
    b[8..12].copy_from_slice(&flags.to_ne_bytes());
    b[12..16].copy_from_slice(&change.to_ne_bytes());
    b
}

/// Index of an interface of this network namespace.
pub fn index(name: &str) -> io::Result<u32> {
    let fd = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(name_to_index(&fd, name)?)
}

/// `ip link set NAME up`.
pub fn link_up(name: &str) -> io::Result<()> {
    Request::new(RTM_NEWLINK, 0, &ifinfo(index(name)?, IFF_UP, IFF_UP)).run()
}

/// `ip link set NAME mtu MTU`.
pub fn link_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let mut r = Request::new(RTM_NEWLINK, 0, &ifinfo(index(name)?, 0, 0));
    r.attr(IFLA_MTU, &mtu.to_ne_bytes());
    r.run()
}

/// `ip link set NAME address MAC`.
pub fn link_mac(name: &str, mac: [u8; 6]) -> io::Result<()> {
    let mut r = Request::new(RTM_NEWLINK, 0, &ifinfo(index(name)?, 0, 0));
    r.attr(IFLA_ADDRESS, &mac);
    r.run()
}

/// `ip link set NAME netns` of the namespace behind `ns`.
pub fn link_netns(name: &str, ns: BorrowedFd<'_>) -> io::Result<()> {
    let mut r = Request::new(RTM_NEWLINK, 0, &ifinfo(index(name)?, 0, 0));
    r.attr(IFLA_NET_NS_FD, &ns.as_raw_fd().to_ne_bytes());
    r.run()
}

/// `ip link add NAME type veth peer name PEER`, the peer in the namespace behind `peer_ns` if one is given.
pub fn veth_add(name: &str, peer: &str, peer_ns: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut r = Request::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifinfo(0, 0, 0));
    r.attr(IFLA_IFNAME, &c_string(name));
    r.nest(IFLA_LINKINFO | NESTED, |r| {
        r.attr(IFLA_INFO_KIND, b"veth");
        r.nest(IFLA_INFO_DATA | NESTED, |r| {
            r.nest(VETH_INFO_PEER | NESTED, |r| {
                r.0.extend_from_slice(&ifinfo(0, 0, 0));
                r.attr(IFLA_IFNAME, &c_string(peer));
                if let Some(ns) = peer_ns {
                    r.attr(IFLA_NET_NS_FD, &ns.as_raw_fd().to_ne_bytes());
                }
            });
        });
    });
    r.run()
}

/// `ip addr replace ADDR/PREFIX dev NAME`.
pub fn addr_add(name: &str, addr: IpAddr, prefix: u8) -> io::Result<()> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut body = [family.as_raw() as u8, prefix, IFA_F_NODAD, 0, 0, 0, 0, 0];
    body[4..8].copy_from_slice(&index(name)?.to_ne_bytes());
    let mut r = Request::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body);
    let bytes = octets(addr);
    r.attr(IFA_LOCAL, &bytes).attr(IFA_ADDRESS, &bytes);
    r.run()
}

/// `ip route replace default via GATEWAY`.
pub fn default_route(gateway: IpAddr) -> io::Result<()> {
    let family = if gateway.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // struct rtmsg: family, dst_len 0, src_len, tos, table main (254), protocol boot (3), scope universe, type unicast (1).
    let body = [family.as_raw() as u8, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    let mut r = Request::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body);
    r.attr(RTA_GATEWAY, &octets(gateway));
    r.run()
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn c_string(s: &str) -> Vec<u8> {
    let mut v = s.as_bytes().to_vec();
    v.push(0);
    v
}
