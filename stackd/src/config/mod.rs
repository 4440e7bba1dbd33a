//! The daemon's configuration: a TOML file, flags and `STACKD_*` variables, merged in that order (later wins).
//!
//! `file.rs` is what may be written, `units.rs` how values are written, `error.rs` how mistakes are reported, `args.rs` the
//! command line, `paths.rs` where sockets live when nobody says.

mod args;
mod check;
mod error;
mod file;
mod paths;
mod runtime;
mod units;

#[cfg(test)]
mod tests;

pub use args::Args;
pub use error::ConfigError;
pub use file::{
    DeviceConfig, DeviceKind, EmulateConfig, LogConfig, LogFormat, NeighbourConfig, QuotaConfig, RouteConfig, RouteKind,
};
pub use paths::runtime_dir;
pub use units::{BadValue, Destination, Group, Mac, Percent, Prefix, Rate, Size, Span};

use error::{Source, Step};
use file::File;
use std::path::PathBuf;

/// Everything the daemon is told, defaults filled in, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The gRPC control socket.
    pub control: PathBuf,
    /// The socket where clients attach.
    pub attach: PathBuf,
    /// Who besides the daemon's user may open the two sockets; none: everybody if the daemon is root's, else nobody.
    pub group: Option<Group>,
    /// Shards: worker threads, each with its own connections, timers and device queue.
    pub workers: u8,
    /// The CPU that each worker stays on, in order; empty: the scheduler decides.
    pub worker_cpus: Vec<u16>,
    /// How long an idle shard watches its rings and devices before it blocks, in microseconds. 0 = never.
    pub spin_us: u64,
    /// How long a stopping daemon lets connections finish before it ends anyway.
    pub stop_timeout: Span,
    /// What is logged, and how.
    pub log: LogConfig,
    /// What one client may take.
    pub quota: QuotaConfig,
    /// Sysctls of the file by name, then those of flags.
    pub sysctls: Vec<(String, String)>,
    /// Interfaces besides `lo`.
    pub devices: Vec<DeviceConfig>,
    /// Routes besides the connected ones.
    pub routes: Vec<RouteConfig>,
    /// Permanent neighbours.
    pub neighbours: Vec<NeighbourConfig>,
    /// What errors call the source of these values.
    pub source: String,
}

impl Config {
    /// Reads what `args` points to and merges what it says. The first mistake ends it.
    pub fn load(args: &Args) -> Result<Self, ConfigError> {
        match &args.config {
            None => Self::from_text("the embedded default", "", args),
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
                    source: name.clone(),
                    place: None,
                    key: String::new(),
                    message: format!(
                        "cannot be read: {e}; name a readable file with --config, or leave it out for the default"
                    ),
                })?;
                Self::from_text(&name, &text, args)
            }
        }
    }

    /// The same from text in memory; `name` is what errors call it.
    pub fn from_text(name: &str, text: &str, args: &Args) -> Result<Self, ConfigError> {
        let source = Source::new(name, text);
        let file: File = source.parse()?;
        check::check(&file, &source)?;
        let file = args.merge(file)?;
        let dir = paths::runtime_dir();
        let File {
            control,
            attach,
            group,
            workers,
            worker_cpus,
            spin_us,
            stop_timeout,
            log,
            quota,
            sysctl,
            device,
            route,
            neighbour,
        } = file;
        let mut sysctls = Vec::new();
        for (key, value) in sysctl {
            let value = file::sysctl_text(&value).ok_or_else(|| {
                source.error(&[Step::Key("sysctl"), Step::Key(&key)], "want a number, a string, or an array of them")
            })?;
            sysctls.push((key, value));
        }
        sysctls.extend(args.sysctls()?);
        Ok(Self {
            control: control.unwrap_or_else(|| dir.join("control.sock")),
            attach: attach.unwrap_or_else(|| dir.join("attach.sock")),
            group,
            workers: workers.unwrap_or(1),
            worker_cpus: worker_cpus.unwrap_or_default(),
            spin_us: spin_us.unwrap_or(file::DEFAULT_SPIN_US),
            stop_timeout: stop_timeout.unwrap_or(file::DEFAULT_STOP_TIMEOUT),
            log,
            quota,
            sysctls,
            devices: device,
            routes: route,
            neighbours: neighbour,
            source: name.to_owned(),
        })
    }

    /// An error about a sysctl that the stack refused, placed where it was written if that was the file.
    pub fn sysctl_error(&self, args: &Args, key: &str, message: impl std::fmt::Display) -> ConfigError {
        if args.sysctls().is_ok_and(|s| s.iter().any(|(k, _)| k == key)) {
            return ConfigError {
                source: "--sysctl".into(),
                place: None,
                key: key.into(),
                message: message.to_string(),
            };
        }
        let text = args.config.as_ref().and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
        Source::new(&self.source, &text).error(&[Step::Key("sysctl"), Step::Key(key)], message)
    }

    /// An error about device `index`, placed at its `key` in the file.
    pub fn device_error(&self, args: &Args, index: usize, key: &str, message: impl std::fmt::Display) -> ConfigError {
        let text = args.config.as_ref().and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
        Source::new(&self.source, &text).error(&[Step::Key("device"), Step::Index(index), Step::Key(key)], message)
    }

    /// An error about route `index`.
    pub fn route_error(&self, args: &Args, index: usize, key: &str, message: impl std::fmt::Display) -> ConfigError {
        let text = args.config.as_ref().and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
        Source::new(&self.source, &text).error(&[Step::Key("route"), Step::Index(index), Step::Key(key)], message)
    }
}
