//! The page `/certs`: which certificates are in use and until when, in Envoy's form (`admin.v3.Certificates`). Never a key.

use std::time::SystemTime;

use config::{OWN_CERTIFICATE, OWN_ROOTS, Secret, SecretContent, Snapshot, Source};
use identity::Certificate;
use serde_json::{Value, json};

/// All certificates of a snapshot; ours come first, with the roots beside the chain.
pub fn page(snapshot: &Snapshot, now: SystemTime) -> Value {
    let secrets = &snapshot.secrets;
    let own = secrets.get(OWN_CERTIFICATE).map(|certificate| {
        let roots = secrets.get(OWN_ROOTS).map(|roots| list(roots, now)).unwrap_or_default();
        json!({"ca_cert": roots, "cert_chain": list(certificate, now)})
    });
    let others = secrets.iter().filter(|(name, _)| ![OWN_CERTIFICATE, OWN_ROOTS].contains(&&***name));
    let others = others.map(|(_, secret)| match secret.content {
        SecretContent::Certificate { .. } => json!({"ca_cert": [], "cert_chain": list(secret, now)}),
        SecretContent::Roots { .. } => json!({"ca_cert": list(secret, now), "cert_chain": []}),
    });
    json!({"certificates": own.into_iter().chain(others).collect::<Vec<_>>()})
}

fn list(secret: &Secret, now: SystemTime) -> Vec<Value> {
    let (SecretContent::Certificate { chain: source, .. } | SecretContent::Roots { roots: source, .. }) =
        &secret.content;
    let (path, text) = match source {
        Source::Inline(text) => ("<inline>".to_owned(), text.to_vec()),
        Source::File(path) => {
            let read = crate::dial::read(path.as_ref(), transport::tls::PEM_BYTES_MAX as u64);
            (path.clone(), read.unwrap_or_default())
        }
        Source::System => return Vec::new(),
    };
    let read = Certificate::read_all(&text).unwrap_or_default();
    read.iter().map(|one| describe(one, &path, now)).collect()
}

fn describe(one: &Certificate, path: &str, now: SystemTime) -> Value {
    let time = |at: SystemTime| jiff::Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default();
    let left = one.not_after.duration_since(now).unwrap_or_default();
    let uris = one.uris.iter().map(|name| json!({"uri": name}));
    let dns = one.dns.iter().map(|name| json!({"dns": name}));
    let ips = one.ips.iter().map(|ip| json!({"ip_address": ip.to_string()}));
    json!({
        "path": path, "serial_number": one.serial,
        "subject_alt_names": uris.chain(dns).chain(ips).collect::<Vec<_>>(),
        "days_until_expiration": (left.as_secs() / 86_400).to_string(),
        "valid_from": time(one.not_before), "expiration_time": time(one.not_after)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use identity::{Authority, Enrolment, Files, LEAF_LIFE};
    use words::SpiffeId;

    #[test]
    fn names_and_times_are_shown_and_keys_are_not() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (certificate, key) = Authority::create("cluster.local", now).unwrap();
        let files = Files { certificate: certificate.as_bytes(), key: key.as_bytes(), ..Files::default() };
        let made = Enrolment::new(None).unwrap();
        let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/reviews").unwrap();
        let issued = Authority::load(files, now).unwrap().sign(&made.request, &id, LEAF_LIFE, now).unwrap();
        let chain = issued.chain.concat();
        let own = crate::own::secrets(chain.as_bytes(), made.key.as_bytes(), certificate.as_bytes()).unwrap();
        let snapshot = Snapshot { secrets: Arc::unwrap_or_clone(own), ..Snapshot::default() };
        let shown = page(&snapshot, now);
        let one = &shown["certificates"][0]["cert_chain"][0];
        assert_eq!(one["subject_alt_names"], json!([{"uri": id.to_string()}]));
        assert_eq!((&one["days_until_expiration"], &one["path"]), (&json!("1"), &json!("<inline>")));
        assert_eq!(one["expiration_time"], "2027-01-16T08:00:00Z");
        assert_eq!(shown["certificates"][0]["ca_cert"][0]["days_until_expiration"], "3650");
        let line = made.key.lines().nth(1).unwrap();
        assert!(!shown.to_string().contains(line));
    }
}
