//! Labels that select, and labels in JSON.

use serde_json::Value;
use words::Labels;

/// True when the labels hold all of the selector's; an empty one selects nothing here.
pub(crate) fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && words::labels_select(selector, labels)
}

/// A mapping of texts; what is none is left out.
pub(crate) fn labels(value: &Value) -> Labels {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// `a=b, c=d`.
pub(crate) fn describe(selector: &Labels) -> String {
    let pairs: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(", ")
}
