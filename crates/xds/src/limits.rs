//! Every bound of this crate, by name.

use std::time::Duration;

/// The largest request we decode. A first delta request names every resource the client holds, with its version.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;
/// The largest response our client decodes.
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// Resources of one delta response; what is more goes into the next one, after the ACK. One larger resource goes alone.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;
/// Names one stream may subscribe to, per type.
pub const SUBSCRIBED_NAMES_MAX: usize = 100_000;
/// Names a client may claim to hold in its first request, per type.
pub const CLAIMED_NAMES_MAX: usize = 100_000;
/// Unknown type URLs remembered per stream.
pub const UNKNOWN_TYPES_MAX: usize = 16;
/// The part of an error message that is kept.
pub const ERROR_CHARS_MAX: usize = 2_048;
/// Resource names in a NACK event.
pub const NACKED_NAMES_MAX: usize = 32;
/// How long listeners and routes wait for a client to ask for the endpoints of clusters it has just taken.
pub const ENDPOINTS_AWAITED_MAX: Duration = Duration::from_millis(500);
/// How long nothing is taken from a client that came back holding something: until it has asked for every type, we do not
/// know what of it still refers to what is gone.
pub const RETURNED_REMOVALS_AFTER: Duration = Duration::from_millis(500);
/// Layer differences remembered by one layer: the last few, since clients lag by one or two.
pub const DIFFS_PER_LAYER_MAX: usize = 4;

/// Events of all streams that may wait for the control loop; streams wait when it is full.
pub const EVENT_QUEUE: usize = 1_024;
/// Responses between the session and the socket. One: whatever waits longer is replaced by newer state instead.
pub const RESPONSE_QUEUE: usize = 1;
/// Updates and commands between a client task and its owner.
pub const CLIENT_QUEUE: usize = 16;
/// Bytes of a response body made at a time; a slow client holds this much and references to shared bytes.
pub const FRAME_BYTES: usize = 64 << 10;
/// A resource at least this large goes to the socket without being copied.
pub const SHARED_FRAME_BYTES_MIN: usize = 16 << 10;

/// A push of at least this many bytes waits for its turn (see `grpc::admission`).
pub const ADMISSION_BYTES_MIN: usize = 256 << 10;
/// Bytes of large pushes under way at once.
pub const ADMISSION_BYTES_MAX: usize = 64 << 20;
/// After this long a push no longer counts as under way: one stuck client may not hold the others up.
pub const ADMISSION_HOLD_MAX: Duration = Duration::from_secs(5);

/// HTTP/2 keepalive: a peer that is gone without a FIN is noticed after the sum of both.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the answer to a keepalive may take.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client tries to connect.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The first pause before connecting again.
pub const BACKOFF_BASE: Duration = Duration::from_millis(100);
/// The longest pause before connecting again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A stream that lived this long starts the next backoff from the base.
pub const BACKOFF_RESET: Duration = Duration::from_secs(10);
