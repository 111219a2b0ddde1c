//! A case in memory: control plane, proxy, pods and client on one thread, joined by pipes, on a clock that stands still
//! while there is anything to do.
//!
//! Everything between a manifest and a byte is what runs in the processes: the files' reader, the compiler, both ends of
//! xDS with every message encoded, the follower, the planner, a worker. Left out are files that are followed, processes,
//! sockets, and what the kernel does to them.

pub mod compiled;
pub mod shown;
pub mod stage;
pub mod wire;
