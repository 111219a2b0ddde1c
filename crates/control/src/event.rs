//! Everything that can happen to the control plane, as one closed enum.

use std::net::IpAddr;
use std::time::Instant;

use api::ObjectKey;
use serde_json::Value;
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
    /// Somebody asks whether anything runs as an identity.
    Runs(crate::certificates::Runs),
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
    Progress {
        /// The objects.
        of: Vec<Option<(ObjectKey, i64)>>,
        /// Who asks, if it is not somebody on this machine.
        from: Option<IpAddr>,
    },
}

/// An answer: status code and JSON, or plain text when it is a string.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Puts the body together. What is large is put together by who asked, so that the loop goes on.
    pub(crate) body: Box<dyn FnOnce() -> Value + Send>,
}

impl Answer {
    /// One that is small, or had to be made by the loop.
    pub(crate) fn of(status: u16, body: Value) -> Self {
        Self { status, body: Box::new(|| body) }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an answer of status {}", self.status)
    }
}
