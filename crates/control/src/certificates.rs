//! The certificate service, message-compatible with Istio's: a request is signed for who the caller is, and for nobody else.
//!
//! In: `CreateCertificate` of an authenticated caller. Out: a chain and the roots, or the reason why there is none.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use http::{Request, Response};
use identity::wire::{CREATE_CERTIFICATE, IstioCertificateRequest, IstioCertificateResponse, SERVICE};
use identity::{REQUEST_BYTES_MAX, Refusal};
use tokio::sync::{mpsc, oneshot};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use words::SpiffeId;

use crate::authenticate::{BY_CERTIFICATE, Caller};
use crate::event::Event;
use crate::events::Recorder;
use crate::metrics::{Metrics, OfReason};
use crate::secure::Secure;

/// How long the loop may take to say whether a caller runs.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Largest message, in bytes: a request of the largest size and what is around it.
const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + (16 << 10);

/// `istio.v1.auth.IstioCertificateService`.
#[derive(Clone)]
pub(crate) struct Certificates {
    pub(crate) secure: Secure,
    /// How long certificates are valid when nothing is asked for, and at most.
    pub(crate) life: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recorder: Recorder,
    /// Where it is asked whether callers still run. Without an API server nobody knows all workloads.
    pub(crate) workloads: Option<mpsc::Sender<Event>>,
}

/// Whether anything runs as an identity; the answer is `None` while nobody knows.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) id: SpiffeId,
    pub(crate) answer: oneshot::Sender<Option<bool>>,
}

impl Certificates {
    // A token ends with its pod. A certificate would be renewed by itself for ever, by whoever has copied its key.
    async fn check_workload(&self, caller: &Caller) -> Result<(), Status> {
        let Some(workloads) = self.workloads.as_ref().filter(|_| caller.by == BY_CERTIFICATE) else { return Ok(()) };
        let (answer, runs) = oneshot::channel();
        let asked = async {
            workloads.send(Event::Runs(Runs { id: caller.id.clone(), answer })).await.ok()?;
            runs.await.ok()?
        };
        match tokio::time::timeout(ANSWER_MAX, asked).await.unwrap_or_default() {
            Some(true) => Ok(()),
            Some(false) => {
                let words = "nothing runs as this service account any more; a pod's token is needed";
                Err(self.refused(caller, "gone", Code::PermissionDenied, words))
            }
            None => Err(Status::unavailable("the control plane does not know the workloads yet")),
        }
    }

    fn create(&self, caller: &Caller, request: &IstioCertificateRequest) -> Result<IstioCertificateResponse, Status> {
        let metadata = request.metadata.iter().flat_map(|metadata| metadata.fields.keys());
        if let Some(key) = metadata.into_iter().find(|key| key.as_str() == "ImpersonatedIdentity") {
            return Err(self.refused(caller, "names", Code::PermissionDenied, &format!("{key} is not supported here")));
        }
        let Some(serving) = self.secure.serving() else {
            return Err(Status::unavailable("there is no certificate authority yet"));
        };
        let asked = u64::try_from(request.validity_duration).ok().filter(|seconds| *seconds > 0);
        let life = asked.map_or(self.life, |seconds| Duration::from_secs(seconds).min(self.life));
        let issued = serving.authority.sign(&request.csr, &caller.id, life, SystemTime::now()).map_err(|refusal| {
            let code = match refusal {
                Refusal::Names { .. } | Refusal::Authority => Code::PermissionDenied,
                Refusal::Expired | Refusal::Signing(_) => Code::Internal,
                _ => Code::InvalidArgument,
            };
            self.refused(caller, refusal.reason(), code, &refusal.to_string())
        })?;
        self.metrics.certificates.inc();
        let until = jiff::Timestamp::try_from(issued.not_after).map(|at| at.to_string()).unwrap_or_default();
        tracing::info!(id = %caller.id, by = caller.by, pod = caller.pod.as_ref().map_or("", |pod| &pod.name),
            serial = issued.serial, until, "certificate issued");
        Ok(IstioCertificateResponse { cert_chain: issued.chain.into_iter().chain([issued.roots]).collect() })
    }

    fn refused(&self, caller: &Caller, reason: &'static str, code: Code, words: &str) -> Status {
        tracing::warn!(id = %caller.id, by = caller.by, "no certificate: {words}");
        self.metrics.certificates_refused.get_or_create(&OfReason::new(reason)).inc();
        if let Some(pod) = caller.pod_reference() {
            self.recorder.warn(&pod, "CertificateRefused", format!("no certificate for {}: {words}", caller.id));
        }
        Status::new(code, words)
    }
}

impl UnaryService<IstioCertificateRequest> for Certificates {
    type Response = IstioCertificateResponse;
    type Future = BoxFuture<'static, Result<tonic::Response<IstioCertificateResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<IstioCertificateRequest>) -> Self::Future {
        let caller = request.extensions().get::<Arc<Caller>>().cloned();
        let own = self.clone();
        Box::pin(async move {
            let nobody = || Status::unauthenticated("certificates are given to known callers only");
            let caller = caller.ok_or_else(nobody)?;
            own.check_workload(&caller).await?;
            own.create(&caller, request.get_ref()).map(tonic::Response::new)
        })
    }
}

impl NamedService for Certificates {
    const NAME: &'static str = SERVICE;
}

impl Service<Request<Body>> for Certificates {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != CREATE_CERTIFICATE {
                return Ok(Status::unimplemented("the certificate service has no such method").into_http());
            }
            let codec = ProstCodec::<IstioCertificateResponse, IstioCertificateRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.unary(service, request).await)
        })
    }
}
