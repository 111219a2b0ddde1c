//! Skips that are counted: a test that cannot run says so in a line that the runner adds up.

/// Says that a test was not run, and why. `.ci/run` counts these lines.
pub fn skip(test: &str, why: &str) {
    println!("SKIPPED {test}: {why}");
}
