//! Packets from the peer.

use super::Runner;
use super::flow::{Flow, Stage};
use crate::ast::{Body, Icmp, IpInfo, Packet, Ports, Quoted, Tcp, flag};
use crate::error::Result;
use crate::wire::{Ends, build_icmp, build_tcp, build_udp, code_of, type_of, wrap};
use std::net::SocketAddr;

/// Bytes of all headers and of the payload of a segment, for a device that merges.
type Lengths = (usize, usize);

/// First port of peers.
const PEER_PORT: u16 = 40_000;

/// What the peer's stream holds at an offset: no two bytes near each other are equal, so that a misplaced one is seen.
pub(super) fn rx_byte(offset: usize) -> u8 {
    (offset.wrapping_mul(7) % 251) as u8
}

impl Runner<'_> {
    pub(super) fn inject(&mut self, line: u32, packet: &Packet) -> Result<()> {
        let (bytes, merged) = match &packet.body {
            Body::Tcp(t) => self.inject_tcp(line, packet, t)?,
            Body::Udp { ports, len } => {
                let i = self.flow_for(line, false, *ports, true)?;
                let ends = with_ports(self.flows[i].inbound(), *ports);
                self.one_family(line, ends)?;
                let payload: Vec<u8> = (0..usize::from(*len)).map(rx_byte).collect();
                (build_udp(ends, &packet.ip, &payload), None)
            }
            Body::Icmp(icmp) => (self.inject_icmp(line, &packet.ip, icmp)?, None),
        };
        self.host.inject(&wrap(bytes, &packet.outer), merged);
        self.take_events();
        Ok(())
    }

    fn inject_tcp(&mut self, line: u32, packet: &Packet, t: &Tcp) -> Result<(Vec<u8>, Option<Lengths>)> {
        let i = self.flow_for_segment(line, t)?;
        let scaled = self.cfg.ts_ecr_scaled;
        let live = match self.flows[i].live(t, scaled) {
            Ok(live) => live,
            Err(text) => return Err(self.mismatch(line, text)),
        };
        let syn = t.flags & flag::SYN != 0;
        let from = self.flows[i].rx_offset(live.seq, syn);
        let payload: Vec<u8> = (0..usize::from(t.len)).map(|n| rx_byte(from.wrapping_add(n))).collect();
        let ends = with_ports(self.flows[i].inbound(), t.ports);
        self.one_family(line, ends)?;
        let bytes = build_tcp(ends, &packet.ip, &live, &payload);
        if self.cfg.verbose {
            self.say(line, &format!("< {t}"));
        }
        let header_len = bytes.len() - payload.len();
        Ok((bytes, Some((header_len, payload.len()))))
    }

    fn inject_icmp(&mut self, line: u32, ip: &IpInfo, icmp: &Icmp) -> Result<Vec<u8>> {
        let v6 = self.cfg.wire_v6();
        let Some(kind) = type_of(v6, &icmp.kind) else {
            return Err(self.unsupported(line, format!("ICMP type \"{}\"", icmp.kind)));
        };
        let Some(code) = code_of(v6, kind, icmp.code.as_deref()) else {
            let code = icmp.code.as_deref().unwrap_or_default();
            return Err(self.unsupported(line, format!("ICMP code \"{code}\" of type \"{}\"", icmp.kind)));
        };
        let too_big = if v6 { (kind, code) == (2, 0) } else { (kind, code) == (3, 4) };
        if icmp.mtu.is_some() && !too_big {
            let right = if v6 { "packet_too_big" } else { "unreachable frag_needed" };
            return Err(crate::Failure::syntax(self.file, line, format!("mtu belongs to {right} only")));
        }
        let rest = icmp.mtu.unwrap_or(0) | u32::from(icmp.id.unwrap_or(0)) << 16;
        let (local, remote) = (self.cfg.local(), self.cfg.remote());
        let flow = self.current.map(|i| &self.flows[i]);
        // Our packet, as the peer's router saw it.
        let ends = match flow {
            Some(f) => Ends { src: f.local, dst: f.remote },
            None => Ends {
                src: SocketAddr::new(local, self.cfg.bind_port),
                dst: SocketAddr::new(remote, self.cfg.connect_port),
            },
        };
        self.one_family(line, ends)?;
        let quoted = icmp.quoted.map(|q| match (q, flow) {
            (Quoted::Tcp { seq, len }, Some(f)) => Quoted::Tcp { seq: f.quoted_seq(seq), len },
            (q, _) => q,
        });
        Ok(build_icmp(remote, local, ip, (kind, code), rest, quoted, ends))
    }

    /// A script that names addresses of its own may have mixed them.
    fn one_family(&self, line: u32, ends: Ends) -> Result<()> {
        if ends.src.is_ipv4() == ends.dst.is_ipv4() {
            return Ok(());
        }
        Err(self.mismatch(line, format!("a packet from {} to {}: the families differ", ends.src, ends.dst)))
    }

    /// The connection a segment of the peer belongs to; a first one makes it.
    fn flow_for_segment(&mut self, line: u32, t: &Tcp) -> Result<usize> {
        let opens = t.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN;
        match t.ports {
            Some((from, to)) => {
                let known = self.flows.iter().rposition(|f| f.tcp && f.remote.port() == from && f.local.port() == to);
                match known {
                    Some(i) => return Ok(i),
                    None if opens || self.current.is_none() => {
                        let local = SocketAddr::new(self.cfg.local(), to);
                        let remote = SocketAddr::new(self.cfg.remote(), from);
                        self.flows.push(Flow::new(Stage::Passive, local, remote, true));
                        // The first one is what packets without ports mean.
                        let fresh = self.flows.len() - 1;
                        if self.current.is_none_or(|c| self.flows[c].stage == Stage::Listening) {
                            self.current = Some(fresh);
                        }
                        return Ok(fresh);
                    }
                    None => {}
                }
            }
            None => {
                let waiting = self.current.is_none_or(|i| self.flows[i].tcp && self.flows[i].stage == Stage::Listening);
                if waiting {
                    let port = self.current.map_or(self.cfg.bind_port, |i| self.flows[i].local.port());
                    self.peers += 1;
                    let local = SocketAddr::new(self.cfg.local(), port);
                    let remote = SocketAddr::new(self.cfg.remote(), PEER_PORT + self.peers);
                    self.flows.push(Flow::new(Stage::Passive, local, remote, true));
                    self.current = Some(self.flows.len() - 1);
                }
            }
        }
        match self.current.filter(|&i| self.flows[i].tcp) {
            Some(i) => Ok(i),
            None => Err(self.mismatch(line, "no TCP connection is there that this packet could belong to")),
        }
    }

    /// The connection a packet belongs to by its ports (in its own direction), or the current one.
    pub(super) fn flow_for(&mut self, line: u32, tcp: bool, ports: Option<Ports>, inbound: bool) -> Result<usize> {
        if let Some((src, dst)) = ports {
            let (remote, local) = if inbound { (src, dst) } else { (dst, src) };
            let known = |f: &Flow| f.tcp == tcp && f.remote.port() == remote && f.local.port() == local;
            if let Some(i) = self.flows.iter().rposition(known) {
                return Ok(i);
            }
        }
        match self.current.filter(|&i| self.flows[i].tcp == tcp) {
            Some(i) => Ok(i),
            None => {
                let kind = if tcp { "TCP" } else { "UDP" };
                Err(self.mismatch(line, format!("no {kind} socket is there that this packet could belong to")))
            }
        }
    }
}

/// `ends` with the ports that the script names.
pub(super) fn with_ports(mut ends: Ends, ports: Option<Ports>) -> Ends {
    if let Some((src, dst)) = ports {
        ends.src.set_port(src);
        ends.dst.set_port(dst);
    }
    ends
}
