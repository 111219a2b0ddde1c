//! `outlierDetection`, and its alias `circuitBreaker`, lowered (DR50 to DR58).
//!
//! In: the block as it was written. Out: when hosts are ejected, with Istio's defaults filled in. Makes no clusters.

use api::OutlierDetection;
use config::Outlier;

use crate::notes::Notes;
use crate::timeout;

/// The block, lowered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Detection {
    /// When hosts are ejected.
    pub(crate) outlier: Outlier,
    /// `minHealthPercent`: with fewer usable hosts all are used, and pods that are not ready are not sent at all (DR57).
    pub(crate) min_health_percent: u32,
}

/// Lowers the block; what cannot be used is reported and counts as not said.
pub(crate) fn lower(written: &OutlierDetection, field: &str, notes: &mut Notes) -> Detection {
    let OutlierDetection {
        consecutive_errors: _,
        split_external_local_origin_errors,
        consecutive_local_origin_failures,
        consecutive_gateway_errors,
        consecutive5xx_errors: _,
        interval,
        base_ejection_time,
        max_ejection_percent,
        min_health_percent,
        outlier_detection_http_error_codes,
    } = written;
    let default = Outlier::default();
    let splits = split_external_local_origin_errors.unwrap_or(false);
    if consecutive_local_origin_failures.is_some_and(|count| count > 0) && !splits {
        notes.ignored(
            format!("{field}.consecutiveLocalOriginFailures"),
            "it counts only with splitExternalLocalOriginErrors: true",
        );
    }
    let mut error_codes = Vec::new();
    for (index, code) in outlier_detection_http_error_codes.iter().enumerate() {
        match u16::try_from(*code).ok().filter(|code| (100..600).contains(code)) {
            Some(code) => error_codes.push(code),
            None => notes.ignored(
                format!("{field}.outlierDetectionHttpErrorCodes[{index}]"),
                format!("{code} is not a status code between 100 and 599"),
            ),
        }
    }
    error_codes.sort_unstable();
    error_codes.dedup();
    let outlier = Outlier {
        consecutive_5xx: written.errors_in_a_row().unwrap_or(default.consecutive_5xx),
        consecutive_gateway: consecutive_gateway_errors.unwrap_or(default.consecutive_gateway),
        // 0 is the default here too (DR54).
        consecutive_local: splits.then(|| consecutive_local_origin_failures.filter(|count| *count > 0).unwrap_or(5)),
        error_codes,
        interval: timeout::lower(interval.as_ref(), || format!("{field}.interval"), notes).unwrap_or(default.interval),
        base_ejection_time: timeout::lower(base_ejection_time.as_ref(), || format!("{field}.baseEjectionTime"), notes)
            .unwrap_or(default.base_ejection_time),
        max_ejection_percent: percent(*max_ejection_percent).unwrap_or(default.max_ejection_percent),
    };
    Detection { outlier, min_health_percent: percent(*min_health_percent).unwrap_or(0) }
}

/// Zero is "not said" (DR53); what is above 100 is all.
fn percent(written: Option<i32>) -> Option<u32> {
    written
        .and_then(|percent| u32::try_from(percent).ok())
        .filter(|percent| *percent > 0)
        .map(|percent| percent.min(100))
}
