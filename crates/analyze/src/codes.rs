//! The codes, with level and trigger, as Istio numbers them. `docs/analyze.md` holds this table; a test compares them.
// tidy: table

use words::Severity;
use words::Severity::{Error, Info, Warning};

/// A kind of finding.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// Istio's code.
    pub code: &'static str,
    /// Istio's name of it.
    pub name: &'static str,
    /// How bad it is.
    pub level: Severity,
    /// When it is found.
    pub trigger: &'static str,
}

const fn row(code: &'static str, name: &'static str, level: Severity, trigger: &'static str) -> Code {
    Code { code, name, level, trigger }
}

/// Every code that is found.
pub const ALL: &[Code] = &[
    row("IST0002", "Deprecated", Warning, "a field that is going away: fault.delay.percent, a Sidecar's egressProxy"),
    row(
        "IST0101",
        "ReferencedResourceNotFound",
        Error,
        "a host, port, subset, gateway, Secret or workload that is referred to and not there",
    ),
    row("IST0106", "SchemaValidationError", Error, "an object that is refused by itself"),
    row("IST0109", "ConflictingMeshGatewayVirtualServiceHosts", Error, "two VirtualServices of the mesh for one host"),
    row("IST0110", "ConflictingSidecarWorkloadSelectors", Error, "two Sidecars that select one workload"),
    row("IST0111", "MultipleSidecarsWithoutWorkloadSelectors", Error, "two Sidecars for a whole namespace"),
    row(
        "IST0112",
        "VirtualServiceDestinationPortSelectorRequired",
        Error,
        "a destination without port, of a service with several",
    ),
    row(
        "IST0116",
        "DeploymentAssociatedToMultipleServices",
        Warning,
        "two services give one port of a workload different protocols",
    ),
    row("IST0118", "PortNameIsNotUnderNamingConvention", Info, "a service port that does not declare its protocol"),
    row("IST0126", "UnknownMeshNetworksServiceRegistry", Error, "meshNetworks name a cluster that is not known"),
    row(
        "IST0128",
        "NoServerCertificateVerificationDestinationLevel",
        Warning,
        "TLS to a host whose certificate nothing verifies",
    ),
    row("IST0129", "NoServerCertificateVerificationPortLevel", Warning, "the same for a port"),
    row("IST0130", "VirtualServiceUnreachableRule", Warning, "a rule that no request reaches"),
    row("IST0131", "VirtualServiceIneffectiveMatch", Info, "a match that an earlier rule has taken"),
    row("IST0132", "VirtualServiceHostNotFoundInGateway", Warning, "no host of the gateway takes a host of the rule"),
    row("IST0133", "SchemaWarning", Warning, "an object that is accepted with a warning"),
    row("IST0134", "ServiceEntryAddressesRequired", Warning, "a TCP port of a ServiceEntry without any address"),
    row(
        "IST0137",
        "DeploymentConflictingPorts",
        Warning,
        "two services lead to one port of a workload from different ports",
    ),
    row("IST0138", "GatewayDuplicateCertificate", Warning, "two Gateways of one workload serve one certificate"),
    row(
        "IST0140",
        "IngressRouteRulesNotAffected",
        Warning,
        "requests of a gateway skip the split that the mesh has for their destination",
    ),
    row("IST0145", "ConflictingGateways", Error, "two Gateways of one workload have a host on one port"),
    row(
        "IST0149",
        "JwtClaimBasedRoutingWithoutRequestAuthN",
        Error,
        "a match on claims at a gateway that verifies no tokens",
    ),
    row(
        "IST0150",
        "ExternalNameServiceTypeInvalidPortName",
        Warning,
        "a port of an ExternalName service that matches every address",
    ),
    row("IST0161", "InvalidGatewayCredential", Error, "a Secret of a Gateway that holds no usable certificate"),
    row("IST0162", "GatewayPortNotDefinedOnService", Warning, "a Gateway's port that no service of its workload has"),
    row(
        "IST0165",
        "ReferencedInternalGateway",
        Warning,
        "a reference to a Gateway that was made from a Gateway API one",
    ),
    row("IST0166", "IneffectiveSelector", Warning, "a policy selects the workload of a Gateway API gateway by labels"),
    row("IST0167", "IneffectivePolicy", Warning, "a Sidecar where no sidecars are: in an ambient namespace"),
    row("IST0173", "DestinationRuleSubsetNotSelectPods", Error, "a subset that no pod of its service belongs to"),
    row("IST0174", "UnknownDestinationRuleHost", Warning, "a DestinationRule for no known host"),
    row(
        "IST0177",
        "ConflictingServiceEntryProtocol",
        Warning,
        "two ServiceEntries give a port of one host different protocols",
    ),
];

/// The row of a code.
pub fn of(code: &str) -> Option<&'static Code> {
    ALL.iter().find(|row| row.code == code)
}
