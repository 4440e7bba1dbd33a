//! `tc`'s words to parameters.

use super::units::{count, percent, rate, size, time};
use super::{Chance, ConfigError, Distribution, FqConfig, Loss, NetemConfig, QdiscConfig, TbfConfig};
use core::str::FromStr;
use stackd_base::{Bandwidth, Duration};

/// The words behind the kind.
struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }
    fn value(&mut self, key: &str) -> Result<&'a str, ConfigError> {
        self.0.next().ok_or_else(|| ConfigError::MissingValue { key: key.to_owned() })
    }
    /// The next word if it starts with a digit: an optional further value.
    fn number(&mut self) -> Option<&'a str> {
        self.0.next_if(|w| w.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.'))
    }
    fn chance(&mut self, key: &str) -> Result<Chance, ConfigError> {
        let p = percent(key, self.value(key)?)?;
        let correlation = self.number().map_or(Ok(0.0), |w| percent(key, w))?;
        Ok(Chance { percent: p, correlation })
    }
}

impl FromStr for QdiscConfig {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut words = Words(text.split_whitespace().peekable());
        match words.next().unwrap_or("") {
            "noqueue" => match words.next() {
                None => Ok(Self::NoQueue),
                Some(key) => Err(ConfigError::UnknownKey { kind: "noqueue", key: key.to_owned(), want: "none" }),
            },
            "pfifo" => limit("pfifo", words, 1000, count).map(|limit| Self::Pfifo { limit }),
            "bfifo" => limit("bfifo", words, 1000 * 1514, size).map(|limit| Self::Bfifo { limit }),
            "pfifo_fast" => limit("pfifo_fast", words, 1000, count).map(|limit| Self::PfifoFast { limit }),
            "fq" => fq(words).map(Self::Fq),
            "netem" => netem(words).map(Self::Netem),
            "tbf" => tbf(words).map(Self::Tbf),
            other => Err(ConfigError::UnknownKind(other.to_owned())),
        }
    }
}

fn limit(
    kind: &'static str,
    mut words: Words<'_>,
    default: u32,
    parse: fn(&str, &str) -> Result<u32, ConfigError>,
) -> Result<u32, ConfigError> {
    let mut limit = default;
    while let Some(key) = words.next() {
        match key {
            "limit" => limit = parse(key, words.value(key)?)?,
            _ => return Err(ConfigError::UnknownKey { kind, key: key.to_owned(), want: "limit" }),
        }
    }
    Ok(limit)
}

const FQ_KEYS: &str = "limit, flow_limit, quantum, initial_quantum, maxrate, pacing, nopacing, buckets, refill_delay, \
    low_rate_threshold, timer_slack, horizon, horizon_drop, horizon_cap, ce_threshold, orphan_mask";

fn fq(mut words: Words<'_>) -> Result<FqConfig, ConfigError> {
    let mut c = FqConfig::default();
    while let Some(key) = words.next() {
        match key {
            "pacing" => c.pacing = true,
            "nopacing" => c.pacing = false,
            "horizon_drop" => c.horizon_drop = true,
            "horizon_cap" => c.horizon_drop = false,
            "limit" => c.limit = packets(&mut words, key)?,
            "flow_limit" => c.flow_limit = packets(&mut words, key)?,
            "buckets" => c.buckets = count(key, words.value(key)?)?,
            "orphan_mask" => c.orphan_mask = count(key, words.value(key)?)?,
            "quantum" => c.quantum = size(key, words.value(key)?)?,
            "initial_quantum" => c.initial_quantum = size(key, words.value(key)?)?,
            "maxrate" => c.maxrate = rate(key, words.value(key)?)?,
            "low_rate_threshold" => c.low_rate_threshold = rate(key, words.value(key)?)?,
            "refill_delay" => c.refill_delay = time(key, words.value(key)?)?,
            "timer_slack" => c.timer_slack = time(key, words.value(key)?)?,
            "horizon" => c.horizon = time(key, words.value(key)?)?,
            "ce_threshold" => c.ce_threshold = time(key, words.value(key)?)?,
            _ => return Err(ConfigError::UnknownKey { kind: "fq", key: key.to_owned(), want: FQ_KEYS }),
        }
    }
    if c.maxrate.is_zero() {
        c.maxrate = Bandwidth::MAX;
    }
    c.check()?;
    Ok(c)
}

fn packets(words: &mut Words<'_>, key: &str) -> Result<u32, ConfigError> {
    let word = words.value(key)?;
    count(key, word.strip_suffix('p').unwrap_or(word))
}

const NETEM_KEYS: &str = "limit, delay, distribution, loss, duplicate, corrupt, reorder, gap, rate, ecn, seed";

fn netem(mut words: Words<'_>) -> Result<NetemConfig, ConfigError> {
    let mut c = NetemConfig::default();
    while let Some(key) = words.next() {
        match key {
            "limit" => c.limit = packets(&mut words, key)?,
            "delay" | "latency" => {
                c.delay = time(key, words.value(key)?)?;
                if let Some(w) = words.number() {
                    c.jitter = time("delay (jitter)", w)?;
                    if let Some(w) = words.number() {
                        c.delay_correlation = percent("delay (correlation)", w)?;
                    }
                }
            }
            "distribution" => c.distribution = distribution(words.value(key)?)?,
            "loss" | "drop" => c.loss = loss(&mut words, key)?,
            "duplicate" => c.duplicate = words.chance(key)?,
            "corrupt" => c.corrupt = words.chance(key)?,
            "reorder" => {
                c.reorder = words.chance(key)?;
                c.gap = c.gap.max(1);
            }
            "gap" => c.gap = count(key, words.value(key)?)?,
            "rate" => {
                c.rate = rate(key, words.value(key)?)?;
                if let Some(w) = words.number() {
                    c.packet_overhead = w.parse().map_err(|_| ConfigError::BadValue {
                        key: "rate (packet overhead)".to_owned(),
                        value: w.to_owned(),
                        want: "a whole number of bytes",
                    })?;
                }
            }
            "ecn" => c.ecn = true,
            "seed" => {
                let w = words.value(key)?;
                c.seed = Some(w.parse().map_err(|_| ConfigError::BadValue {
                    key: key.to_owned(),
                    value: w.to_owned(),
                    want: "a whole number below 2^64",
                })?);
            }
            _ => return Err(ConfigError::UnknownKey { kind: "netem", key: key.to_owned(), want: NETEM_KEYS }),
        }
    }
    if c.reorder.percent > 0.0 && c.delay.is_zero() {
        return Err(ConfigError::Inconsistent {
            kind: "netem",
            text: "reorder without delay has nothing to overtake; want e.g. delay 10ms reorder 25%",
        });
    }
    Ok(c)
}

fn distribution(word: &str) -> Result<Distribution, ConfigError> {
    let all = [Distribution::Uniform, Distribution::Normal, Distribution::Pareto, Distribution::ParetoNormal];
    all.into_iter().find(|d| d.name() == word).ok_or_else(|| ConfigError::BadValue {
        key: "distribution".to_owned(),
        value: word.to_owned(),
        want: "one of uniform, normal, pareto, paretonormal",
    })
}

fn loss(words: &mut Words<'_>, key: &str) -> Result<Loss, ConfigError> {
    let model = words.0.next_if(|w| matches!(*w, "random" | "state" | "gemodel"));
    let mut list = |defaults: &[f64]| -> Result<Vec<f64>, ConfigError> {
        let mut out = vec![percent(key, words.value(key)?)?];
        while out.len() < defaults.len() {
            match words.number() {
                Some(w) => out.push(percent(key, w)?),
                // Parameters left out take tc's defaults; a NaN stands for "1 - p".
                None => out.extend_from_slice(&defaults[out.len()..]),
            }
        }
        Ok(out.iter().map(|v| if v.is_nan() { 100.0 - out[0] } else { *v }).collect())
    };
    Ok(match model {
        Some("state") => {
            let v = list(&[0.0, f64::NAN, 0.0, 100.0, 0.0])?;
            Loss::State([v[0], v[1], v[2], v[3], v[4]])
        }
        Some("gemodel") => {
            let v = list(&[0.0, f64::NAN, 100.0, 0.0])?;
            Loss::Gemodel([v[0], v[1], v[2], v[3]])
        }
        _ => Loss::Random(words.chance(key)?),
    })
}

const TBF_KEYS: &str = "rate, burst, limit, latency, peakrate, mtu";

fn tbf(mut words: Words<'_>) -> Result<TbfConfig, ConfigError> {
    let mut c = TbfConfig { rate: Bandwidth::ZERO, burst: 0, limit: 0, peakrate: Bandwidth::ZERO, mtu: 2000 };
    let mut latency: Option<Duration> = None;
    while let Some(key) = words.next() {
        match key {
            "rate" => c.rate = rate(key, words.value(key)?)?,
            "burst" | "buffer" | "maxburst" => c.burst = size(key, words.value(key)?)?,
            "limit" => c.limit = size(key, words.value(key)?)?,
            "latency" => latency = Some(time(key, words.value(key)?)?),
            "peakrate" => c.peakrate = rate(key, words.value(key)?)?,
            "mtu" | "minburst" => c.mtu = size(key, words.value(key)?)?,
            _ => return Err(ConfigError::UnknownKey { kind: "tbf", key: key.to_owned(), want: TBF_KEYS }),
        }
    }
    if let Some(latency) = latency {
        // tc-tbf(8): latency is the longest time a packet can sit in the queue: limit = rate * latency + burst.
        c.limit = (c.rate.bytes_in(latency) + u64::from(c.burst)).min(u64::from(u32::MAX)) as u32;
    }
    c.check()?;
    Ok(c)
}

impl TbfConfig {
    /// Whether the parameters make sense.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |text| Err(ConfigError::Inconsistent { kind: "tbf", text });
        if self.rate.is_zero() {
            return wrong("rate is missing; want e.g. rate 10mbit burst 32k latency 50ms");
        }
        if self.burst == 0 {
            return wrong("burst is missing; want at least one frame, e.g. burst 32k");
        }
        if self.limit == 0 {
            return wrong("limit or latency is missing; want e.g. latency 50ms");
        }
        if !self.peakrate.is_zero() && self.peakrate <= self.rate {
            return wrong("peakrate must be above rate");
        }
        Ok(())
    }
}
