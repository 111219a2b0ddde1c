//! Stock Envoy as a proxy of our control plane.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use testkit::process::{Process, free_address, workspace};
use testkit::wait;

use crate::mesh::{Proxied, START, get};

/// The binary, when there is one: `$ENVOY`, or what `scripts/fetch-envoy.sh` put into the cache.
pub fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let cache = std::env::var_os("SLUICE_CACHE").map_or_else(|| workspace().join(".cache"), PathBuf::from);
    named.or_else(|| Some(cache.join("envoy/envoy"))).filter(|path| path.is_file())
}

/// A running Envoy.
pub struct Envoy {
    /// The process.
    pub process: Process,
    /// Its admin address.
    pub admin: SocketAddr,
}

impl Envoy {
    /// Starts one that follows `control` by the incremental or the state-of-the-world variant, and waits until it has
    /// taken a first configuration.
    pub async fn start(binary: &Path, folder: &Path, who: &Proxied, control: SocketAddr, delta: bool) -> Result<Self> {
        let admin = free_address("127.0.0.1")?;
        let file = folder.join(format!("bootstrap-{}.json", if delta { "delta" } else { "sotw" }));
        std::fs::write(&file, bootstrap(who, control, admin, delta).to_string())?;
        let log = folder.join("envoy.log");
        let args = [
            "--config-path".as_ref(),
            file.as_os_str(),
            "--concurrency".as_ref(),
            "1".as_ref(),
            "--log-level".as_ref(),
            "warn".as_ref(),
            "--disable-hot-restart".as_ref(),
            // Its access logs are read while it runs.
            "--file-flush-interval-msec".as_ref(),
            "100".as_ref(),
            "--log-path".as_ref(),
            log.as_os_str(),
        ];
        let process = Process::start(binary, args)?;
        let envoy = Self { process, admin };
        let ready = wait::until("envoy is ready", START, || get(admin, "/ready")).await;
        ready.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(envoy)
    }

    /// How many updates it refused, over all types.
    pub async fn rejected(&self) -> Result<u64> {
        let text = get(self.admin, "/stats?filter=update_rejected").await?;
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(text.lines().filter_map(|line| line.rsplit(": ").next()?.parse::<u64>().ok()).sum())
    }
}

fn bootstrap(who: &Proxied, control: SocketAddr, admin: SocketAddr, delta: bool) -> serde_json::Value {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    let endpoint = json!({"endpoint": {"address": socket(control)}});
    let resolver = who.resolver.map(|address| {
        json!({"name": "envoy.network.dns_resolver.cares", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [socket(address)], "dns_resolver_options": {"no_default_search_domain": true}
        }})
    });
    let mut made = json!({
        "node": {"id": who.node(), "cluster": who.pod, "metadata": who.metadata()},
        "admin": {"address": socket(admin)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": if delta { "DELTA_GRPC" } else { "GRPC" }, "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]
            },
            "cds_config": ads, "lds_config": ads
        },
        "static_resources": {"clusters": [{
            "name": "xds", "type": "STATIC", "connect_timeout": "5s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}
            }},
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]}
        }]}
    });
    if let Some(shown) = &who.identity {
        let inline = |text: &str| json!({"inline_string": text});
        made["static_resources"]["secrets"] = json!([
            {"name": "default",
             "tls_certificate": {"certificate_chain": inline(&shown.chain), "private_key": inline(&shown.key)}},
            {"name": "ROOTCA", "validation_context": {"trusted_ca": inline(&shown.roots)}}
        ]);
    }
    if let Some(resolver) = resolver {
        made["typed_dns_resolver_config"] = resolver;
    }
    made
}
