//! Which resolvers are asked for names: those of resolv.conf, or those that the command line names.

use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Where names are resolved.
#[derive(Clone, Debug, Default)]
pub struct Resolvers {
    // `None`: nowhere.
    settings: Option<(ResolverConfig, ResolverOpts)>,
}

impl Resolvers {
    /// Those of resolv.conf when none is named.
    pub fn new(named: &[SocketAddr]) -> Self {
        let read = match named {
            [] => hickory_resolver::system_conf::read_system_conf(),
            _ => Ok((of(named), ResolverOpts::default())),
        };
        let settings = read.map(|(config, mut options)| {
            // As Envoy's V4_PREFERRED, which Istio asks for: the other family only when there is no address of this one.
            options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
            (config, options)
        });
        Self { settings: settings.map_err(|error| tracing::warn!("names cannot be resolved: {error}")).ok() }
    }

    /// A resolver for the runtime of the calling thread; `None` when there is nobody to ask.
    pub fn resolver(&self) -> Option<TokioResolver> {
        let (config, options) = self.settings.clone()?;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.with_options(options).build().map_err(|error| tracing::warn!("names cannot be resolved: {error}")).ok()
    }

    /// The addresses of the resolvers, in order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let servers = self.settings.iter().flat_map(|(config, _)| config.name_servers());
        servers.filter_map(|server| Some(SocketAddr::new(server.ip, server.connections.first()?.port))).collect()
    }

    /// The domains that are put behind names, without dots at the end.
    pub fn search(&self) -> Vec<String> {
        let domains = self.settings.iter().flat_map(|(config, _)| config.search());
        let text = |domain: &hickory_resolver::proto::rr::Name| {
            domain.to_ascii().to_ascii_lowercase().trim_end_matches('.').to_owned()
        };
        domains.map(text).filter(|domain| !domain.is_empty()).collect()
    }
}

fn of(addresses: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        server.connections.iter_mut().for_each(|connection| connection.port = address.port());
        server
    };
    ResolverConfig::from_name_servers(addresses.iter().map(server).collect())
}
