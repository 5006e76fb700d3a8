//! From tokens to the tree, by recursive descent.

use super::{Expr, SelectorError, Token};

/// Deeper nesting than this is refused: the tree is walked by recursion.
const DEEPEST: usize = 100;

/// Parses the tokens of a whole selector.
pub(super) fn parse(tokens: &[Token<'_>]) -> Result<Expr, SelectorError> {
    if tokens == [Token::End] {
        return Ok(Expr::All);
    }
    let mut parser = Parser { tokens, at: 0 };
    let expr = parser.or(0)?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser<'t, 'a> {
    /// Ends with [`Token::End`], which is never taken.
    tokens: &'t [Token<'a>],
    at: usize,
}

impl<'t, 'a> Parser<'t, 'a> {
    fn peek(&self) -> &'t Token<'a> {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn take(&mut self, wanted: &Token<'_>) -> bool {
        let found = self.peek() == wanted;
        self.at += usize::from(found);
        found
    }

    fn unexpected(&self, expected: &'static str) -> SelectorError {
        let found = match self.peek() {
            Token::End => "the end".to_owned(),
            Token::Label(label) => format!("the label {label:?}"),
            Token::String(text) => format!("the string {text:?}"),
            other => format!("{other:?}"),
        };
        SelectorError::Unexpected { expected, found }
    }

    fn or(&mut self, depth: usize) -> Result<Expr, SelectorError> {
        let mut parts = vec![self.and(depth)?];
        while self.take(&Token::Or) {
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) })
    }

    fn and(&mut self, depth: usize) -> Result<Expr, SelectorError> {
        let mut parts = vec![self.operation(depth)?];
        while self.take(&Token::And) {
            parts.push(self.operation(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) })
    }

    fn operation(&mut self, depth: usize) -> Result<Expr, SelectorError> {
        if depth > DEEPEST {
            return Err(SelectorError::Deep(DEEPEST));
        }
        let mut negated = false;
        while self.take(&Token::Not) {
            negated = !negated;
        }
        let expr = match *self.peek() {
            Token::All => self.leaf(Expr::All),
            Token::Global => self.leaf(Expr::Global),
            Token::Has(key) => self.leaf(Expr::Has(key.to_owned())),
            Token::Label(key) => {
                self.at += 1;
                self.test(key.to_owned())?
            }
            Token::LeftParen => {
                self.at += 1;
                let inner = self.or(depth + 1)?;
                if !self.take(&Token::RightParen) {
                    return Err(self.unexpected("\")\""));
                }
                inner
            }
            _ => return Err(self.unexpected("a label, has(), all(), global() or \"(\"")),
        };
        Ok(if negated { Expr::Not(Box::new(expr)) } else { expr })
    }

    fn leaf(&mut self, expr: Expr) -> Expr {
        self.at += 1;
        expr
    }

    fn test(&mut self, key: String) -> Result<Expr, SelectorError> {
        let operator = self.peek();
        self.at += 1;
        Ok(match operator {
            Token::Equal => Expr::Equal(key, self.string()?),
            Token::NotEqual => Expr::NotEqual(key, self.string()?),
            Token::Contains => Expr::Contains(key, self.string()?),
            Token::StartsWith => Expr::StartsWith(key, self.string()?),
            Token::EndsWith => Expr::EndsWith(key, self.string()?),
            Token::In => Expr::In(key, self.list()?),
            Token::NotIn => Expr::NotIn(key, self.list()?),
            _ => {
                self.at -= 1;
                return Err(SelectorError::NoOperator(key));
            }
        })
    }

    fn string(&mut self) -> Result<String, SelectorError> {
        match *self.peek() {
            Token::String(text) => {
                self.at += 1;
                Ok(text.to_owned())
            }
            _ => Err(self.unexpected("a string")),
        }
    }

    /// A list in braces, sorted and without doubles. A comma may stand behind the last string.
    fn list(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.take(&Token::LeftBrace) {
            return Err(self.unexpected("\"{\""));
        }
        let mut values = Vec::new();
        while let Token::String(text) = *self.peek() {
            self.at += 1;
            values.push(text.to_owned());
            if !self.take(&Token::Comma) {
                break;
            }
        }
        if !self.take(&Token::RightBrace) {
            return Err(self.unexpected("\"}\""));
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }
}
