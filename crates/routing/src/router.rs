//! The index of one route table, and the decision.

use std::sync::Arc;

use config::{Action, ClusterChoice, Forward, Name, RateLimit, Redirect, Respond, Route, RouteTable, VirtualHost};

use crate::Head;
use crate::actions::{Actions, ClusterActions};
use crate::domain::Domains;
use crate::matcher::Matcher;
use crate::paths::{Candidate, Paths};

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
    actions: Vec<Option<Box<Actions>>>,
    // The clusters of each rule's mirrors, by number.
    mirrors: Vec<Box<[u32]>>,
}

/// Where a rule's requests go, by the proxy's cluster numbers; weights summed up for a binary search.
#[derive(Debug)]
enum Split {
    None,
    One(u32),
    // The sum of all weights up to and with this one, and its cluster; what else is done for each.
    Many(Box<[(u64, u32)]>, Box<[Option<ClusterActions>]>),
}

/// A cluster as a decision names it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The name.
    pub name: &'a Name,
    /// The number that `slot` gave for it when the router was made.
    pub slot: u32,
    /// What its requests get besides what the rule does; `None` for nothing.
    pub actions: Option<&'a ClusterActions>,
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
        /// What else is done; `None` for nothing.
        actions: Option<&'a Actions>,
        /// The numbers of the clusters that get copies, in the order of the rule's mirrors.
        mirrors: &'a [u32],
    },
    /// Answer it here.
    Respond {
        /// The virtual host.
        host: &'a VirtualHost,
        /// The rule.
        route: &'a Route,
        /// The answer.
        respond: &'a Respond,
        /// What else is done; `None` for nothing.
        actions: Option<&'a Actions>,
    },
    /// Send the client elsewhere.
    Redirect {
        /// The virtual host.
        host: &'a VirtualHost,
        /// The rule.
        route: &'a Route,
        /// Where to.
        redirect: &'a Redirect,
        /// What else is done; `None` for nothing.
        actions: Option<&'a Actions>,
    },
    /// The virtual host is for TLS only, and this request came without: 301 to https, whatever the rules say.
    RequireTls {
        /// The virtual host.
        host: &'a VirtualHost,
    },
    /// No virtual host has the domain: 404, flag NR.
    NoHost,
    /// No rule of the virtual host matches: 404, flag NR.
    NoRoute {
        /// The virtual host.
        host: &'a VirtualHost,
    },
}

impl<'a> Decision<'a> {
    /// What the rule does besides; `None` for nothing, or when no rule was chosen.
    pub fn actions(&self) -> Option<&'a Actions> {
        match self {
            Self::Forward { actions, .. } | Self::Respond { actions, .. } | Self::Redirect { actions, .. } => *actions,
            Self::RequireTls { .. } | Self::NoHost | Self::NoRoute { .. } => None,
        }
    }

    /// The limits of the virtual host and of the rule; none when no rule was chosen.
    pub fn limits(&self) -> impl Iterator<Item = &'a RateLimit> {
        let chosen = match self {
            Self::Forward { host, route, .. }
            | Self::Respond { host, route, .. }
            | Self::Redirect { host, route, .. } => [host.limits.as_slice(), route.limits.as_slice()],
            Self::RequireTls { .. } | Self::NoHost | Self::NoRoute { .. } => [[].as_slice(), [].as_slice()],
        };
        chosen.into_iter().flatten()
    }

    /// The rule.
    pub fn route(&self) -> Option<&'a Route> {
        match self {
            Self::Forward { route, .. } | Self::Respond { route, .. } | Self::Redirect { route, .. } => Some(route),
            Self::RequireTls { .. } | Self::NoHost | Self::NoRoute { .. } => None,
        }
    }
}

impl Router {
    /// Indexes a table. `slot` gives each cluster name the caller's number for it.
    ///
    /// # Errors
    /// The first rule whose regex does not compile or whose weights add up to nothing.
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
        if host.require_tls && head.scheme != "https" {
            return Decision::RequireTls { host };
        }
        let path = head.path_only();
        let accepts = |candidate: Candidate| {
            index.matchers[candidate.rule as usize].failing(head, path, candidate.path_known).is_none()
        };
        let Some(rule) = index.paths.first(path, accepts) else { return Decision::NoRoute { host } };
        let route = &host.routes[rule as usize];
        let actions = index.actions[rule as usize].as_deref();
        match &route.action {
            Action::Respond(respond) => Decision::Respond { host, route, respond, actions },
            Action::Redirect(redirect) => Decision::Redirect { host, route, redirect, actions },
            Action::Forward(forward) => match index.splits[rule as usize].draw(&forward.cluster, draw) {
                Some(cluster) => {
                    let mirrors = &index.mirrors[rule as usize];
                    Decision::Forward { host, route, forward, cluster, actions, mirrors }
                }
                None => Decision::NoRoute { host },
            },
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
        let mut splits = Vec::with_capacity(host.routes.len());
        let mut actions = Vec::with_capacity(host.routes.len());
        let mut mirrors = Vec::with_capacity(host.routes.len());
        for (rule, route) in host.routes.iter().enumerate() {
            let failed = |reason| BuildError { host: host.name.clone(), rule, reason };
            matchers.push(Matcher::new(&route.matches).map_err(failed)?);
            splits.push(Split::new(&route.action, slot).map_err(failed)?);
            actions.push(Actions::new(route).map_err(failed)?);
            mirrors.push(match &route.action {
                Action::Forward(forward) => forward.mirrors.iter().map(|mirror| slot(&mirror.cluster)).collect(),
                Action::Respond(_) | Action::Redirect(_) => Box::default(),
            });
        }
        Ok(Self { paths: Paths::new(&matchers), matchers, splits, actions, mirrors })
    }
}

impl Split {
    fn new(action: &Action, slot: &mut dyn FnMut(&Name) -> u32) -> Result<Self, String> {
        let Action::Forward(forward) = action else { return Ok(Self::None) };
        Ok(match &forward.cluster {
            ClusterChoice::One(name) => Self::One(slot(name)),
            ClusterChoice::Weighted(many) => {
                let mut sum = 0;
                let mut add = |weight: u32| {
                    sum += u64::from(weight);
                    sum
                };
                let sums = many.iter().map(|one| (add(one.weight), slot(&one.cluster))).collect();
                if sum == 0 {
                    return Err("the weights of its clusters add up to 0".into());
                }
                Self::Many(sums, ClusterActions::of(&forward.cluster)?)
            }
        })
    }

    fn draw<'a>(&'a self, choice: &'a ClusterChoice, draw: impl FnOnce() -> u32) -> Option<Target<'a>> {
        match (self, choice) {
            (Self::One(slot), ClusterChoice::One(name)) => Some(Target { name, slot: *slot, actions: None }),
            (Self::Many(sums, actions), ClusterChoice::Weighted(many)) => {
                let (total, _) = sums.last()?;
                // The draw scaled to the sum: no modulo bias worth speaking of, and no division.
                let point = ((u128::from(draw()) * u128::from(*total)) >> 32) as u64;
                let place = sums.partition_point(|(sum, _)| *sum <= point);
                let actions = actions.get(place).and_then(Option::as_ref);
                Some(Target { name: &many.get(place)?.cluster, slot: sums.get(place)?.1, actions })
            }
            // A split is made from the rule's own choice, so the shapes agree.
            _ => None,
        }
    }
}
