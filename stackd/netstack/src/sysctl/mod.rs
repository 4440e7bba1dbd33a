//! Sysctls under Linux's names. A key that is accepted is a key that acts; what cannot act is left out.

pub mod conf;
mod registry;
mod table;

pub use registry::{Entry, Kind, SysctlError, Value};

use crate::ip::IpConfig;
use crate::stack::FastOpenKeys;
use crate::stack::flow_label::AutoFlowLabels;
use stackd_base::Duration;

/// Unit of `net.ipv4.tcp_mem`.
const PAGE: u64 = 4096;

/// The values in force in one shard. Every shard of a daemon holds the same ones.
#[derive(Clone, Debug, Default)]
pub struct Sysctls {
    /// What connections read: `net.ipv4.tcp_*` that concern one connection.
    pub tcp: stackd_tcp::Config,
    /// What the IP layer reads.
    pub ip: IpConfig,
    /// What sockets and tables read.
    pub net: NetSysctls,
    /// What is set per interface.
    pub conf: conf::ConfTable,
}

/// One key as a user sees it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The whole name.
    pub name: String,
    /// The value in force.
    pub value: String,
    /// The value of a stack that was told nothing.
    pub default: String,
    /// What it takes.
    pub kind: Kind,
    /// What it does.
    pub doc: &'static str,
}

/// Sysctls that concern the socket layer rather than one connection.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct NetSysctls {
    pub somaxconn: u32,
    pub wmem_max: u32,
    pub rmem_max: u32,
    pub wmem_default: u32,
    pub rmem_default: u32,
    pub default_qdisc: &'static str,
    /// Bytes: low, pressure, high.
    pub tcp_mem: [u64; 3],
    pub tcp_max_syn_backlog: u32,
    /// 0 never, 1 when the SYN queue is full, 2 always.
    pub tcp_syncookies: u8,
    /// Bits: 0x1 client, 0x2 server, 0x4 client without cookie, 0x200 server without cookie, 0x400 every listener.
    pub tcp_fastopen: u32,
    pub tcp_fastopen_key: FastOpenKeys,
    /// Seconds; 0 = never.
    pub tcp_fastopen_blackhole_timeout: u32,
    pub tcp_abort_on_overflow: bool,
    pub tcp_max_orphans: u32,
    pub tcp_max_tw_buckets: u32,
    /// 0 never, 1 always, 2 for loopback only.
    pub tcp_tw_reuse: u8,
    pub tcp_tw_reuse_delay: Duration,
    pub tcp_rfc1337: bool,
    pub tcp_fin_timeout: Duration,
    pub allowed_congestion: Vec<&'static str>,
    pub local_port_range: (u16, u16),
    pub reserved_ports: Vec<(u16, u16)>,
    pub nonlocal_bind: bool,
    pub nonlocal_bind_v6: bool,
    pub bindv6only: bool,
    pub auto_flowlabels: AutoFlowLabels,
}

impl Default for NetSysctls {
    fn default() -> Self {
        Self {
            somaxconn: 4096,
            wmem_max: 212_992,
            rmem_max: 212_992,
            wmem_default: 212_992,
            rmem_default: 212_992,
            default_qdisc: "fq",
            tcp_mem: [3 << 30, 4 << 30, 6 << 30],
            tcp_max_syn_backlog: 4096,
            tcp_syncookies: 1,
            tcp_fastopen: 1,
            tcp_fastopen_key: FastOpenKeys::default(),
            tcp_fastopen_blackhole_timeout: 0,
            tcp_abort_on_overflow: false,
            tcp_max_orphans: 65_536,
            tcp_max_tw_buckets: 262_144,
            tcp_tw_reuse: 2,
            tcp_tw_reuse_delay: Duration::from_secs(1),
            tcp_rfc1337: false,
            tcp_fin_timeout: Duration::from_secs(60),
            allowed_congestion: stackd_tcp::cc::AVAILABLE.to_vec(),
            local_port_range: (32_768, 60_999),
            reserved_ports: Vec::new(),
            nonlocal_bind: false,
            nonlocal_bind_v6: false,
            bindv6only: false,
            auto_flowlabels: AutoFlowLabels::default(),
        }
    }
}

impl Sysctls {
    /// Every key, by area.
    pub fn entries() -> impl Iterator<Item = &'static Entry> + Clone {
        table::all()
    }

    /// Every key there is now, those of the interfaces among them, sorted by name.
    pub fn show(&self) -> Vec<Shown> {
        let untold = Self::default();
        let fixed = Self::entries().map(|e| Shown {
            name: e.name.to_owned(),
            value: (e.get)(self),
            default: (e.get)(&untold),
            kind: e.kind,
            doc: e.doc,
        });
        let of_interfaces = self.conf.subjects().flat_map(|(subject, conf)| {
            conf::ENTRIES.iter().map(move |e| Shown {
                name: e.name(subject),
                value: (e.get)(conf).to_string(),
                default: (e.get)(&crate::ip::IfConf::default()).to_string(),
                kind: e.kind(),
                doc: e.doc,
            })
        });
        let mut all: Vec<Shown> = fixed.chain(of_interfaces).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The value of a key, as Linux prints it.
    ///
    /// # Errors
    /// [`SysctlError::Unknown`].
    pub fn get(&self, name: &str) -> Result<String, SysctlError> {
        let dotted = dotted(name);
        match self.conf.find(&dotted) {
            Some(found) => found.map(|(entry, subject)| self.conf.get(entry, subject)),
            None => registry::find(Self::entries(), &dotted).map(|e| (e.get)(self)),
        }
    }

    /// Puts a value in force. Returns the key's name, with dots.
    ///
    /// # Errors
    /// What was wrong and what would be right; nothing is changed then.
    pub fn set(&mut self, name: &str, text: &str) -> Result<String, SysctlError> {
        let dotted = dotted(name);
        if let Some(found) = self.conf.find(&dotted) {
            let (entry, subject) = found?;
            let value = registry::Parser { name: &dotted, kind: entry.kind() }.parse(text)?;
            self.conf.set(entry, subject, value.int());
            return Ok(dotted);
        }
        let entry = registry::find(Self::entries(), &dotted)?;
        let value = entry.parse(text)?;
        (entry.set)(self, &value);
        Ok(dotted)
    }
}

/// Linux's `/` spelling (`net/ipv4/tcp_sack`); with slashes, a dot belongs to an interface's name (sysctl(8)).
fn dotted(name: &str) -> String {
    name.trim().replace('/', ".")
}

#[cfg(test)]
mod tests;
