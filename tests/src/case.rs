//! One case through real processes: its world in a folder, `sluiced` on it, a proxy, and the calls.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use testkit::case::{Call, Case, Expect};
use testkit::expect::{Outcome, differences};
use testkit::process::free_address;
use testkit::serve::Servers;
use testkit::world::{World, lay_out, to_yaml};

use crate::mesh::{ControlPlane, Proxied, write};

/// A case laid out and its control plane running.
pub struct Stage {
    /// Addresses and objects.
    pub world: World,
    /// Pods that answer.
    pub servers: Servers,
    /// The control plane.
    pub plane: ControlPlane,
    /// The caller's proxy.
    pub who: Proxied,
    /// Where calls go.
    pub target: SocketAddr,
}

/// Writes a case's world, starts its pods and a control plane. `block` keeps addresses of cases that run at the same
/// time apart.
pub async fn set(case: &Case, block: u8, folder: &Path) -> Result<Stage> {
    let world = lay_out(case, block);
    write(folder, "world.yaml", &to_yaml(&world.objects))?;
    write(folder, "case.yaml", &fill_in(&case.manifests, &world))?;
    let servers = testkit::serve::start(&world).await?;
    let folder_text = folder.to_string_lossy();
    let mut source = vec!["--config-dir", &folder_text];
    if let Some(policy) = &case.mesh.outbound_traffic_policy {
        source.extend(["--outbound-traffic-policy", policy]);
    }
    let plane = ControlPlane::start(&source).await?;
    let (who, target) = caller(case, &world)?;
    Ok(Stage { world, servers, plane, who, target })
}

/// Manifests with the addresses of this run: `POD_IP_<n>` is the first pod of the n-th service.
pub fn fill_in(manifests: &str, world: &World) -> String {
    let IpAddr::V4(base) = world.client_ip else { return manifests.to_owned() };
    let block = base.octets()[1];
    let filled = (1..=9)
        .fold(manifests.to_owned(), |text, n| text.replace(&format!("POD_IP_{n}"), &format!("127.{block}.{n}.1")));
    filled.replace("CLIENT_IP", "127.0.0.1")
}

/// The port that gateway cases use.
pub const GATEWAY_PORT: u16 = 8080;

fn caller(case: &Case, world: &World) -> Result<(Proxied, SocketAddr)> {
    let ip = world.client_ip;
    let labels = case.client.labels.clone().into_iter().collect();
    let namespace = case.client.namespace.clone();
    if case.client.gateway {
        let who = Proxied {
            role: "router",
            pod: "client".into(),
            namespace,
            ip,
            labels,
            outbound: None,
            bind_ip: Some(ip),
            app_ip: None,
        };
        return Ok((who, SocketAddr::new(ip, GATEWAY_PORT)));
    }
    let outbound = free_address(&ip.to_string())?;
    let who = Proxied {
        role: "sidecar",
        pod: "client".into(),
        namespace,
        ip,
        labels,
        outbound: Some(outbound),
        bind_ip: None,
        app_ip: None,
    };
    Ok((who, outbound))
}

/// Which proxy runs a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Ours.
    Sluice,
    /// Stock Envoy.
    Envoy,
}

/// Makes the calls of a case at `target`; the differences in words.
pub async fn call_all(case: &Case, stage: &Stage, by: By, log: &dyn Fn() -> Vec<String>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for call in &case.calls {
        let expect = match (&call.envoy, by) {
            (Some(expect), By::Envoy) => expect,
            _ => &call.expect,
        };
        let outcomes = call_many(call, stage, log).await.with_context(|| call.request.clone())?;
        let seen = differences(&settle(expect, stage), &outcomes);
        found.extend(seen.into_iter().map(|difference| format!("{} {:?}: {difference}", call.request, call.headers)));
    }
    Ok(found)
}

// `CLIENT_IP` in expectations is the address that calls come from.
fn settle(expect: &Expect, _stage: &Stage) -> Expect {
    let mut expect = expect.clone();
    for value in expect.seen.values_mut().flatten() {
        *value = value.replace("CLIENT_IP", "127.0.0.1");
    }
    expect
}

async fn call_many(call: &Call, stage: &Stage, log: &dyn Fn() -> Vec<String>) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let is_logged = call.expect.flags.is_some() || call.expect.route.is_some() || call.expect.origin.is_some();
    let mut call = call.clone();
    for _ in 0..call.times {
        let id = (is_logged && HAS_LOG.get()).then(next_id);
        call.headers.extend(id.clone().map(|id| ("x-request-id".to_owned(), id)));
        let before: u32 = stage.servers.backends.iter().map(|backend| backend.count()).sum();
        let answer = testkit::call::send(stage.target, &call).await?;
        let after: u32 = stage.servers.backends.iter().map(|backend| backend.count()).sum();
        let mut outcome = Outcome::of(answer);
        outcome.attempts = Some(after - before);
        if let Some(id) = id {
            read_log(&mut outcome, &id, log).await?;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

// An id that no other call of this process has, to find its line in the access log.
fn next_id() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    format!("00000000-0000-4000-8000-{:012}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

// The access log's line of this call; written a moment after the answer.
async fn read_log(outcome: &mut Outcome, id: &str, log: &dyn Fn() -> Vec<String>) -> Result<()> {
    let what = "a line in the access log";
    let line = testkit::wait::until(what, std::time::Duration::from_secs(5), || async {
        log().into_iter().find(|line| line.contains(id)).ok_or("none yet")
    })
    .await?;
    let Some((flags, route, origin)) = parse_line(&line) else { bail!("not an access log line: {line}") };
    (outcome.flags, outcome.route, outcome.origin) = (Some(flags), Some(route), Some(origin));
    Ok(())
}

thread_local! {
    /// True while the log given to `call_all` is a real one.
    pub static HAS_LOG: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Flags, route name and origin of an access log line in the default form.
pub fn parse_line(line: &str) -> Option<(String, String, String)> {
    // [time] "GET /x HTTP/1.1" 200 - details …: the flags are the second word after the request's quotes.
    let rest = line.splitn(3, '"').nth(2)?;
    let flags = rest.split_whitespace().nth(1)?.to_owned();
    let tail: Vec<&str> = line.rsplit('"').next()?.split_whitespace().collect();
    // … cluster local downstream-local downstream-remote sni route [origin words]
    let route = tail.get(5)?.to_string();
    let origin = tail.get(6..).map(|words| words.join(" ")).unwrap_or_default();
    Some((flags, route, origin))
}
