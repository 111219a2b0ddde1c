//! The subset of CEL that Telemetry is obeyed in (docs/telemetry.md has it): conditions for access logs.
//!
//! In: a text such as `response.code >= 400 && !request.url_path.startsWith("/health")`. Out: a filter that stock Envoy
//! has natively, or a sentence that says what is not understood. A negation goes inwards, as Envoy's filters have none.

use config::{Compare, HeaderMatch, LogFilter, ValueMatch};

/// Longest expression, in bytes.
const BYTES_MAX: usize = 4096;
/// Deepest nesting of parentheses and negations.
const DEPTH_MAX: usize = 16;

/// Reads a condition.
pub(crate) fn condition(text: &str) -> Result<LogFilter, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("{} bytes are more than {BYTES_MAX}", text.len()));
    }
    let mut reader = Reader { tokens: tokens(text)?, at: 0, depth: 0 };
    let made = reader.any(false)?;
    match reader.peek() {
        None => Ok(made),
        Some(token) => Err(format!("{token:?} is not expected here")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// `request.url_path`.
    Name(String),
    Text(String),
    Number(u32),
    /// `&&`, `(`, `>=` and so on.
    Sign(&'static str),
}

const SIGNS: [&str; 14] = ["&&", "||", "==", "!=", ">=", "<=", ">", "<", "!", "(", ")", "[", "]", "."];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut made = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => {
                let end = rest[1..].find(first).ok_or("a text without its end")?;
                let inner = &rest[1..=end];
                if inner.contains('\\') {
                    return Err(format!("{inner:?} has a backslash, which is not understood here"));
                }
                made.push(Token::Text(inner.to_owned()));
                end + 2
            }
            digit if digit.is_ascii_digit() => {
                let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
                made.push(Token::Number(rest[..end].parse().map_err(|_| format!("{} is too much", &rest[..end]))?));
                end
            }
            letter if letter.is_ascii_alphabetic() => {
                let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
                let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
                made.push(Token::Name(rest[..end].to_owned()));
                end
            }
            other => {
                let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
                let sign = sign.ok_or_else(|| format!("{other:?} is not understood"))?;
                made.push(Token::Sign(sign));
                sign.len()
            }
        };
        rest = rest[length..].trim_start();
    }
    Ok(made)
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn needs(&mut self, sign: &str) -> Result<(), String> {
        let found = self.peek().cloned();
        if self.takes(sign) {
            return Ok(());
        }
        Err(match found {
            Some(token) => format!("{sign:?} is expected before {token:?}"),
            None => format!("{sign:?} is expected at the end"),
        })
    }

    // `not`: the opposite is meant, so that `a || b` is "neither".
    fn any(&mut self, not: bool) -> Result<LogFilter, String> {
        let mut parts = vec![self.all(not)?];
        while self.takes("||") {
            parts.push(self.all(not)?);
        }
        Ok(joined(parts, not))
    }

    fn all(&mut self, not: bool) -> Result<LogFilter, String> {
        let mut parts = vec![self.one(not)?];
        while self.takes("&&") {
            parts.push(self.one(not)?);
        }
        Ok(joined(parts, !not))
    }

    fn one(&mut self, not: bool) -> Result<LogFilter, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} deep"));
        }
        let made = if self.takes("!") {
            self.one(!not)
        } else if self.takes("(") {
            let made = self.any(not)?;
            self.needs(")").map(|()| made)
        } else {
            self.comparison(not)
        };
        self.depth -= 1;
        made
    }

    fn comparison(&mut self, not: bool) -> Result<LogFilter, String> {
        let name = match self.next() {
            Some(Token::Name(name)) => name,
            Some(token) => return Err(format!("{token:?} stands where an attribute is expected")),
            None => return Err("an attribute is expected at the end".to_owned()),
        };
        match name.as_str() {
            "response.code" => {
                let (how, value) = self.number()?;
                compared(how, value, not, LogFilter::Status)
            }
            "request.duration" => {
                let (how, value) = self.millis()?;
                compared(how, value, not, LogFilter::Millis)
            }
            "response.flags" => match (self.number()?, not) {
                (("!=" | ">", 0), false) | (("==", 0), true) => Ok(LogFilter::Flags(Vec::new())),
                _ => Err("response.flags can only be compared as response.flags != 0".to_owned()),
            },
            "has" => self.presence(not),
            name => self.text(name, not),
        }
    }

    fn sign(&mut self) -> Result<&'static str, String> {
        match self.next() {
            Some(Token::Sign(sign @ ("==" | "!=" | ">=" | "<=" | ">" | "<"))) => Ok(sign),
            other => Err(format!("a comparison is expected, not {other:?}")),
        }
    }

    fn number(&mut self) -> Result<(&'static str, u32), String> {
        let sign = self.sign()?;
        match self.next() {
            Some(Token::Number(value)) => Ok((sign, value)),
            other => Err(format!("a number is expected, not {other:?}")),
        }
    }

    fn millis(&mut self) -> Result<(&'static str, u32), String> {
        let sign = self.sign()?;
        if self.next() != Some(Token::Name("duration".into())) {
            return Err("request.duration is compared with duration(\"1s\")".to_owned());
        }
        self.needs("(")?;
        let text = self.quoted()?;
        self.needs(")")?;
        let read = words::duration::parse(&text).and_then(|duration| u32::try_from(duration.as_millis()).ok());
        read.map(|millis| (sign, millis)).ok_or_else(|| format!("{text:?} is not a duration"))
    }

    fn quoted(&mut self) -> Result<String, String> {
        match self.next() {
            Some(Token::Text(text)) => Ok(text),
            other => Err(format!("a text is expected, not {other:?}")),
        }
    }

    fn presence(&mut self, not: bool) -> Result<LogFilter, String> {
        self.needs("(")?;
        let name = match self.next() {
            Some(Token::Name(name)) => self.header(&name)?,
            other => return Err(format!("an attribute is expected, not {other:?}")),
        };
        self.needs(")")?;
        Ok(LogFilter::Header(HeaderMatch { name, value: ValueMatch::Present, invert: not, missing_is_empty: false }))
    }

    // The header that an attribute stands for.
    fn header(&mut self, attribute: &str) -> Result<String, String> {
        Ok(match attribute {
            "request.headers" => {
                self.needs("[")?;
                let name = self.quoted()?.to_ascii_lowercase();
                self.needs("]")?;
                name
            }
            "request.method" => ":method".into(),
            "request.host" => ":authority".into(),
            "request.path" | "request.url_path" => ":path".into(),
            "request.useragent" => "user-agent".into(),
            "request.referer" => "referer".into(),
            "request.id" => "x-request-id".into(),
            other => return Err(format!("the attribute {other:?} is not supported")),
        })
    }

    fn text(&mut self, attribute: &str, not: bool) -> Result<LogFilter, String> {
        // `request.host.startsWith` is one name.
        let (attribute, method) = match attribute.rsplit_once('.') {
            Some((attribute, method @ ("startsWith" | "endsWith" | "contains" | "matches"))) => {
                (attribute, Some(method))
            }
            _ => (attribute, None),
        };
        let is_path_only = attribute == "request.url_path";
        let name = self.header(attribute)?;
        let method = match method {
            Some(method) => Some(method.to_owned()),
            None if self.takes(".") => match self.next() {
                Some(Token::Name(method)) => Some(method),
                other => return Err(format!("a function is expected, not {other:?}")),
            },
            None => None,
        };
        let (value, not) = match method {
            None => {
                let sign = self.sign()?;
                let not = match sign {
                    "==" => not,
                    "!=" => !not,
                    _ => return Err(format!("texts are compared by == and !=, not by {sign}")),
                };
                (ValueMatch::Exact(self.quoted()?), not)
            }
            Some(method) => {
                self.needs("(")?;
                let text = self.quoted()?;
                self.needs(")")?;
                (function(&method, text)?, not)
            }
        };
        let header =
            |value| LogFilter::Header(HeaderMatch { name: name.clone(), value, invert: not, missing_is_empty: not });
        // The header has the query behind the path.
        match value {
            ValueMatch::Exact(path) if is_path_only => {
                let with_query = ValueMatch::Prefix(format!("{path}?"));
                Ok(joined(vec![header(ValueMatch::Exact(path)), header(with_query)], not))
            }
            ValueMatch::Prefix(path) => Ok(header(ValueMatch::Prefix(path))),
            _ if is_path_only => {
                Err("request.url_path can be compared by == and startsWith; use request.path".to_owned())
            }
            value => Ok(header(value)),
        }
    }
}

fn function(name: &str, text: String) -> Result<ValueMatch, String> {
    Ok(match name {
        "startsWith" => ValueMatch::Prefix(text),
        "endsWith" => ValueMatch::Suffix(text),
        "contains" => ValueMatch::Contains(text),
        "matches" => {
            // CEL looks for the expression anywhere; ours is of the whole value.
            let whole = format!(".*({text}).*");
            regex::Regex::new(&whole).map_err(|_| format!("{text:?} is not a regular expression"))?;
            ValueMatch::Regex(whole)
        }
        other => return Err(format!("the function {other:?} is not supported")),
    })
}

fn joined(mut parts: Vec<LogFilter>, all: bool) -> LogFilter {
    match (parts.len(), all) {
        (1, _) => parts.remove(0),
        (_, true) => LogFilter::All(parts),
        (_, false) => LogFilter::Any(parts),
    }
}

fn compared(sign: &str, value: u32, not: bool, make: impl Fn(Compare, u32) -> LogFilter) -> Result<LogFilter, String> {
    let below = || value.checked_sub(1).ok_or("nothing is below 0");
    Ok(match (sign, not) {
        ("==", false) | ("!=", true) => make(Compare::Eq, value),
        ("!=", false) | ("==", true) => make(Compare::Ne, value),
        (">=", false) | ("<", true) => make(Compare::Ge, value),
        ("<=", false) | (">", true) => make(Compare::Le, value),
        (">", false) | ("<=", true) => make(Compare::Ge, value.saturating_add(1)),
        _ => make(Compare::Le, below()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(how: Compare, code: u32) -> LogFilter {
        LogFilter::Status(how, code)
    }

    #[test]
    fn te01_conditions_become_native_filters() {
        assert_eq!(condition("response.code >= 400"), Ok(status(Compare::Ge, 400)));
        assert_eq!(condition("response.code < 400"), Ok(status(Compare::Le, 399)));
        let both = LogFilter::All(vec![status(Compare::Ge, 500), LogFilter::Flags(vec![])]);
        assert_eq!(condition("response.code > 499 && response.flags != 0"), Ok(both));
        let slow = LogFilter::Millis(Compare::Ge, 1500);
        assert_eq!(condition("request.duration >= duration('1.5s')"), Ok(slow));
    }

    #[test]
    fn te01_a_negation_goes_inwards() {
        let neither = LogFilter::All(vec![status(Compare::Ne, 200), status(Compare::Le, 499)]);
        assert_eq!(condition("!(response.code == 200 || response.code >= 500)"), Ok(neither));
        let header = |invert| {
            let name = "x-a".into();
            LogFilter::Header(HeaderMatch { name, value: ValueMatch::Present, invert, missing_is_empty: false })
        };
        assert_eq!(condition("has(request.headers['x-a'])"), Ok(header(false)));
        assert_eq!(condition("!has(request.headers[\"X-A\"])"), Ok(header(true)));
    }

    #[test]
    fn te01_what_is_not_understood_is_said() {
        let says = |text: &str| condition(text).unwrap_err();
        assert!(says("connection.mtls == true").contains("connection.mtls"));
        assert!(says("response.code >=").contains("a number is expected"));
        assert!(says("response.code >= 400 )").contains("not expected here"));
        assert!(says("response.flags == 4").contains("response.flags != 0"));
        assert!(says("request.host.size() > 3").contains("request.host.size"));
        assert!(says("'x").contains("without its end"));
        assert!(says("").contains("expected at the end"));
        assert!(says(&"!".repeat(40)).contains("nested"));
        assert!(says("response.code < 0").contains("below 0"));
    }
}
