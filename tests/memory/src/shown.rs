//! What is compiled for a case, as text to be read: what its objects change in what its caller would obey without them.
//!
//! `+` are lines that the objects bring, `-` those that they take away, the others say where that is. A case without
//! objects shows everything. The table for applications that use their sidecar as an HTTP proxy has what the tables of
//! the ports have; its difference is shown where it is another one.

use std::collections::BTreeSet;

use anyhow::Result;
use proxy::run::node;
use suite::scene::socket_path;
use testkit::case::Case;

use crate::compiled::{Told, compile};
use crate::stage::Laid;

/// The text for a case, and then what there is to say about its objects.
pub fn show(case: &Case) -> Result<String> {
    let files = tempfile::tempdir()?;
    let Laid { world, manifests, identity, .. } = Laid::out(case, files.path())?;
    let node = node(&identity);
    let Told { snapshot, diagnostics, .. } = compile(case, &world.objects, &manifests, &node)?;
    let whole = config::render(&snapshot);
    let text = match case.manifests.trim().is_empty() {
        true => whole,
        false => {
            let without = compile(case, &world.objects, "", &node)?.snapshot;
            match difference(&config::render(&without), &whole) {
                none if none.is_empty() => "  no difference\n".to_owned(),
                some => without_repetition(&some),
            }
        }
    };
    let said = diagnostics.iter().map(|found| {
        let object = found.object.as_ref().map_or_else(String::new, ToString::to_string);
        format!("{} {object} {}", found.code, found.field).trim_end().to_owned() + "\n"
    });
    let text = stable(case, text + &said.collect::<String>(), files.path())?;
    Ok((1..=9).fold(text, |text, n| text.replace(&socket_path(&world, n), &format!("POD_SOCKET_{n}"))))
}

// Certificates are made anew in every run: what is known of them is named instead.
fn stable(case: &Case, text: String, folder: &std::path::Path) -> Result<String> {
    let placeholders = case.manifests.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    placeholders.map(|(inside, _)| format!("${{{inside}}}")).try_fold(text, |text, placeholder| {
        Ok(text.replace(&testkit::pki::fill_in(&placeholder, folder)?, &placeholder))
    })
}

/// The difference of two trees whose levels are indented, with the parents of what is different.
fn difference(before: &str, after: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let mut out = String::new();
    // The last line of each level that was passed and not written.
    let mut parents: Vec<&str> = Vec::new();
    for (mark, line) in edits(&before, &after) {
        let depth = line.len() - line.trim_start().len();
        parents.retain(|parent| parent.len() - parent.trim_start().len() < depth);
        if mark == ' ' {
            parents.push(line);
            continue;
        }
        parents.drain(..).for_each(|parent| out.push_str(&format!("  {parent}\n")));
        out.push_str(&format!("{mark} {line}\n"));
    }
    out
}

// Leaves the table of the HTTP proxy out when all that is different in it is so in others too.
fn without_repetition(difference: &str) -> String {
    let is_root = |line: &&str| !line[2..].starts_with(' ');
    let mut roots: Vec<Vec<&str>> = Vec::new();
    for line in difference.lines() {
        match roots.last_mut().filter(|_| !is_root(&line)) {
            Some(last) => last.push(line),
            None => roots.push(vec![line]),
        }
    }
    let (proxy, others): (Vec<_>, Vec<_>) = roots.iter().partition(|root| root[0] == PROXY_TABLE);
    // Domains are written with ports there.
    let said = |line: &str| line.split(" [").next().unwrap_or_default().to_owned();
    let elsewhere: BTreeSet<String> = others.iter().copied().flatten().map(|line| said(line)).collect();
    let repeats = proxy.iter().copied().flatten().skip(1).all(|line| elsewhere.contains(&said(line)));
    let shown = roots.iter().filter(|root| !(repeats && root[0] == PROXY_TABLE));
    shown.flatten().map(|line| format!("{line}\n")).collect()
}

const PROXY_TABLE: &str = "  table http_proxy";

// The shortest way from one to the other: kept, taken away, brought.
fn edits<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<(char, &'a str)> {
    let mut common = vec![vec![0_usize; after.len() + 1]; before.len() + 1];
    for (i, old) in before.iter().enumerate().rev() {
        for (j, new) in after.iter().enumerate().rev() {
            common[i][j] = match old == new {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < before.len() || j < after.len() {
        if i < before.len() && j < after.len() && before[i] == after[j] {
            out.push((' ', before[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == after.len() || (i < before.len() && common[i + 1][j] >= common[i][j + 1]) {
            out.push(('-', before[i]));
            i += 1;
        } else {
            out.push(('+', after[j]));
            j += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_different_is_shown_below_its_parents() {
        let before = "a\n  b\n    c\n  d\ne\n  f\n";
        let after = "a\n  b\n    x\n  d\ne\n  f\ng\n  h\n";
        assert_eq!(difference(before, after), "  a\n    b\n-     c\n+     x\n+ g\n+   h\n");
        assert_eq!(difference(before, before), "");
    }

    #[test]
    fn the_proxys_table_is_shown_where_it_says_something_else() {
        let ports = "  table 80\n    host a [a]\n-     x\n+     y\n";
        let same = format!("{ports}  table http_proxy\n    host a [a:80]\n-     x\n+     y\n");
        assert_eq!(without_repetition(&same), ports);
        let other = format!("{ports}  table http_proxy\n    host a [a:80]\n-     x\n+     z\n");
        assert_eq!(without_repetition(&other), other);
    }
}
