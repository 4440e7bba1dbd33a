//! What a shard writes down of connections, on its way to the control plane.
//!
//! Each connection has a fixed number of blocks. The shard fills one, sends it, and takes an empty one back that the control plane has dealt with; when there is none,
//! the recording ends. So it never waits, whatever the reader does.

use stackd_netstack::{NewFlow, Recorder};
use stackd_tcp::record::{BlockKind, FlowHead, TapeOptions, TapeSink};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::mpsc::UnboundedSender;

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 64 << 10;

/// What a shard sends.
#[derive(Debug)]
pub enum Piece {
    /// A connection's recording begins.
    Began {
        /// Its number in the file.
        flow: u32,
        /// Which.
        head: FlowHead,
        /// From its first segment.
        from_birth: bool,
        /// Where blocks go when they were dealt with.
        empties: Sender<Vec<u8>>,
    },
    /// A block of it.
    Block {
        /// Number in the file.
        flow: u32,
        /// What it holds.
        kind: BlockKind,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// Which connections that begin are wanted.
#[derive(Clone, Debug, Default)]
pub enum Wanted {
    /// None.
    #[default]
    None,
    /// Those that pass.
    New(Test),
}

/// An expression over a connection's ends.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Test {
    All,
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Local(End),
    Remote(End),
    Mark { value: u32, mask: u32 },
    Device(String),
}

/// A prefix and a range of ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// `None`: any.
    pub prefix: Option<(IpAddr, u8)>,
    /// Lowest and highest.
    pub ports: (u16, u16),
}

impl Test {
    fn passes(&self, flow: &NewFlow<'_>) -> bool {
        match self {
            Self::All => true,
            Self::And(a, b) => a.passes(flow) && b.passes(flow),
            Self::Or(a, b) => a.passes(flow) || b.passes(flow),
            Self::Not(a) => !a.passes(flow),
            Self::Local(end) => end.holds(flow.local),
            Self::Remote(end) => end.holds(flow.remote),
            Self::Mark { value, mask } => flow.mark & mask == *value,
            Self::Device(name) => flow.device == Some(name),
        }
    }
}

impl End {
    fn holds(&self, addr: std::net::SocketAddr) -> bool {
        let (first, last) = self.ports;
        (first..=last).contains(&addr.port()) && self.prefix.is_none_or(|(prefix, len)| within(addr.ip(), prefix, len))
    }
}

/// Addresses of connections are canonical: never v4-mapped.
fn within(addr: IpAddr, prefix: IpAddr, len: u8) -> bool {
    match (addr, prefix) {
        (IpAddr::V4(a), IpAddr::V4(p)) => (a.to_bits() ^ p.to_bits()).leading_zeros() >= u32::from(len.min(32)),
        (IpAddr::V6(a), IpAddr::V6(p)) => (a.to_bits() ^ p.to_bits()).leading_zeros() >= u32::from(len.min(128)),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// One recording, as every shard gets it.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Connections that begin.
    pub wanted: Wanted,
    /// How many more of those to take, shards together.
    pub left: Arc<AtomicU32>,
    /// Number of the connection that began last.
    pub flows: Arc<AtomicU32>,
    /// How closely to look.
    pub options: TapeOptions,
    /// Blocks of each connection.
    pub blocks: usize,
    /// To the control plane.
    pub pieces: UnboundedSender<Piece>,
}

impl Recorder for Recording {
    fn wants(&mut self, flow: &NewFlow<'_>) -> bool {
        matches!(&self.wanted, Wanted::New(test) if test.passes(flow)) && self.left.load(Ordering::Relaxed) > 0
    }

    fn sink(&mut self, head: FlowHead, from_birth: bool) -> Option<Box<dyn TapeSink>> {
        if from_birth {
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).ok()?;
        }
        let flow = self.flows.fetch_add(1, Ordering::Relaxed) + 1;
        let (empties, returned) = channel();
        self.pieces.send(Piece::Began { flow, head, from_birth, empties }).ok()?;
        Some(Box::new(Sink { flow, unused: self.blocks, returned, pieces: self.pieces.clone() }))
    }

    fn options(&self) -> TapeOptions {
        self.options
    }
}

#[derive(Debug)]
struct Sink {
    flow: u32,
    /// Blocks that were not made yet.
    unused: usize,
    returned: Receiver<Vec<u8>>,
    pieces: UnboundedSender<Piece>,
}

impl TapeSink for Sink {
    fn put(&mut self, kind: BlockKind, bytes: Vec<u8>) {
        // Without a reader there is nobody to miss it.
        let _ = self.pieces.send(Piece::Block { flow: self.flow, kind, bytes });
    }

    fn empty(&mut self) -> Option<Vec<u8>> {
        if let Ok(block) = self.returned.try_recv() {
            return Some(block);
        }
        self.unused = self.unused.checked_sub(1).filter(|_| !self.pieces.is_closed())?;
        Some(Vec::with_capacity(BLOCK_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(prefix: Option<(&str, u8)>, ports: (u16, u16)) -> End {
        End { prefix: prefix.map(|(ip, len)| (ip.parse().expect("an address"), len)), ports }
    }

    #[test]
    fn tests_look_at_both_ends() {
        let flow = NewFlow {
            local: "10.0.0.1:80".parse().expect("an address"),
            remote: "192.168.7.9:40000".parse().expect("an address"),
            mark: 0x12,
            device: Some("tap0"),
        };
        let http = Test::Local(end(None, (80, 80)));
        let net = Test::Remote(end(Some(("192.168.0.0", 16)), (0, 65_535)));
        let both = Test::And(Box::new(http.clone()), Box::new(net.clone()));
        assert!(both.passes(&flow) && Test::All.passes(&flow));
        assert!(!Test::Not(Box::new(both.clone())).passes(&flow));
        assert!(!Test::Local(end(None, (81, 90))).passes(&flow));
        assert!(!Test::Remote(end(Some(("192.168.8.0", 24)), (0, 65_535))).passes(&flow));
        assert!(!Test::Remote(end(Some(("::", 0)), (0, 65_535))).passes(&flow));
        assert!(
            Test::Or(Box::new(Test::Device("lo".into())), Box::new(Test::Mark { value: 2, mask: 3 })).passes(&flow)
        );
    }

    #[test]
    fn blocks_come_back_or_there_are_no_more() {
        let (pieces, mut sent) = tokio::sync::mpsc::unbounded_channel();
        let mut recording = Recording {
            wanted: Wanted::New(Test::All),
            left: Arc::new(AtomicU32::new(1)),
            flows: Arc::default(),
            options: TapeOptions::default(),
            blocks: 2,
            pieces,
        };
        let addr = "10.0.0.1:80".parse().expect("an address");
        let head = FlowHead { local: addr, remote: addr, cookie: 1 };
        let mut sink = recording.sink(head.clone(), true).expect("one is wanted");
        assert!(recording.sink(head, true).is_none(), "no second one is");
        let Ok(Piece::Began { empties, flow: 1, .. }) = sent.try_recv() else { panic!("not told") };
        let (a, b) = (sink.empty().expect("first"), sink.empty().expect("second"));
        assert!(sink.empty().is_none());
        sink.put(BlockKind::Calls, a);
        empties.send(b).expect("the sink lives");
        assert!(sink.empty().is_some() && sink.empty().is_none());
    }
}
