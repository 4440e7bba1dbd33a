//! Counters, with the names and meanings of `tc -s qdisc`.

/// `struct gnet_stats_basic` and `gnet_stats_queue`, and what the kind adds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QdiscStats {
    /// Bytes that left.
    pub bytes: u64,
    /// Packets that left, segments of GSO packets counted singly.
    pub packets: u64,
    /// Packets given up.
    pub drops: u64,
    /// Times that a packet had to wait for tokens or time.
    pub overlimits: u64,
    /// Packets put back.
    pub requeues: u64,
    /// Bytes in the queue.
    pub backlog: u64,
    /// Packets in the queue.
    pub qlen: u64,
    /// What only this kind counts.
    pub kind: KindStats,
}

/// Counters of one kind of qdisc.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum KindStats {
    /// Nothing more.
    #[default]
    None,
    /// fq's.
    Fq(FqStats),
}

/// `struct tc_fq_qd_stats`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FqStats {
    /// Idle flows forgotten.
    pub gc_flows: u64,
    /// Packets that went through the control queue.
    pub highprio_packets: u64,
    /// Times a flow was throttled.
    pub throttled: u64,
    /// Packets dropped for `flow_limit`.
    pub flows_plimit: u64,
    /// Packets whose transmission at the flow's rate would take over a second.
    pub pkts_too_long: u64,
    /// Flows that could not be allocated.
    pub allocation_errors: u64,
    /// When the next throttled flow may send, in nanoseconds of the stack's clock; 0: none is throttled.
    pub time_next_delayed_flow: u64,
    /// Flows known.
    pub flows: u32,
    /// Of them without packets.
    pub inactive_flows: u32,
    /// Of them waiting for their time.
    pub throttled_flows: u32,
    /// How late throttled flows are released, smoothed, nanoseconds.
    pub unthrottle_latency_ns: u64,
    /// Packets marked CE.
    pub ce_mark: u64,
    /// Packets dropped for the horizon.
    pub horizon_drops: u64,
    /// Packets whose departure was cut to the horizon.
    pub horizon_caps: u64,
}

impl QdiscStats {
    /// A packet came in.
    pub(crate) const fn queued(&mut self, bytes: u32) {
        self.backlog += bytes as u64;
        self.qlen += 1;
    }
    /// A queued packet left the queue without being sent.
    pub(crate) const fn removed(&mut self, bytes: u32) {
        self.backlog = self.backlog.saturating_sub(bytes as u64);
        self.qlen = self.qlen.saturating_sub(1);
    }
    /// A queued packet left.
    pub(crate) const fn sent(&mut self, bytes: u32, segments: u32) {
        self.removed(bytes);
        self.bytes += bytes as u64;
        self.packets += segments as u64;
    }
}
