//! The table of `docs/features.md`: every row of what Istio's networking kinds can say, with the tests that show it.
//!
//! In: `tests/features.tsv` (identifier, what it is, and where nothing runs, why), the `rule:` of every case, and the names of
//! test functions. Out: the text below the marker in `docs/features.md`. A row without a test or a reason is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The rows.
const ROWS: &str = "tests/features.tsv";
/// Where the table goes.
const PAGE: &str = "docs/features.md";
/// What stands above this line is written by hand.
const MARKER: &str = "<!-- below: `make gen`, from tests/features.tsv and the tests -->\n";

/// A row of the reference.
struct Row {
    id: String,
    what: String,
    /// Why no case runs: the reason, or `shown by <path>` for what a suite shows as a whole.
    note: Option<String>,
}

/// Tests by the identifier they prove.
type Witnesses = BTreeMap<String, BTreeSet<String>>;

/// The page's path and its text, the hand-written part as it is.
pub fn page(root: &Path) -> Result<(PathBuf, String)> {
    let there = std::fs::read_to_string(root.join(PAGE)).with_context(|| format!("read {PAGE}"))?;
    let Some((by_hand, _)) = there.split_once(MARKER) else { bail!("{PAGE} has no line {MARKER:?}") };
    Ok((PathBuf::from(PAGE), format!("{by_hand}{MARKER}\n{}", table(root)?)))
}

/// Rows that nothing shows and nothing excuses.
pub fn red(root: &Path) -> Result<Vec<String>> {
    let witnesses = witnesses(root)?;
    let rows = rows(root)?.into_iter();
    Ok(rows.filter(|row| row.note.is_none() && !witnesses.contains_key(&row.id)).map(|row| row.id).collect())
}

fn table(root: &Path) -> Result<String> {
    let witnesses = witnesses(root)?;
    let mut text = String::from("| row | what | shown by |\n| --- | --- | --- |\n");
    for row in rows(root)? {
        let shown = witnesses.get(&row.id).map(|tests| tests.iter().cloned().collect::<Vec<_>>().join(", "));
        let cell = match (shown, row.note) {
            (Some(shown), None) => shown,
            (Some(shown), Some(note)) => format!("{shown}; {note}"),
            (None, Some(note)) if note.starts_with("shown by ") => note.trim_start_matches("shown by ").to_owned(),
            (None, Some(note)) => format!("left out: {note}"),
            (None, None) => "**nothing**".to_owned(),
        };
        text.push_str(&format!("| {} | {} | {cell} |\n", row.id, row.what));
    }
    Ok(text)
}

fn rows(root: &Path) -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(root.join(ROWS)).with_context(|| format!("read {ROWS}"))?;
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut cells = line.split('\t');
        let (Some(id), Some(what), note) = (cells.next(), cells.next(), cells.next()) else {
            bail!("{ROWS}:{}: a row is an identifier, a tab, what it is", number + 1);
        };
        if let Some(path) = note.and_then(|note| note.strip_prefix("shown by ")).and_then(|note| note.split(' ').next())
            && !root.join(path).exists()
        {
            bail!("{ROWS}:{}: {path} does not exist", number + 1);
        }
        rows.push(Row { id: id.into(), what: what.into(), note: note.map(str::to_owned) });
    }
    Ok(rows)
}

fn witnesses(root: &Path) -> Result<Witnesses> {
    let mut found = Witnesses::new();
    let cases = root.join("tests/cases");
    for path in files(&cases, "yaml")? {
        let text = std::fs::read_to_string(&path)?;
        let name = path.strip_prefix(&cases).unwrap_or(&path).with_extension("");
        // The rule is the first value of a case; it ends where the next key begins.
        let rule = text.lines().take_while(|line| !line.starts_with("services:") && !line.starts_with("manifests:"));
        for id in rule.flat_map(identifiers) {
            found.entry(id).or_default().insert(format!("`{}`", name.display()));
        }
    }
    for folder in ["crates", "tests"] {
        for path in files(&root.join(folder), "rs")? {
            let text = std::fs::read_to_string(&path)?;
            for function in text.lines().filter_map(|line| line.trim_start().split_once("fn ").map(|(_, rest)| rest)) {
                let name: String = function.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                for id in identifiers(&name.to_uppercase()) {
                    found.entry(id).or_default().insert(format!("`{name}`"));
                }
            }
        }
    }
    Ok(found)
}

/// Words such as `VS41` or `S28` in a line.
fn identifiers(line: &str) -> impl Iterator<Item = String> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| is_identifier(word)).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn is_identifier(word: &str) -> bool {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let letters = word.len() - digits.len();
    (1..=2).contains(&letters) && (2..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|known| known == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_found_and_nothing_else() {
        let found: Vec<String> = identifiers("  Weights (S04, VS33); TR7 and HTTP2, DR100.").collect();
        assert_eq!(found, ["S04", "VS33", "DR100"]);
    }
}
