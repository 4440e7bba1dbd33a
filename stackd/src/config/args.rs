//! The command line and the environment.

use super::ConfigError;
use super::file::{DeviceConfig, File, LogFormat, NeighbourConfig, RouteConfig};
use super::units::{Group, Prefix, Size, Span};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// A TCP/IP stack that runs as an ordinary process.
///
/// Every option is also a key of the configuration file; a flag or variable wins over the file.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "stackd", version, max_term_width = 120)]
pub struct Args {
    /// Configuration file (TOML). Without one: loopback only, plus what flags ask for
    #[arg(long, short, env = "STACKD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read and check the configuration, say what is wrong with it, and end
    #[arg(long)]
    pub check: bool,
    /// Path of the gRPC control socket
    #[arg(long, env = "STACKD_CONTROL", value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// Path of the socket where clients attach
    #[arg(long, env = "STACKD_ATTACH", value_name = "PATH")]
    pub attach: Option<PathBuf>,
    /// Let only the daemon's user and this group open the two sockets (default: root's daemon lets everybody, others nobody)
    #[arg(long, env = "STACKD_GROUP", value_name = "GROUP")]
    pub group: Option<Group>,
    /// Worker threads (shards)
    #[arg(long, env = "STACKD_WORKERS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub workers: Option<u8>,
    /// The CPU that each worker stays on, in order, as 2,3 (default: the scheduler decides)
    #[arg(long, env = "STACKD_WORKER_CPUS", value_name = "CPU", value_delimiter = ',')]
    pub worker_cpus: Vec<u16>,
    /// Microseconds an idle worker watches before it blocks (0 = never)
    #[arg(long, env = "STACKD_SPIN_US", value_name = "US", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub spin_us: Option<u64>,
    /// Time that connections get to finish after SIGTERM
    #[arg(long, env = "STACKD_STOP_TIMEOUT", value_name = "TIME")]
    pub stop_timeout: Option<Span>,
    /// What to log: a level, or a `tracing` filter
    #[arg(long, env = "STACKD_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Shape of log lines
    #[arg(long, env = "STACKD_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Sessions at one time, of all users
    #[arg(long, env = "STACKD_QUOTA_SESSIONS", value_name = "N")]
    pub quota_sessions: Option<u32>,
    /// Sockets of one session
    #[arg(long, env = "STACKD_QUOTA_SOCKETS", value_name = "N")]
    pub quota_sockets: Option<u32>,
    /// Buffer memory of one session
    #[arg(long, env = "STACKD_QUOTA_MEMORY", value_name = "SIZE")]
    pub quota_memory: Option<Size>,
    /// Ring pairs (client threads) of one session
    #[arg(long, env = "STACKD_QUOTA_RINGS", value_name = "N")]
    pub quota_rings: Option<u16>,
    /// A sysctl, as in `sysctl -w`; may be repeated (in the variable: one a line)
    #[arg(long, env = "STACKD_SYSCTL", value_name = "KEY=VALUE", value_delimiter = '\n')]
    pub sysctl: Vec<String>,
    /// Open a TAP device of this name; may be repeated
    #[arg(long, env = "STACKD_TAP", value_name = "NAME", value_delimiter = ',')]
    pub tap: Vec<String>,
    /// An address: DEVICE=ADDRESS/LEN; may be repeated
    #[arg(long, env = "STACKD_ADDRESS", value_name = "DEV=ADDR/LEN", value_delimiter = ',')]
    pub address: Vec<String>,
    /// A device, written as the inside of its table in the file: 'name="w0", kind="wire", listen="/path"'; may be repeated
    #[arg(long, env = "STACKD_DEVICE", value_name = "TOML", value_delimiter = '\n')]
    pub device: Vec<String>,
    /// A route, written so: 'to="default", via="10.0.0.1"'; may be repeated
    #[arg(long, env = "STACKD_ROUTE", value_name = "TOML", value_delimiter = '\n')]
    pub route: Vec<String>,
    /// A neighbour, written so; may be repeated
    #[arg(long, env = "STACKD_NEIGHBOUR", value_name = "TOML", value_delimiter = '\n')]
    pub neighbour: Vec<String>,
}

fn flag_error(flag: &str, message: String) -> ConfigError {
    ConfigError { source: flag.to_owned(), place: None, key: String::new(), message }
}

fn inline<T: serde::de::DeserializeOwned>(flag: &str, text: &str) -> Result<T, ConfigError> {
    #[derive(serde::Deserialize)]
    struct Wrapper<T> {
        v: T,
    }
    let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
    toml::from_str::<Wrapper<T>>(&format!("v = {{ {inner} }}"))
        .map(|w| w.v)
        .map_err(|e| flag_error(flag, format!("{text:?}: {}", super::error::with_remedy(e.message()))))
}

/// The variable that a refused value came from: clap names the flag that stands for it, and nothing else.
fn variable_behind(error: &clap::Error, given: &[OsString]) -> Option<OsString> {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = shown.split_whitespace().next()?;
    let is_flag = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.split('=').next() == Some(flag));
    let command = Args::command();
    let arg = command.get_arguments().find(|arg| arg.get_long() == flag.strip_prefix("--"))?;
    let variable = arg.get_env()?;
    (!given.iter().any(is_flag) && std::env::var_os(variable).is_some()).then(|| variable.to_owned())
}

impl Args {
    /// What this process was given. A mistake ends it, and is told by the name that the user wrote.
    pub fn of_process() -> Self {
        let given: Vec<OsString> = std::env::args_os().collect();
        Self::try_parse_from(&given).unwrap_or_else(|error| {
            // Nobody is left to tell when even this cannot be written.
            let _ = error.print();
            if let Some(variable) = variable_behind(&error, &given) {
                eprintln!("The value is that of the environment variable {}.", variable.display());
            }
            std::process::exit(error.exit_code())
        })
    }

    /// The sysctls given here, split.
    pub(super) fn sysctls(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let mut all = Vec::new();
        for text in self.sysctl.iter().filter(|t| !t.trim().is_empty()) {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| flag_error("--sysctl", format!("{text:?} has no value; want KEY=VALUE")))?;
            all.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(all)
    }

    /// Lays what was given here over the file.
    pub(super) fn merge(&self, mut file: File) -> Result<File, ConfigError> {
        let Self {
            config: _,
            check: _,
            control,
            attach,
            group,
            workers,
            worker_cpus,
            spin_us,
            stop_timeout,
            log,
            log_format,
            quota_sessions,
            quota_sockets,
            quota_memory,
            quota_rings,
            sysctl: _,
            tap,
            address,
            device,
            route,
            neighbour,
        } = self;
        let over = |to: &mut Option<PathBuf>, from: &Option<PathBuf>| {
            if from.is_some() {
                to.clone_from(from);
            }
        };
        over(&mut file.control, control);
        over(&mut file.attach, attach);
        file.group = group.or(file.group);
        file.workers = workers.or(file.workers);
        if !worker_cpus.is_empty() {
            file.worker_cpus = Some(worker_cpus.clone());
        }
        file.spin_us = spin_us.or(file.spin_us);
        file.stop_timeout = stop_timeout.or(file.stop_timeout);
        if let Some(level) = log {
            file.log.level.clone_from(level);
        }
        file.log.format = log_format.unwrap_or(file.log.format);
        file.quota.sessions = quota_sessions.unwrap_or(file.quota.sessions);
        file.quota.sockets = quota_sockets.unwrap_or(file.quota.sockets);
        file.quota.memory = quota_memory.unwrap_or(file.quota.memory);
        file.quota.rings = quota_rings.unwrap_or(file.quota.rings);
        for name in tap {
            file.device.push(inline::<DeviceConfig>("--tap", &format!("name = {name:?}, kind = \"tap\""))?);
        }
        for text in device.iter().filter(|t| !t.trim().is_empty()) {
            file.device.push(inline("--device", text)?);
        }
        for text in route.iter().filter(|t| !t.trim().is_empty()) {
            file.route.push(inline::<RouteConfig>("--route", text)?);
        }
        for text in neighbour.iter().filter(|t| !t.trim().is_empty()) {
            file.neighbour.push(inline::<NeighbourConfig>("--neighbour", text)?);
        }
        for text in address {
            let want = "want DEVICE=ADDRESS/LEN, as tap0=10.0.0.2/24";
            let (name, prefix) = text
                .split_once('=')
                .ok_or_else(|| flag_error("--address", format!("{text:?} names no device; {want}")))?;
            let prefix: Prefix = prefix.parse().map_err(|e| flag_error("--address", format!("{e}")))?;
            let device = file.device.iter_mut().find(|d| d.name == name);
            let device = device.ok_or_else(|| {
                flag_error("--address", format!("there is no device {name:?}; open it with --tap {name} or --device"))
            })?;
            device.addresses.push(prefix);
        }
        // What flags added was not in the text that was checked: check the sum, with errors placed at the flags.
        let added = super::error::Source::new("the command line", "");
        super::check::check(&file, &added)?;
        Ok(file)
    }
}
