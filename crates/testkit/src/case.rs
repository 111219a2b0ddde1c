//! The case file: manifests as a user applies them, the calls, and what must come back.
//!
//! In: YAML text. Out: a [`Case`], or an error that names the file. Unknown keys are errors, so that a misspelt
//! expectation cannot pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::placement::Placement;

/// One rule with its proof.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    /// `<feature>/<rule>`, from the path.
    #[serde(skip)]
    pub name: String,
    /// What the case proves, with the source of the rule (`VS13`, `TR40`).
    pub rule: String,
    /// Mesh settings that differ from the defaults.
    #[serde(default)]
    pub mesh: Mesh,
    /// Workloads that answer; Service, EndpointSlice and Pods are made of them.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Servers that no object knows, at addresses that a captured client dials.
    #[serde(default)]
    pub strangers: Vec<Stranger>,
    /// The objects under test, exactly as a user writes them.
    #[serde(default)]
    pub manifests: String,
    /// Files of `tests/seeds` by the beginning of their names, applied one after the other after the manifests.
    #[serde(default)]
    pub seeds: Vec<String>,
    /// Who calls.
    #[serde(default)]
    pub client: Client,
    /// What names resolve to, for proxies that look them up; everything else does not exist. Values as in manifests.
    #[serde(default)]
    pub names: BTreeMap<String, Vec<String>>,
    /// What the application's DNS questions are answered with; only our proxy answers them, and does so when there are
    /// any here.
    #[serde(default)]
    pub lookups: Vec<Lookup>,
    /// What the proxy's `config_dump` must and must not hold.
    #[serde(default)]
    pub config: Holds,
    /// What is asked and what must be answered.
    #[serde(default)]
    pub calls: Vec<Call>,
    /// Diagnostics that must be reported: `CODE Kind namespace/name`, as a set.
    #[serde(default)]
    pub diagnostics: Vec<String>,
    /// Why stock Envoy, fed by our control plane, answers otherwise; the calls' `envoy` blocks say how.
    #[serde(default)]
    pub envoy_differs: Option<String>,
}

/// Mesh-wide settings of a case.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mesh {
    /// `ALLOW_ANY` (default) or `REGISTRY_ONLY`.
    #[serde(default)]
    pub outbound_traffic_policy: Option<String>,
    /// `localityLbSetting.enabled`; true when absent.
    #[serde(default)]
    pub locality_lb: Option<bool>,
    /// More arguments of `sluiced`.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// A Kubernetes Service and the pods behind it, in short.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Service {
    /// The Service's name and the pods' `app` label.
    pub name: String,
    /// Its namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Its ports; one HTTP port 9080 when absent.
    #[serde(default = "default_ports")]
    pub ports: Vec<Port>,
    /// One pod each, label `version`.
    #[serde(default = "default_versions")]
    pub versions: Vec<String>,
    /// `clusterIP: None`.
    #[serde(default)]
    pub headless: bool,
    /// Annotations of the Service.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Where a version's pod runs, and its labels besides `app` and `version`.
    #[serde(default)]
    pub pods: BTreeMap<String, PodPlace>,
    /// More of the Service's spec, as it stands there.
    #[serde(default)]
    pub spec: BTreeMap<String, serde_json::Value>,
    /// How a version's pod behaves, where it does not simply answer 200.
    #[serde(default)]
    pub behaviour: BTreeMap<String, Behaviour>,
}

/// Where a pod runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodPlace {
    /// `region/zone/subzone` of its node, which has labels that say so.
    #[serde(default)]
    pub locality: Option<String>,
    /// The node's name; one per locality when absent.
    #[serde(default)]
    pub node: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The pod has a proxy of the mesh with this identity, as `pki` has it, `spiffe://cluster.local/ns/default/sa/reviews`:
    /// on all of its ports it takes mutual TLS of clients that its own authority has certified, and plaintext too. It says
    /// so with the label `security.istio.io/tlsMode`, unless `labels` say otherwise. What it saw of a client is among the
    /// headers: `:client`, `:offered`, `:alpn`, `:sni`.
    #[serde(default)]
    pub identity: Option<String>,
    /// Its service account; the service's name when absent.
    #[serde(default)]
    pub account: Option<String>,
}

/// A server outside of everything that is known.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Stranger {
    /// What it says it is.
    pub name: String,
    /// Where it listens, in 10/8 or 240.240/16.
    pub address: std::net::SocketAddr,
    /// How it behaves.
    #[serde(default)]
    pub behaviour: Behaviour,
}

/// A port of a Service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Port {
    /// The port's name, which also declares its protocol.
    #[serde(default = "default_port_name")]
    pub name: String,
    /// The service port.
    pub number: u16,
    /// The pods' port; the service port when absent.
    #[serde(default)]
    pub target_port: Option<u16>,
    /// `appProtocol`.
    #[serde(default)]
    pub app_protocol: Option<String>,
    /// The pods speak TLS on it.
    #[serde(default)]
    pub tls: Option<PortTls>,
}

/// TLS of pods.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PortTls {
    /// Their identity, as `pki` has it.
    pub cert: String,
    /// Clients must have a certificate of this authority.
    #[serde(default)]
    pub client_ca: Option<String>,
    /// Plaintext is taken too, as by a proxy of the mesh.
    #[serde(skip)]
    pub permissive: bool,
}

/// TLS of a call to an `https` URL.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CallTls {
    /// The client's identity, as `pki` has it.
    #[serde(default)]
    pub cert: Option<String>,
    /// The only version offered, `1.2` or `1.3`.
    #[serde(default)]
    pub version: Option<String>,
    /// The only cipher offered, in rustls's name.
    #[serde(default)]
    pub cipher: Option<String>,
}

/// How a backend behaves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Behaviour {
    /// The status it answers with, 200 when absent.
    #[serde(default)]
    pub status: Option<u16>,
    /// It answers so only this often, then 200.
    #[serde(default)]
    pub times: Option<u32>,
    /// It waits this long before the answer, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// Nothing listens there.
    #[serde(default)]
    pub refuses: bool,
    /// Attempts to connect are never answered.
    #[serde(default)]
    pub unreachable: bool,
    /// It takes the request and closes the connection without an answer.
    #[serde(default)]
    pub resets: bool,
    /// The pod is not ready (EndpointSlice condition).
    #[serde(default)]
    pub not_ready: bool,
    /// It sends the head and half of the answer, and the rest this long after, in milliseconds.
    #[serde(default)]
    pub stall_ms: u64,
    /// It speaks HTTP/2 and refuses streams (REFUSED_STREAM), `times` of them.
    #[serde(default)]
    pub refuses_streams: bool,
    /// It sends the request's body back as it comes, instead of saying what it saw.
    #[serde(default)]
    pub echoes: bool,
    /// Extra response headers; with `times`, only so often.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// It answers with this text, in which `${jwks …}` is filled in, instead of saying what it saw.
    #[serde(default)]
    pub says: Option<String>,
    /// It speaks first: this line, as soon as it is connected to.
    #[serde(default)]
    pub greets: Option<String>,
    /// What it says to whatever it is asked, instead of what the protocol wants.
    #[serde(default)]
    pub babbles: Option<String>,
    /// Response trailers (HTTP/2).
    #[serde(default)]
    pub trailers: BTreeMap<String, String>,
}

/// A DNS question, and its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lookup {
    /// The name.
    pub name: String,
    /// `A` (default) or `AAAA`.
    #[serde(default = "default_record")]
    pub record: String,
    /// Over TCP instead of UDP.
    #[serde(default)]
    pub tcp: bool,
    /// `NOERROR` (default), `NXDOMAIN`, `SERVFAIL`.
    #[serde(default = "default_code")]
    pub code: String,
    /// The addresses, as a set; values as in manifests. `240.240.` and `2001:2::` stand for any address that begins so.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The name that it is another name of.
    #[serde(default)]
    pub alias_of: Option<String>,
    /// How long the answer may be kept, in seconds.
    #[serde(default)]
    pub ttl: Option<u32>,
}

/// Texts that a configuration has or has not.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Holds {
    /// It has all of these.
    #[serde(default)]
    pub has: Vec<String>,
    /// It has none of these.
    #[serde(default)]
    pub lacks: Vec<String>,
}

impl Holds {
    /// True when it says anything.
    pub fn says_something(&self) -> bool {
        !self.has.is_empty() || !self.lacks.is_empty()
    }
}

/// Who calls: a pod's sidecar, or a gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Client {
    /// The calling pod's namespace (the gateway's, when one is given).
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Its labels.
    #[serde(default = "default_client_labels")]
    pub labels: BTreeMap<String, String>,
    /// Where it runs; its labels are above.
    #[serde(default)]
    pub place: PodPlace,
    /// True: the calls go to a gateway with these labels instead of through a sidecar.
    #[serde(default)]
    pub gateway: bool,
    /// The pod that is the sidecar's application, `reviews-v1`; for inbound traffic.
    #[serde(default)]
    pub app: Option<String>,
    /// True: the client's connections are captured, as Istio's iptables do it. It dials services at their cluster IPs
    /// and needs no proxy settings. Such a case is skipped where no network namespace can be made.
    #[serde(default)]
    pub captured: bool,
    /// Annotations of the calling pod.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The proxy has an identity of its own, as `pki` has it, and the root of the same authority.
    #[serde(default)]
    pub identity: Option<String>,
}

impl Client {
    fn nobody() -> Self {
        Self {
            namespace: String::new(),
            labels: BTreeMap::new(),
            place: PodPlace::default(),
            gateway: false,
            captured: false,
            annotations: BTreeMap::new(),
            app: None,
            identity: None,
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self { namespace: default_namespace(), labels: default_client_labels(), ..Self::nobody() }
    }
}

/// A request, sent `times` times, and what must come back. `{n}` in the request, a header or `from` is the number of the
/// call, from 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Call {
    /// `GET http://reviews:9080/path?x=y`; the method may be left out. `TCP host:port` sends the body, or `hello`, as a
    /// line and reads one; `TLS host:port` sends a TLS hello, which the pod answers in plaintext.
    pub request: String,
    /// The server name that a TLS hello asks for; the host when absent, none when empty.
    #[serde(default)]
    pub sni: Option<String>,
    /// The protocols that a TLS hello offers.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// TCP: says nothing before the server has greeted.
    #[serde(default)]
    pub listens: bool,
    /// TCP and TLS: keeps the connection open until the case is over.
    #[serde(default)]
    pub holds: bool,
    /// Begins the connection with a PROXY protocol header: `v1 203.0.113.7:4711`, the version and the client it names.
    #[serde(default)]
    pub proxy_protocol: Option<String>,
    /// This port of the proxy's own address (`PROXY_IP`) is called instead of where it takes outbound requests.
    #[serde(default)]
    pub port: Option<u16>,
    /// TLS, for `https` and `TCP`.
    #[serde(default)]
    pub tls: Option<CallTls>,
    /// A token; where `${jwt}` stands in the request or a header, else in `authorization: Bearer …`.
    #[serde(default)]
    pub jwt: Option<crate::jwt::Jwt>,
    /// Another one, where `${jwt2}` stands.
    #[serde(default)]
    pub jwt2: Option<crate::jwt::Jwt>,
    /// The bytes that are sent instead, each line ended by CR LF; `request` says where to. An empty line ends the head, and
    /// `connection: close` should be in it.
    #[serde(default)]
    pub raw: Vec<String>,
    /// Request headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Request body.
    #[serde(default)]
    pub body: Option<String>,
    /// Over HTTP/2 with prior knowledge.
    #[serde(default)]
    pub http2: bool,
    /// HTTP/2: a `host` header beside the authority.
    #[serde(default)]
    pub other_host: Option<String>,
    /// Messages over HTTP/2, each sent when the echo of the one before has come; needs a pod that echoes.
    #[serde(default)]
    pub stream: Vec<String>,
    /// Open a WebSocket, say this and hear it back.
    #[serde(default)]
    pub websocket: Option<String>,
    /// How long the client waits before each message but the first of a stream, or before it speaks over a WebSocket, in
    /// milliseconds.
    #[serde(default)]
    pub pause_ms: u64,
    /// How often; every answer must be as expected.
    #[serde(default = "one")]
    pub times: u32,
    /// Client connections that make the calls at the same time, `times` of them in all. 0, when absent: one call after
    /// the other, each on a connection of its own. Flags, attempts and what else belongs to one call are not read then.
    #[serde(default)]
    pub connections: u32,
    /// The call is begun and left alone, so that those that follow find it under way: it has reached a pod, or the lines
    /// of `admin` are there, before the next one is made. What came back is compared when all other calls are over.
    #[serde(default)]
    pub background: bool,
    /// The call is made again and again, all `times` of it, until what comes back is as expected, for some seconds.
    #[serde(default)]
    pub eventually: bool,
    /// Lines of the proxy's admin pages after the calls, as they must be sooner or later.
    #[serde(default)]
    pub admin: Vec<Admin>,
    /// The client's address, one of 127/8 other than 127.0.0.1.
    #[serde(default)]
    pub from: Option<String>,
    /// The client keeps the cookies that it is given, from call to call of the case.
    #[serde(default)]
    pub cookies: bool,
    /// What must come back.
    pub expect: Expect,
    /// What stock Envoy answers instead, where [`Case::envoy_differs`] says why.
    #[serde(default)]
    pub envoy: Option<Expect>,
}

/// A line of an admin page that both proxies have, such as `/stats` and `/clusters`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Admin {
    /// The page, `/stats?filter=upstream_cx`.
    pub path: String,
    /// A whole line that must be there. `POD_IP_<n>` is filled in as in manifests.
    #[serde(default)]
    pub line: Option<String>,
    /// A text that must be nowhere on the page.
    #[serde(default)]
    pub without: Option<String>,
}

/// What must come back; what is absent is not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expect {
    /// The status code.
    #[serde(default)]
    pub status: Option<u16>,
    /// Status codes and how often each came over all `times`, `10` or `1..19`; any other must not come.
    #[serde(default)]
    pub statuses: BTreeMap<u16, Times>,
    /// The pod that answered, `reviews-v2`.
    #[serde(default)]
    pub to: Option<String>,
    /// Share of each pod in percent over all `times`; a pod that is not named must not answer. `times` must be at
    /// least 50; the tolerance is five standard deviations.
    #[serde(default)]
    pub split: BTreeMap<String, f64>,
    /// One pod, whichever, answered all `times`.
    #[serde(default)]
    pub same_pod: bool,
    /// The pod that keys lead to, by Envoy's algorithm (`placement.rs` works it out by itself).
    #[serde(default)]
    pub placement: Option<Placement>,
    /// The pods that `placement` comes to, one per call.
    #[serde(skip)]
    pub each: Vec<String>,
    /// Every named pod answered at least once, no other did.
    #[serde(default)]
    pub spread: Vec<String>,
    /// Response flags in the access log, `-` for none.
    #[serde(default)]
    pub flags: Option<String>,
    /// The route's name in the access log.
    #[serde(default)]
    pub route: Option<String>,
    /// The origin object in the access log, `VirtualService default/reviews`; only our proxy writes it.
    #[serde(default)]
    pub origin: Option<String>,
    /// The whole response body.
    #[serde(default)]
    pub body: Option<String>,
    /// Response headers, several values as a comma list; a value of `null` means absent.
    #[serde(default)]
    pub headers: BTreeMap<String, Option<String>>,
    /// Response headers whose whole value a regex describes.
    #[serde(default)]
    pub header_forms: BTreeMap<String, String>,
    /// Request headers as the pod saw them; a value of `null` means absent.
    #[serde(default)]
    pub seen: BTreeMap<String, Option<String>>,
    /// What request headers contain as the pod saw them.
    #[serde(default)]
    pub seen_parts: BTreeMap<String, String>,
    /// Request headers whose whole value a regex describes, as the pod saw them.
    #[serde(default)]
    pub seen_forms: BTreeMap<String, String>,
    /// What TLS agreed on: `certificate` (an identity of `pki`), `alpn`, `version`, `cipher`.
    #[serde(default)]
    pub tls: BTreeMap<String, String>,
    /// Path and query as the pod saw them.
    #[serde(default)]
    pub seen_path: Option<String>,
    /// How many times pods were asked for one answer, those of `mirrored` not counted.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// The connection was refused, or closed before an answer.
    #[serde(default)]
    pub closed: Option<bool>,
    /// TCP and TLS: after the answer nobody says anything, and the connection is closed within so many milliseconds.
    #[serde(default)]
    pub ends_within_ms: Option<u64>,
    /// The line with which a server spoke first.
    #[serde(default)]
    pub greeting: Option<String>,
    /// Response trailers; a value of `null` means absent.
    #[serde(default)]
    pub trailers: BTreeMap<String, Option<String>>,
    /// The answer broke off after its head.
    #[serde(default)]
    pub broken: bool,
    /// The answer took at least this long, in milliseconds.
    #[serde(default)]
    pub at_least_ms: Option<u64>,
    /// It took at most this long.
    #[serde(default)]
    pub at_most_ms: Option<u64>,
    /// Pods that got copies of the requests, sooner or later.
    #[serde(default)]
    pub mirrored: BTreeMap<String, Mirrored>,
}

/// The copies that a pod got over all `times` of a call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mirrored {
    /// How many, `1` or `0..3`; the call's `times` when neither this nor `share` is given.
    #[serde(default)]
    pub times: Option<Times>,
    /// Of how many percent of the requests; the tolerance is five standard deviations.
    #[serde(default)]
    pub share: Option<f64>,
    /// Headers of the last copy as the pod saw them; a value of `null` means absent.
    #[serde(default)]
    pub seen: BTreeMap<String, Option<String>>,
    /// The body of the last copy.
    #[serde(default)]
    pub body: Option<String>,
}

impl Mirrored {
    /// The bounds on the number of copies of `calls` requests.
    pub fn bounds(&self, calls: u32) -> Times {
        match (self.times, self.share) {
            (Some(times), _) => times,
            (None, None) => Times { least: calls, most: calls },
            (None, Some(percent)) => {
                let (total, share) = (f64::from(calls), percent / 100.0);
                let tolerance = 5.0 * (total * share * (1.0 - share)).sqrt();
                let end = |end: f64| end.clamp(0.0, total) as u32;
                Times { least: end((total * share - tolerance).ceil()), most: end(total * share + tolerance) }
            }
        }
    }
}

/// How often: a number, or a range with both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Times {
    /// At least.
    pub least: u32,
    /// At most.
    pub most: u32,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u32),
    Range(String),
}

impl TryFrom<Written> for Times {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => Ok(Self { least: number, most: number }),
            Written::Range(text) => {
                let ends = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                let (least, most) =
                    ends.ok_or_else(|| format!("{text:?} is neither a number nor a range like 1..19"))?;
                Ok(Self { least, most })
            }
        }
    }
}

fn default_namespace() -> String {
    "default".into()
}

fn default_ports() -> Vec<Port> {
    vec![Port { name: default_port_name(), number: 9080, target_port: None, app_protocol: None, tls: None }]
}

fn default_port_name() -> String {
    "http".into()
}

fn default_versions() -> Vec<String> {
    vec!["v1".into()]
}

fn default_client_labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".into(), "client".into())])
}

fn default_record() -> String {
    "A".into()
}

fn default_code() -> String {
    "NOERROR".into()
}

fn one() -> u32 {
    1
}

impl Case {
    /// Reads one case file.
    pub fn read(root: &Path, path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mut case: Case = serde_saphyr::from_str(&text).with_context(|| format!("in case {}", path.display()))?;
        let relative = path.strip_prefix(root).unwrap_or(path).with_extension("");
        case.name = relative.to_string_lossy().into_owned();
        for seed in &case.seeds {
            let text = seed_text(seed).with_context(|| format!("in case {}", case.name))?;
            case.manifests.push_str(&format!("\n---\n{text}"));
        }
        case.check().with_context(|| format!("in case {}", case.name))?;
        Ok(case)
    }

    // A case that can prove nothing is refused.
    fn check(&self) -> Result<()> {
        let asks = !self.calls.is_empty() || !self.lookups.is_empty();
        if !asks && self.diagnostics.is_empty() && !self.config.says_something() {
            bail!("no calls, lookups, diagnostics or configuration");
        }
        for call in &self.calls {
            if !call.expect.split.is_empty() && call.times < 50 {
                bail!("a split over {} calls says nothing; ask for at least 50", call.times);
            }
            if call.envoy.is_some() && self.envoy_differs.is_none() {
                bail!("a call has an envoy block, but envoyDiffers does not say why");
            }
        }
        Ok(())
    }
}

fn seed_text(prefix: &str) -> Result<String> {
    let folder = crate::process::workspace().join("tests/seeds");
    let mut paths = Vec::new();
    collect(&folder, &mut paths)?;
    let fits = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let path = paths.into_iter().find(fits).with_context(|| format!("no seed {prefix}"))?;
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Every case below `root`, by name.
pub fn all(root: &Path) -> Result<Vec<Case>> {
    let mut paths = Vec::new();
    collect(root, &mut paths)?;
    paths.sort();
    paths.iter().map(|path| Case::read(root, path)).collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            into.push(path);
        }
    }
    Ok(())
}

/// Where the repository's case files are.
pub fn root() -> PathBuf {
    crate::process::workspace().join("tests/cases")
}
