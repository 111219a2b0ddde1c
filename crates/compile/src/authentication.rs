//! RequestAuthentication: the front end, and whose tokens a proxy believes (RA01).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;

use api::request_authentication::{JwtRule, RequestAuthenticationSpec};
use config::{
    Authentication, BLACKHOLE_CLUSTER, ClientTls, Cluster, JwtIssuer, JwtKeys, Name, Sni, TlsParameters, Validation,
};
use words::{Diagnostic, Fingerprint, Labels, Origin, Severity};

use crate::authorization::is_for;
use crate::mesh::MeshConfig;
use crate::notes::{NOT_OBEYED, Notes};
use crate::service::Age;
use crate::{cluster, secret};

/// How long fetching keys may take where nothing says so.
const FETCH_DEFAULT: Duration = Duration::from_secs(5);
/// Claims that are lists with spaces everywhere (Istio's).
const SPACE_DELIMITED: [&str; 2] = ["permission", "scope"];
/// Where nobody answers: without keys nobody's token is believed. Envoy refuses a whole listener for an empty set of keys.
const NOWHERE: &str = "http://nowhere.invalid/";

/// A RequestAuthentication by itself.
#[derive(Debug)]
pub(crate) struct RequestAuthentication {
    /// The object.
    pub(crate) origin: Origin,
    age: Age,
    /// Whom it is for within its namespace; `None` for all.
    selector: Option<Labels>,
    /// It names targets that a mesh of sidecars does not have.
    targeted: bool,
    issuers: Vec<Issuer>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

/// An issuer, and where its keys are.
#[derive(Debug, Hash)]
struct Issuer {
    config: JwtIssuer,
    from: Option<Place>,
}

/// Where keys are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    secured: bool,
    host: String,
    port: u16,
}

/// Lowers a RequestAuthentication.
pub(crate) fn lower(
    origin: Origin,
    age: Age,
    spec: &RequestAuthenticationSpec,
    mesh: &MeshConfig,
) -> RequestAuthentication {
    let RequestAuthenticationSpec { selector, target_ref, target_refs, jwt_rules } = spec;
    let mut notes = Notes::about(&origin);
    notes.not_obeyed(target_ref.is_some(), || "spec.targetRef".into());
    notes.not_obeyed(!target_refs.is_empty(), || "spec.targetRefs".into());
    let selector = selector.as_ref().map(|selector| selector.match_labels.clone()).filter(|labels| !labels.is_empty());
    let issuers: Vec<Issuer> = jwt_rules
        .iter()
        .enumerate()
        .map(|(index, rule)| lower_rule(&format!("spec.jwtRules[{index}]"), rule, mesh, &mut notes))
        .collect();
    // Whoever writes both has not written a valid object, and may mean either.
    let targeted = selector.is_none() && (target_ref.is_some() || !target_refs.is_empty());
    let diagnostics = notes.into_found();
    let print = Fingerprint::of(&(&origin, &age, &selector, targeted, &issuers, &diagnostics));
    RequestAuthentication { origin, age, selector, targeted, issuers, diagnostics, print }
}

fn lower_rule(path: &str, rule: &JwtRule, mesh: &MeshConfig, notes: &mut Notes) -> Issuer {
    let JwtRule {
        issuer,
        audiences,
        jwks_uri: _,
        jwks_uri_alias: _,
        jwks,
        from_headers,
        from_params,
        from_cookies,
        output_payload_to_header,
        forward_original_token,
        output_claim_to_headers,
        timeout,
        space_delimited_claims,
    } = rule;
    let timeout = timeout.as_ref().and_then(api::Duration::get).unwrap_or(FETCH_DEFAULT);
    let (keys, from) = match (jwks, rule.keys_uri()) {
        (Some(jwks), _) if has_keys(jwks) => (JwtKeys::Inline(jwks.clone()), None),
        (Some(_), _) => {
            let message = "there is no public key in it that can be used; every token of this issuer is refused";
            notes.ignored(format!("{path}.jwks"), message);
            (nobody(), None)
        }
        (None, Some(uri)) => match Place::parse(uri).and_then(|place| place.allowed(mesh)) {
            Ok(place) => (JwtKeys::Remote { uri: uri.to_owned(), cluster: place.cluster(), timeout }, Some(place)),
            Err(reason) => {
                let message = format!("{uri:?}: {reason}; every token of this issuer is refused");
                notes.ignored(format!("{path}.jwksUri"), message);
                (nobody(), None)
            }
        },
        (None, None) => {
            let message = "keys are not looked for by the issuer's OpenID configuration; without jwksUri or jwks every token of this issuer is refused";
            notes.add(NOT_OBEYED, Severity::Error, format!("{path}.jwksUri"), message);
            (nobody(), None)
        }
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut spaced: Vec<String> = SPACE_DELIMITED.map(str::to_owned).to_vec();
    spaced.extend(space_delimited_claims.iter().filter(|claim| !SPACE_DELIMITED.contains(&claim.as_str())).cloned());
    let config = JwtIssuer {
        // Its number comes when all issuers of a proxy are known.
        name: String::new(),
        issuer: text(issuer),
        audiences: audiences.clone(),
        keys,
        from_headers: from_headers
            .iter()
            .map(|header| (text(&header.name).to_ascii_lowercase(), text(&header.prefix)))
            .filter(|(name, _)| !name.is_empty())
            .collect(),
        from_params: from_params.clone(),
        from_cookies: from_cookies.clone(),
        payload_header: output_payload_to_header.clone().filter(|name| !name.is_empty()),
        forward: forward_original_token.unwrap_or(false),
        claim_headers: output_claim_to_headers
            .iter()
            .map(|one| (text(&one.header), text(&one.claim)))
            .filter(|(header, claim)| !header.is_empty() && !claim.is_empty())
            .collect(),
        space_delimited_claims: spaced,
    };
    Issuer { config, from }
}

fn nobody() -> JwtKeys {
    JwtKeys::Remote { uri: NOWHERE.into(), cluster: BLACKHOLE_CLUSTER.into(), timeout: FETCH_DEFAULT }
}

// One key at least that both our proxy and Envoy can use; secrets are no keys.
fn has_keys(jwks: &str) -> bool {
    let Ok(read) = serde_json::from_str::<serde_json::Value>(jwks) else { return false };
    let is_key = |key: &serde_json::Value| {
        let has = |name: &str| {
            let text = key.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            !text.is_empty() && BASE64URL.decode(text.trim_end_matches('=')).is_ok()
        };
        match key.get("kty").and_then(serde_json::Value::as_str) {
            Some("RSA") => has("n") && has("e"),
            Some("EC") => key.get("crv").is_some() && has("x") && has("y"),
            Some("OKP") => key.get("crv").and_then(serde_json::Value::as_str) == Some("Ed25519") && has("x"),
            _ => false,
        }
    };
    read.get("keys").and_then(serde_json::Value::as_array).is_some_and(|keys| keys.iter().any(is_key))
}

/// Whose tokens a proxy believes, and the clusters that keys are fetched by.
pub(crate) fn effective<'a>(
    all: impl Iterator<Item = &'a Arc<RequestAuthentication>>,
    namespace: &str,
    labels: &Labels,
    mesh: &MeshConfig,
) -> (Option<Authentication>, Vec<Cluster>) {
    let mut mine: Vec<&Arc<RequestAuthentication>> = all
        .filter(|one| !one.targeted && is_for(&one.origin, one.selector.as_ref(), namespace, labels, mesh))
        .collect();
    mine.sort_by(|a, b| a.age.cmp(&b.age));
    let mut found: Vec<&Issuer> = mine.iter().flat_map(|one| &one.issuers).collect();
    // Istio's order.
    found.sort_by(|a, b| a.config.issuer.cmp(&b.config.issuer));
    let mut clusters = BTreeMap::new();
    for place in found.iter().filter_map(|issuer| issuer.from.as_ref()) {
        clusters.entry(place.cluster()).or_insert_with(|| place.made(mesh));
    }
    let named =
        |(index, issuer): (usize, &&Issuer)| JwtIssuer { name: format!("origins-{index}"), ..issuer.config.clone() };
    let issuers: Vec<JwtIssuer> = found.iter().enumerate().map(named).collect();
    ((!issuers.is_empty()).then_some(Authentication { issuers }), clusters.into_values().collect())
}

impl Place {
    fn parse(uri: &str) -> Result<Self, &'static str> {
        let (secured, rest) = match (uri.strip_prefix("https://"), uri.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("it must begin with http:// or https://"),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = words::host::split_port(authority);
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        if host.is_empty()
            || authority.contains('@')
            || (port.is_none() && authority.contains(':') && !authority.ends_with(']'))
        {
            return Err("it names no host");
        }
        Ok(Self { secured, host, port: port.unwrap_or(if secured { 443 } else { 80 }) })
    }

    // A proxy must not be made to ask its own machine or the cloud's metadata (CVE-2026-31837 and its kind). Names are
    // looked at again by the proxy when they are resolved.
    fn allowed(self, mesh: &MeshConfig) -> Result<Self, &'static str> {
        let ip = words::host::ip(&self.host);
        let is_local = ip.is_some_and(words::host::is_of_the_machine)
            || self.host == "localhost"
            || self.host.ends_with(".localhost");
        match is_local && !mesh.local_keys {
            true => Err("keys are not fetched from loopback and link-local addresses"),
            false => Ok(self),
        }
    }

    fn cluster(&self) -> Name {
        let scheme = if self.secured { "https" } else { "http" };
        format!("jwks|{scheme}|{}|{}", self.port, self.host).into()
    }

    fn made(&self, mesh: &MeshConfig) -> Cluster {
        let whole = cluster::outside(self.cluster(), &self.host, self.port, mesh.connect_timeout);
        Cluster { tls: self.secured.then(|| self.tls()), ..whole }
    }

    fn tls(&self) -> ClientTls {
        let names = vec![self.host.clone()];
        let sni = if words::host::ip(&self.host).is_some() { Sni::Absent } else { Sni::Name(self.host.clone()) };
        ClientTls {
            certificate: None,
            validation: Some(Validation { roots: Some(secret::system_roots(None)), names, ..Validation::default() }),
            sni,
            verify_host: false,
            parameters: TlsParameters::default(),
            alpn: Vec::new(),
            announces: false,
            marked_only: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(rules: serde_json::Value, mesh: &MeshConfig) -> Arc<RequestAuthentication> {
        let spec: RequestAuthenticationSpec = serde_json::from_value(serde_json::json!({"jwtRules": rules})).unwrap();
        let age = (String::new(), "it".into(), "default".into());
        Arc::new(lower(Origin::new("RequestAuthentication", "default", "it"), age, &spec, mesh))
    }

    #[test]
    fn ra01_keys_come_from_where_they_may() {
        let mesh = MeshConfig::default();
        let open = MeshConfig { local_keys: true, ..MeshConfig::default() };
        for (uri, wanted) in [
            ("https://accounts.example.com/keys", Some("jwks|https|443|accounts.example.com")),
            ("http://jwks.auth.svc.cluster.local:8000/", Some("jwks|http|8000|jwks.auth.svc.cluster.local")),
            ("https://10.0.0.7/keys", Some("jwks|https|443|10.0.0.7")),
            ("http://169.254.169.254/latest", None),
            ("http://127.0.0.1:15000/", None),
            ("http://[::1]:15000/", None),
            ("http://[::ffff:127.0.0.1]:15000/", None),
            ("http://localhost:15000/", None),
            ("http://0.0.0.0:15000/", None),
            ("ftp://a", None),
            ("https://", None),
        ] {
            let made = lowered(serde_json::json!([{"issuer": "a", "jwksUri": uri}]), &mesh);
            let (found, clusters) = effective([made.clone()].iter(), "default", &Labels::new(), &mesh);
            assert_eq!(clusters.first().map(|cluster| &*cluster.name), wanted, "{uri}");
            let closed = found.unwrap().issuers[0].keys == nobody();
            assert_eq!((closed, made.diagnostics.len()), (wanted.is_none(), usize::from(wanted.is_none())), "{uri}");
        }
        assert!(
            lowered(serde_json::json!([{"issuer": "a", "jwksUri": "http://127.0.0.1:1/"}]), &open)
                .diagnostics
                .is_empty()
        );
    }

    #[test]
    fn ra01_an_issuer_without_keys_is_refused_and_reported() {
        let made = lowered(serde_json::json!([{"issuer": "a"}]), &MeshConfig::default());
        assert_eq!(made.issuers[0].config.keys, nobody());
        assert_eq!(made.diagnostics[0].code, NOT_OBEYED);
    }
}
