//! The index of one route table, and the decision.

use std::sync::Arc;

use config::{Action, ClusterChoice, Forward, Name, Respond, Route, RouteTable, VirtualHost};

use crate::Head;
use crate::domain::Domains;
use crate::matcher::Matcher;
use crate::paths::Paths;

/// Why a table cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    /// The virtual host.
    pub host: Name,
    /// The rule's place in it, from 0.
    pub rule: usize,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "virtual host {:?} route {}: {}", self.host, self.rule, self.reason)
    }
}

impl std::error::Error for BuildError {}

/// An index of one route table; immutable and shared by all workers.
#[derive(Debug)]
pub struct Router {
    pub(crate) table: Arc<RouteTable>,
    domains: Domains,
    hosts: Vec<Host>,
}

#[derive(Debug)]
struct Host {
    matchers: Vec<Matcher>,
    paths: Paths,
    splits: Vec<Split>,
}

/// Where a rule's requests go, by the proxy's cluster numbers; weights summed up for a binary search.
#[derive(Debug)]
enum Split {
    None,
    One(u32),
    Many(Vec<(u32, u32)>),
}

/// A cluster as a decision names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The name.
    pub name: &'a Name,
    /// The number that `slot` gave for it when the router was made.
    pub slot: u32,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    /// Send it to a cluster.
    Forward {
        /// The virtual host.
        host: &'a VirtualHost,
        /// The rule.
        route: &'a Route,
        /// The rule's action.
        forward: &'a Forward,
        /// The cluster drawn.
        cluster: Target<'a>,
    },
    /// Answer it here.
    Respond {
        /// The virtual host.
        host: &'a VirtualHost,
        /// The rule.
        route: &'a Route,
        /// The answer.
        respond: &'a Respond,
    },
    /// No virtual host has the domain: 404, flag NR.
    NoHost,
    /// No rule of the virtual host matches: 404, flag NR.
    NoRoute {
        /// The virtual host.
        host: &'a VirtualHost,
    },
}

impl Router {
    /// Indexes a table. `slot` gives each cluster name the caller's number for it.
    ///
    /// # Errors
    /// The first rule whose regex does not compile.
    pub fn new(table: Arc<RouteTable>, slot: &mut dyn FnMut(&Name) -> u32) -> Result<Self, BuildError> {
        let hosts = table.virtual_hosts.iter().map(|host| Host::new(host, slot)).collect::<Result<_, _>>()?;
        Ok(Self { domains: Domains::new(&table), hosts, table })
    }

    /// The table that is indexed.
    pub fn table(&self) -> &Arc<RouteTable> {
        &self.table
    }

    /// Decides. `draw` gives uniform numbers; it is asked at most once, and only for a weighted split.
    pub fn decide<'a>(&'a self, head: &Head<'_>, draw: impl FnOnce() -> u32) -> Decision<'a> {
        let Some(number) = self.host_number(head) else { return Decision::NoHost };
        let (host, index) = (&self.table.virtual_hosts[number], &self.hosts[number]);
        let path = head.path_only();
        let accepts = |rule: u32, path_known: bool| {
            let matcher = &index.matchers[rule as usize];
            match path_known {
                true => matcher.is_path_only() || matcher.rest_holds(head),
                false => matcher.holds(head, path),
            }
        };
        let Some(rule) = index.paths.first(path, accepts) else { return Decision::NoRoute { host } };
        let route = &host.routes[rule as usize];
        match &route.action {
            Action::Respond(respond) => Decision::Respond { host, route, respond },
            Action::Forward(forward) => {
                let cluster = index.splits[rule as usize].draw(&forward.cluster, draw);
                Decision::Forward { host, route, forward, cluster }
            }
        }
    }

    pub(crate) fn host_number(&self, head: &Head<'_>) -> Option<usize> {
        self.domains.find(head.authority).map(|number| number as usize)
    }

    pub(crate) fn matchers(&self, host: usize) -> &[Matcher] {
        &self.hosts[host].matchers
    }
}

impl Host {
    fn new(host: &VirtualHost, slot: &mut dyn FnMut(&Name) -> u32) -> Result<Self, BuildError> {
        let mut matchers = Vec::with_capacity(host.routes.len());
        for (rule, route) in host.routes.iter().enumerate() {
            let failed = |reason| BuildError { host: host.name.clone(), rule, reason };
            matchers.push(Matcher::new(&route.matches).map_err(failed)?);
        }
        let splits = host.routes.iter().map(|route| Split::new(&route.action, slot)).collect();
        Ok(Self { paths: Paths::new(&matchers), matchers, splits })
    }
}

impl Split {
    fn new(action: &Action, slot: &mut dyn FnMut(&Name) -> u32) -> Self {
        let Action::Forward(forward) = action else { return Self::None };
        match &forward.cluster {
            ClusterChoice::One(name) => Self::One(slot(name)),
            ClusterChoice::Weighted(many) => {
                let mut sum = 0_u32;
                let mut add = |weight: u32| {
                    sum = sum.saturating_add(weight);
                    sum
                };
                Self::Many(many.iter().map(|one| (add(one.weight), slot(&one.cluster))).collect())
            }
        }
    }

    fn draw<'a>(&self, choice: &'a ClusterChoice, draw: impl FnOnce() -> u32) -> Target<'a> {
        match (self, choice) {
            (Self::Many(sums), ClusterChoice::Weighted(many)) => {
                let total = sums.last().map_or(1, |(sum, _)| *sum).max(1);
                // The draw scaled to the sum: no modulo bias worth speaking of, and no division.
                let point = ((u64::from(draw()) * u64::from(total)) >> 32) as u32;
                let index = sums.partition_point(|(sum, _)| *sum <= point).min(many.len() - 1);
                Target { name: &many[index].cluster, slot: sums[index].1 }
            }
            (Self::One(slot), ClusterChoice::One(name)) => Target { name, slot: *slot },
            // A split is made from its own choice, so the shapes agree; the first cluster is an honest answer anyway.
            (_, ClusterChoice::One(name)) => Target { name, slot: u32::MAX },
            (_, ClusterChoice::Weighted(many)) => Target { name: &many[0].cluster, slot: u32::MAX },
        }
    }
}
