//! What a rule does to requests and answers besides choosing where they go, compiled once when its table is indexed.

use config::{Action, ClusterChoice, Route, Weighted};

use crate::cors::Cors;
use crate::header_changes::Changes;
use crate::rewrite::PathChange;

/// Of a rule.
#[derive(Debug, Default)]
pub struct Actions {
    /// A new path.
    pub path: Option<PathChange>,
    /// A new authority.
    pub authority: Option<String>,
    /// Header changes.
    pub headers: Option<Changes>,
    /// Cross-origin rules.
    pub cors: Option<Cors>,
}

/// Of one of several clusters of a rule; done before the rule's own.
#[derive(Debug)]
pub struct ClusterActions {
    /// A new authority; the rule's own wins.
    pub authority: Option<String>,
    /// Header changes.
    pub headers: Option<Changes>,
}

impl Actions {
    /// `None` when the rule does nothing besides choosing, as most do.
    pub(crate) fn new(route: &Route) -> Result<Option<Box<Self>>, String> {
        let rewrite = match &route.action {
            Action::Forward(forward) => forward.rewrite.as_deref(),
            Action::Respond(_) | Action::Redirect(_) => None,
        };
        // Measured with Envoy 1.40: its filter looks at routes that lead to a cluster only.
        let cors = route.cors.as_deref().filter(|_| matches!(route.action, Action::Forward(_)));
        if rewrite.is_none() && route.headers.is_none() && cors.is_none() {
            return Ok(None);
        }
        let path = rewrite.and_then(|rewrite| rewrite.path.as_ref());
        Ok(Some(Box::new(Self {
            path: path.map(|path| PathChange::new(path, &route.matches.path)).transpose()?,
            authority: rewrite.and_then(|rewrite| rewrite.authority.clone()),
            headers: route.headers.as_deref().map(Changes::new).transpose()?,
            cors: cors.map(Cors::new).transpose()?,
        })))
    }
}

impl ClusterActions {
    /// By the place of the cluster in the choice; empty when none of them does anything.
    pub(crate) fn of(choice: &ClusterChoice) -> Result<Box<[Option<Self>]>, String> {
        let ClusterChoice::Weighted(many) = choice else { return Ok(Box::default()) };
        let acts = |one: &Weighted| one.headers.is_some() || one.authority.is_some();
        if !many.iter().any(acts) {
            return Ok(Box::default());
        }
        let one = |one: &Weighted| {
            let headers = one.headers.as_deref().map(Changes::new).transpose()?;
            Ok(acts(one).then(|| Self { authority: one.authority.clone(), headers }))
        };
        many.iter().map(one).collect()
    }
}
