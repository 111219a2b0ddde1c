//! Faults of a rule (VS100 to VS106).
//!
//! In: a `fault` block. Out: what the proxy injects, or none. A part that cannot be used is reported and left out; the
//! rule goes on without it.

use api::http_actions::{Abort, Delay, Fault};
use api::http_route::Percent;
use config::{AbortStatus, Share};

use crate::notes::Notes;
use crate::timeout;

/// gRPC's codes by number.
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Lowers a block; `field` is its path, `spec.http[0].fault`.
pub(crate) fn lower(fault: &Fault, field: &str, notes: &mut Notes) -> Option<config::Fault> {
    let Fault { delay, abort } = fault;
    let delay = delay.as_ref().and_then(|delay| lower_delay(delay, &format!("{field}.delay"), notes));
    let abort = abort.as_ref().and_then(|abort| lower_abort(abort, &format!("{field}.abort"), notes));
    (delay.is_some() || abort.is_some()).then_some(config::Fault { delay, abort })
}

fn lower_delay(delay: &Delay, field: &str, notes: &mut Notes) -> Option<config::Delay> {
    let Delay { percent, fixed_delay, exponential_delay, percentage } = delay;
    if exponential_delay.is_some() {
        notes.ignored(format!("{field}.exponentialDelay"), "exponentialDelay is not supported; write fixedDelay");
    }
    let fixed = timeout::lower(fixed_delay.as_ref(), || format!("{field}.fixedDelay"), notes)?;
    // The message wins over the deprecated integer; neither is no request at all (VS100).
    let share = match (percentage, percent) {
        (Some(percentage), _) => read_share(percentage, || format!("{field}.percentage"), notes)?,
        (None, Some(percent)) => whole(f64::from(*percent), || format!("{field}.percent"), notes)?,
        (None, None) => Share::NONE,
    };
    (share != Share::NONE).then_some(config::Delay { fixed, share })
}

fn lower_abort(abort: &Abort, field: &str, notes: &mut Notes) -> Option<config::Abort> {
    let Abort { http_status, grpc_status, http2_error, percentage } = abort;
    let status = match (http_status, grpc_status) {
        (Some(status), _) => match u16::try_from(*status) {
            // Istio lets 600 pass, which no proxy takes (VS102).
            Ok(status @ 200..=599) => AbortStatus::Http(status),
            _ => {
                notes.ignored(format!("{field}.httpStatus"), format!("{status} is not between 200 and 599"));
                return None;
            }
        },
        (None, Some(name)) => match (0..).zip(GRPC_CODES).find(|(_, known)| known == name) {
            Some((code, _)) => AbortStatus::Grpc(code),
            None => {
                notes.ignored(format!("{field}.grpcStatus"), format!("{name:?} is no gRPC code such as UNAVAILABLE"));
                return None;
            }
        },
        (None, None) => {
            let leaf = if http2_error.is_some() { "http2Error is not supported; write" } else { "there is neither" };
            notes.ignored(field, format!("{leaf} httpStatus or grpcStatus"));
            return None;
        }
    };
    let share = match percentage {
        Some(percentage) => read_share(percentage, || format!("{field}.percentage"), notes)?,
        None => Share::NONE,
    };
    (share != Share::NONE).then_some(config::Abort { status, share })
}

/// A percentage; `None`, reported, when it is none. A message without value is 0.
pub(crate) fn read_share(percent: &Percent, field: impl FnOnce() -> String, notes: &mut Notes) -> Option<Share> {
    whole(percent.value.unwrap_or(0.0), || format!("{}.value", field()), notes)
}

/// The same, of a bare number.
pub(crate) fn whole(percent: f64, field: impl FnOnce() -> String, notes: &mut Notes) -> Option<Share> {
    let share = Share::percent(percent);
    if share.is_none() {
        notes.ignored(field(), format!("{percent} is not between 0 and 100"));
    }
    share
}

#[cfg(test)]
mod tests {
    use words::Origin;

    use super::*;

    fn lowered(yaml: &str) -> (Option<config::Fault>, usize) {
        let fault: Fault = serde_json::from_str(yaml).unwrap();
        let mut notes = Notes::about(&Origin::new("VirtualService", "default", "x"));
        (lower(&fault, "spec.http[0].fault", &mut notes), notes.into_found().len())
    }

    #[test]
    fn vs100_a_delay_without_percentage_is_none() {
        assert_eq!(lowered(r#"{"delay": {"fixedDelay": "1s"}}"#), (None, 0));
        let (fault, _) = lowered(r#"{"delay": {"fixedDelay": "1s", "percent": 7}}"#);
        assert_eq!(fault.unwrap().delay.unwrap().share, Share::per_million(70_000));
        let (fault, _) = lowered(r#"{"delay": {"fixedDelay": "1s", "percent": 7, "percentage": {"value": 0.5}}}"#);
        assert_eq!(fault.unwrap().delay.unwrap().share, Share::per_million(5_000));
    }

    #[test]
    fn vs101_an_exponential_delay_is_refused_and_the_abort_stays() {
        let (fault, said) = lowered(
            r#"{"delay": {"exponentialDelay": "1s", "percentage": {"value": 1}}, "abort": {"httpStatus": 500, "percentage": {"value": 1}}}"#,
        );
        let fault = fault.unwrap();
        assert_eq!((fault.delay.is_none(), fault.abort.is_some(), said), (true, true, 1));
    }

    #[test]
    fn vs102_a_status_is_200_to_599() {
        for (status, fits) in [(199, false), (200, true), (599, true), (600, false)] {
            let (fault, _) =
                lowered(&format!(r#"{{"abort": {{"httpStatus": {status}, "percentage": {{"value": 100}}}}}}"#));
            assert_eq!(fault.is_some(), fits, "{status}");
        }
    }

    #[test]
    fn vs103_grpc_codes_are_names_in_upper_case() {
        let code = |name: &str| {
            lowered(&format!(r#"{{"abort": {{"grpcStatus": "{name}", "percentage": {{"value": 100}}}}}}"#)).0
        };
        let status = |name: &str| code(name).map(|fault| fault.abort.unwrap().status);
        assert_eq!(status("OK"), Some(AbortStatus::Grpc(0)));
        assert_eq!(status("UNAVAILABLE"), Some(AbortStatus::Grpc(14)));
        assert_eq!(status("UNAUTHENTICATED"), Some(AbortStatus::Grpc(16)));
        assert_eq!(status("unavailable"), None);
    }
}
