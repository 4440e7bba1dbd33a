//! `ss -s`.

use stackd_proto::v1::DiagSummaryResponse;

/// The text of -s, as iproute2 prints it.
pub fn text(summary: &DiagSummaryResponse) -> String {
    let DiagSummaryResponse {
        total,
        tcp_total,
        tcp_established,
        tcp_closed,
        tcp_orphaned,
        tcp_time_wait,
        tcp_ipv4,
        tcp_ipv6,
        udp_ipv4,
        udp_ipv6,
        fragments_ipv4,
        fragments_ipv6,
        tcp_memory_bytes: _,
    } = summary;
    let mut out = format!(
        "Total: {total}\nTCP:   {tcp_total} (estab {tcp_established}, closed {tcp_closed}, orphaned {tcp_orphaned}, timewait {tcp_time_wait})\n\nTransport Total     IP        IPv6\n"
    );
    for (name, v4, v6) in [
        ("RAW", 0, 0),
        ("UDP", *udp_ipv4, *udp_ipv6),
        ("TCP", *tcp_ipv4, *tcp_ipv6),
        ("INET", udp_ipv4 + tcp_ipv4, udp_ipv6 + tcp_ipv6),
        ("FRAG", *fragments_ipv4, *fragments_ipv6),
    ] {
        out.push_str(&format!("{name}\t  {:<9} {v4:<9} {v6:<9}\n", v4 + v6));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let s = DiagSummaryResponse {
            total: 8,
            tcp_total: 4,
            tcp_established: 2,
            tcp_closed: 1,
            tcp_ipv4: 3,
            ..Default::default()
        };
        // Captured from iproute2-6.1.0's `ss -s`.
        let want = "Total: 8\nTCP:   4 (estab 2, closed 1, orphaned 0, timewait 0)\n\nTransport Total     IP        IPv6\nRAW\t  0         0         0        \nUDP\t  0         0         0        \nTCP\t  3         3         0        \nINET\t  3         3         0        \nFRAG\t  0         0         0        \n\n";
        assert_eq!(text(&s), want);
    }
}
