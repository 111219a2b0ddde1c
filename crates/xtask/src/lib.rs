//! What the Makefile calls: writing the generated files, and saying whether they are what the sources say.

pub mod features;
pub mod values;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// First line of every generated file.
const NOTE: &str = "# Generated from crates/api by `make gen`; edit the types there.\n";

/// Where definitions are: for kubectl, and in the chart.
const DEFINITIONS: [&str; 2] = ["crds", "deploy/helm/sluice/files/crds"];

/// The repository's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Every generated file with its text.
pub fn generated() -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for definition in api::crd::all() {
        let text = serde_saphyr::to_string(&definition.value).with_context(|| definition.file.clone())?;
        for folder in DEFINITIONS {
            files.push((Path::new(folder).join(&definition.file), format!("{NOTE}{text}")));
        }
    }
    files.push(features::page(&root())?);
    files.push(values::page(&root())?);
    Ok(files)
}

/// Writes every generated file below `root`.
pub fn write(root: &Path) -> Result<()> {
    for (path, text) in generated()? {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(root))?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_are_fresh() {
        let generated = generated().unwrap();
        assert_eq!(generated.len(), 2 * api::crd::all().len() + 2, "each definition in two places, and two tables");
        for (path, text) in generated {
            let there = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
            assert!(there == text, "{} is stale: run `make gen`", path.display());
        }
    }

    #[test]
    fn the_chart_has_the_version_of_the_programs() {
        let chart = std::fs::read_to_string(root().join("deploy/helm/sluice/Chart.yaml")).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        for line in [format!("version: {version}"), format!("appVersion: {version}")] {
            assert!(chart.lines().any(|there| there == line), "Chart.yaml has no line {line:?}");
        }
    }

    #[test]
    fn every_row_is_shown_or_says_why_not() {
        assert_eq!(features::red(&root()).unwrap(), Vec::<String>::new());
    }
}
