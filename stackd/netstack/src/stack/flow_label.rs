//! IPv6 flow labels (RFC 6437): routers that spread flows over several paths tell them apart by the label, without looking for ports.

use stackd_wire::ipv6::FLOW_LABEL_MASK;

/// `net.ipv6.auto_flowlabels`: who gets labels by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum AutoFlowLabels {
    /// Nobody.
    Off = 0,
    /// Every socket that does not say no (`IPV6_AUTOFLOWLABEL`).
    #[default]
    OptOut = 1,
    /// Every socket that says yes.
    OptIn = 2,
    /// Every socket.
    Forced = 3,
}

impl AutoFlowLabels {
    /// By the sysctl's value.
    pub fn from_int(n: i64) -> Self {
        match n {
            0 => Self::Off,
            2 => Self::OptIn,
            3 => Self::Forced,
            _ => Self::OptOut,
        }
    }
    /// `IPV6_AUTOFLOWLABEL` as a socket reads it that said `own`.
    pub fn of_socket(self, own: Option<bool>) -> bool {
        own.unwrap_or(matches!(self, Self::OptOut | Self::Forced))
    }

    /// The label of such a socket's packets, whose flow has this hash (RFC 6437, 3: "chosen from an approximation to a discrete uniform
    /// distribution"); 0: none.
    pub fn label(self, own: Option<bool>, hash: impl FnOnce() -> u64) -> u32 {
        if self == Self::Off || self != Self::Forced && !self.of_socket(own) {
            return 0;
        }
        let hash = hash();
        (hash ^ hash >> 32) as u32 & FLOW_LABEL_MASK
    }
}

/// The hash of a connection whose path was suspected so many times: another label then, and with it perhaps another path (RFC 6438).
pub fn rehashed(flow_hash: u64, times: u32) -> u64 {
    flow_hash.wrapping_add(u64::from(times).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_wants_a_label_has_one() {
        let hash = || 0x1234_5678_9abc_def0;
        for (mode, unsaid, no, yes) in
            [(0, false, false, false), (1, true, false, true), (2, false, false, true), (3, true, true, true)]
        {
            let labels =
                [None, Some(false), Some(true)].map(|own| AutoFlowLabels::from_int(mode).label(own, hash) != 0);
            assert_eq!(labels, [unsaid, no, yes], "{mode}");
        }
        let label = |times| AutoFlowLabels::OptOut.label(None, || rehashed(hash(), times));
        assert!(label(0) <= FLOW_LABEL_MASK && label(0) != label(1));
    }
}
