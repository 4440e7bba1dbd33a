//! Values with units, as people write them: `"64MiB"`, `"100mbit"`, `"20ms"`, `"1%"`, `"10.0.0.2/24"`.

use serde::{Deserialize, Deserializer, de::Error};
use stackd_base::{Bandwidth, Duration};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What a bad value is answered with: what it is, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadValue {
    what: String,
}

fn bad(value: &str, is_not: &str, want: &str) -> BadValue {
    BadValue { what: format!("{value:?} is not {is_not}; want {want}") }
}

/// Splits `"12.5mbit"` into the number and its lower-case unit.
fn number_and_unit(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim().to_ascii_lowercase()))
}

/// A number of bytes. `"64MiB"`, `"100MB"`, `"4096"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let want = "bytes, as \"4096\", \"512KiB\", \"64MiB\", \"1GiB\" or \"100MB\"";
        let (number, unit) = number_and_unit(text).ok_or_else(|| bad(text, "a size", want))?;
        let factor: f64 = match unit.as_str() {
            "" | "b" => 1.0,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1_048_576.0,
            "g" | "gib" => 1_073_741_824.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            _ => return Err(bad(text, "a size", want)),
        };
        Ok(Self((number * factor) as u64))
    }
}

/// A rate in bits per second, in `tc`'s units. `"100mbit"`, `"10gbit"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub Bandwidth);

impl FromStr for Rate {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let want = "a number of bits per second with a unit, as \"512kbit\", \"100mbit\" or \"10gbit\"";
        let (number, unit) = number_and_unit(text).ok_or_else(|| bad(text, "a rate", want))?;
        let factor: f64 = match unit.as_str() {
            "bit" => 1.0,
            "kbit" => 1e3,
            "mbit" => 1e6,
            "gbit" => 1e9,
            _ => return Err(bad(text, "a rate", want)),
        };
        let bits = (number * factor) as u64;
        if bits < 8 {
            return Err(bad(text, "a rate that anything can pass", want));
        }
        Ok(Self(Bandwidth::from_bits_per_sec(bits)))
    }
}

/// A span of time. `"20ms"`, `"500us"`, `"1.5s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let want = "a number with a unit, as \"50us\", \"20ms\" or \"1.5s\"";
        let (number, unit) = number_and_unit(text).ok_or_else(|| bad(text, "a time", want))?;
        let factor: f64 = match unit.as_str() {
            "ns" => 1.0,
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            _ => return Err(bad(text, "a time", want)),
        };
        Ok(Self(Duration::from_nanos((number * factor) as u64)))
    }
}

/// A share. `"1%"`, `"0.25%"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let want = "a percentage from \"0%\" to \"100%\"";
        match number_and_unit(text) {
            Some((number, unit)) if unit == "%" && number <= 100.0 => Ok(Self(number)),
            _ => Err(bad(text, "a share", want)),
        }
    }
}

/// An Ethernet address. `"02:00:00:00:00:01"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let want = "six bytes in hex of which the first is even, as \"02:00:00:00:00:01\"";
        let mut mac = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2);
            *byte =
                part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(|| bad(text, "a MAC address", want))?;
        }
        if parts.next().is_some() {
            return Err(bad(text, "a MAC address", want));
        }
        if mac[0] & 1 != 0 {
            return Err(bad(text, "an address that one station can have (its first byte is odd: a group)", want));
        }
        Ok(Self(mac))
    }
}

/// An address with the length of its network's prefix, or a network. `"10.0.0.2/24"`, `"fd00::/64"`, `"default"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Address, host bits as written.
    pub addr: IpAddr,
    /// Leading bits that name the network.
    pub len: u8,
}

impl FromStr for Prefix {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let want = "an address and a prefix length, as \"10.0.0.2/24\" or \"fd00::2/64\"";
        let (addr, len) = match text.split_once('/') {
            Some((addr, len)) => (addr, Some(len)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| bad(text, "an address", want))?;
        let max = if addr.is_ipv4() { 32 } else { 128 };
        let len = match len {
            None => max,
            Some(len) => len
                .parse()
                .ok()
                .filter(|&l| l <= max)
                .ok_or_else(|| bad(text, &format!("an address with a prefix length (at most {max} here)"), want))?,
        };
        Ok(Self { addr, len })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// Where a route leads to: a network, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Everything that no longer prefix matches, of the gateway's family (IPv4 without one).
    Default,
    /// One network.
    Network(Prefix),
}

impl FromStr for Destination {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let prefix: Prefix =
            text.parse().map_err(|_| bad(text, "a destination", "\"default\" or a network, as \"10.1.0.0/16\""))?;
        Ok(Self::Network(prefix))
    }
}

/// A group of users, by name or by number. `"stackd"`, `"1000"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(pub u32);

impl FromStr for Group {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let known = || uzers::get_group_by_name(text).map(|group| group.gid());
        // (gid_t)-1 is chown's "leave it as it is".
        let number = text.parse().ok().filter(|gid| *gid != u32::MAX);
        number
            .or_else(known)
            .map(Self)
            .ok_or_else(|| bad(text, "a group of this system", "one that `getent group` lists, or a number"))
    }
}

macro_rules! deserialize_from_text {
    ($($name:ident)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    )*};
}
deserialize_from_text! { Rate Span Percent Mac Prefix Destination Group }

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "want bytes, as 4096 or \"64MiB\"")]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(n) => Ok(Self(n)),
            Form::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_people_write_them() {
        assert_eq!("64MiB".parse(), Ok(Size(64 << 20)));
        assert_eq!("100MB".parse(), Ok(Size(100_000_000)));
        assert_eq!("1.5s".parse(), Ok(Span(Duration::from_millis(1500))));
        assert_eq!("10gbit".parse(), Ok(Rate(Bandwidth::from_bits_per_sec(10_000_000_000))));
        assert_eq!("0.25%".parse(), Ok(Percent(0.25)));
        assert_eq!("02:00:00:00:00:01".parse(), Ok(Mac([2, 0, 0, 0, 0, 1])));
        assert_eq!("default".parse(), Ok(Destination::Default));
        assert_eq!("root".parse(), Ok(Group(0)));
        assert_eq!("1000".parse(), Ok(Group(1000)));
    }

    #[test]
    fn bad_units_are_answered_with_what_would_be_right() {
        for (text, wants) in [("10", "kbit"), ("10mbits", "100mbit"), ("fast", "100mbit"), ("0bit", "mbit")] {
            let error = Rate::from_str(text).expect_err(text).to_string();
            assert!(error.contains(wants) && error.contains(text), "{error}");
        }
        assert!(Prefix::from_str("10.0.0.1/33").is_err());
        assert!(Prefix::from_str("10.0.0/8").is_err());
        assert!(Mac::from_str("01:00:00:00:00:01").is_err());
        assert!(Mac::from_str("02:00:00:00:00").is_err());
        assert!(Percent::from_str("101%").is_err());
        assert!(Size::from_str("4 apples").is_err());
        for text in ["no such group", "", "-1", "4294967295"] {
            let error = Group::from_str(text).expect_err(text).to_string();
            assert!(error.contains("getent group"), "{error}");
        }
    }
}
