//! The same decision as a walk that says why: every rule in order, and what the request lacked.

use config::Route;

use crate::matcher::Miss;
use crate::{Head, Router};

/// One rule that was looked at.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The rule.
    pub route: &'a Route,
    /// The first condition that did not hold; `None` for the rule that was taken.
    pub miss: Option<Miss>,
}

/// The rules up to and including the one taken; empty when no virtual host has the domain.
pub fn explain<'a>(router: &'a Router, head: &Head<'_>) -> Vec<Step<'a>> {
    let Some(number) = router.host_number(head) else { return Vec::new() };
    let path = head.path_only();
    let mut steps = Vec::new();
    for (route, matcher) in router.table.virtual_hosts[number].routes.iter().zip(router.matchers(number)) {
        let miss = matcher.miss(head, path);
        let taken = miss.is_none();
        steps.push(Step { route, miss });
        if taken {
            break;
        }
    }
    steps
}
