//! Sysctls under Linux's names. A key that is accepted is a key that acts; what cannot act is left out.

mod registry;
mod table;

pub use registry::{Entry, Kind, SysctlError, Value};

use crate::ip::IpConfig;
use crate::stack::FastOpenKeys;
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
    pub tcp_rfc1337: bool,
    pub tcp_fin_timeout: Duration,
    pub allowed_congestion: Vec<&'static str>,
    pub local_port_range: (u16, u16),
    pub reserved_ports: Vec<(u16, u16)>,
    pub nonlocal_bind: bool,
    pub nonlocal_bind_v6: bool,
    pub bindv6only: bool,
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
            tcp_rfc1337: false,
            tcp_fin_timeout: Duration::from_secs(60),
            allowed_congestion: stackd_tcp::cc::AVAILABLE.to_vec(),
            local_port_range: (32_768, 60_999),
            reserved_ports: Vec::new(),
            nonlocal_bind: false,
            nonlocal_bind_v6: false,
            bindv6only: false,
        }
    }
}

impl Sysctls {
    /// Every key, by area.
    pub fn entries() -> impl Iterator<Item = &'static Entry> + Clone {
        table::all()
    }

    /// The value of a key, as Linux prints it.
    ///
    /// # Errors
    /// [`SysctlError::Unknown`].
    pub fn get(&self, name: &str) -> Result<String, SysctlError> {
        registry::find(Self::entries(), name).map(|e| (e.get)(self))
    }

    /// Puts a value in force.
    ///
    /// # Errors
    /// What was wrong and what would be right; nothing is changed then.
    pub fn set(&mut self, name: &str, text: &str) -> Result<&'static Entry, SysctlError> {
        let entry = registry::find(Self::entries(), name)?;
        let value = entry.parse(text)?;
        (entry.set)(self, &value);
        Ok(entry)
    }
}

#[cfg(test)]
mod tests;
