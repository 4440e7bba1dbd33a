//! A segment DSL in virtual time: `t.recv(seg().seq(1).ack(1).win(1000)).expect(seg().ack(1001))`.

use super::link::End;
use crate::{Config, Connection, FlowParams, Ingress, IpEcn, SegmentOut};
use stackd_base::{Duration, Instant, SeqNum};
use stackd_wire::{SackBlock, TcpFlags, TcpOptions, TcpRepr, Timestamps};

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
    pub urgent: u16,
    sack: Vec<(u32, u32)>,
}

pub fn seg() -> Seg {
    Seg {
        flags: TcpFlags::NONE,
        seq: None,
        ack: None,
        win: 60_000,
        len: 0,
        options: TcpOptions::NONE,
        urgent: 0,
        sack: vec![],
    }
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
    pub fn flag(mut self, f: TcpFlags) -> Self {
        self.flags |= f;
        self
    }
    pub fn win(mut self, n: u16) -> Self {
        self.win = n;
        self
    }
    /// Timestamps: the peer's clock, and what it echoes.
    pub fn ts(mut self, tsval: u32, tsecr: u32) -> Self {
        self.options.timestamps = ts(tsval, tsecr);
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

/// A timestamps option.
pub fn ts(tsval: u32, tsecr: u32) -> Option<Timestamps> {
    Some(Timestamps { tsval, tsecr })
}

pub struct Test {
    pub now: Instant,
    /// What became of the segment received last.
    pub ingress: Ingress,
    /// The peer's timestamp, on every segment that has none of its own.
    ts: Option<u32>,
    /// IP's ECN field of what the peer sends.
    pub ecn: IpEcn,
    /// What leaves stays in the queue below until [`Test::complete`].
    pub slow_device: bool,
    pub end: End,
}

impl Test {
    pub fn connect(cfg: Config) -> Self {
        Self::connect_over(cfg, FlowParams { port_paces: true, ..FlowParams::new(1, 2) })
    }

    /// Around a connection made by hand.
    pub fn over(end: End, now: Instant) -> Self {
        Self { now, end, ingress: Ingress::default(), ts: None, ecn: IpEcn::NotEct, slow_device: false }
    }

    /// Over a path of one's own choice.
    pub fn connect_over(cfg: Config, flow: FlowParams) -> Self {
        let now = Instant::from_nanos(5_000_000_000);
        let conn = Connection::connect(&cfg, flow, SeqNum(ISS), now);
        Self::over(End::new(conn, cfg, 9), now)
    }

    /// Established actively; peer offers MSS 1000 and SACK.
    pub fn established(cfg: Config) -> Self {
        Self::established_with(cfg, TcpOptions { mss: Some(1000), sack_permitted: true, ..TcpOptions::NONE })
    }

    /// Established actively over a path that does not pace; the SYN-ACK carries `o`. RTT 10 ms.
    pub fn established_with(cfg: Config, o: TcpOptions) -> Self {
        let mut t = Self::connect_over(cfg, FlowParams { port_paces: false, ..FlowParams::new(1, 2) });
        t.expect(seg().seq(0).syn());
        t.after(Duration::from_millis(10));
        t.recv(seg().seq(0).ack(1).syn().options(o));
        t.expect(seg().seq(1).ack(1));
        t
    }

    /// As [`Self::established`], the peer offering timestamps; its clock stands at `tsval`.
    pub fn established_ts(cfg: Config, tsval: u32) -> Self {
        let o = TcpOptions { mss: Some(1012), sack_permitted: true, timestamps: ts(tsval, 0), ..TcpOptions::NONE };
        let mut t = Self::established_with(cfg, o);
        t.ts = Some(tsval);
        t
    }

    /// Our timestamp clock.
    pub fn clock(&self) -> u32 {
        self.now.as_millis() as u32
    }

    /// Everything that may leave now.
    pub fn drain(&mut self) -> Vec<SegmentOut> {
        std::iter::from_fn(|| self.next()).collect()
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
        if options.timestamps.is_none() {
            options.timestamps = self.ts.and_then(|v| ts(v, self.clock()));
        }
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
            urgent: s.urgent,
            options,
        };
        let now = self.now;
        let ecn = self.ecn;
        self.ingress = self.end.with(|c, env| c.handle_segment(now, &repr, s.len, ecn, env));
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
            if !self.slow_device {
                self.end.conn.handle_tx_complete(len);
            }
        }
        out
    }

    /// The device took a segment of `len` bytes.
    pub fn complete(&mut self, len: u32) -> &mut Self {
        self.end.conn.handle_tx_complete(len);
        self
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
