//! What a rule means, free of the kind it was written in: hosts complete, durations read, matches lowered.
//!
//! In: what the front ends (`virtual_service.rs`) make of one object, by itself. Out: what the back end (`route.rs`,
//! `virtual_host.rs`) places in a proxy's tables. Nothing here depends on a proxy or on another object, so an object is
//! lowered once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config::{Cidr, CorsPolicy, Fault, HeaderChanges, Respond, RetryPolicy, Rewrite, RouteMatch, Share};
use words::{Diagnostic, Fingerprint, Labels, Origin};

use crate::delegate::{Delegated, Delegation};
use crate::header_changes::Lowered;
use crate::redirect::RedirectRule;
use crate::service::Age;
use crate::visibility::Export;

/// The gateway that stands for all sidecars.
pub(crate) const MESH: &str = "mesh";

/// A set of routing rules for a set of hosts, from one object.
#[derive(Clone, Debug)]
pub(crate) struct Routing {
    /// The object.
    pub(crate) origin: Origin,
    /// Its place among others (X30).
    pub(crate) age: Age,
    /// Complete host names, lower case, in the order written, without repeats.
    pub(crate) hosts: Vec<Arc<str>>,
    /// [`MESH`], or `namespace/name`.
    pub(crate) gateways: BTreeSet<String>,
    /// Who sees it.
    pub(crate) export: Export,
    /// HTTP rules in order.
    pub(crate) http: Vec<HttpRule>,
    /// Rules about TLS connections, in order.
    pub(crate) tls: Vec<ConnectionRule>,
    /// Rules about other connections, in order.
    pub(crate) tcp: Vec<ConnectionRule>,
    /// Rules that other objects have; empty once they are merged in (VS91).
    pub(crate) delegations: Vec<Delegation>,
    /// Its rules for objects that delegate to it; `None` for an object with hosts.
    pub(crate) delegated: Option<Arc<Delegated>>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above, and of the object's age.
    pub(crate) print: Fingerprint,
}

/// One rule: any of the matches, then the action.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HttpRule {
    /// Where it stands in the object, `spec.http[2]`.
    pub(crate) index: usize,
    /// Its name; may be empty.
    pub(crate) name: String,
    /// At least one.
    pub(crate) matches: Vec<RuleMatch>,
    /// What is done.
    pub(crate) action: RuleAction,
    /// Changes of headers, whatever is done.
    pub(crate) headers: HeaderChanges,
    /// Cross-origin rules.
    pub(crate) cors: Option<Box<CorsPolicy>>,
}

/// One block of conditions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RuleMatch {
    /// Its name; may be empty.
    pub(crate) name: String,
    /// Conditions on a request.
    pub(crate) request: RouteMatch,
    /// Conditions on the proxy, decided when its tables are made (VS20 to VS23).
    pub(crate) filter: StaticFilter,
    /// Name of statistics; empty for none (VS24).
    pub(crate) stat_prefix: String,
}

/// A rule about connections: any of the matches, then where to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionRule {
    /// Where it stands in its list.
    pub(crate) index: usize,
    /// At least one.
    pub(crate) matches: Vec<ConnectionMatch>,
    /// At least one; with several, weights sum to at least 1 and none is 0.
    pub(crate) destinations: Vec<Destination>,
}

/// One block of conditions on a connection; all hold together (VS62).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionMatch {
    /// Server names, exact or `*.suffix`; empty for any.
    pub(crate) server_names: Vec<String>,
    /// Ranges of the address dialled; empty for the service's own.
    pub(crate) subnets: Vec<Cidr>,
    /// Conditions on the proxy and port.
    pub(crate) filter: StaticFilter,
}

/// Conditions on the proxy and port that a rule is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct StaticFilter {
    /// The service port (sidecar) or the port written in the Gateway.
    pub(crate) port: Option<u32>,
    /// Labels of the proxy's pod.
    pub(crate) source_labels: Labels,
    /// Its namespace.
    pub(crate) source_namespace: Option<String>,
    /// Gateways; not empty: they alone decide, sources are not looked at (VS23, TR44).
    pub(crate) gateways: BTreeSet<String>,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RuleAction {
    /// Send it on.
    Forward(ForwardRule),
    /// Answer it.
    Respond(Respond),
    /// Send the client elsewhere.
    Redirect(RedirectRule),
}

/// Where to, and under which bounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ForwardRule {
    /// At least one; with several, weights sum to at least 1 and none is 0.
    pub(crate) destinations: Vec<Destination>,
    /// `None`: unlimited.
    pub(crate) timeout: Option<Duration>,
    /// `None`: never again.
    pub(crate) retry: Option<RetryPolicy>,
    /// `retryIgnorePreviousHosts`, where it is said (VS85).
    pub(crate) ignores_previous_hosts: Option<bool>,
    /// Changes of path and authority.
    pub(crate) rewrite: Rewrite,
    /// `None`: nothing goes wrong on purpose.
    pub(crate) fault: Option<Fault>,
    /// Who gets copies.
    pub(crate) mirrors: Vec<MirrorRule>,
    /// The authority of copies tells that they are some.
    pub(crate) shadow_host: bool,
}

/// Who gets a copy of how many requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MirrorRule {
    /// Where it goes; its weight counts nothing.
    pub(crate) destination: Destination,
    /// Of how many requests.
    pub(crate) share: Share,
    /// Where the destination stands in the object, `spec.http[0].mirror`.
    pub(crate) field: String,
}

impl ForwardRule {
    /// Every host that requests or copies go to.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.everywhere().map(|destination| &destination.host)
    }

    /// Every place that requests or copies go to.
    pub(crate) fn everywhere(&self) -> impl Iterator<Item = &Destination> {
        self.destinations.iter().chain(self.mirrors.iter().map(|mirror| &mirror.destination))
    }
}

/// A service, perhaps a subset of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    /// Complete and lower case.
    pub(crate) host: Arc<str>,
    /// Empty for the whole service.
    pub(crate) subset: String,
    /// `None`: by VS32.
    pub(crate) port: Option<u16>,
    /// Its share.
    pub(crate) weight: u32,
    /// Where it stands in its rule, for diagnostics.
    pub(crate) index: usize,
    /// Changes of headers for its requests, and a new authority.
    pub(crate) headers: Lowered,
}

impl RuleMatch {
    /// Matches every request of every proxy.
    pub(crate) fn any() -> Self {
        Self {
            name: String::new(),
            request: RouteMatch::any(),
            filter: StaticFilter::default(),
            stat_prefix: String::new(),
        }
    }
}

impl StaticFilter {
    /// True when the block counts for this proxy, gateway and port.
    pub(crate) fn holds(&self, proxy: &Asker<'_>) -> bool {
        if self.port.is_some_and(|port| port != u32::from(proxy.port)) {
            return false;
        }
        if !self.gateways.is_empty() {
            return proxy.gateways.iter().any(|gateway| self.gateways.contains(*gateway));
        }
        words::labels_select(&self.source_labels, proxy.labels)
            && self.source_namespace.as_deref().is_none_or(|namespace| namespace == proxy.namespace)
    }
}

impl StaticFilter {
    /// The same for a rule about connections: everything must hold, also beside `gateways` (VS62, TR44).
    pub(crate) fn holds_for_connections(&self, proxy: &Asker<'_>) -> bool {
        self.holds_at_gateway(proxy.port, &proxy.gateways)
            && words::labels_select(&self.source_labels, proxy.labels)
            && self.source_namespace.as_deref().is_none_or(|namespace| namespace == proxy.namespace)
    }

    /// The same at a gateway, where only port and gateways are looked at (VS62).
    pub(crate) fn holds_at_gateway(&self, port: u16, gateways: &[&str]) -> bool {
        self.port.is_none_or(|wanted| wanted == u32::from(port))
            && (self.gateways.is_empty() || gateways.iter().any(|gateway| self.gateways.contains(*gateway)))
    }
}

/// Who a rule is made for.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Asker<'a> {
    /// The proxy's namespace.
    pub(crate) namespace: &'a str,
    /// Its labels.
    pub(crate) labels: &'a Labels,
    /// [`MESH`], or the gateways that serve the port.
    pub(crate) gateways: Vec<&'a str>,
    /// The service port, or the port written in the Gateway.
    pub(crate) port: u16,
}
