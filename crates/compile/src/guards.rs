//! What a proxy looks at before it serves: whose tokens it believes and who may ask (DP06).

use config::{Authentication, Authorization, Cluster, Direction, Filter, Listener};
use words::Labels;

use crate::scope::{Role, Scope};
use crate::world::World;
use crate::{authentication, authorization};

/// What a proxy looks at before it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Guards {
    gateway: bool,
    authentication: Option<Authentication>,
    requests: Vec<Authorization>,
    connections: Vec<Authorization>,
    /// By which public keys are fetched.
    pub(crate) clusters: Vec<Cluster>,
}

impl Guards {
    /// Of a proxy; `labels` are those of its pod.
    pub(crate) fn of(scope: &Scope, labels: &Labels, world: &World) -> Self {
        let (namespace, mesh) = (scope.namespace.as_str(), world.mesh());
        let (authentication, clusters) = authentication::effective(world.authentications(), namespace, labels, mesh);
        let (requests, connections) = authorization::effective(world.authorizations(), namespace, labels, mesh);
        Self { gateway: scope.role == Role::Gateway, authentication, requests, connections, clusters }
    }

    /// Puts them before what a listener does; at sidecars only inwards.
    pub(crate) fn put(&self, listener: &mut Listener) {
        if !self.gateway && listener.direction == Direction::Outbound {
            return;
        }
        for chain in listener.chains.iter_mut().chain(&mut listener.default_chain) {
            match &mut chain.filter {
                Filter::Tcp(tcp) => tcp.authorization.clone_from(&self.connections),
                Filter::Http(http) => {
                    http.authentication.clone_from(&self.authentication);
                    http.authorization.clone_from(&self.requests);
                }
            }
        }
    }
}
