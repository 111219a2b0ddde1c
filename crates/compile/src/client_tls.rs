//! TLS to upstreams: `trafficPolicy.tls` of a DestinationRule (DR60 to DR64).
//!
//! In: the block as written; then the service and who obeys the rule. Out: the TLS of a cluster, or none.

use api::traffic_policy::{ClientTls as Written, ClientTlsMode};
use config::{ClientTls, Name, Sni, TlsParameters, UpstreamProtocol, Validation};

use crate::notes::Notes;
use crate::secret;

/// `tls`, lowered. It replaces an inherited block whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tls {
    /// DISABLE.
    Off,
    /// ISTIO_MUTUAL.
    Mesh(Box<Mesh>),
    /// SIMPLE and MUTUAL.
    On(Box<Origination>),
}

/// ISTIO_MUTUAL: certificates are the proxies' own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mesh {
    /// Instead of the name of the port and subset.
    pub(crate) sni: Option<String>,
    /// Instead of the service's own accounts.
    pub(crate) names: Vec<String>,
}

/// SIMPLE or MUTUAL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origination {
    /// A Secret has what is needed, so it must come from somewhere (DR62).
    uses_secret: bool,
    certificate: Option<Name>,
    roots: Name,
    sni: Option<String>,
    names: Vec<String>,
    skips_verification: bool,
}

/// Lowers a block.
pub(crate) fn lower(written: &Written, field: &str, notes: &mut Notes) -> Tls {
    let Written {
        mode,
        client_certificate,
        private_key,
        ca_certificates,
        credential_name,
        subject_alt_names,
        sni,
        insecure_skip_verify,
        ca_crl,
    } = written;
    let is_mutual = match mode {
        None | Some(ClientTlsMode::Disable) => return Tls::Off,
        Some(ClientTlsMode::IstioMutual) => {
            let sni = sni.clone().filter(|sni| !sni.is_empty());
            return Tls::Mesh(Box::new(Mesh { sni, names: subject_alt_names.clone() }));
        }
        Some(ClientTlsMode::Simple) => false,
        Some(ClientTlsMode::Mutual) => true,
    };
    let set = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let crl = set(ca_crl);
    let (certificate, roots) = match set(credential_name) {
        Some(name) if name.contains("://") => {
            notes.not_obeyed(true, || format!("{field}.credentialName ({name})"));
            (None, secret::system_roots(crl.as_deref()))
        }
        Some(name) => (is_mutual.then(|| secret::certificate(&name)), secret::roots(&name)),
        None => {
            let files = set(client_certificate).zip(set(private_key)).filter(|_| is_mutual);
            if is_mutual && files.is_none() {
                let message =
                    "MUTUAL needs clientCertificate and privateKey, or credentialName; no certificate is shown";
                notes.ignored(field, message);
            }
            let roots = match set(ca_certificates) {
                Some(path) => secret::roots_file(&path, crl.as_deref()),
                None => secret::system_roots(crl.as_deref()),
            };
            (files.map(|(chain, key)| secret::certificate_file(&chain, &key)), roots)
        }
    };
    Tls::On(Box::new(Origination {
        uses_secret: set(credential_name).is_some(),
        certificate,
        roots,
        sni: set(sni),
        names: subject_alt_names.clone(),
        skips_verification: insecure_skip_verify.unwrap_or(false),
    }))
}

impl Tls {
    /// True when a Secret is needed.
    pub(crate) fn uses_secret(&self) -> bool {
        matches!(self, Self::On(origination) if origination.uses_secret)
    }

    /// The TLS of a cluster. `may_use_secrets`: gateways, and sidecars that the rule selects; without it, a block with a
    /// Secret is as if it were not there (DR62). `names` are those of a ServiceEntry, for a rule without any (DR63).
    pub(crate) fn of_cluster(
        &self,
        may_use_secrets: bool,
        names: &[String],
        protocol: UpstreamProtocol,
    ) -> Option<ClientTls> {
        let Self::On(origination) = self else { return None };
        let Origination { uses_secret, certificate, roots, sni, names: own, skips_verification } = origination.as_ref();
        if *uses_secret && !may_use_secrets {
            return None;
        }
        let names = if own.is_empty() { names } else { own };
        let validation = Validation { roots: Some(roots.clone()), names: names.to_vec(), ..Validation::default() };
        Some(ClientTls {
            certificate: certificate.clone(),
            validation: (!skips_verification).then_some(validation),
            sni: sni.clone().map_or(Sni::FromHost, Sni::Name),
            verify_host: !skips_verification && sni.is_none() && names.is_empty(),
            parameters: TlsParameters::default(),
            alpn: match protocol {
                UpstreamProtocol::Http2 => vec!["h2".into()],
                UpstreamProtocol::Http1 | UpstreamProtocol::SameAsDownstream => Vec::new(),
            },
            announces: false,
            marked_only: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(written: Written) -> (Tls, Vec<String>) {
        let origin = words::Origin { kind: "DestinationRule".into(), namespace: "n".into(), name: "d".into() };
        let mut notes = Notes::about(&origin);
        let tls = lower(&written, "spec.trafficPolicy.tls", &mut notes);
        (tls, notes.into_found().iter().map(|found| format!("{} {}", found.code, found.field)).collect())
    }

    fn simple() -> Written {
        Written { mode: Some(ClientTlsMode::Simple), ..Written::default() }
    }

    #[test]
    fn dr63_the_host_is_checked_unless_something_else_is_said() {
        let tls = |written: Written, names: &[String]| {
            lowered(written).0.of_cluster(true, names, UpstreamProtocol::Http1).unwrap()
        };
        assert!(tls(simple(), &[]).verify_host);
        assert!(!tls(Written { sni: Some("a".into()), ..simple() }, &[]).verify_host);
        assert!(!tls(Written { subject_alt_names: vec!["a".into()], ..simple() }, &[]).verify_host);
        let of_entry = tls(simple(), &["b".into()]);
        assert_eq!((of_entry.verify_host, of_entry.validation.unwrap().names), (false, vec!["b".to_owned()]));
        let open = tls(Written { insecure_skip_verify: Some(true), ..simple() }, &[]);
        assert_eq!((open.verify_host, open.validation), (false, None));
    }

    #[test]
    fn dr62_a_secret_needs_a_gateway_or_a_selected_sidecar() {
        let with = lowered(Written { credential_name: Some("c".into()), ..simple() }).0;
        assert!(with.uses_secret());
        assert_eq!(with.of_cluster(false, &[], UpstreamProtocol::Http1), None);
        let tls = with.of_cluster(true, &[], UpstreamProtocol::Http2).unwrap();
        assert_eq!(tls.validation.unwrap().roots.as_deref(), Some("kubernetes://c-cacert"));
        assert_eq!(tls.alpn, ["h2"]);
    }

    #[test]
    fn dr60_what_cannot_be_done_is_said() {
        let mode = |mode| lowered(Written { mode: Some(mode), ..Written::default() });
        assert_eq!(mode(ClientTlsMode::Disable), (Tls::Off, vec![]));
        assert!(matches!(mode(ClientTlsMode::IstioMutual), (Tls::Mesh(_), said) if said.is_empty()));
        assert_eq!(mode(ClientTlsMode::Mutual).1, ["SLU0102 spec.trafficPolicy.tls"]);
    }
}
