//! One connection of a script: whose numbers are whose.
//!
//! Segments with SYN carry absolute numbers, all others numbers relative to the initial ones, as in tcpdump's output. The script chooses
//! the peer's initial number; ours is the stack's choice and is mapped to what the script calls it.

use crate::ast::{Tcp, TcpOption, flag};
use crate::wire::Ends;
use stackd_base::SockId;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How far a connection of the script is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// `socket()` was called.
    New,
    /// `listen()` was.
    Listening,
    /// The peer's first packet arrived.
    Passive,
    /// The SYN-ACK was seen.
    SynAckSent,
    /// `connect()` was called.
    Connecting,
    /// Its SYN was seen.
    SynSent,
    /// The peer answered.
    Open,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Flow {
    /// How far it is.
    pub stage: Stage,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// It is TCP.
    pub tcp: bool,
    /// The socket, once the script has it.
    pub sock: Option<SockId>,
    /// What the script calls our initial number.
    script_isn: u32,
    /// What it is.
    local_isn: u32,
    remote_isn: u32,
    /// A SYN came that may begin another incarnation.
    syn_again: Option<u32>,
    /// The script's timestamps of ours, and what they were.
    timestamps: BTreeMap<u32, u32>,
    first_timestamp: Option<(u32, u32)>,
    /// The script's flow label, and what it was.
    pub flow_label: Option<(u32, u32)>,
}

impl Flow {
    /// A connection that nothing is known of yet.
    pub fn new(stage: Stage, local: SocketAddr, remote: SocketAddr, tcp: bool) -> Self {
        Self {
            stage,
            local,
            remote,
            tcp,
            sock: None,
            script_isn: 0,
            local_isn: 0,
            remote_isn: 0,
            syn_again: None,
            timestamps: BTreeMap::new(),
            first_timestamp: None,
            flow_label: None,
        }
    }

    /// Both ends of packets to us.
    pub fn inbound(&self) -> Ends {
        Ends { src: self.remote, dst: self.local }
    }

    /// The peer's next segment, in live numbers.
    ///
    /// # Errors
    /// A timestamp that is echoed and was never sent.
    pub fn live(&mut self, tcp: &Tcp, ecr_scaled: bool) -> Result<Tcp, String> {
        let syn = tcp.flags & flag::SYN != 0;
        let acks = tcp.flags & flag::ACK != 0;
        match self.stage {
            Stage::Passive if syn => self.remote_isn = tcp.seq,
            Stage::SynSent if syn => self.remote_isn = tcp.seq,
            Stage::SynAckSent | Stage::Open if syn && !acks => self.syn_again = Some(tcp.seq),
            _ => {}
        }
        if self.stage == Stage::SynSent && syn && acks || self.stage == Stage::SynAckSent && acks {
            self.stage = Stage::Open;
        }
        let mut live = tcp.clone();
        live.seq = if syn { tcp.seq } else { tcp.seq.wrapping_add(self.remote_isn) };
        let local = self.local_offset(syn);
        if acks {
            live.ack = tcp.ack.wrapping_add(local);
        }
        for option in live.options.iter_mut().flatten() {
            match option {
                TcpOption::Sack(blocks) => {
                    for (l, r) in blocks {
                        (*l, *r) = (l.wrapping_add(local), r.wrapping_add(local));
                    }
                }
                TcpOption::Timestamp { ecr, .. } if acks => {
                    *ecr = match (self.timestamps.get(ecr), self.first_timestamp) {
                        (Some(live), _) => *live,
                        (None, Some((script, live))) if ecr_scaled => ecr.wrapping_sub(script).wrapping_add(live),
                        _ => {
                            return Err(format!("TS ecr {ecr} echoes no TS val that was sent before"));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(live)
    }

    fn local_offset(&self, syn: bool) -> u32 {
        if syn { self.local_isn.wrapping_sub(self.script_isn) } else { self.local_isn }
    }

    /// A segment of ours is what the script expects as `script`: learns our initial number from a SYN.
    pub fn learn(&mut self, live: &Tcp, script: &Tcp) {
        let syn = live.flags & script.flags & flag::SYN != 0;
        let acks = live.flags & flag::ACK != 0;
        match self.stage {
            Stage::Passive if syn && acks => {
                (self.script_isn, self.local_isn) = (script.seq, live.seq);
                self.stage = Stage::SynAckSent;
            }
            Stage::Connecting if syn && !acks => {
                (self.script_isn, self.local_isn) = (script.seq, live.seq);
                self.stage = Stage::SynSent;
            }
            _ => {}
        }
        if let Some(seq) = self.syn_again
            && syn
            && acks
            && live.ack == seq.wrapping_add(1)
            && seq != self.remote_isn
        {
            // It did begin another: from here on numbers are relative to its own.
            self.remote_isn = seq;
            (self.script_isn, self.local_isn) = (script.seq, live.seq);
            self.syn_again = None;
        }
    }

    /// A segment of ours in the script's numbers.
    pub fn script(&self, live: &Tcp) -> Tcp {
        let syn = live.flags & flag::SYN != 0;
        let local = self.local_offset(syn);
        let remote = if syn { 0 } else { self.remote_isn };
        let mut script = live.clone();
        script.ports = None;
        script.seq = live.seq.wrapping_sub(local);
        if live.flags & flag::ACK != 0 {
            script.ack = live.ack.wrapping_sub(remote);
        }
        for option in script.options.iter_mut().flatten() {
            if let TcpOption::Sack(blocks) = option {
                for (l, r) in blocks {
                    (*l, *r) = (l.wrapping_sub(remote), r.wrapping_sub(remote));
                }
            }
        }
        script
    }

    /// What our timestamp is in the script's clock; remembers that the script calls it `script`.
    pub fn learn_timestamp(&mut self, script: u32, live: u32) -> u32 {
        self.timestamps.insert(script, live);
        let (first_script, first_live) = *self.first_timestamp.get_or_insert((script, live));
        live.wrapping_sub(first_live).wrapping_add(first_script)
    }

    /// Offset in our stream of a live sequence number.
    pub fn tx_offset(&self, seq: u32, syn: bool) -> usize {
        seq.wrapping_sub(self.local_isn).wrapping_sub(u32::from(!syn)) as usize
    }

    /// Offset in the peer's stream of a live sequence number.
    pub fn rx_offset(&self, seq: u32, syn: bool) -> usize {
        seq.wrapping_sub(self.remote_isn).wrapping_sub(u32::from(!syn)) as usize
    }

    /// What is quoted by an ICMP message, in live numbers.
    pub fn quoted_seq(&self, seq: u32) -> u32 {
        seq.wrapping_add(self.local_isn)
    }
}
