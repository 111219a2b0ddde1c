//! TLS as a transport socket (Envoy `transport_sockets.tls.v3`). Certificates and roots are always named (SDS).

use config::{ClientCertificates, ClientTls, Name, ServerTls, Sni, TlsParameters, TlsVersion, Validation};
use envoy_types::pb::envoy::config::cluster::v3::cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context as common;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use envoy_types::pb::google::protobuf as google;

use crate::common::{At, Reason, ads, any, boolean, is_true, read_any};
use crate::metadata;

const TLS: &str = "envoy.transport_sockets.tls";
const PLAINTEXT: &str = "envoy.transport_sockets.raw_buffer";
/// Istio's names for the two sockets of auto mTLS.
const MATCHED: &str = "tlsMode-istio";
const REST: &str = "tlsMode-disabled";
/// What the id of every workload begins with, before its trust domain.
const SPIFFE: &str = "spiffe://";
/// How long Envoy holds a listener or cluster back for a secret that does not come. In the incremental protocol it hears
/// at once that there is none; in the other nobody can say so, and other hosts of the port must not wait long.
const SECRET_SECONDS_MAX: i64 = 5;

/// A chain's transport socket.
pub(crate) fn encode_server(tls: &ServerTls) -> core::TransportSocket {
    let ServerTls { certificates, clients, parameters, alpn } = tls;
    let validation = clients.as_ref().map(|clients| &clients.validation);
    socket(&pb::DownstreamTlsContext {
        common_tls_context: Some(context(certificates.iter(), validation, parameters, alpn)),
        require_client_certificate: boolean(clients.as_ref().is_some_and(|clients| clients.required)),
        ..Default::default()
    })
}

/// A cluster's transport socket. What depends on the request's host is in the cluster's HTTP options.
pub(crate) fn encode_client(tls: &ClientTls) -> core::TransportSocket {
    let ClientTls { certificate, validation, sni, verify_host: _, parameters, alpn, announces: _, marked_only: _ } =
        tls;
    socket(&pb::UpstreamTlsContext {
        common_tls_context: Some(context(certificate.iter(), validation.as_ref(), parameters, alpn)),
        sni: match sni {
            Sni::Name(name) => name.clone(),
            Sni::Absent | Sni::FromHost => String::new(),
        },
        ..Default::default()
    })
}

/// Sockets by what endpoints say of themselves: TLS for those of the mesh, plaintext for the others.
pub(crate) fn encode_matches(tls: &ClientTls) -> Vec<cluster::TransportSocketMatch> {
    let plaintext = core::TransportSocket {
        name: PLAINTEXT.into(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(&RawBuffer {}))),
    };
    let one = |name: &str, matched, socket| cluster::TransportSocketMatch {
        name: name.into(),
        r#match: Some(matched),
        transport_socket: Some(socket),
    };
    vec![one(MATCHED, metadata::tls_mode_istio(), encode_client(tls)), one(REST, google::Struct::default(), plaintext)]
}

/// The socket for endpoints of the mesh; `None` when there is anything but that and plaintext for the others.
pub(crate) fn read_matches(matches: &[cluster::TransportSocketMatch]) -> Option<&core::TransportSocket> {
    let [istio, rest] = matches else { return None };
    let is_rest = rest.r#match.as_ref().is_none_or(|matched| matched.fields.is_empty());
    let is_plaintext = matches!(read_socket::<pb::UpstreamTlsContext>(rest.transport_socket.as_ref()?), Ok(None));
    let is_istio = metadata::is_tls_mode_istio(istio.r#match.as_ref()?);
    istio.transport_socket.as_ref().filter(|_| is_istio && is_rest && is_plaintext)
}

fn socket<M: prost::Message + prost::Name>(context: &M) -> core::TransportSocket {
    let config_type = Some(core::transport_socket::ConfigType::TypedConfig(any(context)));
    core::TransportSocket { name: TLS.into(), config_type }
}

fn context<'a>(
    certificates: impl Iterator<Item = &'a Name>,
    validation: Option<&Validation>,
    parameters: &TlsParameters,
    alpn: &[String],
) -> pb::CommonTlsContext {
    let TlsParameters { min, max, cipher_suites } = parameters;
    let parameters = pb::TlsParameters {
        tls_minimum_protocol_version: version(*min) as i32,
        tls_maximum_protocol_version: version(*max) as i32,
        cipher_suites: cipher_suites.clone(),
        ..Default::default()
    };
    pb::CommonTlsContext {
        tls_params: Some(parameters),
        tls_certificate_sds_secret_configs: certificates.map(named).collect(),
        alpn_protocols: alpn.to_vec(),
        validation_context_type: validation.map(encode_validation),
        ..Default::default()
    }
}

fn named(name: &Name) -> pb::SdsSecretConfig {
    // Without a source, Envoy takes it from its bootstrap.
    if config::is_own_secret(name) {
        return pb::SdsSecretConfig { name: name.to_string(), sds_config: None };
    }
    let mut from = ads();
    from.initial_fetch_timeout = Some(google::Duration { seconds: SECRET_SECONDS_MAX, nanos: 0 });
    pb::SdsSecretConfig { name: name.to_string(), sds_config: Some(from) }
}

fn encode_validation(validation: &Validation) -> common::ValidationContextType {
    let Validation { roots, names, trust_domains, spki, hashes, accept_untrusted } = validation;
    let ids = trust_domains.iter().map(|domain| encode_domain(domain));
    let rest = pb::CertificateValidationContext {
        match_typed_subject_alt_names: names.iter().map(|name| encode_name(name)).chain(ids).collect(),
        verify_certificate_spki: spki.clone(),
        verify_certificate_hash: hashes.clone(),
        trust_chain_verification: match accept_untrusted {
            true => TrustChainVerification::AcceptUntrusted as i32,
            false => TrustChainVerification::VerifyTrustChain as i32,
        },
        ..Default::default()
    };
    match roots {
        None => common::ValidationContextType::ValidationContext(rest),
        Some(roots) => {
            common::ValidationContextType::CombinedValidationContext(common::CombinedCertificateValidationContext {
                default_validation_context: Some(rest),
                validation_context_sds_secret_config: Some(named(roots)),
                ..Default::default()
            })
        }
    }
}

// A name says by its form which kind of alternative name it is.
fn encode_name(name: &str) -> pb::SubjectAltNameMatcher {
    let kind = match name {
        _ if name.contains("://") => SanType::Uri,
        _ if words::host::ip(name).is_some() => SanType::IpAddress,
        _ => SanType::Dns,
    };
    name_matcher(kind, MatchPattern::Exact(name.to_owned()))
}

fn encode_domain(domain: &str) -> pb::SubjectAltNameMatcher {
    name_matcher(SanType::Uri, MatchPattern::Prefix(format!("{SPIFFE}{domain}/")))
}

fn name_matcher(kind: SanType, pattern: MatchPattern) -> pb::SubjectAltNameMatcher {
    pb::SubjectAltNameMatcher {
        san_type: kind as i32,
        matcher: Some(StringMatcher { match_pattern: Some(pattern), ..Default::default() }),
        ..Default::default()
    }
}

// The trust domain that a prefix of ids stands for.
fn read_domain(prefix: &str) -> Option<String> {
    let domain = prefix.strip_prefix(SPIFFE)?.strip_suffix('/')?;
    (!domain.is_empty() && !domain.contains('/')).then(|| domain.to_owned())
}

fn version(version: TlsVersion) -> TlsProtocol {
    match version {
        TlsVersion::V1_0 => TlsProtocol::TlSv10,
        TlsVersion::V1_1 => TlsProtocol::TlSv11,
        TlsVersion::V1_2 => TlsProtocol::TlSv12,
        TlsVersion::V1_3 => TlsProtocol::TlSv13,
    }
}

/// Reads a chain's transport socket; `None`: plaintext.
pub(crate) fn decode_server(socket: &core::TransportSocket) -> Result<Option<ServerTls>, Reason> {
    let Some(context) = read_socket::<pb::DownstreamTlsContext>(socket)? else { return Ok(None) };
    let common = context.common_tls_context.clone().unwrap_or_default();
    let required = is_true(&context.require_client_certificate, false);
    let clients = match decode_validation(&common)? {
        Some(validation) => Some(ClientCertificates { required, validation }),
        None if required => Some(ClientCertificates { required, validation: Validation::default() }),
        None => None,
    };
    Ok(Some(ServerTls {
        certificates: decode_certificates(&common)?,
        clients,
        parameters: decode_parameters(&common)?,
        alpn: common.alpn_protocols,
    }))
}

/// Reads a cluster's transport socket; `None`: plaintext. `auto` says whether name and check follow the request's host.
pub(crate) fn decode_client(
    socket: &core::TransportSocket,
    auto: Option<&core::UpstreamHttpProtocolOptions>,
) -> Result<Option<ClientTls>, Reason> {
    let Some(context) = read_socket::<pb::UpstreamTlsContext>(socket)? else { return Ok(None) };
    let common = context.common_tls_context.clone().unwrap_or_default();
    let mut certificates = decode_certificates(&common)?.into_iter();
    Ok(Some(ClientTls {
        certificate: certificates.next(),
        validation: decode_validation(&common)?,
        sni: match (auto.is_some_and(|auto| auto.auto_sni), context.sni.as_str()) {
            (true, _) => Sni::FromHost,
            (false, "") => Sni::Absent,
            (false, name) => Sni::Name(name.to_owned()),
        },
        verify_host: auto.is_some_and(|auto| auto.auto_san_validation),
        parameters: decode_parameters(&common)?,
        alpn: common.alpn_protocols,
        announces: false,
        marked_only: false,
    }))
}

fn read_socket<M: prost::Message + prost::Name + Default>(socket: &core::TransportSocket) -> Result<Option<M>, Reason> {
    let Some(core::transport_socket::ConfigType::TypedConfig(config)) = &socket.config_type else {
        return Err(format!("{:?} without configuration", socket.name));
    };
    match read_any::<M>(config) {
        Some(context) => context.map(Some),
        None if read_any::<RawBuffer>(config).is_some() => Ok(None),
        None => Err(format!("{} is not known here", config.type_url)),
    }
}

fn decode_certificates(context: &pb::CommonTlsContext) -> Result<Vec<Name>, Reason> {
    if !context.tls_certificates.is_empty() || context.tls_certificate_provider_instance.is_some() {
        return Err("tls_certificates: only certificates by SDS are read".into());
    }
    Ok(context.tls_certificate_sds_secret_configs.iter().map(|config| config.name.as_str().into()).collect())
}

fn decode_validation(context: &pb::CommonTlsContext) -> Result<Option<Validation>, Reason> {
    use common::ValidationContextType as Type;
    let (rest, roots) = match &context.validation_context_type {
        None => return Ok(None),
        Some(Type::ValidationContext(rest)) => (rest.clone(), None),
        Some(Type::ValidationContextSdsSecretConfig(config)) => (Default::default(), Some(config.name.as_str())),
        Some(Type::CombinedValidationContext(both)) => {
            let roots = both.validation_context_sds_secret_config.as_ref().map(|config| config.name.as_str());
            (both.default_validation_context.clone().unwrap_or_default(), roots)
        }
        Some(_) => return Err("validation_context: only roots by SDS are read".into()),
    };
    if rest.trusted_ca.is_some() || rest.custom_validator_config.is_some() || rest.system_root_certs.is_some() {
        return Err("validation_context: only roots by SDS are read".into());
    }
    #[allow(deprecated, reason = "istiod still sends it")]
    let untyped = rest.match_subject_alt_names.iter();
    let typed = rest.match_typed_subject_alt_names.iter().filter_map(|one| one.matcher.as_ref());
    let (mut names, mut trust_domains) = (Vec::new(), Vec::new());
    for matcher in untyped.chain(typed) {
        let domain = |prefix: &String| read_domain(prefix);
        match &matcher.match_pattern {
            Some(MatchPattern::Exact(name)) if !matcher.ignore_case => names.push(name.clone()),
            Some(MatchPattern::Prefix(prefix)) if !matcher.ignore_case && domain(prefix).is_some() => {
                trust_domains.extend(domain(prefix));
            }
            // A condition that is not understood must not be forgotten.
            _ => return Err("match_subject_alt_names: only exact names and trust domains are read".to_owned()),
        }
    }
    Ok(Some(Validation {
        roots: roots.map(Name::from),
        names,
        trust_domains,
        spki: rest.verify_certificate_spki,
        hashes: rest.verify_certificate_hash,
        accept_untrusted: rest.trust_chain_verification == TrustChainVerification::AcceptUntrusted as i32,
    }))
}

fn decode_parameters(context: &pb::CommonTlsContext) -> Result<TlsParameters, Reason> {
    let Some(written) = &context.tls_params else { return Ok(TlsParameters::default()) };
    let read = |value: i32, default: TlsVersion| match TlsProtocol::try_from(value) {
        Ok(TlsProtocol::TlsAuto) => Ok(default),
        Ok(TlsProtocol::TlSv10) => Ok(TlsVersion::V1_0),
        Ok(TlsProtocol::TlSv11) => Ok(TlsVersion::V1_1),
        Ok(TlsProtocol::TlSv12) => Ok(TlsVersion::V1_2),
        Ok(TlsProtocol::TlSv13) => Ok(TlsVersion::V1_3),
        Err(_) => Err(format!("version {value} is not known")),
    };
    Ok(TlsParameters {
        min: read(written.tls_minimum_protocol_version, TlsVersion::V1_2).at("tls_params")?,
        max: read(written.tls_maximum_protocol_version, TlsVersion::V1_3).at("tls_params")?,
        cipher_suites: written.cipher_suites.clone(),
    })
}
