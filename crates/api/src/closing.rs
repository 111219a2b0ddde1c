//! What acts for an object of a kind that restricts and is not valid, so that a mistake in it opens nothing.
//!
//! In: an object that the webhook would have refused, and that is there all the same. Out: an object that acts instead. What
//! can be read acts as it is (the compiler closes rule by rule); where it cannot be read, a stand-in for the same
//! workloads refuses. Nothing is remembered, so that all replicas say the same, also after a restart.

use serde_json::{Value, json};
use words::Diagnostic;

use crate::request_authentication::JwtRule;
use crate::{Kind, Object};

impl Kind {
    /// True for kinds that restrict what may be asked: without one of them more is let through.
    pub fn restricts(self) -> bool {
        matches!(self, Kind::AuthorizationPolicy | Kind::PeerAuthentication | Kind::RequestAuthentication)
    }
}

/// An object that acts, though what it was made of is not valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Acting {
    /// It.
    pub object: Object,
    /// It is not what was written, but a stand-in.
    pub stands_in: bool,
}

impl Acting {
    /// What acts of an object that has been read; `None` for kinds that do not restrict.
    pub fn read(object: &Object) -> Option<Self> {
        object.kind().restricts().then(|| Self { object: object.clone(), stands_in: false })
    }

    /// What acts instead of an object whose spec cannot be read; `None` when not even its selector can be, as the whole
    /// namespace is too much to refuse.
    pub fn instead_of(kind: Kind, written: &Value) -> Option<Self> {
        let mut spec = match kind {
            Kind::AuthorizationPolicy => json!({"action": "DENY", "rules": [{}]}),
            Kind::PeerAuthentication => json!({"mtls": {"mode": "STRICT"}}),
            Kind::RequestAuthentication => json!({"jwtRules": believed(&written["spec"]["jwtRules"])}),
            _ => return None,
        };
        for whom in ["selector", "targetRef", "targetRefs"] {
            if let Some(said) = written["spec"].get(whom) {
                spec[whom] = said.clone();
            }
        }
        let object = Object::from_parts(kind, json!({"metadata": written["metadata"], "spec": spec})).ok()?;
        Some(Self { object, stands_in: true })
    }

    /// Findings that say what became of it.
    pub fn explain(&self, mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let outcome = match (self.stands_in, self.object.kind()) {
            (false, _) => "what can be used of it acts, and nothing is let through because of the rest",
            (true, Kind::PeerAuthentication) => "until it is valid, mutual TLS is demanded where it selects",
            (true, Kind::RequestAuthentication) => {
                "until it is valid, issuers that cannot be read are believed by nobody"
            }
            (true, _) => "until it is valid, whatever is asked where it selects is refused",
        };
        for one in found.iter_mut().filter(|one| one.severity == words::Severity::Error) {
            one.message = format!("{}; {outcome}", one.message);
        }
        found
    }
}

// Of an issuer whose rule cannot be read no token is believed: it has no keys.
fn believed(rules: &Value) -> Vec<Value> {
    let each = rules.as_array().into_iter().flatten();
    let closed = |rule: &Value| match serde_json::from_value::<JwtRule>(rule.clone()) {
        Ok(_) => rule.clone(),
        Err(_) => json!({"issuer": rule["issuer"].as_str()}),
    };
    each.map(closed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instead(kind: Kind, spec: Value) -> Option<Value> {
        let written = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": spec});
        let acting = Acting::instead_of(kind, &written)?;
        assert!(acting.stands_in && acting.object.metadata().namespace == "n");
        Some(serde_json::to_value(&acting.object).expect("an object")["spec"].clone())
    }

    #[test]
    fn what_cannot_be_read_is_closed_for_those_it_selects() {
        let selector = json!({"matchLabels": {"app": "a"}});
        let denies = json!({"selector": selector, "action": "DENY", "rules": [{}]});
        let spec = json!({"selector": selector, "rules": "all"});
        assert_eq!(instead(Kind::AuthorizationPolicy, spec), Some(denies));
        let strict = json!({"selector": selector, "mtls": {"mode": "STRICT"}});
        let spec = json!({"selector": selector, "mtls": {"mode": "SOMETIMES"}});
        assert_eq!(instead(Kind::PeerAuthentication, spec), Some(strict));
        let spec =
            json!({"selector": selector, "jwtRules": [{"issuer": "a", "jwks": "{}"}, {"issuer": "b", "jwks": 1}]});
        let rules = instead(Kind::RequestAuthentication, spec).expect("a stand-in")["jwtRules"].clone();
        assert_eq!(rules, json!([{"issuer": "a", "jwks": "{}"}, {"issuer": "b"}]));
    }

    #[test]
    fn without_a_readable_selector_nothing_stands_in() {
        for selector in [json!("a"), json!({"matchLabels": {"app": 1}})] {
            assert_eq!(instead(Kind::AuthorizationPolicy, json!({"selector": selector})), None);
        }
        assert_eq!(instead(Kind::Gateway, json!({})), None);
    }
}
