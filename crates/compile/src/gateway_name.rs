//! Names of gateways as VirtualServices write them (X11).

use crate::intent::MESH;

/// `mesh` as it is, anything else as `namespace/name`.
pub(crate) fn resolve(name: &str, namespace: &str) -> String {
    if name == MESH {
        return name.to_owned();
    }
    match name.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(_) => name.to_owned(),
        None => match legacy(name) {
            Some((name, namespace)) => format!("{namespace}/{name}"),
            None => format!("{namespace}/{name}"),
        },
    }
}

/// The old dotted form `name.namespace` or `name.namespace.svc.cluster.local`.
fn legacy(name: &str) -> Option<(&str, &str)> {
    let (name, rest) = name.split_once('.')?;
    Some((name, rest.split('.').next().unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn x11_names_resolve_in_the_rules_namespace() {
        let cases = [
            ("mesh", "mesh"),
            ("gw", "ns/gw"),
            ("./gw", "ns/gw"),
            ("other/gw", "other/gw"),
            ("gw.other", "other/gw"),
            ("gw.other.svc.cluster.local", "other/gw"),
        ];
        for (written, resolved) in cases {
            assert_eq!(resolve(written, "ns"), resolved);
        }
    }
}
