//! Structured logs, and what the service manager is told.

use crate::config::{LogConfig, LogFormat};
use anyhow::{Context, Result};
use sd_notify::NotifyState;
use tracing_subscriber::EnvFilter;

/// Sends logs to standard error, as the configuration wants them.
pub fn init_logs(config: &LogConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.level).with_context(|| {
        format!("log level {:?} is not a filter; want \"info\" or \"stackd=debug,tonic=warn\"", config.level)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match config.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|e| anyhow::anyhow!("logs cannot be set up: {e}"))
}

/// Tells the service manager, if there is one. A daemon that nobody supervises runs just as well, so failures are only logged.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}
