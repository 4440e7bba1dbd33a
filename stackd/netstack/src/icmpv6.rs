//! ICMPv6 input (RFC 4443): echo, errors, and the door to neighbour discovery.

use crate::ip::input::Accepted;
use crate::ip::{IpEnv, IpLayer, TransportError};
use stackd_base::{DropReason, Mib};
use stackd_wire::{IcmpRepr, icmp};
use std::net::IpAddr;

impl IpLayer {
    /// Takes an ICMPv6 message in.
    pub(crate) fn handle_icmpv6(
        &mut self,
        env: &mut IpEnv<'_>,
        a: &Accepted<'_>,
    ) -> Result<Option<TransportError>, DropReason> {
        env.mib.inc(Mib::Icmp6InMsgs);
        let m = a.transport();
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (a.src, a.dst) else { return Err(DropReason::IcmpInvalid) };
        if m.len() != a.transport_len || !icmp::verify_v6(m, src, dst) {
            env.mib.inc(Mib::Icmp6InErrors);
            env.mib.inc(Mib::Icmp6InCsumErrors);
            return Err(DropReason::IcmpInvalid);
        }
        let message = IcmpRepr::parse_v6(m).map_err(|_| {
            env.mib.inc(Mib::Icmp6InErrors);
            DropReason::IcmpInvalid
        })?;
        match message {
            IcmpRepr::EchoRequest { ident, seq } => {
                env.mib.inc(Mib::Icmp6InEchos);
                self.echo(env, a, ident, seq, &m[icmp::HEADER_LEN..])?;
                Ok(None)
            }
            IcmpRepr::EchoReply { .. } => {
                env.mib.inc(Mib::Icmp6InEchoReplies);
                Err(DropReason::IcmpIgnored)
            }
            IcmpRepr::Other { .. } if let Some(done) = self.mld_in(env, a.port, src, a.ttl, m) => done.map(|()| None),
            IcmpRepr::Other { .. } => self.handle_ndp(env, a, m).map(|()| None),
            error => {
                env.mib.inc(match error {
                    IcmpRepr::PacketTooBig { .. } => Mib::Icmp6InPktTooBigs,
                    IcmpRepr::TimeExceeded { .. } => Mib::Icmp6InTimeExcds,
                    IcmpRepr::ParameterProblem { .. } => Mib::Icmp6InParmProblems,
                    _ => Mib::Icmp6InDestUnreachs,
                });
                self.error_in(a, error, m).map(Some)
            }
        }
    }
}
