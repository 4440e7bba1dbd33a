//! `ip route get`: which way a packet takes, by the rules, and why none.

use super::net::{ip, name_of, octets, optional_ip, port, route_to_proto, seconds};
use stackd_base::{Errno as Os, Instant};
use stackd_netstack::addr::Prefix;
use stackd_netstack::ip::{IpLayer, RouteQuery, TABLE_LOCAL};
use stackd_netstack::route::{Route, RouteOptions, RouteOrigin, RouteType};
use stackd_proto::v1::Errno;
use stackd_proto::{StatusError, v1};
use std::net::IpAddr;

fn refused(error: Os, dst: IpAddr) -> StatusError {
    let (errno, why, remedy) = match error {
        Os::EHOSTUNREACH => (Errno::Ehostunreach, "an unreachable route covers it", ""),
        Os::EACCES => (Errno::Eacces, "a prohibit route covers it", ""),
        Os::EINVAL => (Errno::Einval, "a blackhole route covers it", ""),
        Os::EADDRNOTAVAIL => (Errno::Eaddrnotavail, "no address of this stack can be the source", "ip addr add"),
        Os::ENODEV => (Errno::Enodev, "no such device", ""),
        _ => (Errno::Enetunreach, "no route", "a route: ip route add PREFIX via GATEWAY"),
    };
    StatusError::new(errno, why).argument("destination", dst).remedy(remedy)
}

fn local(layer: &IpLayer, dst: IpAddr) -> Route {
    Route {
        dst: Prefix::host(dst),
        kind: RouteType::Local,
        gateway: None,
        port: layer.loopback(),
        src: Some(dst),
        metric: 0,
        origin: RouteOrigin::Kernel,
        options: RouteOptions::default(),
    }
}

/// `ip route get`.
pub fn route_get(
    layer: &IpLayer,
    now: Instant,
    request: &v1::GetRouteRequest,
) -> Result<v1::GetRouteResponse, StatusError> {
    let v1::GetRouteRequest { destination, source, device, mark, input_device } = request;
    let dst = ip("destination", destination)?;
    let src = optional_ip("source", source)?;
    let oif = if device.is_empty() { None } else { Some(port(layer, device)?.id) };
    if src.is_some_and(|s| s.is_ipv4() != dst.is_ipv4()) {
        return Err(StatusError::invalid("from", src.map_or_else(String::new, |s| s.to_string()), "of another family"));
    }
    let learnt = layer.exception(now, dst).mtu;
    let shown = |route: v1::Route, source: Option<IpAddr>| v1::GetRouteResponse {
        route: Some(route),
        source: source.map(octets).unwrap_or_default(),
        path_mtu: learnt.map_or(0, |m| m.0),
        path_mtu_expires_s: learnt.map_or(0, |m| seconds(m.1.saturating_since(now))),
    };
    if !input_device.is_empty() {
        port(layer, input_device)?;
        if !layer.addrs().is_local(dst) {
            // As Linux with net.ipv4.ip_forward = 0.
            return Err(StatusError::new(Errno::Ehostunreach, "it is not for this stack, and stackd forwards nothing")
                .argument("destination", dst));
        }
        return Ok(shown(route_to_proto(layer, now, TABLE_LOCAL, &local(layer, dst)), src));
    }
    // Linux: a source that IPv4 sends from is one of the host's own.
    if let Some(IpAddr::V4(s)) = src
        && !layer.addrs().is_local(s.into())
    {
        return Err(StatusError::invalid("from", s, "not an address of this stack"));
    }
    let query = RouteQuery { dst, src, port: oif, mark: *mark };
    let decision = layer.route_by(now, &query).map_err(|e| refused(e, dst))?;
    if decision.local {
        return Ok(shown(route_to_proto(layer, now, TABLE_LOCAL, &local(layer, dst)), Some(decision.src)));
    }
    let mut found = match layer.explain(&query) {
        Some((table, route)) => route_to_proto(layer, now, table, route),
        // A link-scoped destination needs no route.
        None => v1::Route { r#type: v1::RouteType::Unicast as i32, ..v1::Route::default() },
    };
    found.device = name_of(layer, Some(decision.port));
    found.gateway = if decision.next_hop == dst { Vec::new() } else { octets(decision.next_hop) };
    found.destination = octets(dst);
    found.prefix_len = if dst.is_ipv4() { 32 } else { 128 };
    Ok(shown(found, Some(decision.src)))
}

/// The groups that every interface is in, without anybody's wish (RFC 1112, 4; RFC 4291, 2.8).
const ALWAYS: [IpAddr; 3] = [
    IpAddr::V4(std::net::Ipv4Addr::new(224, 0, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1)),
];

/// `ip maddr show`.
pub fn groups(layer: &IpLayer, request: &v1::ListGroupsRequest) -> Result<v1::ListGroupsResponse, StatusError> {
    let only = if request.device.is_empty() { None } else { Some(port(layer, &request.device)?.id) };
    let mut groups = Vec::new();
    for p in layer.ports().iter().filter(|p| only.is_none_or(|o| o == p.id)) {
        let group = |address: IpAddr, sockets: usize, own| v1::Group {
            index: p.id.0,
            device: p.config.name.clone(),
            address: octets(address),
            sockets: u32::try_from(sockets).unwrap_or(u32::MAX),
            own,
        };
        let joined = |a: IpAddr| layer.memberships().any(|(id, g, _)| (id, g) == (p.id, a));
        groups.extend(ALWAYS.into_iter().filter(|a| !joined(*a)).map(|a| group(a, 0, true)));
        for (_, address, holders) in layer.memberships().filter(|(id, ..)| *id == p.id) {
            let own = layer.holds_itself(p.id, address);
            groups.push(group(address, holders - usize::from(own), own || ALWAYS.contains(&address)));
        }
    }
    Ok(v1::ListGroupsResponse { groups })
}
