//! Findings as text: istioctl's lines, or its JSON and YAML.

use anyhow::Result;
use serde_json::{Value, json};
use words::{Diagnostic, Severity};

use crate::args::Report;

/// Istio explains each of its codes there.
const PAGES: &str = "https://istio.io/latest/docs/reference/config/analysis";

/// Findings in the form asked for.
pub(super) fn render(form: Report, found: &[&Diagnostic], is_coloured: bool) -> Result<String> {
    let values = || found.iter().map(|one| value(one)).collect::<Vec<Value>>();
    Ok(match form {
        Report::Log => found.iter().map(|one| line(one, is_coloured)).collect(),
        Report::Json => format!("{}\n", serde_json::to_string_pretty(&values())?),
        Report::Yaml => serde_saphyr::to_string(&values())?,
    })
}

// `Error [IST0101] (VirtualService default/reviews reviews.yaml:12:5) text`
fn line(found: &Diagnostic, is_coloured: bool) -> String {
    let text = found.to_string();
    let level = found.severity.to_string();
    match (is_coloured, text.strip_prefix(&level)) {
        (true, Some(rest)) => format!("\u{1b}[{}m{level}\u{1b}[0m{rest}\n", colour(found.severity)),
        _ => format!("{text}\n"),
    }
}

fn colour(severity: Severity) -> u8 {
    match severity {
        Severity::Error => 31,
        Severity::Warning => 33,
        Severity::Info => 32,
    }
}

fn value(found: &Diagnostic) -> Value {
    let mut value = json!({
        "code": found.code,
        "level": found.severity.to_string(),
        "message": found.message,
    });
    if found.code.starts_with("IST") {
        value["documentationUrl"] = format!("{PAGES}/{}/", found.code.to_ascii_lowercase()).into();
    }
    if let Some(object) = &found.object {
        value["origin"] = object.to_string().into();
    }
    if let Some(location) = &found.location {
        value["reference"] = location.to_string().into();
    }
    if !found.field.is_empty() {
        value["field"] = found.field.clone().into();
    }
    if let Some(fix) = &found.fix {
        value["fix"] = fix.clone().into();
    }
    value
}
