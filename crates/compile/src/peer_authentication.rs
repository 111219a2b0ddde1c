//! PeerAuthentication: the front end, and what holds for a workload (PA01 to PA03, X37).
//!
//! In: objects. Out: for a workload what its ports take. Three levels, each over the one before: the root namespace's
//! object without a selector, the namespace's, the workload's; of several of one level the oldest counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::PeerAuthenticationSpec;
use api::peer_authentication::{MutualTls, MutualTlsMode};
use words::{Diagnostic, Fingerprint, Labels, Origin};

use crate::notes::Notes;
use crate::service::Age;

/// What connections may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// Plaintext only.
    Disable,
    /// Plaintext or mutual TLS.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
}

/// A PeerAuthentication by itself.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The object.
    pub(crate) origin: Origin,
    /// Its place among others.
    pub(crate) age: Age,
    /// Whom it is for within its namespace; `None` for all.
    selector: Option<Labels>,
    /// For all ports; `None`: as the level above says.
    mode: Option<Mode>,
    /// By the workload's port; `None`: as `mode`.
    ports: BTreeMap<u16, Option<Mode>>,
    /// What is wrong with the object itself.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The content of all of the above.
    pub(crate) print: Fingerprint,
}

fn mode(written: Option<&MutualTls>) -> Option<Mode> {
    match written.and_then(|written| written.mode).unwrap_or_default() {
        MutualTlsMode::Unset => None,
        MutualTlsMode::Disable => Some(Mode::Disable),
        MutualTlsMode::Permissive => Some(Mode::Permissive),
        MutualTlsMode::Strict => Some(Mode::Strict),
    }
}

/// Lowers a PeerAuthentication.
pub(crate) fn lower(origin: Origin, age: Age, spec: &PeerAuthenticationSpec, root: &str) -> Policy {
    let PeerAuthenticationSpec { selector, mtls, port_level_mtls } = spec;
    let mut notes = Notes::about(&origin);
    let selector = selector.as_ref().map(|selector| selector.match_labels.clone()).filter(|labels| !labels.is_empty());
    if selector.is_some() && &*origin.namespace == root {
        let message = "an object with a selector in the root namespace is for nobody";
        notes.ignored("spec.selector", message);
    }
    let mut ports = BTreeMap::new();
    for (port, written) in port_level_mtls.iter().flatten() {
        let field = format!("spec.portLevelMtls.{port}");
        match port.parse::<u16>() {
            _ if selector.is_none() => notes.ignored(field, "ports count only with a selector"),
            Ok(number) if number > 0 => _ = ports.insert(number, mode(Some(written))),
            _ => notes.ignored(field, format!("{port:?} is not a port")),
        }
    }
    let mode = mode(mtls.as_ref());
    let diagnostics = notes.into_found();
    let print = Fingerprint::of(&(&origin, &age, &selector, mode, &ports, &diagnostics));
    Policy { origin, age, selector, mode, ports, diagnostics, print }
}

/// What the ports of a workload take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Inbound {
    /// Those that nothing else is said of.
    pub(crate) mode: Mode,
    /// The others.
    pub(crate) ports: BTreeMap<u16, Mode>,
}

impl Inbound {
    /// What a port takes.
    pub(crate) fn port(&self, number: u16) -> Mode {
        self.ports.get(&number).copied().unwrap_or(self.mode)
    }
}

/// All of them, by whom they are for.
#[derive(Debug)]
pub(crate) struct Policies {
    mesh: Mode,
    namespaces: BTreeMap<Arc<str>, Mode>,
    /// Those with a selector by namespace, oldest first.
    workloads: BTreeMap<Arc<str>, Vec<Arc<Policy>>>,
}

impl Policies {
    /// Puts them in order.
    pub(crate) fn new<'a>(all: impl Iterator<Item = &'a Arc<Policy>>, root: &str) -> Self {
        let mut sorted: Vec<_> = all.collect();
        sorted.sort_by(|a, b| a.age.cmp(&b.age));
        let mut whole: BTreeMap<Arc<str>, Option<Mode>> = BTreeMap::new();
        let mut workloads: BTreeMap<Arc<str>, Vec<Arc<Policy>>> = BTreeMap::new();
        for policy in sorted {
            let namespace = policy.origin.namespace.clone();
            match policy.selector {
                // The oldest counts, also when it says nothing.
                None => _ = whole.entry(namespace).or_insert(policy.mode),
                Some(_) if &*namespace == root => {}
                Some(_) => workloads.entry(namespace).or_default().push(policy.clone()),
            }
        }
        let mesh = whole.get(root).copied().flatten().unwrap_or_default();
        let namespaces = whole.into_iter().filter_map(|(namespace, mode)| Some((namespace, mode?))).collect();
        Self { mesh, namespaces, workloads }
    }

    /// What workloads of a namespace take that nothing else is said of.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Mode {
        self.namespaces.get(namespace).copied().unwrap_or(self.mesh)
    }

    /// What a workload takes.
    pub(crate) fn of_workload(&self, namespace: &str, labels: &Labels) -> Inbound {
        let above = self.of_namespace(namespace);
        let own = self
            .workloads
            .get(namespace)
            .into_iter()
            .flatten()
            .find(|policy| policy.selector.as_ref().is_some_and(|selector| words::labels_select(selector, labels)));
        let Some(own) = own else { return Inbound { mode: above, ports: BTreeMap::new() } };
        let mode = own.mode.unwrap_or(above);
        Inbound { mode, ports: own.ports.iter().map(|(port, said)| (*port, said.unwrap_or(mode))).collect() }
    }

    /// True when a port of a workload takes mutual TLS, whatever else.
    pub(crate) fn take_mtls(&self, namespace: &str, labels: &Labels, port: u16) -> bool {
        let mode = match self.workloads.contains_key(namespace) {
            true => self.of_workload(namespace, labels).port(port),
            false => self.of_namespace(namespace),
        };
        mode != Mode::Disable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(namespace: &str, name: &str, spec: &str) -> Arc<Policy> {
        let spec: PeerAuthenticationSpec = serde_json::from_str(spec).unwrap();
        let origin = Origin { kind: "PeerAuthentication".into(), namespace: namespace.into(), name: name.into() };
        Arc::new(lower(origin, (String::new(), name.into(), namespace.into()), &spec, "root"))
    }

    fn labels(app: &str) -> Labels {
        Labels::from([("app".to_owned(), app.to_owned())])
    }

    #[test]
    fn pa01_pa02_levels_inherit_from_above_and_the_oldest_counts() {
        let all = [
            policy("root", "mesh", r#"{"mtls": {"mode": "STRICT"}}"#),
            policy("root", "for-nobody", r#"{"selector": {"matchLabels": {"app": "a"}}, "mtls": {"mode": "DISABLE"}}"#),
            policy("a", "a-first", r#"{"mtls": {"mode": "DISABLE"}}"#),
            policy("a", "b-second", r#"{"mtls": {"mode": "PERMISSIVE"}}"#),
            policy("b", "unset", r#"{"mtls": {"mode": "UNSET"}}"#),
            policy(
                "b",
                "own",
                r#"{"selector": {"matchLabels": {"app": "a"}}, "portLevelMtls": {"80": {"mode": "DISABLE"}, "81": {}}}"#,
            ),
        ];
        assert_eq!(all[1].diagnostics.len(), 1);
        let policies = Policies::new(all.iter(), "root");
        assert_eq!(policies.of_workload("x", &labels("a")).mode, Mode::Strict);
        assert_eq!(policies.of_workload("a", &labels("a")).mode, Mode::Disable);
        assert_eq!(policies.of_workload("b", &labels("x")), Inbound { mode: Mode::Strict, ports: BTreeMap::new() });
        let own = policies.of_workload("b", &labels("a"));
        assert_eq!((own.port(80), own.port(81), own.port(82)), (Mode::Disable, Mode::Strict, Mode::Strict));
        assert!(!policies.take_mtls("b", &labels("a"), 80) && policies.take_mtls("b", &labels("a"), 81));
        assert_eq!(Policies::new([].iter(), "root").of_namespace("x"), Mode::Permissive);
    }

    #[test]
    fn pa03_ports_without_a_selector_are_said_and_left_out() {
        let one = policy("a", "x", r#"{"portLevelMtls": {"80": {"mode": "STRICT"}}}"#);
        assert_eq!((one.ports.len(), one.diagnostics.len()), (0, 1));
        let text = r#"{"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"0": {}, "x": {}, "80": {}}}"#;
        let one = policy("a", "x", text);
        assert_eq!((one.ports.len(), one.diagnostics.len()), (1, 2));
    }
}
