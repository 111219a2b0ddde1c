//! The shared layer of a class of proxies, piece by piece: clusters, endpoints, listeners, route tables.
//!
//! Each piece has inputs of its own, so an endpoint's change never looks at routes, and an edited VirtualService never
//! at clusters (architecture: endpoints have their own path).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Cluster, Endpoints, Listener, Name, NameTable, RouteTable, Snapshot, VirtualHost};
use words::{Diagnostic, Fingerprint};

use crate::class::Class;
use crate::cluster::{self, Wish};
use crate::compiler::{Base, Layer};
use crate::destination_rule::Lookup;
use crate::memo::{Memo, Unit};
use crate::mutual_tls::Peers;
use crate::notes::NOT_OBEYED;
use crate::outlook::Outlook;
use crate::peer_authentication::{Mode, Policies};
use crate::piece::{Piece, refresh};
use crate::registry::Seen;
use crate::scope::Role;
use crate::secret::{self, SecretSet};
use crate::service::{Resolution, Service, Source};
use crate::world::World;
use crate::{endpoints, gateway, name_table, sidecar_routes, telemetry};

/// The memos that all classes share: what two classes have in common is computed once and is one `Arc`.
#[derive(Debug, Default)]
pub(crate) struct Units {
    pub(crate) groups: Memo<Group>,
    pub(crate) clusters: Memo<Cluster>,
    pub(crate) filled: Memo<Filled>,
    pub(crate) endpoints: Memo<Endpoints>,
    pub(crate) hosts: Memo<VirtualHost>,
    pub(crate) tables: Memo<RouteTable>,
    pub(crate) listeners: Memo<Listener>,
}

impl Units {
    /// Drops what nobody needs, wholes before parts.
    pub(crate) fn prune(&mut self, round: u64) {
        let Self { groups, clusters, filled, endpoints, hosts, tables, listeners } = self;
        groups.prune(round);
        filled.prune(round);
        tables.prune(round);
        clusters.prune(round);
        endpoints.prune(round);
        hosts.prune(round);
        listeners.prune(round);
    }
}

/// The clusters of one service.
#[derive(Debug)]
pub(crate) struct Group {
    clusters: Vec<Unit<Cluster>>,
    wishes: Vec<Wish>,
}

/// The endpoints of one service's clusters, in the order of its wishes.
#[derive(Debug)]
pub(crate) struct Filled(Vec<Unit<Endpoints>>);

/// All clusters of a class, and who wants endpoints.
#[derive(Debug)]
pub(crate) struct ClusterSet {
    by_name: BTreeMap<Name, Arc<Cluster>>,
    wanting: Vec<Wanting>,
    /// Rules that these proxies cannot obey.
    diagnostics: BTreeSet<Diagnostic>,
}

#[derive(Debug)]
struct Wanting {
    service: Arc<Service>,
    group: Unit<Group>,
    /// Where the client is decides about its endpoints.
    is_arranged: bool,
    /// The content of service and group.
    print: Fingerprint,
}

/// All endpoints of a class.
#[derive(Debug)]
pub(crate) struct EndpointSet {
    by_cluster: BTreeMap<Name, Arc<Endpoints>>,
    /// Per wanting service, what its endpoints were made of.
    inputs: Vec<Fingerprint>,
    prints: Vec<Fingerprint>,
    /// The cluster set that the endpoints are for.
    clusters: Fingerprint,
}

/// Listeners of a class, and what they say about services.
#[derive(Debug, Default)]
pub(crate) struct ListenerSet {
    /// By name.
    pub(crate) by_name: BTreeMap<Name, Arc<Listener>>,
    /// Conflicts.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Route tables of a class.
pub(crate) type TableSet = BTreeMap<Name, Arc<RouteTable>>;

/// What a class had, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    outlook: Option<Piece<Outlook>>,
    names: Option<Piece<Option<Arc<NameTable>>>>,
    clusters: Option<Piece<ClusterSet>>,
    endpoints: Option<Piece<EndpointSet>>,
    sidecar: sidecar_routes::Slots,
    gateway: gateway::Slots,
    secrets: Option<Piece<SecretSet>>,
    layer: Option<Piece<Layer>>,
}

impl Shared {
    /// Somebody else has its layer.
    pub(crate) fn is_held(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| Arc::strong_count(&layer.value) > 1)
    }

    /// The layer of a class, the one from before when nothing in it changed.
    pub(crate) fn layer(
        &mut self,
        world: &World,
        base: &Base,
        class: &Class,
        round: u64,
        units: &mut Units,
    ) -> Arc<Layer> {
        let outlook = self.outlook(base, class);
        let clusters = self.clusters(world, base, class, &outlook, round, units);
        let endpoints = self.endpoints(world, base, class, &clusters, round, units);
        let names = self.names(world, class, &outlook);
        let seen = sidecar_routes::Seen { world, base, class, outlook: &outlook, round };
        let (listeners, tables) = match class.role {
            Role::Sidecar => (self.sidecar.listeners(seen, units), self.sidecar.tables(seen, units)),
            Role::Gateway => self.gateway.refresh(seen, units),
        };
        let secrets = self.secrets(world, class, &listeners, &clusters);
        let parts = (clusters.print, endpoints.print, listeners.print, tables.print, names.print, secrets.print);
        let content = Fingerprint::of(&parts);
        let layer = refresh(&mut self.layer, content, |_| {
            let snapshot = Snapshot {
                listeners: listeners.value.by_name.clone(),
                routes: (*tables.value).clone(),
                clusters: clusters.value.by_name.clone(),
                endpoints: endpoints.value.by_cluster.clone(),
                names: (*names.value).clone(),
                secrets: secrets.value.by_name.clone(),
            };
            let found = listeners.value.diagnostics.iter().chain(&secrets.value.diagnostics);
            let found = found.chain(&clusters.value.diagnostics);
            (Layer::new(snapshot, found.cloned().collect()), content)
        });
        layer.value
    }

    fn outlook(&mut self, base: &Base, class: &Class) -> Piece<Outlook> {
        let picky = class.sidecar.as_ref().and_then(|sidecar| Some((sidecar, sidecar.egress.as_ref()?)));
        // With a Sidecar that names hosts, destinations of VirtualServices are imported too (SC08).
        let imports = picky.map(|(sidecar, _)| (sidecar.print, base.routings.print));
        let inputs = Fingerprint::of(&(base.registry.print, imports));
        refresh(&mut self.outlook, inputs, |_| {
            let registry = &base.registry.value;
            let made = match picky {
                None => Outlook::open(registry, class),
                Some((_, egress)) => {
                    let named = sidecar_routes::destinations(&base.routings.value, &class.namespace, egress);
                    Outlook::of(registry, class, egress, &named)
                }
            };
            let print = made.print;
            (made, print)
        })
    }

    /// Names for DNS answers; endpoints of headless services are among them.
    fn names(&mut self, world: &World, class: &Class, outlook: &Piece<Outlook>) -> Piece<Option<Arc<NameTable>>> {
        let headless = |seen: &&Seen| seen.service().resolution == Resolution::Headless;
        let pods = |seen: &Seen| world.joined(&seen.service().origin).map(|(_, print)| print);
        let inputs = class.dns.then(|| {
            let pods: Vec<_> = outlook.value.whole.services.iter().filter(headless).map(pods).collect();
            (outlook.print, pods)
        });
        refresh(&mut self.names, Fingerprint::of(&inputs), |_| {
            let made = class.dns.then(|| Arc::new(name_table::compute(&outlook.value, world)));
            let print = Fingerprint::of(&made);
            (made, print)
        })
    }

    fn clusters(
        &mut self,
        world: &World,
        base: &Base,
        class: &Class,
        outlook: &Piece<Outlook>,
        round: u64,
        units: &mut Units,
    ) -> Piece<ClusterSet> {
        let by_server_name = class.role == Role::Gateway && gateway::passes_by_service_name(world, class);
        // Where names of selected workloads are resolved, they are part of the clusters.
        let selected = base.registry.value.any_selected_names.then(|| world.prints().endpoints);
        let inputs = Fingerprint::of(&(
            selected,
            outlook.print,
            base.rules.print,
            base.prints.mesh,
            by_server_name,
            &class.labels,
            class.dialled(),
            class.captured,
            &class.place,
            class.telemetry.traces(),
            class.identity.then(|| (world.prints().standings, base.policies.print)),
            &class.guards.clusters,
        ));
        refresh(&mut self.clusters, inputs, |_| {
            let mut set = ClusterSet { by_name: BTreeMap::new(), wanting: Vec::new(), diagnostics: BTreeSet::new() };
            let mut prints = Vec::new();
            if class.captured {
                for made in [cluster::passthrough(world.mesh()), cluster::blackhole(world.mesh())] {
                    let print = Fingerprint::of(&made);
                    let unit = units.clusters.get(round, print, || made);
                    prints.push(unit.print);
                    set.by_name.insert(unit.value.name.clone(), unit.value);
                }
            }
            if let Some(collector) = world.mesh().collector.as_ref().filter(|_| class.telemetry.traces()) {
                let made = telemetry::collector(collector, world.mesh());
                let unit = units.clusters.get(round, Fingerprint::of(&made), || made);
                prints.push(unit.print);
                set.by_name.insert(unit.value.name.clone(), unit.value);
            }
            for made in &class.guards.clusters {
                let unit = units.clusters.get(round, Fingerprint::of(made), || made.clone());
                prints.push(unit.print);
                set.by_name.insert(unit.value.name.clone(), unit.value);
            }
            for seen in &outlook.value.whole.services {
                let service = seen.service();
                let rule = base.rules.value.lookup(Lookup {
                    client: &class.namespace,
                    labels: &class.labels,
                    host: &service.host,
                    namespace: &service.namespace,
                });
                if let Some(rule) = rule.filter(|rule| !class.identity && rule.needs_identity()) {
                    let message = "ISTIO_MUTUAL needs proxies with an identity; those without one speak plaintext";
                    let field = "spec.trafficPolicy.tls.mode";
                    set.diagnostics.insert(Diagnostic::warning(NOT_OBEYED, rule.origin.clone(), field, message));
                }
                let peers = class.identity.then(|| peers(service, world, &base.policies.value));
                let inputs = cluster::Inputs {
                    service,
                    service_print: seen.known.print,
                    rule,
                    mesh: world.mesh(),
                    mesh_print: base.prints.mesh,
                    dialled: class.dialled(),
                    place: class.place.as_ref(),
                    by_server_name,
                    selected: service.selects_names().then(|| world.joined(&service.origin)).flatten(),
                    has_secrets: rule.is_some_and(|rule| rule.gives_secrets(class.role == Role::Gateway)),
                    peers: peers.as_ref(),
                    policies: class.identity.then_some((&*base.policies.value, base.policies.print)),
                };
                let group = group(&inputs, round, units);
                for unit in &group.value.clusters {
                    set.by_name.insert(unit.value.name.clone(), unit.value.clone());
                }
                prints.push(group.print);
                if !group.value.wishes.is_empty() {
                    let print = Fingerprint::of(&(seen.known.print, group.print));
                    let is_arranged = group.value.wishes.iter().any(|wish| wish.spread.is_some());
                    set.wanting.push(Wanting { service: service.clone(), group, is_arranged, print });
                }
            }
            let wanting: Vec<Fingerprint> = set.wanting.iter().map(|wanting| wanting.print).collect();
            let print = Fingerprint::of(&(prints, wanting, &set.diagnostics));
            (set, print)
        })
    }

    // Looked for only where something names one: nearly everywhere nothing does.
    fn secrets(
        &mut self,
        world: &World,
        class: &Class,
        listeners: &Piece<ListenerSet>,
        clusters: &Piece<ClusterSet>,
    ) -> Piece<SecretSet> {
        let inputs = Fingerprint::of(&(listeners.print, clusters.print, world.prints().secrets));
        refresh(&mut self.secrets, inputs, |_| {
            let clusters = clusters.value.by_name.values();
            secret::gather(listeners.value.by_name.values(), clusters, class, world)
        })
    }

    fn endpoints(
        &mut self,
        world: &World,
        base: &Base,
        class: &Class,
        clusters: &Piece<ClusterSet>,
        round: u64,
        units: &mut Units,
    ) -> Piece<EndpointSet> {
        // Where the class is, is part of its key.
        let policies = class.identity.then_some(&base.policies);
        let marks = policies.map(|policies| policies.print);
        let inputs = Fingerprint::of(&(clusters.print, world.prints().endpoints, marks));
        refresh(&mut self.endpoints, inputs, |before| {
            // For the same clusters only services whose endpoints changed are looked into.
            let before = before.filter(|before| before.clusters == clusters.print);
            let mut set = EndpointSet {
                by_cluster: before.map(|before| before.by_cluster.clone()).unwrap_or_default(),
                inputs: Vec::with_capacity(clusters.value.wanting.len()),
                prints: Vec::with_capacity(clusters.value.wanting.len()),
                clusters: clusters.print,
            };
            for (index, wanting) in clusters.value.wanting.iter().enumerate() {
                let joined = world.joined(&wanting.service.origin);
                let node = class.node.as_deref().filter(|_| wanting.service.local_only);
                let place = class.place.as_ref().filter(|_| wanting.is_arranged);
                let inputs = Fingerprint::of(&(wanting.print, joined.map(|(_, print)| print), node, place, marks));
                set.inputs.push(inputs);
                if let Some(before) = before.filter(|before| before.inputs.get(index) == Some(&inputs)) {
                    set.prints.push(before.prints[index]);
                    continue;
                }
                let wishes = &wanting.group.value.wishes;
                let Units { filled, endpoints, .. } = units;
                let made = filled.get_with(round, inputs, || {
                    let joined = joined.map(|(joined, _)| &**joined);
                    let policies = policies.map(|policies| &*policies.value);
                    let compute =
                        |wish: &Wish| endpoints::compute(wish, &wanting.service, joined, (node, place), policies);
                    let all: Vec<Unit<Endpoints>> = wishes
                        .iter()
                        .map(|wish| endpoints.get(round, Fingerprint::of(&(inputs, &wish.cluster)), || compute(wish)))
                        .collect();
                    let print = Fingerprint::of(&all.iter().map(|unit| unit.print).collect::<Vec<_>>());
                    (Filled(all), print)
                });
                for unit in &made.value.0 {
                    set.by_cluster.insert(unit.value.cluster.clone(), unit.value.clone());
                }
                set.prints.push(made.print);
            }
            let print = Fingerprint::of(&(set.clusters, &set.prints));
            (set, print)
        })
    }
}

/// Who answers for a service, as far as clients of the mesh must know.
fn peers(service: &Service, world: &World, policies: &Policies) -> Peers {
    let external = matches!(service.source, Source::ServiceEntry { external: true });
    let standing = world.standing(&service.origin).map(|(standing, _)| standing);
    let inline = service.inline.iter();
    let mut accounts: BTreeSet<_> = inline.clone().filter_map(|endpoint| endpoint.account.clone()).collect();
    accounts.extend(standing.iter().flat_map(|standing| standing.accounts.iter().cloned()));
    let all_inline = !service.inline.is_empty() && inline.clone().all(|endpoint| endpoint.mtls);
    Peers {
        accounts,
        auto: world.mesh().auto_mtls && !external && policies.of_namespace(&service.namespace) != Mode::Disable,
        all: standing.map_or(all_inline, |standing| standing.all_mtls && (all_inline || service.inline.is_empty())),
    }
}

fn group(inputs: &cluster::Inputs<'_>, round: u64, units: &mut Units) -> Unit<Group> {
    let Units { groups, clusters, .. } = units;
    groups.get_with(round, inputs.print(), || {
        let (made, wishes) = inputs.compute();
        let made: Vec<Unit<Cluster>> =
            made.into_iter().map(|one| clusters.get(round, Fingerprint::of(&one), || one)).collect();
        let print = Fingerprint::of(&(made.iter().map(|unit| unit.print).collect::<Vec<_>>(), &wishes));
        (Group { clusters: made, wishes }, print)
    })
}
