//! Outlier detection (V-53), with the two spellings of tutorials that work here (S24, TR11, TR12).

use super::Findings;
use crate::OutlierDetection;

pub(super) fn check(
    path: &str,
    outlier: Option<&OutlierDetection>,
    alias: Option<&OutlierDetection>,
    found: &mut Findings,
) {
    let field = format!("{path}.circuitBreaker");
    match (alias, outlier) {
        (Some(_), Some(_)) => found.error(&field, "outlierDetection is set too; circuitBreaker is only its alias"),
        (Some(alias), None) => {
            found.deprecated(
                &field,
                "circuitBreaker is no field of Istio's; it acts as outlierDetection here",
                "write outlierDetection",
            );
            check_block(&field, alias, found);
        }
        _ => {}
    }
    if let Some(outlier) = outlier {
        check_block(&format!("{path}.outlierDetection"), outlier, found);
    }
}

fn check_block(path: &str, outlier: &OutlierDetection, found: &mut Findings) {
    if outlier.consecutive_errors.is_some() {
        found.deprecated(
            format!("{path}.consecutiveErrors"),
            "consecutiveErrors is deprecated; it acts as consecutive5xxErrors here",
            "write consecutive5xxErrors",
        );
    }
    found.duration(&format!("{path}.interval"), outlier.interval.as_ref());
    found.duration(&format!("{path}.baseEjectionTime"), outlier.base_ejection_time.as_ref());
    let percents =
        [("maxEjectionPercent", outlier.max_ejection_percent), ("minHealthPercent", outlier.min_health_percent)];
    for (name, value) in percents.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
        if !(0..=100).contains(&value) {
            found.error(format!("{path}.{name}"), format!("{value} is not within 0 to 100"));
        }
    }
    let is_split = outlier.split_external_local_origin_errors.unwrap_or(false);
    if outlier.consecutive_local_origin_failures.unwrap_or(0) > 0 && !is_split {
        let message = "local failures are not counted apart; set splitExternalLocalOriginErrors too";
        found.error(format!("{path}.consecutiveLocalOriginFailures"), message);
    }
}
