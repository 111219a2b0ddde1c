//! The webhooks: `/inject` for pods, `/validate` for the mesh's own objects.
//!
//! In: connections that have made their handshake, AdmissionReviews on them, and what the loop knows. Out: answers. Whoever
//! reaches the port may send anything: bodies, depths, times and numbers are bounded, and what breaks one request breaks
//! no other (reliability.md 1.8).

pub(crate) mod bundle;
mod inject;
mod review;
mod validate;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::inject::Settings;
use api::Object;
use bytes::{Bytes, BytesMut};
use compile::MeshConfig;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use words::Labels;

use crate::event::Event;
use crate::lifetime::Stage;
use crate::ports;
use review::Review;
pub(crate) use validate::is_referred;

/// Largest review, in bytes; istiod's bound.
const BODY_BYTES_MAX: usize = 6 << 20;
/// Bytes of reviews in memory at a time; more wait where they are.
const BYTES_MAX: usize = 64 << 20;
/// Reviews in work at a time; more wait.
const REVIEWS_MAX: usize = 32;
/// How long a request may take to come.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take; API servers wait 10 s when nothing else is said.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// Then a connection is ended as soon as nothing is under way on it, so that API servers find other replicas.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// How long the API server's version is believed.
const VERSION_AGE_MAX: Duration = Duration::from_secs(300);
/// Between two questions for it while it does not answer.
const VERSION_RETRY: Duration = Duration::from_secs(1);

/// What the loop knows about a review's object.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The world is complete.
    pub(crate) synced: bool,
    /// The namespace's labels, as far as they are known.
    pub(crate) labels: Option<Labels>,
    /// ProxyConfigs of the root namespace and of this one.
    pub(crate) configs: Vec<Arc<Object>>,
    /// What an object may refer to, or be in conflict with.
    pub(crate) others: Vec<Arc<Object>>,
}

/// What is asked of the loop.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The namespace that matters.
    pub(crate) namespace: String,
    /// Whether `others` are wanted.
    pub(crate) wants_others: bool,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Known>,
}

/// Answers reviews. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Webhooks {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) mesh: Arc<MeshConfig>,
    /// Asked about a namespace whose labels, as they are known, say that its pods are not injected: the API server, which
    /// thinks otherwise, may know it better.
    pub(crate) client: Option<kube::Client>,
    reviews: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Webhooks {
    pub(crate) fn new(
        events: mpsc::Sender<Event>,
        settings: watch::Receiver<Arc<Settings>>,
        mesh: MeshConfig,
        client: Option<kube::Client>,
    ) -> Self {
        let reviews = Arc::new(Semaphore::new(REVIEWS_MAX));
        let bytes = Arc::new(Semaphore::new(BYTES_MAX));
        Self { events, settings, mesh: Arc::new(mesh), client, reviews, bytes }
    }

    /// Serves until there are no more connections. At each step of the end those that there are are asked to go.
    pub(crate) async fn serve<IO>(
        self,
        mut incoming: impl Stream<Item = io::Result<IO>> + Unpin,
        stages: watch::Receiver<Stage>,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        while let Some(accepted) = incoming.next().await {
            match accepted {
                Err(error) => tracing::debug!("webhooks: {error}"),
                Ok(stream) => {
                    let mut stages = stages.clone();
                    // What was said before it came is not meant for it.
                    stages.mark_unchanged();
                    tokio::spawn(self.clone().connection(stream, stages));
                }
            }
        }
    }

    async fn connection<IO>(self, stream: IO, mut stages: watch::Receiver<Stage>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let own = self.clone();
            async move { Ok::<_, Infallible>(own.respond(request).await) }
        });
        let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new()).header_read_timeout(ARRIVAL_MAX * 12);
        server.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30)).max_concurrent_streams(64);
        let connection = server.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            // A client that goes away is no news.
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(CONNECTION_AGE_MAX) => {}
            () = ports::next(&mut stages) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(ANSWER_MAX * 2, connection).await;
    }

    async fn respond(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let injects = path == "/inject" || path.starts_with("/inject/");
        if !injects && path != "/validate" && !path.starts_with("/validate/") {
            return text(404, "only /inject and /validate are here\n");
        }
        if request.method() != Method::POST {
            return text(405, "an AdmissionReview is sent by POST\n");
        }
        let (body, _held) = match tokio::time::timeout(ARRIVAL_MAX, self.receive(request.into_body())).await {
            Ok(Ok(received)) => received,
            Ok(Err(refusal)) => return text(refusal.status, &format!("{}\n", refusal.reason)),
            Err(_) => return text(408, "the review did not arrive in time\n"),
        };
        match tokio::time::timeout(ANSWER_MAX, self.answer(injects, body)).await {
            Ok(Ok(answer)) => json(&answer),
            Ok(Err(refusal)) => text(refusal.status, &format!("{}\n", refusal.reason)),
            Err(_) => text(503, "no answer in time\n"),
        }
    }

    // Bytes are taken as there is room for them, so a length that is only announced takes none.
    async fn receive(&self, body: Incoming) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
        let (mut body, mut all, mut held) = (Limited::new(body, BODY_BYTES_MAX), BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            let data = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(error) if error.is::<LengthLimitError>() => {
                    return Err(Refusal {
                        status: 413,
                        reason: format!("a review has at most {BODY_BYTES_MAX} bytes"),
                    });
                }
                Err(error) => {
                    return Err(Refusal { status: 400, reason: format!("the review could not be received: {error}") });
                }
            };
            let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
            // Never closed.
            let room = self.bytes.clone().acquire_many_owned(count).await.map_err(|_| Refusal::busy())?;
            match &mut held {
                None => held = Some(room),
                Some(held) => held.merge(room),
            }
            all.extend_from_slice(&data);
        }
        Ok((all.freeze(), held))
    }

    async fn answer(self, injects: bool, body: Bytes) -> Result<Bytes, Refusal> {
        // Never closed.
        let place = self.reviews.clone().acquire_owned().await.map_err(|_| Refusal::busy())?;
        let review = contained(move || Review::read(&body)).await?.map_err(|reason| {
            tracing::warn!("not an AdmissionReview: {reason}");
            Refusal { status: 400, reason: format!("not an AdmissionReview: {reason}") }
        })?;
        let mut known = self.ask(&review.namespace, !injects && validate::needs_others(&review)).await?;
        let settings = self.settings.borrow().clone();
        if injects && settings.server_minor == 0 && self.client.is_some() {
            return Err(Refusal { status: 503, reason: "the API server has not said its version yet".to_owned() });
        }
        if injects && !review.is_asked_for(&known, &settings) {
            self.look_again(&review.namespace, &mut known).await;
        }
        let answer = contained(move || {
            let answer = match injects {
                true => inject::answer(&review, &known, &settings, &self.mesh.root_namespace),
                false => validate::answer(&review, &known, &self.mesh),
            };
            answer.to_bytes(&review.uid)
        })
        .await;
        drop(place);
        answer
    }

    async fn ask(&self, namespace: &str, wants_others: bool) -> Result<Known, Refusal> {
        let (answer, known) = oneshot::channel();
        let ask = Ask { namespace: namespace.to_owned(), wants_others, answer };
        self.events.send(Event::Admission(ask)).await.map_err(|_| Refusal::busy())?;
        let known = known.await.map_err(|_| Refusal::busy())?;
        match known.synced {
            true => Ok(known),
            false => Err(Refusal { status: 503, reason: "the control plane does not know the cluster yet".to_owned() }),
        }
    }

    // A namespace made or labelled a moment ago: the API server has looked at its labels already.
    async fn look_again(&self, namespace: &str, known: &mut Known) {
        let Some(client) = &self.client else { return };
        match ::watch::kubernetes::namespace_labels(client, namespace).await {
            Ok(labels) => known.labels = Some(labels),
            Err(error) => tracing::debug!("namespace {namespace}: {error}"),
        }
    }
}

/// How pods are injected; which sidecars the cluster can have is asked of the API server, again and again: it may be
/// upgraded.
pub(crate) fn settings(settings: Settings, client: Option<kube::Client>) -> watch::Receiver<Arc<Settings>> {
    let (sender, receiver) = watch::channel(Arc::new(settings.clone()));
    let Some(client) = client else { return receiver };
    tokio::spawn(async move {
        while !sender.is_closed() {
            let pause = match ::watch::kubernetes::server_minor(&client).await {
                Ok(server_minor) => {
                    let now = Arc::new(Settings { server_minor, ..settings.clone() });
                    sender.send_if_modified(|there| {
                        *there != now && {
                            *there = now;
                            true
                        }
                    });
                    VERSION_AGE_MAX
                }
                Err(error) => {
                    tracing::debug!("the API server does not say its version: {error}");
                    VERSION_RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    });
    receiver
}

/// Why a request gets no review back.
#[derive(Debug)]
struct Refusal {
    status: u16,
    reason: String,
}

impl Refusal {
    fn busy() -> Self {
        Self { status: 503, reason: "the control plane is stopping".to_owned() }
    }
}

// A panic ends this request alone; work of some milliseconds keeps no other task waiting.
async fn contained<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!("a review broke the webhook: {error}");
        Refusal { status: 500, reason: "this review cannot be answered".to_owned() }
    })
}

fn json(body: &Bytes) -> Response<Full<Bytes>> {
    page(200, "application/json", body.clone())
}

fn text(status: u16, body: &str) -> Response<Full<Bytes>> {
    page(status, "text/plain; charset=utf-8", Bytes::copy_from_slice(body.as_bytes()))
}

fn page(status: u16, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}
