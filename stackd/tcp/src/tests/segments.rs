//! A segment DSL in virtual time: `t.recv(seg().seq(1).ack(1).win(1000)).expect(seg().ack(1001))`.

use super::link::End;
use crate::{Config, Connection, FlowParams, IpEcn, SegmentOut};
use stackd_base::{Duration, Instant, SeqNum};
use stackd_wire::{SackBlock, TcpFlags, TcpOptions, TcpRepr};

/// Our ISS and the peer's: sequence numbers in tests are relative to these.
pub const ISS: u32 = 10_000;
pub const PEER: u32 = u32::MAX - 1000;

#[derive(Clone, Debug)]
pub struct Seg {
    pub flags: TcpFlags,
    pub seq: Option<u32>,
    pub ack: Option<u32>,
    pub win: u16,
    pub len: u32,
    pub options: TcpOptions,
    sack: Vec<(u32, u32)>,
}

pub fn seg() -> Seg {
    Seg { flags: TcpFlags::NONE, seq: None, ack: None, win: 60_000, len: 0, options: TcpOptions::NONE, sack: vec![] }
}

impl Seg {
    pub fn seq(mut self, n: u32) -> Self {
        self.seq = Some(n);
        self
    }
    pub fn ack(mut self, n: u32) -> Self {
        self.ack = Some(n);
        self
    }
    pub fn len(mut self, n: u32) -> Self {
        self.len = n;
        self
    }
    pub fn syn(mut self) -> Self {
        self.flags |= TcpFlags::SYN;
        self
    }
    pub fn fin(mut self) -> Self {
        self.flags |= TcpFlags::FIN;
        self
    }
    pub fn rst(mut self) -> Self {
        self.flags |= TcpFlags::RST;
        self
    }
    pub fn options(mut self, o: TcpOptions) -> Self {
        self.options = o;
        self
    }
    pub fn sack(mut self, l: u32, r: u32) -> Self {
        self.sack.push((l, r));
        self
    }
}

pub struct Test {
    pub now: Instant,
    pub end: End,
}

impl Test {
    pub fn connect(cfg: Config) -> Self {
        let now = Instant::from_nanos(5_000_000_000);
        let flow = FlowParams { port_paces: true, ..FlowParams::new(1, 2) };
        let conn = Connection::connect(&cfg, flow, SeqNum(ISS), now);
        Self { now, end: End::new(conn, cfg, 9) }
    }

    /// Established actively; peer offers MSS 1000 and SACK.
    pub fn established(cfg: Config) -> Self {
        let mut t = Self::connect(cfg);
        t.expect(seg().seq(0).syn());
        t.after(Duration::from_millis(10));
        let o = TcpOptions { mss: Some(1000), sack_permitted: true, ..TcpOptions::NONE };
        t.recv(seg().seq(0).ack(1).syn().options(o));
        t.expect(seg().seq(1).ack(1));
        t
    }

    pub fn after(&mut self, d: Duration) -> &mut Self {
        self.now += d;
        let now = self.now;
        while self.end.conn.next_deadline().is_some_and(|t| t <= now) {
            let at = self.end.conn.next_deadline().unwrap_or(now);
            self.end.with(|c, env| c.handle_timeout(at.max(now), env));
            if self.end.conn.next_deadline() == Some(at) {
                break;
            }
        }
        self
    }

    pub fn recv(&mut self, s: Seg) -> &mut Self {
        let mut options = s.options;
        for (l, r) in &s.sack {
            options.sack.push(SackBlock { left: SeqNum(ISS) + *l, right: SeqNum(ISS) + *r });
        }
        let repr = TcpRepr {
            src_port: 2,
            dst_port: 1,
            seq: SeqNum(PEER) + s.seq.unwrap_or(1),
            ack: s.ack.map(|a| SeqNum(ISS) + a),
            flags: s.flags,
            window: s.win,
            urgent: 0,
            options,
        };
        let now = self.now;
        self.end.with(|c, env| c.handle_segment(now, &repr, s.len, IpEcn::NotEct, env));
        self
    }

    pub fn write(&mut self, head: u64) -> &mut Self {
        let now = self.now;
        self.end.with(|c, env| c.handle_written(now, head, env));
        self
    }

    pub fn next(&mut self) -> Option<SegmentOut> {
        let now = self.now;
        let out = self.end.with(|c, env| c.poll_transmit(now, env));
        if let Some(o) = &out {
            let len = o.payload.as_ref().map_or(0, |p| (p.end - p.start) as u32);
            self.end.conn.handle_tx_complete(len);
        }
        out
    }

    #[track_caller]
    pub fn expect(&mut self, want: Seg) -> &mut Self {
        let Some(out) = self.next() else { panic!("nothing was sent; wanted {want:?}\n{:?}", self.end.conn) };
        let r = &out.repr;
        let flags = r.flags.without(TcpFlags::PSH);
        assert_eq!(flags, want.flags, "flags of {r:?}");
        if let Some(s) = want.seq {
            assert_eq!(r.seq, SeqNum(ISS) + s, "seq of {r:?}");
        }
        if let Some(a) = want.ack {
            assert_eq!(r.ack, Some(SeqNum(PEER) + a), "ack of {r:?}");
        }
        let len = out.payload.as_ref().map_or(0, |p| (p.end - p.start) as u32);
        assert_eq!(len, want.len, "payload of {out:?}");
        if !want.sack.is_empty() {
            let got: Vec<_> = r.options.sack.iter().map(|b| (b.left - SeqNum(PEER), b.right - SeqNum(PEER))).collect();
            assert_eq!(got, want.sack, "SACK of {r:?}");
        }
        self
    }

    #[track_caller]
    pub fn quiet(&mut self) -> &mut Self {
        if let Some(o) = self.next() {
            panic!("unexpected {o:?}");
        }
        self
    }
}
