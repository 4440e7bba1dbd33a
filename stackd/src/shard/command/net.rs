//! `ip link|addr|route|neigh`: the IP layer's tables, shown and changed.

use stackd_base::{DropCounters, Duration, Instant, MibCounters, PortId, SplitMix64};
use stackd_netstack::Stack;
use stackd_netstack::addr::{AddrState, Address, Prefix, Scope};
use stackd_netstack::ip::{Exception, IpEnv, IpLayer};
use stackd_netstack::neigh::{Neighbour, NudState};
use stackd_netstack::port::Port;
use stackd_netstack::route::{CcName, Route, RouteError, RouteOptions, RouteOrigin, RouteType};
use stackd_proto::v1::{Errno, ModifyMode};
use stackd_proto::{StatusError, v1};
use stackd_wire::MacAddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IFA_F_SECONDARY: u32 = 0x1;
const IFA_F_NODAD: u32 = 0x2;
const IFA_F_DADFAILED: u32 = 0x8;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_MANAGETEMPADDR: u32 = 0x100;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_PERMANENT: u32 = 0x80;
const TABLE_MAIN: u32 = 254;
/// `quickack 1` in `stackd.v1`; 1 is `quickack 0`.
const QUICKACK_ON: u32 = 2;

/// 4 or 16 bytes, network order.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

pub(super) fn ip(argument: &str, bytes: &[u8]) -> Result<IpAddr, StatusError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(Ipv6Addr::from(v6).into()),
        Err(_) => Err(StatusError::invalid(argument, format!("{} bytes", bytes.len()), "not an address")
            .remedy("4 bytes (IPv4) or 16 bytes (IPv6)")),
    }
}

pub(super) fn optional_ip(argument: &str, bytes: &[u8]) -> Result<Option<IpAddr>, StatusError> {
    if bytes.is_empty() { Ok(None) } else { ip(argument, bytes).map(Some) }
}

/// The interface called `name`.
pub fn port<'a>(layer: &'a IpLayer, name: &str) -> Result<&'a Port, StatusError> {
    layer.ports().iter().find(|p| p.config.name == name).ok_or_else(|| {
        let names: Vec<&str> = layer.ports().iter().map(|p| p.config.name.as_str()).collect();
        StatusError::new(Errno::Enodev, "no such device")
            .argument("dev", name)
            .remedy(format!("one of {}", names.join(", ")))
    })
}

pub(super) fn name_of(layer: &IpLayer, id: Option<PortId>) -> String {
    id.and_then(|id| layer.port(id)).map(|p| p.config.name.clone()).unwrap_or_default()
}

/// `ip addr show`.
pub fn addresses(
    layer: &IpLayer,
    now: Instant,
    request: &v1::ListAddressesRequest,
) -> Result<v1::ListAddressesResponse, StatusError> {
    let only = if request.device.is_empty() { None } else { Some(port(layer, &request.device)?.id) };
    let shown = layer.addrs().iter().filter(|a| only.is_none_or(|p| p == a.port));
    let addresses = shown
        .map(|a| {
            let Address { addr, prefix_len, scope, port, secondary, deprecated } = *a;
            let device = name_of(layer, Some(port));
            let AddrState { tentative, dadfailed, valid_until, preferred_until, autoconf, down } =
                layer.addrs().state(addr);
            let left = |until: Option<Instant>| until.map(|t| seconds(t.saturating_since(now)));
            v1::Address {
                label: if addr.is_ipv4() { device.clone() } else { String::new() },
                device,
                address: octets(addr),
                prefix_len: prefix_len.into(),
                scope: scope_to_proto(scope) as i32,
                broadcast: a.broadcast().map(|b| b.octets().to_vec()).unwrap_or_default(),
                peer: Vec::new(),
                valid_lifetime_s: left(valid_until),
                preferred_lifetime_s: if deprecated { Some(0) } else { left(preferred_until) },
                flags: if valid_until.is_none() { IFA_F_PERMANENT } else { 0 }
                    | if secondary { IFA_F_SECONDARY } else { 0 }
                    | if deprecated { IFA_F_DEPRECATED } else { 0 }
                    | if tentative || (down && addr.is_ipv6()) { IFA_F_TENTATIVE } else { 0 }
                    | if dadfailed { IFA_F_DADFAILED } else { 0 }
                    | if autoconf { IFA_F_MANAGETEMPADDR } else { 0 },
            }
        })
        .collect();
    Ok(v1::ListAddressesResponse { addresses })
}

pub(super) fn seconds(d: Duration) -> u32 {
    u32::try_from(d.as_millis() / 1000).unwrap_or(u32::MAX)
}

fn scope_to_proto(scope: Scope) -> v1::Scope {
    match scope {
        Scope::Global => v1::Scope::Global,
        Scope::Link => v1::Scope::Link,
        Scope::Host => v1::Scope::Host,
    }
}

/// `ip addr add|replace|change|del`.
pub fn modify_address(
    stack: &mut Stack,
    now: Instant,
    request: &v1::ModifyAddressRequest,
) -> Result<v1::ModifyAddressResponse, StatusError> {
    let layer = stack.ip_mut();
    let a = request.address.as_ref().ok_or_else(|| StatusError::invalid("address", "", "missing"))?;
    let (valid, preferred) = (a.valid_lifetime_s, a.preferred_lifetime_s);
    if valid == Some(0) || preferred.unwrap_or(u32::MAX) > valid.unwrap_or(u32::MAX) {
        let given = preferred.map_or_else(|| "forever".to_owned(), |s| s.to_string());
        return Err(StatusError::invalid("preferred_lft", given, "longer than valid_lft")
            .remedy("0 < valid_lft, and preferred_lft <= valid_lft"));
    }
    let addr = ip("address", &a.address)?;
    let id = port(layer, &a.device)?.id;
    let len = u8::try_from(a.prefix_len).ok().filter(|&l| l <= if addr.is_ipv4() { 32 } else { 128 });
    let len = len.ok_or_else(|| StatusError::invalid("prefix_len", a.prefix_len, "longer than an address"))?;
    let present = layer.addrs().on(id).any(|x| x.addr == addr);
    let shown = format!("{addr}/{len}");
    match (request.mode(), present) {
        (ModifyMode::Unspecified, _) => return Err(StatusError::invalid("mode", "unspecified", "nothing to do")),
        (ModifyMode::Add | ModifyMode::Append, true) => {
            return Err(StatusError::new(Errno::Eexist, "the address is there already").argument("address", shown));
        }
        (ModifyMode::Change | ModifyMode::Delete, false) => {
            return Err(
                StatusError::new(Errno::Eaddrnotavail, "no such address on this device").argument("address", shown)
            );
        }
        (ModifyMode::Delete | ModifyMode::Replace | ModifyMode::Change, true) => {
            layer.remove_address(id, addr);
        }
        (ModifyMode::Add | ModifyMode::Append | ModifyMode::Replace, false) => {}
    }
    if request.mode() != ModifyMode::Delete {
        let nodad = a.flags & IFA_F_NODAD != 0;
        if !stack.add_address_checked(now, address(addr, len, id), nodad) {
            return Err(StatusError::invalid("address", shown, "cannot be the address of an interface"));
        }
        if valid.is_some() || preferred.is_some() {
            let until = |s: Option<u32>| s.map(|s| now + Duration::from_secs(s.into()));
            stack.ip_mut().set_lifetimes(now, addr, until(valid), until(preferred), false);
        }
    }
    Ok(v1::ModifyAddressResponse {})
}

/// An address as configuration gives it.
pub fn address(addr: IpAddr, prefix_len: u8, port: PortId) -> Address {
    Address { addr, prefix_len, scope: Scope::of(addr), port, secondary: false, deprecated: false }
}

pub(super) fn route_to_proto(layer: &IpLayer, now: Instant, table: u32, r: &Route) -> v1::Route {
    let Route { dst, kind, gateway, port, src, metric, origin, options } = *r;
    let RouteOptions { congctl, rto_min, initcwnd, initrwnd, advmss, mtu, mtu_lock, hoplimit, quickack, pref } =
        options;
    v1::Route {
        expires_s: layer.route_expires(now, r).map(seconds),
        preference: pref.into(),
        r#type: match kind {
            RouteType::Unicast => v1::RouteType::Unicast,
            RouteType::Local => v1::RouteType::Local,
            RouteType::Blackhole => v1::RouteType::Blackhole,
            RouteType::Unreachable => v1::RouteType::Unreachable,
            RouteType::Prohibit => v1::RouteType::Prohibit,
        } as i32,
        destination: octets(dst.addr()),
        prefix_len: dst.bits().into(),
        gateway: gateway.map(octets).unwrap_or_default(),
        device: name_of(layer, port),
        preferred_source: src.map(octets).unwrap_or_default(),
        metric,
        protocol: match origin {
            RouteOrigin::Kernel => "kernel",
            RouteOrigin::Boot => "boot",
            RouteOrigin::Static => "static",
            RouteOrigin::Ra => "ra",
        }
        .into(),
        scope: if gateway.is_none() && kind == RouteType::Unicast && dst.addr().is_ipv4() {
            v1::Scope::Link
        } else {
            v1::Scope::Global
        } as i32,
        table,
        mtu: mtu.unwrap_or(0),
        advmss: advmss.unwrap_or(0).into(),
        initcwnd: initcwnd.unwrap_or(0),
        initrwnd: initrwnd.unwrap_or(0),
        congestion_control: congctl.map(|c| c.as_str().to_owned()).unwrap_or_default(),
        rto_min_ms: rto_min.map_or(0, |d| d.as_millis() as u32),
        ecn: false,
        quickack: if quickack { QUICKACK_ON } else { 0 },
        mtu_lock,
        hoplimit: hoplimit.unwrap_or(0).into(),
        onlink: false,
    }
}

/// `ip route show`.
pub fn routes(
    layer: &IpLayer,
    now: Instant,
    request: &v1::ListRoutesRequest,
) -> Result<v1::ListRoutesResponse, StatusError> {
    let v1::ListRoutesRequest { family, table, device, cache } = request;
    let only = if device.is_empty() { None } else { Some(port(layer, device)?.id) };
    if *cache {
        let of_family = |a: &IpAddr| *family == 0 || (*family == 2) == a.is_ipv4();
        let learnt = layer.exceptions(now).filter(|(dst, _)| of_family(dst));
        let routes = learnt.map(|(dst, e)| exception_to_proto(layer, now, dst, &e));
        let routes = routes.filter(|r| device.is_empty() || r.device == *device).collect();
        return Ok(v1::ListRoutesResponse { routes });
    }
    let wanted = |n: u32| match *table {
        0 | TABLE_MAIN | 255 => n == TABLE_MAIN,
        u32::MAX => true,
        asked => n == asked,
    };
    let in_tables = layer.tables().filter(|(n, _)| wanted(*n)).flat_map(|(n, t)| t.iter().map(move |r| (n, r)));
    let routes = in_tables
        .filter(|(_, r)| only.is_none_or(|p| r.port == Some(p)))
        .filter(|(_, r)| *family == 0 || (*family == 2) == r.dst.addr().is_ipv4())
        .filter(|(_, r)| match *table {
            0 | TABLE_MAIN => r.kind != RouteType::Local,
            255 => r.kind == RouteType::Local,
            _ => true,
        })
        .map(|(n, r)| route_to_proto(layer, now, n, r))
        .collect();
    Ok(v1::ListRoutesResponse { routes })
}

/// What was learnt about one destination, as a route to it alone.
fn exception_to_proto(layer: &IpLayer, now: Instant, dst: IpAddr, e: &Exception) -> v1::Route {
    let route = layer.route(now, dst, None, None).ok();
    let gateway = route.map(|r| r.next_hop).filter(|via| *via != dst);
    let left =
        [e.mtu.map(|m| m.1), e.gateway.map(|g| g.1)].into_iter().flatten().map(|t| t.saturating_since(now)).min();
    v1::Route {
        r#type: v1::RouteType::Unicast as i32,
        destination: octets(dst),
        prefix_len: if dst.is_ipv4() { 32 } else { 128 },
        gateway: gateway.map(octets).unwrap_or_default(),
        device: name_of(layer, route.map(|r| r.port)),
        protocol: if e.gateway.is_some() { "redirect" } else { "kernel" }.into(),
        scope: v1::Scope::Global as i32,
        table: TABLE_MAIN,
        mtu: e.mtu.map_or(0, |m| m.0),
        expires_s: left.map(seconds),
        ..v1::Route::default()
    }
}

fn route_from_proto(layer: &IpLayer, r: &v1::Route) -> Result<Route, StatusError> {
    let dst = ip("destination", &r.destination)?;
    let len = u8::try_from(r.prefix_len).ok().and_then(|l| Prefix::new(dst, l));
    let dst = len.ok_or_else(|| StatusError::invalid("prefix_len", r.prefix_len, "not the length of a prefix"))?;
    let gateway = optional_ip("via", &r.gateway)?;
    let kind = match r.r#type() {
        v1::RouteType::Unspecified | v1::RouteType::Unicast => RouteType::Unicast,
        v1::RouteType::Local => RouteType::Local,
        v1::RouteType::Blackhole => RouteType::Blackhole,
        v1::RouteType::Unreachable => RouteType::Unreachable,
        v1::RouteType::Prohibit => RouteType::Prohibit,
        other @ (v1::RouteType::Broadcast | v1::RouteType::Multicast) => {
            return Err(StatusError::invalid("type", other.as_str_name(), "not a type that can be added"));
        }
    };
    let named = if r.device.is_empty() { None } else { Some(port(layer, &r.device)?.id) };
    let port = match (named, gateway, kind) {
        (Some(p), _, _) => Some(p),
        (None, Some(via), RouteType::Unicast) => Some(reachable_through(layer, via).ok_or_else(|| {
            StatusError::new(Errno::Enetunreach, "the gateway is on no connected network")
                .argument("via", via)
                .remedy("the device named with dev, or an address of stackd in the gateway's network")
        })?),
        _ => None,
    };
    if let Some(down) = port.and_then(|p| layer.port(p)).filter(|p| !p.up) {
        let name = &down.config.name;
        return Err(StatusError::new(Errno::Enetdown, "the device is down")
            .argument("dev", name)
            .remedy(format!("ip link set {name} up")));
    }
    let congctl = match &*r.congestion_control {
        "" => None,
        name => {
            let known = CcName::new(name).filter(|_| stackd_tcp::cc::AVAILABLE.contains(&name));
            Some(known.ok_or_else(|| {
                StatusError::invalid("congctl", name, "not a congestion control of this build; want reno, cubic or bbr")
            })?)
        }
    };
    if r.ecn {
        return Err(StatusError::new(Errno::Eopnotsupp, "routes do not decide about ECN here")
            .argument("features", "ecn")
            .remedy("net.ipv4.tcp_ecn"));
    }
    let some = |n: u32| (n != 0).then_some(n);
    Ok(Route {
        dst,
        kind,
        gateway,
        port,
        src: optional_ip("src", &r.preferred_source)?,
        metric: metric_or_default(dst, r.metric),
        origin: if r.protocol == "boot" { RouteOrigin::Boot } else { RouteOrigin::Static },
        options: RouteOptions {
            congctl,
            rto_min: some(r.rto_min_ms).map(|ms| stackd_base::Duration::from_millis(ms.into())),
            initcwnd: some(r.initcwnd),
            initrwnd: some(r.initrwnd),
            advmss: some(r.advmss).map(|n| n.min(65_535) as u16),
            mtu: some(r.mtu),
            mtu_lock: r.mtu_lock && r.mtu != 0,
            hoplimit: some(r.hoplimit).map(|n| n.min(255) as u8),
            quickack: r.quickack == QUICKACK_ON,
            pref: r.preference.signum() as i8,
        },
    })
}

/// Linux's `IP6_RT_PRIO_USER`: IPv6 routes that name no metric rank behind those of addresses.
pub fn metric_or_default(dst: Prefix, metric: u32) -> u32 {
    const IPV6_USER: u32 = 1024;
    if metric == 0 && dst.addr().is_ipv6() { IPV6_USER } else { metric }
}

/// The interface on whose network `via` lies.
pub fn reachable_through(layer: &IpLayer, via: IpAddr) -> Option<PortId> {
    layer.routes().lookup(via, |r| r.gateway.is_none() && r.kind == RouteType::Unicast).and_then(|r| r.port)
}

/// `ip route add|replace|change|append|del`.
pub fn modify_route(
    layer: &mut IpLayer,
    request: &v1::ModifyRouteRequest,
) -> Result<v1::ModifyRouteResponse, StatusError> {
    let asked = request.route.as_ref().ok_or_else(|| StatusError::invalid("route", "", "missing"))?;
    let mode = request.mode();
    let table = if asked.table == 0 { TABLE_MAIN } else { asked.table };
    if mode == ModifyMode::Delete {
        let dst = ip("destination", &asked.destination)?;
        let len = u8::try_from(asked.prefix_len).ok().and_then(|l| Prefix::new(dst, l));
        let dst =
            len.ok_or_else(|| StatusError::invalid("prefix_len", asked.prefix_len, "not the length of a prefix"))?;
        let gateway = optional_ip("via", &asked.gateway)?;
        let dev = if asked.device.is_empty() { None } else { Some(port(layer, &asked.device)?.id) };
        let metric = asked.metric;
        let same = |r: &Route| {
            (gateway.is_none() || r.gateway == gateway)
                && (dev.is_none() || r.port == dev)
                && (metric == 0 || r.metric == metric)
        };
        layer.remove_route_in(table, dst, same).map_err(|e| route_refused(e, asked))?;
        return Ok(v1::ModifyRouteResponse {});
    }
    let route = route_from_proto(layer, asked)?;
    let same = |r: &Route| r.dst == route.dst && r.metric == route.metric;
    let present = layer.table(table).is_some_and(|t| t.iter().any(same));
    match mode {
        ModifyMode::Unspecified | ModifyMode::Delete => {
            return Err(StatusError::invalid("mode", "unspecified", "nothing to do"));
        }
        ModifyMode::Change if !present => {
            return Err(StatusError::new(Errno::Enoent, "no such route").argument("destination", route.dst.addr()));
        }
        ModifyMode::Add | ModifyMode::Replace | ModifyMode::Change | ModifyMode::Append => {}
    }
    let replace = matches!(mode, ModifyMode::Replace | ModifyMode::Change);
    layer.add_route_in(table, route, replace).map_err(|e| route_refused(e, asked))?;
    Ok(v1::ModifyRouteResponse {})
}

fn route_refused(error: RouteError, asked: &v1::Route) -> StatusError {
    let errno = match error {
        RouteError::Exists => Errno::Eexist,
        RouteError::NotFound => Errno::Enoent,
        RouteError::Invalid => Errno::Einval,
    };
    let dst = ip("destination", &asked.destination).map(|a| format!("{a}/{}", asked.prefix_len)).unwrap_or_default();
    StatusError::new(errno, error.to_string()).argument("destination", dst)
}

/// `ip neigh show`.
pub fn neighbours(
    layer: &IpLayer,
    now: Instant,
    request: &v1::ListNeighboursRequest,
) -> Result<v1::ListNeighboursResponse, StatusError> {
    let only = if request.device.is_empty() { None } else { Some(port(layer, &request.device)?.id) };
    let neighbours = layer
        .neighbours()
        .iter()
        .filter(|((p, _), _)| only.is_none_or(|o| o == *p))
        .filter(|((_, a), _)| request.family == 0 || (request.family == 2) == a.is_ipv4())
        .map(|((p, addr), n)| neighbour(layer, *p, *addr, n, now))
        .collect();
    Ok(v1::ListNeighboursResponse { neighbours })
}

fn neighbour(layer: &IpLayer, port: PortId, addr: IpAddr, n: &Neighbour, now: Instant) -> v1::Neighbour {
    let state = match n.state {
        NudState::Incomplete => v1::NeighbourState::Incomplete,
        NudState::Reachable => v1::NeighbourState::Reachable,
        NudState::Stale => v1::NeighbourState::Stale,
        NudState::Delay => v1::NeighbourState::Delay,
        NudState::Probe => v1::NeighbourState::Probe,
        NudState::Failed => v1::NeighbourState::Failed,
        NudState::Permanent => v1::NeighbourState::Permanent,
    };
    let ago = |t: Instant| now.saturating_since(t).as_millis();
    v1::Neighbour {
        address: octets(addr),
        device: name_of(layer, Some(port)),
        hardware_address: n.mac.map(|m| m.0.to_vec()).unwrap_or_default(),
        state: state as i32,
        router: n.router,
        used_ms: ago(n.used),
        confirmed_ms: ago(n.confirmed),
        updated_ms: ago(n.confirmed),
        probes: n.probes,
        queued: n.queued() as u32,
    }
}

/// `ip neigh add|replace|change|del`.
pub fn modify_neighbour(
    stack: &mut Stack,
    now: Instant,
    request: &v1::ModifyNeighbourRequest,
) -> Result<v1::ModifyNeighbourResponse, StatusError> {
    let layer = stack.ip_mut();
    let n = request.neighbour.as_ref().ok_or_else(|| StatusError::invalid("neighbour", "", "missing"))?;
    let addr = ip("address", &n.address)?;
    let id = port(layer, &n.device)?.id;
    let key = (id, addr);
    let present = layer.neighbours().get(key).is_some();
    let done = v1::ModifyNeighbourResponse {};
    match (request.mode(), present) {
        (ModifyMode::Unspecified, _) => return Err(StatusError::invalid("mode", "unspecified", "nothing to do")),
        (ModifyMode::Add, true) if n.state != v1::NeighbourState::None as i32 && !is_failed(layer, key) => {
            return Err(StatusError::new(Errno::Eexist, "the neighbour is known")
                .argument("address", addr)
                .remedy("replace"));
        }
        (ModifyMode::Change | ModifyMode::Delete, false) => {
            return Err(StatusError::new(Errno::Enoent, "no such neighbour").argument("address", addr));
        }
        (ModifyMode::Delete, true) => {
            forget_neighbour(stack, now, key);
            return Ok(done);
        }
        (ModifyMode::Add | ModifyMode::Append | ModifyMode::Replace | ModifyMode::Change, _) => {}
    }
    let mac: [u8; 6] = n.hardware_address.as_slice().try_into().map_err(|_| {
        StatusError::invalid("lladdr", format!("{:02x?}", n.hardware_address), "not an Ethernet address")
            .remedy("six bytes")
    })?;
    stack.add_neighbour(now, key, MacAddr(mac));
    Ok(done)
}

/// What waited for it is dropped, and counted; its senders retransmit.
fn forget_neighbour(stack: &mut Stack, now: Instant, key: (PortId, IpAddr)) {
    let (mut mib, mut drops, mut rng) =
        (MibCounters::default(), DropCounters::default(), SplitMix64::new(now.as_nanos()));
    let mut env = IpEnv { now, mib: &mut mib, drops: &mut drops, rng: &mut rng };
    stack.ip_mut().remove_neighbour(&mut env, key);
    for (reason, count) in drops.iter() {
        for _ in 0..count {
            stack.count_drop(reason);
        }
    }
}

fn is_failed(layer: &IpLayer, key: (PortId, IpAddr)) -> bool {
    layer.neighbours().get(key).is_some_and(|n| n.state == NudState::Failed)
}
