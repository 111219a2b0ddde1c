//! Changes of path and authority (Envoy `RouteAction.prefix_rewrite`, `regex_rewrite`, `host_rewrite_literal`).

use config::{PathRewrite, Rewrite};
use envoy_types::pb::envoy::config::route::v3::RouteAction;
use envoy_types::pb::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};

use crate::common::Reason;

/// Writes a rewrite into an action.
pub(crate) fn encode(rewrite: Option<&Rewrite>, action: &mut RouteAction) {
    let Some(Rewrite { path, authority }) = rewrite else { return };
    match path {
        None => {}
        Some(PathRewrite::Matched(text)) => action.prefix_rewrite.clone_from(text),
        Some(PathRewrite::Regex { pattern, substitution }) => {
            let pattern = RegexMatcher { regex: pattern.clone(), ..Default::default() };
            action.regex_rewrite =
                Some(RegexMatchAndSubstitute { pattern: Some(pattern), substitution: substitution.clone() });
        }
    }
    action.host_rewrite_specifier = authority.clone().map(HostRewriteSpecifier::HostRewriteLiteral);
}

pub(crate) fn decode(action: &RouteAction, notes: &mut Vec<String>) -> Result<Option<Box<Rewrite>>, Reason> {
    let path = match &action.regex_rewrite {
        Some(RegexMatchAndSubstitute { pattern, substitution }) => {
            let pattern = pattern.as_ref().ok_or("regex_rewrite: no pattern")?.regex.clone();
            Some(PathRewrite::Regex { pattern, substitution: substitution.clone() })
        }
        None => (!action.prefix_rewrite.is_empty()).then(|| PathRewrite::Matched(action.prefix_rewrite.clone())),
    };
    if action.path_rewrite_policy.is_some() {
        notes.push("path_rewrite_policy is not obeyed here".into());
    }
    let authority = match &action.host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(name)) => Some(name.clone()),
        Some(_) => {
            notes.push("only host_rewrite_literal is obeyed here".into());
            None
        }
        None => None,
    };
    Ok(Rewrite { path, authority }.into_option())
}
