//! Random but repeatable scenarios: a seed says who talks to whom, over what, how they behave, and everything that goes wrong.
//!
//! Each ingredient has a label and its own randomness. Taken out ([`Reduction`]), it leaves the others as they were: that is what makes
//! shrinking a failure possible.

mod campaign;
mod generate;
mod kinds;
mod run;
mod shrink;
mod tuning;

pub use campaign::{Campaign, Found, campaign};
pub use kinds::{BoxKind, Flow, FlowEnd, Impairment, Kind};
pub use run::{Verdict, describe};
pub use shrink::shrink;
pub use tuning::{Side, Tuning};

use stackd_base::{Bandwidth, Duration, SplitMix64};
use std::collections::BTreeSet;

/// What happens.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// What it was made from.
    pub seed: u64,
    /// IPv6.
    pub v6: bool,
    /// Rate of the shared bottleneck, both directions.
    pub rate: Bandwidth,
    /// Round trip without queues.
    pub rtt: Duration,
    /// Hosts to the left, which connect.
    pub clients: u8,
    /// Hosts to the right, which listen.
    pub servers: u8,
    /// MTU of the hosts' interfaces: clients', servers'.
    pub mtu: [u32; 2],
    /// What is wrong with the network.
    pub impairments: Vec<Impairment>,
    /// Sysctls, socket options, and what is changed while connections live.
    pub tunings: Vec<Tuning>,
    /// Who talks to whom.
    pub flows: Vec<Flow>,
    /// Nothing excuses a flow that is not whole: many scenarios must then fail, which is what tests of shrinking want.
    pub expect_all_complete: bool,
}

/// What is taken out of a scenario.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reduction {
    /// Labels of impairments and tunings.
    pub without: BTreeSet<String>,
    /// Flows kept; `None`: all.
    pub flows: Option<BTreeSet<u16>>,
    /// No stream is longer.
    pub max_bytes: Option<u64>,
    /// No flow has more connections.
    pub max_connections: Option<u16>,
}

impl Reduction {
    /// As arguments of `stackd-sim scenario`.
    pub fn arguments(&self) -> String {
        let mut out = String::new();
        if !self.without.is_empty() {
            let labels: Vec<&str> = self.without.iter().map(String::as_str).collect();
            out += &format!(" --without {}", labels.join(","));
        }
        if let Some(flows) = &self.flows {
            let flows: Vec<String> = flows.iter().map(u16::to_string).collect();
            out += &format!(" --flows {}", flows.join(","));
        }
        if let Some(n) = self.max_bytes {
            out += &format!(" --max-bytes {n}");
        }
        if let Some(n) = self.max_connections {
            out += &format!(" --max-connections {n}");
        }
        out
    }
}

impl Scenario {
    /// Labels of everything that can be taken out.
    pub fn labels(&self) -> Vec<String> {
        let impairments = self.impairments.iter().map(|i| String::from(i.label));
        impairments.chain(self.tunings.iter().map(|t| t.label.clone())).collect()
    }

    /// Without what `r` takes out.
    #[must_use]
    pub fn reduced(&self, r: &Reduction) -> Self {
        let mut s = self.clone();
        s.impairments.retain(|i| !r.without.contains(i.label));
        s.tunings.retain(|t| !r.without.contains(&t.label));
        if let Some(keep) = &r.flows {
            s.flows.retain(|f| keep.contains(&f.id));
        }
        for f in &mut s.flows {
            f.connections = f.connections.min(r.max_connections.unwrap_or(u16::MAX));
            let most = r.max_bytes.unwrap_or(u64::MAX);
            for plan in [&mut f.client, &mut f.server] {
                plan.writing.total = plan.writing.total.min(most);
            }
        }
        s
    }

    /// The line that runs this again.
    pub fn rerun(&self, r: &Reduction) -> String {
        format!("stackd-sim scenario --seed {}{}", self.seed, r.arguments())
    }
}

/// The randomness of one ingredient.
fn rng(seed: u64, label: &str) -> SplitMix64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for b in label.bytes() {
        h = (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    SplitMix64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ h)
}
