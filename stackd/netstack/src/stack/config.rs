//! One socket's TCP configuration: the sysctls with its options over them.

use crate::demux::{FlowKey, Keyed};
use crate::ip::RouteDecision;
use crate::isn;
use crate::route::{CcName, RouteOptions};
use crate::socket::opts::SockOpts;
use crate::sysctl::Sysctls;
use core::num::NonZeroU16;
use stackd_base::{Bandwidth, Duration, Mss};
use stackd_tcp::{Config, FlowParams};

/// Sysctls with a socket's options over them and its route's over those; `None` when neither has any that matter: it then reads the
/// shard's own.
pub(super) fn resolve(sysctls: &Sysctls, o: &SockOpts, route: Option<&RouteOptions>) -> Option<Box<Config>> {
    let route = route.copied().unwrap_or_default();
    let touched = route.tunes_tcp()
        || o.keepalive
        || o.sndbuf.is_some()
        || o.rcvbuf.is_some()
        || o.max_pacing_rate != u64::MAX
        || o.nodelay
        || o.cork
        || o.maxseg != 0
        || o.keepidle.is_some()
        || o.keepintvl.is_some()
        || o.keepcnt.is_some()
        || o.syncnt.is_some()
        || o.linger2.is_some()
        || o.window_clamp != 0
        || o.quickack_set
        || o.congestion.is_some()
        || o.user_timeout != 0
        || o.notsent_lowat.is_some()
        || o.thin_linear
        || o.rto_max_ms.is_some()
        || u64::from(o.rcvlowat) > sysctls.tcp.rmem[1] / 2;
    if !touched {
        return None;
    }
    let s = &sysctls.tcp;
    let seconds = |n: u32| Duration::from_secs(u64::from(n));
    Some(Box::new(Config {
        sndbuf: o.sndbuf.map(u64::from).or(s.sndbuf),
        // Linux's tcp_set_rcvlowat: the buffer grows with it, lest the window shut before it is reached.
        rcvbuf: o.rcvbuf.map(u64::from).or(s.rcvbuf).or_else(|| lowat_buffer(o.rcvlowat, s.rmem)),
        // Linux's tcp_ca_dst_init: the route's algorithm comes before the socket's, until the program chooses again.
        congestion: route.congctl.and_then(known).or(o.congestion).unwrap_or(s.congestion),
        rto_min: route.rto_min.unwrap_or(s.rto_min).min(s.rto_max),
        rto_max: o.rto_max_ms.map_or(s.rto_max, |ms| Duration::from_millis(ms.into())),
        thin_linear_timeouts: o.thin_linear || s.thin_linear_timeouts,
        initial_cwnd: route.initcwnd.filter(|&n| n > 0).unwrap_or(s.initial_cwnd),
        initial_rwnd: route.initrwnd.filter(|&n| n > 0),
        syn_retries: o.syncnt.unwrap_or(s.syn_retries),
        user_timeout: (o.user_timeout != 0).then(|| Duration::from_millis(u64::from(o.user_timeout))),
        fin_timeout: match o.linger2 {
            None => s.fin_timeout,
            Some(n) if n < 0 => Duration::ZERO,
            Some(n) => seconds(n as u32),
        },
        keepalive: o.keepalive,
        keepalive_time: o.keepidle.map_or(s.keepalive_time, seconds),
        keepalive_intvl: o.keepintvl.map_or(s.keepalive_intvl, seconds),
        keepalive_probes: o.keepcnt.map_or(s.keepalive_probes, |n| n as u8),
        nodelay: o.nodelay,
        cork: o.cork,
        quickack: o.quickack && o.quickack_set || route.quickack,
        delayed_ack: o.quickack_set && !o.quickack,
        maxseg: (o.maxseg != 0).then_some(o.maxseg),
        window_clamp: (o.window_clamp != 0).then_some(o.window_clamp),
        max_pacing_rate: match o.max_pacing_rate {
            u64::MAX => Bandwidth::MAX,
            rate => Bandwidth::from_bytes_per_sec(rate),
        },
        notsent_lowat: o.notsent_lowat.filter(|&n| n != 0).map_or(s.notsent_lowat, u64::from),
        ..s.clone()
    }))
}

/// A receive buffer for this much at once, if that is more than the usual one holds.
fn lowat_buffer(lowat: u32, rmem: [u64; 3]) -> Option<u64> {
    let wanted = u64::from(lowat) * 2;
    (wanted > rmem[1]).then(|| wanted.min(rmem[2]))
}

/// The algorithm of a route; `None` when this build has none of that name.
fn known(name: CcName) -> Option<&'static str> {
    stackd_tcp::cc::AVAILABLE.into_iter().find(|&n| n == name.as_str())
}

/// What a connection is told about its path.
pub(super) fn flow_params(
    sysctls: &Sysctls,
    opts: &SockOpts,
    flow: &FlowKey,
    path: &RouteDecision,
    port: PortTraits,
    secret: &Keyed,
) -> FlowParams {
    let (local, remote) = (flow.local(), flow.remote());
    let ipv6 = remote.is_ipv6();
    let mss = path_mss(sysctls, opts, path, ipv6);
    // Not what ICMP told of the path, which is the other direction's; what an operator set for the route is meant for both.
    let configured = path.options.mtu.map_or(path.link_mtu, |mtu| mtu.min(path.link_mtu));
    let advertised = bounded_mss(sysctls, opts, path, mss_for(configured, ipv6)).min(65_535) as u16;
    FlowParams {
        src_port: local.port(),
        dst_port: remote.port(),
        ipv6,
        mss: Mss::new_clamped(mss),
        advmss: NonZeroU16::new(advertised).filter(|n| u32::from(n.get()) != mss),
        port_paces: port.paces,
        gso_max: port.gso_max,
        ts_offset: isn::timestamp_offset(secret, flow),
        signature: 0,
    }
}

/// What a path takes, and what route and application let it.
pub(super) fn path_mss(sysctls: &Sysctls, opts: &SockOpts, path: &RouteDecision, ipv6: bool) -> u32 {
    bounded_mss(sysctls, opts, path, mss_for(path.mtu, ipv6))
}

fn bounded_mss(sysctls: &Sysctls, opts: &SockOpts, path: &RouteDecision, mut mss: u32) -> u32 {
    if let Some(advmss) = path.options.advmss {
        mss = mss.min(u32::from(advmss));
    }
    if opts.maxseg != 0 {
        mss = mss.min(u32::from(opts.maxseg));
    }
    mss.max(sysctls.tcp.min_snd_mss)
}

/// A connection that proves who it is: every segment spends `bytes` on that, and a segmenting device could not.
pub(super) fn signed(params: FlowParams, bytes: u8) -> FlowParams {
    let gso_max = if bytes > 0 { 0 } else { params.gso_max };
    FlowParams { signature: bytes, gso_max, ..params }
}

/// What of an interface concerns a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortTraits {
    /// Its qdisc honours departure times.
    pub paces: bool,
    /// Most payload bytes of a packet for it.
    pub gso_max: u32,
}

/// Path MTU minus IP header and 20 bytes of TCP header (RFC 6691, 2). An MTU beyond what IPv4's length field can say (`lo` has
/// 65,536) counts as 65,535.
pub(super) const fn mss_for(mtu: u32, ipv6: bool) -> u32 {
    if ipv6 {
        mtu.saturating_sub(60)
    } else if mtu > 65_535 {
        65_535 - 40
    } else {
        mtu.saturating_sub(40)
    }
}
