//! New paths and authorities (VS45 to VS47, TR49).
//!
//! In: `rewrite` as written, and the authority that the rule's headers ask for. Out: a [`Rewrite`], or why the rule
//! cannot be served.

use api::http_actions::{HttpRewrite, RegexRewrite};
use config::rewrite::substitution;
use config::{PathRewrite, Rewrite};

use crate::matches;
use crate::notes::LeftOut;
use crate::text;

/// Lowers `rewrite`; `field` is the rule's path. A rewritten authority beats a changed Host header.
pub(crate) fn lower(rewrite: Option<&HttpRewrite>, host: Option<String>, field: &str) -> Result<Rewrite, LeftOut> {
    let Some(HttpRewrite { uri, authority, uri_regex_rewrite }) = rewrite else {
        return Ok(Rewrite { path: None, authority: host });
    };
    let field = format!("{field}.rewrite");
    let path = match uri_regex_rewrite {
        Some(rewrite) => Some(regex(rewrite, &format!("{field}.uriRegexRewrite"))?),
        None => uri.clone().filter(|uri| !uri.is_empty()).map(PathRewrite::Matched),
    };
    if let Some(PathRewrite::Matched(path)) = &path
        && !text::is_line(path)
    {
        return Err(LeftOut::because(format!("{field}.uri"), format!("{path:?} is not a path")));
    }
    let authority = authority.clone().filter(|authority| !authority.is_empty());
    if let Some(authority) = authority.as_ref().filter(|authority| !text::is_line(authority)) {
        return Err(LeftOut::because(format!("{field}.authority"), format!("{authority:?} is not an authority")));
    }
    Ok(Rewrite { path, authority: authority.or(host) })
}

fn regex(rewrite: &RegexRewrite, field: &str) -> Result<PathRewrite, LeftOut> {
    let RegexRewrite { r#match, rewrite } = rewrite;
    let pattern = r#match.clone().unwrap_or_default();
    if pattern.is_empty() {
        return Err(LeftOut::because(format!("{field}.match"), "a regex is missing"));
    }
    let pattern = matches::checked(&pattern, &format!("{field}.match"))?;
    let written = rewrite.clone().unwrap_or_default();
    if !text::is_line(&written) {
        return Err(LeftOut::because(format!("{field}.rewrite"), format!("{written:?} is not a path")));
    }
    substitution(&written).map_err(|reason| LeftOut::because(format!("{field}.rewrite"), reason))?;
    Ok(PathRewrite::Regex { pattern, substitution: written })
}
