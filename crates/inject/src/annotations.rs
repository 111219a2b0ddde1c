//! Labels and annotations of a pod: Istio's names, and values that are checked before they are used.

use serde_json::Value;
use words::Labels;
use words::lists::{Ports, Ranges};

/// Whether a pod is injected; the label beats the annotation.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// What was injected.
pub const STATUS: &str = "sidecar.istio.io/status";

/// Annotations of a pod; values that are no text are passed over.
pub(crate) fn of(pod: &Value) -> Labels {
    map(&pod["metadata"]["annotations"])
}

/// Labels of a pod.
pub(crate) fn labels_of(pod: &Value) -> Labels {
    map(&pod["metadata"]["labels"])
}

fn map(value: &Value) -> Labels {
    let fields = value.as_object().into_iter().flatten();
    fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// An annotation that is there, with its full name for messages.
pub(crate) fn named<'a>(annotations: &'a Labels, name: &str) -> Option<&'a str> {
    annotations.get(name).map(|value| value.trim())
}

/// `true` or `false`, as Go reads them.
pub(crate) fn flag(annotations: &Labels, name: &str) -> Result<Option<bool>, String> {
    match named(annotations, name) {
        None => Ok(None),
        Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(Some(true)),
        Some("false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(Some(false)),
        Some(other) => Err(format!("annotation {name}: {other:?} is neither true nor false")),
    }
}

/// A quantity such as `100m` or `1.5Gi`.
pub(crate) fn quantity<'a>(annotations: &'a Labels, name: &str) -> Result<Option<&'a str>, String> {
    let Some(value) = named(annotations, name) else { return Ok(None) };
    match millis(value) {
        Some(_) => Ok(Some(value)),
        None => Err(format!("annotation {name}: {}", no_quantity(value))),
    }
}

/// What is said of something that is no quantity.
pub(crate) fn no_quantity(text: &str) -> String {
    format!("{text:?} is no quantity, such as 100m or 128Mi")
}

/// A quantity in thousandths; `None` when it is none.
pub(crate) fn millis(quantity: &str) -> Option<u128> {
    const SUFFIXES: [(&str, f64); 14] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    let found = SUFFIXES.iter().find_map(|(suffix, factor)| Some((quantity.strip_suffix(suffix)?, *factor)));
    let (digits, factor) = found.unwrap_or((quantity, 1.0));
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = digits.parse().ok().filter(|_| is_number)?;
    Some((number * factor * 1000.0).ceil() as u128)
}

/// A level, in our words for Envoy's.
pub(crate) fn level(text: &str) -> Result<String, String> {
    let ours = match text {
        "trace" | "debug" | "info" | "error" | "off" => text,
        "warning" | "warn" => "warn",
        "critical" => "error",
        // A filter by module, as `info,proxy=debug`.
        other if other.contains(['=', ',']) => other,
        other => return Err(format!("{other:?} is no level, such as info or debug")),
    };
    Ok(ours.to_owned())
}

/// Ports separated by commas; `*` where that means all.
pub(crate) fn ports(text: &str, may_be_all: bool) -> Result<String, String> {
    match text.parse()? {
        Ports::All if !may_be_all => Err("\"*\" is no port".to_owned()),
        read => Ok(read.to_string()),
    }
}

/// Address ranges separated by commas; `*` where that means all.
pub(crate) fn ranges(text: &str, may_be_all: bool) -> Result<String, String> {
    match text.parse()? {
        Ranges::All if !may_be_all => Err("\"*\" is no address range such as 10.0.0.0/8".to_owned()),
        read => Ok(read.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        assert_eq!(millis("2000m"), Some(2000));
        assert_eq!(millis("1.5"), Some(1500));
        assert_eq!(millis("1Ki"), Some(1_024_000));
        for bad in ["", "m", "-1", "1e", "1 Gi", "inf", "one"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn all_is_said_only_where_it_may_be() {
        assert_eq!(ports("*", true), Ok("*".into()));
        assert_eq!(ports("*", false), Err("\"*\" is no port".into()));
        assert!(ranges("*", true).is_ok() && ranges("*", false).is_err());
    }
}
