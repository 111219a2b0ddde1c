//! Altitude b: every case in memory. Manifests are compiled, sent over xDS and obeyed as in the processes; connections
//! are pipes, the clock stands still while anything can be done, and chance comes from a seed. So it takes seconds, and a
//! run is like the one before.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use anyhow::{Result, bail};
use memory::stage::{Manner, play};
use testkit::case::{self, Case};
use tokio::task::LocalSet;

/// Cases that only real sockets or files can show, with the reason; the other altitudes run them.
const LEFT_OUT: &[(&str, &str)] = &[];

fn differences(one: &Case, manner: Manner) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    LocalSet::new().block_on(&runtime, play(one, manner))
}

fn run(one: &Case, manner: Manner) -> Result<()> {
    let found = std::panic::catch_unwind(|| differences(one, manner)).unwrap_or_else(|_| bail!("the case panicked"))?;
    if !found.is_empty() {
        bail!("{}", found.join("\n  "));
    }
    Ok(())
}

// Which of several manners a case fails in by themselves.
fn blamed(one: &Case, manner: Manner) -> String {
    let Manner { late, restless, pipe_bytes, seed } = manner;
    let calm = Manner { seed, ..Manner::default() };
    let each = [calm, Manner { late, ..calm }, Manner { restless, ..calm }, Manner { pipe_bytes, ..calm }];
    let failing: Vec<Manner> = each.into_iter().filter(|alone| run(one, *alone).is_err()).collect();
    format!("by itself it fails as {failing:?}")
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    memory::stage::begin();
    case::all(&case::root()).unwrap()
});

// `CASE` chooses cases by a part of their names, `SEED` other random numbers.
fn run_all(manner: Manner) {
    let only = std::env::var("CASE").unwrap_or_default();
    let seed = std::env::var("SEED").map_or(0, |text| text.parse().unwrap());
    let manner = Manner { seed, ..manner };
    let named = CASES.iter().filter(|one| one.name.contains(&only));
    let (left, cases): (Vec<_>, Vec<_>) = named.partition(|one| LEFT_OUT.iter().any(|(name, _)| one.name == *name));
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let Some(one) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = run(one, manner) {
                let text = format!("{}: {error:#}\n  {}", one.name, blamed(one, manner));
                failed.lock().unwrap().insert(&one.name, text);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(work)));
    let failed: Vec<String> = failed.into_inner().unwrap().into_values().collect();
    for (name, reason) in LEFT_OUT.iter().filter(|(name, _)| left.iter().any(|one| one.name == *name)) {
        println!("left out of memory: {name}: {reason}");
    }
    println!("memory ({manner:?}): {} cases, {} failed, {} left out", cases.len(), failed.len(), left.len());
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    assert!(!cases.is_empty(), "no case is named like {only:?}");
}

#[test]
fn every_case_holds_in_memory() {
    run_all(Manner::default());
}

// All at once, as they cost a few seconds each; one that fails is played again in each manner by itself.
#[test]
fn every_case_holds_late_in_pieces_and_in_a_restless_world() {
    run_all(Manner { late: true, restless: true, pipe_bytes: Some(61), ..Manner::default() });
}

#[test]
fn a_case_that_does_not_hold_is_found_and_always_in_the_same_words() {
    let case = CASES.iter().find(|one| one.calls.iter().any(|call| !call.expect.split.is_empty())).unwrap();
    let mut case = case.clone();
    for share in case.calls.iter_mut().flat_map(|call| call.expect.split.values_mut()) {
        *share = 1.0;
    }
    let first = differences(&case, Manner::default()).unwrap();
    assert!(first.iter().any(|difference| difference.contains("should answer 1 %")), "{first:?}");
    assert_eq!(differences(&case, Manner::default()).unwrap(), first);
}
