//! The tonic edge: a task per stream moves messages between socket and session.
//!
//! In: tonic's streams, and for each stream a [`Target`] that the owner keeps up to date. Out: [`StreamEvent`]s to the
//! owner. Pushes of many streams never pass through one task.

mod codec;
mod connect;
mod serve;
mod stream;

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::sync::{mpsc, watch};

pub use connect::{ClientStream, connect};
pub use serve::AdsServer;

use crate::{Mode, StreamStatus, Target, TypeUrl};

/// A stream's number, unique in this process.
pub type StreamId = u64;

/// What a stream shall hold: nothing yet, a target, or a reason to end it.
#[derive(Clone, Debug, Default)]
pub enum Wish {
    /// Not known yet; the stream waits.
    #[default]
    Unknown,
    /// This.
    Hold(Target),
    /// The client is refused; the stream ends with these words.
    Refuse(Arc<str>),
}

/// What happened on a stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// A client said who it is.
    Connected {
        /// The stream.
        id: StreamId,
        /// The client.
        node: Box<Node>,
        /// The variant it speaks.
        mode: Mode,
        /// Say here what it shall hold.
        wish: watch::Sender<Wish>,
        /// What it was sent, and what it said.
        status: StreamStatus,
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
        /// Its words.
        error: String,
    },
    /// It was sent a response.
    Sent {
        /// The stream.
        id: StreamId,
        /// The type.
        kind: TypeUrl,
        /// Bytes, about.
        bytes: usize,
    },
    /// The stream ended.
    Disconnected {
        /// The stream.
        id: StreamId,
    },
}

/// Where stream events go. Bounded: a stream that cannot report waits.
pub type Events = mpsc::Sender<StreamEvent>;
