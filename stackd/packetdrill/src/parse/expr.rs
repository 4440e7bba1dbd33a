//! C expressions.

use super::Parser;
use crate::ast::{Expr, Field};
use crate::error::Result;
use crate::lex::Tok;

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Result<Expr> {
        let first = self.primary()?;
        if self.eat('|') {
            return Ok(Expr::Or(Box::new(first), Box::new(self.expr()?)));
        }
        Ok(first)
    }

    fn primary(&mut self) -> Result<Expr> {
        let Some(tok) = self.peek().cloned() else { return self.fail("want an expression") };
        match tok {
            Tok::Ellipsis => {
                self.at += 1;
                Ok(Expr::Ellipsis)
            }
            Tok::Int(n, _) => {
                self.at += 1;
                Ok(Expr::Int(n, false))
            }
            Tok::Hex(n) => {
                self.at += 1;
                Ok(Expr::Int(n, true))
            }
            Tok::Str(_) => self.string(),
            Tok::Word(w) => {
                self.at += 1;
                if self.eat('(') {
                    let args = self.expr_list(')')?;
                    return Ok(Expr::Call(w, args));
                }
                // `= -1 EINVAL` follows a call's parenthesis, so that an `=` behind a bare word is an assignment.
                if self.eat('=') {
                    return Ok(Expr::Assign(w, Box::new(self.expr()?)));
                }
                Ok(Expr::Word(w))
            }
            Tok::Punct('[') => {
                self.at += 1;
                Ok(Expr::Array(self.expr_list(']')?))
            }
            Tok::Punct('{') => {
                self.at += 1;
                self.braces()
            }
            Tok::Punct('(') => self.unsupported("MPLS label stacks and casts in system calls"),
            _ => self.fail("want an expression"),
        }
    }

    fn string(&mut self) -> Result<Expr> {
        let mut bytes = Vec::new();
        while let Some(Tok::Str(s)) = self.peek() {
            bytes.extend_from_slice(s);
            self.at += 1;
        }
        Ok(if self.eat_tok(&Tok::Ellipsis) { Expr::StrEllipsis(bytes) } else { Expr::Str(bytes) })
    }

    /// What follows `{`: a struct if it begins with a field, else a list.
    fn braces(&mut self) -> Result<Expr> {
        let named = matches!(self.peek(), Some(Tok::Word(_)))
            && match self.peek_at(1) {
                Some(Tok::Punct('=')) => true,
                Some(Tok::Punct('(')) => {
                    let close = (2..)
                        .take_while(|&n| self.peek_at(n).is_some())
                        .find(|&n| self.peek_at(n) == Some(&Tok::Punct(')')));
                    close.is_some_and(|n| self.peek_at(n + 1) == Some(&Tok::Punct('=')))
                }
                _ => false,
            };
        if matches!(self.peek(), Some(Tok::Word(w)) if w == "flags" || w == "Flags")
            && self.peek_at(1) != Some(&Tok::Punct('='))
        {
            return self.unsupported("GRE headers in system calls");
        }
        if !named {
            return Ok(Expr::Braces(self.expr_list('}')?));
        }
        let mut fields = Vec::new();
        loop {
            let name = self.word("the name of a field")?;
            let mut arg = None;
            if self.eat('(') {
                arg = Some(self.expr()?);
                self.expect(')')?;
            }
            self.expect('=')?;
            fields.push(Field { name, arg, value: self.expr()? });
            if self.eat('}') {
                return Ok(Expr::Struct(fields));
            }
            if !self.eat(',') {
                return self.fail("want , or }");
            }
        }
    }
}
