//! Which requests an access log has: a filter, compiled once.

use config::{Compare, LogFilter};
use routing::HeaderCondition;

use crate::access_log::Line;
use crate::failure::Flags;

/// A compiled filter.
#[derive(Debug)]
pub enum Filter {
    /// The status code.
    Status(Compare, u32),
    /// Milliseconds.
    Millis(Compare, u32),
    /// Any of these.
    Flags(Flags),
    /// A request header.
    Header(HeaderCondition),
    /// All.
    All(Vec<Filter>),
    /// One.
    Any(Vec<Filter>),
}

impl Filter {
    /// Compiles a filter.
    ///
    /// # Errors
    /// A sentence about a header's condition that does not compile.
    pub fn new(filter: &LogFilter) -> Result<Self, String> {
        let many = |filters: &[LogFilter]| filters.iter().map(Self::new).collect::<Result<_, _>>();
        Ok(match filter {
            LogFilter::Status(how, code) => Self::Status(*how, *code),
            LogFilter::Millis(how, millis) => Self::Millis(*how, *millis),
            LogFilter::Flags(names) => Self::Flags(Flags::named(names)),
            LogFilter::Header(header) => Self::Header(HeaderCondition::new(header)?),
            LogFilter::All(filters) => Self::All(many(filters)?),
            LogFilter::Any(filters) => Self::Any(many(filters)?),
        })
    }

    /// True when the line is to be written.
    pub fn takes(&self, line: &Line<'_>) -> bool {
        match self {
            Self::Status(how, code) => how.holds(line.status.into(), *code),
            Self::Millis(how, millis) => {
                how.holds(u64::try_from(line.elapsed.as_millis()).unwrap_or(u64::MAX), *millis)
            }
            Self::Flags(flags) => line.flags.has(*flags),
            Self::Header(condition) => condition.holds(&routing::Head {
                method: &line.head.method,
                scheme: "http",
                authority: &line.head.authority,
                path: &line.head.path,
                headers: &line.head.headers,
                claims: None,
            }),
            Self::All(filters) => filters.iter().all(|filter| filter.takes(line)),
            Self::Any(filters) => filters.iter().any(|filter| filter.takes(line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::principals::Parties;
    use crate::record::Head;

    fn takes(filter: &LogFilter, status: u16, flags: Flags) -> bool {
        let head = Head { path: "/a".into(), ..Head::default() };
        let elapsed = Duration::from_millis(20);
        let parties = Parties::default();
        let line = Line { status, flags, details: "", received: 0, sent: 0, head: &head, elapsed, parties };
        Filter::new(filter).unwrap().takes(&line)
    }

    #[test]
    fn te01_filters_take_what_they_say() {
        let errors = LogFilter::Status(Compare::Ge, 400);
        assert!(takes(&errors, 404, Flags::default()) && !takes(&errors, 399, Flags::default()));
        let any = LogFilter::Flags(Vec::new());
        assert!(takes(&any, 0, Flags::NO_ROUTE) && !takes(&any, 0, Flags::default()));
        let some = LogFilter::Flags(vec!["UF".into(), "UH".into()]);
        assert!(takes(&some, 0, Flags::UPSTREAM_CONNECT) && !takes(&some, 0, Flags::NO_ROUTE));
        let slow = LogFilter::Millis(Compare::Ge, 21);
        assert!(!takes(&slow, 200, Flags::default()));
        let path = LogFilter::Header(config::HeaderMatch {
            name: ":path".into(),
            value: config::ValueMatch::Prefix("/a".into()),
            invert: false,
            missing_is_empty: false,
        });
        assert!(takes(&LogFilter::All(vec![path.clone(), errors.clone()]), 500, Flags::default()));
        assert!(!takes(&LogFilter::All(vec![path.clone(), errors.clone()]), 200, Flags::default()));
        assert!(takes(&LogFilter::Any(vec![path, errors]), 200, Flags::default()));
    }
}
