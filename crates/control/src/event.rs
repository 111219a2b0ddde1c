//! Everything that can happen to the control plane, as one closed enum.

use std::time::Instant;

use api::ObjectKey;
use tokio::sync::oneshot;

use crate::reporting::Work;
use crate::reports::Mark;

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
    /// This replica writes for the mesh from now on, or does not any more.
    Leads(bool),
    /// The writer of statuses can take some.
    Drafts(oneshot::Sender<Work>),
    /// Statuses to be looked at again, at a time.
    ReportAgain(Vec<(ObjectKey, Mark, Instant)>),
    /// Who may hold Secrets is different now.
    Rights,
    /// The program is to end, in order.
    Stop,
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
    /// `/debug/progress?of=`: how far generations of objects have come with our proxies.
    Progress(Vec<Option<(ObjectKey, i64)>>),
}

/// An answer: status code and JSON, or plain text when it is a string.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: serde_json::Value,
}
