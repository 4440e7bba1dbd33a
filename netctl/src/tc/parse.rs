//! The options of each kind of qdisc, in tc's words.

use stackd_proto::v1::{
    BfifoOptions, FqCodelOptions, FqOptions, NetemOptions, NoqueueOptions, PfifoFastOptions, PfifoOptions,
    QdiscOptions, TbfOptions, qdisc_options::Kind,
};

use crate::{
    cli::Failure,
    units::{parse_percent, parse_rate, parse_size, parse_time_ns},
    words::Words,
};

/// Reads the options of `kind` up to the end.
pub fn options(kind: &str, words: &mut Words<'_>) -> Result<QdiscOptions, Failure> {
    let kind = match kind {
        "fq" => Kind::Fq(fq(words)?),
        "fq_codel" => Kind::FqCodel(fq_codel(words)?),
        "pfifo" => Kind::Pfifo(PfifoOptions { limit: limit("pfifo", words, |t| t.parse().ok())? }),
        "bfifo" => Kind::Bfifo(BfifoOptions { limit: limit("bfifo", words, parse_size)? }),
        "pfifo_fast" => Kind::PfifoFast(PfifoFastOptions { limit: limit("pfifo_fast", words, |t| t.parse().ok())? }),
        "netem" => Kind::Netem(netem(words)?),
        "tbf" => Kind::Tbf(tbf(words)?),
        "noqueue" => Kind::Noqueue(NoqueueOptions {}),
        other => {
            return Err(Failure {
                code: 2,
                text: format!(
                    "Error: Specified qdisc kind is unknown: \"{other}\"; want fq, fq_codel, pfifo, bfifo, pfifo_fast, netem, tbf or noqueue."
                ),
            });
        }
    };
    Ok(QdiscOptions { kind: Some(kind) })
}

fn unknown(kind: &str, word: &str, known: &str) -> Failure {
    Failure::usage(format!("{kind}: unknown parameter \"{word}\"\nUsage: ... {kind} {known}"))
}

const TIME: &str = "a time, as 10ms, 20us or 1s";
const RATE: &str = "a rate, as 10mbit or 1gbit";
const SIZE: &str = "a size in bytes, as 1514 or 10k";

fn micros<T: TryFrom<u64>>(text: &str) -> Option<T> {
    T::try_from(parse_time_ns(text)? / 1000).ok()
}

fn limit(kind: &str, words: &mut Words<'_>, parse: impl Fn(&str) -> Option<u32>) -> Result<Option<u32>, Failure> {
    let mut limit = None;
    while let Some(word) = words.take() {
        match word {
            "limit" => limit = Some(words.parse("limit", "a number", &parse)?),
            other => return Err(unknown(kind, other, "[ limit NUMBER ]")),
        }
    }
    Ok(limit)
}

fn fq(words: &mut Words<'_>) -> Result<FqOptions, Failure> {
    let mut o = FqOptions::default();
    while let Some(word) = words.take() {
        match word {
            "limit" => o.limit = Some(words.number(word)?),
            "flow_limit" => o.flow_limit = Some(words.number(word)?),
            "quantum" => o.quantum = Some(words.parse(word, SIZE, parse_size)?),
            "initial_quantum" => o.initial_quantum = Some(words.parse(word, SIZE, parse_size)?),
            "maxrate" => o.maxrate = Some(words.parse(word, RATE, parse_rate)?),
            "low_rate_threshold" => o.low_rate_threshold = Some(words.parse(word, RATE, parse_rate)?),
            "buckets" => {
                let power = |t: &str| t.parse().ok().filter(|n: &u32| n.is_power_of_two());
                o.buckets = Some(words.parse(word, "a power of two", power)?);
            }
            "refill_delay" => o.refill_delay_us = Some(words.parse(word, TIME, micros)?),
            "orphan_mask" => o.orphan_mask = Some(words.number(word)?),
            "timer_slack" => o.timer_slack_ns = Some(words.parse(word, TIME, parse_time_ns)?),
            "ce_threshold" => o.ce_threshold_us = Some(words.parse(word, TIME, micros)?),
            "horizon" => o.horizon_us = Some(words.parse(word, TIME, micros)?),
            "horizon_drop" => o.horizon_drop = Some(true),
            "horizon_cap" => o.horizon_drop = Some(false),
            "pacing" => o.pacing = Some(true),
            "nopacing" => o.pacing = Some(false),
            "weights" => o.weights = (0..3).map(|_| words.number(word)).collect::<Result<_, _>>()?,
            "priomap" => o.priomap = (0..16).map(|_| words.number(word)).collect::<Result<_, _>>()?,
            "bands" => {
                words.parse(word, "3", |t| (t == "3").then_some(()))?;
            }
            other => {
                return Err(unknown(
                    "fq",
                    other,
                    "[ limit PACKETS ] [ flow_limit PACKETS ] [ quantum BYTES ] [ initial_quantum BYTES ] [ maxrate RATE ]\n\
                     \t[ buckets NUMBER ] [ [no]pacing ] [ refill_delay TIME ] [ low_rate_threshold RATE ] [ orphan_mask MASK ]\n\
                     \t[ timer_slack TIME ] [ ce_threshold TIME ] [ horizon TIME ] [ horizon_{cap|drop} ] [ bands 3 priomap P0 ... P15 ]\n\
                     \t[ weights W1 W2 W3 ]",
                ));
            }
        }
    }
    Ok(o)
}

fn fq_codel(words: &mut Words<'_>) -> Result<FqCodelOptions, Failure> {
    let mut o = FqCodelOptions::default();
    while let Some(word) = words.take() {
        match word {
            "limit" => o.limit = Some(words.number(word)?),
            "flows" => o.flows = Some(words.number(word)?),
            "quantum" => o.quantum = Some(words.number(word)?),
            "target" => o.target_us = Some(words.parse(word, TIME, micros)?),
            "interval" => o.interval_us = Some(words.parse(word, TIME, micros)?),
            "ce_threshold" => o.ce_threshold_us = Some(words.parse(word, TIME, micros)?),
            "memory_limit" => o.memory_limit = Some(words.parse(word, SIZE, parse_size)?),
            "drop_batch" => o.drop_batch = Some(words.number(word)?),
            "ecn" => o.ecn = Some(true),
            "noecn" => o.ecn = Some(false),
            other => {
                return Err(unknown(
                    "fq_codel",
                    other,
                    "[ limit PACKETS ] [ flows NUMBER ] [ memory_limit BYTES ] [ target TIME ] [ interval TIME ]\n\
                     \t[ quantum BYTES ] [ [no]ecn ] [ ce_threshold TIME ] [ drop_batch SIZE ]",
                ));
            }
        }
    }
    Ok(o)
}

fn tbf(words: &mut Words<'_>) -> Result<TbfOptions, Failure> {
    let mut o = TbfOptions::default();
    while let Some(word) = words.take() {
        match word {
            "rate" => o.rate = Some(words.parse(word, RATE, parse_rate)?),
            "burst" | "buffer" | "maxburst" => o.burst = Some(words.parse(word, SIZE, parse_size)?),
            "limit" => o.limit = Some(words.parse(word, SIZE, parse_size)?),
            "latency" => o.latency_us = Some(words.parse(word, TIME, micros)?),
            "peakrate" => o.peakrate = Some(words.parse(word, RATE, parse_rate)?),
            "mtu" | "minburst" => o.mtu = Some(words.parse(word, SIZE, parse_size)?),
            other => {
                let known = "limit BYTES|latency TIME burst BYTES rate RATE [ mtu BYTES ] [ peakrate RATE ]";
                return Err(unknown("tbf", other, known));
            }
        }
    }
    if o.limit.is_some() && o.latency_us.is_some() {
        return Err(Failure::usage("tbf: both \"limit\" and \"latency\" are given; want one of them"));
    }
    Ok(o)
}

/// A percentage that may follow without a keyword (the correlation of tc's grammar).
fn optional_percent(words: &mut Words<'_>) -> Option<f64> {
    let value = words.peek().and_then(parse_percent)?;
    words.take();
    Some(value)
}

fn netem(words: &mut Words<'_>) -> Result<NetemOptions, Failure> {
    const PERCENT: &str = "a percentage, 0% to 100%";
    let mut o = NetemOptions::default();
    while let Some(word) = words.take() {
        match word {
            "limit" => o.limit = Some(words.number(word)?),
            "delay" | "latency" => {
                o.delay_ns = Some(words.parse(word, TIME, parse_time_ns)?);
                if let Some(jitter) = words.peek().and_then(parse_time_ns) {
                    words.take();
                    o.jitter_ns = Some(jitter);
                    o.delay_correlation = optional_percent(words);
                }
            }
            "distribution" => {
                let known =
                    |t: &str| ["uniform", "normal", "pareto", "paretonormal"].contains(&t).then(|| t.to_owned());
                o.distribution = words.parse(word, "uniform, normal, pareto or paretonormal", known)?;
            }
            "loss" | "drop" => loss(words, &mut o)?,
            "duplicate" => {
                o.duplicate = Some(words.parse(word, PERCENT, parse_percent)?);
                o.duplicate_correlation = optional_percent(words);
            }
            "corrupt" => {
                o.corrupt = Some(words.parse(word, PERCENT, parse_percent)?);
                o.corrupt_correlation = optional_percent(words);
            }
            "reorder" => {
                o.reorder = Some(words.parse(word, PERCENT, parse_percent)?);
                o.reorder_correlation = optional_percent(words);
            }
            "gap" => o.gap = Some(words.number(word)?),
            "rate" => {
                o.rate = Some(words.parse(word, RATE, parse_rate)?);
                if let Some(overhead) = words.peek().and_then(|t| t.parse().ok()) {
                    words.take();
                    o.packet_overhead = Some(overhead);
                }
            }
            "slot" => {
                return Err(Failure::usage(
                    "netem: slots are not emulated here; want \"rate\" for a bottleneck, \"delay TIME JITTER\" for variation",
                ));
            }
            "ecn" => o.ecn = Some(true),
            "seed" => o.seed = Some(words.number(word)?),
            other => {
                return Err(unknown(
                    "netem",
                    other,
                    "[ limit PACKETS ] [ delay TIME [ JITTER [CORRELATION]]] [ distribution {uniform|normal|pareto|paretonormal} ]\n\
                     \t[ loss [random] PERCENT [CORRELATION] ] [ loss gemodel PERCENT [R [1-H [1-K]]] ] [ ecn ] [ seed NUMBER ]\n\
                     \t[ corrupt PERCENT [CORRELATION] ] [ duplicate PERCENT [CORRELATION] ] [ reorder PERCENT [CORRELATION] [ gap DISTANCE ] ]\n\
                     \t[ rate RATE [PACKETOVERHEAD] ]",
                ));
            }
        }
    }
    if o.reorder.is_some() && o.delay_ns.is_none() {
        return Err(Failure::usage("netem: reordering not possible without specifying some delay"));
    }
    Ok(o)
}

fn loss(words: &mut Words<'_>, o: &mut NetemOptions) -> Result<(), Failure> {
    const PERCENT: &str = "a percentage, 0% to 100%";
    if words.eat("gemodel") {
        o.gemodel = vec![words.parse("gemodel", PERCENT, parse_percent)?];
        while o.gemodel.len() < 4 {
            let Some(next) = optional_percent(words) else { break };
            o.gemodel.push(next);
        }
        // What tc fills in: r = 1-p; in the bad state all is lost, in the good state nothing.
        if o.gemodel.len() < 2 {
            o.gemodel.push(100.0 - o.gemodel[0]);
        }
        for default in [100.0, 0.0].iter().skip(o.gemodel.len() - 2) {
            o.gemodel.push(*default);
        }
        return Ok(());
    }
    words.eat("random");
    o.loss = Some(words.parse("loss", PERCENT, parse_percent)?);
    o.loss_correlation = optional_percent(words);
    Ok(())
}
