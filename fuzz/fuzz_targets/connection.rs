//! Two connections of ours over a network that the fuzzer runs: it loses, duplicates, reorders and forges segments, lets time pass,
//! calls what an application may call, and changes sysctls under live connections.
#![no_main]

#[allow(dead_code)]
mod reader;

use libfuzzer_sys::fuzz_target;
use reader::Reader;
use stackd_base::{Bandwidth, Duration, Errno, Instant, MibCounters, SeqNum, SplitMix64};
use stackd_tcp::{
    ChallengeLimit, Config, Connection, EcnMode, Env, FlowParams, IcmpError, IcmpKind, IpEcn, MemAccount, SegmentOut,
    State,
};
use stackd_wire::{AccEcnOption, SackBlock, TcpFlags, TcpOptions, TcpRepr, Timestamps};

struct End {
    conn: Connection,
    cfg: Config,
    mib: MibCounters,
    rng: SplitMix64,
    mem: MemAccount,
    challenge: ChallengeLimit,
    written: u64,
    consumed: u64,
    released: u64,
    head: u64,
    below: Vec<u32>,
    shut: bool,
}

impl End {
    fn new(conn: Connection, cfg: Config, seed: u64) -> Self {
        Self {
            conn,
            cfg,
            mib: MibCounters::default(),
            rng: SplitMix64::new(seed),
            mem: MemAccount::default(),
            challenge: ChallengeLimit::default(),
            written: 0,
            consumed: 0,
            released: 0,
            head: 0,
            below: Vec::new(),
            shut: false,
        }
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut Connection, &mut Env<'_>) -> R) -> R {
        let Self { conn, cfg, mib, rng, mem, challenge, .. } = self;
        f(conn, &mut Env { mib, rng, cfg, mem, challenge })
    }

    /// What must hold after every step.
    fn check(&mut self, now: Instant) {
        while self.conn.poll_event().is_some() {}
        self.conn.check_invariants().unwrap_or_else(|e| panic!("{e}: {:?}", self.conn));
        let (head, released) = (self.conn.rx_head(), self.conn.tx_released());
        assert!(head >= self.head, "received bytes vanished: {} after {}", head, self.head);
        assert!(released >= self.released, "acknowledged bytes came back");
        assert!(released <= self.written, "bytes were acknowledged that nobody wrote");
        assert!(head <= self.conn.wants_rx_memory_up_to(), "bytes beyond the window were taken");
        (self.head, self.released) = (head, released);
        let _ = self.conn.info(now, &self.cfg);
        if self.conn.state() == State::Closed {
            assert_eq!(self.conn.next_deadline(), None, "a closed connection waits for something");
        }
    }

    fn receive(&mut self, now: Instant, seg: &TcpRepr, len: u32, ecn: IpEcn) {
        let before = self.conn.rx_head();
        let got = self.with(|c, env| c.handle_segment(now, seg, len, ecn, env));
        if let Some(place) = got.place {
            assert!(u64::from(place.at) + u64::from(place.len) <= u64::from(len), "placed bytes the segment has not");
            assert!(place.stream_offset >= before, "bytes were placed over what was read");
            let end = place.stream_offset + u64::from(place.len);
            assert!(end <= self.conn.wants_rx_memory_up_to(), "bytes were placed beyond the window");
        }
        self.check(now);
    }

    fn timers(&mut self, now: Instant) {
        for turn in 0.. {
            if self.conn.next_deadline().is_none_or(|d| d > now) {
                return;
            }
            assert!(turn < 64, "the timer does not come to rest: {:?} at {now:?}", self.conn);
            self.with(|c, env| c.handle_timeout(now, env));
            // What the timer wants sent is polled, as the contract says.
            let mut unsent = Vec::new();
            self.poll(now, &mut unsent, 64);
            self.check(now);
        }
    }

    fn poll(&mut self, now: Instant, out: &mut Vec<SegmentOut>, most: usize) {
        for _ in 0..most {
            let Some(seg) = self.with(|c, env| c.poll_transmit(now, env)) else {
                // A deadline that has passed meanwhile is the caller's to deal with first.
                if self.conn.next_deadline().is_none_or(|d| d > now) {
                    self.conn.check_at_rest(now).unwrap_or_else(|e| panic!("{e}: {:?}", self.conn));
                }
                break;
            };
            assert!(seg.repr.options.len() <= 40, "options longer than a header: {:?}", seg.repr.options);
            let len = seg.payload.as_ref().map_or(0, |r| r.end - r.start);
            if let Some(r) = &seg.payload {
                assert!(r.start <= r.end && r.start >= self.released && r.end <= self.written, "sends what it has not");
                assert!(len <= 65_535, "longer than an IP packet");
                // RFC 9293, 3.7.1, MUST-16: what the peer said it takes, each segment of a GSO frame.
                let one = if seg.gso_size == 0 { len } else { u64::from(seg.gso_size) };
                let size = one + seg.repr.options.len() as u64;
                assert!(size <= u64::from(self.conn.flow().mss.get().max(48)) || seg.repr.flags.syn(), "{size} bytes");
            }
            if len > 0 {
                self.below.push(len as u32);
            }
            out.push(seg);
        }
    }
}

const ECN: [EcnMode; 6] =
    [EcnMode::Passive, EcnMode::On, EcnMode::Accurate, EcnMode::AccuratePassive, EcnMode::AccurateAccept, EcnMode::Off];

fn config(r: &mut Reader<'_>) -> Config {
    let bits = r.u8();
    Config {
        congestion: r.pick(&["cubic", "bbr", "reno", "cubic"]),
        timestamps: bits & 1 == 0,
        sack: bits & 2 == 0,
        window_scaling: bits & 4 == 0,
        ecn: r.pick(&ECN),
        ecn_option: r.u8() % 4,
        nodelay: bits & 16 != 0,
        rcvbuf: (bits & 32 != 0).then(|| u64::from(r.u16()) + 1),
        keepalive: bits & 64 != 0,
        mtu_probing: if bits & 8 == 0 { 0 } else { r.u8() % 3 },
        clock_tick: if bits & 128 != 0 { Duration::from_millis(10) } else { Duration::ZERO },
        ..Config::default()
    }
}

fn reconfigure(end: &mut End, now: Instant, r: &mut Reader<'_>) {
    let cfg = &mut end.cfg;
    match r.u8() % 28 {
        0 => cfg.nodelay ^= true,
        1 => cfg.cork ^= true,
        2 => cfg.sndbuf = Some(u64::from(r.u16())),
        3 => cfg.rcvbuf = Some(u64::from(r.u16())),
        4 => cfg.window_clamp = Some(u32::from(r.u16())),
        5 => cfg.user_timeout = Some(Duration::from_millis(u64::from(r.u16()))),
        6 => cfg.keepalive ^= true,
        7 => cfg.keepalive_time = Duration::from_secs(u64::from(r.u8())),
        8 => cfg.max_pacing_rate = Bandwidth::from_bytes_per_sec(u64::from(r.u32())),
        9 => cfg.maxseg = Some(r.u16().max(88)),
        10 => cfg.recovery = r.u8() % 8,
        11 => cfg.early_retrans = r.u8() % 4,
        12 => cfg.frto = r.u8() % 3,
        13 => cfg.rto_min = Duration::from_micros(u64::from(r.u32())),
        14 => cfg.rto_max = Duration::from_millis(u64::from(r.u16()) + 1000),
        15 => cfg.quickack ^= true,
        16 => cfg.retries2 = r.u8(),
        17 => {
            let name = r.pick(&["cubic", "bbr", "reno", "none"]);
            let known = end.conn.set_congestion(now, name, &end.cfg);
            assert_eq!(known, name != "none");
        }
        18 => end.conn.set_port_paces(r.flip()),
        19 => cfg.autocorking ^= true,
        20 => cfg.slow_start_after_idle ^= true,
        21 => cfg.thin_linear_timeouts ^= true,
        22 => cfg.notsent_lowat = u64::from(r.u16()),
        23 => cfg.limit_output_bytes = u64::from(r.u16()),
        24 => cfg.reordering = u32::from(r.u8()),
        25 => cfg.mtu_probing = r.u8() % 3,
        26 => cfg.challenge_ack_limit = u32::from(r.u8()),
        _ => end.mem.used = if r.flip() { u64::MAX } else { 0 },
    }
    end.with(|c, env| c.handle_timeout(now, env));
}

/// A segment somebody else made up, near what this end would believe.
fn forged(end: &End, r: &mut Reader<'_>) -> (TcpRepr, u32) {
    let flags = r.u8();
    let o = r.u8();
    let (snd, rcv) = (end.conn.snd_nxt(), end.conn.rcv_nxt());
    let mut options = TcpOptions::NONE;
    if o & 1 != 0 {
        options.timestamps = Some(Timestamps { tsval: r.u32(), tsecr: r.u32() });
    }
    for _ in 0..(o >> 1) % 4 {
        let left = snd - r.distance();
        options.sack.push(SackBlock { left, right: left + r.distance() });
    }
    if o & 8 != 0 {
        options.mss = Some(r.u16());
    }
    if o & 16 != 0 {
        options.window_scale = Some(r.u8() % 15);
    }
    options.sack_permitted = o & 32 != 0;
    if o & 64 != 0 {
        let counters = [r.u32() & 0xff_ffff, r.u32() & 0xff_ffff, r.u32() & 0xff_ffff];
        options.accecn = Some(AccEcnOption { order1: o & 128 != 0, count: r.u8() % 4, counters });
    }
    let repr = TcpRepr {
        src_port: 2,
        dst_port: 1,
        seq: rcv + r.distance(),
        ack: (flags & 0x10 != 0).then(|| snd - r.distance()),
        flags: TcpFlags::from_bits(u16::from(flags)),
        window: r.u16(),
        urgent: if flags & 0x20 == 0 { 0 } else { r.u16() },
        options,
    };
    (repr, u32::from(r.u16() % 9000))
}

const STEPS: [u64; 10] = [
    0,
    1_000,
    1_000_000,
    10_000_000,
    40_000_000,
    200_000_000,
    1_000_000_000,
    5_000_000_000,
    130_000_000_000,
    7_300_000_000_000,
];

fuzz_target!(|data: &[u8]| {
    let mut r = Reader(data);
    let mut now = Instant::from_nanos(1_000_000_000);
    let flow = |a, b| FlowParams { port_paces: data.len() % 2 == 0, ..FlowParams::new(a, b) };
    let (ca, cb) = (config(&mut r), config(&mut r));
    let mut a = End::new(Connection::connect(&ca, flow(1, 2), SeqNum(u32::MAX - 5), now), ca, 1);
    let mut first = Vec::new();
    a.poll(now, &mut first, 4);
    let syn = first.first().expect("a connection begins with a SYN").repr;
    let passive = r.flip();
    let b = if passive {
        Connection::accept(&cb, flow(2, 1), SeqNum(7), &syn, now)
    } else {
        Connection::connect(&cb, flow(2, 1), SeqNum(7), now)
    };
    let mut ends = [a, End::new(b, cb, 2)];
    // Under way, with the end that they are for.
    let mut net: Vec<(usize, SegmentOut)> = Vec::new();
    if !passive {
        net.extend(first.into_iter().map(|s| (1, s)));
    }
    for _ in 0..400 {
        if r.is_empty() {
            break;
        }
        let op = r.u8();
        let who = usize::from(op >> 7);
        let end = &mut ends[who];
        match op % 16 {
            0 | 1 => {
                now += Duration::from_nanos(r.pick(&STEPS));
                ends.iter_mut().for_each(|e| e.timers(now));
            }
            2 | 3 => {
                let mut out = Vec::new();
                end.poll(now, &mut out, 32);
                net.extend(out.into_iter().map(|s| (1 - who, s)));
                net.truncate(256);
            }
            4..=6 if !net.is_empty() => {
                let how = r.u8();
                let i = if how & 1 == 0 { 0 } else { usize::from(r.u8()) % net.len() };
                let (to, seg) = if how & 6 == 6 { net[i].clone() } else { net.remove(i) };
                if how & 24 != 24 {
                    let len = seg.payload.as_ref().map_or(0, |p| (p.end - p.start) as u32);
                    let ecn = if how & 32 == 0 { seg.ecn } else { IpEcn::Ce };
                    ends[to].receive(now, &seg.repr, len, ecn);
                }
            }
            7 | 8 => {
                let head = (end.written + u64::from(r.u16())).min(end.conn.tx_limit());
                if head > end.written && !end.shut {
                    end.written = head;
                    if op & 0x70 == 0x70 {
                        end.with(|c, env| c.handle_written_urgent(now, head, env));
                    } else {
                        end.with(|c, env| c.handle_written(now, head, env));
                    }
                }
            }
            9 => {
                end.consumed = (end.consumed + u64::from(r.u16())).min(end.conn.rx_head());
                let tail = end.consumed;
                end.with(|c, env| c.handle_consumed(now, tail, env));
            }
            10 => match r.u8() % 8 {
                0 => {
                    end.shut = true;
                    let unread = end.consumed < end.conn.rx_head();
                    end.with(|c, env| c.handle_close(now, unread, env));
                }
                1 => {
                    end.shut = true;
                    end.with(|c, env| c.handle_abort(env));
                }
                2 | 3 => {
                    end.shut = true;
                    end.with(|c, env| c.handle_shutdown_write(now, env));
                }
                _ => {}
            },
            11 | 12 => {
                let (seg, len) = forged(end, &mut r);
                end.receive(now, &seg, len, IpEcn::NotEct);
            }
            13 => {
                let kind = match r.u8() % 3 {
                    0 => IcmpKind::TooBig { mss: u32::from(r.u16()) },
                    1 => IcmpKind::Hard(Errno::ECONNREFUSED),
                    _ => IcmpKind::Soft(Errno::EHOSTUNREACH),
                };
                let error = IcmpError { seq: end.conn.snd_nxt() - r.distance(), kind };
                end.with(|c, env| c.handle_icmp(now, error, env));
            }
            14 => {
                for len in core::mem::take(&mut end.below) {
                    end.conn.handle_tx_complete(len);
                }
            }
            _ => reconfigure(end, now, &mut r),
        }
        ends.iter_mut().for_each(|e| e.check(now));
    }
    // Both let go; without a peer that answers each must end by itself.
    for end in &mut ends {
        end.mem.used = 0;
        // Zero-window probes that are answered go on for ever by design, and so do retransmissions of absurd patience.
        end.cfg.retries2 = end.cfg.retries2.min(15);
        end.with(|c, env| c.handle_close(now, false, env));
    }
    for _ in 0..6000 {
        for end in &mut ends {
            for len in core::mem::take(&mut end.below) {
                end.conn.handle_tx_complete(len);
            }
            let mut lost = Vec::new();
            end.poll(now, &mut lost, 256);
            end.check(now);
        }
        let Some(next) = ends.iter().filter_map(|e| e.conn.next_deadline()).min() else { break };
        // Timers run late: else each packet that pacing holds back is a step of its own.
        now = now.max(next) + Duration::from_millis(5);
        ends.iter_mut().for_each(|e| e.timers(now));
    }
    for end in &ends {
        assert!(matches!(end.conn.state(), State::Closed), "never ends: {:?}", end.conn);
    }
});
