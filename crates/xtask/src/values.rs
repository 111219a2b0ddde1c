//! The table of the chart's values in docs/values.md, from its schema and its defaults.
//!
//! In: deploy/helm/sluice/values.schema.json and values.yaml. Out: a row for each value. One without a description or
//! without a default is an error, so no value is undocumented.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

const PAGE: &str = "docs/values.md";
const CHART: &str = "deploy/helm/sluice";
/// How deep values are nested; a schema that refers to itself ends here.
const DEPTH_MAX: usize = 8;
const TITLE: &str = "\
<!-- Generated from deploy/helm/sluice/values.schema.json and values.yaml by `make gen`; edit those. -->
# Values of the chart

A value that is not in this table is refused. Entries of `gateways` have the values of `gatewayDefaults`.

| value | default | meaning |
| --- | --- | --- |
";

/// The page with its path.
pub fn page(root: &Path) -> Result<(PathBuf, String)> {
    let read = |name: &str| {
        let path = root.join(CHART).join(name);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let schema: Value = serde_json::from_str(&read("values.schema.json")?).context("values.schema.json")?;
    let defaults: Value = serde_saphyr::from_str(&read("values.yaml")?).context("values.yaml")?;
    let mut text = TITLE.to_owned();
    rows(&schema, &schema, &defaults, "", 0, &mut text)?;
    Ok((PathBuf::from(PAGE), text))
}

fn rows(root: &Value, schema: &Value, default: &Value, path: &str, depth: usize, text: &mut String) -> Result<()> {
    if depth > DEPTH_MAX {
        bail!("{path}: nested too deep");
    }
    let schema = match schema["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).with_context(|| format!("{path}: no {pointer} in the schema"))?,
        None => schema,
    };
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields.iter().filter(|(name, _)| *name != "global") {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            rows(root, field, &default[name.as_str()], &path, depth + 1, text)?;
        }
        return Ok(());
    }
    let about = schema["description"].as_str().with_context(|| format!("{path} has no description"))?;
    if default.is_null() {
        bail!("{path} has no default in values.yaml");
    }
    let choices = schema["enum"].as_array().map(|all| all.iter().map(Value::to_string).collect::<Vec<_>>().join(", "));
    let choices = choices.map_or(String::new(), |all| format!(" One of {all}."));
    let about = format!("{about}{choices}").replace('|', "\\|");
    *text += &format!("| `{path}` | `{default}` | {about} |\n");
    Ok(())
}
