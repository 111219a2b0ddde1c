//! Findings about a world.
use crate::World;
use words::Diagnostic;

pub(crate) fn all(world: &World) -> Vec<Diagnostic> {
    world.routings().flat_map(|routing| routing.diagnostics.iter().cloned()).collect()
}
