//! Duplicate address detection (RFC 4862, 5.4; RFC 7527).

use crate::addr::{AddrState, Address, Scope, solicited_node};
use crate::ip::{Filter, Holder, IfTimer, IpEnv, IpLayer};
use stackd_base::{Duration, Instant, Mib, PortId, Rng};
use stackd_wire::{MacAddr, NdpRepr};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// A look for duplicates that is under way.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// Solicitations still to be sent.
    left: u32,
    /// RFC 7527, 4.1: of the solicitation sent last.
    nonce: Option<[u8; 6]>,
}

/// The looks for duplicates that are under way.
#[derive(Debug, Default)]
pub(crate) struct Dad {
    probes: BTreeMap<(PortId, Ipv6Addr), Probe>,
}

impl IpLayer {
    /// Adds an address as an operator or a router does: an IPv6 address is tentative until nobody objected. With `nodad`, or where there is
    /// nobody to ask, it is used at once; on an interface that is down, nothing happens until that is up. False: it exists or is not possible.
    pub fn add_address_checked(&mut self, env: &mut IpEnv<'_>, address: Address, nodad: bool) -> bool {
        if !self.add_address(address) {
            return false;
        }
        if !self.addrs.state(address.addr).down {
            self.look_for_duplicates(env, &address, nodad);
        }
        true
    }

    /// Asks whether somebody else has an address that an interface was given.
    pub(crate) fn look_for_duplicates(&mut self, env: &mut IpEnv<'_>, address: &Address, nodad: bool) {
        let IpAddr::V6(addr) = address.addr else { return };
        // RFC 4862, 5.4.2: the node joins the solicited-node group before it asks; RFC 3810, 6: and says so by MLD.
        let group = IpAddr::V6(solicited_node(addr));
        self.set_membership(address.port, group, Holder::Stack, Some(Filter::any()));
        let conf = self.conf(address.port);
        let asks = self.port(address.port).is_some_and(|p| p.config.caps.ethernet && !p.config.loopback);
        if nodad || !asks || !conf.accept_dad || conf.dad_transmits == 0 {
            return self.address_settled(env, address.port, address.addr);
        }
        let state = AddrState { tentative: true, ..self.addrs().state(address.addr) };
        self.addrs.set_state(address.addr, state);
        self.changed();
        self.dad.probes.insert((address.port, addr), Probe { left: conf.dad_transmits, nonce: None });
        // RFC 4862, 5.4.2: "the node SHOULD delay joining the solicited-node multicast address by a random delay between 0 and
        // MAX_RTR_SOLICITATION_DELAY": hosts that were switched on together must not ask together.
        let delay = random_below(env.rng, conf.solicit_delay);
        self.timers.set(IfTimer::Dad(address.port, addr), Some(env.now + delay));
    }

    /// The next step: another solicitation, or success.
    pub(crate) fn dad_due(&mut self, env: &mut IpEnv<'_>, port: PortId, addr: Ipv6Addr) {
        let Some(probe) = self.dad.probes.get(&(port, addr)).copied() else { return };
        if probe.left == 0 {
            self.dad.probes.remove(&(port, addr));
            let state = AddrState { tentative: false, ..self.addrs().state(addr.into()) };
            self.addrs.set_state(addr.into(), state);
            self.changed();
            self.address_settled(env, port, addr.into());
            return;
        }
        let nonce = self.conf(port).enhanced_dad.then(|| {
            let [a, b, c, d, e, f, ..] = env.rng.next_u64().to_be_bytes();
            [a, b, c, d, e, f]
        });
        self.dad.probes.insert((port, addr), Probe { left: probe.left - 1, nonce });
        let wait = self.neigh_config(port, true).retrans;
        self.timers.set(IfTimer::Dad(port, addr), Some(env.now + wait));
        if !self.speaks {
            return;
        }
        // RFC 4862, 5.4.2: "The IP source is set to the unspecified address and the IP destination is set to the solicited-node
        // multicast address of the target address."
        let group = solicited_node(addr);
        env.mib.inc(Mib::Icmp6OutNeighborSolicits);
        let question = NdpRepr::NeighborSolicit { target: addr, source_mac: None, nonce };
        self.send_ndp(env, port, Ipv6Addr::UNSPECIFIED, group, MacAddr::of_multicast_v6(group), question);
    }

    /// Somebody else asks for an address that we look at, or says that it has it. True: it is tentative here.
    pub(crate) fn dad_heard(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        target: Ipv6Addr,
        nonce: Option<[u8; 6]>,
        question: bool,
    ) -> bool {
        let addr = IpAddr::V6(target);
        let here = self.addrs().on(port).any(|a| a.addr == addr);
        let state = self.addrs().state(addr);
        if !here || !state.tentative {
            return false;
        }
        let Some(probe) = self.dad.probes.get(&(port, target)) else { return true };
        // RFC 7527, 4.2: with our own nonce it is our own solicitation that came back: no duplicate.
        if question && nonce.is_some() && nonce == probe.nonce {
            return true;
        }
        // RFC 4862, 5.4.5: "A tentative address that is determined to be a duplicate ... MUST NOT be assigned to an interface".
        self.dad.probes.remove(&(port, target));
        self.timers.set(IfTimer::Dad(port, target), None);
        self.addrs.set_state(addr, AddrState { dadfailed: true, ..state });
        env.drops.count(stackd_base::DropReason::DadFailed);
        self.changed();
        true
    }

    /// An address that is going to be taken away needs no more looks.
    pub(crate) fn dad_forget(&mut self, port: PortId, addr: IpAddr) {
        if let IpAddr::V6(addr) = addr {
            self.dad.probes.remove(&(port, addr));
            self.timers.set(IfTimer::Dad(port, addr), None);
        }
    }

    /// An address became usable.
    fn address_settled(&mut self, env: &mut IpEnv<'_>, port: PortId, addr: IpAddr) {
        // RFC 4861, 6.3.7: a host asks for routers once it has an address to ask from.
        if addr.is_ipv6() && Scope::of(addr) == Scope::Link {
            self.begin_soliciting(env, port);
        }
    }
}

/// A random span below `most`.
pub(crate) fn random_below(rng: &mut dyn Rng, most: Duration) -> Duration {
    let most = most.as_nanos();
    Duration::from_nanos(if most == 0 { 0 } else { rng.next_u64() % most })
}

/// Seconds from now; `u32::MAX` is for ever.
pub(crate) fn lifetime(now: Instant, seconds: u32) -> Option<Instant> {
    (seconds != u32::MAX).then(|| now + Duration::from_secs(seconds.into()))
}
