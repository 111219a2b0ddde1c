//! A server and a client session, the wire between them, and everything that can go wrong there, from a seed.
//!
//! Proves, for any order of target changes, deliveries, answers, refusals, losses and pauses: at most one response of a type
//! is open; a route is not sent before its clusters are acknowledged, a cluster not removed while a route names it; in the
//! end the client holds exactly the target. And: layer differences agree with comparing every name (a second session
//! does that beside the first); state of the world agrees with delta. No sleeps: time is an argument.

#[path = "simulation/mesh.rs"]
mod mesh;
#[path = "simulation/sotw.rs"]
mod sotw;
#[path = "simulation/wire.rs"]
mod wire;

use proptest::prelude::*;

use mesh::{World, world};
use wire::Wire;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// The control plane has a new target.
    Target(World),
    /// The socket takes a response, if there is one.
    Send,
    /// The client hears the oldest response.
    Hear,
    /// The client answers the oldest update.
    Answer,
    /// The client refuses the oldest update.
    Refuse,
    /// The server hears the oldest request.
    Listen,
    /// The connection breaks and comes back.
    Break,
    /// Time passes.
    Pause,
}

fn step(refusals: bool) -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => world().prop_map(Step::Target),
        8 => Just(Step::Send),
        8 => Just(Step::Hear),
        8 => Just(Step::Answer),
        u32::from(refusals) * 2 + 1 => Just(if refusals { Step::Refuse } else { Step::Answer }),
        8 => Just(Step::Listen),
        1 => Just(Step::Break),
        1 => Just(Step::Pause),
    ]
}

fn run(wire: &mut Wire, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Target(world) => wire.target(&world),
            Step::Send => _ = wire.send(),
            Step::Hear => _ = wire.hear(),
            Step::Answer => _ = wire.answer(false),
            Step::Refuse => _ = wire.answer(true),
            Step::Listen => _ = wire.listen(),
            Step::Break => wire.reconnect(),
            Step::Pause => wire.pause(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_client_ends_with_the_target(first in world(), steps in prop::collection::vec(step(false), 0..150)) {
        let mut wire = Wire::new(&first);
        run(&mut wire, steps);
        wire.settle();
        wire.assert_holds_the_target();
    }

    #[test]
    fn after_refusals_and_a_new_stream_the_client_ends_with_the_target(
        first in world(),
        steps in prop::collection::vec(step(true), 0..150),
    ) {
        let mut wire = Wire::new(&first);
        run(&mut wire, steps);
        // Refused versions are not sent again on the same stream: it settles all the same, and the next one has them.
        wire.settle();
        wire.reconnect();
        wire.settle();
        wire.assert_holds_the_target();
    }

    #[test]
    fn who_comes_back_up_to_date_is_sent_nothing(first in world()) {
        let mut wire = Wire::new(&first);
        wire.settle();
        wire.reconnect();
        let before = wire.resources_sent;
        wire.settle();
        prop_assert_eq!(wire.resources_sent, before);
    }

    #[test]
    fn state_of_the_world_agrees_with_delta(worlds in prop::collection::vec(world(), 1..8)) {
        let mut wire = Wire::new(&worlds[0]);
        let mut sotw = sotw::Wire::new(&worlds[0]);
        for world in &worlds {
            wire.target(world);
            sotw.target(world);
            wire.settle();
            sotw.settle();
            let mut delta = wire.held();
            // Virtual hosts on their own exist only there.
            delta.retain(|(kind, _), _| *kind != xds::TypeUrl::VirtualHost);
            prop_assert_eq!(sotw.held(), delta);
        }
    }
}
