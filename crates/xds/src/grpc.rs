//! The tonic edge: a task per stream moves messages between socket and session.
//!
//! In: HTTP/2 streams, and for each stream a wish that the owner keeps up to date. Out: [`StreamEvent`]s to the owner; for a
//! client, updates. Pushes of many streams never pass through one task; every queue is bounded (`limits`).

mod admission;
mod body;
mod connect;
mod serve;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

pub use connect::{Client, ClientOptions, Command, Dial, Opened, connect, over, plaintext};
pub use serve::AdsServer;

use crate::{Mode, Node, StreamStatus, Target, TypeUrl};

/// A stream's number, unique in this process.
pub type StreamId = u64;

/// What a stream shall hold: nothing yet, a target, or a reason to end it.
#[derive(Clone, Debug, Default)]
pub enum Wish {
    /// Not known yet; the stream waits.
    #[default]
    Unknown,
    /// This. A newer one replaces what was not sent yet.
    Hold(Target),
    /// The client is refused; the stream ends with these words (PERMISSION_DENIED).
    Refuse(Arc<str>),
}

/// What happened on a stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// A client said who it is.
    Connected {
        /// The stream.
        id: StreamId,
        /// The client, in its own words.
        node: Box<Node>,
        /// The variant it speaks.
        mode: Mode,
        /// Say here what it shall hold. Dropping it ends the stream (UNAVAILABLE), so that the client goes elsewhere.
        wish: watch::Sender<Wish>,
        /// What it was sent, and what it said.
        status: StreamStatus,
        /// Headers (a token) and extensions (addresses, certificates) of its request: who it really is.
        head: Box<http::request::Parts>,
    },
    /// It accepted a response.
    Acked {
        /// The stream.
        id: StreamId,
        /// The type.
        kind: TypeUrl,
        /// From sending to answer, in microseconds.
        latency_us: u64,
    },
    /// It refused a response.
    Nacked {
        /// The stream.
        id: StreamId,
        /// The type.
        kind: TypeUrl,
        /// The resources in question.
        names: Vec<Arc<str>>,
        /// Its words.
        error: String,
    },
    /// It was sent a response.
    Sent {
        /// The stream.
        id: StreamId,
        /// The type.
        kind: TypeUrl,
        /// Bytes.
        bytes: usize,
    },
    /// It has answered everything, and nothing is left to send: it holds this target, or has refused parts of it.
    Settled {
        /// The stream.
        id: StreamId,
        /// [`Target::version`].
        version: String,
    },
    /// The stream ended.
    Disconnected {
        /// The stream.
        id: StreamId,
    },
}

/// Where stream events go. Bounded: a stream that cannot report waits.
pub type Events = mpsc::Sender<StreamEvent>;
