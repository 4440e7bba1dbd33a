//! Redirects: a router names a better first hop (RFC 1122, 3.2.2.2; RFC 4861, 8). Ignored unless `accept_redirects` says otherwise.

use super::{IpEnv, IpLayer};
use crate::icmp::Quoted;
use crate::neigh::Observation;
use stackd_base::{DropReason, Duration, PortId};
use stackd_wire::MacAddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How long a redirect is followed (Linux's `net.ipv4.route.gc_timeout`).
const LIFETIME: Duration = Duration::from_secs(300);

impl IpLayer {
    /// An ICMPv4 redirect (type 5) from `src` that came in on `port`.
    pub(crate) fn redirect_v4_in(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        src: IpAddr,
        gateway: Ipv4Addr,
        quoted: &[u8],
    ) -> Result<(), DropReason> {
        let conf = self.conf(port);
        if !conf.accept_redirects {
            return Err(DropReason::IcmpIgnored);
        }
        let q = Quoted::parse(quoted).ok_or(DropReason::IcmpInvalid)?;
        let gateway = IpAddr::V4(gateway);
        // RFC 1122, 3.2.2.2: "A Redirect message SHOULD be silently discarded if the new gateway address it specifies is not on the same
        // connected (sub-) net through which the Redirect arrived, or if the source of the Redirect is not the current first-hop
        // gateway for the specified destination".
        let on_link = self.addrs.on(port).any(|a| a.network().contains(gateway)) && !self.addrs.is_broadcast(gateway);
        let listed = self.routes().iter().any(|r| r.gateway == Some(gateway));
        if !on_link || self.addrs.is_local(gateway) || (conf.secure_redirects && !listed) {
            return Err(DropReason::RedirectInvalid);
        }
        self.follow(env, port, src, q.dst, gateway, q.src)
    }

    /// An ICMPv6 redirect (type 137), its hop limit and lengths checked.
    pub(crate) fn redirect_v6_in(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        src: Ipv6Addr,
        target: Ipv6Addr,
        destination: Ipv6Addr,
        target_mac: Option<MacAddr>,
    ) -> Result<(), DropReason> {
        if !self.conf(port).accept_redirects6 {
            return Err(DropReason::IcmpIgnored);
        }
        // RFC 4861, 8.1: the source is link-local; the target is "a link-local address (when redirected to a router) or the same as the
        // ICMP Destination Address (when redirected to the on-link destination)".
        if !src.is_unicast_link_local() || !(target.is_unicast_link_local() || target == destination) {
            return Err(DropReason::RedirectInvalid);
        }
        let (dst, via) = (IpAddr::V6(destination), IpAddr::V6(target));
        let ours = self.route(env.now, dst, None, Some(port)).map_err(|_| DropReason::RedirectInvalid)?.src;
        self.follow(env, port, IpAddr::V6(src), dst, via, ours)?;
        if let Some(mac) = target_mac {
            let router = (target != destination).then_some(true);
            let o = Observation { mac: Some(mac), solicited: false, replace: true, router, create: true };
            self.learn_neighbour(env, (port, via), o);
        }
        Ok(())
    }

    fn follow(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        from: IpAddr,
        dst: IpAddr,
        gateway: IpAddr,
        ours: IpAddr,
    ) -> Result<(), DropReason> {
        let route = self.route(env.now, dst, None, None).map_err(|_| DropReason::RedirectInvalid)?;
        if !self.addrs.is_local(ours) || route.local || route.port != port || route.next_hop != from {
            return Err(DropReason::RedirectInvalid);
        }
        self.exceptions.learn_gateway(env.now, dst, gateway, env.now + LIFETIME);
        self.changed();
        Ok(())
    }
}
