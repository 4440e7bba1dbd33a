//! ICMP: echo, errors sent (rate-limited) and errors received. The part that both families share, and IPv4's input.

use crate::addr::Class;
use crate::ip::input::Accepted;
use crate::ip::{IpConfig, IpEnv, IpLayer, Outgoing, TransportError};
use crate::packet::Payload;
use stackd_base::{DropReason, Duration, Instant, Mib, PortId, SeqNum};
use stackd_wire::{Extensions, IcmpRepr, Ipv4Repr, Ipv6Repr, Unreachable, icmp, ipv6, proto};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// RFC 1812, 4.3.2.3: "SHOULD contain as much of the original datagram as possible without the length ... exceeding 576 bytes".
const MAX_ERROR_V4: usize = 576 - 20 - icmp::HEADER_LEN;
/// RFC 4443, 2.4 (c): "without the error message packet exceeding the minimum IPv6 MTU".
const MAX_ERROR_V6: usize = 1280 - ipv6::HEADER_LEN - icmp::HEADER_LEN;
/// RFC 8200, 5.
const MIN_MTU_V6: u32 = 1280;
/// Destinations remembered by the limiter.
const LIMITER_CAPACITY: usize = 1024;

/// Linux's `XRLIM_BURST_FACTOR`: errors that one destination may get at once.
const BURST: u64 = 6;

/// Limits errors, over all and per destination (Linux's `icmp_msgs_per_sec` and `icmp_ratelimit`).
#[derive(Debug, Default)]
pub(crate) struct IcmpLimiter {
    /// Tokens, in billionths of a message.
    tokens: u128,
    refilled: Option<Instant>,
    /// Time that each destination has saved up, and when it was counted.
    saved: BTreeMap<IpAddr, (Duration, Instant)>,
}

/// Which limit was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Limited {
    /// That of all destinations together.
    Global,
    /// The destination's own.
    Host,
}

impl IcmpLimiter {
    fn allow(&mut self, now: Instant, cfg: &IpConfig, dst: IpAddr) -> Result<(), Limited> {
        const MESSAGE: u128 = 1_000_000_000;
        let spacing = if dst.is_ipv4() { cfg.icmp_ratelimit } else { cfg.icmp6_ratelimit };
        let burst = u128::from(cfg.icmp_msgs_burst) * MESSAGE;
        let earned = match self.refilled {
            Some(t) => u128::from((now - t).as_nanos()) * u128::from(cfg.icmp_msgs_per_sec),
            None => burst,
        };
        self.refilled = Some(now);
        self.tokens = (self.tokens + earned).min(burst);
        if self.tokens < MESSAGE {
            return Err(Limited::Global);
        }
        // Linux's inet_peer_xrlim_allow: one a `spacing`, of which six can be saved up.
        let most = spacing.mul_ratio(BURST, 1);
        let saved = self.saved.get(&dst).map_or(most, |(saved, at)| (*saved + (now - *at)).min(most));
        if saved < spacing {
            return Err(Limited::Host);
        }
        if self.saved.len() >= LIMITER_CAPACITY && !self.saved.contains_key(&dst) {
            self.saved.retain(|_, (saved, at)| *saved + (now - *at) < most);
            if self.saved.len() >= LIMITER_CAPACITY {
                return Err(Limited::Host);
            }
        }
        self.tokens -= MESSAGE;
        self.saved.insert(dst, (saved - spacing, now));
        Ok(())
    }
}

/// Whether the limits hold for this message. Path MTU discovery is never held back, as in Linux.
fn is_limited(cfg: &IpConfig, error: IcmpRepr, v4: bool) -> bool {
    let kind = match error {
        IcmpRepr::PacketTooBig { .. } => return false,
        IcmpRepr::DestUnreachable(_) => 3,
        IcmpRepr::TimeExceeded { .. } => 11,
        IcmpRepr::ParameterProblem { .. } => 12,
        _ => return false,
    };
    // net.ipv6.icmp.ratemask is 0-1,3-127 on Linux: every error but packet too big.
    !v4 || cfg.icmp_ratemask & 1 << kind != 0
}

impl IpLayer {
    /// Answers a received packet (`packet`: its visible bytes from the IP header on) with an ICMP error, where that is allowed and within
    /// the limits. For transports: port unreachable.
    pub fn answer_error(&mut self, env: &mut IpEnv<'_>, port: PortId, packet: &[u8], error: IcmpRepr) {
        let Some((src, dst)) = may_answer(packet, error) else { return };
        // RFC 1122, 3.2.2: none about broadcast and multicast; RFC 4443, 2.4 (e.3) allows two exceptions.
        let excepted = matches!(error, IcmpRepr::PacketTooBig { .. } | IcmpRepr::ParameterProblem { code: 2, .. });
        let group = self.addrs.classify(port, dst) != Class::Local;
        if group && !(dst.is_ipv6() && excepted) {
            return;
        }
        if src.is_unspecified() || src.is_multicast() || self.addrs.is_broadcast(src) {
            return;
        }
        let on_lo = self.port(port).is_some_and(|p| p.config.loopback);
        let v4 = src.is_ipv4();
        if !on_lo
            && is_limited(&self.config, error, v4)
            && let Err(limited) = self.limiter.allow(env.now, &self.config, src)
        {
            env.mib.inc(match (limited, v4) {
                (Limited::Global, _) => Mib::IcmpOutRateLimitGlobal,
                (Limited::Host, true) => Mib::IcmpOutRateLimitHost,
                (Limited::Host, false) => Mib::Icmp6OutRateLimitHost,
            });
            return;
        }
        let from = if group { None } else { Some(dst) };
        let max = if src.is_ipv4() { MAX_ERROR_V4 } else { MAX_ERROR_V6 };
        let counted = match error {
            IcmpRepr::DestUnreachable(Unreachable::Protocol) if !v4 => Some(Mib::Icmp6OutParmProblems),
            IcmpRepr::DestUnreachable(_) => Some(if v4 { Mib::IcmpOutDestUnreachs } else { Mib::Icmp6OutDestUnreachs }),
            IcmpRepr::TimeExceeded { .. } => Some(if v4 { Mib::IcmpOutTimeExcds } else { Mib::Icmp6OutTimeExcds }),
            IcmpRepr::ParameterProblem { .. } => {
                Some(if v4 { Mib::IcmpOutParmProbs } else { Mib::Icmp6OutParmProblems })
            }
            _ => None,
        };
        if let Some(counted) = counted {
            env.mib.inc(counted);
        }
        self.send_icmp(env, port, (from, src), error, &packet[..packet.len().min(max)], 0);
    }

    /// Sends an ICMP message with `data` behind its header. `ends`: source (`None`: the route's) and destination.
    pub(crate) fn send_icmp(
        &mut self,
        env: &mut IpEnv<'_>,
        port: PortId,
        ends: (Option<IpAddr>, IpAddr),
        message: IcmpRepr,
        data: &[u8],
        tos: u8,
    ) {
        let (from, to) = ends;
        // A link-local destination belongs to the link the question came by.
        let scoped = matches!(to, IpAddr::V6(a) if a.is_unicast_link_local()).then_some(port);
        let Ok(route) = self.route(env.now, to, from, scoped) else {
            env.mib.inc(if to.is_ipv4() { Mib::IpOutNoRoutes } else { Mib::Ip6OutNoRoutes });
            return;
        };
        let mut bytes = vec![0; icmp::HEADER_LEN + data.len()];
        bytes[icmp::HEADER_LEN..].copy_from_slice(data);
        let protocol = match (route.src, to) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                message.emit_v6(&mut bytes, src, dst);
                env.mib.inc(Mib::Icmp6OutMsgs);
                proto::ICMPV6
            }
            _ => {
                message.emit_v4(&mut bytes);
                env.mib.inc(Mib::IcmpOutMsgs);
                proto::ICMP
            }
        };
        let payload = Payload::Owned(bytes.split_off(icmp::HEADER_LEN).into());
        let out = Outgoing { tos, ..Outgoing::new(route.src, to, protocol, &bytes, payload) };
        // A message that cannot be sent was counted where it failed; nobody waits for it.
        let _ = self.send(env, &route, out);
    }

    /// Takes an ICMPv4 message in.
    pub(crate) fn handle_icmp(
        &mut self,
        env: &mut IpEnv<'_>,
        a: &Accepted<'_>,
    ) -> Result<Option<TransportError>, DropReason> {
        env.mib.inc(Mib::IcmpInMsgs);
        let m = a.transport();
        if m.len() != a.transport_len || !icmp::verify_v4(m) {
            env.mib.inc(Mib::IcmpInErrors);
            env.mib.inc(Mib::IcmpInCsumErrors);
            return Err(DropReason::IcmpInvalid);
        }
        let message = IcmpRepr::parse_v4(m).map_err(|_| {
            env.mib.inc(Mib::IcmpInErrors);
            DropReason::IcmpInvalid
        })?;
        match message {
            IcmpRepr::EchoRequest { ident, seq } => {
                env.mib.inc(Mib::IcmpInEchos);
                self.echo(env, a, ident, seq, &m[icmp::HEADER_LEN..])?;
                Ok(None)
            }
            IcmpRepr::EchoReply { .. } => {
                env.mib.inc(Mib::IcmpInEchoReps);
                Err(DropReason::IcmpIgnored)
            }
            IcmpRepr::Other { kind: 5, rest, .. } => {
                env.mib.inc(Mib::IcmpInRedirects);
                self.redirect_v4_in(env, a.port, a.src, rest.into(), &m[icmp::HEADER_LEN..]).map(|()| None)
            }
            IcmpRepr::Other { .. } => Err(DropReason::IcmpIgnored),
            error => {
                env.mib.inc(match error {
                    IcmpRepr::TimeExceeded { .. } => Mib::IcmpInTimeExcds,
                    IcmpRepr::ParameterProblem { .. } => Mib::IcmpInParmProbs,
                    _ => Mib::IcmpInDestUnreachs,
                });
                self.error_in(a, error, m).map(Some)
            }
        }
    }

    /// Answers an echo request.
    pub(crate) fn echo(
        &mut self,
        env: &mut IpEnv<'_>,
        a: &Accepted<'_>,
        ident: u16,
        seq: u16,
        data: &[u8],
    ) -> Result<(), DropReason> {
        let v4 = a.src.is_ipv4();
        // RFC 1122, 3.2.2.6: "An ICMP Echo Request destined to an IP broadcast or IP multicast address MAY be silently discarded"
        // (Linux's icmp_echo_ignore_broadcasts is on); RFC 4443, 4.2: a multicast one SHOULD be answered.
        let c = &self.config;
        let to_group = a.class != Class::Local;
        let (all, group) = if v4 {
            (c.echo_ignore_all, c.echo_ignore_broadcasts)
        } else {
            (c.echo_ignore_all6, c.echo_ignore_multicast6)
        };
        if all || (group && to_group) || a.src.is_unspecified() {
            return Err(DropReason::IcmpIgnored);
        }
        let from = (a.class == Class::Local).then_some(a.dst);
        env.mib.inc(if v4 { Mib::IcmpOutEchoReps } else { Mib::Icmp6OutEchoReplies });
        self.send_icmp(env, a.port, (from, a.src), IcmpRepr::EchoReply { ident, seq }, data, a.tos & !3);
        Ok(())
    }

    /// An error arrived: learns the path MTU, and says which flow it is about.
    pub(crate) fn error_in(
        &self,
        a: &Accepted<'_>,
        error: IcmpRepr,
        message: &[u8],
    ) -> Result<TransportError, DropReason> {
        let q = Quoted::parse(message.get(icmp::HEADER_LEN..).unwrap_or_default()).ok_or(DropReason::IcmpInvalid)?;
        // We can only have sent it if its source is ours.
        if !self.addrs.is_local(q.src) {
            return Err(DropReason::IcmpUnsolicited);
        }
        let &[sh, sl, dh, dl, ..] = q.transport else { return Err(DropReason::IcmpInvalid) };
        if !matches!(q.protocol, proto::TCP | proto::UDP) {
            return Err(DropReason::IcmpUnsolicited);
        }
        let seq = q.transport.get(4..8).map(|s| SeqNum(u32::from_be_bytes([s[0], s[1], s[2], s[3]])));
        let error = match error {
            IcmpRepr::PacketTooBig { mtu } => IcmpRepr::PacketTooBig { mtu: self.believable_mtu(mtu, &q) },
            e => e,
        };
        // Whether to believe a path MTU is the transport's decision: TCP looks at the sequence number (RFC 5927), UDP at whether the socket
        // exists and wants to hear of it. Then they call `learn_mtu`.
        let payload = if q.protocol == proto::UDP { q.transport.get(8..).unwrap_or_default() } else { &[] };
        Ok(TransportError {
            port: a.port,
            kind: message.first().copied().unwrap_or(0),
            code: message.get(1).copied().unwrap_or(0),
            payload: payload.to_vec(),
            protocol: q.protocol,
            local: SocketAddr::new(q.src, u16::from_be_bytes([sh, sl])),
            remote: SocketAddr::new(q.dst, u16::from_be_bytes([dh, dl])),
            seq: seq.filter(|_| q.protocol == proto::TCP),
            reporter: a.src,
            error,
        })
    }

    /// Takes a path MTU into the cache. False: no smaller than what was known.
    pub fn learn_mtu(&mut self, now: Instant, dst: IpAddr, mtu: u32) -> bool {
        let learnt = self.exceptions.learn_mtu(now, dst, mtu, now + self.config.mtu_expires);
        self.generation += u64::from(learnt);
        learnt
    }

    fn believable_mtu(&self, mtu: u32, q: &Quoted<'_>) -> u32 {
        match q.src {
            IpAddr::V4(_) => {
                let mtu = if mtu == 0 { crate::ip::pmtu::plateau_below(q.total_len) } else { mtu };
                mtu.max(self.config.min_pmtu)
            }
            // RFC 8201, 4: "MUST NOT reduce its estimate of the Path MTU below the IPv6 minimum link MTU".
            IpAddr::V6(_) => mtu.max(MIN_MTU_V6),
        }
    }
}

/// The packet an ICMP error quotes.
pub(crate) struct Quoted<'a> {
    pub src: IpAddr,
    pub dst: IpAddr,
    protocol: u8,
    total_len: u32,
    transport: &'a [u8],
    first_fragment: bool,
}

impl<'a> Quoted<'a> {
    pub(crate) fn parse(b: &'a [u8]) -> Option<Self> {
        match b.first()? >> 4 {
            4 => {
                let (ip, len) = Ipv4Repr::parse_quoted(b).ok()?;
                Some(Self {
                    src: ip.src.into(),
                    dst: ip.dst.into(),
                    protocol: ip.protocol,
                    total_len: u32::from(ip.payload_len) + len as u32,
                    transport: b.get(len..)?,
                    first_fragment: ip.fragment_offset == 0,
                })
            }
            6 => {
                let ip = Ipv6Repr::parse_quoted(b).ok()?;
                let rest = b.get(ipv6::HEADER_LEN..)?;
                let e = Extensions::parse(ip.next_header, rest).ok()?;
                Some(Self {
                    src: ip.src.into(),
                    dst: ip.dst.into(),
                    protocol: e.upper,
                    total_len: u32::from(ip.payload_len) + ipv6::HEADER_LEN as u32,
                    transport: rest.get(e.len..)?,
                    first_fragment: e.fragment.is_none_or(|f| f.offset == 0),
                })
            }
            _ => None,
        }
    }
}

/// Source and destination of a packet that an ICMP error may be about (RFC 1122, 3.2.2; RFC 4443, 2.4 (e)).
fn may_answer(packet: &[u8], error: IcmpRepr) -> Option<(IpAddr, IpAddr)> {
    let q = match (Quoted::parse(packet), error) {
        (Some(q), _) => q,
        // The very extension header that is complained about does not parse.
        (None, IcmpRepr::ParameterProblem { .. }) => {
            let ip = Ipv6Repr::parse_quoted(packet).ok()?;
            return (ip.next_header != proto::ICMPV6).then(|| (ip.src.into(), ip.dst.into()));
        }
        (None, _) => return None,
    };
    let about_error = match q.protocol {
        proto::ICMP => IcmpRepr::parse_v4(q.transport).map_or(true, |m| m.is_error()),
        // RFC 4443, 2.1: error messages have types below 128.
        proto::ICMPV6 => q.transport.first().is_none_or(|t| *t < 128),
        _ => false,
    };
    // RFC 1122, 3.2.2: none about later fragments; but RFC 8200, 4.5 wants those of IPv6 complained about that are malformed. What an ICMPv6
    // message is cannot be told from its later fragments.
    let complaint =
        q.src.is_ipv6() && q.protocol != proto::ICMPV6 && matches!(error, IcmpRepr::ParameterProblem { .. });
    ((q.first_fragment || complaint) && !about_error).then_some((q.src, q.dst))
}
