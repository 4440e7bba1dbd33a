//! Options: from the command line, then from the script.

use crate::ast::Script;
use crate::error::{Failure, Result};
use stackd_base::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which protocol a script runs over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum IpVersion {
    V4,
    V6,
    /// IPv6 sockets over IPv4.
    V4Mapped,
}

/// How a script is run.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `--ip_version`.
    pub ip_version: IpVersion,
    /// `--local_ip`.
    pub local: Option<IpAddr>,
    /// `--remote_ip`.
    pub remote: Option<IpAddr>,
    /// `--bind_port`: port of listeners.
    pub bind_port: u16,
    /// `--connect_port`.
    pub connect_port: u16,
    /// `--mtu`.
    pub mtu: u32,
    /// `--mss`: inbound packets above it arrive as one merged packet of such segments; 0 = each packet is one segment.
    pub mss: u16,
    /// `--tolerance_usecs`.
    pub tolerance: Duration,
    /// `--tolerance_percent` of the time since the last event.
    pub tolerance_percent: f64,
    /// `--tcp_ts_tick_usecs`: outbound TS values are checked with this unit; 0 = not at all.
    pub ts_tick_usecs: u64,
    /// `--tcp_ts_ecr_scaled`.
    pub ts_ecr_scaled: bool,
    /// `--strict_segments`: one packet of the script is one packet of the stack.
    pub strict_segments: bool,
    /// `--non_fatal=packet`.
    pub non_fatal_packet: bool,
    /// `--non_fatal=syscall`.
    pub non_fatal_syscall: bool,
    /// `--dry_run`: parse only.
    pub dry_run: bool,
    /// `--reject_trailing`: a packet that the script did not expect, sent until its last event, is an error.
    pub reject_trailing: bool,
    /// `--seed` of all that is random in the stack.
    pub seed: u64,
    /// `--verbose`: print what happens.
    pub verbose: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ip_version: IpVersion::V4,
            local: None,
            remote: None,
            bind_port: 8080,
            connect_port: 8080,
            mtu: 1500,
            mss: 0,
            tolerance: Duration::from_micros(4000),
            tolerance_percent: 12.5,
            ts_tick_usecs: 0,
            ts_ecr_scaled: false,
            strict_segments: false,
            non_fatal_packet: false,
            non_fatal_syscall: false,
            dry_run: false,
            reject_trailing: false,
            seed: 1,
            verbose: false,
        }
    }
}

impl Config {
    /// The family of the packets.
    pub fn wire_v6(&self) -> bool {
        self.ip_version == IpVersion::V6
    }
    /// The family of the sockets.
    pub fn socket_v6(&self) -> bool {
        self.ip_version != IpVersion::V4
    }
    /// Our address.
    pub fn local(&self) -> IpAddr {
        self.local.unwrap_or(if self.wire_v6() {
            IpAddr::V6(Ipv6Addr::new(0xfd3d, 0xa0b, 0x17d6, 0, 0, 0, 0, 1))
        } else {
            IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1))
        })
    }
    /// The peer's address.
    pub fn remote(&self) -> IpAddr {
        self.remote.unwrap_or(if self.wire_v6() {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))
        } else {
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
        })
    }

    /// Takes the options of a script.
    ///
    /// # Errors
    /// An unknown option, or a value that does not fit, with file and line.
    pub fn take_script_options(&mut self, file: &str, script: &Script) -> Result<()> {
        for o in &script.options {
            self.set(&o.name, o.value.as_deref()).map_err(|e| match e {
                Bad::Unsupported(text) => Failure::unsupported(file, o.line, text),
                Bad::Wrong(text) => Failure::syntax(file, o.line, text),
            })?;
        }
        self.check().map_err(|text| Failure::syntax(file, script.options.first().map_or(0, |o| o.line), text))
    }

    /// Addresses and version agree, and the MTU can carry the protocol.
    ///
    /// # Errors
    /// What contradicts what.
    pub fn check(&self) -> std::result::Result<(), String> {
        for (name, addr) in [("local_ip", self.local()), ("remote_ip", self.remote())] {
            if addr.is_ipv6() != self.wire_v6() {
                return Err(format!("--{name}={addr} is not of --ip_version's family"));
            }
        }
        let least = if self.wire_v6() { 1280 } else { 68 };
        if !(least..=65_535).contains(&self.mtu) {
            return Err(format!("--mtu={} is out of range: want {least} to 65535", self.mtu));
        }
        Ok(())
    }

    /// One option.
    ///
    /// # Errors
    /// See [`Bad`].
    pub fn set(&mut self, name: &str, value: Option<&str>) -> std::result::Result<(), Bad> {
        let want = |what: &str| Bad::Wrong(format!("--{name} wants {what}"));
        let text = || value.ok_or_else(|| want("a value"));
        let number = |what: &str| text()?.parse::<u64>().map_err(|_| want(what));
        // An address may come with a prefix length, which nothing here needs.
        let address =
            || text()?.split('/').next().unwrap_or_default().parse::<IpAddr>().map_err(|_| want("an IP address"));
        match name {
            "ip_version" => {
                self.ip_version = match text()? {
                    "ipv4" => IpVersion::V4,
                    "ipv6" => IpVersion::V6,
                    "ipv4-mapped-ipv6" => IpVersion::V4Mapped,
                    _ => return Err(want("ipv4, ipv6 or ipv4-mapped-ipv6")),
                }
            }
            "local_ip" => self.local = Some(address()?),
            "remote_ip" => self.remote = Some(address()?),
            "bind_port" => self.bind_port = port(number("a port")?).ok_or_else(|| want("a port"))?,
            "connect_port" => self.connect_port = port(number("a port")?).ok_or_else(|| want("a port"))?,
            "mtu" => self.mtu = u32::try_from(number("bytes")?).map_err(|_| want("bytes"))?,
            "mss" => self.mss = u16::try_from(number("bytes")?).map_err(|_| want("bytes"))?,
            "tolerance_usecs" => self.tolerance = Duration::from_micros(number("microseconds")?),
            "tolerance_percent" => {
                self.tolerance_percent =
                    text()?.parse().ok().filter(|p| *p >= 0.0).ok_or_else(|| want("a percentage"))?;
            }
            "tcp_ts_tick_usecs" => self.ts_tick_usecs = number("microseconds")?,
            "tcp_ts_ecr_scaled" => self.ts_ecr_scaled = true,
            "strict_segments" => self.strict_segments = true,
            "dry_run" => self.dry_run = true,
            "reject_trailing" => self.reject_trailing = true,
            "seed" => self.seed = number("a number")?,
            "verbose" | "debug" => self.verbose = true,
            "non_fatal" => {
                for kind in text()?.split([',', ' ']).filter(|k| !k.is_empty()) {
                    match kind {
                        "packet" => self.non_fatal_packet = true,
                        "syscall" => self.non_fatal_syscall = true,
                        _ => return Err(want("packet, syscall or both")),
                    }
                }
            }
            // The lexer took it.
            "define" => {}
            // About the machine that the original runs on: a gateway it routes through, the speed of its tun device, buffers that are not
            // freed so that tools see leaks, addresses beyond the interface's own, and the interpreter of code snippets (ours is built in).
            "gateway_ip" | "netmask_ip" | "speed" | "send_omit_free" | "is_anyip" | "code_command" | "code_format" => {}
            "code_sockopt" if matches!(value, Some("" | "TCP_INFO")) => {}
            "init_scripts" | "code_sockopt" | "so_filename" | "so_flags" | "wire_client" | "wire_server"
            | "wire_server_ip" | "wire_server_at" | "wire_server_port" | "wire_client_dev" | "wire_server_dev" => {
                return Err(Bad::Unsupported(format!("--{name}: scripts run against the stack in this process")));
            }
            _ => return Err(Bad::Wrong(format!("no option is called --{name}"))),
        }
        Ok(())
    }
}

/// An option that was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Bad {
    /// It exists elsewhere, not here.
    Unsupported(String),
    /// It or its value is wrong.
    Wrong(String),
}

fn port(n: u64) -> Option<u16> {
    u16::try_from(n).ok().filter(|&p| p > 0)
}
