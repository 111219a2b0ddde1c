//! Which workload a pod belongs to, and how the mesh calls it.

use serde_json::Value;

use crate::annotations::labels_of;

/// Longest value of a label.
const LABEL_BYTES_MAX: usize = 63;

/// The name of the workload that made this pod: of the Deployment behind its ReplicaSet, of the CronJob behind its Job.
pub(crate) fn name(pod: &Value) -> String {
    let metadata = &pod["metadata"];
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    let owner = owners.into_iter().find(|owner| owner["controller"] == true);
    let Some(owner) = owner else {
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        let name = text("name");
        return if name.is_empty() { text("generateName").trim_end_matches('-').to_owned() } else { name.to_owned() };
    };
    let name = owner["name"].as_str().unwrap_or_default();
    match owner["kind"].as_str().unwrap_or_default() {
        "ReplicaSet" => {
            let labels = labels_of(pod);
            let hash = labels.get("pod-template-hash").filter(|hash| !hash.is_empty());
            let stem = hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            stem.unwrap_or(name).to_owned()
        }
        "Job" => scheduled(name).unwrap_or(name).to_owned(),
        _ => name.to_owned(),
    }
}

// A CronJob's Jobs end with the minute they were due, in 8 to 10 digits.
fn scheduled(job: &str) -> Option<&str> {
    let (stem, minute) = job.rsplit_once('-')?;
    let is_minute = (8..=10).contains(&minute.len()) && minute.bytes().all(|byte| byte.is_ascii_digit());
    (is_minute && !stem.is_empty()).then_some(stem)
}

/// The canonical name and revision: `service.istio.io/…`, Kubernetes' recommended labels, `app` and `version`.
pub(crate) fn canonical(pod: &Value, workload: &str) -> (String, String) {
    let labels = labels_of(pod);
    let first =
        |names: [&str; 3]| names.iter().find_map(|name| labels.get(*name).filter(|value| !value.is_empty())).cloned();
    let name = first(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let revision = first(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    (as_label(&name.unwrap_or_else(|| workload.to_owned())), revision.unwrap_or_else(|| "latest".to_owned()))
}

fn as_label(text: &str) -> String {
    let short: String = text.chars().take(LABEL_BYTES_MAX).collect();
    short.trim_end_matches(|last: char| !last.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owned(kind: &str, name: &str) -> Value {
        json!({"metadata": {"labels": {"pod-template-hash": "7c9d"}, "ownerReferences": [{"kind": kind, "name": name, "controller": true}]}})
    }

    #[test]
    fn workloads_are_named_by_who_made_them() {
        for (kind, owner, expected) in [
            ("ReplicaSet", "reviews-v1-7c9d", "reviews-v1"),
            ("ReplicaSet", "alone", "alone"),
            ("Job", "backup-28000000", "backup"),
            ("Job", "once", "once"),
            ("Job", "v-12", "v-12"),
            ("StatefulSet", "db", "db"),
        ] {
            assert_eq!(name(&owned(kind, owner)), expected, "{kind} {owner}");
        }
        assert_eq!(name(&json!({"metadata": {"generateName": "reviews-"}})), "reviews");
        assert_eq!(name(&json!({"metadata": {"name": "one"}})), "one");
    }

    #[test]
    fn canonical_names_fit_into_a_label() {
        let long = "a".repeat(62) + "-bcd";
        assert_eq!(canonical(&json!({}), &long), ("a".repeat(62), "latest".into()));
        let labels =
            json!({"metadata": {"labels": {"app": "reviews", "version": "v2", "app.kubernetes.io/name": "r"}}});
        assert_eq!(canonical(&labels, "w"), ("r".into(), "v2".into()));
    }
}
