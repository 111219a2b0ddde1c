//! Who may ask what: rules that are looked at before a request is routed or a connection is carried (Envoy
//! `config.rbac.v3.RBAC`, Istio AP01 to AP03).

use serde::Serialize;

use crate::Cidr;

/// How deep conditions may stand in one another.
pub const CONDITION_DEPTH_MAX: usize = 16;

/// Rules of one action. A proxy obeys several of them one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Authorization {
    /// What becomes of what matches.
    pub action: AuthorizationAction,
    /// The rules by name, sorted; `None`: nothing is decided here.
    pub rules: Option<Vec<AuthorizationRule>>,
    /// Rules that are only tried (Istio's dry run); `None`: none are.
    pub shadow: Option<Vec<AuthorizationRule>>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum AuthorizationAction {
    /// What matches no rule is refused.
    Allow,
    /// What matches a rule is refused.
    Deny,
    /// What matches a rule is noted, nothing is refused.
    Log,
}

/// A rule: it matches when one of `operations` and one of `callers` do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct AuthorizationRule {
    /// Istio's name for it, `ns[default]-policy[reviews]-rule[0]`; it stands in access logs.
    pub name: String,
    /// What is asked; at least one.
    pub operations: Vec<Condition<Operation>>,
    /// Who asks; at least one.
    pub callers: Vec<Condition<Caller>>,
}

/// Conditions put together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Condition<T> {
    /// Always.
    Always,
    /// All of these; at least one.
    All(Vec<Condition<T>>),
    /// One of these; at least one.
    One(Vec<Condition<T>>),
    /// Not this.
    Not(Box<Condition<T>>),
    /// This.
    Is(T),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Operation {
    /// The authority, with its port as the client wrote it, whatever its case.
    Host(TextMatch),
    /// The method.
    Method(TextMatch),
    /// The normalised path without query.
    Path(TextMatch),
    /// The same by a template: `*` is one segment, `**` the rest.
    PathTemplate(String),
    /// The port dialled.
    Port(u16),
    /// The address dialled.
    Address(Cidr),
    /// The server name of the TLS hello.
    ServerName(TextMatch),
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Caller {
    /// A name in the peer's verified certificate, `spiffe://cluster.local/ns/default/sa/reviews`.
    Principal(TextMatch),
    /// The namespace of its SPIFFE id.
    Namespace(TextMatch),
    /// Namespace and service account of its SPIFFE id.
    ServiceAccount {
        /// The namespace.
        namespace: String,
        /// The account.
        name: String,
    },
    /// The trust domain of its SPIFFE id.
    TrustDomain(TextMatch),
    /// The peer's address.
    Address(Cidr),
    /// The client's address, as those in front say.
    RemoteAddress(Cidr),
    /// A request header; one of its values is enough.
    Header {
        /// Lower case.
        name: String,
        /// The value.
        value: TextMatch,
    },
    /// A claim of the request's valid token: a text, or a list with such a text.
    Claim {
        /// Names of members, from the outside in; at least one.
        path: Vec<String>,
        /// The text.
        value: TextMatch,
    },
}

/// A text as policies match it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum TextMatch {
    /// Anything that is there.
    Present,
    /// This.
    Exact(String),
    /// What begins so; not empty.
    Prefix(String),
    /// What ends so; not empty.
    Suffix(String),
}

impl TextMatch {
    /// Reads Istio's form: `*`, `x*`, `*x`, or the text itself.
    pub fn parse(text: &str) -> Self {
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(""), _) => Self::Present,
            (Some(suffix), _) => Self::Suffix(suffix.to_owned()),
            (None, Some(prefix)) => Self::Prefix(prefix.to_owned()),
            (None, None) => Self::Exact(text.to_owned()),
        }
    }

    /// True for a text that is there. [`TextMatch::Present`] takes every text, also an empty one.
    pub fn fits(&self, text: &str) -> bool {
        self.fits_bytes(text.as_bytes())
    }

    /// The same for bytes, which need be no text.
    pub fn fits_bytes(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => bytes == exact.as_bytes(),
            Self::Prefix(prefix) => bytes.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => bytes.ends_with(suffix.as_bytes()),
        }
    }

    /// The same, whatever the case of ASCII letters.
    pub fn fits_any_case(&self, text: &str) -> bool {
        let (text, same) = (text.as_bytes(), <[u8]>::eq_ignore_ascii_case);
        match self {
            Self::Present => true,
            Self::Exact(exact) => same(text, exact.as_bytes()),
            Self::Prefix(prefix) => text.get(..prefix.len()).is_some_and(|begin| same(begin, prefix.as_bytes())),
            Self::Suffix(suffix) => {
                let begin = text.len().checked_sub(suffix.len());
                begin.and_then(|begin| text.get(begin..)).is_some_and(|end| same(end, suffix.as_bytes()))
            }
        }
    }
}

impl<T> Condition<T> {
    /// Never.
    pub fn never() -> Self {
        Self::Not(Box::new(Self::Always))
    }

    /// Evaluates it, asking about each leaf that decides.
    pub fn holds(&self, is: &mut impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::Always => true,
            Self::All(all) => all.iter().all(|one| one.holds(is)),
            Self::One(some) => some.iter().any(|one| one.holds(is)),
            Self::Not(inner) => !inner.holds(is),
            Self::Is(leaf) => is(leaf),
        }
    }

    /// True when a leaf anywhere in it is so.
    pub fn mentions(&self, is: &impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Always => false,
            Self::All(many) | Self::One(many) => many.iter().any(|one| one.mentions(is)),
            Self::Not(inner) => inner.mentions(is),
            Self::Is(leaf) => is(leaf),
        }
    }
}

impl Authorization {
    /// Rules that decide, and those that are only tried.
    pub fn all_rules(&self) -> impl Iterator<Item = &AuthorizationRule> {
        self.rules.iter().chain(&self.shadow).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ap02_texts_are_exact_or_open_at_one_end() {
        let fits = |pattern: &str, text: &str| TextMatch::parse(pattern).fits(text);
        assert!(fits("*", "") && fits("*", "a") && fits("a", "a") && fits("a*", "ab") && fits("*b", "ab"));
        assert!(!fits("a", "A") && !fits("a", "ab") && !fits("a*", "ba") && !fits("*b", "ba") && !fits("a.b", "axb"));
        // A wildcard in the middle is a letter like others.
        assert!(fits("a*b", "a*b") && !fits("a*b", "axb"));
        let any = |pattern: &str, text: &str| TextMatch::parse(pattern).fits_any_case(text);
        assert!(any("A.com", "a.COM") && any("a.*", "A.b") && any("*.Com", "x.cOM"));
        assert!(!any("a.com", "a.com:80") && !any("*.com", "com") && !any("abc*", "ab"));
    }
}
