//! The declarative registry: what a key is called, what it takes, what it does, and errors that say what would be right.

use super::Sysctls;
use core::fmt;
use thiserror::Error;

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// One number in an inclusive range.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// `min default max`, each in an inclusive range and in ascending order.
    Triple {
        /// Smallest value of each.
        min: i64,
        /// Largest value of each.
        max: i64,
    },
    /// `first last`: two ports in ascending order.
    PortRange,
    /// Comma-separated ports and ranges of ports.
    PortList,
    /// One word out of a list that depends on the build.
    Choice(fn() -> Vec<&'static str>),
    /// Some words out of that list.
    Choices(fn() -> Vec<&'static str>),
    /// Text of a form of its own.
    Text {
        /// Whether it is legal.
        check: fn(&str) -> bool,
        /// What would be.
        want: &'static str,
    },
    /// Cannot be written.
    ReadOnly,
}

/// A parsed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// For [`Kind::Int`].
    Int(i64),
    /// For [`Kind::Triple`].
    Triple([i64; 3]),
    /// For [`Kind::PortRange`] and [`Kind::PortList`]: inclusive ranges.
    Ports(Vec<(u16, u16)>),
    /// For [`Kind::Choice`] and [`Kind::Choices`].
    Words(Vec<&'static str>),
    /// For [`Kind::Text`].
    Text(String),
}

impl Value {
    /// The number of an `Int`; other kinds have none.
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            Self::Triple(_) | Self::Ports(_) | Self::Words(_) | Self::Text(_) => 0,
        }
    }
    /// The numbers of a `Triple`.
    pub fn triple(&self) -> [i64; 3] {
        match self {
            Self::Triple(t) => *t,
            Self::Int(_) | Self::Ports(_) | Self::Words(_) | Self::Text(_) => [0; 3],
        }
    }
}

/// One key.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Linux's dotted name, or one that begins with `stackd.`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it does, in a sentence or two, with units.
    pub doc: &'static str,
    /// The current value as Linux prints it.
    pub get: fn(&Sysctls) -> String,
    /// Puts a legal value in force.
    pub set: fn(&mut Sysctls, &Value),
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Why a sysctl could not be read or written. The text names the key, the value, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum SysctlError {
    #[error("{name}: no such key{}", .near.map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    Unknown { name: String, near: Option<&'static str> },
    #[error("{name}: cannot be written")]
    ReadOnly { name: String },
    #[error("{name}: {value:?} is not a number; want {want}")]
    NotANumber { name: String, value: String, want: String },
    #[error("{name}: {value} is out of range; want {min} to {max}")]
    OutOfRange { name: String, value: i64, min: i64, max: i64 },
    #[error("{name}: {got} values in {value:?}; want {want}")]
    Count { name: String, value: String, got: usize, want: &'static str },
    #[error("{name}: {high_name:?} ({high}) is below {low_name:?} ({low}); want {want}")]
    Order { name: String, high_name: &'static str, high: i64, low_name: &'static str, low: i64, want: &'static str },
    #[error("{name}: {value:?} is not understood; want {want}")]
    Text { name: String, value: String, want: &'static str },
    #[error("{name}: {value:?} is not available; want one of: {}", .choices.join(" "))]
    Choice { name: String, value: String, choices: Vec<&'static str> },
}

impl Entry {
    /// Reads a value as a user writes it.
    ///
    /// # Errors
    /// What is wrong with `text`, and what would be right.
    pub fn parse(&self, text: &str) -> Result<Value, SysctlError> {
        Parser { name: self.name, kind: self.kind }.parse(text)
    }
}

/// Reads the values of one key.
pub(super) struct Parser<'a> {
    pub name: &'a str,
    pub kind: Kind,
}

impl Parser<'_> {
    pub(super) fn parse(&self, text: &str) -> Result<Value, SysctlError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match self.kind {
            Kind::Int { min, max } => {
                let [word] = words[..] else { return Err(self.count(text, words.len(), "one number")) };
                self.number(word, min, max).map(Value::Int)
            }
            Kind::Triple { min, max } => {
                let [a, b, c] = words[..] else { return Err(self.count(text, words.len(), "three: min default max")) };
                let t = [self.number(a, min, max)?, self.number(b, min, max)?, self.number(c, min, max)?];
                self.ascending(t).map(Value::Triple)
            }
            Kind::PortRange => {
                let [a, b] = words[..] else { return Err(self.count(text, words.len(), "two: first last")) };
                let (first, last) = (self.number(a, 1, 65_535)?, self.number(b, 1, 65_535)?);
                if last < first {
                    return Err(self.order("last", last, "first", first, "first <= last"));
                }
                Ok(Value::Ports(vec![(first as u16, last as u16)]))
            }
            Kind::PortList => text
                .split([',', ' ', '\t', '\n'])
                .filter(|part| !part.is_empty())
                .map(|part| {
                    let (a, b) = part.split_once('-').unwrap_or((part, part));
                    let (first, last) = (self.number(a, 1, 65_535)?, self.number(b, 1, 65_535)?);
                    if last < first {
                        return Err(self.order("end", last, "start", first, "start-end with start <= end"));
                    }
                    Ok((first as u16, last as u16))
                })
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Ports),
            Kind::Choice(list) => {
                let [word] = words[..] else { return Err(self.count(text, words.len(), "one word")) };
                self.choice(word, list()).map(|w| Value::Words(vec![w]))
            }
            Kind::Choices(list) => {
                words.iter().map(|w| self.choice(w, list())).collect::<Result<_, _>>().map(Value::Words)
            }
            Kind::Text { check, want } => {
                let text = text.trim();
                if check(text) {
                    Ok(Value::Text(text.into()))
                } else {
                    Err(SysctlError::Text { name: self.name.into(), value: text.into(), want })
                }
            }
            Kind::ReadOnly => Err(SysctlError::ReadOnly { name: self.name.into() }),
        }
    }

    fn number(&self, word: &str, min: i64, max: i64) -> Result<i64, SysctlError> {
        // As the kernel's proc_dointvec: decimal, octal with 0, hexadecimal with 0x.
        let (sign, digits) = word.strip_prefix('-').map_or((1, word), |rest| (-1, rest));
        let parsed = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => i64::from_str_radix(&digits[2..], 16),
            [b'0', _, ..] => i64::from_str_radix(&digits[1..], 8),
            _ => digits.parse(),
        };
        let value = match parsed {
            Ok(n) if !digits.starts_with(['+', '-']) => sign * n,
            _ => {
                let want = format!("a number from {min} to {max}");
                return Err(SysctlError::NotANumber { name: self.name.into(), value: word.into(), want });
            }
        };
        if !(min..=max).contains(&value) {
            return Err(SysctlError::OutOfRange { name: self.name.into(), value, min, max });
        }
        Ok(value)
    }

    fn ascending(&self, t: [i64; 3]) -> Result<[i64; 3], SysctlError> {
        let names =
            if self.name == "net.ipv4.tcp_mem" { ["low", "pressure", "high"] } else { ["min", "default", "max"] };
        let want = if self.name == "net.ipv4.tcp_mem" { "low <= pressure <= high" } else { "min <= default <= max" };
        for i in 1..3 {
            if t[i] < t[i - 1] {
                return Err(self.order(names[i], t[i], names[i - 1], t[i - 1], want));
            }
        }
        Ok(t)
    }

    fn choice(&self, word: &str, choices: Vec<&'static str>) -> Result<&'static str, SysctlError> {
        match choices.iter().find(|&&c| c == word) {
            Some(&c) => Ok(c),
            None => Err(SysctlError::Choice { name: self.name.into(), value: word.into(), choices }),
        }
    }

    fn count(&self, value: &str, got: usize, want: &'static str) -> SysctlError {
        SysctlError::Count { name: self.name.into(), value: value.trim().into(), got, want }
    }

    fn order(
        &self,
        high_name: &'static str,
        high: i64,
        low_name: &'static str,
        low: i64,
        want: &'static str,
    ) -> SysctlError {
        SysctlError::Order { name: self.name.into(), high_name, high, low_name, low, want }
    }
}

/// The key of this name. Linux's `/` spelling (`net/ipv4/tcp_sack`) is understood too.
///
/// # Errors
/// [`SysctlError::Unknown`], with the nearest name.
pub fn find<'a>(table: impl Iterator<Item = &'a Entry> + Clone, name: &str) -> Result<&'a Entry, SysctlError> {
    let dotted = name.trim().replace('/', ".");
    if let Some(entry) = table.clone().find(|e| e.name == dotted) {
        return Ok(entry);
    }
    let near = table
        .map(|e| (distance(&dotted, e.name), e.name))
        .min()
        .filter(|&(d, _)| d <= (dotted.len() / 4).clamp(1, 6))
        .map(|(_, n)| n);
    Err(SysctlError::Unknown { name: dotted, near })
}

/// Levenshtein distance, for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut diagonal = core::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.bytes().enumerate() {
            let cost = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
