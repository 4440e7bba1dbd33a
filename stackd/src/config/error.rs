//! What is wrong with a configuration: file, line, key, and what would be right.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, or the flag that gave the value.
    pub source: String,
    /// Line and column (from 1) if the source is a file and the place is known.
    pub place: Option<(usize, usize)>,
    /// Dotted path of the key ("device.rate"); empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, place, key, message } = self;
        f.write_str(source)?;
        if let Some((line, column)) = place {
            write!(f, ":{line}:{column}")?;
        }
        if !key.is_empty() {
            write!(f, ": {key}")?;
        }
        write!(f, ": {message}")
    }
}
impl std::error::Error for ConfigError {}

/// Line and column, both from 1, of byte `at`.
fn place_of(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    let column = at.min(text.len()) - before.iter().rposition(|&b| b == b'\n').map_or(0, |p| p + 1) + 1;
    (line, column)
}

/// One step of a path into a document.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Into a table.
    Key(&'a str),
    /// Into an array.
    Index(usize),
}

/// A key that is missing is told with what could stand there; the parser knows its name alone.
pub(super) fn with_remedy(message: &str) -> String {
    let field = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    let example = match field {
        Some("kind") => "kind = \"tap\", \"wire\" or \"dummy\"",
        Some("name") => "name = \"tap0\"",
        Some("to") => "to = \"default\" or a network, as \"10.1.0.0/16\"",
        Some("addr") => "addr = \"10.0.0.1\"",
        Some("mac") => "mac = \"02:00:00:00:00:01\"",
        Some("dev") => "dev = \"tap0\"",
        _ => return message.to_owned(),
    };
    format!("{message}; want {example}")
}

/// A parsed file that can still say where everything stood.
#[derive(Debug)]
pub struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    /// `name` is what errors call it.
    pub fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text }
    }

    /// Parses the text; a failure names the place, the key and the remedy.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(self.text).map_err(|e| {
            let key = e.span().map(|s| self.key_at(&s)).unwrap_or_default();
            ConfigError {
                source: self.name.to_owned(),
                place: e.span().map(|s| place_of(self.text, s.start)),
                key,
                message: with_remedy(&one_line(e.message())),
            }
        })
    }

    /// An error about the value at `path`.
    pub fn error(&self, path: &[Step<'_>], message: impl fmt::Display) -> ConfigError {
        let key = path
            .iter()
            .filter_map(|s| match s {
                Step::Key(k) if k.contains('.') => Some(format!("\"{k}\"")),
                Step::Key(k) => Some((*k).to_owned()),
                Step::Index(_) => None,
            })
            .collect::<Vec<_>>()
            .join(".");
        let place = toml_edit::Document::parse(self.text).ok().and_then(|doc| {
            let span = span_at(doc.as_item(), path)?;
            Some(place_of(self.text, span.start))
        });
        ConfigError { source: self.name.to_owned(), place, key, message: message.to_string() }
    }

    /// The dotted key whose value (or name) covers `span`, as far as the text can be read at all.
    fn key_at(&self, span: &Range<usize>) -> String {
        let Ok(doc) = toml_edit::Document::parse(self.text) else { return String::new() };
        let mut path = Vec::new();
        walk(doc.as_item(), span, &mut path);
        path.join(".")
    }
}

/// serde's messages may run over several lines; a log wants one.
fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}

fn span_at(mut item: &toml_edit::Item, path: &[Step<'_>]) -> Option<Range<usize>> {
    let mut span = None;
    for (i, step) in path.iter().enumerate() {
        match step {
            Step::Key(key) => {
                let table = item.as_table_like()?;
                let (k, next) = table.get_key_value(key)?;
                span = k.span().or_else(|| next.span());
                item = next;
            }
            Step::Index(index) => {
                if let Some(tables) = item.as_array_of_tables() {
                    let table = tables.get(*index)?;
                    span = table.span();
                    let Some(Step::Key(key)) = path.get(i + 1) else { return span };
                    let Some((k, next)) = table.get_key_value(key) else { return span };
                    return span_at(next, &path[i + 2..]).or_else(|| k.span());
                }
                let value = item.as_array()?.get(*index)?;
                span = value.span();
                let Some(Step::Key(key)) = path.get(i + 1) else { return span };
                return value.as_inline_table()?.get_key_value(key).and_then(|(k, _)| k.span()).or(span);
            }
        }
    }
    span
}

fn covers(outer: Option<Range<usize>>, inner: &Range<usize>) -> bool {
    outer.is_some_and(|o| o.start <= inner.start && inner.end <= o.end)
}

/// Pushes the names on the way to the item that covers `span`.
fn walk(item: &toml_edit::Item, span: &Range<usize>, path: &mut Vec<String>) {
    if let Some(tables) = item.as_array_of_tables() {
        if let Some(table) = tables.iter().filter(|t| t.span().is_some_and(|s| s.start <= span.start)).last() {
            walk_table(table, span, path);
        }
    } else if let Some(array) = item.as_array() {
        for value in array.iter().filter(|v| covers(v.span(), span)) {
            if let Some(table) = value.as_inline_table() {
                walk_table(table, span, path);
            }
        }
    } else if let Some(table) = item.as_table_like() {
        walk_table(table, span, path);
    }
}

fn walk_table(table: &dyn toml_edit::TableLike, span: &Range<usize>, path: &mut Vec<String>) {
    // A `[table]`'s span is its header alone, so every table is looked into; the value that covers the span decides.
    for (name, item) in table.iter() {
        let key = table.get_key_value(name).and_then(|(k, _)| k.span());
        if covers(key, span) || (item.is_value() && covers(item.span(), span)) {
            path.push(name.to_owned());
            walk(item, span, path);
            return;
        }
    }
    for (name, item) in table.iter().filter(|(_, item)| !item.is_value()) {
        let mut below = Vec::new();
        walk(item, span, &mut below);
        if !below.is_empty() || covers(item.span(), span) {
            path.push(name.to_owned());
            path.append(&mut below);
            return;
        }
    }
}
