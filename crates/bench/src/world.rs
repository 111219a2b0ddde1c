//! Worlds to measure with.

use std::fmt::Write;
use std::net::SocketAddr;

/// One service with `count` routes by prefix, all to it; the last one is the one that is asked.
pub fn routes(count: usize, backends: &[SocketAddr]) -> String {
    let mut text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: bench, namespace: default}\n\
                    spec:\n  hosts: [bench.default.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
                    ports: [{number: 9080, name: http, protocol: HTTP}]\n  endpoints:\n"
        .to_owned();
    for backend in backends {
        let _ = writeln!(text, "  - {{address: {}, ports: {{http: {}}}}}", backend.ip(), backend.port());
    }
    text += "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bench, namespace: default}\n\
             spec:\n  hosts: [bench.default.svc.cluster.local]\n  http:\n";
    for number in 0..count {
        let _ = writeln!(
            text,
            "  - match: [{{uri: {{prefix: /route-{number}/}}}}]\n    route: [{{destination: {{host: bench.default.svc.cluster.local}}}}]"
        );
    }
    text
}
