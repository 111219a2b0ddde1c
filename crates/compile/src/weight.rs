//! Destinations of a rule and their shares (VS30 to VS33, TR46).
//!
//! In: the list as written. Out: complete hosts with usable weights, or why the rule cannot be served.

use api::HttpRouteDestination;
use words::host;

use crate::header_changes;
use crate::intent::Destination;
use crate::notes::{LeftOut, Notes};

/// Lowers `route`; `field` is the rule's path, `spec.http[0]`.
pub(crate) fn lower(
    route: &[HttpRouteDestination],
    field: &str,
    (namespace, domain): (&str, &str),
    notes: &mut Notes,
) -> Result<Vec<Destination>, LeftOut> {
    let mut destinations = Vec::with_capacity(route.len());
    let mut sum: u64 = 0;
    for (index, one) in route.iter().enumerate() {
        let at = format!("{field}.route[{index}]");
        let HttpRouteDestination { destination, weight, headers } = one;
        let headers = header_changes::lower(headers.as_ref(), &format!("{at}.headers"), notes);
        let weight = u32::try_from(weight.unwrap_or(0))
            .map_err(|_| LeftOut::because(format!("{at}.weight"), format!("{} is below 0", weight.unwrap_or(0))))?;
        // With one destination its weight does not matter, not even a 0 (TR46).
        if route.len() > 1 && weight == 0 {
            continue;
        }
        sum += u64::from(weight);
        let written = destination.as_ref().filter(|destination| !destination.host.is_empty());
        let Some(written) = written else {
            return Err(LeftOut::because(format!("{at}.destination.host"), "a host is missing"));
        };
        destinations.push(Destination {
            host: host::resolve_short(&written.host, namespace, domain).into(),
            subset: written.subset.clone().unwrap_or_default(),
            port: port(written, &format!("{at}.destination"))?,
            weight,
            index,
            headers,
        });
    }
    if destinations.is_empty() {
        return Err(LeftOut::because(format!("{field}.route"), "all weights are 0"));
    }
    if sum > u64::from(u32::MAX) {
        return Err(LeftOut::because(
            format!("{field}.route"),
            format!("the weights add up to {sum}, more than {}", u32::MAX),
        ));
    }
    Ok(destinations)
}

/// The port of a destination, whose path is `at`; `None`: by VS32.
pub(crate) fn port(destination: &api::Destination, at: &str) -> Result<Option<u16>, LeftOut> {
    let Some(number) = destination.port.as_ref().and_then(|port| port.number).filter(|number| *number != 0) else {
        return Ok(None);
    };
    u16::try_from(number)
        .map(Some)
        .map_err(|_| LeftOut::because(format!("{at}.port.number"), format!("{number} is not a port")))
}
