//! Why a packet was dropped: exactly one reason each.

macro_rules! reasons {
    ($($name:ident, $doc:literal;)*) => {
        /// Why a packet was dropped. Every packet that a stack gives up has exactly one of these, counted once.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $doc] $name,)* }

        impl DropReason {
            /// Every reason, in counter order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The name shown by `netctl nstat --drops`.
            pub const fn name(self) -> &'static str { match self { $(Self::$name => stringify!($name),)* } }
            /// One sentence for operators.
            pub const fn text(self) -> &'static str { match self { $(Self::$name => $doc,)* } }
        }
    };
}

reasons! {
    EthTooShort, "Frame shorter than an Ethernet header.";
    EthNotForUs, "Destination MAC address is neither ours nor a group we belong to.";
    EthUnknownType, "EtherType is neither IPv4, IPv6 nor ARP.";
    ArpInvalid, "Malformed ARP packet.";
    ArpNotForUs, "ARP for an address that is not ours.";
    IpHeaderInvalid, "IPv4 or IPv6 header too short, of the wrong version, or with inconsistent lengths.";
    IpChecksum, "IPv4 header checksum is wrong.";
    IpMartian, "Source address that cannot be a source (multicast, broadcast, loopback from outside).";
    IpNotForUs, "Destination is not one of our addresses and this stack does not forward.";
    IpUnknownProtocol, "No handler for the IP protocol number.";
    IpTtlExpired, "TTL or hop limit is zero.";
    IpMinTtl, "TTL or hop limit below what the socket accepts (IP_MINTTL, IPV6_MINHOPCOUNT).";
    IpFragmentTimeout, "Reassembly timed out.";
    IpFragmentInvalid, "Overlapping, oversized or misaligned fragment.";
    IpFragmentEcn, "Fragments of one packet whose ECN codepoints contradict each other.";
    IpFragmentMemory, "Reassembly memory limit reached.";
    IpExtensionInvalid, "Malformed IPv6 extension header.";
    IpNoRoute, "No route to the destination.";
    IpNoSource, "No usable source address.";
    IpTooBig, "Larger than the path MTU and not allowed to be fragmented.";
    NeighUnresolved, "Neighbour did not answer address resolution.";
    NeighQueueFull, "Too many packets wait for address resolution.";
    IcmpInvalid, "Malformed ICMP message or wrong ICMP checksum.";
    IcmpUnsolicited, "ICMP error that matches none of our flows, or whose sequence number lies outside the window.";
    IcmpIgnored, "ICMP type that this stack ignores by policy.";
    IgmpInvalid, "IGMP or MLD message that is malformed, or did not come from this link.";
    DadFailed, "Duplicate address detection: somebody else has the address.";
    RedirectInvalid, "ICMP redirect that is not from the present gateway, or names none of the link.";
    NdpInvalid, "Neighbour discovery message violates RFC 4861's checks.";
    UdpInvalid, "UDP header inconsistent with the packet.";
    UdpChecksum, "UDP checksum is wrong.";
    UdpNoSocket, "No UDP socket bound to the port.";
    UdpRcvBuf, "UDP socket's receive buffer is full.";
    TcpInvalid, "TCP header or options inconsistent with the packet.";
    TcpChecksum, "TCP checksum is wrong.";
    TcpNoSocket, "No TCP socket matches: answered with RST.";
    TcpMd5NotFound, "TCP-MD5 expected from this peer, and the segment has none.";
    TcpMd5Unexpected, "TCP-MD5 from a peer for whom there is no key.";
    TcpMd5Failure, "TCP-MD5 digest is wrong.";
    TcpAoRequired, "TCP-AO expected from this peer, and the segment has none.";
    TcpAoKeyNotFound, "TCP-AO with a key that there is not.";
    TcpAoFailure, "TCP-AO MAC is wrong.";
    TcpListenOverflow, "Accept queue of the listener is full.";
    TcpSynOverflow, "SYN queue of the listener is full.";
    TcpFlags, "Flags that make no sense in this state.";
    TcpOldSequence, "Segment lies wholly before the receive window.";
    TcpOutOfWindow, "Segment lies outside the receive window.";
    TcpOldAck, "Acknowledges data older than the largest window ever seen.";
    TcpUnsentAck, "Acknowledges data that was never sent.";
    TcpPaws, "Timestamp older than the last one seen (RFC 7323, PAWS).";
    TcpRcvBuf, "Beyond the receive buffer's memory.";
    TcpOfoPrune, "Out-of-order data discarded under memory pressure.";
    TcpRepair, "For a connection under repair (TCP_REPAIR), which stands still.";
    TcpAbort, "Data for a connection that the application already closed.";
    TcpTimeWait, "Not acceptable in TIME_WAIT.";
    TcpReset, "RST not acceptable (RFC 5961): answered by a challenge ACK or ignored.";
    TcpStaleTransmit, "Queued (re)transmission whose bytes were acknowledged before it left.";
    SocketClosed, "The socket went away while the packet was queued.";
    QdiscLimit, "Queue limit of the qdisc reached.";
    QdiscFlowLimit, "Per-flow limit of fq reached.";
    QdiscHorizon, "Departure time beyond fq's horizon.";
    QdiscReplaced, "The new qdisc could not hold it.";
    EmulatedLoss, "netem or the emulator decided so.";
    DeviceDown, "The interface is down.";
    DeviceTxError, "The device refused the frame.";
    DeviceRxInvalid, "The device handed up a frame that was cut off, or whose offload header contradicts it.";
    DeviceTooBig, "Larger than the device's MTU and not segmentable.";
    ShardHandoverFull, "The ring to the shard that owns the flow was full.";
    NoMemory, "Memory limit (net.ipv4.tcp_mem, quota) reached.";
}

/// One counter a reason.
#[derive(Clone, Debug)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounters {
    /// Counts one packet.
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }
    /// Packets dropped for `reason` so far.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }
    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.get(r)))
    }
    /// All dropped packets.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let mut c = DropCounters::default();
        for &r in DropReason::ALL {
            c.count(r);
        }
        assert!(c.iter().all(|(_, n)| n == 1));
        assert_eq!(c.total() as usize, DropReason::ALL.len());
    }
}
