use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn options() -> impl Strategy<Value = (bool, TcpOptions)> {
    let sack = proptest::collection::vec(any::<(u32, u32)>(), 0..=4);
    (
        any::<bool>(),
        proptest::option::of(1u16..),
        proptest::option::of(0u8..=14),
        any::<bool>(),
        proptest::option::of(any::<(u32, u32)>()),
        sack,
        proptest::option::of((0usize..=8, any::<bool>())),
    )
        .prop_map(|(syn, mss, ws, sp, ts, sack, cookie)| {
            let mut o =
                TcpOptions { timestamps: ts.map(|(tsval, tsecr)| Timestamps { tsval, tsecr }), ..TcpOptions::NONE };
            if syn {
                (o.mss, o.window_scale, o.sack_permitted) = (mss, ws, sp);
                o.fast_open =
                    cookie.and_then(|(n, old)| Some(FastOpenCookie::new(&[7; 16][..2 * n])?.in_experimental_form(old)));
            } else {
                o.sack = sack.into_iter().map(|(l, r)| SackBlock { left: SeqNum(l), right: SeqNum(r) }).collect();
            }
            (syn, o)
        })
}

proptest! {
    #[test]
    fn any_bytes_parse_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok((r, len)) = TcpRepr::parse(&bytes) {
            prop_assert!(len <= bytes.len() && (20..=60).contains(&len));
            let mut buf = [0; 60];
            prop_assert_eq!(r.emit(&mut buf), r.header_len());
        }
    }

    #[test]
    fn what_is_written_is_read_back((syn, options) in options(), ports in any::<(u16, u16)>(), seq in any::<u32>(),
                                    ack in proptest::option::of(any::<u32>()), bits in any::<u16>(), window in any::<u16>()) {
        let mut flags = TcpFlags::from_bits(bits).without(TcpFlags::SYN);
        if syn { flags |= TcpFlags::SYN; }
        let mut r = TcpRepr { src_port: ports.0, dst_port: ports.1, seq: SeqNum(seq), ack: ack.map(SeqNum), flags, window, urgent: 3, options };
        let mut buf = [0xaa; 60];
        let len = r.emit(&mut buf);
        prop_assert_eq!(len, r.header_len());
        let keep = r.options.sack_blocks_that_fit();
        r.options.sack = r.options.sack.iter().take(keep).collect();
        let back = TcpRepr::parse(&buf[..len]).expect("own header");
        if back.0.options.fast_open.is_none() { r.options.fast_open = None; }
        prop_assert_eq!(back, (r, len));
    }

    #[test]
    fn etherparse_agrees((syn, options) in options(), seq in any::<u32>(), payload in proptest::collection::vec(any::<u8>(), 0..64)) {
        let flags = if syn { TcpFlags::SYN } else { TcpFlags::PSH };
        let r = TcpRepr { src_port: 1, dst_port: 2, seq: SeqNum(seq), ack: Some(SeqNum(9)), flags, window: 5, urgent: 0, options };
        let mut buf = [0; 60];
        let len = r.emit(&mut buf);
        let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        TcpRepr::fill_checksum(&mut buf[..len], src.into(), dst.into(), Sum::of(&payload), payload.len());
        prop_assert!(verify(&buf[..len], src.into(), dst.into(), Sum::of(&payload), payload.len()));
        let (h, rest) = etherparse::TcpHeader::from_slice(&buf[..len]).expect("oracle");
        prop_assert!(rest.is_empty());
        prop_assert_eq!(h.sequence_number, seq);
        prop_assert!(h.ack && h.syn == syn);
        prop_assert_eq!(h.checksum, h.calc_checksum_ipv4_raw(src.octets(), dst.octets(), &payload).expect("sum"));
        for o in h.options_iterator() { prop_assert!(o.is_ok() || r.options.fast_open.is_some(), "{:?}", o); }
    }
}

#[test]
fn a_syn_looks_like_linuxs() {
    let options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { tsval: 1, tsecr: 0 }),
        ..TcpOptions::NONE
    };
    let r = TcpRepr { flags: TcpFlags::SYN, options, ..TcpRepr::default() };
    let mut buf = [0; 60];
    assert_eq!(r.emit(&mut buf), 40);
    assert_eq!(buf[20..40], [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]);
}

fn parse_options(syn: bool, opts: &[u8]) -> TcpOptions {
    let mut b = vec![0; 20];
    b.extend(opts);
    b.resize(b.len().next_multiple_of(4), 0);
    b[12] = ((b.len() / 4) << 4) as u8;
    b[13] = if syn { 2 } else { 16 };
    TcpRepr::parse(&b).expect("legal header").0.options
}

#[test]
fn bad_option_lengths_end_the_options_not_the_segment() {
    let before = parse_options(true, &[2, 4, 5, 0xb4, 3, 0, 4, 2]);
    assert_eq!((before.mss, before.sack_permitted), (Some(1460), false));
    assert!(!parse_options(true, &[8, 10, 1, 2]).sack_permitted);
    assert_eq!(parse_options(true, &[3, 1, 7]), TcpOptions::NONE);
}

#[test]
fn unknown_options_are_skipped_and_wrong_lengths_ignored() {
    let o = parse_options(true, &[99, 5, 1, 2, 3, 2, 3, 9, 3, 3, 200, 1]);
    assert_eq!((o.mss, o.window_scale), (None, Some(14)));
}

#[test]
fn syn_only_options_count_only_on_syn() {
    let o = parse_options(false, &[2, 4, 5, 0xb4, 3, 3, 7, 4, 2, 1, 1, 1]);
    assert_eq!(o, TcpOptions::NONE);
    let o = parse_options(true, &[5, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert!(o.sack.is_empty());
}

#[test]
fn a_data_offset_below_five_or_past_the_end_is_refused() {
    let mut b = [0; 24];
    b[12] = 4 << 4;
    assert_eq!(TcpRepr::parse(&b), Err(ParseError::Length));
    b[12] = 7 << 4;
    assert_eq!(TcpRepr::parse(&b), Err(ParseError::Truncated));
    assert_eq!(TcpRepr::parse(&b[..19]), Err(ParseError::Truncated));
}

#[test]
fn three_sack_blocks_fit_beside_timestamps() {
    let b = SackBlock { left: SeqNum(1), right: SeqNum(2) };
    let o =
        TcpOptions { timestamps: Some(Timestamps::default()), sack: [b; 4].into_iter().collect(), ..TcpOptions::NONE };
    assert_eq!((o.sack_blocks_that_fit(), o.len()), (3, 40));
}

#[test]
fn accecn_and_md5_round_trip() {
    let o = TcpOptions {
        accecn: Some(AccEcnOption { order1: true, count: 2, counters: [0x12_3456, 7, 0] }),
        md5: Some([9; 16]),
        ..TcpOptions::NONE
    };
    let r = TcpRepr { ack: Some(SeqNum(1)), options: o, ..TcpRepr::default() };
    let mut buf = [0; 60];
    let len = r.emit(&mut buf);
    assert_eq!(TcpRepr::parse(&buf[..len]), Ok((r, len)));
}

/// RFC 7413, 4.1.1 and its appendix A: the form of before it had a kind of its own is understood, on SYN only.
#[test]
fn fast_open_is_read_in_both_forms() {
    let cookie = FastOpenCookie::new(&[1, 2, 3, 4]).expect("legal");
    let standard = parse_options(true, &[34, 6, 1, 2, 3, 4]);
    let experimental = parse_options(true, &[254, 8, 0xf9, 0x89, 1, 2, 3, 4]);
    assert_eq!(standard.fast_open, Some(cookie));
    assert_eq!(experimental.fast_open, Some(cookie.in_experimental_form(true)));
    assert_eq!(parse_options(true, &[34, 2]).fast_open, Some(FastOpenCookie::REQUEST));
    assert!(
        parse_options(true, &[254, 4, 0xf9, 0x89]).fast_open.is_some_and(|c| c.is_request() && c.is_experimental())
    );
    for bad in [&[34, 5, 1, 2, 3][..], &[34, 4, 1, 2], &[254, 8, 0xf9, 0x88, 1, 2, 3, 4], &[254, 3, 0xf9]] {
        assert_eq!(parse_options(true, bad).fast_open, None, "{bad:?}");
    }
    assert_eq!(parse_options(false, &[34, 6, 1, 2, 3, 4]).fast_open, None);
}

#[test]
fn tcp_ao_round_trips_and_is_found() {
    let ao = AoOption::new(61, 84, &[7; 12]).expect("twelve bytes");
    let options = TcpOptions { ao: Some(ao), timestamps: Some(Timestamps::default()), ..TcpOptions::NONE };
    let r = TcpRepr { ack: Some(SeqNum(1)), options, ..TcpRepr::default() };
    let mut buf = [0; 60];
    let len = r.emit(&mut buf);
    assert_eq!(TcpRepr::parse(&buf[..len]), Ok((r, len)));
    let body = find_option(&buf[20..len], 29).expect("there");
    assert_eq!(buf[20..len][body], [61, 84, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
    assert_eq!(find_option(&buf[20..len], 19), None);
    assert_eq!(find_option(&[1, 29, 1], 29), None, "a silly length");
    assert!(AoOption::new(1, 2, &[0; 17]).is_none());
}

/// Options that were read together need not fit when they are written with padding; writing them must not run over.
#[test]
fn more_options_than_fit_are_left_out() {
    let mut bytes = vec![19, 18];
    bytes.extend([1; 16]);
    bytes.extend([29, 4, 1, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 2, 4, 5, 0xb4]);
    bytes.extend([3, 3, 7]);
    let options = parse_options(true, &bytes);
    assert!(options.md5.is_some() && options.ao.is_some() && options.window_scale.is_some());
    let mut buf = [0; 60];
    let r = TcpRepr { flags: TcpFlags::SYN, options, ..TcpRepr::default() };
    assert_eq!(r.emit(&mut buf), 60);
}

/// Every combination: a header is as long as it was said to be. A fuzzer found one whose SACK blocks were believed to bring padding for the AccECN
/// option, where the window scale stood between them.
#[test]
fn a_length_promised_is_the_length_written() {
    let block = SackBlock { left: SeqNum(1), right: SeqNum(2) };
    let cookies = [None, Some(FastOpenCookie::REQUEST), FastOpenCookie::new(&[7; 8])];
    for bits in 0..64u8 {
        let bit = |n: u8| bits >> n & 1 != 0;
        for (sacks, counters, cookie) in
            (0..=4).flat_map(|s| (0..=4u8).flat_map(move |a| cookies.into_iter().map(move |c| (s, a, c))))
        {
            let accecn = counters.checked_sub(1).map(|count| AccEcnOption { order1: true, count, counters: [0; 3] });
            let options = TcpOptions {
                mss: bit(0).then_some(1460),
                window_scale: bit(1).then_some(7),
                sack_permitted: bit(2),
                timestamps: bit(3).then(Timestamps::default),
                md5: bit(4).then_some([9; 16]),
                ao: bit(5).then(|| AoOption::new(61, 84, &[7; 12])).flatten(),
                sack: std::iter::repeat_n(block, sacks).collect(),
                fast_open: cookie,
                accecn,
            };
            let promised = options.len();
            assert!(promised <= options::MAX_LEN && promised.is_multiple_of(4), "{promised}: {options:?}");
            let mut buf = [0; 60];
            assert_eq!(TcpRepr { options, ..TcpRepr::default() }.emit(&mut buf), 20 + promised, "{options:?}");
        }
    }
}

/// RFC 9293, 3.1 (MUST-69): "The content of the header beyond the End of Option List Option MUST be header padding of zeros". Like Linux we
/// pad with NOPs in front instead, so that nothing lies beyond: what is left of the last word is zero.
#[test]
fn rfc9293_options_are_padded_with_zeros() {
    for (window_scale, sack_permitted) in [(Some(7), false), (None, true), (Some(3), true), (None, false)] {
        let options = TcpOptions { mss: Some(1460), window_scale, sack_permitted, ..TcpOptions::NONE };
        let repr = TcpRepr { flags: TcpFlags::SYN, options, ..TcpRepr::default() };
        let mut buf = [0xaa; 60];
        let len = repr.emit(&mut buf);
        assert_eq!(len % 4, 0);
        let mut rest = &buf[20..len];
        while let Some(&kind) = rest.first() {
            rest = match kind {
                0 => {
                    assert!(rest.iter().all(|b| *b == 0), "{rest:?}");
                    &[]
                }
                1 => &rest[1..],
                _ => &rest[usize::from(rest[1])..],
            };
        }
    }
}
