//! Numbers of Linux's headers by name, for scripts and messages.

/// An errno's name; 0 is `0`.
pub fn errno(n: i32) -> String {
    stackd_proto::ERRNO_TABLE.iter().find(|e| e.errno as i32 == n).map_or_else(|| n.to_string(), |e| e.name.to_owned())
}

/// poll(2)'s bits that count here.
pub fn readiness(bits: u32) -> String {
    const NAMES: [(u32, &str); 6] =
        [(0x1, "IN"), (0x2, "PRI"), (0x4, "OUT"), (0x8, "ERR"), (0x10, "HUP"), (0x2000, "RDHUP")];
    let set: Vec<&str> = NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "-".into() } else { set.join(",") }
}

/// A flag of send(2) or recv(2).
pub fn flag(word: &str) -> i32 {
    match word {
        "peek" => libc::MSG_PEEK,
        "trunc" => libc::MSG_TRUNC,
        "waitall" => libc::MSG_WAITALL,
        "dontwait" => libc::MSG_DONTWAIT,
        "more" => libc::MSG_MORE,
        "oob" => libc::MSG_OOB,
        "eor" => libc::MSG_EOR,
        "errq" => libc::MSG_ERRQUEUE,
        "zerocopy" => libc::MSG_ZEROCOPY,
        "fastopen" => libc::MSG_FASTOPEN,
        other => panic!("no flag {other}"),
    }
}

/// An ioctl's number.
pub fn request(word: &str) -> u32 {
    match word {
        "INQ" => 0x541B,
        "OUTQ" => 0x5411,
        "OUTQNSD" => 0x894B,
        "ATMARK" => 0x8905,
        "BOGUS" => 0x5499,
        other => panic!("no request {other}"),
    }
}

macro_rules! options {
    ($($level:ident { $($name:ident = $n:literal),* $(,)? })*) => {
        /// Every option of Linux's manual pages: level, number, name.
        pub const OPTIONS: &[(i32, i32, &str)] = &[$($(($level, $n, stringify!($name)),)*)*];
    };
}

const SOL_SOCKET: i32 = 1;
const SOL_IP: i32 = 0;
const SOL_TCP: i32 = 6;
const SOL_UDP: i32 = 17;
const SOL_IPV6: i32 = 41;

options! {
    SOL_SOCKET {
        SO_DEBUG = 1, SO_REUSEADDR = 2, SO_TYPE = 3, SO_ERROR = 4, SO_DONTROUTE = 5, SO_BROADCAST = 6, SO_SNDBUF = 7,
        SO_RCVBUF = 8, SO_KEEPALIVE = 9, SO_OOBINLINE = 10, SO_NO_CHECK = 11, SO_PRIORITY = 12, SO_LINGER = 13,
        SO_BSDCOMPAT = 14, SO_REUSEPORT = 15, SO_PASSCRED = 16, SO_PEERCRED = 17, SO_RCVLOWAT = 18, SO_SNDLOWAT = 19,
        SO_RCVTIMEO = 20, SO_SNDTIMEO = 21, SO_BINDTODEVICE = 25, SO_ATTACH_FILTER = 26, SO_DETACH_FILTER = 27, SO_PEERNAME = 28,
        SO_TIMESTAMP = 29, SO_ACCEPTCONN = 30, SO_PEERSEC = 31, SO_SNDBUFFORCE = 32, SO_RCVBUFFORCE = 33, SO_PASSSEC = 34,
        SO_TIMESTAMPNS = 35, SO_MARK = 36, SO_TIMESTAMPING = 37, SO_PROTOCOL = 38, SO_DOMAIN = 39, SO_RXQ_OVFL = 40,
        SO_WIFI_STATUS = 41, SO_PEEK_OFF = 42, SO_NOFCS = 43, SO_LOCK_FILTER = 44, SO_SELECT_ERR_QUEUE = 45, SO_BUSY_POLL = 46,
        SO_MAX_PACING_RATE = 47, SO_BPF_EXTENSIONS = 48, SO_INCOMING_CPU = 49, SO_ATTACH_BPF = 50,
        SO_ATTACH_REUSEPORT_CBPF = 51, SO_ATTACH_REUSEPORT_EBPF = 52, SO_CNX_ADVICE = 53, SO_MEMINFO = 55,
        SO_INCOMING_NAPI_ID = 56, SO_COOKIE = 57, SO_PEERGROUPS = 59, SO_ZEROCOPY = 60, SO_TXTIME = 61,
        SO_BINDTOIFINDEX = 62, SO_TIMESTAMP_NEW = 63, SO_TIMESTAMPNS_NEW = 64, SO_DETACH_REUSEPORT_BPF = 68, SO_PREFER_BUSY_POLL = 69, SO_BUSY_POLL_BUDGET = 70,
        SO_NETNS_COOKIE = 71, SO_BUF_LOCK = 72, SO_RESERVE_MEM = 73, SO_TXREHASH = 74, SO_RCVMARK = 75, SO_RCVPRIORITY = 82,
    }
    SOL_TCP {
        TCP_NODELAY = 1, TCP_MAXSEG = 2, TCP_CORK = 3, TCP_KEEPIDLE = 4, TCP_KEEPINTVL = 5, TCP_KEEPCNT = 6, TCP_SYNCNT = 7,
        TCP_LINGER2 = 8, TCP_DEFER_ACCEPT = 9, TCP_WINDOW_CLAMP = 10, TCP_INFO = 11, TCP_QUICKACK = 12,
        TCP_CONGESTION = 13, TCP_MD5SIG = 14, TCP_THIN_LINEAR_TIMEOUTS = 16, TCP_THIN_DUPACK = 17, TCP_USER_TIMEOUT = 18,
        TCP_REPAIR = 19, TCP_REPAIR_QUEUE = 20, TCP_QUEUE_SEQ = 21, TCP_REPAIR_OPTIONS = 22, TCP_FASTOPEN = 23,
        TCP_TIMESTAMP = 24, TCP_NOTSENT_LOWAT = 25, TCP_CC_INFO = 26, TCP_SAVE_SYN = 27, TCP_SAVED_SYN = 28,
        TCP_REPAIR_WINDOW = 29, TCP_FASTOPEN_CONNECT = 30, TCP_ULP = 31, TCP_MD5SIG_EXT = 32, TCP_FASTOPEN_KEY = 33,
        TCP_FASTOPEN_NO_COOKIE = 34, TCP_ZEROCOPY_RECEIVE = 35, TCP_INQ = 36, TCP_TX_DELAY = 37, TCP_RTO_MAX_MS = 44,
        TCP_RTO_MIN_US = 45, TCP_DELACK_MAX_US = 46,
    }
    SOL_UDP { UDP_CORK = 1, UDP_ENCAP = 100, UDP_NO_CHECK6_TX = 101, UDP_NO_CHECK6_RX = 102, UDP_SEGMENT = 103, UDP_GRO = 104 }
    SOL_IP {
        IP_TOS = 1, IP_TTL = 2, IP_HDRINCL = 3, IP_OPTIONS = 4, IP_ROUTER_ALERT = 5, IP_RECVOPTS = 6, IP_RETOPTS = 7,
        IP_PKTINFO = 8, IP_PKTOPTIONS = 9, IP_MTU_DISCOVER = 10, IP_RECVERR = 11, IP_RECVTTL = 12, IP_RECVTOS = 13,
        IP_MTU = 14, IP_FREEBIND = 15, IP_PASSSEC = 18, IP_TRANSPARENT = 19, IP_RECVORIGDSTADDR = 20, IP_MINTTL = 21,
        IP_NODEFRAG = 22, IP_CHECKSUM = 23, IP_BIND_ADDRESS_NO_PORT = 24, IP_RECVFRAGSIZE = 25, IP_RECVERR_RFC4884 = 26,
        IP_MULTICAST_IF = 32, IP_MULTICAST_TTL = 33, IP_MULTICAST_LOOP = 34, IP_ADD_MEMBERSHIP = 35,
        IP_DROP_MEMBERSHIP = 36, IP_MSFILTER = 41, IP_MULTICAST_ALL = 49, IP_UNICAST_IF = 50,
        IP_LOCAL_PORT_RANGE = 51, IP_PROTOCOL = 52,
    }
    SOL_IPV6 {
        IPV6_ADDRFORM = 1, IPV6_CHECKSUM = 7, IPV6_UNICAST_HOPS = 16, IPV6_MULTICAST_IF = 17, IPV6_MULTICAST_HOPS = 18,
        IPV6_MULTICAST_LOOP = 19, IPV6_ADD_MEMBERSHIP = 20, IPV6_DROP_MEMBERSHIP = 21, IPV6_ROUTER_ALERT = 22,
        IPV6_MTU_DISCOVER = 23, IPV6_MTU = 24, IPV6_RECVERR = 25, IPV6_V6ONLY = 26, IPV6_MULTICAST_ALL = 29,
        IPV6_RECVERR_RFC4884 = 31, IPV6_FLOWLABEL_MGR = 32, IPV6_FLOWINFO_SEND = 33, IPV6_RECVPKTINFO = 49,
        IPV6_RECVHOPLIMIT = 51, IPV6_RECVHOPOPTS = 53, IPV6_RTHDR = 57, IPV6_RECVRTHDR = 56, IPV6_RECVDSTOPTS = 58,
        IPV6_RECVPATHMTU = 60, IPV6_PATHMTU = 61, IPV6_DONTFRAG = 62, IPV6_RECVTCLASS = 66, IPV6_TCLASS = 67, IPV6_AUTOFLOWLABEL = 70,
        IPV6_ADDR_PREFERENCES = 72, IPV6_MINHOPCOUNT = 73, IPV6_RECVORIGDSTADDR = 74, IPV6_TRANSPARENT = 75,
        IPV6_UNICAST_IF = 76, IPV6_RECVFRAGSIZE = 77, IPV6_FREEBIND = 78,
    }
}

/// Level and number of an option.
pub fn option(name: &str) -> (i32, i32) {
    let found = OPTIONS.iter().find(|o| o.2 == name);
    found.map(|&(level, number, _)| (level, number)).unwrap_or_else(|| panic!("no option {name}"))
}

/// The time that a message tells, if that is what it does: seconds since 1970.
fn time_in(level: i32, kind: i32, data: &[u8]) -> Option<u64> {
    let told = ["SO_TIMESTAMP", "SO_TIMESTAMPNS", "SO_TIMESTAMP_NEW", "SO_TIMESTAMPNS_NEW"].map(option);
    let seconds = data.first_chunk().filter(|_| told.contains(&(level, kind)))?;
    Some(u64::from_ne_bytes(*seconds))
}

/// How far from now that is.
fn age(seconds: u64) -> &'static str {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_secs());
    if seconds.abs_diff(now) < 60 { "now" } else { "long ago" }
}

/// Control messages by level and type, their data in hexadecimal (an address in it is left out: it has a port; of a time, whether it is recent).
pub fn control(mut bytes: &[u8]) -> String {
    let mut out = String::new();
    let int = |b: &[u8], at: usize| b.get(at..at + 4).map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    while let Some(len) = bytes.first_chunk::<8>().map(|b| usize::from_ne_bytes(*b)).filter(|len| *len >= 16) {
        let (level, kind) = (int(bytes, 8), int(bytes, 12));
        let data = bytes.get(16..len).unwrap_or(&[]);
        let shown = data.get(..16).unwrap_or(data);
        let hex: String = shown.iter().map(|b| format!("{b:02x}")).collect();
        let shown = time_in(level, kind, data).map_or(hex, |seconds| age(seconds).to_owned());
        out.push_str(&format!(" cmsg={level}/{kind}:{}:{shown}", data.len()));
        bytes = bytes.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    out
}
