//! Statements to effects.

use super::{Expr, Names, PyError, Stmt, StmtKind, Value};
use std::cmp::Ordering;

type Evaluated = Result<Value, PyError>;

pub(super) fn block(program: &[Stmt], names: &mut Names, out: &mut String) -> Result<(), PyError> {
    program.iter().try_for_each(|s| statement(s, names, out))
}

fn statement(s: &Stmt, names: &mut Names, out: &mut String) -> Result<(), PyError> {
    let line = s.line;
    match &s.kind {
        StmtKind::Pass => {}
        StmtKind::Expr(e) => {
            value(e, line, names)?;
        }
        StmtKind::Print(items) => {
            let texts: Result<Vec<String>, _> =
                items.iter().map(|e| value(e, line, names).map(|v| v.to_string())).collect();
            out.push_str(&texts?.join(" "));
            out.push('\n');
        }
        StmtKind::Assign(name, op, e) => {
            let mut new = value(e, line, names)?;
            if let Some(op) = op {
                let old = names.get(name).cloned().ok_or_else(|| undefined(line, name))?;
                new = binary(op, &old, &new, line)?;
            }
            names.insert(name.clone(), new);
        }
        StmtKind::If(arms) => {
            for (condition, body) in arms {
                let taken = match condition {
                    Some(c) => value(c, line, names)?.truth(),
                    None => true,
                };
                if taken {
                    return block(body, names, out);
                }
            }
        }
        StmtKind::Assert(e, message) => {
            if !value(e, line, names)?.truth() {
                let mut text = format!("{} does not hold", s.text);
                if let Some(m) = message {
                    text.push_str(&format!(": {}", value(m, line, names)?));
                }
                let known = mentioned(e, names);
                if !known.is_empty() {
                    text.push_str(&format!(" ({})", known.join(", ")));
                }
                return Err(PyError::Failed(line, text));
            }
        }
    }
    Ok(())
}

/// What the names in an expression stand for, capitals (constants) last.
fn mentioned(e: &Expr, names: &Names) -> Vec<String> {
    fn walk(e: &Expr, found: &mut Vec<String>) {
        match e {
            Expr::Value(_) => {}
            Expr::Name(n) => {
                if !found.contains(n) {
                    found.push(n.clone());
                }
            }
            Expr::List(l) | Expr::Call(_, l) => l.iter().for_each(|e| walk(e, found)),
            Expr::Unary(_, a) => walk(a, found),
            Expr::Binary(_, a, b) | Expr::And(a, b) | Expr::Or(a, b) | Expr::Index(a, b) => {
                walk(a, found);
                walk(b, found);
            }
            Expr::Compare(a, rest) => {
                walk(a, found);
                rest.iter().for_each(|(_, e)| walk(e, found));
            }
            Expr::If(a, b, c) => [a, b, c].into_iter().for_each(|e| walk(e, found)),
        }
    }
    let mut found = Vec::new();
    walk(e, &mut found);
    found.iter().filter_map(|n| names.get(n).map(|v| format!("{n} = {v}"))).collect()
}

fn undefined(line: u32, name: &str) -> PyError {
    PyError::Failed(line, format!("name \"{name}\" is not defined"))
}

pub(super) fn value(e: &Expr, line: u32, names: &mut Names) -> Evaluated {
    Ok(match e {
        Expr::Value(v) => v.clone(),
        Expr::Name(n) => names.get(n).cloned().ok_or_else(|| undefined(line, n))?,
        Expr::List(items) => Value::List(items.iter().map(|i| value(i, line, names)).collect::<Result<_, _>>()?),
        Expr::Unary("not", a) => Value::Bool(!value(a, line, names)?.truth()),
        Expr::Unary(op, a) => {
            let v = value(a, line, names)?;
            match (*op, v.int(), v.float()) {
                ("-", Some(n), _) => Value::Int(-n),
                ("+", Some(n), _) => Value::Int(n),
                ("~", Some(n), _) => Value::Int(!n),
                ("-", None, Some(x)) => Value::Float(-x),
                ("+", None, Some(x)) => Value::Float(x),
                _ => return Err(PyError::Failed(line, format!("{op} of {v}"))),
            }
        }
        Expr::Binary(op, a, b) => {
            let (a, b) = (value(a, line, names)?, value(b, line, names)?);
            binary(op, &a, &b, line)?
        }
        Expr::Compare(first, rest) => {
            let mut left = value(first, line, names)?;
            for (op, e) in rest {
                let right = value(e, line, names)?;
                if !compare(op, &left, &right, line)? {
                    return Ok(Value::Bool(false));
                }
                left = right;
            }
            Value::Bool(true)
        }
        Expr::And(a, b) => {
            let a = value(a, line, names)?;
            if a.truth() { value(b, line, names)? } else { a }
        }
        Expr::Or(a, b) => {
            let a = value(a, line, names)?;
            if a.truth() { a } else { value(b, line, names)? }
        }
        Expr::If(c, a, b) => {
            let taken = value(c, line, names)?.truth();
            value(if taken { a } else { b }, line, names)?
        }
        Expr::Index(list, index) => {
            let (list, index) = (value(list, line, names)?, value(index, line, names)?);
            let found = match (&list, index.int()) {
                (Value::List(l), Some(n)) => {
                    let n = if n < 0 { n + l.len() as i128 } else { n };
                    usize::try_from(n).ok().and_then(|n| l.get(n).cloned())
                }
                _ => None,
            };
            found.ok_or_else(|| PyError::Failed(line, format!("{list}[{index}]")))?
        }
        Expr::Call(name, args) => {
            let args = args.iter().map(|a| value(a, line, names)).collect::<Result<Vec<_>, _>>()?;
            call(name, &args, line)?
        }
    })
}

fn compare(op: &str, a: &Value, b: &Value, line: u32) -> Result<bool, PyError> {
    match op {
        "in" | "not in" => {
            let found = match (a, b) {
                (Value::Str(a), Value::Str(b)) => b.contains(a.as_str()),
                (a, Value::List(l)) => l.iter().any(|x| a.compare(x) == Some(Ordering::Equal)),
                _ => return Err(PyError::Failed(line, format!("{a} {op} {b}"))),
            };
            return Ok(found == (op == "in"));
        }
        "==" => return Ok(a.compare(b) == Some(Ordering::Equal)),
        "!=" => return Ok(a.compare(b) != Some(Ordering::Equal)),
        _ => {}
    }
    let order = a.compare(b).ok_or_else(|| PyError::Failed(line, format!("{a} {op} {b} has no answer")))?;
    Ok(match op {
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    })
}

fn binary(op: &str, a: &Value, b: &Value, line: u32) -> Evaluated {
    let failed = || PyError::Failed(line, format!("{a} {op} {b} has no result"));
    if let (Value::Str(format), "%") = (a, op) {
        return formatted(format, b).map(Value::Str).ok_or_else(failed);
    }
    if let (Value::Str(a), Value::Str(b), "+") = (a, b, op) {
        return Ok(Value::Str(format!("{a}{b}")));
    }
    if let (Some(x), Some(y), true) = (a.int(), b.int(), op != "/") {
        let n = match op {
            "+" => x.checked_add(y),
            "-" => x.checked_sub(y),
            "*" => x.checked_mul(y),
            // Python rounds down, not towards zero.
            "//" => x.checked_div_euclid(y).map(|q| if y < 0 && x.rem_euclid(y) != 0 { q - 1 } else { q }),
            "%" => x.checked_rem_euclid(y).map(|r| if y < 0 && r != 0 { r + y } else { r }),
            "**" => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
            "<<" => u32::try_from(y).ok().and_then(|y| x.checked_shl(y)),
            ">>" => u32::try_from(y).ok().and_then(|y| x.checked_shr(y)),
            "|" => Some(x | y),
            "&" => Some(x & y),
            "^" => Some(x ^ y),
            _ => None,
        };
        return n.map(Value::Int).ok_or_else(failed);
    }
    let (Some(x), Some(y)) = (a.float(), b.float()) else { return Err(failed()) };
    let v = match op {
        "+" => x + y,
        "-" => x - y,
        "*" => x * y,
        "/" if y != 0.0 => x / y,
        "//" if y != 0.0 => (x / y).floor(),
        "%" if y != 0.0 => x - y * (x / y).floor(),
        "**" => x.powf(y),
        _ => return Err(failed()),
    };
    Ok(Value::Float(v))
}

/// `"%d of %s" % (1, x)`.
fn formatted(format: &str, args: &Value) -> Option<String> {
    let one = [args.clone()];
    let mut args = match args {
        Value::List(l) => l.iter(),
        _ => one.iter(),
    };
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let kind = chars.find(|c| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '+' | 'l'))?;
        match kind {
            '%' => out.push('%'),
            'd' | 'i' | 'u' => out.push_str(&args.next()?.float().map(|x| x.trunc())?.to_string()),
            's' | 'r' | 'f' | 'g' => out.push_str(&args.next()?.to_string()),
            'x' => out.push_str(&format!("{:x}", args.next()?.int()?)),
            _ => return None,
        }
    }
    Some(out)
}

fn call(name: &str, args: &[Value], line: u32) -> Evaluated {
    let failed = || PyError::Failed(line, format!("{name}() of these arguments has no result"));
    let extreme = |wanted: Ordering| {
        let items = match args {
            [Value::List(l)] => l.as_slice(),
            _ => args,
        };
        let mut best = items.first()?;
        for x in items {
            if x.compare(best)? == wanted {
                best = x;
            }
        }
        Some(best.clone())
    };
    match (name, args) {
        ("abs", [v]) => match (v.int(), v.float()) {
            (Some(n), _) => Ok(Value::Int(n.abs())),
            (None, Some(x)) => Ok(Value::Float(x.abs())),
            _ => Err(failed()),
        },
        ("min", [_, ..]) => extreme(Ordering::Less).ok_or_else(failed),
        ("max", [_, ..]) => extreme(Ordering::Greater).ok_or_else(failed),
        ("int", [v]) => v
            .float()
            .map(|_| v.int().unwrap_or_else(|| v.float().unwrap_or(0.0) as i128))
            .map(Value::Int)
            .ok_or_else(failed),
        ("float", [v]) => v.float().map(Value::Float).ok_or_else(failed),
        ("round", [v]) => v.float().map(|x| Value::Int(x.round_ties_even() as i128)).ok_or_else(failed),
        ("str", [v]) => Ok(Value::Str(v.to_string())),
        ("bool", [v]) => Ok(Value::Bool(v.truth())),
        ("len", [Value::List(l)]) => Ok(Value::Int(l.len() as i128)),
        ("len", [Value::Str(s)]) => Ok(Value::Int(s.chars().count() as i128)),
        _ => Err(PyError::Unsupported(line, format!("Python's {name}() with {} arguments", args.len()))),
    }
}
