//! Names and addresses of services, for a proxy that answers its application's DNS questions (Istio's NDS, SE33).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

/// The name of the one resource of this kind.
pub const NAME_TABLE: &str = "names";

/// Every name that is answered for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct NameTable {
    /// By complete host name, lower case; may be `*.suffix`.
    pub names: BTreeMap<String, NameInfo>,
}

/// What a name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct NameInfo {
    /// Addresses of both families, in a fixed order.
    pub addresses: Vec<IpAddr>,
    /// A Kubernetes Service: its shorter names are answered for too.
    pub kubernetes: bool,
    /// The name without namespace and domain; for Kubernetes Services.
    pub short_name: String,
    /// The namespace of a Kubernetes Service.
    pub namespace: String,
}
