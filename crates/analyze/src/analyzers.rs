//! The analyzers, by istioctl's names: which codes each finds, and without which kinds it has nothing to say.
// tidy: table

use words::Diagnostic;

use crate::found::Found;
use crate::world::World;
use crate::{destination_rule, gateway, mesh_networks, policy, service, service_entry, sidecar, virtual_service};

/// One way of looking at the objects.
pub struct Analyzer {
    /// Its name, as `-L` prints it and `--analyzer` takes it.
    pub name: &'static str,
    /// What it looks at.
    pub about: &'static str,
    /// The codes it may find.
    pub codes: &'static [&'static str],
    /// Kinds whose absence must mean something, or it does not run: without any Service, each host would be unknown.
    pub needs: &'static [&'static str],
    pub(crate) run: fn(&World<'_>) -> Vec<Diagnostic>,
}

const fn row(
    name: &'static str,
    about: &'static str,
    codes: &'static [&'static str],
    needs: &'static [&'static str],
    run: fn(&World<'_>) -> Vec<Diagnostic>,
) -> Analyzer {
    Analyzer { name, about, codes, needs, run }
}

macro_rules! collect {
    ($check:path) => {
        |world| {
            let mut found = Found::default();
            $check(world, &mut found);
            found.0
        }
    };
}

/// Every analyzer.
pub const ALL: &[Analyzer] = &[
    row(
        "schema.ValidationAnalyzer",
        "each object by itself, by its schema and by the rules of Istio's webhook",
        &["IST0106", "IST0130", "IST0131", "IST0133", "IST0134"],
        &[],
        |world| world.found.to_vec(),
    ),
    row(
        "deprecation.DeprecationAnalyzer",
        "fields that are going away",
        &["IST0002"],
        &[],
        collect!(virtual_service::deprecated),
    ),
    row(
        "destinationrule.CaCertificateAnalyzer",
        "whether TLS to an upstream verifies its certificate",
        &["IST0128", "IST0129"],
        &["DestinationRule"],
        collect!(destination_rule::certificates),
    ),
    row(
        "destinationrule.UnknownDestinationRuleHostAnalyzer",
        "whether a DestinationRule is for a known host",
        &["IST0174"],
        &["DestinationRule", "Service"],
        collect!(destination_rule::hosts),
    ),
    row(
        "destinationrule.PodNotSelectedAnalyzer",
        "whether subsets have pods",
        &["IST0173"],
        &["DestinationRule", "Service"],
        collect!(destination_rule::subsets),
    ),
    row(
        "gateway.IngressGatewayPortAnalyzer",
        "a Gateway's workload and its ports",
        &["IST0101", "IST0162"],
        &["Gateway"],
        collect!(gateway::ports),
    ),
    row(
        "gateway.SecretAnalyzer",
        "the Secrets of a Gateway",
        &["IST0101", "IST0161"],
        &["Gateway", "Secret"],
        collect!(gateway::secrets),
    ),
    row(
        "gateway.CertificateAnalyzer",
        "certificates that two Gateways serve",
        &["IST0138"],
        &["Gateway"],
        collect!(gateway::certificates),
    ),
    row(
        "gateway.ConflictingGatewayAnalyzer",
        "hosts that two Gateways have on one port",
        &["IST0145"],
        &["Gateway"],
        collect!(gateway::conflicts),
    ),
    row(
        "injection.AmbientSidecarAnalyzer",
        "Sidecars where no sidecars are",
        &["IST0167"],
        &["Sidecar"],
        collect!(sidecar::ambient),
    ),
    row(
        "meshnetworks.MeshNetworksAnalyzer",
        "clusters that meshNetworks name",
        &["IST0126"],
        &["ConfigMap"],
        collect!(mesh_networks::registries),
    ),
    row(
        "policy.IneffectiveSelectorAnalyzer",
        "policies for gateways of the Gateway API",
        &["IST0166"],
        &[],
        collect!(policy::ineffective),
    ),
    row(
        "service.PortNameAnalyzer",
        "whether service ports declare their protocol",
        &["IST0118", "IST0150"],
        &["Service"],
        collect!(service::names),
    ),
    row(
        "deployment.ServiceAssociationAnalyzer",
        "services that share a workload",
        &["IST0116", "IST0137"],
        &["Service"],
        collect!(service::shared),
    ),
    row(
        "serviceentry.ConflictingProtocolAnalyzer",
        "ServiceEntries that share a host",
        &["IST0177"],
        &["ServiceEntry"],
        collect!(service_entry::protocols),
    ),
    row(
        "sidecar.SelectorAnalyzer",
        "which workloads Sidecars select",
        &["IST0101", "IST0110", "IST0111"],
        &["Sidecar"],
        collect!(sidecar::selectors),
    ),
    row(
        "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
        "hosts that two VirtualServices have in the mesh",
        &["IST0109"],
        &["VirtualService"],
        collect!(virtual_service::conflicts),
    ),
    row(
        "virtualservice.DestinationHostAnalyzer",
        "hosts and ports of destinations",
        &["IST0101", "IST0112"],
        &["VirtualService", "Service"],
        collect!(virtual_service::destinations),
    ),
    row(
        "virtualservice.DestinationRuleAnalyzer",
        "subsets of destinations",
        &["IST0101"],
        &["VirtualService"],
        collect!(virtual_service::subsets),
    ),
    row(
        "virtualservice.GatewayAnalyzer",
        "gateways of VirtualServices, and their hosts",
        &["IST0101", "IST0132", "IST0165"],
        &["VirtualService"],
        collect!(virtual_service::gateways),
    ),
    row(
        "virtualservice.IngressSplitAnalyzer",
        "splits that requests of a gateway skip",
        &["IST0140"],
        &["VirtualService"],
        collect!(virtual_service::splits),
    ),
    row(
        "virtualservice.JWTClaimRouteAnalyzer",
        "matches on claims at gateways that verify none",
        &["IST0149"],
        &["VirtualService", "Gateway"],
        collect!(virtual_service::claims),
    ),
];
