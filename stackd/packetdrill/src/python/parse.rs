//! Text to statements.

use super::{Expr, PyError, Stmt, StmtKind, Value};

type Parsed<T> = Result<T, PyError>;

#[derive(Clone, PartialEq, Debug)]
enum Tok {
    Name(String),
    Value(Value),
    Op(&'static str),
}

const OPS: [&str; 37] = [
    "**=", "//=", "<<=", ">>=", "**", "//", "<<", ">>", "<=", ">=", "==", "!=", "+=", "-=", "*=", "/=", "%=", "|=",
    "&=", "^=", "+", "-", "*", "/", "%", "|", "&", "^", "~", "<", ">", "=", "(", ")", "[", "]", ",",
];
const MORE_OPS: [&str; 2] = [":", ";"];

/// A logical line: its number, its indentation, its tokens and text.
struct Line {
    number: u32,
    indent: usize,
    toks: Vec<Tok>,
    text: String,
}

pub(super) fn program(text: &str) -> Parsed<Vec<Stmt>> {
    let lines = lines(text)?;
    let mut at = 0;
    let out = block(&lines, &mut at, lines.first().map_or(0, |l| l.indent))?;
    match lines.get(at) {
        Some(l) => Err(PyError::Failed(l.number, format!("unexpected indentation: {}", l.text))),
        None => Ok(out),
    }
}

pub(super) fn expression(text: &str) -> Parsed<Expr> {
    let toks = tokens(text, 0)?;
    let mut p = Parser { toks: &toks, at: 0, line: 0, text };
    let e = p.expr()?;
    p.end()?;
    Ok(e)
}

/// Lines with open brackets or a backslash at their end go on.
fn lines(text: &str) -> Parsed<Vec<Line>> {
    let mut out: Vec<Line> = Vec::new();
    let mut open = 0i32;
    let mut continued = false;
    for (number, raw) in text.lines().enumerate() {
        let number = number as u32;
        let body = raw.trim_end();
        let (body, goes_on) = body.strip_suffix('\\').map_or((body, false), |b| (b, true));
        let toks = tokens(body, number)?;
        if toks.is_empty() && !continued {
            continue;
        }
        for t in &toks {
            match t {
                Tok::Op("(" | "[") => open += 1,
                Tok::Op(")" | "]") => open -= 1,
                _ => {}
            }
        }
        if continued && let Some(last) = out.last_mut() {
            last.toks.extend(toks);
            last.text.push(' ');
            last.text.push_str(body.trim());
        } else {
            let indent = body.len() - body.trim_start().len();
            out.push(Line { number, indent, toks, text: body.trim().to_owned() });
        }
        continued = goes_on || open > 0;
    }
    // The first line lost its blanks when the snippet was cut out: it stands where the others stand.
    if let [first, second, ..] = out.as_mut_slice()
        && first.number == 0
        && !first.toks.ends_with(&[Tok::Op(":")])
    {
        first.indent = second.indent;
    }
    Ok(out)
}

fn tokens(text: &str, line: u32) -> Parsed<Vec<Tok>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            rest = &rest[c.len_utf8()..];
        } else if c == '#' {
            break;
        } else if c.is_ascii_digit() || (c == '.' && rest[1..].starts_with(|d: char| d.is_ascii_digit())) {
            let (value, n) = number(rest).ok_or_else(|| PyError::Unsupported(line, format!("number {rest}")))?;
            out.push(Tok::Value(value));
            rest = &rest[n..];
        } else if c.is_alphabetic() || c == '_' {
            let n = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            out.push(Tok::Name(rest[..n].to_owned()));
            rest = &rest[n..];
        } else if c == '"' || c == '\'' {
            let body = &rest[1..];
            let mut s = String::new();
            let mut chars = body.char_indices();
            let end = loop {
                match chars.next() {
                    Some((i, q)) if q == c => break i,
                    Some((_, '\\')) => match chars.next() {
                        Some((_, 'n')) => s.push('\n'),
                        Some((_, 't')) => s.push('\t'),
                        Some((_, other)) => s.push(other),
                        None => {}
                    },
                    Some((_, other)) => s.push(other),
                    None => return Err(PyError::Failed(line, String::from("a string is not closed"))),
                }
            };
            out.push(Tok::Value(Value::Str(s)));
            rest = &body[end + 1..];
        } else if let Some(op) = OPS.iter().chain(&MORE_OPS).find(|op| rest.starts_with(**op)) {
            out.push(Tok::Op(op));
            rest = &rest[op.len()..];
        } else {
            return Err(PyError::Unsupported(line, format!("\"{c}\" in Python code")));
        }
    }
    Ok(out)
}

fn number(text: &str) -> Option<(Value, usize)> {
    if let Some(hex) = text.strip_prefix("0x") {
        let n = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        return Some((Value::Int(i128::from_str_radix(&hex[..n], 16).ok()?), n + 2));
    }
    let mut n = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut float = text[..n].contains('.');
    if text[n..].starts_with(['e', 'E']) {
        let exponent = &text[n + 1..];
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        if len > 0 {
            float = true;
            n += 1 + (exponent.len() - digits.len()) + len;
        }
    }
    let value = if float { Value::Float(text[..n].parse().ok()?) } else { Value::Int(text[..n].parse().ok()?) };
    Some((value, n))
}

fn block(lines: &[Line], at: &mut usize, indent: usize) -> Parsed<Vec<Stmt>> {
    let mut out = Vec::new();
    while let Some(line) = lines.get(*at).filter(|l| l.indent == indent) {
        if matches!(line.toks.first(), Some(Tok::Name(n)) if n == "if") {
            out.push(conditional(lines, at, indent)?);
            continue;
        }
        *at += 1;
        simple(line, &line.toks, &mut out)?;
    }
    Ok(out)
}

fn conditional(lines: &[Line], at: &mut usize, indent: usize) -> Parsed<Stmt> {
    let (number, text) = (lines[*at].number, lines[*at].text.clone());
    let mut arms = Vec::new();
    while let Some(line) = lines.get(*at).filter(|l| l.indent == indent) {
        let word = match line.toks.first() {
            Some(Tok::Name(n)) => n.as_str(),
            _ => break,
        };
        if !(word == "if" && arms.is_empty() || matches!(word, "elif" | "else") && !arms.is_empty()) {
            break;
        }
        let mut p = Parser { toks: &line.toks, at: 1, line: line.number, text: &line.text };
        let condition = if word == "else" { None } else { Some(p.expr()?) };
        p.expect(":")?;
        let rest = &line.toks[p.at..];
        *at += 1;
        let mut body = Vec::new();
        if rest.is_empty() {
            let inner = lines.get(*at).map_or(indent, |l| l.indent);
            if inner <= indent {
                return Err(PyError::Failed(line.number, String::from("want an indented block behind :")));
            }
            body = block(lines, at, inner)?;
        } else {
            simple(line, rest, &mut body)?;
        }
        arms.push((condition, body));
    }
    Ok(Stmt { line: number, text, kind: StmtKind::If(arms) })
}

/// The statements of one line, between semicolons.
fn simple(line: &Line, toks: &[Tok], out: &mut Vec<Stmt>) -> Parsed<()> {
    for part in toks.split(|t| *t == Tok::Op(";")) {
        if part.is_empty() {
            continue;
        }
        let mut p = Parser { toks: part, at: 0, line: line.number, text: &line.text };
        let kind = p.statement()?;
        p.end()?;
        out.push(Stmt { line: line.number, text: line.text.clone(), kind });
    }
    Ok(())
}

struct Parser<'a> {
    toks: &'a [Tok],
    at: usize,
    line: u32,
    text: &'a str,
}

impl Parser<'_> {
    fn statement(&mut self) -> Parsed<StmtKind> {
        const ASSIGN: [&str; 13] = ["=", "+=", "-=", "*=", "/=", "%=", "|=", "&=", "^=", "**=", "//=", "<<=", ">>="];
        if let Some(Tok::Name(name)) = self.toks.first().cloned() {
            match name.as_str() {
                "assert" => {
                    self.at += 1;
                    let what = self.expr()?;
                    let message = if self.eat(",") { Some(self.list(None)?) } else { None };
                    return Ok(StmtKind::Assert(what, message));
                }
                // Python 2's statement, and Python 3's function, whose parentheses make a group or a tuple here.
                "print" => {
                    self.at += 1;
                    let mut items = Vec::new();
                    while self.at < self.toks.len() {
                        items.push(self.expr()?);
                        if !self.eat(",") {
                            break;
                        }
                    }
                    return Ok(StmtKind::Print(items));
                }
                "pass" => {
                    self.at += 1;
                    return Ok(StmtKind::Pass);
                }
                "import" | "from" | "def" | "class" | "for" | "while" | "try" | "with" | "return" | "lambda"
                | "global" | "del" | "raise" | "exec" => {
                    return Err(PyError::Unsupported(self.line, format!("Python's \"{name}\": {}", self.text)));
                }
                _ => {}
            }
            if let Some(Tok::Op(op)) = self.toks.get(1)
                && ASSIGN.contains(op)
            {
                self.at = 2;
                let op = op.strip_suffix('=').filter(|o| !o.is_empty());
                return Ok(StmtKind::Assign(name, op, self.list(None)?));
            }
        }
        Ok(StmtKind::Expr(self.list(None)?))
    }

    /// One expression, or several with commas as a tuple.
    fn list(&mut self, close: Option<&'static str>) -> Parsed<Expr> {
        let first = self.expr()?;
        if self.peek() != Some(&Tok::Op(",")) {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.eat(",") {
            if self.at == self.toks.len() || close.is_some_and(|c| self.peek() == Some(&Tok::Op(c))) {
                break;
            }
            items.push(self.expr()?);
        }
        Ok(Expr::List(items))
    }

    fn expr(&mut self) -> Parsed<Expr> {
        let value = self.or()?;
        if !self.eat_name("if") {
            return Ok(value);
        }
        let condition = self.or()?;
        if !self.eat_name("else") {
            return self.fail("want else");
        }
        let other = self.expr()?;
        Ok(Expr::If(Box::new(condition), Box::new(value), Box::new(other)))
    }

    fn or(&mut self) -> Parsed<Expr> {
        let mut left = self.and()?;
        while self.eat_name("or") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut left = self.not()?;
        while self.eat_name("and") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Parsed<Expr> {
        if self.eat_name("not") {
            return Ok(Expr::Unary("not", Box::new(self.not()?)));
        }
        let left = self.binary(0)?;
        let mut rest = Vec::new();
        loop {
            let op = match self.peek() {
                Some(Tok::Op(op @ ("<" | ">" | "<=" | ">=" | "==" | "!="))) => *op,
                Some(Tok::Name(n)) if n == "in" => "in",
                Some(Tok::Name(n)) if n == "not" && self.toks.get(self.at + 1) == Some(&Tok::Name("in".into())) => {
                    self.at += 1;
                    "not in"
                }
                Some(Tok::Name(n)) if n == "is" => "==",
                _ => break,
            };
            self.at += 1;
            rest.push((op, self.binary(0)?));
        }
        Ok(if rest.is_empty() { left } else { Expr::Compare(Box::new(left), rest) })
    }

    /// Left-associative operators, loosest first.
    fn binary(&mut self, level: usize) -> Parsed<Expr> {
        const LEVELS: [&[&str]; 6] = [&["|"], &["^"], &["&"], &["<<", ">>"], &["+", "-"], &["*", "/", "//", "%"]];
        let Some(ops) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(Tok::Op(op)) = self.peek()
            && ops.contains(op)
        {
            let op = *op;
            self.at += 1;
            left = Expr::Binary(op, Box::new(left), Box::new(self.binary(level + 1)?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        for op in ["-", "+", "~"] {
            if self.eat(op) {
                return Ok(Expr::Unary(op, Box::new(self.unary()?)));
            }
        }
        let base = self.postfix()?;
        if self.eat("**") {
            return Ok(Expr::Binary("**", Box::new(base), Box::new(self.unary()?)));
        }
        Ok(base)
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let mut e = self.atom()?;
        loop {
            if let (Expr::Name(name), true) = (&e, self.peek() == Some(&Tok::Op("("))) {
                let name = name.clone();
                self.at += 1;
                let mut args = Vec::new();
                while !self.eat(")") {
                    args.push(self.expr()?);
                    if !self.eat(",") && self.peek() != Some(&Tok::Op(")")) {
                        return self.fail("want , or )");
                    }
                }
                e = Expr::Call(name, args);
            } else if self.eat("[") {
                let index = self.expr()?;
                self.expect("]")?;
                e = Expr::Index(Box::new(e), Box::new(index));
            } else {
                return Ok(e);
            }
        }
    }

    fn atom(&mut self) -> Parsed<Expr> {
        let tok = self.peek().cloned();
        self.at += 1;
        match tok {
            Some(Tok::Value(Value::Str(mut s))) => {
                while let Some(Tok::Value(Value::Str(more))) = self.peek() {
                    s.push_str(more);
                    self.at += 1;
                }
                Ok(Expr::Value(Value::Str(s)))
            }
            Some(Tok::Value(v)) => Ok(Expr::Value(v)),
            Some(Tok::Name(n)) => Ok(match n.as_str() {
                "True" => Expr::Value(Value::Bool(true)),
                "False" => Expr::Value(Value::Bool(false)),
                "None" => Expr::Value(Value::None),
                _ => Expr::Name(n),
            }),
            Some(Tok::Op("(")) => {
                if self.eat(")") {
                    return Ok(Expr::List(Vec::new()));
                }
                let e = self.list(Some(")"))?;
                self.expect(")")?;
                Ok(e)
            }
            Some(Tok::Op("[")) => {
                if self.eat("]") {
                    return Ok(Expr::List(Vec::new()));
                }
                let e = match self.list(Some("]"))? {
                    list @ Expr::List(_) => list,
                    one => Expr::List(vec![one]),
                };
                self.expect("]")?;
                Ok(e)
            }
            _ => {
                self.at -= 1;
                self.fail("want an expression")
            }
        }
    }

    fn peek(&self) -> Option<&Tok> {
        self.toks.get(self.at)
    }
    fn eat(&mut self, op: &str) -> bool {
        let found = matches!(self.peek(), Some(Tok::Op(o)) if *o == op);
        self.at += usize::from(found);
        found
    }
    fn eat_name(&mut self, name: &str) -> bool {
        let found = matches!(self.peek(), Some(Tok::Name(n)) if n == name);
        self.at += usize::from(found);
        found
    }
    fn expect(&mut self, op: &str) -> Parsed<()> {
        if self.eat(op) { Ok(()) } else { self.fail(&format!("want {op}")) }
    }
    fn end(&self) -> Parsed<()> {
        if self.at == self.toks.len() { Ok(()) } else { self.fail("not understood") }
    }
    fn fail<T>(&self, what: &str) -> Parsed<T> {
        Err(PyError::Unsupported(self.line, format!("{what} in Python code: {}", self.text)))
    }
}
