//! `%{ … }%`: what the snippet can name.

use super::Runner;
use crate::error::{Failure, Result};
use crate::python::{self, Names, PyError, Value};
use crate::symbols;
use stackd_base::{Mib, SockId};

/// `struct tcp_info` of Linux: name, offset, bytes.
const TCP_INFO: &[(&str, usize, usize)] = &[
    ("tcpi_state", 0, 1),
    ("tcpi_ca_state", 1, 1),
    ("tcpi_retransmits", 2, 1),
    ("tcpi_probes", 3, 1),
    ("tcpi_backoff", 4, 1),
    ("tcpi_options", 5, 1),
    ("tcpi_rto", 8, 4),
    ("tcpi_ato", 12, 4),
    ("tcpi_snd_mss", 16, 4),
    ("tcpi_rcv_mss", 20, 4),
    ("tcpi_unacked", 24, 4),
    ("tcpi_sacked", 28, 4),
    ("tcpi_lost", 32, 4),
    ("tcpi_retrans", 36, 4),
    ("tcpi_fackets", 40, 4),
    ("tcpi_last_data_sent", 44, 4),
    ("tcpi_last_ack_sent", 48, 4),
    ("tcpi_last_data_recv", 52, 4),
    ("tcpi_last_ack_recv", 56, 4),
    ("tcpi_pmtu", 60, 4),
    ("tcpi_rcv_ssthresh", 64, 4),
    ("tcpi_rtt", 68, 4),
    ("tcpi_rttvar", 72, 4),
    ("tcpi_snd_ssthresh", 76, 4),
    ("tcpi_snd_cwnd", 80, 4),
    ("tcpi_advmss", 84, 4),
    ("tcpi_reordering", 88, 4),
    ("tcpi_rcv_rtt", 92, 4),
    ("tcpi_rcv_space", 96, 4),
    ("tcpi_total_retrans", 100, 4),
    ("tcpi_pacing_rate", 104, 8),
    ("tcpi_max_pacing_rate", 112, 8),
    ("tcpi_bytes_acked", 120, 8),
    ("tcpi_bytes_received", 128, 8),
    ("tcpi_segs_out", 136, 4),
    ("tcpi_segs_in", 140, 4),
    ("tcpi_notsent_bytes", 144, 4),
    ("tcpi_min_rtt", 148, 4),
    ("tcpi_data_segs_in", 152, 4),
    ("tcpi_data_segs_out", 156, 4),
    ("tcpi_delivery_rate", 160, 8),
    ("tcpi_busy_time", 168, 8),
    ("tcpi_rwnd_limited", 176, 8),
    ("tcpi_sndbuf_limited", 184, 8),
    ("tcpi_delivered", 192, 4),
    ("tcpi_delivered_ce", 196, 4),
    ("tcpi_bytes_sent", 200, 8),
    ("tcpi_bytes_retrans", 208, 8),
    ("tcpi_dsack_dups", 216, 4),
    ("tcpi_reord_seen", 220, 4),
    ("tcpi_rcv_ooopack", 224, 4),
    ("tcpi_snd_wnd", 228, 4),
    ("tcpi_rcv_wnd", 232, 4),
    ("tcpi_rehash", 236, 4),
    ("tcpi_total_rto", 240, 2),
    ("tcpi_total_rto_recoveries", 242, 2),
    ("tcpi_total_rto_time", 244, 4),
    ("tcpi_received_ce", 248, 4),
    ("tcpi_delivered_e1_bytes", 252, 4),
    ("tcpi_delivered_e0_bytes", 256, 4),
    ("tcpi_delivered_ce_bytes", 260, 4),
    ("tcpi_received_e1_bytes", 264, 4),
    ("tcpi_received_e0_bytes", 268, 4),
    ("tcpi_received_ce_bytes", 272, 4),
];

/// `SO_MEMINFO`'s words.
const MEMINFO: [&str; 9] = [
    "SK_MEMINFO_RMEM_ALLOC",
    "SK_MEMINFO_RCVBUF",
    "SK_MEMINFO_WMEM_ALLOC",
    "SK_MEMINFO_SNDBUF",
    "SK_MEMINFO_FWD_ALLOC",
    "SK_MEMINFO_WMEM_QUEUED",
    "SK_MEMINFO_OPTMEM",
    "SK_MEMINFO_BACKLOG",
    "SK_MEMINFO_DROPS",
];

/// Constants that snippets use.
pub(super) fn constants() -> Names {
    symbols::CODE.iter().map(|(n, v)| ((*n).to_owned(), Value::from(*v))).collect()
}

fn word(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let part = bytes.get(at..at + len)?;
    let mut wide = [0; 8];
    wide[..len].copy_from_slice(part);
    Some(u64::from_le_bytes(wide))
}

impl Runner<'_> {
    pub(super) fn code(&mut self, line: u32, text: &str) -> Result<()> {
        self.host.settle();
        // What a socket said before is not true of another one.
        self.names.retain(|n, _| !n.starts_with("tcpi_") && !n.starts_with("bbr_"));
        if let Some(sock) = self.current.and_then(|i| self.flows[i].sock) {
            self.name_socket(sock);
        }
        for &mib in Mib::ALL {
            let n = self.host.stack.mib().get(mib).wrapping_sub(self.counters.get(mib));
            self.names.insert(mib.name().to_owned(), n.into());
        }
        match python::run(text, &mut self.names) {
            Ok(out) => {
                out.lines().for_each(|l| self.say(line, l));
                Ok(())
            }
            Err(PyError::Unsupported(n, text)) => Err(Failure::unsupported(self.file, line + n, text)),
            Err(PyError::Failed(n, text)) => Err(self.mismatch(line + n, text)),
        }
    }

    fn name_socket(&mut self, sock: SockId) {
        const SOL_SOCKET: i32 = 1;
        const SOL_TCP: i32 = 6;
        const TCP_INFO_OPTION: i32 = 11;
        const TCP_CC_INFO: i32 = 26;
        const SO_MEMINFO: i32 = 55;
        let now = self.host.now;
        let mut get = |level, option| {
            let mut out = vec![0; 512];
            let n = self.host.stack.get_option(now, sock, level, option, &mut out).unwrap_or(0);
            out.truncate(n);
            out
        };
        let (info, cc, mem) = (get(SOL_TCP, TCP_INFO_OPTION), get(SOL_TCP, TCP_CC_INFO), get(SOL_SOCKET, SO_MEMINFO));
        let mut name = |n: &str, v: u64| {
            self.names.insert(n.to_owned(), v.into());
        };
        for &(n, at, len) in TCP_INFO {
            if let Some(v) = word(&info, at, len) {
                name(n, v);
            }
        }
        if let (Some(scales), Some(bits)) = (word(&info, 6, 1), word(&info, 7, 1)) {
            name("tcpi_snd_wscale", scales & 15);
            name("tcpi_rcv_wscale", scales >> 4);
            name("tcpi_delivery_rate_app_limited", bits & 1);
            name("tcpi_fastopen_client_fail", bits >> 1 & 3);
        }
        if let Some(bits) = word(&info, 276, 4) {
            name("tcpi_ecn_mode", bits & 3);
            name("tcpi_accecn_opt_seen", bits >> 2 & 3);
            name("tcpi_accecn_fail_mode", bits >> 4 & 15);
        }
        for (i, n) in MEMINFO.iter().enumerate() {
            if let Some(v) = word(&mem, i * 4, 4) {
                name(n, v);
            }
        }
        let fields = ["bbr_bw_lo", "bbr_bw_hi", "bbr_min_rtt", "bbr_pacing_gain", "bbr_cwnd_gain"];
        for (i, n) in fields.iter().enumerate() {
            if let Some(v) = word(&cc, i * 4, 4) {
                name(n, v);
            }
        }
        if let Some(v) = word(&cc, 0, 8) {
            name("bbr_bw", v);
        }
    }
}
