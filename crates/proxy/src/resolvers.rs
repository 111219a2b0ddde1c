//! Which resolvers are asked for names: those of resolv.conf, or those that the command line names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Where names are resolved.
#[derive(Clone, Debug, Default)]
pub struct Resolvers(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    Nowhere,
    Servers(Arc<(ResolverConfig, ResolverOpts)>),
    Known(Arc<Known>),
}

/// Names with their addresses.
pub type Known = BTreeMap<String, Vec<IpAddr>>;

/// How long an answer without a server behind it may be kept.
const KNOWN_TTL: Duration = Duration::from_secs(60);

/// Resolves names.
pub enum Resolver {
    /// By asking servers.
    Asks(Box<TokioResolver>),
    /// From what it was given; there are no other names.
    Knows(Arc<Known>),
}

impl Resolver {
    /// The addresses of a name, and how long they may be kept.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn lookup(&self, name: &str) -> Result<(Vec<IpAddr>, Duration), String> {
        match self {
            Self::Asks(resolver) => {
                let answer = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
                let ttl = answer.valid_until().saturating_duration_since(Instant::now());
                Ok((answer.iter().collect(), ttl))
            }
            Self::Knows(names) => {
                let all = names.get(name.trim_end_matches('.')).ok_or("no such name")?;
                let of = |v4: bool| all.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect::<Vec<_>>();
                Ok((Some(of(true)).filter(|found| !found.is_empty()).unwrap_or_else(|| of(false)), KNOWN_TTL))
            }
        }
    }
}

impl Resolvers {
    /// Those of resolv.conf when none is named.
    pub fn new(named: &[SocketAddr]) -> Self {
        let read = match named {
            [] => hickory_resolver::system_conf::read_system_conf(),
            _ => Ok((of(named), ResolverOpts::default())),
        };
        match read {
            Ok((config, mut options)) => {
                // As Envoy's V4_PREFERRED, which Istio asks for: the other family only when there is no address of
                // this one.
                options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
                Self(Source::Servers(Arc::new((config, options))))
            }
            Err(error) => {
                tracing::warn!("names cannot be resolved: {error}");
                Self(Source::Nowhere)
            }
        }
    }

    /// These names and no others; nobody is asked.
    pub fn known(names: Known) -> Self {
        Self(Source::Known(Arc::new(names)))
    }

    /// A resolver for the runtime of the calling thread; `None` when there is nobody to ask.
    pub fn resolver(&self) -> Option<Resolver> {
        let (config, options) = match &self.0 {
            Source::Nowhere => return None,
            Source::Known(names) => return Some(Resolver::Knows(names.clone())),
            Source::Servers(settings) => settings.as_ref().clone(),
        };
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let built = builder.with_options(options).build();
        built
            .map(Box::new)
            .map(Resolver::Asks)
            .map_err(|error| tracing::warn!("names cannot be resolved: {error}"))
            .ok()
    }

    fn config(&self) -> Option<&ResolverConfig> {
        match &self.0 {
            Source::Servers(settings) => Some(&settings.0),
            Source::Nowhere | Source::Known(_) => None,
        }
    }

    /// The addresses of the resolvers, in order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let servers = self.config().into_iter().flat_map(ResolverConfig::name_servers);
        servers.filter_map(|server| Some(SocketAddr::new(server.ip, server.connections.first()?.port))).collect()
    }

    /// The domains that are put behind names, without dots at the end.
    pub fn search(&self) -> Vec<String> {
        let domains = self.config().into_iter().flat_map(ResolverConfig::search);
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
