//! Linux's MIB counters, by Linux's names (`nstat -az`).

macro_rules! mib {
    ($($group:literal { $($variant:ident = $name:literal,)* })*) => {
        /// One counter of Linux's SNMP MIBs. `name()` is what `nstat` prints.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u16)]
        #[allow(missing_docs)]
        pub enum Mib { $($($variant,)*)* }

        impl Mib {
            /// Every counter, in the order `nstat` prints them.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];
            /// The name `nstat` prints: group and counter run together.
            pub const fn name(self) -> &'static str { match self { $($(Self::$variant => concat!($group, $name),)*)* } }
        }
    };
}

mib! {
    "Ip" {
        IpInReceives = "InReceives",
        IpInHdrErrors = "InHdrErrors",
        IpInAddrErrors = "InAddrErrors",
        IpInUnknownProtos = "InUnknownProtos",
        IpInDiscards = "InDiscards",
        IpInDelivers = "InDelivers",
        IpOutRequests = "OutRequests",
        IpOutDiscards = "OutDiscards",
        IpOutNoRoutes = "OutNoRoutes",
        IpReasmTimeout = "ReasmTimeout",
        IpReasmReqds = "ReasmReqds",
        IpReasmOKs = "ReasmOKs",
        IpReasmFails = "ReasmFails",
        IpFragOKs = "FragOKs",
        IpFragFails = "FragFails",
        IpFragCreates = "FragCreates",
    }
    "Ip6" {
        Ip6InReceives = "InReceives",
        Ip6InHdrErrors = "InHdrErrors",
        Ip6InTooBigErrors = "InTooBigErrors",
        Ip6InNoRoutes = "InNoRoutes",
        Ip6InAddrErrors = "InAddrErrors",
        Ip6InUnknownProtos = "InUnknownProtos",
        Ip6InTruncatedPkts = "InTruncatedPkts",
        Ip6InDiscards = "InDiscards",
        Ip6InDelivers = "InDelivers",
        Ip6OutRequests = "OutRequests",
        Ip6OutDiscards = "OutDiscards",
        Ip6OutNoRoutes = "OutNoRoutes",
        Ip6ReasmTimeout = "ReasmTimeout",
        Ip6ReasmReqds = "ReasmReqds",
        Ip6ReasmOKs = "ReasmOKs",
        Ip6ReasmFails = "ReasmFails",
        Ip6FragOKs = "FragOKs",
        Ip6FragFails = "FragFails",
        Ip6FragCreates = "FragCreates",
        Ip6InMcastPkts = "InMcastPkts",
        Ip6OutMcastPkts = "OutMcastPkts",
        Ip6InOctets = "InOctets",
        Ip6OutOctets = "OutOctets",
    }
    "Icmp" {
        IcmpInMsgs = "InMsgs",
        IcmpInErrors = "InErrors",
        IcmpInCsumErrors = "InCsumErrors",
        IcmpInDestUnreachs = "InDestUnreachs",
        IcmpInTimeExcds = "InTimeExcds",
        IcmpInParmProbs = "InParmProbs",
        IcmpInRedirects = "InRedirects",
        IcmpInEchos = "InEchos",
        IcmpInEchoReps = "InEchoReps",
        IcmpOutMsgs = "OutMsgs",
        IcmpOutErrors = "OutErrors",
        IcmpOutDestUnreachs = "OutDestUnreachs",
        IcmpOutTimeExcds = "OutTimeExcds",
        IcmpOutParmProbs = "OutParmProbs",
        IcmpOutEchos = "OutEchos",
        IcmpOutEchoReps = "OutEchoReps",
        IcmpOutRateLimitGlobal = "OutRateLimitGlobal",
        IcmpOutRateLimitHost = "OutRateLimitHost",
    }
    "Icmp6" {
        Icmp6InMsgs = "InMsgs",
        Icmp6InErrors = "InErrors",
        Icmp6InCsumErrors = "InCsumErrors",
        Icmp6InDestUnreachs = "InDestUnreachs",
        Icmp6InPktTooBigs = "InPktTooBigs",
        Icmp6InTimeExcds = "InTimeExcds",
        Icmp6InParmProblems = "InParmProblems",
        Icmp6InEchos = "InEchos",
        Icmp6InEchoReplies = "InEchoReplies",
        Icmp6InRouterAdvertisements = "InRouterAdvertisements",
        Icmp6InRedirects = "InRedirects",
        Icmp6InGroupMembQueries = "InGroupMembQueries",
        Icmp6InGroupMembResponses = "InGroupMembResponses",
        Icmp6OutGroupMembResponses = "OutGroupMembResponses",
        Icmp6OutGroupMembReductions = "OutGroupMembReductions",
        Icmp6OutMLDv2Reports = "OutMLDv2Reports",
        Icmp6InNeighborSolicits = "InNeighborSolicits",
        Icmp6InNeighborAdvertisements = "InNeighborAdvertisements",
        Icmp6OutMsgs = "OutMsgs",
        Icmp6OutDestUnreachs = "OutDestUnreachs",
        Icmp6OutTimeExcds = "OutTimeExcds",
        Icmp6OutParmProblems = "OutParmProblems",
        Icmp6OutRateLimitHost = "OutRateLimitHost",
        Icmp6OutEchoReplies = "OutEchoReplies",
        Icmp6OutRouterSolicits = "OutRouterSolicits",
        Icmp6OutNeighborSolicits = "OutNeighborSolicits",
        Icmp6OutNeighborAdvertisements = "OutNeighborAdvertisements",
    }
    "Udp" {
        UdpInDatagrams = "InDatagrams",
        UdpNoPorts = "NoPorts",
        UdpInErrors = "InErrors",
        UdpOutDatagrams = "OutDatagrams",
        UdpRcvbufErrors = "RcvbufErrors",
        UdpSndbufErrors = "SndbufErrors",
        UdpInCsumErrors = "InCsumErrors",
        UdpIgnoredMulti = "IgnoredMulti",
    }
    "Udp6" {
        Udp6InDatagrams = "InDatagrams",
        Udp6NoPorts = "NoPorts",
        Udp6InErrors = "InErrors",
        Udp6OutDatagrams = "OutDatagrams",
        Udp6RcvbufErrors = "RcvbufErrors",
        Udp6SndbufErrors = "SndbufErrors",
        Udp6InCsumErrors = "InCsumErrors",
        Udp6IgnoredMulti = "IgnoredMulti",
    }
    "Tcp" {
        TcpActiveOpens = "ActiveOpens",
        TcpPassiveOpens = "PassiveOpens",
        TcpAttemptFails = "AttemptFails",
        TcpEstabResets = "EstabResets",
        TcpCurrEstab = "CurrEstab",
        TcpInSegs = "InSegs",
        TcpOutSegs = "OutSegs",
        TcpRetransSegs = "RetransSegs",
        TcpInErrs = "InErrs",
        TcpOutRsts = "OutRsts",
        TcpInCsumErrors = "InCsumErrors",
    }
    "TcpExt" {
        TcpExtSyncookiesSent = "SyncookiesSent",
        TcpExtSyncookiesRecv = "SyncookiesRecv",
        TcpExtSyncookiesFailed = "SyncookiesFailed",
        TcpExtEmbryonicRsts = "EmbryonicRsts",
        TcpExtPruneCalled = "PruneCalled",
        TcpExtRcvPruned = "RcvPruned",
        TcpExtOfoPruned = "OfoPruned",
        TcpExtOutOfWindowIcmps = "OutOfWindowIcmps",
        TcpExtLockDroppedIcmps = "LockDroppedIcmps",
        TcpExtTW = "TW",
        TcpExtTWRecycled = "TWRecycled",
        TcpExtTWKilled = "TWKilled",
        TcpExtPAWSActive = "PAWSActive",
        TcpExtPAWSEstab = "PAWSEstab",
        TcpExtDelayedACKs = "DelayedACKs",
        TcpExtDelayedACKLocked = "DelayedACKLocked",
        TcpExtDelayedACKLost = "DelayedACKLost",
        TcpExtListenOverflows = "ListenOverflows",
        TcpExtListenDrops = "ListenDrops",
        TcpExtTCPHPHits = "TCPHPHits",
        TcpExtTCPPureAcks = "TCPPureAcks",
        TcpExtTCPHPAcks = "TCPHPAcks",
        TcpExtTCPRenoRecovery = "TCPRenoRecovery",
        TcpExtTCPSackRecovery = "TCPSackRecovery",
        TcpExtTCPSACKReneging = "TCPSACKReneging",
        TcpExtTCPSACKReorder = "TCPSACKReorder",
        TcpExtTCPRenoReorder = "TCPRenoReorder",
        TcpExtTCPTSReorder = "TCPTSReorder",
        TcpExtTCPFullUndo = "TCPFullUndo",
        TcpExtTCPPartialUndo = "TCPPartialUndo",
        TcpExtTCPDSACKUndo = "TCPDSACKUndo",
        TcpExtTCPLossUndo = "TCPLossUndo",
        TcpExtTCPLostRetransmit = "TCPLostRetransmit",
        TcpExtTCPRenoFailures = "TCPRenoFailures",
        TcpExtTCPSackFailures = "TCPSackFailures",
        TcpExtTCPLossFailures = "TCPLossFailures",
        TcpExtTCPFastRetrans = "TCPFastRetrans",
        TcpExtTCPSlowStartRetrans = "TCPSlowStartRetrans",
        TcpExtTCPTimeouts = "TCPTimeouts",
        TcpExtTCPLossProbes = "TCPLossProbes",
        TcpExtTCPLossProbeRecovery = "TCPLossProbeRecovery",
        TcpExtTCPRenoRecoveryFail = "TCPRenoRecoveryFail",
        TcpExtTCPSackRecoveryFail = "TCPSackRecoveryFail",
        TcpExtTCPRcvCollapsed = "TCPRcvCollapsed",
        TcpExtTCPBacklogCoalesce = "TCPBacklogCoalesce",
        TcpExtTCPDSACKOldSent = "TCPDSACKOldSent",
        TcpExtTCPDSACKOfoSent = "TCPDSACKOfoSent",
        TcpExtTCPDSACKRecv = "TCPDSACKRecv",
        TcpExtTCPDSACKOfoRecv = "TCPDSACKOfoRecv",
        TcpExtTCPAbortOnData = "TCPAbortOnData",
        TcpExtTCPAbortOnClose = "TCPAbortOnClose",
        TcpExtTCPAbortOnMemory = "TCPAbortOnMemory",
        TcpExtTCPAbortOnTimeout = "TCPAbortOnTimeout",
        TcpExtTCPAbortOnLinger = "TCPAbortOnLinger",
        TcpExtTCPAbortFailed = "TCPAbortFailed",
        TcpExtTCPMemoryPressures = "TCPMemoryPressures",
        TcpExtTCPMemoryPressuresChrono = "TCPMemoryPressuresChrono",
        TcpExtTCPSACKDiscard = "TCPSACKDiscard",
        TcpExtTCPDSACKIgnoredOld = "TCPDSACKIgnoredOld",
        TcpExtTCPDSACKIgnoredNoUndo = "TCPDSACKIgnoredNoUndo",
        TcpExtTCPSpuriousRTOs = "TCPSpuriousRTOs",
        TcpExtTCPMD5NotFound = "TCPMD5NotFound",
        TcpExtTCPMD5Unexpected = "TCPMD5Unexpected",
        TcpExtTCPMD5Failure = "TCPMD5Failure",
        TcpExtTCPSackShifted = "TCPSackShifted",
        TcpExtTCPSackMerged = "TCPSackMerged",
        TcpExtTCPBacklogDrop = "TCPBacklogDrop",
        TcpExtPFMemallocDrop = "PFMemallocDrop",
        TcpExtTCPMinTTLDrop = "TCPMinTTLDrop",
        TcpExtTCPDeferAcceptDrop = "TCPDeferAcceptDrop",
        TcpExtIPReversePathFilter = "IPReversePathFilter",
        TcpExtTCPTimeWaitOverflow = "TCPTimeWaitOverflow",
        TcpExtTCPReqQFullDoCookies = "TCPReqQFullDoCookies",
        TcpExtTCPReqQFullDrop = "TCPReqQFullDrop",
        TcpExtTCPRetransFail = "TCPRetransFail",
        TcpExtTCPRcvCoalesce = "TCPRcvCoalesce",
        TcpExtTCPOFOQueue = "TCPOFOQueue",
        TcpExtTCPOFODrop = "TCPOFODrop",
        TcpExtTCPOFOMerge = "TCPOFOMerge",
        TcpExtTCPChallengeACK = "TCPChallengeACK",
        TcpExtTCPSYNChallenge = "TCPSYNChallenge",
        TcpExtTCPFastOpenActive = "TCPFastOpenActive",
        TcpExtTCPFastOpenActiveFail = "TCPFastOpenActiveFail",
        TcpExtTCPFastOpenPassive = "TCPFastOpenPassive",
        TcpExtTCPFastOpenPassiveFail = "TCPFastOpenPassiveFail",
        TcpExtTCPFastOpenListenOverflow = "TCPFastOpenListenOverflow",
        TcpExtTCPFastOpenCookieReqd = "TCPFastOpenCookieReqd",
        TcpExtTCPFastOpenBlackhole = "TCPFastOpenBlackhole",
        TcpExtTCPSpuriousRtxHostQueues = "TCPSpuriousRtxHostQueues",
        TcpExtTCPAutoCorking = "TCPAutoCorking",
        TcpExtTCPFromZeroWindowAdv = "TCPFromZeroWindowAdv",
        TcpExtTCPToZeroWindowAdv = "TCPToZeroWindowAdv",
        TcpExtTCPWantZeroWindowAdv = "TCPWantZeroWindowAdv",
        TcpExtTCPSynRetrans = "TCPSynRetrans",
        TcpExtTCPOrigDataSent = "TCPOrigDataSent",
        TcpExtTCPHystartTrainDetect = "TCPHystartTrainDetect",
        TcpExtTCPHystartTrainCwnd = "TCPHystartTrainCwnd",
        TcpExtTCPHystartDelayDetect = "TCPHystartDelayDetect",
        TcpExtTCPHystartDelayCwnd = "TCPHystartDelayCwnd",
        TcpExtTCPACKSkippedSynRecv = "TCPACKSkippedSynRecv",
        TcpExtTCPACKSkippedPAWS = "TCPACKSkippedPAWS",
        TcpExtTCPACKSkippedSeq = "TCPACKSkippedSeq",
        TcpExtTCPACKSkippedFinWait2 = "TCPACKSkippedFinWait2",
        TcpExtTCPACKSkippedTimeWait = "TCPACKSkippedTimeWait",
        TcpExtTCPACKSkippedChallenge = "TCPACKSkippedChallenge",
        TcpExtTCPWinProbe = "TCPWinProbe",
        TcpExtTCPKeepAlive = "TCPKeepAlive",
        TcpExtTCPMTUPFail = "TCPMTUPFail",
        TcpExtTCPMTUPSuccess = "TCPMTUPSuccess",
        TcpExtTCPDelivered = "TCPDelivered",
        TcpExtTCPDeliveredCE = "TCPDeliveredCE",
        TcpExtTCPAckCompressed = "TCPAckCompressed",
        TcpExtTCPZeroWindowDrop = "TCPZeroWindowDrop",
        TcpExtTCPRcvQDrop = "TCPRcvQDrop",
        TcpExtTCPWqueueTooBig = "TCPWqueueTooBig",
        TcpExtTCPFastOpenPassiveAltKey = "TCPFastOpenPassiveAltKey",
        TcpExtTcpTimeoutRehash = "TcpTimeoutRehash",
        TcpExtTcpDuplicateDataRehash = "TcpDuplicateDataRehash",
        TcpExtTCPDSACKRecvSegs = "TCPDSACKRecvSegs",
        TcpExtTCPDSACKIgnoredDubious = "TCPDSACKIgnoredDubious",
        TcpExtTCPMigrateReqSuccess = "TCPMigrateReqSuccess",
        TcpExtTCPMigrateReqFailure = "TCPMigrateReqFailure",
        TcpExtTCPAORequired = "TCPAORequired",
        TcpExtTCPAOBad = "TCPAOBad",
        TcpExtTCPAOKeyNotFound = "TCPAOKeyNotFound",
        TcpExtTCPAOGood = "TCPAOGood",
        TcpExtTCPAODroppedIcmps = "TCPAODroppedIcmps",
    }
    "IpExt" {
        IpExtInNoRoutes = "InNoRoutes",
        IpExtInMcastPkts = "InMcastPkts",
        IpExtOutMcastPkts = "OutMcastPkts",
        IpExtInBcastPkts = "InBcastPkts",
        IpExtOutBcastPkts = "OutBcastPkts",
        IpExtInOctets = "InOctets",
        IpExtOutOctets = "OutOctets",
        IpExtInNoECTPkts = "InNoECTPkts",
        IpExtInECT1Pkts = "InECT1Pkts",
        IpExtInECT0Pkts = "InECT0Pkts",
        IpExtInCEPkts = "InCEPkts",
    }
}

/// A counter with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MibEntry {
    /// Which.
    pub mib: Mib,
    /// How much.
    pub value: u64,
}

/// All counters of a stack.
#[derive(Clone, Debug)]
pub struct MibCounters([u64; Mib::ALL.len()]);

impl Default for MibCounters {
    fn default() -> Self {
        Self([0; Mib::ALL.len()])
    }
}

impl MibCounters {
    /// Adds one.
    pub fn inc(&mut self, mib: Mib) {
        self.add(mib, 1);
    }
    /// Adds `n`.
    pub fn add(&mut self, mib: Mib, n: u64) {
        self.0[mib as usize] = self.0[mib as usize].wrapping_add(n);
    }
    /// Takes one away from a gauge (`TcpCurrEstab`).
    pub fn dec(&mut self, mib: Mib) {
        self.0[mib as usize] = self.0[mib as usize].saturating_sub(1);
    }
    /// The current value.
    pub fn get(&self, mib: Mib) -> u64 {
        self.0[mib as usize]
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = MibEntry> + '_ {
        Mib::ALL.iter().map(|&mib| MibEntry { mib, value: self.get(mib) })
    }
    /// Adds another stack's counters: the sum over shards.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a = a.wrapping_add(*b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_linux_names_and_unique() {
        assert_eq!(Mib::TcpExtTCPLossProbes.name(), "TcpExtTCPLossProbes");
        let mut names: Vec<_> = Mib::ALL.iter().map(|m| m.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Mib::ALL.len());
    }
}
