//! What the Makefile calls: writing the generated files, and saying whether they are what the sources say.

pub mod features;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// First line of every generated file.
const NOTE: &str = "# Generated from crates/api by `make gen`; edit the types there.\n";

/// The repository's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Every generated file with its text.
pub fn generated() -> Result<Vec<(PathBuf, String)>> {
    let write = |definition: api::crd::Definition| {
        let text = serde_saphyr::to_string(&definition.value).with_context(|| definition.file.clone())?;
        Ok((Path::new("crds").join(definition.file), format!("{NOTE}{text}")))
    };
    let mut files: Vec<_> = api::crd::all().into_iter().map(write).collect::<Result<_>>()?;
    files.push(features::page(&root())?);
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
        assert_eq!(
            generated.len(),
            10,
            "a definition for each of Istio's networking kinds, for Telemetry and for our own, and a table"
        );
        for (path, text) in generated {
            let there = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
            assert!(there == text, "{} is stale: run `make gen`", path.display());
        }
    }

    #[test]
    fn every_row_is_shown_or_says_why_not() {
        assert_eq!(features::red(&root()).unwrap(), Vec::<String>::new());
    }
}
