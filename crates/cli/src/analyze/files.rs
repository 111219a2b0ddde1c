//! The files of the command line: files as they are named, the YAML files of folders, and `-`.

use std::io::Read;
use std::path::{Path, PathBuf};

use analyze::Inputs;
use anyhow::Context;
use words::Diagnostic;

use crate::run::Usage;

/// How deep folders are followed; a link in a circle ends here.
const DEPTH_MAX: usize = 32;
/// Endings of the files that a folder is read for.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads all of them. What is no object comes back.
pub(super) fn read(
    paths: &[&str],
    recursive: bool,
    default_namespace: &str,
    inputs: &mut Inputs,
) -> anyhow::Result<Vec<Diagnostic>> {
    let mut unreadable = Vec::new();
    for path in paths {
        for (name, text) in texts(path, recursive)? {
            for mut document in api::inspect_yaml_in(text.trim_start_matches('\u{feff}'), &name, default_namespace) {
                match document.is_object {
                    true => inputs.add_document(document, default_namespace),
                    false => unreadable.append(&mut document.findings),
                }
            }
        }
    }
    Ok(unreadable)
}

fn texts(path: &str, recursive: bool) -> anyhow::Result<Vec<(String, String)>> {
    if path == "-" {
        return Ok(vec![("-".to_owned(), bounded(std::io::stdin(), "standard input")?)]);
    }
    let meta = std::fs::metadata(path).map_err(|error| Usage(format!("{path}: {error}")))?;
    let files = if meta.is_dir() { folder(Path::new(path), recursive, 0)? } else { vec![PathBuf::from(path)] };
    let read = |file: PathBuf| {
        let name = file.display().to_string();
        let opened = std::fs::File::open(&file).with_context(|| format!("read {name}"))?;
        Ok((name.clone(), bounded(opened, &name)?))
    };
    files.into_iter().map(read).collect()
}

fn bounded(source: impl Read, name: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    // One byte more than is read, so that the reader sees that it is too long.
    source
        .take(api::parse::FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("read {name}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn folder(path: &Path, recursive: bool, depth: usize) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))?;
    let mut entries = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<PathBuf>>>()?;
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        let has_ending =
            entry.extension().is_some_and(|ending| ENDINGS.iter().any(|one| ending.eq_ignore_ascii_case(one)));
        if entry.is_dir() {
            if recursive && depth < DEPTH_MAX {
                files.extend(folder(&entry, recursive, depth + 1)?);
            }
        } else if has_ending {
            files.push(entry);
        }
    }
    Ok(files)
}
