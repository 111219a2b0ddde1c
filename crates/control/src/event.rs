//! Everything that can happen to the control plane, as one closed enum.

use tokio::sync::oneshot;

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The source says something.
    Source(watch::Event),
    /// The source is gone: it never ends by itself, so something is broken.
    SourceEnded,
    /// A stream says something.
    Stream(xds::grpc::StreamEvent),
    /// A webhook asks what is known around an object.
    Admission(crate::webhook::Ask),
    /// Somebody asks over HTTP.
    Question(Question),
}

/// A question over HTTP and where its answer goes.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) about: About,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// `/healthz/ready`.
    Ready,
    /// `/debug/syncz`.
    Syncz,
    /// `/debug/config_dump?proxyID=`.
    ConfigDump(String),
    /// `/debug/world`.
    World,
    /// `/debug/diagnostics`.
    Diagnostics,
}

/// An answer: status code and JSON, or plain text when it is a string.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: serde_json::Value,
}
