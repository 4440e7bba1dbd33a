//! A command line read word by word, as iproute2 reads it.

use crate::cli::Failure;

/// The words that are left.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    words: &'a [String],
    at: usize,
}

impl<'a> Words<'a> {
    /// All of `words`.
    pub fn new(words: &'a [String]) -> Self {
        Self { words, at: 0 }
    }

    /// The next word, not taken.
    pub fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).map(String::as_str)
    }

    /// The next word; `None` at the end.
    pub fn take(&mut self) -> Option<&'a str> {
        let word = self.peek();
        self.at += usize::from(word.is_some());
        word
    }

    /// Takes the next word if it is `word`.
    pub fn eat(&mut self, word: &str) -> bool {
        let hit = self.peek() == Some(word);
        self.at += usize::from(hit);
        hit
    }

    /// The argument of `keyword`, or an error that says what is missing.
    pub fn value(&mut self, keyword: &str) -> Result<&'a str, Failure> {
        self.take().ok_or_else(|| Failure::usage(format!("Command line is not complete. \"{keyword}\" wants a value.")))
    }

    /// The argument of `keyword`, parsed; `want` says what would be right.
    pub fn parse<T>(&mut self, keyword: &str, want: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
        let text = self.value(keyword)?;
        parse(text).ok_or_else(|| wrong(keyword, text, want))
    }

    /// A plain number.
    pub fn number<T: std::str::FromStr>(&mut self, keyword: &str) -> Result<T, Failure> {
        self.parse(keyword, "a number", |text| text.parse().ok())
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(Failure::usage(format!("Error: either \"{word}\" is a garbage or it came too early."))),
        }
    }
}

/// iproute2's words for a bad argument, and what would be right.
pub fn wrong(keyword: &str, value: &str, want: &str) -> Failure {
    Failure::usage(format!("Error: argument \"{value}\" is wrong: invalid \"{keyword}\" value; want {want}"))
}
