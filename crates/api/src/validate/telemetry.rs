//! Telemetry by itself (V-108).

use super::{Findings, selector};
use crate::telemetry::{
    AccessLogging, CustomTag, Metrics, ProviderRef, TagOperation, TagOverride, TagSource, TagValue, TelemetrySpec,
    Tracing,
};

pub(super) fn check(spec: &TelemetrySpec, found: &mut Findings) {
    let TelemetrySpec { selector, target_ref, target_refs, tracing, metrics, access_logging } = spec;
    let set = [
        ("selector", selector.is_some()),
        ("targetRef", target_ref.is_some()),
        ("targetRefs", !target_refs.is_empty()),
    ];
    found.at_most_one("spec", &set);
    let labels = selector.as_ref().map(|selector| &selector.match_labels);
    selector::check("spec.selector.matchLabels", labels, "the whole namespace", found);
    check_targets(spec, found);
    if tracing.len() > 1 {
        found.warn("spec.tracing", "more than one block of tracing; only the first of each side counts");
    }
    for (index, one) in tracing.iter().enumerate() {
        check_tracing(&format!("spec.tracing[{index}]"), one, found);
    }
    for (index, one) in metrics.iter().enumerate() {
        check_metrics(&format!("spec.metrics[{index}]"), one, found);
    }
    for (index, AccessLogging { providers, .. }) in access_logging.iter().enumerate() {
        check_providers(&format!("spec.accessLogging[{index}].providers"), providers, found);
    }
}

fn check_targets(spec: &TelemetrySpec, found: &mut Findings) {
    let single = spec.target_ref.iter().map(|target| ("spec.targetRef".to_owned(), target));
    let several = spec.target_refs.iter().enumerate();
    let several = several.map(|(index, target)| (format!("spec.targetRefs[{index}]"), target));
    for (field, target) in single.chain(several) {
        if target.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty()) {
            found.error(format!("{field}.namespace"), "a target of another namespace is not supported");
        }
    }
}

fn check_providers(path: &str, providers: &[ProviderRef], found: &mut Findings) {
    for (index, provider) in providers.iter().enumerate() {
        if provider.name.as_deref().unwrap_or_default().is_empty() {
            found.error(format!("{path}[{index}].name"), "a provider has a name");
        }
    }
}

fn check_tracing(path: &str, tracing: &Tracing, found: &mut Findings) {
    if tracing.providers.len() > 1 {
        found.warn(format!("{path}.providers"), "more than one provider of tracing; only the first counts");
    }
    check_providers(&format!("{path}.providers"), &tracing.providers, found);
    if let Some(percent) = tracing.random_sampling_percentage
        && !(0.0..=100.0).contains(&percent)
    {
        found.error(format!("{path}.randomSamplingPercentage"), format!("{percent} is not within 0 to 100"));
    }
    for (name, tag) in &tracing.custom_tags {
        check_tag(&format!("{path}.customTags.{name}"), name, tag, found);
    }
}

fn check_tag(field: &str, name: &str, tag: &CustomTag, found: &mut Findings) {
    let CustomTag { literal, environment, header, formatter } = tag;
    if name.is_empty() {
        found.error(field, "a custom tag has a name");
    }
    let lacks_text = |value: &TagValue| value.value.as_deref().unwrap_or_default().is_empty();
    let lacks_name = |source: &TagSource| source.name.as_deref().unwrap_or_default().is_empty();
    if literal.as_ref().is_some_and(lacks_text) || formatter.as_ref().is_some_and(lacks_text) {
        found.error(field, "the value is empty");
    }
    if environment.as_ref().is_some_and(lacks_name) || header.as_ref().is_some_and(lacks_name) {
        found.error(field, "the name is empty");
    }
    let kinds = [literal.is_some(), environment.is_some(), header.is_some(), formatter.is_some()];
    if kinds.iter().filter(|set| **set).count() != 1 {
        found.error(field, "exactly one of literal, environment, header and formatter is needed");
    }
}

fn check_metrics(path: &str, metrics: &Metrics, found: &mut Findings) {
    check_providers(&format!("{path}.providers"), &metrics.providers, found);
    found.duration(&format!("{path}.reportingInterval"), metrics.reporting_interval.as_ref());
    for (index, one) in metrics.overrides.iter().enumerate() {
        let field = format!("{path}.overrides[{index}]");
        if one.matches.as_ref().is_some_and(|metric| metric.custom_metric.as_deref() == Some("")) {
            found.error(format!("{field}.match.customMetric"), "the name is empty");
        }
        for (name, tag) in &one.tag_overrides {
            check_override(&format!("{field}.tagOverrides.{name}"), name, tag, found);
        }
    }
}

fn check_override(field: &str, name: &str, tag: &TagOverride, found: &mut Findings) {
    if name.is_empty() {
        found.warn(field, "a label without a name");
    }
    let value = tag.value.as_deref();
    match tag.operation.unwrap_or_default() {
        TagOperation::Upsert if value.unwrap_or_default().is_empty() => {
            found.error(format!("{field}.value"), "UPSERT needs a value");
        }
        TagOperation::Remove if value.is_some() => found.error(format!("{field}.value"), "REMOVE has no value"),
        _ => {}
    }
}
