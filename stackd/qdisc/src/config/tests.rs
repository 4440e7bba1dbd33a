use super::*;

fn parse(text: &str) -> QdiscConfig {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn what_is_shown_is_read_back() {
    for text in [
        "noqueue",
        "pfifo limit 7",
        "bfifo limit 32k",
        "pfifo_fast",
        "fq",
        "fq limit 5 flow_limit 3p quantum 1k maxrate 1.5mbit nopacing horizon 2s horizon_cap ce_threshold 5ms timer_slack 10us",
        "netem delay 50ms 5ms 25% distribution normal loss 1% 10% duplicate 2% corrupt 0.1% reorder 5% 50% gap 3 rate 10mbit 14 ecn seed 9",
        "netem loss gemodel 1% 20% 70% 0.1%",
        "netem loss state 1% 30% 5%",
        "tbf rate 10mbit burst 32k latency 50ms peakrate 20mbit mtu 1600",
    ] {
        let once = parse(text);
        assert_eq!(parse(&once.to_string()), once, "{text} -> {once}");
    }
}

#[test]
fn units_are_those_of_tc() {
    let QdiscConfig::Netem(c) = parse("netem delay 1000 rate 8mbit loss 0.5") else { panic!("not netem") };
    assert_eq!((c.delay, c.rate), (Duration::from_millis(1), Bandwidth::from_bytes_per_sec(1_000_000)));
    assert_eq!(c.loss, Loss::Random(Chance { percent: 0.5, correlation: 0.0 }));
    let QdiscConfig::Tbf(c) = parse("tbf rate 1mbps burst 10k latency 10ms") else { panic!("not tbf") };
    assert_eq!((c.rate.as_bytes_per_sec(), c.burst, c.limit), (1_000_000, 10_240, 20_240));
}

#[test]
fn mistakes_are_named_with_their_remedy() {
    let error = |text: &str| text.parse::<QdiscConfig>().expect_err(text).to_string();
    assert_eq!(error("sfq"), "unknown qdisc \"sfq\"; want one of fq, pfifo_fast, pfifo, bfifo, netem, tbf, noqueue");
    assert!(error("fq flowlimit 3").starts_with("fq: unknown parameter \"flowlimit\"; want one of limit, flow_limit"));
    assert_eq!(error("fq limit"), "limit: a value is missing");
    assert_eq!(error("netem loss 101%"), "loss: \"101%\" is not a percentage between 0% and 100%");
    assert_eq!(error("netem delay 5parsec"), "delay: \"5parsec\" is not a time such as 100ms, 10us or 1s");
    assert!(error("fq quantum 0").contains("quantum must be between"));
    assert!(error("tbf rate 1mbit").contains("burst is missing"));
    assert!(error("netem reorder 5%").contains("nothing to overtake"));
}
