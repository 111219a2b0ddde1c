//! What the status of an object shall say.
//!
//! In: what was found about it, how far its generation has come. Out: a [`Status`], with Kubernetes' conventions: every
//! condition has a status, a word and a sentence, and the generation that it is about. Pure.
//!
//! | condition | False or True when | from |
//! | --- | --- | --- |
//! | Accepted | False: it is not valid; what acts instead is in the message | the source's findings |
//! | ResolvedRefs | False: a host, subset, port, gateway or secret that it names is not there | the compiler's findings |
//! | Conflicted | True: another object has what it wants; absent otherwise | the compiler's findings |
//! | Programmed | True: every connected proxy whose configuration it changed has acknowledged it | [`crate::progress`] |

use ::watch::kubernetes::{Condition, Message, Status};
use words::{Diagnostic, Severity};

use crate::events::cut;
use crate::progress::Stand;

/// Bytes of a condition's message.
const MESSAGE_MAX: usize = 1024;
/// Findings that a message repeats.
const FINDINGS_MAX: usize = 3;
/// Findings that are listed.
const MESSAGES_MAX: usize = 16;

/// Not there: hosts, subsets, ports, gateways, secrets; no service for a DestinationRule; no host at the gateway.
const UNRESOLVED: [&str; 3] = ["IST0101", "IST0174", "IST0132"];
/// Another object has it: mesh hosts, listeners, hosts of a namespace, rules that are never reached.
const CONFLICTS: [&str; 4] = ["IST0109", "SLU0103", "SLU0104", "SLU0110"];

/// What was found about an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// By the source: why it is not accepted.
    pub(crate) refusals: Vec<Diagnostic>,
    /// Everything else.
    pub(crate) findings: Vec<Diagnostic>,
}

/// The status of a generation.
pub(crate) fn of(generation: i64, found: &Found, stand: &Stand) -> Status {
    let mut conditions = vec![accepted(found), resolved(found)];
    conditions.extend(conflicted(found));
    conditions.push(programmed(found, stand));
    for condition in &mut conditions {
        condition.observed_generation = generation;
    }
    let messages = found.refusals.iter().chain(&found.findings).take(MESSAGES_MAX).map(message).collect();
    Status { observed_generation: generation, conditions, messages }
}

/// True when a status is settled for a generation: what follows is decided by findings alone.
pub(crate) fn is_programmed(status: &Status, generation: i64) -> bool {
    let fits = |one: &Condition| &*one.status == "True" && one.observed_generation == generation;
    status.condition(PROGRAMMED).is_some_and(fits)
}

/// The same, whatever the words and times of a generation that is programmed: they belong to the moment.
pub(crate) fn says_the_same(held: &Status, wanted: &Status) -> bool {
    let is_same = |held: &Condition, wanted: &Condition| {
        let words = (&held.kind, &held.status, &held.reason, held.observed_generation);
        let is_latched = &*wanted.kind == PROGRAMMED && &*wanted.status == "True";
        words == (&wanted.kind, &wanted.status, &wanted.reason, wanted.observed_generation)
            && (is_latched || held.message == wanted.message)
    };
    held.observed_generation == wanted.observed_generation
        && held.messages == wanted.messages
        && held.conditions.len() == wanted.conditions.len()
        && held.conditions.iter().zip(&wanted.conditions).all(|(held, wanted)| is_same(held, wanted))
}

pub(crate) const ACCEPTED: &str = "Accepted";
pub(crate) const RESOLVED: &str = "ResolvedRefs";
pub(crate) const CONFLICTED: &str = "Conflicted";
pub(crate) const PROGRAMMED: &str = "Programmed";

fn condition(kind: &str, status: bool, reason: &str, mut message: String) -> Condition {
    cut(&mut message, MESSAGE_MAX);
    let status = if status { "True" } else { "False" };
    Condition {
        kind: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        ..Condition::default()
    }
}

fn accepted(found: &Found) -> Condition {
    if !found.refusals.is_empty() {
        return condition(ACCEPTED, false, "Invalid", words(&found.refusals));
    }
    let is_rest = |one: &&Diagnostic| {
        one.severity > Severity::Info && !UNRESOLVED.contains(&&*one.code) && !CONFLICTS.contains(&&*one.code)
    };
    let rest: Vec<Diagnostic> = found.findings.iter().filter(is_rest).cloned().collect();
    match rest.is_empty() {
        true => condition(ACCEPTED, true, "Accepted", String::new()),
        false => condition(ACCEPTED, true, "AcceptedWithFindings", words(&rest)),
    }
}

fn resolved(found: &Found) -> Condition {
    let missing = with_codes(found, &UNRESOLVED);
    match missing.is_empty() {
        true => condition(RESOLVED, true, "Resolved", String::new()),
        false => condition(RESOLVED, false, "NotFound", words(&missing)),
    }
}

fn conflicted(found: &Found) -> Option<Condition> {
    let conflicts = with_codes(found, &CONFLICTS);
    (!conflicts.is_empty()).then(|| condition(CONFLICTED, true, "Conflict", words(&conflicts)))
}

fn programmed(found: &Found, stand: &Stand) -> Condition {
    let Stand { proxies, answered, refused, took_ms, .. } = stand;
    if !found.refusals.is_empty() {
        return condition(PROGRAMMED, false, "NotAccepted", "it is not valid; Accepted says what acts instead".into());
    }
    if !stand.is_done {
        let names = stand.waiting.join(", ");
        let waiting = if names.is_empty() { String::new() } else { format!("; waiting for {names}") };
        return condition(PROGRAMMED, false, "Pending", format!("{answered}/{proxies} proxies{waiting}"));
    }
    if *refused > 0 {
        let words = stand.refusals.join("; ");
        return condition(PROGRAMMED, false, "Refused", format!("refused by {refused}/{proxies} proxies; {words}"));
    }
    if *proxies == 0 {
        return condition(PROGRAMMED, true, "Programmed", "no proxy is affected".into());
    }
    let took = if *took_ms > 0 { format!(", {took_ms} ms") } else { String::new() };
    condition(PROGRAMMED, true, "Programmed", format!("{answered}/{proxies} proxies{took}"))
}

fn with_codes(found: &Found, codes: &[&str]) -> Vec<Diagnostic> {
    found.findings.iter().filter(|one| codes.contains(&&*one.code)).cloned().collect()
}

fn words(found: &[Diagnostic]) -> String {
    let sentence = |one: &Diagnostic| match one.field.is_empty() {
        true => format!("[{}] {}", one.code, one.message),
        false => format!("[{}] {}: {}", one.code, one.field, one.message),
    };
    let mut text = found.iter().take(FINDINGS_MAX).map(sentence).collect::<Vec<_>>().join("; ");
    if found.len() > FINDINGS_MAX {
        text.push_str(&format!("; and {} more", found.len() - FINDINGS_MAX));
    }
    text
}

fn message(found: &Diagnostic) -> Message {
    let level = match found.severity {
        Severity::Error => "ERROR",
        Severity::Warning => "WARNING",
        Severity::Info => "INFO",
    };
    Message { code: found.code.as_str().into(), name: istio_name(&found.code).into(), level: level.into() }
}

// tidy: table. Istio's names of the findings that the control plane makes (istio.io, "Analysis messages").
fn istio_name(code: &str) -> &'static str {
    match code {
        "IST0101" => "ReferencedResourceNotFound",
        "IST0106" => "SchemaValidationError",
        "IST0109" => "ConflictingMeshGatewayVirtualServiceHosts",
        "IST0130" => "VirtualServiceUnreachableRule",
        "IST0131" => "VirtualServiceIneffectiveMatch",
        "IST0132" => "VirtualServiceHostNotFoundInGateway",
        "IST0133" => "SchemaWarning",
        "IST0134" => "ServiceEntryAddressesRequired",
        "IST0174" => "UnknownDestinationRuleHost",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use words::Origin;

    use super::*;

    fn finding(code: &str, message: &str) -> Diagnostic {
        Diagnostic::error(code, Origin::new("VirtualService", "default", "reviews"), "spec.http[0]", message)
    }

    fn line(status: &Status) -> Vec<String> {
        let one = |one: &Condition| format!("{}={} {}: {}", one.kind, one.status, one.reason, one.message);
        status.conditions.iter().map(one).collect()
    }

    fn done(proxies: u32, took_ms: u64) -> Stand {
        Stand { is_done: true, proxies, answered: proxies, took_ms, ..Stand::default() }
    }

    #[test]
    fn all_is_well() {
        let status = of(4, &Found::default(), &done(7, 38));
        let expected = [
            "Accepted=True Accepted: ",
            "ResolvedRefs=True Resolved: ",
            "Programmed=True Programmed: 7/7 proxies, 38 ms",
        ];
        assert_eq!(line(&status), expected);
        assert!(is_programmed(&status, 4) && !is_programmed(&status, 5));
        assert_eq!(line(&of(4, &Found::default(), &done(0, 0)))[2], "Programmed=True Programmed: no proxy is affected");
    }

    #[test]
    fn rel27_an_object_that_is_not_valid_is_not_accepted_and_programs_nobody() {
        let found =
            Found { refusals: vec![finding("IST0106", "bad; its last good version stays")], ..Found::default() };
        let lines = line(&of(4, &found, &done(0, 0)));
        assert_eq!(lines[0], "Accepted=False Invalid: [IST0106] spec.http[0]: bad; its last good version stays");
        assert!(lines[2].starts_with("Programmed=False NotAccepted"), "{lines:?}");
    }

    #[test]
    fn rel28_what_is_missing_and_rel29_what_conflicts_have_conditions_of_their_own() {
        let findings = vec![finding("IST0101", "no v9"), finding("IST0109", "also in other"), finding("SLU0100", "no")];
        let status = of(4, &Found { findings, ..Found::default() }, &done(1, 5));
        let lines = line(&status);
        assert_eq!(lines[0], "Accepted=True AcceptedWithFindings: [SLU0100] spec.http[0]: no");
        assert_eq!(lines[1], "ResolvedRefs=False NotFound: [IST0101] spec.http[0]: no v9");
        assert_eq!(lines[2], "Conflicted=True Conflict: [IST0109] spec.http[0]: also in other");
        assert_eq!(status.messages.len(), 3);
        assert_eq!(&*status.messages[0].name, "ReferencedResourceNotFound");
    }

    #[test]
    fn proxies_that_refuse_or_are_silent_are_named() {
        let refusals = vec!["a.default: no".to_owned()];
        let stand = Stand { is_done: true, proxies: 7, answered: 7, refused: 1, refusals, ..Stand::default() };
        assert_eq!(
            line(&of(1, &Found::default(), &stand))[2],
            "Programmed=False Refused: refused by 1/7 proxies; a.default: no"
        );
        let stand = Stand { proxies: 7, answered: 5, waiting: vec!["a.b".into()], ..Stand::default() };
        assert_eq!(
            line(&of(1, &Found::default(), &stand))[2],
            "Programmed=False Pending: 5/7 proxies; waiting for a.b"
        );
    }

    #[test]
    fn other_counts_of_a_programmed_generation_are_no_news() {
        let of = |generation, stand: &Stand| of(generation, &Found::default(), stand);
        assert!(says_the_same(&of(4, &done(7, 38)), &of(4, &done(2, 1))));
        assert!(!says_the_same(&of(4, &done(7, 38)), &of(5, &done(7, 38))));
        assert!(!says_the_same(&of(4, &Stand::default()), &of(4, &done(7, 38))));
    }
}
