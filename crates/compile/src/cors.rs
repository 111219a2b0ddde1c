//! Cross-origin rules (VS110 to VS114).

use api::StringMatch;
use api::http_actions::{CorsPolicy, UnmatchedPreflights};
use config::ValueMatch;

use crate::notes::{LeftOut, Notes};
use crate::{matches, text, timeout};

/// Lowers `corsPolicy`; `field` is the rule's path.
pub(crate) fn lower(
    written: Option<&CorsPolicy>,
    field: &str,
    notes: &mut Notes,
) -> Result<Option<Box<config::CorsPolicy>>, LeftOut> {
    let Some(written) = written else { return Ok(None) };
    let CorsPolicy {
        allow_origin,
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        unmatched_preflights,
    } = written;
    let field = format!("{field}.corsPolicy");
    let origins = match allow_origins.is_empty() {
        true => allow_origin.iter().cloned().map(ValueMatch::Exact).collect(),
        false => allow_origins
            .iter()
            .enumerate()
            .map(|(index, origin)| self::origin(origin, &format!("{field}.allowOrigins[{index}]")))
            .collect::<Result<_, _>>()?,
    };
    let mut list = |written: &[String], leaf: &str| {
        let joined = written.join(",");
        if !text::is_line(&joined) {
            notes.ignored(format!("{field}.{leaf}"), format!("{joined:?} is not a header's value"));
            return String::new();
        }
        joined
    };
    Ok(Some(Box::new(config::CorsPolicy {
        allow_origins: origins,
        allow_methods: list(allow_methods, "allowMethods"),
        allow_headers: list(allow_headers, "allowHeaders"),
        expose_headers: list(expose_headers, "exposeHeaders"),
        // Whole seconds (VS112).
        max_age: timeout::lower(max_age.as_ref(), || format!("{field}.maxAge"), notes)
            .map(|age| age.as_secs().to_string())
            .unwrap_or_default(),
        allow_credentials: allow_credentials.unwrap_or(false),
        forward_unmatched: *unmatched_preflights != Some(UnmatchedPreflights::Ignore),
    })))
}

// A condition that says nothing allows every origin; an exact `*` is how Envoy is told so.
fn origin(condition: &StringMatch, field: &str) -> Result<ValueMatch, LeftOut> {
    Ok(match matches::value(condition, field)? {
        ValueMatch::Present => ValueMatch::Exact("*".into()),
        other => other,
    })
}
