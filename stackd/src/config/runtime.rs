//! A device that an operator adds while the daemon runs: the keys of a `[[device]]` table, one by one and as text.

use super::check;
use super::error::{ConfigError, Source};
use super::file::{DeviceConfig, File};
use serde::Deserialize as _;
use std::collections::BTreeMap;

/// How a key's text becomes its value.
fn value(key: &str, text: &str) -> Result<toml::Value, String> {
    let words = |t: &str| t.split(',').map(|w| toml::Value::String(w.trim().to_owned())).collect();
    match key {
        "queues" => text
            .parse()
            .map(toml::Value::Integer)
            .map_err(|_| format!("{text:?} is not a number of queues; want 1 to 64")),
        "addresses" | "host_addresses" => Ok(toml::Value::Array(words(text))),
        "offload" => match text {
            "on" | "true" => Ok(toml::Value::Boolean(true)),
            "off" | "false" => Ok(toml::Value::Boolean(false)),
            _ => Err(format!("{text:?}; want on or off")),
        },
        "emulate" | "emulate_ingress" => {
            let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
            let table: toml::Table = toml::from_str(&format!("v = {{ {inner} }}")).map_err(|e| {
                format!("{}; want the inside of its table, as 'rate=\"100mbit\", delay=\"10ms\"'", e.message())
            })?;
            Ok(table.get("v").cloned().unwrap_or(toml::Value::Table(toml::Table::new())))
        }
        _ => Ok(toml::Value::String(text.to_owned())),
    }
}

impl DeviceConfig {
    /// From the words of `ip link add NAME type KIND KEY VALUE...`, checked as the file's are. `workers`: how many shards there are.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what would be right.
    pub fn at_runtime(
        name: &str,
        kind: &str,
        mtu: Option<u32>,
        parameters: &BTreeMap<String, String>,
        workers: u8,
    ) -> Result<Self, ConfigError> {
        let fail = |key: &str, message: String| ConfigError {
            source: "ip link add".to_owned(),
            place: None,
            key: key.to_owned(),
            message,
        };
        let mut table = toml::Table::new();
        for (key, text) in parameters {
            table.insert(key.clone(), value(key, text).map_err(|why| fail(key, why))?);
        }
        table.insert("name".to_owned(), name.into());
        table.insert("kind".to_owned(), kind.into());
        if let Some(mtu) = mtu {
            table.insert("mtu".to_owned(), i64::from(mtu).into());
        }
        // One key at a time says which of them is wrong.
        let device = Self::deserialize(table.clone()).map_err(|whole| {
            let essential = |k: &&String| *k == "name" || *k == "kind";
            let guilty = table.keys().filter(|k| !essential(k)).find_map(|key| {
                let few = table.iter().filter(|(k, _)| *k == key || essential(k)).map(|(k, v)| (k.clone(), v.clone()));
                let few: toml::Table = few.collect();
                Self::deserialize(few).err().map(|e| (key.clone(), e.message().to_owned()))
            });
            let known = Self::deserialize(kind_only(&table)).is_ok();
            let (key, why) = match guilty {
                Some(found) if known => found,
                _ if known => ("type".to_owned(), whole.message().to_owned()),
                _ => ("type".to_owned(), "no such kind of device; want tap, wire or dummy".to_owned()),
            };
            fail(&key, why)
        })?;
        let file = File { workers: Some(workers), device: vec![device.clone()], ..File::default() };
        check::check(&file, &Source::new("ip link add", "")).map_err(|e| {
            let key = e.key.rsplit('.').next().unwrap_or_default().to_owned();
            ConfigError { key, ..e }
        })?;
        Ok(device)
    }

    /// The name of the kernel's side.
    pub fn kernel_name(&self) -> &str {
        self.host_name.as_deref().unwrap_or(&self.name)
    }
}

fn kind_only(table: &toml::Table) -> toml::Table {
    table.iter().filter(|(k, _)| *k == "name" || *k == "kind").map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeviceKind;

    fn made(kind: &str, parameters: &[(&str, &str)], workers: u8) -> Result<DeviceConfig, (String, String)> {
        let parameters = parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        DeviceConfig::at_runtime("x0", kind, Some(1400), &parameters, workers).map_err(|e| (e.key, e.message))
    }

    #[test]
    fn words_become_what_a_file_would_say() {
        let tap = made(
            "tap",
            &[("addresses", "10.0.0.2/24,fd00::2/64"), ("offload", "off"), ("emulate", "delay=\"10ms\"")],
            2,
        );
        let tap = tap.expect("a TAP");
        assert_eq!((tap.kind, tap.mtu, tap.addresses.len(), tap.offload), (DeviceKind::Tap, 1400, 2, false));
        assert!(tap.emulate.is_some_and(|e| e.delay.is_some()));
        assert_eq!(made("dummy", &[], 2).expect("a dummy").kind, DeviceKind::Dummy);
        assert_eq!(made("wire", &[("listen", "/x")], 1).expect("a wire").kind, DeviceKind::Wire);
    }

    #[test]
    fn errors_name_the_key_and_what_would_be_right() {
        for (kind, parameters, workers, key, says) in [
            ("veth", &[][..], 1, "type", "want tap, wire or dummy"),
            ("wire", &[], 1, "kind", "listen"),
            ("wire", &[("listen", "/x")], 2, "kind", "workers = 1"),
            ("tap", &[("queues", "many")], 1, "queues", "number"),
            ("tap", &[("queues", "3")], 1, "queues", "as many as workers"),
            ("tap", &[("addresses", "10.0.0.2/33")], 1, "addresses", "10.0.0.2/33"),
            ("tap", &[("colour", "red")], 1, "colour", "unknown field"),
            ("tap", &[("offload", "maybe")], 1, "offload", "on or off"),
            ("tap", &[("emulate", "delay=10")], 1, "emulate", ""),
            ("dummy", &[("listen", "/x")], 1, "listen", "no other end"),
            ("dummy", &[("host_name", "y")], 1, "kind", "no side in the kernel"),
        ] {
            let (at, why) = made(kind, parameters, workers).expect_err("refused");
            assert!(at == key && why.contains(says), "{kind} {parameters:?}: {at}: {why}");
        }
    }
}
