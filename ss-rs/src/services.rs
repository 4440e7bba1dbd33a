//! Port names from /etc/services.

use std::collections::HashMap;

use stackd_proto::v1::Transport;

/// Names of ports, both ways.
#[derive(Clone, Debug, Default)]
pub struct Services {
    by_port: HashMap<(i32, u16), String>,
    by_name: HashMap<String, u16>,
}

impl Services {
    /// From /etc/services; empty when it cannot be read.
    pub fn system() -> Self {
        std::fs::read_to_string("/etc/services").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// From text in the format of services(5); lines that are not in it are skipped.
    pub fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let (Some(name), Some(place)) = (words.next(), words.next()) else { continue };
            let Some((port, protocol)) = place.split_once('/') else { continue };
            let Ok(port) = port.parse::<u16>() else { continue };
            let transport = match protocol {
                "tcp" => Transport::Tcp,
                "udp" => Transport::Udp,
                _ => continue,
            };
            out.by_port.entry((transport as i32, port)).or_insert_with(|| name.to_owned());
            for name in std::iter::once(name).chain(words) {
                out.by_name.entry(name.to_owned()).or_insert(port);
            }
        }
        out
    }

    /// The name of a port.
    pub fn name(&self, transport: i32, port: u16) -> Option<&str> {
        self.by_port.get(&(transport, port)).map(String::as_str)
    }

    /// The port of a name or a number.
    pub fn port(&self, word: &str) -> Option<u16> {
        word.parse().ok().or_else(|| self.by_name.get(word).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_aliases_and_comments() {
        let s =
            Services::parse("http 80/tcp www # web\n# nothing\nhttps\t443/tcp\ndomain 53/udp\nbad line\nx 99999/tcp\n");
        assert_eq!(s.name(Transport::Tcp as i32, 80), Some("http"));
        assert_eq!(s.port("www"), Some(80));
        assert_eq!(s.port("8080"), Some(8080));
        assert_eq!(s.name(Transport::Udp as i32, 80), None);
        assert_eq!(s.port("x"), None);
    }
}
