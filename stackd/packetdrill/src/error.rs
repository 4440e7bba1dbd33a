//! What can go wrong: always with file and line.

use std::fmt;

/// Why a script did not pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The text is not a script.
    Syntax,
    /// It is a script, but uses something that this interpreter cannot do.
    Unsupported,
    /// The stack did not do what the script expects.
    Mismatch,
}

/// A script that did not pass, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Failure {
    /// The script.
    pub file: String,
    /// Line, from 1; 0 = the whole file.
    pub line: u32,
    /// What kind of failure.
    pub kind: Kind,
    /// What, possibly over several lines.
    pub text: String,
}

/// A result with [`Failure`].
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// The text is not a script.
    pub fn syntax(file: &str, line: u32, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, kind: Kind::Syntax, text: text.into() }
    }
    /// Something that this interpreter cannot do.
    pub fn unsupported(file: &str, line: u32, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, kind: Kind::Unsupported, text: text.into() }
    }
    /// The stack did something else.
    pub fn mismatch(file: &str, line: u32, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, kind: Kind::Mismatch, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Syntax => "syntax error",
            Kind::Unsupported => "unsupported",
            Kind::Mismatch => "error",
        };
        write!(f, "{}:{}: {what}: {}", self.file, self.line, self.text)
    }
}
