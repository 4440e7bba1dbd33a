use stackd_proto::v1::{FqOptions, FqStats, Qdisc, QdiscOptions, QdiscStats, TbfOptions, qdisc_options::Kind};

use super::*;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn parse(text: &str) -> Result<QdiscModifyRequest, Failure> {
    modify(QdiscVerb::Add, &mut Words::new(&words(text)))
}

#[test]
fn fq_parameters_keep_absent_ones_absent() {
    let request = parse("dev tap0 root handle 8001: fq limit 10000 maxrate 1gbit nopacing ce_threshold 5ms").unwrap();
    assert_eq!((request.device.as_str(), request.handle), ("tap0", 0x8001));
    let want = FqOptions {
        limit: Some(10_000),
        maxrate: Some(125_000_000),
        pacing: Some(false),
        ce_threshold_us: Some(5000),
        ..Default::default()
    };
    assert_eq!(request.options.unwrap().kind, Some(Kind::Fq(want)));
}

#[test]
fn netem_positional_arguments() {
    let request = parse("dev w root netem delay 50ms 5ms 25% loss 1% 10% rate 100mbit reorder 5%").unwrap();
    let Some(Kind::Netem(o)) = request.options.unwrap().kind else { panic!("not netem") };
    assert_eq!((o.delay_ns, o.jitter_ns, o.delay_correlation), (Some(50_000_000), Some(5_000_000), Some(25.0)));
    assert_eq!((o.loss, o.loss_correlation, o.reorder), (Some(1.0), Some(10.0), Some(5.0)));
    assert_eq!(o.rate, Some(12_500_000));
}

#[test]
fn gemodel_fills_in_what_tc_does() {
    let model = |text: &str| match parse(text).unwrap().options.unwrap().kind {
        Some(Kind::Netem(o)) => o.gemodel,
        other => panic!("{other:?}"),
    };
    assert_eq!(model("dev w root netem loss gemodel 1%"), [1.0, 99.0, 100.0, 0.0]);
    assert_eq!(model("dev w root netem loss gemodel 1% 10% 70% 0.1%"), [1.0, 10.0, 70.0, 0.1]);
}

#[test]
fn errors_name_the_word_and_the_remedy() {
    for (text, says) in [
        ("dev lo root pfifo limt 5", "pfifo: unknown parameter \"limt\""),
        ("dev lo root nope", "qdisc kind is unknown"),
        ("root fq", "\"dev\" is missing"),
        ("dev lo root", "kind of qdisc is missing"),
        ("dev lo root fq maxrate fast", "want a rate"),
        ("dev lo root fq buckets 1000", "power of two"),
        ("dev lo root netem loss 200%", "percentage"),
        ("dev lo root netem reorder 5%", "without specifying some delay"),
        ("dev lo root handle 1 fq", "colon"),
        ("dev lo root fq limit", "not complete"),
    ] {
        let failure = parse(text).unwrap_err();
        assert!(failure.text.contains(says), "{text}: {}", failure.text);
    }
}

#[test]
fn golden_tbf_from_iproute2() {
    let tbf = TbfOptions { rate: Some(125_000), burst: Some(10_240), latency_us: Some(50_000), ..Default::default() };
    let qdisc = Qdisc {
        device: "lo".into(),
        kind: "tbf".into(),
        handle: 0x8002,
        refcount: 2,
        options: Some(QdiscOptions { kind: Some(Kind::Tbf(tbf)) }),
        ..Default::default()
    };
    // Captured from `tc -s qdisc` of iproute2-6.1.0.
    let want = "qdisc tbf 8002: dev lo root refcnt 2 rate 1Mbit burst 10Kb lat 50ms \n Sent 0 bytes 0 pkt (dropped 0, overlimits 0 requeues 0) \n backlog 0b 0p requeues 0\n";
    assert_eq!(show::text(&qdisc, true), want);
}

#[test]
fn golden_fq_with_statistics() {
    let fq = FqOptions {
        limit: Some(10_000),
        flow_limit: Some(100),
        buckets: Some(1024),
        orphan_mask: Some(1023),
        quantum: Some(3028),
        initial_quantum: Some(15_140),
        maxrate: Some(u64::MAX),
        low_rate_threshold: Some(68_750),
        refill_delay_us: Some(40_000),
        ce_threshold_us: Some(u32::MAX),
        timer_slack_ns: Some(10_000),
        horizon_us: Some(10_000_000),
        horizon_drop: Some(true),
        ..Default::default()
    };
    let stats = QdiscStats {
        bytes: 1_000_000,
        packets: 700,
        fq: Some(FqStats {
            flows: 3,
            inactive_flows: 2,
            throttled_flows: 1,
            throttled: 9,
            gc_flows: 1,
            time_next_delayed_flow_ns: 1500,
            ..Default::default()
        }),
        ..Default::default()
    };
    let qdisc = Qdisc {
        device: "tap0".into(),
        kind: "fq".into(),
        handle: 0x8001,
        options: Some(QdiscOptions { kind: Some(Kind::Fq(fq)) }),
        stats: Some(stats),
        ..Default::default()
    };
    let want = "qdisc fq 8001: dev tap0 root limit 10000p flow_limit 100p buckets 1024 orphan_mask 1023 quantum 3028b initial_quantum 15140b low_rate_threshold 550Kbit refill_delay 40ms timer_slack 10us horizon 10s horizon_drop \n Sent 1000000 bytes 700 pkt (dropped 0, overlimits 0 requeues 0) \n backlog 0b 0p requeues 0\n  flows 3 (inactive 2 throttled 1 next_packet_delay 1.5us)\n  gc 1 highprio 0 throttled 9\n";
    assert_eq!(show::text(&qdisc, true), want);
}
