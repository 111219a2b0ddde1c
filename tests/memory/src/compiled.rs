//! What a case's caller is told to obey: from the manifests to the compiled layers, as `sluiced` does it, without files
//! and processes.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Parser;
use compile::{Compiler, Layer, Scope, World};
use config::Snapshot;
use suite::scene::mesh_arguments;
use testkit::case::Case;
use testkit::world::to_yaml;
use words::Diagnostic;

/// The layers for one proxy, and what there is to say.
pub struct Compiled {
    /// As the compiler gives them.
    pub layers: Vec<Arc<Layer>>,
    /// All of them as one.
    pub snapshot: Snapshot,
    /// Of the files, of the objects, of this proxy.
    pub diagnostics: Vec<Diagnostic>,
}

/// Compiles a case for the proxy with this node. `manifests` are the case's, filled in.
pub fn compile(case: &Case, objects: &[serde_json::Value], manifests: &str, node: &xds::Node) -> Result<Compiled> {
    let mut arguments = vec!["sluiced".to_owned()];
    arguments.extend(mesh_arguments(case));
    let args = control::args::Args::try_parse_from(arguments)?;
    let world_text = to_yaml(objects);
    let (changes, mut diagnostics) = watch::directory::read(&[("case.yaml", manifests), ("world.yaml", &world_text)]);
    let mut world = World::new(args.mesh());
    for change in changes {
        world.apply(change);
    }
    let scope = Scope::parse(&node.id, &codec::node::metadata(node)).context("the caller")?;
    let mut compiler = Compiler::default();
    let compiled = compiler.compile(&world, &Scope { may_hold_secrets: args.serve_secrets, ..scope });
    diagnostics.extend(compiler.diagnostics(&world));
    diagnostics.extend(compiled.layers.iter().flat_map(|layer| layer.diagnostics.iter().cloned()));
    diagnostics.sort();
    diagnostics.dedup();
    let snapshot = compiled.snapshot();
    let problems = config::check(&snapshot);
    if !problems.is_empty() {
        bail!("what is compiled does not pass the check: {problems:?}");
    }
    Ok(Compiled { layers: compiled.layers, snapshot, diagnostics })
}
