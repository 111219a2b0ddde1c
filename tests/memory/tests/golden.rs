//! Altitude a: what is compiled for every case, one file per feature in `golden/`. A change of what proxies are told shows
//! there before anything is run. `INSTA_UPDATE=always` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use memory::shown::show;
use testkit::case;

#[test]
fn what_is_compiled_is_as_it_was() {
    let mut features: BTreeMap<String, String> = BTreeMap::new();
    for case in case::all(&case::root()).unwrap() {
        let (feature, rule) = case.name.split_once('/').unwrap();
        let shown = show(&case).unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
        let text = features.entry(feature.to_owned()).or_default();
        text.push_str(&format!("== {rule}\n{shown}\n"));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let there: BTreeSet<String> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".snap")?.to_owned()))
        .collect();
    let stale: Vec<&String> = there.iter().filter(|name| !features.contains_key(*name)).collect();
    assert!(stale.is_empty(), "{} have no cases any more: delete them in {}", stale.len(), folder.display());
    let compare = |(feature, text): (&String, &String)| {
        let compared = std::panic::catch_unwind(|| {
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path("golden");
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings.bind(|| insta::assert_snapshot!(feature.as_str(), text));
        });
        compared.err().map(|_| feature.clone())
    };
    let different: Vec<String> = features.iter().filter_map(compare).collect();
    assert!(
        different.is_empty(),
        "what is compiled is different in {different:?}; if that is meant: INSTA_UPDATE=always"
    );
}
