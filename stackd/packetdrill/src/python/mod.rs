//! The part of Python that scripts use in `%{ … }%`: assertions, arithmetic, comparisons, assignments, `if`, `print`.
//!
//! What is not understood is an error, never skipped.

mod eval;
mod parse;
#[cfg(test)]
mod tests;
mod value;

pub use value::Value;

use std::collections::BTreeMap;

/// Variables, which live from one snippet to the next.
pub type Names = BTreeMap<String, Value>;

/// Why a snippet did not pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PyError {
    /// It uses something that is not understood. Line within the snippet, from 0.
    Unsupported(u32, String),
    /// An assertion does not hold, or an operation has no result.
    Failed(u32, String),
}

/// Runs a snippet; what it prints is returned.
///
/// # Errors
/// See [`PyError`].
pub fn run(text: &str, names: &mut Names) -> Result<String, PyError> {
    let program = parse::program(text)?;
    let mut out = String::new();
    eval::block(&program, names, &mut out)?;
    Ok(out)
}

/// An integer expression alone, as in `$((15*1024))`.
///
/// # Errors
/// See [`PyError`].
pub fn number(text: &str) -> Result<i64, PyError> {
    let e = parse::expression(text)?;
    match eval::value(&e, 0, &mut Names::new())? {
        Value::Int(n) => i64::try_from(n).map_err(|_| PyError::Failed(0, format!("{n} does not fit"))),
        other => Err(PyError::Failed(0, format!("{other} is no number"))),
    }
}

/// An expression.
#[derive(Clone, PartialEq, Debug)]
enum Expr {
    Value(Value),
    Name(String),
    List(Vec<Expr>),
    Unary(&'static str, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    /// `a < b <= c`.
    Compare(Box<Expr>, Vec<(&'static str, Expr)>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// `a if c else b`.
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
    Index(Box<Expr>, Box<Expr>),
}

/// A statement, and its line within the snippet.
#[derive(Clone, PartialEq, Debug)]
struct Stmt {
    line: u32,
    /// As written, for messages.
    text: String,
    kind: StmtKind,
}

#[derive(Clone, PartialEq, Debug)]
enum StmtKind {
    Assert(Expr, Option<Expr>),
    Print(Vec<Expr>),
    Assign(String, Option<&'static str>, Expr),
    Expr(Expr),
    If(Vec<(Option<Expr>, Vec<Stmt>)>),
    Pass,
}
