//! JSON and YAML instead of a table.

use anyhow::Result;
use serde_json::Value;

use crate::args::Form;

/// Values in the form asked for; `table` makes the table.
pub fn render(form: Form, values: &[&Value], table: impl FnOnce() -> String) -> Result<String> {
    Ok(match form {
        Form::Table => table(),
        Form::Json => format!("{}\n", serde_json::to_string_pretty(values)?),
        Form::Yaml => serde_saphyr::to_string(&values)?,
    })
}
