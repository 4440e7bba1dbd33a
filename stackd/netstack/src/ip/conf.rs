//! What is configured per interface: `net.ipv4.conf.IF.*` and `net.ipv6.conf.IF.*`.

use stackd_base::Duration;

/// The settings of one interface, as plain values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IfConf {
    /// `net.ipv4.conf.IF.accept_redirects`. Off: a redirect can be forged by anybody on the link.
    pub accept_redirects: bool,
    /// `net.ipv4.conf.IF.secure_redirects`: only towards gateways that are in the routing table.
    pub secure_redirects: bool,
    /// `net.ipv4.conf.IF.force_igmp_version`: 0 = as the querier speaks.
    pub force_igmp_version: u8,
    /// `net.ipv4.conf.IF.igmpv2_unsolicited_report_interval`.
    pub igmpv2_interval: Duration,
    /// `net.ipv4.conf.IF.igmpv3_unsolicited_report_interval`.
    pub igmpv3_interval: Duration,
    /// `net.ipv6.conf.IF.accept_ra`: 0 no, 1 and 2 yes (this stack never forwards, which is where they differ).
    pub accept_ra: u8,
    /// `net.ipv6.conf.IF.accept_ra_defrtr`.
    pub accept_ra_defrtr: bool,
    /// `net.ipv6.conf.IF.accept_ra_pinfo`.
    pub accept_ra_pinfo: bool,
    /// `net.ipv6.conf.IF.accept_ra_rtr_pref`.
    pub accept_ra_rtr_pref: bool,
    /// `net.ipv6.conf.IF.accept_ra_mtu`.
    pub accept_ra_mtu: bool,
    /// `net.ipv6.conf.IF.ra_defrtr_metric`.
    pub ra_defrtr_metric: u32,
    /// `net.ipv6.conf.IF.accept_redirects`.
    pub accept_redirects6: bool,
    /// `net.ipv6.conf.IF.autoconf`.
    pub autoconf: bool,
    /// `net.ipv6.conf.IF.accept_dad`.
    pub accept_dad: bool,
    /// `net.ipv6.conf.IF.dad_transmits`.
    pub dad_transmits: u32,
    /// `net.ipv6.conf.IF.enhanced_dad` (RFC 7527).
    pub enhanced_dad: bool,
    /// `net.ipv6.conf.IF.hop_limit`.
    pub hop_limit: u8,
    /// `net.ipv6.conf.IF.router_solicitations`: -1 = until a router answers.
    pub router_solicitations: i32,
    /// `net.ipv6.conf.IF.router_solicitation_interval`.
    pub solicit_interval: Duration,
    /// `net.ipv6.conf.IF.router_solicitation_max_interval`.
    pub solicit_max_interval: Duration,
    /// `net.ipv6.conf.IF.router_solicitation_delay`.
    pub solicit_delay: Duration,
    /// `net.ipv6.conf.IF.force_mld_version`: 0 = as the querier speaks.
    pub force_mld_version: u8,
    /// `net.ipv6.conf.IF.mldv1_unsolicited_report_interval`.
    pub mldv1_interval: Duration,
    /// `net.ipv6.conf.IF.mldv2_unsolicited_report_interval`.
    pub mldv2_interval: Duration,
}

impl Default for IfConf {
    fn default() -> Self {
        Self {
            accept_redirects: false,
            secure_redirects: true,
            force_igmp_version: 0,
            igmpv2_interval: Duration::from_secs(10),
            igmpv3_interval: Duration::from_secs(1),
            accept_ra: 1,
            accept_ra_defrtr: true,
            accept_ra_pinfo: true,
            accept_ra_rtr_pref: true,
            accept_ra_mtu: true,
            ra_defrtr_metric: 1024,
            accept_redirects6: false,
            autoconf: true,
            accept_dad: true,
            dad_transmits: 1,
            enhanced_dad: true,
            hop_limit: 64,
            router_solicitations: -1,
            solicit_interval: Duration::from_secs(4),
            solicit_max_interval: Duration::from_secs(3600),
            solicit_delay: Duration::from_secs(1),
            force_mld_version: 0,
            mldv1_interval: Duration::from_secs(10),
            mldv2_interval: Duration::from_secs(1),
        }
    }
}
