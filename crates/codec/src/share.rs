//! Shares of requests (Envoy `FractionalPercent`).

use config::Share;
use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};

use crate::common::Reason;

pub(crate) fn encode(share: Share) -> FractionalPercent {
    FractionalPercent { numerator: share.count(), denominator: DenominatorType::Million as i32 }
}

pub(crate) fn encode_runtime(share: Share) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent { default_value: Some(encode(share)), ..Default::default() }
}

/// Absent is none.
pub(crate) fn decode(percent: Option<&FractionalPercent>) -> Result<Share, Reason> {
    let Some(percent) = percent else { return Ok(Share::NONE) };
    let times = match DenominatorType::try_from(percent.denominator) {
        Ok(DenominatorType::Hundred) => 10_000,
        Ok(DenominatorType::TenThousand) => 100,
        Ok(DenominatorType::Million) => 1,
        Err(_) => return Err(format!("denominator {} is not known", percent.denominator)),
    };
    Ok(Share::per_million(percent.numerator.saturating_mul(times)))
}
