//! Options and their combinations: what fits is written and read again; and handshakes in which both ends want any of them (MSS, window scale,
//! SACK, timestamps, Fast Open, Accurate ECN, room for a TCP-MD5 or TCP-AO signature) over a path that takes out, adds and changes what it likes.
#![no_main]

#[allow(dead_code)]
mod reader;

use libfuzzer_sys::fuzz_target;
use reader::Reader;
use stackd_base::{Duration, Instant, MibCounters, SeqNum, SplitMix64};
use stackd_tcp::{
    ChallengeLimit, Config, Connection, EcnMode, Env, FastOpen, FlowParams, MemAccount, SegmentOut, State,
};
use stackd_wire::{AccEcnOption, AoOption, FastOpenCookie, SackBlock, TcpOptions, TcpRepr, Timestamps};

fn cookie(r: &mut Reader<'_>) -> Option<FastOpenCookie> {
    let n = usize::from(r.u8() % 20);
    let experimental = r.flip();
    FastOpenCookie::new(r.bytes(n)).map(|c| c.in_experimental_form(experimental))
}

fn options(r: &mut Reader<'_>) -> TcpOptions {
    let mut o = TcpOptions::NONE;
    let which = r.u16();
    o.mss = (which & 1 != 0).then(|| r.u16().max(1));
    o.window_scale = (which & 2 != 0).then(|| r.u8() % 15);
    o.sack_permitted = which & 4 != 0;
    o.timestamps = (which & 8 != 0).then(|| Timestamps { tsval: r.u32(), tsecr: r.u32() });
    for _ in 0..(which >> 4) % 5 {
        o.sack.push(SackBlock { left: SeqNum(r.u32()), right: SeqNum(r.u32()) });
    }
    if which & 0x80 != 0 {
        o.fast_open = cookie(r);
    }
    o.accecn = (which & 0x100 != 0).then(|| AccEcnOption {
        order1: r.flip(),
        count: r.u8() % 4,
        counters: [r.u32() & 0xff_ffff, r.u32() & 0xff_ffff, r.u32() & 0xff_ffff],
    });
    o.md5 = (which & 0x200 != 0).then(|| core::array::from_fn(|_| r.u8()));
    if which & 0x400 != 0 {
        let n = usize::from(r.u8() % 18);
        o.ao = AoOption::new(r.u8(), r.u8(), r.bytes(n));
    }
    o
}

/// Written and read: the same as far as there is room, and never longer than a header.
fn emitted(r: &mut Reader<'_>) {
    let options = options(r);
    let flags = if options.mss.is_some()
        || options.window_scale.is_some()
        || options.sack_permitted
        || options.fast_open.is_some()
    {
        stackd_wire::TcpFlags::SYN
    } else {
        stackd_wire::TcpFlags::NONE
    };
    let repr = TcpRepr { options, flags, src_port: 1, dst_port: 2, ..TcpRepr::default() };
    let len = options.len();
    assert!(len <= 40 && len % 4 == 0, "{len} bytes of {options:?}");
    let mut bytes = vec![0; repr.header_len()];
    assert_eq!(repr.emit(&mut bytes), 20 + len);
    let (again, header) = TcpRepr::parse(&bytes).expect("what was written can be read");
    assert_eq!(header, 20 + len);
    let o = again.options;
    assert_eq!((o.mss, o.window_scale, o.sack_permitted), (options.mss, options.window_scale, options.sack_permitted));
    assert_eq!((o.timestamps, o.md5), (options.timestamps, options.md5));
    if !flags.syn() {
        assert_eq!(o.sack.len(), options.sack_blocks_that_fit());
        assert!(options.sack.as_slice().starts_with(o.sack.as_slice()));
    }
    assert!(o.ao.is_none() || o.ao == options.ao);
    assert!(o.fast_open.is_none() || o.fast_open == options.fast_open);
    for kind in [19, 29] {
        let at = stackd_wire::find_option(&bytes[20..], kind);
        assert_eq!(at.is_some(), if kind == 19 { o.md5.is_some() } else { o.ao.is_some() });
        assert!(at.is_none_or(|at| at.end <= len));
    }
}

struct End {
    conn: Connection,
    cfg: Config,
    mib: MibCounters,
    rng: SplitMix64,
    mem: MemAccount,
    challenge: ChallengeLimit,
    written: u64,
    /// The other end has another connection in mind: nothing of what it says can be held against it.
    cheated: bool,
}

impl End {
    fn with<R>(&mut self, f: impl FnOnce(&mut Connection, &mut Env<'_>) -> R) -> R {
        let Self { conn, cfg, mib, rng, mem, challenge, .. } = self;
        f(conn, &mut Env { mib, rng, cfg, mem, challenge })
    }

    fn new(conn: Connection, cfg: Config, seed: u64) -> Self {
        Self {
            conn,
            cfg,
            mib: MibCounters::default(),
            rng: SplitMix64::new(seed),
            mem: MemAccount::default(),
            challenge: ChallengeLimit::default(),
            written: 0,
            cheated: false,
        }
    }

    fn poll(&mut self, now: Instant) -> Vec<SegmentOut> {
        let mut out = Vec::new();
        while out.len() < 64 {
            let Some(seg) = self.with(|c, env| c.poll_transmit(now, env)) else { break };
            let signature = usize::from(self.conn.flow().signature);
            let len = seg.repr.options.len() + signature;
            assert!(len <= 40, "{len} bytes of options, {signature} of them a signature: {:?}", seg.repr);
            let bytes = seg.payload.as_ref().map_or(0, |p| p.end - p.start);
            if bytes > 0 {
                self.conn.handle_tx_complete(bytes as u32);
            }
            out.push(seg);
        }
        self.check();
        out
    }

    fn check(&mut self) {
        while self.conn.poll_event().is_some() {}
        self.conn.check_invariants().unwrap_or_else(|e| panic!("{e}: {:?}", self.conn));
    }
}

fn config(r: &mut Reader<'_>) -> Config {
    let bits = r.u8();
    Config {
        timestamps: bits & 1 == 0,
        sack: bits & 2 == 0,
        window_scaling: bits & 4 == 0,
        dsack: bits & 8 == 0,
        maxseg: (bits & 16 != 0).then(|| r.u16().max(88)),
        ecn_option: bits >> 5 & 3,
        ecn: r.pick(&[
            EcnMode::Accurate,
            EcnMode::On,
            EcnMode::Passive,
            EcnMode::AccuratePassive,
            EcnMode::AccurateAccept,
            EcnMode::Off,
        ]),
        ..Config::default()
    }
}

/// What a path makes of a segment's options; false: nothing.
fn on_the_way(o: &mut TcpOptions, r: &mut Reader<'_>) -> bool {
    match r.u8() % 12 {
        0 => o.timestamps = None,
        1 => o.window_scale = None,
        2 => o.sack_permitted = false,
        3 => o.mss = None,
        4 => o.mss = Some(r.u16().max(1)),
        5 => o.accecn = None,
        6 => o.fast_open = None,
        7 => o.fast_open = cookie(r),
        8 => *o = options(r),
        9 => o.window_scale = Some(r.u8() % 15),
        _ => return false,
    }
    true
}

fuzz_target!(|data: &[u8]| {
    let mut r = Reader(data);
    if r.u8() % 4 == 0 {
        return emitted(&mut r);
    }
    let mut now = Instant::from_nanos(1_000_000_000);
    let signature = r.pick(&[0, 0, 20, 16, 20]);
    let flow = |a, b| FlowParams { signature, ..FlowParams::new(a, b) };
    let (ca, cb) = (config(&mut r), config(&mut r));
    let mut a = match r.u8() % 4 {
        0 => {
            let how = FastOpen::Ask { experimental: r.flip() };
            Connection::connect_fast(&ca, flow(1, 2), SeqNum(u32::MAX - 5), now, how)
        }
        1 => {
            let how = FastOpen::Data { cookie: cookie(&mut r), mss: r.flip().then(|| r.u16()) };
            Connection::connect_fast(&ca, flow(1, 2), SeqNum(u32::MAX - 5), now, how)
        }
        _ => Connection::connect(&ca, flow(1, 2), SeqNum(u32::MAX - 5), now),
    };
    let _ = a.poll_event();
    let mut a = End::new(a, ca, 1);
    let head = u64::from(r.u16() % 5000).min(a.conn.tx_limit());
    if head > 0 {
        a.written = head;
        a.with(|c, env| c.handle_written(now, head, env));
    }
    let Some(syn) = a.poll(now).into_iter().next() else { return };
    let mut repr = syn.repr;
    let mut cheated = on_the_way(&mut repr.options, &mut r);
    let len = syn.payload.as_ref().map_or(0, |p| (p.end - p.start) as u32);
    let fast = r.flip();
    let mut b = if fast {
        let (mut mib, mut rng) = (MibCounters::default(), SplitMix64::new(2));
        let (mut mem, mut challenge) = (MemAccount::default(), ChallengeLimit::default());
        let mut env = Env { mib: &mut mib, rng: &mut rng, cfg: &cb, mem: &mut mem, challenge: &mut challenge };
        Connection::accept_fast(flow(2, 1), SeqNum(7), &repr, len, now, &mut env).0
    } else {
        Connection::accept(&cb, flow(2, 1), SeqNum(7), &repr, now)
    };
    if r.flip()
        && let Some(c) = cookie(&mut r)
    {
        b.grant_cookie(c);
    }
    let mut ends = [a, End::new(b, cb, 2)];
    for round in 0..24 {
        for who in [1, 0] {
            let sent = ends[who].poll(now);
            for seg in sent {
                let mut repr = seg.repr;
                if !r.is_empty() {
                    cheated |= on_the_way(&mut repr.options, &mut r);
                }
                let len = seg.payload.as_ref().map_or(0, |p| (p.end - p.start) as u32);
                // A device cuts a GSO frame; options stand on each piece.
                let to = &mut ends[1 - who];
                to.cheated = cheated;
                to.with(|c, env| c.handle_segment(now, &repr, len, seg.ecn, env));
                to.check();
            }
            let end = &mut ends[who];
            let head = (end.written + u64::from(r.u16() % 3000)).min(end.conn.tx_limit());
            if head > end.written && round < 20 {
                end.written = head;
                end.with(|c, env| c.handle_written(now, head, env));
            }
            let tail = end.conn.rx_head();
            end.with(|c, env| c.handle_consumed(now, tail, env));
        }
        now += Duration::from_millis(u64::from(r.u8()) * 4 + 1);
        for end in &mut ends {
            for _ in 0..8 {
                if end.conn.next_deadline().is_some_and(|d| d <= now) {
                    end.with(|c, env| c.handle_timeout(now, env));
                }
            }
            end.check();
        }
    }
    // An untouched path: what is negotiated is the same at both ends, and what was written has begun to arrive.
    if !cheated && ends.iter().all(|e| e.conn.state() == State::Established) {
        let [a, b] = &ends;
        let (ia, ib) = (a.conn.info(now, &a.cfg), b.conn.info(now, &b.cfg));
        assert_eq!(
            ia.options & 7,
            ib.options & 7,
            "timestamps, SACK, window scale: {:x} and {:x}",
            ia.options,
            ib.options
        );
        assert!(a.conn.rx_head() <= b.written && b.conn.rx_head() <= a.written);
    }
});
