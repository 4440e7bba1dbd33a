//! `struct tcp_info`, as Linux lays it out.

use std::time::Duration;

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $ty:ident @ $at:literal;)*) => {
        /// State of one connection: Linux's `struct tcp_info` (include/uapi/linux/tcp.h names and units). Times are in microseconds, or
        /// milliseconds for `last_*`; a field that the daemon did not send is 0.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct TcpInfo { $($(#[$doc])* pub $name: $ty,)* }
        impl TcpInfo {
            /// From the bytes of the option. Any length goes.
            pub fn from_bytes(bytes: &[u8]) -> Self {
                Self { $($name: bytes.get($at..).and_then(|b| b.first_chunk()).map_or(0, |b| $ty::from_ne_bytes(*b)),)* }
            }
        }
    };
}

fields! {
    /// TCP_ESTABLISHED = 1, ...
    state: u8 @ 0;
    /// TCP_CA_Open = 0, Disorder, CWR, Recovery, Loss.
    ca_state: u8 @ 1;
    /// Timeouts in a row.
    retransmits: u8 @ 2;
    /// Unanswered probes.
    probes: u8 @ 3;
    /// Exponent of the timer's backoff.
    backoff: u8 @ 4;
    /// Negotiated: timestamps 1, SACK 2, window scaling 4, ECN 8.
    options: u8 @ 5;
    /// Retransmission timeout.
    rto: u32 @ 8;
    /// Delayed-ACK timeout.
    ato: u32 @ 12;
    /// Bytes a segment sent.
    snd_mss: u32 @ 16;
    /// Bytes a segment received.
    rcv_mss: u32 @ 20;
    /// Segments in flight.
    unacked: u32 @ 24;
    /// Of them, selectively acknowledged.
    sacked: u32 @ 28;
    /// Of them, lost.
    lost: u32 @ 32;
    /// Of them, retransmitted and not acknowledged.
    retrans: u32 @ 36;
    /// Milliseconds since data were sent.
    last_data_sent: u32 @ 44;
    /// Milliseconds since data were received.
    last_data_recv: u32 @ 52;
    /// Milliseconds since an ACK was received.
    last_ack_recv: u32 @ 56;
    /// Path MTU.
    pmtu: u32 @ 60;
    /// Receive slow-start threshold.
    rcv_ssthresh: u32 @ 64;
    /// Smoothed round-trip time.
    rtt: u32 @ 68;
    /// Its variation.
    rttvar: u32 @ 72;
    /// Slow-start threshold, segments.
    snd_ssthresh: u32 @ 76;
    /// Congestion window, segments.
    snd_cwnd: u32 @ 80;
    /// Advertised MSS.
    advmss: u32 @ 84;
    /// Reordering seen, segments.
    reordering: u32 @ 88;
    /// The receiver's estimate of the round-trip time.
    rcv_rtt: u32 @ 92;
    /// Receive buffer tuning.
    rcv_space: u32 @ 96;
    /// Segments retransmitted ever.
    total_retrans: u32 @ 100;
    /// Bytes per second; all ones: not paced.
    pacing_rate: u64 @ 104;
    /// SO_MAX_PACING_RATE.
    max_pacing_rate: u64 @ 112;
    /// RFC 4898 tcpEStatsAppHCThruOctetsAcked.
    bytes_acked: u64 @ 120;
    /// RFC 4898 tcpEStatsAppHCThruOctetsReceived.
    bytes_received: u64 @ 128;
    /// Segments sent.
    segs_out: u32 @ 136;
    /// Segments received.
    segs_in: u32 @ 140;
    /// Bytes written and not sent.
    notsent_bytes: u32 @ 144;
    /// Minimum round-trip time.
    min_rtt: u32 @ 148;
    /// Segments with data received.
    data_segs_in: u32 @ 152;
    /// Segments with data sent.
    data_segs_out: u32 @ 156;
    /// Bytes per second, the latest sample.
    delivery_rate: u64 @ 160;
    /// Microseconds with data to send.
    busy_time: u64 @ 168;
    /// Of them, limited by the peer's window.
    rwnd_limited: u64 @ 176;
    /// Of them, limited by the send buffer.
    sndbuf_limited: u64 @ 184;
    /// Segments delivered.
    delivered: u32 @ 192;
    /// Of them, with ECN marks.
    delivered_ce: u32 @ 196;
    /// Bytes sent, with retransmissions.
    bytes_sent: u64 @ 200;
    /// Bytes retransmitted.
    bytes_retrans: u64 @ 208;
    /// Duplicates the peer reported.
    dsack_dups: u32 @ 216;
    /// Reordering events.
    reord_seen: u32 @ 220;
    /// Segments received out of order.
    rcv_ooopack: u32 @ 224;
    /// The peer's window, bytes.
    snd_wnd: u32 @ 228;
    /// Our window, bytes.
    rcv_wnd: u32 @ 232;
    /// CE-marked packets received (RFC 9768).
    received_ce: u32 @ 248;
    /// Bytes of ours that the peer received as ECT(1).
    delivered_e1_bytes: u32 @ 252;
    /// As ECT(0).
    delivered_e0_bytes: u32 @ 256;
    /// As CE.
    delivered_ce_bytes: u32 @ 260;
    /// Bytes received as ECT(1).
    received_e1_bytes: u32 @ 264;
    /// As ECT(0).
    received_e0_bytes: u32 @ 268;
    /// As CE.
    received_ce_bytes: u32 @ 272;
    /// Bits 0 and 1: no ECN, RFC 3168, Accurate ECN, asked for; 2 and 3: the peer's option; 4 to 7: what of Accurate ECN failed.
    ecn_mode: u32 @ 276;
}

impl TcpInfo {
    /// Smoothed round-trip time; `None` before the first sample.
    pub fn rtt_time(&self) -> Option<Duration> {
        (self.rtt > 0).then(|| Duration::from_micros(self.rtt.into()))
    }
}
