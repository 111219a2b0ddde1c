//! What a pod's sidecar is to be like: settings, ProxyConfigs and annotations, resolved.
//!
//! The weakest first: settings, the annotation `proxy.istio.io/config`, ProxyConfigs of the root namespace, of the
//! namespace, of a selector (Istio: a ProxyConfig beats the annotation), and the annotations `sidecar.istio.io/…` and
//! `traffic.sidecar.istio.io/…`, which nothing beats. A value that cannot be read refuses the pod, as in Istio.

use std::collections::BTreeMap;

use api::proxy_config::ProxyConfig;
use words::Labels;
use words::lists::Interfaces;

use crate::annotations::{self, flag, named, ports, quantity, ranges};
use crate::{Request, Settings};

/// How traffic gets to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interception {
    Redirect,
    None,
}

/// What a sidecar is to be like.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) image: String,
    pub(crate) log_level: String,
    pub(crate) interception: Interception,
    pub(crate) is_native: bool,
    pub(crate) holds_application: bool,
    pub(crate) rewrites_probes: bool,
    pub(crate) redirect_dns: bool,
    pub(crate) concurrency: u32,
    pub(crate) drain_seconds: u64,
    /// The readiness port; 0 for none.
    pub(crate) status_port: u16,
    pub(crate) requests: Labels,
    pub(crate) limits: Labels,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) include_ranges: String,
    pub(crate) exclude_ranges: String,
    pub(crate) include_outbound: String,
    pub(crate) exclude_outbound: String,
    pub(crate) include_inbound: String,
    pub(crate) exclude_inbound: String,
    pub(crate) virtual_interfaces: String,
    pub(crate) exclude_interfaces: String,
}

/// Istio's default of terminationDrainDuration.
const DRAIN_SECONDS: u64 = 5;
/// Where readiness is asked for.
pub(crate) const STATUS_PORT: u16 = 15021;
/// Metrics and health of the application; readiness too.
pub(crate) const APPLICATION_PORT: u16 = 15020;
/// Ports that the proxy listens on in the pod (DP01).
pub(crate) const OWN_PORTS: [(u16, &str); 7] = [
    (15000, "admin pages"),
    (15001, "captured outbound traffic"),
    (15006, "captured inbound traffic"),
    (APPLICATION_PORT, "metrics and health of the application"),
    (STATUS_PORT, "readiness"),
    (15053, "DNS"),
    (15090, "metrics"),
];

impl Config {
    pub(crate) fn of(request: Request<'_>) -> Result<Self, String> {
        let said = annotations::of(request.pod);
        let settings = request.settings;
        let text = said.get(api::proxy_config::ANNOTATION).map(String::as_str).unwrap_or_default();
        let Some(own) = ProxyConfig::parse(text) else {
            return Err(format!("annotation {}: not the YAML of a ProxyConfig", api::proxy_config::ANNOTATION));
        };
        let mut environment = own.proxy_metadata.clone();
        environment.extend(request.configs.iter().flat_map(|config| config.environment_variables.clone()));
        let dns = environment.get("ISTIO_META_DNS_CAPTURE").map(|value| value == "true");
        let (requests, limits) = resources(&said, settings)?;
        let threads = request.configs.iter().rev().find_map(|config| config.concurrency).or(own.concurrency);
        let native = flag(&said, "sidecar.istio.io/nativeSidecar")?;
        let name = "traffic.sidecar.istio.io/";
        let port_list = |key: &str, default: &str, all| port_list(&said, &format!("{name}{key}"), default, all);
        let range_list = |key: &str, default: &str, all| range_list(&said, &format!("{name}{key}"), default, all);
        let word = |key: &str, default: &str| named(&said, key).unwrap_or(default).to_owned();
        Ok(Self {
            image: word("sidecar.istio.io/proxyImage", &settings.proxy_image),
            log_level: level(&said, &settings.proxy_log_level)?,
            interception: interception(&said, &own)?,
            is_native: native.unwrap_or_else(|| settings.is_native()),
            holds_application: own.hold_application_until_proxy_starts.unwrap_or(settings.hold_application),
            rewrites_probes: flag(&said, "sidecar.istio.io/rewriteAppHTTPProbers")?.unwrap_or(settings.rewrite_probes),
            redirect_dns: dns.unwrap_or(settings.redirect_dns),
            concurrency: threads.unwrap_or_else(|| workers(settings, &requests, &limits)),
            drain_seconds: drain_seconds(&own)?,
            status_port: status_port(&said)?,
            requests,
            limits,
            environment,
            include_ranges: range_list("includeOutboundIPRanges", &settings.include_ip_ranges, true)?,
            exclude_ranges: range_list("excludeOutboundIPRanges", &settings.exclude_ip_ranges, false)?,
            include_outbound: port_list("includeOutboundPorts", &settings.include_outbound_ports, true)?,
            exclude_outbound: port_list("excludeOutboundPorts", &settings.exclude_outbound_ports, false)?,
            include_inbound: port_list("includeInboundPorts", &settings.include_inbound_ports, true)?,
            exclude_inbound: port_list("excludeInboundPorts", &settings.exclude_inbound_ports, false)?,
            virtual_interfaces: interfaces(&said, &format!("{name}kubevirtInterfaces"))?,
            exclude_interfaces: interfaces(&said, &format!("{name}excludeInterfaces"))?,
        })
    }
}

impl Config {
    /// Where readiness has a port of its own, which the annotation may move; nobody asks for it when it is 0.
    pub(crate) fn own_status_port(&self) -> u16 {
        match self.status_port {
            0 | APPLICATION_PORT => STATUS_PORT,
            other => other,
        }
    }
}

// What the settings say was checked when they were read.
fn port_list(said: &Labels, name: &str, default: &str, may_be_all: bool) -> Result<String, String> {
    named(said, name).map_or_else(|| Ok(default.to_owned()), |text| of(name, ports(text, may_be_all)))
}

fn range_list(said: &Labels, name: &str, default: &str, may_be_all: bool) -> Result<String, String> {
    named(said, name).map_or_else(|| Ok(default.to_owned()), |text| of(name, ranges(text, may_be_all)))
}

fn interfaces(said: &Labels, name: &str) -> Result<String, String> {
    let read = named(said, name).unwrap_or_default().parse().map(|read: Interfaces| read.to_string());
    of(name, read)
}

fn level(said: &Labels, default: &str) -> Result<String, String> {
    const NAME: &str = "sidecar.istio.io/logLevel";
    of(NAME, annotations::level(named(said, NAME).unwrap_or(default)))
}

fn of<T>(name: &str, read: Result<T, String>) -> Result<T, String> {
    read.map_err(|reason| format!("annotation {name}: {reason}"))
}

fn interception(said: &Labels, own: &ProxyConfig) -> Result<Interception, String> {
    const NAME: &str = "sidecar.istio.io/interceptionMode";
    match named(said, NAME).or(own.interception_mode.as_deref()).unwrap_or("REDIRECT") {
        "REDIRECT" => Ok(Interception::Redirect),
        "TPROXY" => Err(format!("annotation {NAME}: TPROXY is not supported yet; REDIRECT is")),
        "NONE" => Ok(Interception::None),
        other => Err(format!("annotation {NAME}: {other:?} is none of REDIRECT, TPROXY, NONE")),
    }
}

fn drain_seconds(own: &ProxyConfig) -> Result<u64, String> {
    let Some(duration) = &own.termination_drain_duration else { return Ok(DRAIN_SECONDS) };
    match duration.get() {
        Some(duration) => Ok(duration.as_millis().div_ceil(1000) as u64),
        None => Err(format!(
            "annotation {}: terminationDrainDuration {:?} is not a duration, such as 5s",
            api::proxy_config::ANNOTATION,
            duration.0
        )),
    }
}

fn status_port(said: &Labels) -> Result<u16, String> {
    const NAME: &str = "status.sidecar.istio.io/port";
    let Some(text) = named(said, NAME) else { return Ok(STATUS_PORT) };
    let port = text.parse().map_err(|_| format!("annotation {NAME}: {text:?} is no port"))?;
    match OWN_PORTS.iter().find(|(own, _)| *own == port && ![STATUS_PORT, APPLICATION_PORT].contains(own)) {
        Some((_, purpose)) => Err(format!("annotation {NAME}: the sidecar needs {port} for {purpose}")),
        None => Ok(port),
    }
}

// As Istio's template: an annotation for requests replaces all requests, one for limits all limits.
fn resources(said: &Labels, settings: &Settings) -> Result<(Labels, Labels), String> {
    let read = |cpu: &str, memory: &str| -> Result<Labels, String> {
        let all = [("cpu", quantity(said, cpu)?), ("memory", quantity(said, memory)?)];
        Ok(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect())
    };
    let requests = read("sidecar.istio.io/proxyCPU", "sidecar.istio.io/proxyMemory")?;
    let limits = read("sidecar.istio.io/proxyCPULimit", "sidecar.istio.io/proxyMemoryLimit")?;
    if !requests.is_empty() || !limits.is_empty() {
        return Ok((requests, limits));
    }
    let given = |cpu: &String, memory: &String| -> Labels {
        let all = [("cpu", cpu), ("memory", memory)].into_iter().filter(|(_, value)| !value.is_empty());
        all.map(|(name, value)| (name.to_owned(), value.clone())).collect()
    };
    Ok((
        given(&settings.proxy_cpu, &settings.proxy_memory),
        given(&settings.proxy_cpu_limit, &settings.proxy_memory_limit),
    ))
}

// Istio: as many as the CPU limit, else the request, has cores.
fn workers(settings: &Settings, requests: &Labels, limits: &Labels) -> u32 {
    if settings.proxy_concurrency > 0 {
        return settings.proxy_concurrency;
    }
    let cores = limits.get("cpu").or(requests.get("cpu")).and_then(|cpu| annotations::millis(cpu));
    cores.map_or(2, |millis| u32::try_from(millis.div_ceil(1000)).unwrap_or(u32::MAX).max(1))
}
