//! Moving bytes: listen, original destination, sniff, connect, pool, relay. No policy: what goes where is decided above.
//!
//! Everything here runs on one worker's `current_thread` runtime; nothing is shared between workers but the kernel.

pub mod body;
pub mod door;
pub mod exec;
pub mod io;
pub mod listen;
pub mod loopback;
pub mod memory;
pub mod network;
pub mod pipe;
pub mod pool;
pub mod proxy_protocol;
pub mod relay;
pub mod sniff;
pub mod source;
pub mod tls;
pub mod upstream;
