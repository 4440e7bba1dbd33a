//! Where a daemon answers otherwise than Linux on purpose, and why. `docs/guide/socket-options.md` is made from this.

/// One call of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Kind and state of the socket.
    pub subject: &'a str,
    /// What was asked.
    pub call: &'a str,
    /// What Linux said.
    pub linux: &'a str,
    /// What the daemon said.
    pub stackd: &'a str,
}

/// A difference.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The option.
    pub option: &'static str,
    /// Refused with ENOPROTOOPT altogether; else only some answers differ.
    pub refused: bool,
    /// Which answers may differ.
    pub only: fn(Case<'_>) -> bool,
    /// Why.
    pub why: &'static str,
}

const fn refused(option: &'static str, why: &'static str) -> Rule {
    Rule {
        option,
        refused: true,
        // A value that is too short for any option may be named as the reason first.
        only: |c| matches!(c.stackd, "ENOPROTOOPT" | "EOPNOTSUPP" | "EINVAL" | "not asked"),
        why,
    }
}

const fn differs(option: &'static str, only: fn(Case<'_>) -> bool, why: &'static str) -> Rule {
    Rule { option, refused: false, only, why }
}

const FILTERS: &str = "programs in the kernel that look at packets (BPF) have no place here";
const CONTROL_PLANE: &str = "concerns routers and raw sockets, not TCP or UDP sockets";
const V6_HEADERS: &str = "IPv6 extension headers are not handed to programs";
const TUNING: &str = "tunes how the kernel's drivers and softirqs work, which a daemon in user space does not have";
const NO_TIME: &str = "the bytes of a stream carry no receive time; datagrams do";
const METADATA: &str = "a label of the kernel's packet metadata";

/// Every difference.
pub const RULES: &[Rule] = &[
    // socket(7)
    refused("SO_ATTACH_FILTER", FILTERS),
    refused("SO_DETACH_FILTER", FILTERS),
    refused("SO_LOCK_FILTER", FILTERS),
    refused("SO_ATTACH_BPF", FILTERS),
    refused("SO_ATTACH_REUSEPORT_CBPF", FILTERS),
    refused("SO_ATTACH_REUSEPORT_EBPF", FILTERS),
    refused("SO_DETACH_REUSEPORT_BPF", FILTERS),
    refused("SO_BPF_EXTENSIONS", FILTERS),
    refused("SO_BUSY_POLL_BUDGET", TUNING),
    refused("SO_PREFER_BUSY_POLL", TUNING),
    refused("SO_INCOMING_CPU", TUNING),
    refused("SO_INCOMING_NAPI_ID", TUNING),
    refused("SO_CNX_ADVICE", TUNING),
    refused("SO_TXREHASH", TUNING),
    refused("SO_RESERVE_MEM", "reserves memory of a cgroup; a session has a quota instead"),
    refused("SO_BUF_LOCK", "buffers are fixed by SO_SNDBUF and SO_RCVBUF, and tuned otherwise"),
    refused("SO_DONTROUTE", "sending past the routing table is not offered"),
    refused("SO_NETNS_COOKIE", "there is one network per daemon"),
    refused("SO_NOFCS", "the frame check sequence is the device's"),
    refused("SO_WIFI_STATUS", "there is no wireless device"),
    refused("SO_PEERCRED", "belongs to AF_UNIX; Linux answers nobody's credentials"),
    refused("SO_PEERGROUPS", "belongs to AF_UNIX"),
    refused("SO_RCVMARK", METADATA),
    refused("SO_RCVPRIORITY", METADATA),
    refused("SO_RXQ_OVFL", "the count of dropped datagrams is in `ss -m`"),
    differs("SO_TIMESTAMP", stream, NO_TIME),
    differs("SO_TIMESTAMPNS", stream, NO_TIME),
    differs("SO_TIMESTAMP_NEW", stream, NO_TIME),
    differs("SO_TIMESTAMPNS_NEW", stream, NO_TIME),
    refused("SO_TIMESTAMPING", "the times of sends are not handed to programs; SO_TIMESTAMPNS tells those of receipt"),
    differs(
        "SO_BINDTOIFINDEX",
        |c| c.stackd == "ENODEV" || c.stackd == "not asked",
        "an interface that does not exist is refused, not kept for later",
    ),
    differs(
        "SO_SNDBUF",
        |c| connected(c) && c.call.starts_with("get"),
        "the buffer of a connection tunes itself by this stack's own measure",
    ),
    // tcp(7)
    refused("TCP_RTO_MIN_US", "set it for a route: `rto_min`"),
    refused("TCP_DELACK_MAX_US", "delayed ACKs adapt"),
    refused("TCP_TX_DELAY", "emulate a path with netem instead"),
    refused("TCP_ZEROCOPY_RECEIVE", "maps the kernel's pages; the client library reads in place with `read_with`"),
    differs(
        "TCP_FASTOPEN_KEY",
        |c| c.linux == "[]",
        "a daemon has a key from its start; Linux makes it when first needed",
    ),
    differs("TCP_FASTOPEN", closed, "a connection that was reset must be disconnected (AF_UNSPEC) first"),
    differs("TCP_FASTOPEN_CONNECT", closed, "a connection that was reset must be disconnected (AF_UNSPEC) first"),
    differs("TCP_FASTOPEN_NO_COOKIE", closed, "a connection that was reset must be disconnected (AF_UNSPEC) first"),
    differs("TCP_CC_INFO", |c| !connected(c), "empty before there is a connection"),
    differs("TCP_MAXSEG", connected, "Linux halves the MSS on its loopback to fit its first window"),
    differs("TCP_RTO_MAX_MS", |c| c.call.starts_with("get after"), "milliseconds, where Linux rounds to its tick"),
    differs(
        "TCP_SAVE_SYN",
        |c| matches!(c.stackd, "EINVAL" | "not asked"),
        "2 (the link layer's header too) is refused: it has been left behind",
    ),
    differs("TCP_WINDOW_CLAMP", connected, "0 until it is set; Linux shows the limit it derived"),
    // ip(7)
    refused("IP_CHECKSUM", "the kernel hands up sums it has computed anyway; here devices do"),
    refused("IP_HDRINCL", CONTROL_PLANE),
    refused("IP_NODEFRAG", CONTROL_PLANE),
    refused("IP_ROUTER_ALERT", CONTROL_PLANE),
    refused("IP_OPTIONS", "IP options are not sent: most networks drop such packets"),
    refused("IP_RECVOPTS", "IP options are not handed to programs"),
    refused("IP_RETOPTS", "IP options are not handed to programs"),
    refused("IP_PKTOPTIONS", "obsolete"),
    refused("IP_PASSSEC", "there are no security labels"),
    refused("IP_PROTOCOL", "ask for SO_PROTOCOL"),
    refused("IP_RECVERR_RFC4884", "extensions of ICMP messages (RFC 4884) are not handed to programs"),
    refused("IP_RECVFRAGSIZE", "the size of fragments is not handed to programs"),
    differs(
        "IP_DROP_MEMBERSHIP",
        |c| c.linux == "ENODEV",
        "an address that is no group is EINVAL, whatever else is wrong",
    ),
    differs("IP_MSFILTER", |c| c.call.starts_with("get"), "can be set, not read"),
    differs("IP_MULTICAST_ALL", |c| c.subject.contains('6'), "on by default for sockets of IPv6 too"),
    differs(
        "IP_MULTICAST_TTL",
        |c| c.subject == "tcp4 accepted",
        "an accepted connection shows 1 as every other socket",
    ),
    // ipv6(7)
    refused("IPV6_ADDRFORM", "a socket keeps its family"),
    refused("IPV6_ADDR_PREFERENCES", "there are no temporary addresses to prefer"),
    refused("IPV6_FLOWINFO_SEND", "flow labels are the stack's own: IPV6_AUTOFLOWLABEL, net.ipv6.auto_flowlabels"),
    refused("IPV6_FLOWLABEL_MGR", "flow labels are the stack's own"),
    refused("IPV6_ROUTER_ALERT", CONTROL_PLANE),
    refused("IPV6_MTU", "the path's MTU can be read; a smaller one of one's own cannot be set"),
    refused("IPV6_PATHMTU", "ask for IPV6_MTU"),
    refused("IPV6_RECVPATHMTU", "IPV6_RECVERR tells it"),
    refused("IPV6_RECVDSTOPTS", V6_HEADERS),
    refused("IPV6_RECVHOPOPTS", V6_HEADERS),
    refused("IPV6_RECVRTHDR", V6_HEADERS),
    refused("IPV6_RTHDR", V6_HEADERS),
    refused("IPV6_RECVERR_RFC4884", "extensions of ICMP messages (RFC 4884) are not handed to programs"),
    refused("IPV6_RECVFRAGSIZE", "the size of fragments is not handed to programs"),
    // udp(7)
    refused("UDP_ENCAP", "IPsec and L2TP are the kernel's"),
];

fn connected(c: Case<'_>) -> bool {
    ["connected", "accepted", "closed"].iter().any(|state| c.subject.ends_with(state))
}

fn stream(c: Case<'_>) -> bool {
    c.subject.starts_with("tcp")
}

fn closed(c: Case<'_>) -> bool {
    c.subject.ends_with("closed")
}

/// The rule that explains a difference, if there is one.
pub fn explain(option: &str, case: Case<'_>) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.option == option && (rule.only)(case))
}

/// Lines of scripts that may differ: the script, what the line begins with, why.
const LINES: &[(&str, &str, &str)] = &[
    ("socket_protocols", "socket 2 1 262", "MPTCP is not offered"),
    ("socket_protocols", "socket 2 2 136", "UDP-Lite is not offered"),
    ("listen_disconnect_unbound", "name a", GIVEN_BACK),
    ("disconnect_connected", "name a", GIVEN_BACK),
    ("disconnect_closed_by_peer", "name a", GIVEN_BACK),
    ("disconnect_reset_by_peer", "name a", GIVEN_BACK),
    ("options_after_reset", "get b TCP_MAXSEG", "Linux halves the MSS on its loopback to fit its first window"),
    ("udp_connect_port_0", "send a 1", "a datagram to port 0 reaches nobody, and is refused"),
    ("udp_connect_port_0", "name a", "Linux shows the ICMP error about it"),
];
const GIVEN_BACK: &str = "Linux goes on showing a port that the socket gave back";

/// Whether a line of a script may differ.
pub fn line_explained(script: &str, line: &str) -> bool {
    LINES.iter().any(|(name, begin, _)| *name == script && line.starts_with(begin))
}

/// A value as it is compared: what differs from one socket to the next counts by its length.
pub fn shown(option: &str, value: &[u8]) -> String {
    match option {
        "SO_COOKIE" | "SO_MEMINFO" | "TCP_INFO" | "TCP_CC_INFO" | "SO_PEERNAME" | "TCP_TIMESTAMP" => {
            format!("{} bytes", value.len())
        }
        _ => match value.first_chunk::<4>() {
            Some(four) if value.len() == 4 => i32::from_ne_bytes(*four).to_string(),
            _ => format!("{value:?}"),
        },
    }
}
