//! The calls of a case, made one after the other, and what comes back held against what is expected.

use std::path::Path;

use anyhow::{Context, Result, bail};
use futures::future::LocalBoxFuture;
use testkit::case::{Call, Case, Expect, Lookup};
use testkit::expect::{Outcome, differences};
use testkit::wait;
use testkit::world::World;
use tokio::time::Instant;

use crate::scene::{Jar, Scene, fill_in};

/// What a proxy is asked beside calls.
pub trait Around {
    /// A page of its admin address.
    fn page<'a>(&'a self, path: &'a str) -> LocalBoxFuture<'a, Result<String>>;

    /// The lines of its access log so far; `None` when nobody looks at one.
    fn log(&self) -> Option<Vec<String>>;

    /// Its answer to an application's DNS question.
    fn resolve(&self, question: Vec<u8>, tcp: bool) -> LocalBoxFuture<'_, Result<Vec<u8>>>;
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
pub async fn call_all(case: &Case, scene: &Scene, by: By, around: &dyn Around) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut begun = Vec::new();
    if by == By::Sluice {
        for lookup in &case.lookups {
            found.extend(ask(lookup, around, &scene.world).await.with_context(|| lookup.name.clone())?);
        }
    }
    for call in &case.calls {
        let expect = match (&call.envoy, by) {
            (Some(expect), By::Envoy) => expect,
            _ => &call.expect,
        };
        let expect = settle(call, expect, scene)?;
        if call.background {
            begun.push((call, expect, Background::begin(call, scene, around).await?));
            found.extend(read_admin(call, scene, around).await);
            continue;
        }
        let before = counts(scene);
        let outcomes = settled(call, &expect, scene, around).await.with_context(|| call.request.clone())?;
        found.extend(said(call, differences(&expect, &outcomes)));
        found.extend(said(call, copies(&expect, call.times, scene, &before).await));
        found.extend(read_admin(call, scene, around).await);
    }
    for (call, expect, background) in begun {
        let outcome = background.finish(around).await.with_context(|| call.request.clone())?;
        found.extend(said(call, differences(&expect, &[outcome])));
    }
    Ok(found)
}

fn said(call: &Call, differences: Vec<String>) -> impl Iterator<Item = String> {
    differences.into_iter().map(|difference| format!("{} {:?}: {difference}", call.request, call.headers))
}

// The outcomes of a call; of one that may take some tries, the last ones.
async fn settled(call: &Call, expect: &Expect, scene: &Scene, around: &dyn Around) -> Result<Vec<Outcome>> {
    let deadline = Instant::now() + EVENTUALLY;
    loop {
        let outcomes = match call.connections {
            0 => call_many(call, scene, around).await?,
            _ => {
                let answers = testkit::call::send_many(scene.way(call)?, call).await?;
                answers.into_iter().map(Outcome::of).collect()
            }
        };
        let is_over = !call.eventually || Instant::now() > deadline;
        if is_over || differences(expect, &outcomes).is_empty() {
            return Ok(outcomes);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

// The lines that a call expects of admin pages; what is missing in words.
async fn read_admin(call: &Call, scene: &Scene, around: &dyn Around) -> Vec<String> {
    let mut found = Vec::new();
    for one in &call.admin {
        let line = one.line.as_ref().map(|line| fill_in(line, &scene.world));
        let is_there = wait::until("an admin page as expected", EVENTUALLY, || async {
            let page = around.page(&one.path).await?;
            if let Some(line) = line.as_ref().filter(|line| !page.lines().any(|have| have.trim() == line.as_str())) {
                // What the line is about, and what is said of it instead.
                let subject = line.rsplit_once(':').map_or(line.as_str(), |(subject, _)| subject);
                let instead: Vec<&str> = page.lines().filter(|have| have.contains(subject)).take(5).collect();
                bail!("no line {line:?} in {}; instead {instead:?}", one.path);
            }
            if let Some(text) = one.without.as_ref().filter(|text| page.contains(text.as_str())) {
                bail!("{text:?} is in {}", one.path);
            }
            Ok(())
        })
        .await;
        found.extend(is_there.err().map(|error| format!("after {}: {error:#}", call.request)));
    }
    found
}

/// A call that is under way.
struct Background {
    answer: tokio::task::JoinHandle<Result<testkit::call::Answered>>,
    id: Option<String>,
}

impl Background {
    /// Makes it; without admin lines to wait for, until it has reached a pod.
    async fn begin(call: &Call, scene: &Scene, around: &dyn Around) -> Result<Self> {
        let mut call = call.clone();
        let id = (call.expect.flags.is_some() && around.log().is_some()).then(next_id);
        call.headers.extend(id.clone().map(|id| ("user-agent".to_owned(), id)));
        let asked = || scene.backends.iter().map(|backend| backend.count()).sum::<u32>();
        let before = asked();
        let (way, waits) = (scene.way(&call)?, call.admin.is_empty());
        let answer = tokio::spawn(async move { testkit::call::send(way, &call).await });
        if waits {
            wait::until("a pod is asked", EVENTUALLY, || async {
                if asked() > before { Ok(()) } else { Err("not yet") }
            })
            .await?;
        }
        Ok(Self { answer, id })
    }

    async fn finish(self, around: &dyn Around) -> Result<Outcome> {
        let mut outcome = Outcome::of(self.answer.await??);
        if let Some(id) = self.id {
            read_log(&mut outcome, &id, around).await?;
        }
        Ok(outcome)
    }
}

/// How long what must come sooner or later may take.
const EVENTUALLY: std::time::Duration = std::time::Duration::from_secs(10);

/// What a configuration holds against a case, in words.
pub fn holds(case: &Case, dump: &str) -> Vec<String> {
    let missing = case.config.has.iter().filter(|text| !dump.contains(text.as_str()));
    let missing = missing.map(|text| format!("config_dump has no {text:?}"));
    let hidden = case.config.lacks.iter().filter(|text| dump.contains(text.as_str()));
    missing.chain(hidden.map(|text| format!("config_dump has {text:?}, which must not be there"))).collect()
}

async fn ask(lookup: &Lookup, around: &dyn Around, world: &World) -> Result<Vec<String>> {
    let Lookup { name, record, tcp, code, addresses, alias_of, ttl } = lookup;
    let answer = around.resolve(testkit::dns::question(name, record)?, *tcp).await?;
    let got = testkit::dns::read(&answer)?;
    let mut found = Vec::new();
    if got.code != *code {
        found.push(format!("lookup {name} {record}: expected {code}, got {got:?}"));
    }
    let begins = |want: &str, got: &str| want == got || (want.ends_with(['.', ':']) && got.starts_with(want));
    let wanted: Vec<String> = addresses.iter().map(|text| fill_in(text, world)).collect();
    let given: Vec<String> = got.addresses.iter().map(ToString::to_string).collect();
    let fits = wanted.len() == given.len()
        && wanted.iter().all(|want| given.iter().any(|got| begins(want, got)))
        && given.iter().all(|got| wanted.iter().any(|want| begins(want, got)));
    if !fits {
        found.push(format!("lookup {name} {record}: expected {wanted:?}, got {given:?}"));
    }
    if alias_of.is_some() && got.alias_of != *alias_of {
        found.push(format!("lookup {name} {record}: expected another name of {alias_of:?}, got {:?}", got.alias_of));
    }
    if ttl.is_some() && got.ttl != *ttl {
        found.push(format!("lookup {name} {record}: expected a TTL of {ttl:?}, got {:?}", got.ttl));
    }
    Ok(found)
}

// Addresses in expectations, as in manifests.
fn settle(call: &Call, expect: &Expect, scene: &Scene) -> Result<Expect> {
    let mut expect = expect.clone();
    if let Some(placement) = &expect.placement {
        expect.each = placement.pods(&scene.world, call.times)?;
    }
    for value in expect.seen.values_mut().chain(expect.headers.values_mut()).flatten() {
        *value = fill_in(value, &scene.world);
    }
    for value in expect.seen_parts.values_mut() {
        *value = testkit::pki::fill_in(value, Path::new("/nonexistent")).unwrap_or_default();
    }
    Ok(expect)
}

// One of the calls: its number where `{n}` stands.
fn numbered(call: &Call, number: u32) -> Call {
    let fill = |text: &str| text.replace("{n}", &number.to_string());
    Call {
        request: fill(&call.request),
        headers: call.headers.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
        from: call.from.as_deref().map(fill),
        ..call.clone()
    }
}

// Tokens stand where the call says, else where clients usually put them.
fn with_tokens(call: &mut Call) -> Result<()> {
    for (place, token) in [("${jwt}", call.jwt.clone()), ("${jwt2}", call.jwt2.clone())] {
        let Some(token) = token else { continue };
        let text = token.text()?;
        let lines = call.headers.values().chain(&call.raw).chain([&call.request]);
        let is_placed = lines.into_iter().any(|line| line.contains(place));
        if !is_placed {
            call.headers.insert("authorization".into(), format!("Bearer {place}"));
        }
        call.request = call.request.replace(place, &text);
        call.headers.values_mut().chain(&mut call.raw).for_each(|value| *value = value.replace(place, &text));
    }
    Ok(())
}

// Puts the pairs of `set-cookie` into the jar.
fn keep(jar: &Jar, headers: &http::HeaderMap) {
    for value in headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()) {
        let pair = value.split(';').next().unwrap_or_default();
        if let Some((name, value)) = pair.split_once('=') {
            jar.borrow_mut().insert(name.to_owned(), value.to_owned());
        }
    }
}

async fn call_many(call: &Call, scene: &Scene, around: &dyn Around) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let is_logged = call.expect.flags.is_some() || call.expect.route.is_some() || call.expect.origin.is_some();
    for number in 1..=call.times {
        let mut call = numbered(call, number);
        call.request = fill_in(&call.request, &scene.world);
        with_tokens(&mut call)?;
        if call.cookies {
            let pairs: Vec<String> = scene.jar.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
            call.headers.extend((!pairs.is_empty()).then(|| ("cookie".to_owned(), pairs.join("; "))));
        }
        let id = (is_logged && around.log().is_some()).then(next_id);
        call.headers.extend(id.clone().map(|id| ("user-agent".to_owned(), id)));
        let asked = || {
            let all = scene.backends.iter();
            all.filter(|one| !call.expect.mirrored.contains_key(&one.name)).map(|one| one.count()).sum::<u32>()
        };
        let (before, started) = (asked(), Instant::now());
        let answer = testkit::call::send(scene.way(&call)?, &call).await?;
        keep(&scene.jar, &answer.headers);
        scene.held.borrow_mut().extend(answer.connection.held.clone());
        let mut outcome = Outcome::of(answer);
        outcome.elapsed = started.elapsed();
        outcome.attempts = Some(asked() - before);
        // A connection has no id; its client's address is in the log.
        let id = match outcome.connection.from {
            Some(from) => id.map(|_| format!(" {from} ")),
            None => id,
        };
        if let Some(id) = id {
            read_log(&mut outcome, &id, around).await?;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn counts(scene: &Scene) -> Vec<u32> {
    scene.backends.iter().map(|backend| backend.count()).collect()
}

// Copies come when they come: what is wrong with them is said only when it stays wrong.
async fn copies(expect: &Expect, calls: u32, scene: &Scene, before: &[u32]) -> Vec<String> {
    let mut found = Vec::new();
    for (pod, expect) in &expect.mirrored {
        let Some(place) = scene.backends.iter().position(|backend| backend.name == *pod) else {
            found.push(format!("there is no pod {pod}"));
            continue;
        };
        let backend = &scene.backends[place];
        let compared = wait::until("copies of the requests", EVENTUALLY, || async {
            let count = backend.count() - before[place];
            testkit::expect::compare_mirrored(pod, expect, calls, count, backend.last().as_ref())
        });
        found.extend(compared.await.err().map(|error| error.to_string()));
    }
    found
}

// An id that no other call of this process has, to find its line in the access log.
// A call's own name, found again in the access log: a gateway gives requests from outside ids of its own.
fn next_id() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    format!("00000000-0000-4000-8000-{:012}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

// The access log's line of this call; written a moment after the answer.
async fn read_log(outcome: &mut Outcome, id: &str, around: &dyn Around) -> Result<()> {
    let what = "a line in the access log";
    let line = testkit::wait::until(what, std::time::Duration::from_secs(5), || async {
        around.log().into_iter().flatten().find(|line| line.contains(id)).ok_or("none yet")
    })
    .await?;
    let Some((flags, route, origin)) = parse_line(&line) else { bail!("not an access log line: {line}") };
    (outcome.flags, outcome.route, outcome.origin) = (Some(flags), Some(route), Some(origin));
    Ok(())
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
