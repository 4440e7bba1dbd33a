//! Tokens to a [`Script`].

mod expr;
mod packet;
#[cfg(test)]
mod tests;

use crate::ast::{Action, Command, Event, Expr, Script, ScriptOption, Syscall, Time};
use crate::error::{Failure, Result};
use crate::lex::{Defines, Tok, Token, lex};
use stackd_base::Duration;

/// Parses a script; `file` is for messages.
///
/// # Errors
/// With file and line, what was found and what would be right there.
pub fn parse(file: &str, text: &str, defines: &mut Defines) -> Result<Script> {
    let tokens = lex(file, text, defines)?;
    Parser { file, tokens, at: 0 }.script()
}

struct Parser<'a> {
    file: &'a str,
    tokens: Vec<Token>,
    at: usize,
}

impl Parser<'_> {
    fn script(&mut self) -> Result<Script> {
        let mut script = Script::default();
        while let Some(Tok::Option(name, value)) = self.peek().cloned() {
            script.options.push(ScriptOption { line: self.line(), name, value });
            self.at += 1;
        }
        if let Some(Tok::Command(text)) = self.peek().cloned() {
            script.init = Some(Command { line: self.line(), text });
            self.at += 1;
        }
        while self.peek().is_some() {
            if let (Some(Tok::Command(text)), true) = (self.peek().cloned(), self.at + 1 == self.tokens.len()) {
                script.cleanup = Some(Command { line: self.line(), text });
                self.at += 1;
                break;
            }
            let event = self.event()?;
            script.events.push(event);
        }
        Ok(script)
    }

    fn event(&mut self) -> Result<Event> {
        let line = self.line();
        let time = self.event_time()?;
        let action = match self.peek() {
            Some(Tok::Command(text)) => {
                let action = Action::Command(Command { line: self.line(), text: text.clone() });
                self.at += 1;
                action
            }
            Some(Tok::Code(text)) => {
                let action = Action::Code(text.clone());
                self.at += 1;
                action
            }
            Some(Tok::Punct('<' | '>')) => Action::Packet(Box::new(self.packet()?)),
            Some(Tok::Ellipsis | Tok::Word(_)) => Action::Syscall(self.syscall()?),
            _ => return self.fail("want a packet (< or >), a system call, a `command` or %{ code }%"),
        };
        let outbound = matches!(&action, Action::Packet(p) if !p.inbound);
        match time {
            Time::Any if !outbound => {
                return self.fail_at(line, "the time * is for outbound packets only");
            }
            Time::AbsoluteRange(..) | Time::RelativeRange(..) if !outbound => {
                return self.fail_at(line, "a time range is for outbound packets only");
            }
            Time::AbsoluteRange(a, b) | Time::RelativeRange(a, b) if b < a => {
                return self.fail_at(line, "the time range runs backwards");
            }
            _ => {}
        }
        Ok(Event { line, time, action })
    }

    fn event_time(&mut self) -> Result<Time> {
        if self.eat('*') {
            return Ok(Time::Any);
        }
        let relative = self.eat('+');
        let from = self.time()?;
        if self.eat('~') {
            if relative && !self.eat('+') {
                return self.fail("want + in front of the end of a relative range");
            }
            let to = self.time()?;
            return Ok(if relative { Time::RelativeRange(from, to) } else { Time::AbsoluteRange(from, to) });
        }
        Ok(if relative { Time::Relative(from) } else { Time::Absolute(from) })
    }

    /// Seconds, exactly.
    fn time(&mut self) -> Result<Duration> {
        let text = match self.peek() {
            Some(Tok::Int(n, _)) if *n >= 0 => format!("{n}.0"),
            Some(Tok::Float(v, text)) if *v >= 0.0 && !text.starts_with('-') => text.clone(),
            Some(Tok::Int(..) | Tok::Float(..)) => return self.fail("a time cannot be negative"),
            _ => return self.fail("want a time: 0.1 from the start, +0.1 from the event before, or *"),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u64::MAX) };
        let nanos: u64 = format!("{:0<9.9}", fraction).parse().unwrap_or(0);
        let Some(total) = whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(nanos)) else {
            return self.fail("that time is too far away");
        };
        self.at += 1;
        Ok(Duration::from_nanos(total))
    }

    fn syscall(&mut self) -> Result<Syscall> {
        let end = if self.eat_tok(&Tok::Ellipsis) { Some(self.time()?) } else { None };
        let name = self.word("the name of a system call")?;
        self.expect('(')?;
        let args = self.expr_list(')')?;
        self.expect('=')?;
        let result = self.expr()?;
        let mut errno = None;
        if let (Some(Tok::Word(w)), Some(Tok::Punct('('))) = (self.peek(), self.peek_at(1)) {
            errno = Some(w.clone());
            self.at += 1;
        }
        let note = if self.is_note() { Some(self.note()?) } else { None };
        Ok(Syscall { name, args, end, result, errno, note })
    }

    /// A `(` here begins a note: no event begins with one.
    fn is_note(&self) -> bool {
        self.peek() == Some(&Tok::Punct('('))
    }

    fn note(&mut self) -> Result<String> {
        self.expect('(')?;
        let mut words = Vec::new();
        while !self.eat(')') {
            match self.peek() {
                Some(t) => words.push(t.to_string()),
                None => return self.fail("a note is not closed: want )"),
            }
            self.at += 1;
        }
        Ok(words.join(" "))
    }

    /// Expressions up to `close`, which is taken.
    fn expr_list(&mut self, close: char) -> Result<Vec<Expr>> {
        let mut items = Vec::new();
        if self.eat(close) {
            return Ok(items);
        }
        loop {
            items.push(self.expr()?);
            if self.eat(close) {
                return Ok(items);
            }
            if !self.eat(',') {
                return self.fail(&format!("want , or {close}"));
            }
        }
    }

    fn peek(&self) -> Option<&Tok> {
        self.peek_at(0)
    }
    fn peek_at(&self, n: usize) -> Option<&Tok> {
        self.tokens.get(self.at + n).map(|t| &t.tok)
    }
    /// The line of the next token; of the last one at the end.
    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.line)
    }
    fn eat(&mut self, c: char) -> bool {
        self.eat_tok(&Tok::Punct(c))
    }
    fn eat_tok(&mut self, tok: &Tok) -> bool {
        let found = self.peek() == Some(tok);
        self.at += usize::from(found);
        found
    }
    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Tok::Word(w)) if w == word);
        self.at += usize::from(found);
        found
    }
    fn expect(&mut self, c: char) -> Result<()> {
        if self.eat(c) { Ok(()) } else { self.fail(&format!("want {c}")) }
    }
    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.eat_word(word) { Ok(()) } else { self.fail(&format!("want {word}")) }
    }
    fn word(&mut self, what: &str) -> Result<String> {
        match self.peek() {
            Some(Tok::Word(w)) => {
                let w = w.clone();
                self.at += 1;
                Ok(w)
            }
            _ => self.fail(&format!("want {what}")),
        }
    }
    /// A decimal or hexadecimal number from `low` to `high`.
    fn int(&mut self, what: &str, low: i64, high: i64) -> Result<i64> {
        let n = match self.peek() {
            Some(Tok::Int(n, _) | Tok::Hex(n)) => *n,
            _ => return self.fail(&format!("want {what}, a number")),
        };
        if !(low..=high).contains(&n) {
            return self.fail(&format!("{what} is out of range: want {low} to {high}"));
        }
        self.at += 1;
        Ok(n)
    }

    fn fail<T>(&self, what: &str) -> Result<T> {
        let found = self.peek().map_or_else(|| String::from("the end of the script"), |t| format!("\"{t}\""));
        Err(Failure::syntax(self.file, self.line(), format!("at {found}: {what}")))
    }
    fn fail_at<T>(&self, line: u32, what: &str) -> Result<T> {
        Err(Failure::syntax(self.file, line, what))
    }
    fn unsupported<T>(&self, what: &str) -> Result<T> {
        Err(Failure::unsupported(self.file, self.line(), what))
    }
}
