//! `xtask gen` writes the generated files.

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Tasks of the Sluice repository; the Makefile calls them")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write what is generated from the sources: crds/ and the chart's copy of it, tables in docs/.
    Gen,
}

fn main() -> Result<()> {
    match Args::parse().task {
        Task::Gen => xtask::write(&xtask::root()),
    }
}
