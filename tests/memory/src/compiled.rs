//! What a case's caller is told to obey: from the manifests to the compiled layers, as `sluiced` does it, without files
//! and processes.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use api::Change;
use clap::Parser;
use compile::{Compiled, Compiler, Layer, Scope, SecretsRight, World};
use config::Snapshot;
use serde_json::Value;
use suite::scene::mesh_arguments;
use testkit::case::Case;
use testkit::world::to_yaml;
use words::Diagnostic;

/// The layers for one proxy, and what there is to say.
pub struct Told {
    /// As the compiler gives them.
    pub layers: Vec<Arc<Layer>>,
    /// All of them as one.
    pub snapshot: Snapshot,
    /// Of the files, of the objects, of this proxy.
    pub diagnostics: Vec<Diagnostic>,
}

/// A control plane for one proxy.
pub struct Plane {
    world: World,
    compiler: Compiler,
    scope: Scope,
    findings: Vec<Diagnostic>,
    applied: Vec<Change>,
}

impl Plane {
    /// One that knows no objects yet, with a case's settings, for the proxy with this node.
    pub fn new(case: &Case, node: &xds::Node) -> Result<Self> {
        let mut arguments = vec!["sluiced".to_owned()];
        arguments.extend(mesh_arguments(case));
        let args = control::args::Args::try_parse_from(arguments)?;
        let scope = Scope::parse(&node.id, &codec::node::metadata(node)).context("the caller")?;
        let secrets = if args.serve_secrets { SecretsRight::Granted } else { SecretsRight::Unknown };
        Ok(Self {
            world: World::new(args.mesh()),
            compiler: Compiler::default(),
            scope: Scope { secrets, ..scope },
            findings: Vec::new(),
            applied: Vec::new(),
        })
    }

    /// What files say now that they did not say before. `manifests` are the case's, filled in.
    pub fn read(&mut self, objects: &[Value], manifests: &str) -> Vec<Change> {
        let world = to_yaml(objects);
        let (mut changes, findings) = watch::directory::read(&[("case.yaml", manifests), ("world.yaml", &world)]);
        self.findings = findings;
        let there: Vec<_> = changes.iter().map(Change::key).collect();
        let gone = self.applied.iter().map(Change::key).filter(|key| !there.contains(key));
        let gone: Vec<Change> = gone.map(Change::Delete).collect();
        changes.retain(|change| !self.applied.contains(change));
        changes.extend(gone);
        changes
    }

    /// Takes a change.
    pub fn apply(&mut self, change: Change) {
        self.applied.retain(|known| known.key() != change.key());
        if matches!(change, Change::Upsert(_)) {
            self.applied.push(change.clone());
        }
        self.world.apply(change);
    }

    /// The layers of this moment.
    pub fn layers(&mut self) -> Vec<Arc<Layer>> {
        let Compiled { layers } = self.compiler.compile(&self.world, &self.scope);
        layers
    }

    /// What the proxy is told now.
    pub fn compile(&mut self) -> Result<Told> {
        let layers = self.layers();
        let mut diagnostics = self.findings.clone();
        diagnostics.extend(self.compiler.diagnostics(&self.world));
        diagnostics.extend(layers.iter().flat_map(|layer| layer.diagnostics.iter().cloned()));
        diagnostics.sort();
        diagnostics.dedup();
        let mut snapshot = Snapshot::default();
        layers.iter().for_each(|layer| snapshot.extend(&layer.snapshot));
        let problems = config::check(&snapshot);
        if !problems.is_empty() {
            bail!("what is compiled does not pass the check: {problems:?}");
        }
        Ok(Told { layers, snapshot, diagnostics })
    }
}

/// Compiles a case for the proxy with this node, from nothing.
pub fn compile(case: &Case, objects: &[Value], manifests: &str, node: &xds::Node) -> Result<Told> {
    let mut plane = Plane::new(case, node)?;
    plane.read(objects, manifests).into_iter().for_each(|change| plane.apply(change));
    plane.compile()
}
