//! `--set`: another value of a sysctl, in every configuration that was recorded.

use anyhow::Result;
use stackd_netstack::sysctl::Sysctls;
use stackd_tcp::Config;

/// `key=value`, as `sysctl -w` takes it.
pub fn parse(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text}: want KEY=VALUE"))?;
    Ok((key.trim().replace('/', "."), value.trim().to_owned()))
}

/// The values to be set.
pub struct Change {
    values: Vec<(String, String)>,
    without_effect: Vec<String>,
}

impl Change {
    /// Checks them against the configuration that the recording begins with.
    pub fn new(values: &[(String, String)], recorded: &Config) -> Result<Self> {
        let mut sysctls = Sysctls { tcp: recorded.clone(), ..Sysctls::default() };
        let mut without_effect = Vec::new();
        for (key, value) in values {
            let before = sysctls.tcp.clone();
            sysctls.set(key, value)?;
            if sysctls.tcp == before {
                without_effect.push(format!("{key}={value}"));
            }
        }
        Ok(Self { values: values.to_vec(), without_effect })
    }

    /// Those that are in force already, or that no connection reads.
    pub fn without_effect(&self) -> impl Iterator<Item = String> {
        self.without_effect.clone().into_iter()
    }

    /// A recorded configuration with them.
    pub fn apply(&self, cfg: Config) -> Config {
        let mut sysctls = Sysctls { tcp: cfg, ..Sysctls::default() };
        for (key, value) in &self.values {
            // It was taken once; what it may be does not depend on the rest.
            let _ = sysctls.set(key, value);
        }
        sysctls.tcp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Result<Change> {
        Change::new(&[parse(text).map_err(anyhow::Error::msg)?], &Config::default())
    }

    #[test]
    fn values_are_the_sysctls_own() {
        let change = set("net.ipv4.tcp_congestion_control=bbr").expect("a key that acts");
        assert_eq!(change.apply(Config { nodelay: true, ..Config::default() }).congestion, "bbr");
        assert!(change.apply(Config { nodelay: true, ..Config::default() }).nodelay, "the rest stays");
        assert_eq!(change.without_effect().count(), 0);
        assert!(set("net.ipv4.tcp_congestion_control=vegas").is_err());
        assert!(set("net.ipv4.tcp_conjestion_control=bbr").is_err());
        assert!(parse("net.ipv4.tcp_sack").is_err());
        // Known, but nothing that a connection reads.
        assert_eq!(set("net.core.somaxconn=7").expect("a key").without_effect().count(), 1);
    }
}
