//! Objects: metadata and a spec, of the kinds that a mesh reads.
//!
//! In: JSON, as the API server or a YAML file has it. Out: a typed [`Object`], or an error that names the field.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use words::{Labels, Origin};

use crate::{
    AuthorizationPolicySpec, DestinationRuleSpec, GatewaySpec, ParseError, PeerAuthenticationSpec, ProxyConfigSpec,
    RateLimitPolicySpec, RequestAuthenticationSpec, ServiceEntrySpec, SidecarSpec, TelemetrySpec, VirtualServiceSpec,
    WorkloadEntrySpec, WorkloadGroupSpec, kubernetes,
};

/// The group of Istio's networking kinds.
pub const NETWORKING_GROUP: &str = "networking.istio.io";
/// Its versions, the stored one first; all have the same schema (S40).
pub const NETWORKING_VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];
/// The group of Istio's Telemetry.
pub const TELEMETRY_GROUP: &str = "telemetry.istio.io";
/// The group of Istio's security kinds.
pub const SECURITY_GROUP: &str = "security.istio.io";
/// The group of this project's own kinds.
pub const OWN_GROUP: &str = "networking.sluice.dev";

/// What of `metadata` matters to a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Name.
    pub name: String,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Labels.
    #[serde(deserialize_with = "nullable_map")]
    pub labels: Labels,
    /// Annotations, without `kubectl.kubernetes.io/last-applied-configuration`.
    #[serde(deserialize_with = "nullable_map")]
    pub annotations: Labels,
    /// When it was made, RFC 3339 with whole seconds; its text order is its age order. Empty in a file without one.
    #[serde(deserialize_with = "nullable_string")]
    pub creation_timestamp: String,
    /// Counts changes of the spec; 0 when the source does not.
    pub generation: i64,
    /// The API server's version of the object; empty from files.
    pub resource_version: String,
    /// The API server's identity of the object; empty from files.
    pub uid: String,
}

fn nullable_map<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    let mut map = Option::<Labels>::deserialize(deserializer)?.unwrap_or_default();
    // It repeats the whole object, and nothing here reads it.
    map.remove("kubectl.kubernetes.io/last-applied-configuration");
    Ok(map)
}

fn nullable_string<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

/// An object of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Resource<S> {
    /// Metadata.
    pub metadata: Meta,
    /// The spec; for Kubernetes kinds, the narrowed object.
    pub spec: S,
}

macro_rules! kinds {
    ($($kind:ident($spec:ty) $plural:literal $group:literal [$($version:literal),*];)*) => {
        /// A kind that a mesh reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Kind {
            $(#[doc = concat!("`", stringify!($kind), "`.")] $kind,)*
        }

        /// An object of any of the kinds.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        pub enum Object {
            $(#[doc = concat!("A `", stringify!($kind), "`.")] $kind(Resource<$spec>),)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];

            /// `VirtualService`.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind),)* }
            }

            /// `virtualservices`.
            pub fn plural(self) -> &'static str {
                match self { $(Kind::$kind => $plural,)* }
            }

            /// The API group; empty for the core group.
            pub fn group(self) -> &'static str {
                match self { $(Kind::$kind => $group,)* }
            }

            /// The versions that are read, the preferred one first.
            pub fn versions(self) -> &'static [&'static str] {
                match self { $(Kind::$kind => &[$($version),*],)* }
            }
        }

        impl Object {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Object::$kind(_) => Kind::$kind,)* }
            }

            /// Its metadata.
            pub fn metadata(&self) -> &Meta {
                match self { $(Object::$kind(object) => &object.metadata,)* }
            }

            /// Its metadata, to fill in.
            pub fn metadata_mut(&mut self) -> &mut Meta {
                match self { $(Object::$kind(object) => &mut object.metadata,)* }
            }

            fn decode(kind: Kind, metadata: Meta, body: &Value) -> Result<Self, serde_json::Error> {
                Ok(match kind { $(Kind::$kind => Object::$kind(Resource { metadata, spec: <$spec>::deserialize(body)? }),)* })
            }
        }
    };
}

kinds! {
    VirtualService(VirtualServiceSpec) "virtualservices" "networking.istio.io" ["v1", "v1beta1", "v1alpha3"];
    DestinationRule(DestinationRuleSpec) "destinationrules" "networking.istio.io" ["v1", "v1beta1", "v1alpha3"];
    Gateway(GatewaySpec) "gateways" "networking.istio.io" ["v1", "v1beta1", "v1alpha3"];
    ServiceEntry(ServiceEntrySpec) "serviceentries" "networking.istio.io" ["v1", "v1beta1", "v1alpha3"];
    Sidecar(SidecarSpec) "sidecars" "networking.istio.io" ["v1", "v1beta1", "v1alpha3"];
    WorkloadEntry(WorkloadEntrySpec) "workloadentries" "networking.istio.io" ["v1", "v1beta1", "v1alpha3"];
    WorkloadGroup(WorkloadGroupSpec) "workloadgroups" "networking.istio.io" ["v1", "v1beta1", "v1alpha3"];
    ProxyConfig(ProxyConfigSpec) "proxyconfigs" "networking.istio.io" ["v1beta1"];
    RateLimitPolicy(RateLimitPolicySpec) "ratelimitpolicies" "networking.sluice.dev" ["v1alpha1"];
    Telemetry(TelemetrySpec) "telemetries" "telemetry.istio.io" ["v1", "v1alpha1"];
    RequestAuthentication(RequestAuthenticationSpec) "requestauthentications" "security.istio.io" ["v1", "v1beta1"];
    AuthorizationPolicy(AuthorizationPolicySpec) "authorizationpolicies" "security.istio.io" ["v1", "v1beta1"];
    PeerAuthentication(PeerAuthenticationSpec) "peerauthentications" "security.istio.io" ["v1", "v1beta1"];
    Service(kubernetes::Service) "services" "" ["v1"];
    EndpointSlice(kubernetes::EndpointSlice) "endpointslices" "discovery.k8s.io" ["v1"];
    Pod(kubernetes::Pod) "pods" "" ["v1"];
    Namespace(kubernetes::Namespace) "namespaces" "" ["v1"];
    Node(kubernetes::Node) "nodes" "" ["v1"];
    Secret(kubernetes::Secret) "secrets" "" ["v1"];
}

impl Kind {
    /// True for kinds that a CustomResourceDefinition of ours defines: Istio's and our own. Their unknown fields are errors,
    /// and their body is `spec`.
    pub fn is_custom(self) -> bool {
        [NETWORKING_GROUP, TELEMETRY_GROUP, SECURITY_GROUP, OWN_GROUP].contains(&self.group())
    }

    /// True for kinds without a namespace.
    pub fn is_cluster_scoped(self) -> bool {
        matches!(self, Kind::Namespace | Kind::Node)
    }

    /// The kind of an `apiVersion` and `kind`; `None` for one that a mesh does not read.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let fits = |candidate: &&Kind| {
            candidate.name() == kind && candidate.group() == group && candidate.versions().contains(&version)
        };
        Self::ALL.iter().find(fits).copied()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which object, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin().fmt(f)
    }
}

impl ObjectKey {
    /// A key from its parts.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// The key as an origin for diagnostics.
    pub fn origin(&self) -> Origin {
        Origin { kind: self.kind.name().into(), namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl Object {
    /// Its key.
    pub fn key(&self) -> ObjectKey {
        let metadata = self.metadata();
        ObjectKey::new(self.kind(), &metadata.namespace, &metadata.name)
    }

    /// Its origin for diagnostics.
    pub fn origin(&self) -> Origin {
        self.key().origin()
    }

    /// Reads an object; `None` for a kind that a mesh does not read.
    ///
    /// Unknown fields are let through here: an API server has checked them, and a newer Istio may have more (X04).
    /// [`crate::parse_yaml`] is the strict reader.
    pub fn from_json(mut value: Value) -> Result<Option<Self>, ParseError> {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind_name) = (text(&value, "apiVersion"), text(&value, "kind"));
        let Some(kind) = Kind::of(&api_version, &kind_name) else { return Ok(None) };
        Self::from_parts(kind, value.take()).map(Some)
    }

    /// Reads an object whose kind is known, as items of a list come without one.
    pub fn from_parts(kind: Kind, mut value: Value) -> Result<Self, ParseError> {
        let Some(fields) = value.as_object_mut() else {
            return Err(ParseError::new(format!("a {kind} must be a mapping")));
        };
        let metadata = fields.remove("metadata").unwrap_or(Value::Null);
        let owner = (kind == Kind::Pod).then(|| owner_of(&metadata)).flatten();
        let mut metadata: Meta = match metadata {
            Value::Null => Meta::default(),
            value => decode_at("metadata", value).map_err(|error| error.of(kind, "", ""))?,
        };
        if metadata.name.is_empty() {
            return Err(ParseError::new(format!("a {kind} without metadata.name")).at_field("metadata.name"));
        }
        if kind.is_cluster_scoped() {
            metadata.namespace.clear();
        }
        let body = match kind.is_custom() {
            true => fields
                .remove("spec")
                .filter(|spec| !spec.is_null())
                .unwrap_or_else(|| Value::Object(Default::default())),
            false => value,
        };
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let mut body = body;
        crate::schema::canonicalize(kind, &mut body);
        let mut object = Object::decode(kind, metadata, &body)
            .map_err(|error| type_error(kind, &body, &error).of(kind, &namespace, &name))?;
        if let Object::Pod(pod) = &mut object {
            pod.spec.owner = owner;
        }
        Ok(object)
    }
}

// serde says what is wrong, but not where; the schema does.
fn type_error(kind: Kind, body: &Value, error: &serde_json::Error) -> ParseError {
    match crate::schema::check(kind, body).into_iter().find(|found| !found.is_unknown_field) {
        Some(found) => ParseError::new(found.message).at_field(&found.path),
        None => ParseError::new(error.to_string()).at_field(if kind.is_custom() { "spec" } else { "" }),
    }
}

fn owner_of(metadata: &Value) -> Option<kubernetes::Owner> {
    let owners = metadata.get("ownerReferences")?.as_array()?;
    let controls = |owner: &&Value| owner.get("controller").and_then(Value::as_bool).unwrap_or(false);
    let owner = owners.iter().find(controls).or(owners.first())?;
    serde_json::from_value(owner.clone()).ok()
}

fn decode_at<T: serde::de::DeserializeOwned>(field: &str, value: Value) -> Result<T, ParseError> {
    serde_json::from_value(value).map_err(|error| ParseError::new(error.to_string()).at_field(field))
}
