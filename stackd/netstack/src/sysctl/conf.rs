//! `net.ipv4.conf.*` and `net.ipv6.conf.*`: one set of keys for each interface, one (`default`) for those that come, one (`all`) for all.
//!
//! Linux gives each key of `all` a meaning of its own, and most of them none at all. Here a write to `all` writes every interface's value and
//! is remembered as `all`'s; a key that is accepted is a key that acts. `default` is what interfaces added later begin with, as in Linux.

use super::registry::{Kind, SysctlError};
use crate::ip::IfConf;
use stackd_base::Duration;
use std::collections::BTreeMap;

/// One key of an interface.
#[derive(Clone, Copy)]
pub struct ConfEntry {
    /// Of `net.ipv6.conf`, else of `net.ipv4.conf`.
    pub v6: bool,
    /// Its last part.
    pub key: &'static str,
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
    /// What it does.
    pub doc: &'static str,
    /// The value in force.
    pub get: fn(&IfConf) -> i64,
    /// Puts a legal value in force.
    pub set: fn(&mut IfConf, i64),
}

impl core::fmt::Debug for ConfEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ConfEntry").field("key", &self.key).finish_non_exhaustive()
    }
}

impl ConfEntry {
    /// What it takes.
    pub const fn kind(&self) -> Kind {
        Kind::Int { min: self.min, max: self.max }
    }
    /// The key's whole name for an interface, `all` or `default`.
    pub fn name(&self, interface: &str) -> String {
        format!("net.ipv{}.conf.{interface}.{}", if self.v6 { 6 } else { 4 }, self.key)
    }
}

macro_rules! conf {
    ($v6:literal, $key:literal, $field:ident: $ty:ty, $min:literal ..= $max:literal, $doc:literal) => {
        ConfEntry {
            v6: $v6,
            key: $key,
            min: $min,
            max: $max,
            doc: $doc,
            get: |c| c.$field as i64,
            set: |c, n| c.$field = n as $ty,
        }
    };
    ($v6:literal, $key:literal, $field:ident, $doc:literal) => {
        ConfEntry {
            v6: $v6,
            key: $key,
            min: 0,
            max: 1,
            doc: $doc,
            get: |c| i64::from(c.$field),
            set: |c, n| c.$field = n != 0,
        }
    };
    ($v6:literal, $key:literal, $field:ident, seconds, $min:literal, $doc:literal) => {
        ConfEntry {
            v6: $v6,
            key: $key,
            min: $min,
            max: 2_147_483,
            doc: $doc,
            get: |c| (c.$field.as_millis() / 1000) as i64,
            set: |c, n| c.$field = Duration::from_secs(n as u64),
        }
    };
    ($v6:literal, $key:literal, $field:ident, millis, $min:literal, $doc:literal) => {
        ConfEntry {
            v6: $v6,
            key: $key,
            min: $min,
            max: 2_147_483_647,
            doc: $doc,
            get: |c| c.$field.as_millis() as i64,
            set: |c, n| c.$field = Duration::from_millis(n as u64),
        }
    };
}

/// Every key.
pub const ENTRIES: &[ConfEntry] = &[
    conf!(
        false,
        "accept_redirects",
        accept_redirects,
        "Act on ICMP redirects (off here, unlike Linux's hosts: anybody on the link can forge one)."
    ),
    conf!(false, "secure_redirects", secure_redirects, "Act only on redirects to gateways of the routing table."),
    conf!(false, "force_igmp_version", force_igmp_version: u8, 0..=3, "Speak this version of IGMP; 0: the querier's. Version 1 is spoken as 2 without leaves."),
    conf!(
        false,
        "igmpv2_unsolicited_report_interval",
        igmpv2_interval,
        millis,
        1,
        "Milliseconds between the first reports of a group (IGMPv2)."
    ),
    conf!(
        false,
        "igmpv3_unsolicited_report_interval",
        igmpv3_interval,
        millis,
        1,
        "Milliseconds between the repetitions of a changed membership (IGMPv3)."
    ),
    conf!(true, "accept_ra", accept_ra: u8, 0..=2, "Believe router advertisements: 0 no, 1 and 2 yes."),
    conf!(true, "accept_ra_defrtr", accept_ra_defrtr, "Take default routers from advertisements."),
    conf!(true, "accept_ra_pinfo", accept_ra_pinfo, "Take prefixes from advertisements."),
    conf!(true, "accept_ra_rtr_pref", accept_ra_rtr_pref, "Heed the preference of routers (RFC 4191)."),
    conf!(true, "accept_ra_mtu", accept_ra_mtu, "Take the link's MTU from advertisements."),
    conf!(true, "ra_defrtr_metric", ra_defrtr_metric: u32, 1..=2_147_483_647, "Metric of default routes from advertisements."),
    conf!(true, "accept_redirects", accept_redirects6, "Act on ICMPv6 redirects (off here, unlike Linux's hosts)."),
    conf!(true, "autoconf", autoconf, "Make addresses from advertised prefixes."),
    ConfEntry {
        v6: true,
        key: "use_tempaddr",
        min: 0,
        max: 0,
        doc: "Temporary addresses (RFC 8981) are not made: 0 is the only value.",
        get: |_| 0,
        set: |_, _| {},
    },
    conf!(true, "accept_dad", accept_dad, "Look for duplicates of new addresses (RFC 4862)."),
    conf!(true, "dad_transmits", dad_transmits: u32, 0..=600, "Neighbour solicitations of that look."),
    conf!(
        true,
        "enhanced_dad",
        enhanced_dad,
        "Tell our own looped-back solicitations from a duplicate's, by a nonce (RFC 7527)."
    ),
    conf!(true, "hop_limit", hop_limit: u8, 1..=255, "Hop limit of packets whose socket sets none, until a router says otherwise."),
    conf!(true, "router_solicitations", router_solicitations: i32, -1..=2_147_483_647, "Router solicitations before giving up; -1: until one answers."),
    conf!(
        true,
        "router_solicitation_interval",
        solicit_interval,
        seconds,
        1,
        "Seconds before the second router solicitation; doubles from there (RFC 7559)."
    ),
    conf!(
        true,
        "router_solicitation_max_interval",
        solicit_max_interval,
        seconds,
        1,
        "Most seconds between router solicitations."
    ),
    conf!(
        true,
        "router_solicitation_delay",
        solicit_delay,
        seconds,
        0,
        "Most seconds of random delay before the first router solicitation, and before the first look for a duplicate."
    ),
    conf!(true, "force_mld_version", force_mld_version: u8, 0..=2, "Speak this version of MLD; 0: the querier's."),
    conf!(
        true,
        "mldv1_unsolicited_report_interval",
        mldv1_interval,
        millis,
        1,
        "Milliseconds between the first reports of a group (MLDv1)."
    ),
    conf!(
        true,
        "mldv2_unsolicited_report_interval",
        mldv2_interval,
        millis,
        1,
        "Milliseconds between the repetitions of a changed membership (MLDv2)."
    ),
];

/// The values in force.
#[derive(Clone, Debug, Default)]
pub struct ConfTable {
    all: IfConf,
    default: IfConf,
    interfaces: BTreeMap<String, IfConf>,
}

impl ConfTable {
    /// An interface comes: it begins with `default`'s values, unless it was here before.
    pub fn declare(&mut self, interface: &str) {
        self.interfaces.entry(interface.to_owned()).or_insert(self.default);
    }
    /// An interface goes.
    pub fn forget(&mut self, interface: &str) {
        self.interfaces.remove(interface);
    }
    /// The settings of an interface.
    pub fn of(&self, interface: &str) -> IfConf {
        self.interfaces.get(interface).copied().unwrap_or(self.default)
    }
    /// What keys can be asked for: `all`, `default`, and the interfaces by name.
    pub fn subjects(&self) -> impl Iterator<Item = (&str, &IfConf)> {
        [("all", &self.all), ("default", &self.default)]
            .into_iter()
            .chain(self.interfaces.iter().map(|(n, c)| (n.as_str(), c)))
    }

    /// The key and its subject, if `name` has the form of one. The error says which interface is not there.
    pub(super) fn find<'a>(&self, name: &'a str) -> Option<Result<(&'static ConfEntry, &'a str), SysctlError>> {
        let (v6, rest) = match name.strip_prefix("net.ipv4.conf.") {
            Some(rest) => (false, rest),
            None => (true, name.strip_prefix("net.ipv6.conf.")?),
        };
        // An interface's name may have dots in it, a key has none.
        let (subject, key) = rest.rsplit_once('.')?;
        let entry = ENTRIES.iter().find(|e| e.v6 == v6 && e.key == key);
        let unknown = || SysctlError::Unknown { name: name.to_owned(), near: None };
        let known = matches!(subject, "all" | "default") || self.interfaces.contains_key(subject);
        Some(entry.filter(|_| known).map(|e| (e, subject)).ok_or_else(unknown))
    }

    pub(super) fn get(&self, entry: &ConfEntry, subject: &str) -> String {
        let found = self.subjects().find(|(name, _)| *name == subject).map_or(&self.default, |(_, c)| c);
        (entry.get)(found).to_string()
    }

    pub(super) fn set(&mut self, entry: &ConfEntry, subject: &str, value: i64) {
        match subject {
            "all" => {
                (entry.set)(&mut self.all, value);
                for conf in self.interfaces.values_mut() {
                    (entry.set)(conf, value);
                }
            }
            "default" => (entry.set)(&mut self.default, value),
            name => {
                if let Some(conf) = self.interfaces.get_mut(name) {
                    (entry.set)(conf, value);
                }
            }
        }
    }
}
