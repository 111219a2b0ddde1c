//! Which proxy asks: parsed from the node id and metadata that an xDS client sends, in Istio's forms.
//!
//! In: `sidecar~10.1.2.3~reviews-v1-abc.default~default.svc.cluster.local` and a JSON object. Out: a [`Scope`], or an
//! error that says what was expected. Knows no session.

use std::net::{IpAddr, SocketAddr};

use api::proxy_config::{InFront, ProxyConfig};
use config::Locality;
use serde_json::Value;
use thiserror::Error;
use words::{Fingerprint, Labels};

/// Longest node id accepted, in bytes.
pub const NODE_ID_BYTES_MAX: usize = 1024;
/// Most labels read from a proxy's metadata.
pub const LABELS_MAX: usize = 256;
/// Longest name of anything in Kubernetes, in bytes.
const NAME_BYTES_MAX: usize = 253;
/// Longest key and value of a label: a prefix, a slash and a name; a name.
const LABEL_BYTES_MAX: (usize, usize) = (253 + 1 + 63, 63);
/// Most addresses of a pod.
const IPS_MAX: usize = 16;

/// A proxy, as far as it decides what it gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Sidecar or gateway.
    pub role: Role,
    /// The first address of its pod.
    pub ip: IpAddr,
    /// All addresses of its pod, `ip` first.
    pub ips: Vec<IpAddr>,
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's labels, as the proxy says; where the pod is known its own are used.
    pub labels: Labels,
    /// The DNS domain of the proxy, `default.svc.cluster.local`.
    pub domain: String,
    /// The cluster it runs in.
    pub cluster_id: String,
    /// How traffic reaches it.
    pub interception: Interception,
    /// Where it offers an explicit HTTP proxy to its application.
    pub outbound_address: Option<SocketAddr>,
    /// Where its application listens, when not at the dialled address.
    pub app_ip: Option<IpAddr>,
    /// Where inbound or gateway listeners are bound, when not at the pod's address.
    pub bind_ip: Option<IpAddr>,
    /// What stands in front of a gateway (Istio `gatewayTopology` of the proxy's own configuration).
    pub front: InFront,
    /// Where it runs.
    pub locality: Locality,
    /// Answers its application's DNS questions.
    pub dns: bool,
    /// Takes virtual hosts on their own (VHDS).
    pub vhds: bool,
    /// It has a certificate of its own and the roots of the mesh: connections within the mesh are secured.
    pub identity: bool,
    /// Whether it may be given Secrets of its namespace, where it obeys something that names them. No word of the proxy's
    /// own: whoever knows how far the connection is to be trusted says so.
    pub secrets: SecretsRight,
    /// The node's name, for `internalTrafficPolicy: Local`.
    pub node_name: String,
}

/// What a proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Beside an application.
    Sidecar,
    /// At the edge, selected by Gateways.
    Gateway,
}

/// Whether a proxy may be given Secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SecretsRight {
    /// No: nobody knows who it is.
    #[default]
    Unknown,
    /// No: its service account may not list them itself.
    Denied,
    /// Yes.
    Granted,
}

/// How traffic reaches a sidecar (DP05).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interception {
    /// iptables REDIRECT.
    Redirect,
    /// iptables TPROXY.
    Tproxy,
    /// Not at all: applications dial the proxy.
    None,
}

/// Why a proxy cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScopeError {
    /// The id has not four parts.
    #[error("node id {0:?} is not of the form <sidecar|router>~<ip>~<pod>.<namespace>~<domain>")]
    Id(String),
    /// The first part is unknown.
    #[error("node id {id:?} starts with {role:?}; expected sidecar or router")]
    Role {
        /// The id.
        id: String,
        /// Its first part.
        role: String,
    },
    /// The second part is no address.
    #[error("node id {id:?} has {ip:?} where an IP address is expected")]
    Ip {
        /// The id.
        id: String,
        /// Its second part.
        ip: String,
    },
    /// The third part is no `<pod>.<namespace>`.
    #[error("node id {id:?} has {name:?} where <pod>.<namespace> is expected")]
    Name {
        /// The id.
        id: String,
        /// Its third part.
        name: String,
    },
    /// A metadata field has a value that cannot be read.
    #[error("node metadata {field} is {value}; expected {expected}")]
    Metadata {
        /// The field.
        field: &'static str,
        /// Its value as JSON.
        value: String,
        /// What is understood.
        expected: &'static str,
    },
}

impl Scope {
    /// Reads a node id and its metadata (`NAMESPACE`, `LABELS`, `CLUSTER_ID`, `INTERCEPTION_MODE`, `INSTANCE_IPS`,
    /// `NODE_NAME`, `DNS_CAPTURE`, and ours: `SLUICE_OUTBOUND_ADDRESS`, `SLUICE_APP_IP`, `SLUICE_BIND_IP`, `SLUICE_VHDS`,
    /// `SLUICE_IDENTITY`).
    pub fn parse(node_id: &str, metadata: &Value) -> Result<Self, ScopeError> {
        let mut scope = Self::from_id(node_id)?;
        let fields = Fields(metadata);
        if let Some(namespace) = fields.name("NAMESPACE", "a namespace")? {
            scope.namespace = namespace.to_owned();
        }
        if let Some(cluster_id) = fields.name("CLUSTER_ID", "a cluster's name")? {
            scope.cluster_id = cluster_id.to_owned();
        }
        if let Some(node_name) = fields.name("NODE_NAME", "a node's name")? {
            scope.node_name = node_name.to_owned();
        }
        scope.labels = fields.labels()?;
        scope.interception = fields.interception()?;
        for text in fields.text("INSTANCE_IPS", "addresses with commas")?.unwrap_or_default().split(',').take(IPS_MAX) {
            match text.trim().parse() {
                Ok(ip) if !scope.ips.contains(&ip) => scope.ips.push(ip),
                _ => {}
            }
        }
        scope.outbound_address = fields.parsed("SLUICE_OUTBOUND_ADDRESS", "<ip>:<port>")?;
        scope.app_ip = fields.parsed("SLUICE_APP_IP", "an IP address")?;
        scope.bind_ip = fields.parsed("SLUICE_BIND_IP", "an IP address")?;
        scope.dns = fields.flag("DNS_CAPTURE")?;
        scope.vhds = fields.flag("SLUICE_VHDS")?;
        scope.identity = fields.flag("SLUICE_IDENTITY")?;
        scope.front = fields.front()?;
        Ok(scope)
    }

    /// True when it has addresses of both families.
    pub fn is_dual(&self) -> bool {
        self.ips.iter().any(IpAddr::is_ipv4) && self.ips.iter().any(IpAddr::is_ipv6)
    }

    fn from_id(node_id: &str) -> Result<Self, ScopeError> {
        let id = || node_id.chars().take(NODE_ID_BYTES_MAX).collect::<String>();
        let parts: Vec<&str> = node_id.split('~').collect();
        let [role, ip, name, domain] = parts[..] else { return Err(ScopeError::Id(id())) };
        if node_id.len() > NODE_ID_BYTES_MAX {
            return Err(ScopeError::Id(id()));
        }
        let role = match role {
            "sidecar" => Role::Sidecar,
            "router" => Role::Gateway,
            _ => return Err(ScopeError::Role { id: id(), role: role.to_owned() }),
        };
        let ip: IpAddr = ip.parse().map_err(|_| ScopeError::Ip { id: id(), ip: ip.to_owned() })?;
        // A pod's name may have dots, a namespace has none.
        let (pod, namespace) = match name.rsplit_once('.') {
            Some((pod, namespace)) if is_name(pod) && is_name(namespace) => (pod, namespace),
            _ => return Err(ScopeError::Name { id: id(), name: name.to_owned() }),
        };
        Ok(Self {
            role,
            ip,
            ips: vec![ip],
            name: pod.to_owned(),
            namespace: namespace.to_owned(),
            labels: Labels::new(),
            domain: domain.to_owned(),
            cluster_id: "Kubernetes".to_owned(),
            interception: Interception::Redirect,
            outbound_address: None,
            app_ip: None,
            bind_ip: None,
            front: InFront::default(),
            locality: Locality::default(),
            dns: false,
            vhds: false,
            identity: false,
            secrets: SecretsRight::Unknown,
            node_name: String::new(),
        })
    }

    /// The content, as part of memo keys.
    pub(crate) fn print(&self) -> Fingerprint {
        Fingerprint::of(self)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX
}

struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    fn bad(field: &'static str, value: &Value, expected: &'static str) -> ScopeError {
        ScopeError::Metadata { field, value: value.to_string().chars().take(NODE_ID_BYTES_MAX).collect(), expected }
    }

    /// A text; absent, null and empty are the same, because injectors write empty variables.
    fn text(&self, field: &'static str, expected: &'static str) -> Result<Option<&'a str>, ScopeError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(other) => Err(Self::bad(field, other, expected)),
        }
    }

    fn name(&self, field: &'static str, expected: &'static str) -> Result<Option<&'a str>, ScopeError> {
        match self.text(field, expected)? {
            Some(text) if !is_name(text) => Err(Self::bad(field, &Value::from(text), expected)),
            found => Ok(found),
        }
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        field: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, ScopeError> {
        let Some(text) = self.text(field, expected)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Self::bad(field, &Value::from(text), expected))
    }

    fn flag(&self, field: &'static str) -> Result<bool, ScopeError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" || text.is_empty() => Ok(false),
            Some(other) => Err(Self::bad(field, other, "true or false")),
        }
    }

    /// `PROXY_CONFIG` as Istio's agent sends it, an object, or as text.
    fn front(&self) -> Result<InFront, ScopeError> {
        const FIELD: &str = "PROXY_CONFIG";
        let read = match self.0.get(FIELD) {
            None | Some(Value::Null) => return Ok(InFront::default()),
            Some(Value::String(text)) => ProxyConfig::parse(text),
            Some(object) => ProxyConfig::parse(&object.to_string()),
        };
        let bad = || Self::bad(FIELD, &self.0[FIELD], "a ProxyConfig");
        read.map(|read| read.in_front()).ok_or_else(bad)
    }

    fn labels(&self) -> Result<Labels, ScopeError> {
        match self.0.get("LABELS") {
            None | Some(Value::Null) => Ok(Labels::new()),
            Some(Value::Object(map)) => Ok(map
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                // What no pod can have is nobody's label.
                .filter(|(key, value)| key.len() <= LABEL_BYTES_MAX.0 && value.len() <= LABEL_BYTES_MAX.1)
                .take(LABELS_MAX)
                .collect()),
            Some(other) => Err(Self::bad("LABELS", other, "an object of labels")),
        }
    }

    fn interception(&self) -> Result<Interception, ScopeError> {
        const FIELD: &str = "INTERCEPTION_MODE";
        const EXPECTED: &str = "REDIRECT, TPROXY or NONE";
        match self.text(FIELD, EXPECTED)? {
            None | Some("REDIRECT") => Ok(Interception::Redirect),
            Some("TPROXY") => Ok(Interception::Tproxy),
            Some("NONE") => Ok(Interception::None),
            Some(other) => Err(Self::bad(FIELD, &Value::from(other), EXPECTED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_istio_ids() {
        let metadata = json!({
            "NAMESPACE": "default", "LABELS": {"app": "reviews"}, "CLUSTER_ID": "c1", "INTERCEPTION_MODE": "NONE",
            "INSTANCE_IPS": "10.0.0.1,fd00::1", "SLUICE_OUTBOUND_ADDRESS": "127.0.0.1:15080", "SLUICE_VHDS": "true"
        });
        let scope = Scope::parse("sidecar~10.0.0.1~reviews-v1.x.default~default.svc.cluster.local", &metadata).unwrap();
        assert_eq!((scope.name.as_str(), scope.namespace.as_str()), ("reviews-v1.x", "default"));
        assert_eq!(scope.ips.len(), 2);
        assert_eq!(scope.interception, Interception::None);
        assert_eq!(scope.outbound_address, Some("127.0.0.1:15080".parse().unwrap()));
        assert!(scope.vhds);
        assert_eq!(Scope::parse("router~::1~gw.istio-system~x", &json!({})).unwrap().role, Role::Gateway);
    }

    #[test]
    fn what_is_too_long_to_be_a_name_is_refused_or_left_out() {
        let (long, id) = ("a".repeat(254), "sidecar~1.1.1.1~a.b~c");
        assert!(Scope::parse(&format!("sidecar~1.1.1.1~{long}.b~c"), &json!({})).is_err());
        for field in ["NAMESPACE", "CLUSTER_ID", "NODE_NAME"] {
            assert!(Scope::parse(id, &json!({field: long})).is_err(), "{field}");
        }
        let labels = json!({"LABELS": {"app": "a".repeat(64), "a".repeat(318): "b", "version": "v1"}});
        assert_eq!(Scope::parse(id, &labels).unwrap().labels, [("version".to_owned(), "v1".to_owned())].into());
        let ips: Vec<String> = (0..100).map(|number| format!("10.0.0.{number}")).collect();
        assert!(Scope::parse(id, &json!({"INSTANCE_IPS": ips.join(",")})).unwrap().ips.len() <= IPS_MAX + 1);
    }

    #[test]
    fn bad_ids_say_what_was_expected() {
        let cases = [
            ("x", "node id \"x\" is not of the form <sidecar|router>~<ip>~<pod>.<namespace>~<domain>"),
            (
                "ztunnel~1.1.1.1~a.b~c",
                "node id \"ztunnel~1.1.1.1~a.b~c\" starts with \"ztunnel\"; expected sidecar or router",
            ),
            ("sidecar~one~a.b~c", "node id \"sidecar~one~a.b~c\" has \"one\" where an IP address is expected"),
            ("sidecar~1.1.1.1~a~c", "node id \"sidecar~1.1.1.1~a~c\" has \"a\" where <pod>.<namespace> is expected"),
        ];
        for (id, message) in cases {
            assert_eq!(Scope::parse(id, &json!({})).unwrap_err().to_string(), message);
        }
        let bad = Scope::parse("sidecar~1.1.1.1~a.b~c", &json!({"SLUICE_APP_IP": "localhost"})).unwrap_err();
        assert_eq!(bad.to_string(), "node metadata SLUICE_APP_IP is \"localhost\"; expected an IP address");
    }
}
