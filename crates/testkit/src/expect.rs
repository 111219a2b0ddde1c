//! Comparing what came back with what a case expects.
//!
//! In: the outcomes of one call, all `times` of them. Out: the differences in words; none means it holds.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;

use crate::backend::Seen;
use crate::call::{Answered, Connection};
use crate::case::{Expect, Mirrored, Times};

/// One answer and what the access log and the pods say of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Status code.
    pub status: u16,
    /// Response headers.
    pub headers: HeaderMap,
    /// Response body.
    pub body: String,
    /// What the pod saw, when a pod answered.
    pub seen: Option<Seen>,
    /// Response flags of the access log; `None` when this altitude has no log.
    pub flags: Option<String>,
    /// Route name of the access log.
    pub route: Option<String>,
    /// Origin of the access log.
    pub origin: Option<String>,
    /// Requests that reached pods for this one answer.
    pub attempts: Option<u32>,
    /// What is known of the connection.
    pub connection: Connection,
    /// Response trailers.
    pub trailers: HeaderMap,
    /// The answer broke off.
    pub broken: bool,
    /// From the call to the end of the answer; zero where nobody looked at a clock.
    pub elapsed: Duration,
}

impl Outcome {
    /// An outcome without log.
    pub fn of(answer: Answered) -> Self {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        Self {
            status: answer.status,
            headers: answer.headers,
            seen: serde_json::from_str(&body).ok(),
            body,
            flags: None,
            route: None,
            origin: None,
            attempts: None,
            connection: answer.connection,
            trailers: answer.trailers,
            broken: answer.broken,
            elapsed: Duration::ZERO,
        }
    }

    fn pod(&self) -> &str {
        let named = || self.headers.get(crate::serve::POD).and_then(|name| name.to_str().ok());
        self.seen.as_ref().map(|seen| seen.pod.as_str()).or_else(named).unwrap_or("(none)")
    }
}

/// Every difference between `expect` and the outcomes.
pub fn differences(expect: &Expect, outcomes: &[Outcome]) -> Vec<String> {
    let mut found = Vec::new();
    for outcome in outcomes {
        compare_one(expect, outcome, &mut found);
    }
    found.dedup();
    found.truncate(10);
    if !expect.statuses.is_empty() {
        compare_statuses(&expect.statuses, outcomes, &mut found);
    }
    if !expect.split.is_empty() {
        compare_split(&expect.split, outcomes, &mut found);
    }
    if expect.same_pod && counts(outcomes).len() != 1 {
        found.push(format!("expected one pod to answer all, got {:?}", counts(outcomes)));
    }
    if !expect.each.is_empty() {
        compare_each(&expect.each, outcomes, &mut found);
    }
    if !expect.spread.is_empty() {
        compare_spread(&expect.spread, outcomes, &mut found);
    }
    found
}

fn compare_one(expect: &Expect, got: &Outcome, found: &mut Vec<String>) {
    let Expect {
        status,
        statuses: _,
        to,
        split: _,
        same_pod: _,
        placement: _,
        each: _,
        spread: _,
        flags,
        route,
        origin,
        body,
        headers,
        header_forms,
        seen,
        seen_parts,
        seen_forms,
        tls,
        seen_path,
        attempts,
        closed,
        ends_within_ms,
        greeting,
        trailers,
        broken,
        at_least_ms,
        at_most_ms,
        mirrored: _,
    } = expect;
    differ("status", status.as_ref(), Some(&got.status), found);
    differ("to", to.as_deref(), Some(got.pod()), found);
    differ("body", body.as_deref(), Some(got.body.as_str()), found);
    for (what, wanted) in tls {
        differ(&format!("tls {what}"), Some(wanted), got.connection.tls.get(what), found);
    }
    differ("closed", closed.as_ref(), Some(&got.connection.closed), found);
    differ("greeting", greeting.as_ref(), got.connection.greeting.as_ref(), found);
    let stayed = got.connection.ended_after.map(|after| after.as_millis());
    if let Some(limit) = ends_within_ms
        && stayed.is_none_or(|stayed| stayed > u128::from(*limit))
    {
        found.push(format!("end of the connection: expected within {limit} ms, got {stayed:?}"));
    }
    // What an altitude cannot observe is not compared there; another one does.
    differ_if_known("flags", flags.as_ref(), got.flags.as_ref(), found);
    differ_if_known("route", route.as_ref(), got.route.as_ref(), found);
    differ_if_known("origin", origin.as_ref(), got.origin.as_ref(), found);
    differ_if_known("attempts", attempts.as_ref(), got.attempts.as_ref(), found);
    compare_headers("response header", headers, &got.headers, found);
    compare_headers("response trailer", trailers, &got.trailers, found);
    if *broken != got.broken {
        found.push(if got.broken { "the answer broke off" } else { "the answer did not break off" }.to_owned());
    }
    let took = got.elapsed.as_millis() as u64;
    if at_least_ms.is_some_and(|least| took < least) || at_most_ms.is_some_and(|most| took > most) {
        found.push(format!("took {took} ms, not {} to {}", at_least_ms.unwrap_or(0), at_most_ms.unwrap_or(u64::MAX)));
    }
    for (name, form) in header_forms {
        let value = got.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        if !fits(form, value.as_deref()) {
            found.push(format!("response header {name}: expected the form {form}, got {value:?}"));
        }
    }
    let Some(saw) = &got.seen else {
        if !seen.is_empty() || !seen_parts.is_empty() || !seen_forms.is_empty() || seen_path.is_some() {
            found.push("expected a pod to be asked, none was".into());
        }
        return;
    };
    for (name, wanted) in seen_parts {
        let value = saw.headers.get(name).map(String::as_str).unwrap_or_default();
        if !value.contains(wanted) {
            found.push(format!("request header {name} seen: expected {wanted:?} in it, got {value:?}"));
        }
    }
    for (name, form) in seen_forms {
        let value = saw.headers.get(name).map(String::as_str);
        if !fits(form, value) {
            found.push(format!("request header {name} seen: expected the form {form}, got {value:?}"));
        }
    }
    differ("path seen", seen_path.as_ref(), Some(&saw.path), found);
    for (name, wanted) in seen {
        let value = saw.headers.get(name).cloned();
        if value != *wanted {
            found.push(format!("request header {name} seen: expected {wanted:?}, got {value:?}"));
        }
    }
}

// The whole value.
fn fits(form: &str, value: Option<&str>) -> bool {
    regex::Regex::new(&format!("^(?:{form})$")).is_ok_and(|form| form.is_match(value.unwrap_or("")))
}

fn compare_headers(what: &str, wanted: &BTreeMap<String, Option<String>>, got: &HeaderMap, found: &mut Vec<String>) {
    for (name, wanted) in wanted {
        // Several values as one list, as for requests.
        let values: Vec<_> = got.get_all(name).iter().map(|one| String::from_utf8_lossy(one.as_bytes())).collect();
        let value = (!values.is_empty()).then(|| values.join(","));
        if value != *wanted {
            found.push(format!("{what} {name}: expected {wanted:?}, got {value:?}"));
        }
    }
}

/// What is wrong with the copies that a pod got; `count` of them, the last one as `saw`.
pub fn compare_mirrored(
    pod: &str,
    expect: &Mirrored,
    calls: u32,
    count: u32,
    saw: Option<&Seen>,
) -> Result<(), String> {
    let Times { least, most } = expect.bounds(calls);
    if !(least..=most).contains(&count) {
        return Err(format!("{pod} got {count} copies, not {least} to {most}"));
    }
    for (name, wanted) in &expect.seen {
        let value = saw.and_then(|saw| saw.headers.get(name));
        if value != wanted.as_ref() {
            return Err(format!("header {name} of the copy for {pod}: expected {wanted:?}, got {value:?}"));
        }
    }
    let body = saw.map(|saw| saw.body.as_str());
    match &expect.body {
        Some(wanted) if body != Some(wanted) => Err(format!("body of the copy for {pod}: {body:?}, not {wanted:?}")),
        _ => Ok(()),
    }
}

fn differ<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    want: Option<&T>,
    got: Option<&T>,
    found: &mut Vec<String>,
) {
    if want.is_some() && want != got {
        found.push(format!("{what}: expected {want:?}, got {got:?}"));
    }
}

fn differ_if_known<T: PartialEq + std::fmt::Debug>(
    what: &str,
    want: Option<&T>,
    got: Option<&T>,
    found: &mut Vec<String>,
) {
    if got.is_some() {
        differ(what, want, got, found);
    }
}

fn counts(outcomes: &[Outcome]) -> BTreeMap<&str, u32> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(outcome.pod()).or_default() += 1;
    }
    counts
}

fn compare_statuses(statuses: &BTreeMap<u16, Times>, outcomes: &[Outcome], found: &mut Vec<String>) {
    let mut counts: BTreeMap<u16, u32> = statuses.keys().map(|status| (*status, 0)).collect();
    for outcome in outcomes {
        *counts.entry(outcome.status).or_default() += 1;
    }
    let is_wrong = |(status, count): &(&u16, &u32)| {
        !statuses.get(status).is_some_and(|times| (times.least..=times.most).contains(count))
    };
    if counts.iter().any(|one| is_wrong(&one)) {
        found.push(format!("statuses: got {counts:?}, which is not within {statuses:?}"));
    }
}

fn compare_split(split: &BTreeMap<String, f64>, outcomes: &[Outcome], found: &mut Vec<String>) {
    let counts = counts(outcomes);
    let total = outcomes.len() as f64;
    for pod in counts.keys().filter(|pod| !split.contains_key(**pod)) {
        found.push(format!("split: {pod} answered, but is not in the split"));
    }
    for (pod, percent) in split {
        let (share, got) = (percent / 100.0, f64::from(counts.get(pod.as_str()).copied().unwrap_or(0)));
        let tolerance = 5.0 * (total * share * (1.0 - share)).sqrt();
        if (got - total * share).abs() > tolerance.max(f64::EPSILON) {
            found.push(format!("split: {pod} should answer {percent} % of {total}, answered {got} (±{tolerance:.0})"));
        }
    }
}

fn compare_each(each: &[String], outcomes: &[Outcome], found: &mut Vec<String>) {
    let pairs = each.iter().zip(outcomes.iter().map(Outcome::pod)).enumerate();
    let wrong: Vec<String> = pairs
        .filter(|(_, (wanted, got))| wanted.as_str() != *got)
        .map(|(index, (wanted, got))| format!("{}: {got} instead of {wanted}", index + 1))
        .collect();
    if !wrong.is_empty() || each.len() != outcomes.len() {
        found.push(format!("placement: {} of {} calls went elsewhere: {}", wrong.len(), each.len(), wrong.join(", ")));
    }
}

fn compare_spread(spread: &[String], outcomes: &[Outcome], found: &mut Vec<String>) {
    let got: Vec<&str> = counts(outcomes).into_keys().collect();
    let mut want: Vec<&str> = spread.iter().map(String::as_str).collect();
    want.sort_unstable();
    if got != want {
        found.push(format!("spread: expected exactly {want:?} to answer, got {got:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(pod: &str) -> Outcome {
        let seen = Seen {
            pod: pod.into(),
            method: "GET".into(),
            path: "/".into(),
            headers: BTreeMap::new(),
            body: String::new(),
            count: 1,
        };
        Outcome {
            status: 200,
            headers: HeaderMap::new(),
            body: String::new(),
            seen: Some(seen),
            flags: None,
            route: None,
            origin: None,
            attempts: None,
            connection: Connection::default(),
            trailers: HeaderMap::new(),
            broken: false,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn a_wrong_split_is_seen() {
        let outcomes: Vec<_> = (0..100).map(|n| outcome(if n < 50 { "a" } else { "b" })).collect();
        let expect = |a, b| Expect { split: BTreeMap::from([("a".into(), a), ("b".into(), b)]), ..Expect::default() };
        assert!(differences(&expect(50.0, 50.0), &outcomes).is_empty());
        assert_eq!(differences(&expect(90.0, 10.0), &outcomes).len(), 2);
    }

    #[test]
    fn a_stranger_in_a_split_is_seen() {
        let outcomes: Vec<_> = (0..100).map(|_| outcome("c")).collect();
        let expect = Expect { split: BTreeMap::from([("a".into(), 100.0)]), ..Expect::default() };
        assert_eq!(differences(&expect, &outcomes).len(), 2);
    }
}
