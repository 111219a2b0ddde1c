//! Destinations and how a rule splits between them (V-35).

use super::Findings;
use crate::virtual_service::RouteDestination;
use crate::{Destination, HttpRouteDestination};

/// A destination and its weight, whatever rule it is of.
pub(super) struct Share<'a> {
    pub(super) destination: Option<&'a Destination>,
    pub(super) weight: Option<i32>,
}

impl<'a> From<&'a HttpRouteDestination> for Share<'a> {
    fn from(route: &'a HttpRouteDestination) -> Self {
        Self { destination: route.destination.as_ref(), weight: route.weight }
    }
}

impl<'a> From<&'a RouteDestination> for Share<'a> {
    fn from(route: &'a RouteDestination) -> Self {
        Self { destination: route.destination.as_ref(), weight: route.weight }
    }
}

pub(super) fn check_split<'a>(path: &str, shares: impl Iterator<Item = Share<'a>>, found: &mut Findings) {
    let (mut sum, mut count) = (0_i64, 0);
    for (index, Share { destination, weight }) in shares.enumerate() {
        check(&format!("{path}[{index}].destination"), destination, found);
        let weight = weight.unwrap_or(0);
        if weight < 0 {
            found.error(format!("{path}[{index}].weight"), format!("{weight} is negative"));
        }
        sum += i64::from(weight);
        count += 1;
    }
    if count > 1 && sum == 0 {
        found.error(path, "the weights of several destinations add up to 0");
    }
}

pub(super) fn check(path: &str, destination: Option<&Destination>, found: &mut Findings) {
    let Some(Destination { host, subset, port }) = destination else {
        return found.error(path, "a destination is required");
    };
    match host.as_str() {
        "" => found.error(format!("{path}.host"), "a destination without host"),
        "*" => found.error(format!("{path}.host"), "\"*\" is not a destination"),
        host => found.host(&format!("{path}.host"), host),
    }
    if let Some(reason) = subset.as_deref().filter(|subset| !subset.is_empty()).and_then(super::bad_label) {
        found.error(format!("{path}.subset"), format!("not a subset name: {reason}"));
    }
    if let Some(number) = port.as_ref().map(|port| port.number.unwrap_or(0)) {
        found.port(&format!("{path}.port.number"), number);
    }
}
