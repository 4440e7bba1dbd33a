//! Options of `SOL_IP`, `SOL_IPV6` and `SOL_UDP`: one struct of plain values, Linux's numbers, layouts and errors.

use super::ancillary::Wanted;
use super::opts::{Context, Effect, OptionValue, int, int_or_byte, name, within};
use crate::types::Domain;
use stackd_base::{Errno, PortId};
use std::net::{IpAddr, Ipv4Addr};

/// `IP_MTU_DISCOVER` and `IPV6_MTU_DISCOVER`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum MtuDiscover {
    Dont = 0,
    Want = 1,
    Do = 2,
    Probe = 3,
    Interface = 4,
    Omit = 5,
}

impl MtuDiscover {
    fn from_int(n: i32) -> Result<Self, Errno> {
        Ok(match n {
            0 => Self::Dont,
            1 => Self::Want,
            2 => Self::Do,
            3 => Self::Probe,
            4 => Self::Interface,
            5 => Self::Omit,
            _ => return Err(Errno::EINVAL),
        })
    }
    /// What ICMP says of the path's MTU counts (ip(7): `INTERFACE` and `OMIT` ignore it).
    pub const fn accepts_pmtu(self) -> bool {
        !matches!(self, Self::Interface | Self::Omit)
    }
    /// Datagrams are bounded by what is known of the path; else by the interface.
    pub const fn uses_pmtu(self) -> bool {
        matches!(self, Self::Dont | Self::Want | Self::Do)
    }
    /// A datagram that does not fit is cut into fragments here (Linux's `ip_sk_ignore_df`); else it is EMSGSIZE.
    pub const fn fragments(self) -> bool {
        matches!(self, Self::Dont | Self::Want | Self::Omit)
    }
    /// DF is set on what fits.
    pub const fn sets_df(self) -> bool {
        matches!(self, Self::Want | Self::Do | Self::Probe)
    }
}

/// Options of one socket that concern IP and UDP. `None` = as the sysctl says.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct IpOpts {
    pub ttl: Option<u8>,
    pub tos: u8,
    pub mtu_discover: Option<MtuDiscover>,
    pub mtu_discover6: Option<MtuDiscover>,
    pub freebind: bool,
    pub transparent: bool,
    pub bind_address_no_port: bool,
    pub v6only: bool,
    pub hops: Option<u8>,
    pub tclass: u8,
    /// `IPV6_DONTFRAG`.
    pub dontfrag: bool,
    /// `IPV6_AUTOFLOWLABEL`.
    pub auto_flow_label: Option<bool>,
    /// `IP_MINTTL`: what arrives with less is dropped.
    pub minttl: u8,
    /// `IPV6_MINHOPCOUNT`.
    pub minhops: u8,
    /// What `recvmsg` tells.
    pub wanted: Wanted,
    /// `IP_RECVERR`.
    pub recverr: bool,
    /// `IPV6_RECVERR`.
    pub recverr6: bool,
    /// `IP_MULTICAST_TTL`.
    pub mcast_ttl: u8,
    /// `IPV6_MULTICAST_HOPS`.
    pub mcast_hops: u8,
    /// `IP_MULTICAST_LOOP`.
    pub mcast_loop: bool,
    /// `IPV6_MULTICAST_LOOP`.
    pub mcast_loop6: bool,
    /// `IP_MULTICAST_IF`: interface, and source if it was named by address.
    pub mcast_if: Option<PortId>,
    pub mcast_addr: Option<Ipv4Addr>,
    /// `IPV6_MULTICAST_IF`.
    pub mcast_if6: Option<PortId>,
    /// `IP_MULTICAST_ALL`: groups that others joined are delivered too.
    pub mcast_all: bool,
    /// `IPV6_MULTICAST_ALL`.
    pub mcast_all6: bool,
    /// `IP_UNICAST_IF`, `IPV6_UNICAST_IF`.
    pub unicast_if: Option<PortId>,
    /// `IP_LOCAL_PORT_RANGE`: bounds of ephemeral ports; 0 = the sysctl's.
    pub local_port_range: (u16, u16),
    /// `UDP_SEGMENT`.
    pub gso_size: u16,
    /// `UDP_NO_CHECK6_TX`.
    pub no_check6_tx: bool,
    /// `UDP_NO_CHECK6_RX`.
    pub no_check6_rx: bool,
}

impl Default for IpOpts {
    fn default() -> Self {
        Self {
            ttl: None,
            tos: 0,
            mtu_discover: None,
            mtu_discover6: None,
            freebind: false,
            transparent: false,
            bind_address_no_port: false,
            v6only: false,
            hops: None,
            tclass: 0,
            dontfrag: false,
            auto_flow_label: None,
            minttl: 0,
            minhops: 0,
            wanted: Wanted::default(),
            recverr: false,
            recverr6: false,
            // RFC 1112, 6.1, and RFC 3493, 5.2: one hop by default.
            mcast_ttl: 1,
            mcast_hops: 1,
            mcast_loop: true,
            mcast_loop6: true,
            mcast_if: None,
            mcast_addr: None,
            mcast_if6: None,
            mcast_all: true,
            mcast_all6: true,
            unicast_if: None,
            local_port_range: (0, 0),
            gso_size: 0,
            no_check6_tx: false,
            no_check6_rx: false,
        }
    }
}

/// What the IP layer knows that these options need.
pub trait Interfaces {
    /// An interface with this number.
    fn exists(&self, port: PortId) -> bool;
    /// The interface of this name.
    fn named(&self, name: &str) -> Option<PortId>;
    /// The interface that has this address.
    fn owner(&self, addr: IpAddr) -> Option<PortId>;
}

impl IpOpts {
    /// How large datagrams to this family may be.
    pub fn discover(&self, v4: bool) -> MtuDiscover {
        let own = if v4 { self.mtu_discover } else { self.mtu_discover6 };
        own.unwrap_or(if !v4 && self.dontfrag { MtuDiscover::Do } else { MtuDiscover::Want })
    }

    pub(super) fn set_ip(
        &mut self,
        cx: Context,
        option: i32,
        value: &[u8],
        ports: &dyn Interfaces,
    ) -> Result<Effect, Errno> {
        if option == name::IP_MULTICAST_IF {
            if cx.tcp {
                return Err(Errno::EINVAL);
            }
            self.set_multicast_if(value, ports)?;
            return Ok(Effect::None);
        }
        // Linux reads no value as 0 where the option checks no length of its own.
        let unchecked = matches!(
            option,
            name::IP_TOS
                | name::IP_MTU
                | name::IP_MTU_DISCOVER
                | name::IP_RECVERR
                | name::IP_PKTINFO
                | name::IP_RECVTTL
                | name::IP_RECVTOS
                | name::IP_RECVORIGDSTADDR
                | name::IP_BIND_ADDRESS_NO_PORT
        );
        let n = if value.is_empty() && unchecked { 0 } else { int_or_byte(value)? };
        if matches!(option, name::IP_UNICAST_IF | name::IP_LOCAL_PORT_RANGE) && value.len() != 4 {
            return Err(Errno::EINVAL);
        }
        let dgram = |ok: bool| if ok { Ok(()) } else { Err(Errno::ENOPROTOOPT) };
        match option {
            // The ECN bits belong to TCP.
            name::IP_TOS => self.tos = n as u8 & if cx.tcp { !3 } else { !0 },
            name::IP_TTL => self.ttl = if n == -1 { None } else { Some(within(n, 1, 255)? as u8) },
            name::IP_MTU_DISCOVER => self.mtu_discover = Some(MtuDiscover::from_int(n)?),
            name::IP_FREEBIND => self.freebind = n != 0,
            // ip(7): "Setting this socket option requires superuser privileges".
            name::IP_TRANSPARENT if n != 0 && !cx.privileged => return Err(Errno::EPERM),
            name::IP_TRANSPARENT => self.transparent = n != 0,
            name::IP_BIND_ADDRESS_NO_PORT => self.bind_address_no_port = n != 0,
            name::IP_MINTTL => self.minttl = within(n, 0, 255)? as u8,
            name::IP_RECVERR => self.recverr = n != 0,
            name::IP_PKTINFO => self.wanted.pktinfo = n != 0,
            name::IP_RECVTTL => self.wanted.ttl = n != 0,
            name::IP_RECVTOS => self.wanted.tos = n != 0,
            name::IP_RECVORIGDSTADDR => self.wanted.origdstaddr = n != 0,
            name::IP_MULTICAST_TTL => {
                // Linux: EINVAL on a stream socket.
                dgram(!cx.tcp).map_err(|_| Errno::EINVAL)?;
                self.mcast_ttl = if n == -1 { 1 } else { within(n, 0, 255)? as u8 };
            }
            name::IP_MULTICAST_LOOP => self.mcast_loop = n != 0,
            name::IP_MULTICAST_ALL => self.mcast_all = within(n, 0, 1)? == 1,
            name::IP_UNICAST_IF => self.unicast_if = index_from_network_order(n, ports)?,
            name::IP_LOCAL_PORT_RANGE => {
                let (low, high) = (n as u32 as u16, (n as u32 >> 16) as u16);
                if low != 0 && high != 0 && low > high {
                    return Err(Errno::EINVAL);
                }
                self.local_port_range = (low, high);
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(Effect::Connection)
    }

    /// `struct in_addr`, `struct ip_mreq` or `struct ip_mreqn`.
    fn set_multicast_if(&mut self, value: &[u8], ports: &dyn Interfaces) -> Result<(), Errno> {
        let addr = |at: usize| value.get(at..)?.first_chunk::<4>().map(|b| Ipv4Addr::from(*b));
        let (addr, index) = match value.len() {
            12.. => (addr(4), int(&value[8..12])?),
            8..12 => (addr(4), 0),
            _ => (Some(addr(0).ok_or(Errno::EINVAL)?), 0),
        };
        let addr = addr.filter(|a| !a.is_unspecified());
        self.mcast_if = match (index, addr) {
            (0, None) => None,
            (0, Some(a)) => Some(ports.owner(a.into()).ok_or(Errno::EADDRNOTAVAIL)?),
            (n, _) => Some(existing(n, ports, Errno::EADDRNOTAVAIL)?),
        };
        self.mcast_addr = addr;
        Ok(())
    }

    pub(super) fn set_ipv6(
        &mut self,
        cx: Context,
        option: i32,
        value: &[u8],
        ports: &dyn Interfaces,
    ) -> Result<Effect, Errno> {
        let n = match int(value) {
            Ok(n) => n,
            // Linux reads less than an int as 0 here.
            Err(_) if matches!(option, name::IPV6_DONTFRAG | name::IPV6_AUTOFLOWLABEL) => 0,
            // What is not known is so whatever its length.
            Err(short) => {
                return self.clone().set_ipv6(cx, option, &[0; 4], ports).and(Err(short)).map_err(|e| match e {
                    Errno::ENOPROTOOPT => e,
                    _ => short,
                });
            }
        };
        match option {
            name::IPV6_V6ONLY if cx.bound => return Err(Errno::EINVAL),
            name::IPV6_V6ONLY => self.v6only = n != 0,
            name::IPV6_UNICAST_HOPS => self.hops = if n == -1 { None } else { Some(within(n, 0, 255)? as u8) },
            name::IPV6_TCLASS => {
                let class = if n == -1 { 0 } else { within(n, 0, 255)? as u8 };
                self.tclass = class & if cx.tcp { !3 } else { !0 };
            }
            name::IPV6_MTU_DISCOVER => self.mtu_discover6 = Some(MtuDiscover::from_int(n)?),
            name::IPV6_DONTFRAG => self.dontfrag = n != 0,
            name::IPV6_AUTOFLOWLABEL => self.auto_flow_label = Some(n != 0),
            name::IPV6_MINHOPCOUNT => self.minhops = within(n, 0, 255)? as u8,
            name::IPV6_FREEBIND => self.freebind = n != 0,
            name::IPV6_TRANSPARENT if n != 0 && !cx.privileged => return Err(Errno::EPERM),
            name::IPV6_TRANSPARENT => self.transparent = n != 0,
            name::IPV6_RECVERR => self.recverr6 = n != 0,
            name::IPV6_RECVPKTINFO => self.wanted.pktinfo6 = n != 0,
            name::IPV6_RECVHOPLIMIT => self.wanted.hoplimit = n != 0,
            name::IPV6_RECVTCLASS => self.wanted.tclass = n != 0,
            name::IPV6_RECVORIGDSTADDR => self.wanted.origdstaddr6 = n != 0,
            // ipv6(7) does not allow it on streams.
            name::IPV6_MULTICAST_HOPS if cx.tcp => return Err(Errno::ENOPROTOOPT),
            name::IPV6_MULTICAST_HOPS => self.mcast_hops = if n == -1 { 1 } else { within(n, 0, 255)? as u8 },
            name::IPV6_MULTICAST_LOOP => self.mcast_loop6 = within(n, 0, 1)? == 1,
            name::IPV6_MULTICAST_ALL => self.mcast_all6 = n != 0,
            name::IPV6_MULTICAST_IF if cx.tcp => return Err(Errno::ENOPROTOOPT),
            name::IPV6_MULTICAST_IF => {
                self.mcast_if6 = if n == 0 { None } else { Some(existing(n, ports, Errno::ENODEV)?) }
            }
            name::IPV6_UNICAST_IF if value.len() != 4 => return Err(Errno::EINVAL),
            name::IPV6_UNICAST_IF => self.unicast_if = index_from_network_order(n, ports)?,
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(Effect::Connection)
    }

    pub(super) fn set_udp(&mut self, option: i32, value: &[u8]) -> Result<Effect, Errno> {
        let n = int(value)?;
        match option {
            name::UDP_SEGMENT => self.gso_size = within(n, 0, 65_535)? as u16,
            name::UDP_GRO => self.wanted.gro = n != 0,
            name::UDP_NO_CHECK6_TX => self.no_check6_tx = n != 0,
            name::UDP_NO_CHECK6_RX => self.no_check6_rx = n != 0,
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(Effect::None)
    }

    pub(super) fn get(&self, cx: Context, level: i32, option: i32) -> Option<OptionValue> {
        let flag = |b: bool| Some(OptionValue::Int(i32::from(b)));
        let number = |n: u32| Some(OptionValue::Int(n as i32));
        let index = |p: Option<PortId>| number(p.map_or(0, |p| p.0));
        let discover = |d: Option<MtuDiscover>| number(d.unwrap_or(MtuDiscover::Want) as u32);
        match (level, option) {
            (name::SOL_IP, _) => match option {
                name::IP_TOS => number(self.tos.into()),
                name::IP_FREEBIND => flag(self.freebind),
                name::IP_TRANSPARENT => flag(self.transparent),
                name::IP_BIND_ADDRESS_NO_PORT => flag(self.bind_address_no_port),
                name::IP_MTU_DISCOVER => discover(self.mtu_discover),
                name::IP_MINTTL => number(self.minttl.into()),
                name::IP_RECVERR => flag(self.recverr),
                name::IP_PKTINFO => flag(self.wanted.pktinfo),
                name::IP_RECVTTL => flag(self.wanted.ttl),
                name::IP_RECVTOS => flag(self.wanted.tos),
                name::IP_RECVORIGDSTADDR => flag(self.wanted.origdstaddr),
                name::IP_MULTICAST_TTL => number(self.mcast_ttl.into()),
                name::IP_MULTICAST_LOOP => flag(self.mcast_loop),
                name::IP_MULTICAST_ALL => flag(self.mcast_all),
                name::IP_MULTICAST_IF => {
                    let addr = self.mcast_addr.unwrap_or(Ipv4Addr::UNSPECIFIED);
                    Some(OptionValue::Bytes(addr.octets().to_vec()))
                }
                name::IP_UNICAST_IF => number(self.unicast_if.map_or(0, |p| p.0).to_be()),
                name::IP_LOCAL_PORT_RANGE => {
                    number(u32::from(self.local_port_range.0) | u32::from(self.local_port_range.1) << 16)
                }
                _ => None,
            },
            (name::SOL_IPV6, _) if cx.domain == Domain::V6 => match option {
                name::IPV6_V6ONLY => flag(self.v6only),
                name::IPV6_TCLASS => number(self.tclass.into()),
                name::IPV6_MTU_DISCOVER => discover(self.mtu_discover6),
                name::IPV6_DONTFRAG => flag(self.dontfrag),
                name::IPV6_MINHOPCOUNT => number(self.minhops.into()),
                name::IPV6_FREEBIND => flag(self.freebind),
                name::IPV6_TRANSPARENT => flag(self.transparent),
                name::IPV6_RECVERR => flag(self.recverr6),
                name::IPV6_RECVPKTINFO => flag(self.wanted.pktinfo6),
                name::IPV6_RECVHOPLIMIT => flag(self.wanted.hoplimit),
                name::IPV6_RECVTCLASS => flag(self.wanted.tclass),
                name::IPV6_RECVORIGDSTADDR => flag(self.wanted.origdstaddr6),
                name::IPV6_MULTICAST_HOPS => number(self.mcast_hops.into()),
                name::IPV6_MULTICAST_LOOP => flag(self.mcast_loop6),
                name::IPV6_MULTICAST_ALL => flag(self.mcast_all6),
                name::IPV6_MULTICAST_IF => index(self.mcast_if6),
                name::IPV6_UNICAST_IF => number(self.unicast_if.map_or(0, |p| p.0).to_be()),
                _ => None,
            },
            (name::SOL_UDP, _) if !cx.tcp => match option {
                name::UDP_SEGMENT => number(self.gso_size.into()),
                name::UDP_GRO => flag(self.wanted.gro),
                name::UDP_NO_CHECK6_TX => flag(self.no_check6_tx),
                name::UDP_NO_CHECK6_RX => flag(self.no_check6_rx),
                _ => None,
            },
            _ => None,
        }
    }
}

fn existing(n: i32, ports: &dyn Interfaces, missing: Errno) -> Result<PortId, Errno> {
    u32::try_from(n).ok().map(PortId).filter(|p| ports.exists(*p)).ok_or(missing)
}

/// ip(7): the argument of `IP_UNICAST_IF` "is an interface index in network byte order".
fn index_from_network_order(n: i32, ports: &dyn Interfaces) -> Result<Option<PortId>, Errno> {
    match i32::from_be(n) {
        0 => Ok(None),
        n => existing(n, ports, Errno::EADDRNOTAVAIL).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;
    impl Interfaces for Two {
        fn exists(&self, port: PortId) -> bool {
            (1..=2).contains(&port.0)
        }
        fn named(&self, _: &str) -> Option<PortId> {
            None
        }
        fn owner(&self, addr: IpAddr) -> Option<PortId> {
            (addr == IpAddr::from([10, 0, 0, 1])).then_some(PortId(2))
        }
    }
    const CX: Context = Context {
        domain: Domain::V6,
        tcp: false,
        bound: false,
        wmem_max: 0,
        rmem_max: 0,
        closed: true,
        privileged: true,
        lowat_max: 0,
    };

    #[test]
    fn the_multicast_interface_is_named_by_address_or_number() {
        let mut o = IpOpts::default();
        let mut set = |value: &[u8]| o.set_ip(CX, name::IP_MULTICAST_IF, value, &Two).map(|_| o.mcast_if);
        assert_eq!(set(&[10, 0, 0, 1]), Ok(Some(PortId(2))));
        assert_eq!(set(&[0, 0, 0, 0, 10, 0, 0, 1, 1, 0, 0, 0]), Ok(Some(PortId(1))));
        assert_eq!(set(&[0, 0, 0, 0, 10, 0, 0, 1]), Ok(Some(PortId(2))));
        assert_eq!(set(&[10, 0, 0, 9]), Err(Errno::EADDRNOTAVAIL));
        assert_eq!(set(&[0; 4]), Ok(None));
        assert_eq!(set(&[0; 3]), Err(Errno::EINVAL));
        assert_eq!(o.set_ipv6(CX, name::IPV6_MULTICAST_IF, &3i32.to_ne_bytes(), &Two), Err(Errno::ENODEV));
    }

    #[test]
    fn what_is_set_is_read_back() {
        let on = 1i32.to_ne_bytes();
        let of = |level, option| IpOpts::default().get(CX, level, option);
        for option in [
            name::IP_FREEBIND,
            name::IP_TRANSPARENT,
            name::IP_RECVERR,
            name::IP_PKTINFO,
            name::IP_RECVTTL,
            name::IP_RECVTOS,
            name::IP_RECVORIGDSTADDR,
            name::IP_BIND_ADDRESS_NO_PORT,
        ] {
            let mut o = IpOpts::default();
            assert_eq!(of(name::SOL_IP, option), Some(OptionValue::Int(0)), "{option}");
            o.set_ip(CX, option, &on, &Two).expect("legal");
            assert_eq!(o.get(CX, name::SOL_IP, option), Some(OptionValue::Int(1)), "{option}");
        }
        for option in [
            name::IPV6_V6ONLY,
            name::IPV6_DONTFRAG,
            name::IPV6_RECVERR,
            name::IPV6_RECVPKTINFO,
            name::IPV6_RECVHOPLIMIT,
            name::IPV6_RECVTCLASS,
            name::IPV6_RECVORIGDSTADDR,
            name::IPV6_TRANSPARENT,
            name::IPV6_FREEBIND,
        ] {
            let mut o = IpOpts::default();
            assert_eq!(of(name::SOL_IPV6, option), Some(OptionValue::Int(0)), "{option}");
            o.set_ipv6(CX, option, &on, &Two).expect("legal");
            assert_eq!(o.get(CX, name::SOL_IPV6, option), Some(OptionValue::Int(1)), "{option}");
        }
        for option in [name::UDP_SEGMENT, name::UDP_GRO, name::UDP_NO_CHECK6_TX, name::UDP_NO_CHECK6_RX] {
            let mut o = IpOpts::default();
            assert_eq!(of(name::SOL_UDP, option), Some(OptionValue::Int(0)), "{option}");
            o.set_udp(option, &on).expect("legal");
            assert_eq!(o.get(CX, name::SOL_UDP, option), Some(OptionValue::Int(1)), "{option}");
        }
    }

    #[test]
    fn the_two_families_have_mtu_discovery_of_their_own() {
        let mut o = IpOpts::default();
        o.set_ip(CX, name::IP_MTU_DISCOVER, &2i32.to_ne_bytes(), &Two).expect("legal");
        assert_eq!((o.discover(true), o.discover(false)), (MtuDiscover::Do, MtuDiscover::Want));
        assert_eq!(o.set_ip(CX, name::IP_MTU_DISCOVER, &6i32.to_ne_bytes(), &Two), Err(Errno::EINVAL));
    }
}
