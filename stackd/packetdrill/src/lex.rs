//! Script text to tokens.
//!
//! The language is free-form: line ends separate nothing, and three forms of comment are skipped (`// …`, `/* … */`, and `# …` at the start
//! of a line). User-defined symbols (`--define`) are replaced here, as the C preprocessor would.

use crate::error::{Failure, Result};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One word of a script.
#[derive(Clone, PartialEq, Debug)]
pub enum Tok {
    /// A name, a keyword, or TCP flags.
    Word(String),
    /// A decimal number, with its text (a Fast Open cookie may look like one).
    Int(i64, String),
    /// `0x…`.
    Hex(i64),
    /// A number with a point, with its text.
    Float(f64, String),
    /// `"…"`, escapes resolved.
    Str(Vec<u8>),
    /// `` `…` ``: a shell command.
    Command(String),
    /// `%{ … }%`.
    Code(String),
    /// `...`.
    Ellipsis,
    /// `--name` or `--name=value`, the value as it stands.
    Option(String, Option<String>),
    /// A dotted IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// Any other character.
    Punct(char),
}

impl std::fmt::Display for Tok {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(w) => f.write_str(w),
            Self::Int(_, t) | Self::Float(_, t) => f.write_str(t),
            Self::Hex(n) => write!(f, "{n:#x}"),
            Self::Str(s) => write!(f, "\"{}\"", s.escape_ascii()),
            Self::Command(c) => write!(f, "`{c}`"),
            Self::Code(_) => f.write_str("%{ … }%"),
            Self::Ellipsis => f.write_str("..."),
            Self::Option(n, None) => write!(f, "--{n}"),
            Self::Option(n, Some(v)) => write!(f, "--{n}={v}"),
            Self::V4(a) => a.fmt(f),
            Self::V6(a) => a.fmt(f),
            Self::Punct(c) => write!(f, "{c}"),
        }
    }
}

/// A token and the line it stands on.
#[derive(Clone, PartialEq, Debug)]
pub struct Token {
    /// What.
    pub tok: Tok,
    /// Where, counted from 1.
    pub line: u32,
}

/// Symbols that a script or the command line defined, and their text.
pub type Defines = BTreeMap<String, String>;

/// Cuts a script into tokens; `--define`s inside take effect from where they stand.
///
/// # Errors
/// An unterminated string, command, comment or code snippet.
pub fn lex(file: &str, text: &str, defines: &mut Defines) -> Result<Vec<Token>> {
    let mut lexer = Lexer { file, text, at: 0, line: 1, out: Vec::new(), defines };
    while lexer.next()? {}
    Ok(lexer.out)
}

struct Lexer<'a> {
    file: &'a str,
    text: &'a str,
    at: usize,
    line: u32,
    out: Vec<Token>,
    defines: &'a mut Defines,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, what: &str) -> Result<T> {
        Err(Failure::syntax(self.file, self.line, what))
    }

    fn push(&mut self, tok: Tok, line: u32) {
        self.out.push(Token { tok, line });
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let taken = &self.text[self.at..self.at + bytes];
        self.line += taken.bytes().filter(|&b| b == b'\n').count() as u32;
        self.at += bytes;
        taken
    }

    /// Takes one token or stretch of blank; false at the end.
    fn next(&mut self) -> Result<bool> {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else { return Ok(false) };
        let line = self.line;
        if c.is_whitespace() {
            self.advance(c.len_utf8());
        } else if rest.starts_with("//") || (c == '#' && self.at_line_start()) {
            self.advance(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            let Some(end) = rest.find("*/") else { return self.fail("a comment is not closed: want */") };
            self.advance(end + 2);
        } else if rest.starts_with("%{") {
            let Some(end) = rest.find("}%") else { return self.fail("a code snippet is not closed: want }%") };
            let code = self.advance(end + 2);
            self.push(Tok::Code(code[2..end].trim_matches([' ', '\t']).to_owned()), line);
        } else if c == '`' {
            let Some(body) = delimited(rest, '`') else { return self.fail("a command is not closed: want `") };
            self.advance(body.len() + 2);
            self.push(Tok::Command(body.replace("\\`", "`")), line);
        } else if c == '"' {
            let Some(body) = delimited(rest, '"') else { return self.fail("a string is not closed: want \"") };
            self.advance(body.len() + 2);
            self.push(Tok::Str(unescape(body)), line);
        } else if rest.starts_with("...") {
            self.advance(3);
            self.push(Tok::Ellipsis, line);
        } else if rest.starts_with("--") && rest[2..].starts_with(is_word) {
            self.option(line)?;
        } else if self.address(line) || self.number(line) || self.word(line)? {
        } else {
            self.advance(c.len_utf8());
            self.push(Tok::Punct(c), line);
        }
        Ok(true)
    }

    fn at_line_start(&self) -> bool {
        self.text[..self.at].rsplit('\n').next().is_none_or(|l| l.trim().is_empty())
    }

    fn option(&mut self, line: u32) -> Result<()> {
        self.advance(2);
        let name = self.take(is_word).to_owned();
        let mut value = None;
        if self.rest().starts_with('=') {
            self.advance(1);
            value = Some(self.option_value()?);
        }
        if name == "define" {
            let Some((symbol, text)) = value.as_deref().and_then(|v| v.split_once('=')) else {
                return self.fail("--define wants NAME=VALUE");
            };
            self.defines.insert(symbol.to_owned(), text.to_owned());
        }
        self.push(Tok::Option(name, value), line);
        Ok(())
    }

    /// Up to the next blank outside quotes.
    fn option_value(&mut self) -> Result<String> {
        let mut quote = None;
        let mut end = 0;
        for (i, c) in self.rest().char_indices() {
            match quote {
                Some(q) if c == q => quote = None,
                Some(_) => {}
                None if c == '"' || c == '`' => quote = Some(c),
                None if c.is_whitespace() => break,
                None => {}
            }
            end = i + c.len_utf8();
        }
        if quote.is_some() {
            return self.fail("an option's value is not closed");
        }
        let value = self.advance(end);
        // A quoted value as a whole is the text inside.
        Ok(match value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
            Some(inner) if !inner.contains('"') => inner.to_owned(),
            _ => value.to_owned(),
        })
    }

    fn take(&mut self, f: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let n = rest.find(|c| !f(c)).unwrap_or(rest.len());
        self.advance(n)
    }

    /// An IP address. `1:1001` is none: an IPv6 address has `::` or eight groups.
    fn address(&mut self, line: u32) -> bool {
        let rest = self.rest();
        let n = rest.find(|c: char| !c.is_ascii_hexdigit() && c != ':' && c != '.').unwrap_or(rest.len());
        let run = rest[..n].trim_end_matches('.');
        if run.contains("::") || run.matches(':').count() >= 7 {
            // A colon behind it may end an encapsulation header.
            let candidates = [run, run.strip_suffix(':').unwrap_or(run)];
            if let Some((text, a)) = candidates.iter().find_map(|t| Some((t, t.parse().ok()?))) {
                self.advance(text.len());
                self.push(Tok::V6(a), line);
                return true;
            }
        }
        let n = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if let Ok(a) = rest[..n].parse() {
            self.advance(n);
            self.push(Tok::V4(a), line);
            return true;
        }
        false
    }

    fn number(&mut self, line: u32) -> bool {
        let rest = self.rest();
        let unsigned = rest.strip_prefix('-').unwrap_or(rest);
        let sign = rest.len() - unsigned.len();
        let digits = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
        let after = &unsigned[digits..];
        if sign == 0
            && let Some(hex) = rest.strip_prefix("0x")
        {
            let n = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            if let Ok(v) = u64::from_str_radix(&hex[..n], 16) {
                self.advance(n + 2);
                self.push(Tok::Hex(v as i64), line);
                return true;
            }
        }
        let fraction = after.strip_prefix('.').map_or(0, |f| f.find(|c: char| !c.is_ascii_digit()).unwrap_or(f.len()));
        if fraction > 0 {
            let text = &rest[..sign + digits + 1 + fraction];
            let Ok(v) = text.parse() else { return false };
            self.advance(text.len());
            self.push(Tok::Float(v, text.to_owned()), line);
            return true;
        }
        // `12ab` is a word.
        if digits > 0 && !after.starts_with(is_word) {
            let text = &rest[..sign + digits];
            let v = text.parse::<i64>().unwrap_or(i64::MAX);
            self.advance(text.len());
            self.push(Tok::Int(v, text.to_owned()), line);
            return true;
        }
        false
    }

    fn word(&mut self, line: u32) -> Result<bool> {
        let word = self.take(is_word);
        if word.is_empty() {
            return Ok(false);
        }
        if word == "sequence" && self.rest().starts_with('#') {
            self.advance(1);
        }
        // The name in `--define` is a token of the option already, so what comes here is a use.
        let Some(value) = self.defines.get(word).cloned() else {
            self.push(Tok::Word(word.to_owned()), line);
            return Ok(true);
        };
        let tok = if let Some(s) = value.strip_prefix('"') {
            Tok::Str(unescape(s.strip_suffix('"').unwrap_or(s)))
        } else if let Some(s) = value.strip_prefix('`') {
            Tok::Command(s.strip_suffix('`').unwrap_or(s).to_owned())
        } else if let Ok(n) = value.parse() {
            Tok::Int(n, value)
        } else {
            Tok::Word(value)
        };
        self.push(tok, line);
        Ok(true)
    }
}

/// The text between `quote` at the start of `text` and the next one that no backslash hides.
fn delimited(text: &str, quote: char) -> Option<&str> {
    let body = &text[quote.len_utf8()..];
    let mut escaped = false;
    for (i, c) in body.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return Some(&body[..i]);
        }
    }
    None
}

/// C's escapes.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes().peekable();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let mut v = 0u8;
                for _ in 0..2 {
                    if let Some(d) = bytes.peek().and_then(|&d| char::from(d).to_digit(16)) {
                        v = v << 4 | d as u8;
                        bytes.next();
                    }
                }
                out.push(v);
            }
            Some(d @ b'0'..=b'7') => {
                let mut v = u32::from(d - b'0');
                for _ in 0..2 {
                    if let Some(d) = bytes.peek().and_then(|&d| char::from(d).to_digit(8)) {
                        v = v * 8 + d;
                        bytes.next();
                    }
                }
                out.push(v as u8);
            }
            Some(other) => out.push(other),
            None => out.push(b'\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toks(text: &str) -> Vec<Tok> {
        lex("t.pkt", text, &mut Defines::new()).expect("lexes").into_iter().map(|t| t.tok).collect()
    }
    fn word(s: &str) -> Tok {
        Tok::Word(s.into())
    }
    fn int(n: i64) -> Tok {
        Tok::Int(n, n.to_string())
    }

    #[test]
    fn flags_sequence_ranges_and_times_do_not_run_together() {
        let dot = Tok::Punct('.');
        assert_eq!(toks("S. 0:1"), [word("S"), dot.clone(), int(0), Tok::Punct(':'), int(1)]);
        assert_eq!(toks("P.5"), [word("P"), Tok::Float(0.5, ".5".into())]);
        assert_eq!(
            toks("+0.1...0.25 f"),
            [Tok::Punct('+'), Tok::Float(0.1, "0.1".into()), Tok::Ellipsis, Tok::Float(0.25, "0.25".into()), word("f")]
        );
        assert_eq!(toks("0...1"), [int(0), Tok::Ellipsis, int(1)]);
    }

    #[test]
    fn addresses_are_told_from_sequence_numbers() {
        assert_eq!(toks("192.0.2.1"), [Tok::V4(Ipv4Addr::new(192, 0, 2, 1))]);
        assert_eq!(
            toks("2001:db8::1: 1:1001"),
            [Tok::V6("2001:db8::1".parse().expect("address")), Tok::Punct(':'), int(1), Tok::Punct(':'), int(1001)]
        );
        assert_eq!(toks("::1"), [Tok::V6(Ipv6Addr::LOCALHOST)]);
    }

    #[test]
    fn all_three_comments_are_skipped_and_lines_counted() {
        let got = lex("t", "// a\n# b\n/* c\n */ d", &mut Defines::new()).expect("lexes");
        assert_eq!(got, [Token { tok: word("d"), line: 4 }]);
    }

    #[test]
    fn a_define_replaces_words_behind_it() {
        let got = toks("--define=CC=\"reno\" --define=N=5 CC N");
        assert_eq!(&got[2..], [Tok::Str(b"reno".to_vec()), int(5)]);
    }

    #[test]
    fn what_is_not_closed_names_its_line() {
        for text in ["\n`ls", "\n\"x", "\n%{ a", "\n/* a"] {
            let e = lex("f.pkt", text, &mut Defines::new()).expect_err("open");
            assert!(e.to_string().starts_with("f.pkt:2: "), "{e}");
        }
    }
}
