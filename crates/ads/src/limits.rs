//! Every bound of this crate, by name.

/// Largest request read, in bytes.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Largest response read by a client, in bytes.
pub const RESPONSE_BYTES_MAX: usize = 256 << 20;
/// Resources in one delta response, in bytes; more are sent in further responses. One resource may be larger.
pub const PUSH_BYTES_MAX: usize = 4 << 20;
/// Names that one stream may subscribe to per type.
pub const SUBSCRIPTIONS_MAX: usize = 200_000;
/// Longest name of a resource, in bytes.
pub const NAME_BYTES_MAX: usize = 4096;
/// Bytes of first configuration under way at a time, over all streams, in KiB; further streams wait their turn.
pub const COLD_KIB_MAX: u32 = 64 << 10;
/// Responses a stream may have between session and socket.
pub const RESPONSES_QUEUED_MAX: usize = 1;
/// Longest text of a refusal kept for people, in bytes.
pub const ERROR_BYTES_MAX: usize = 4096;
