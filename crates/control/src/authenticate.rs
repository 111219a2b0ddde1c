//! Who a caller is: by the certificate that its connection has shown, or by the token of a service account that the API
//! server vouches for. Everybody else is nobody.
//!
//! In: requests on the secure port. Out: the same with a [`Caller`] in their extensions, or an answer that says no more than
//! that there is none; the reason is in our log and counted. A token is nowhere kept: only its hash is.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use ::watch::kubernetes::{Reference, Review, review};
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use identity::token;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use words::SpiffeId;

use crate::metrics::{Metrics, OfReason};
use crate::rights::Rights;
use crate::secure::{Peer, Secure};

/// A token that was accepted is not asked about again for so long; never beyond its own end.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Tokens remembered.
const REMEMBERED_MAX: usize = 4096;
/// A token that was refused is refused for so long without asking again.
const REFUSED: Duration = Duration::from_secs(10);
/// A token that says that it ended longer ago is not asked about: clocks differ, but not by so much.
const CLOCKS_DIFFER: Duration = Duration::from_secs(300);
/// Questions to the API server at once.
const QUESTIONS_MAX: usize = 32;
/// A question waits so long for its turn.
const PLACE_MAX: Duration = Duration::from_secs(5);

/// How a caller with a certificate has shown who it is.
pub(crate) const BY_CERTIFICATE: &str = "certificate";

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Its identity.
    pub(crate) id: SpiffeId,
    /// The pod that its token is bound to; a certificate names none.
    pub(crate) pod: Option<BoundPod>,
    /// [`BY_CERTIFICATE`] or `token`.
    pub(crate) by: &'static str,
}

/// A pod of the caller's namespace, by the API server's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BoundPod {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Caller {
    /// Its pod as events name it: its owner looks there.
    pub(crate) fn pod_reference(&self) -> Option<Reference> {
        let BoundPod { name, uid } = self.pod.clone()?;
        let namespace = self.id.namespace.clone();
        Some(Reference { api_version: "v1".into(), kind: "Pod".into(), namespace, name, uid })
    }
}

/// Why a caller is nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Stranger {
    #[error("it shows neither a certificate nor a token")]
    Nothing,
    #[error("its certificate is no good: {0}")]
    Certificate(String),
    #[error("its certificate is of the trust domain {0:?}, which is not ours")]
    TrustDomain(String),
    #[error("its token has {0} bytes")]
    Long(usize),
    #[error("tokens cannot be checked without a Kubernetes API server; certificates only")]
    NoServer,
    #[error("the API server does not accept its token: {0}")]
    Token(String),
    #[error("its token is not for the audience {}", token::AUDIENCE)]
    Audience,
    #[error("its token belongs to {0:?}, which is no service account")]
    User(String),
    #[error("its token is bound to no pod")]
    Unbound,
    /// Not the caller's fault.
    #[error("its token cannot be checked now: {0}")]
    Later(String),
    /// Nor this.
    #[error("whether it may hold Secrets cannot be asked now: {0}")]
    Rights(String),
}

impl Stranger {
    fn reason(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Certificate(_) => "certificate",
            Self::TrustDomain(_) => "trust_domain",
            Self::Long(_) => "too_large",
            Self::NoServer => "no_server",
            Self::Token(_) => "token",
            Self::Audience => "audience",
            Self::User(_) => "user",
            Self::Unbound => "unbound",
            Self::Later(_) | Self::Rights(_) => "unavailable",
        }
    }
}

/// Finds out who calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Authenticator(Arc<Inner>);

struct Inner {
    trust_domain: String,
    /// Whose certificates are believed, at every moment.
    secure: Secure,
    /// Asked about tokens.
    client: Option<kube::Client>,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
    refused: Mutex<HashMap<[u8; 32], (Stranger, Instant)>>,
    questions: Semaphore,
    metrics: Arc<Metrics>,
}

struct Remembered {
    caller: Arc<Caller>,
    until: Instant,
    expires: SystemTime,
}

impl Authenticator {
    pub(crate) fn new(
        trust_domain: String,
        secure: Secure,
        client: Option<kube::Client>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (remembered, refused, questions) = (Mutex::default(), Mutex::default(), Semaphore::new(QUESTIONS_MAX));
        Self(Arc::new(Inner { trust_domain, secure, client, remembered, refused, questions, metrics }))
    }

    async fn caller(&self, head: &http::request::Parts) -> Result<Arc<Caller>, Stranger> {
        let peer = head.extensions.get::<Peer>();
        match peer.and_then(|peer| Some((peer, peer.shown.as_ref()?))) {
            Some((peer, shown)) => self.of_certificate(peer, shown.clone()),
            None => {
                let header = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                // RFC 6750: the scheme's case does not matter.
                let token = header.and_then(|text| text.split_once(' '));
                let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token);
                self.of_token(token.ok_or(Stranger::Nothing)?.trim()).await
            }
        }
    }

    // Connections live for long: the handshake's check is one of the past. Requests are few, each opens a stream.
    fn of_certificate(&self, peer: &Peer, shown: Result<SpiffeId, String>) -> Result<Arc<Caller>, Stranger> {
        let id = shown.map_err(Stranger::Certificate)?;
        if id.trust_domain != self.0.trust_domain {
            return Err(Stranger::TrustDomain(id.trust_domain));
        }
        let serving = self.0.secure.serving().ok_or_else(|| Stranger::Later("there is no authority".to_owned()))?;
        let believed = serving.authority.roots().believes_client(&peer.chain, SystemTime::now());
        believed.map_err(Stranger::Certificate)?;
        Ok(Arc::new(Caller { id, pod: None, by: BY_CERTIFICATE }))
    }

    async fn of_token(&self, token: &str) -> Result<Arc<Caller>, Stranger> {
        if token.len() > token::TOKEN_BYTES_MAX {
            return Err(Stranger::Long(token.len()));
        }
        let client = self.0.client.as_ref().ok_or(Stranger::NoServer)?;
        hopeless(token, SystemTime::now())?;
        let hash = hash(token);
        if let Some(caller) = self.recall(&hash) {
            return Ok(caller);
        }
        if let Some(stranger) = self.recall_refusal(&hash) {
            return Err(stranger);
        }
        let later = |error: String| Stranger::Later(error);
        let place = tokio::time::timeout(PLACE_MAX, self.0.questions.acquire());
        let _place = place.await.map_err(|_| later("too many tokens are being checked".into()))?;
        // Asked before the answer is there: the minute counts from here.
        let asked = Instant::now();
        let answer = review(client, token, token::AUDIENCE).await.map_err(|error| later(error.to_string()))?;
        let judged = judge(&answer, &self.0.trust_domain);
        let caller = Arc::new(judged.inspect_err(|stranger| self.remember_refusal(hash, stranger.clone(), asked))?);
        // A token that does not say when it ends is asked about each time.
        if let Some(expires) = token::expires(token) {
            self.remember(hash, Remembered { caller: caller.clone(), until: asked + REMEMBERED, expires });
        }
        Ok(caller)
    }

    fn recall(&self, hash: &[u8; 32]) -> Option<Arc<Caller>> {
        let remembered = self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let one = remembered.get(hash)?;
        one.holds(Instant::now(), SystemTime::now()).then(|| one.caller.clone())
    }

    fn remember(&self, hash: [u8; 32], one: Remembered) {
        let mut remembered = self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            let (now, wall) = (Instant::now(), SystemTime::now());
            remembered.retain(|_, one| one.holds(now, wall));
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(hash, one);
        }
    }

    fn recall_refusal(&self, hash: &[u8; 32]) -> Option<Stranger> {
        let refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(hash).filter(|(_, at)| at.elapsed() < REFUSED).map(|(stranger, _)| stranger.clone())
    }

    fn remember_refusal(&self, hash: [u8; 32], stranger: Stranger, at: Instant) {
        let mut refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REMEMBERED_MAX {
            refused.retain(|_, (_, at)| at.elapsed() < REFUSED);
        }
        if refused.len() < REMEMBERED_MAX {
            refused.insert(hash, (stranger, at));
        }
    }

    fn refuse(&self, head: &http::request::Parts, stranger: &Stranger) -> Status {
        let peer = head.extensions.get::<Peer>().map(|peer| peer.address.to_string()).unwrap_or_default();
        tracing::warn!(peer, path = head.uri.path(), "not authenticated: {stranger}");
        self.0.metrics.strangers.get_or_create(&OfReason::new(stranger.reason())).inc();
        match stranger {
            Stranger::Later(_) => Status::unavailable("authentication is not possible at the moment"),
            Stranger::Rights(_) => Status::unavailable("whether you may hold Secrets cannot be asked at the moment"),
            _ => Status::unauthenticated("authentication failed; the control plane's log says why"),
        }
    }
}

impl Remembered {
    fn holds(&self, now: Instant, wall: SystemTime) -> bool {
        now < self.until && wall < self.expires
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
    out
}

// What cannot be right by its own word is not asked about: junk would cost the API server a question each.
fn hopeless(token: &str, now: SystemTime) -> Result<(), Stranger> {
    let is_long_ago = |at: SystemTime| now.duration_since(at).is_ok_and(|since| since > CLOCKS_DIFFER);
    if token.split('.').count() != 3 {
        return Err(Stranger::Token("it is no JSON web token".to_owned()));
    }
    if token::expires(token).is_some_and(is_long_ago) {
        return Err(Stranger::Token("token has expired, by its own word".to_owned()));
    }
    match token::audiences(token) {
        Some(audiences) if !audiences.iter().any(|one| one == token::AUDIENCE) => Err(Stranger::Audience),
        _ => Ok(()),
    }
}

// Istio, `tokenreview/k8sauthn.go`, and one more: a token that is bound to no pod could be anybody's copy for a year.
fn judge(review: &Review, trust_domain: &str) -> Result<Caller, Stranger> {
    if !review.is_authenticated {
        return Err(Stranger::Token(review.error.chars().take(512).collect()));
    }
    if !review.audiences.iter().any(|audience| audience == token::AUDIENCE) {
        return Err(Stranger::Audience);
    }
    let user = || Stranger::User(review.user.chars().take(256).collect());
    let (namespace, account) = token::service_account(&review.user).ok_or_else(user)?;
    if !review.groups.iter().any(|group| group == "system:serviceaccounts") {
        return Err(user());
    }
    if review.pod_name.is_empty() || review.pod_uid.is_empty() {
        return Err(Stranger::Unbound);
    }
    let id = SpiffeId::parse(&format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}")).ok_or_else(user)?;
    let pod = BoundPod { name: review.pod_name.clone(), uid: review.pod_uid.clone() };
    Ok(Caller { id, pod: Some(pod), by: "token" })
}

/// A service that only callers reach.
#[derive(Clone)]
pub(crate) struct Authenticated<S> {
    inner: S,
    authenticator: Authenticator,
    rights: Option<Rights>,
}

impl<S> Authenticated<S> {
    pub(crate) fn new(inner: S, authenticator: Authenticator) -> Self {
        Self { inner, authenticator, rights: None }
    }

    /// What each caller may hold is known before it is let in.
    pub(crate) fn learning(self, rights: Rights) -> Self {
        Self { rights: Some(rights), ..self }
    }
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut inner, authenticator) = (self.inner.clone(), self.authenticator.clone());
        let rights = self.rights.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            match authenticator.caller(&head).await {
                Ok(caller) => {
                    if let Some(rights) = rights
                        && let Err(reason) = rights.learn(&caller.id).await
                    {
                        // It keeps what it has and comes again.
                        return Ok(authenticator.refuse(&head, &Stranger::Rights(reason)).into_http());
                    }
                    // Nobody further down needs the token, and what is not kept cannot show.
                    head.headers.remove(AUTHORIZATION);
                    head.extensions.insert(caller);
                    inner.call(Request::from_parts(head, body)).await
                }
                Err(stranger) => Ok(authenticator.refuse(&head, &stranger).into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use identity::{Authority, Enrolment, Files, LEAF_LIFE};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use tokio::sync::watch;

    use super::*;
    use crate::secure::{Serving, serving as serving_with};

    fn good() -> Review {
        Review {
            is_authenticated: true,
            error: String::new(),
            user: "system:serviceaccount:default:reviews".into(),
            groups: vec!["system:serviceaccounts".into(), "system:authenticated".into()],
            audiences: vec!["istio-ca".into()],
            pod_name: "reviews-1".into(),
            pod_uid: "u".into(),
        }
    }

    #[test]
    fn r42_only_a_bound_token_of_a_service_account_for_our_audience_is_somebody() {
        let caller = judge(&good(), "cluster.local").unwrap();
        assert_eq!(caller.id.to_string(), "spiffe://cluster.local/ns/default/sa/reviews");
        let about = caller.pod_reference().unwrap();
        assert_eq!((&*about.namespace, &*about.name, &*about.uid, caller.by), ("default", "reviews-1", "u", "token"));
        type Spoil = fn(&mut Review);
        let spoiled: [(Spoil, &str); 12] = [
            (|one| one.is_authenticated = false, "token"),
            (|one| (one.is_authenticated, one.error) = (false, "token has expired".into()), "token"),
            (|one| one.audiences.clear(), "audience"),
            (|one| one.audiences = vec!["https://kubernetes.default.svc".into()], "audience"),
            (|one| one.user = "admin".into(), "user"),
            (|one| one.user = "system:node:n1".into(), "user"),
            (|one| one.user = "system:serviceaccount:default".into(), "user"),
            (|one| one.user = "system:serviceaccount:default:a:b".into(), "user"),
            (|one| one.user = "system:serviceaccount:default:a/../b".into(), "user"),
            (|one| one.groups.clear(), "user"),
            (|one| one.pod_name.clear(), "unbound"),
            (|one| one.pod_uid.clear(), "unbound"),
        ];
        for (spoil, reason) in spoiled {
            let mut review = good();
            spoil(&mut review);
            assert_eq!(judge(&review, "cluster.local").map_err(|one| one.reason()), Err(reason), "{review:?}");
        }
    }

    #[test]
    fn r42_nothing_is_remembered_beyond_a_minute_or_the_tokens_end() {
        let caller = Arc::new(judge(&good(), "cluster.local").unwrap());
        let (now, wall) = (Instant::now(), SystemTime::now());
        let one = Remembered { caller, until: now + REMEMBERED, expires: wall + Duration::from_secs(30) };
        assert!(one.holds(now, wall));
        assert!(!one.holds(now, wall + Duration::from_secs(30)));
        assert!(!one.holds(now + REMEMBERED, wall));
    }

    fn authority() -> Arc<Authority> {
        let (certificate, key) = Authority::create("cluster.local", SystemTime::now()).unwrap();
        let files = Files { certificate: certificate.as_bytes(), key: key.as_bytes(), ..Files::default() };
        Arc::new(Authority::load(files, SystemTime::now()).unwrap())
    }

    fn serving(authority: &Arc<Authority>) -> Option<Arc<Serving>> {
        let names = ["localhost".to_owned()];
        serving_with(authority.clone(), &names, LEAF_LIFE, SystemTime::now(), 0.5).ok().map(Arc::new)
    }

    /// One that believes an authority, and where another can be put.
    fn believing(
        authority: &Arc<Authority>,
        client: Option<kube::Client>,
    ) -> (Authenticator, watch::Sender<Option<Arc<Serving>>>) {
        let (sender, now) = watch::channel(serving(authority));
        let metrics = Arc::new(Metrics::new());
        (Authenticator::new("cluster.local".into(), Secure { now }, client, metrics), sender)
    }

    /// The head of a request on a connection that has shown a certificate made at a time, or a token.
    fn head(shown: Option<(&Authority, &str, SystemTime)>, token: Option<&str>) -> http::request::Parts {
        let chain: Vec<CertificateDer<'static>> = shown
            .map(|(authority, id, at)| {
                let made = Enrolment::new(None).unwrap();
                let issued = authority.sign(&made.request, &SpiffeId::parse(id).unwrap(), LEAF_LIFE, at).unwrap();
                CertificateDer::pem_slice_iter(issued.chain.concat().as_bytes()).collect::<Result<_, _>>().unwrap()
            })
            .unwrap_or_default();
        let mut request = Request::new(()).into_parts().0;
        request.extensions.insert(Peer::new("127.0.0.1:1".parse().unwrap(), &chain));
        token.map(|token| request.headers.insert(AUTHORIZATION, token.parse().unwrap()));
        request
    }

    #[tokio::test]
    async fn a_certificate_is_believed_by_the_roots_and_the_time_of_now() {
        let (old, new) = (authority(), authority());
        let (authenticator, sender) = believing(&old, None);
        let id = "spiffe://cluster.local/ns/default/sa/reviews";
        let fresh = head(Some((&old, id, SystemTime::now())), None);
        assert_eq!(authenticator.caller(&fresh).await.unwrap().id.to_string(), id);
        // It was good when the connection was made, and is over now.
        let over = head(Some((&old, id, SystemTime::now() - LEAF_LIFE * 2)), None);
        assert_eq!(authenticator.caller(&over).await.unwrap_err().reason(), "certificate");
        // The connection is of before the roots were replaced.
        sender.send_replace(serving(&new));
        assert_eq!(authenticator.caller(&fresh).await.unwrap_err().reason(), "certificate");
    }

    #[tokio::test]
    async fn junk_costs_the_api_server_nothing() {
        let claims = |text: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(text));
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let reason = |token: &str| hopeless(token, now).map_err(|one| one.reason());
        assert_eq!(reason("abc"), Err("token"));
        assert_eq!(reason("a.b.c.d"), Err("token"));
        assert_eq!(reason(&claims(r#"{"exp": 1799999000}"#)), Err("token"));
        assert_eq!(reason(&claims(r#"{"exp": 1799999900}"#)), Ok(()), "clocks differ");
        assert_eq!(reason(&claims(r#"{"aud": ["https://kubernetes.default.svc"]}"#)), Err("audience"));
        for good in [r#"{"aud": "istio-ca"}"#, r#"{"aud": ["a", "istio-ca"]}"#, "{}", r#"{"aud": 5}"#] {
            assert_eq!(reason(&claims(good)), Ok(()), "{good}");
        }
        // And what was refused is refused again without a question: this server would not answer any.
        let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let (authenticator, _sender) = believing(&authority(), Some(client));
        let token = format!("Bearer {}", claims("{}"));
        assert_eq!(authenticator.caller(&head(None, Some(&token))).await.unwrap_err().reason(), "unavailable");
        for number in 0..REMEMBERED_MAX + 10 {
            let token = if number == 0 { claims("{}") } else { number.to_string() };
            authenticator.remember_refusal(hash(&token), Stranger::Unbound, Instant::now());
        }
        assert_eq!(authenticator.caller(&head(None, Some(&token))).await.unwrap_err().reason(), "unbound");
        assert_eq!(authenticator.0.refused.lock().unwrap().len(), REMEMBERED_MAX);
        let long_ago = Instant::now().checked_sub(REFUSED).unwrap();
        authenticator.0.refused.lock().unwrap().insert(hash(&claims("{}")), (Stranger::Unbound, long_ago));
        assert_eq!(authenticator.recall_refusal(&hash(&claims("{}"))), None);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (authenticator, _sender) = believing(&authority(), None);
        let caller = Arc::new(judge(&good(), "cluster.local").unwrap());
        let until = Instant::now() + REMEMBERED;
        for number in 0..REMEMBERED_MAX + 10 {
            let expires = SystemTime::now() + REMEMBERED;
            authenticator.remember(hash(&number.to_string()), Remembered { caller: caller.clone(), until, expires });
        }
        assert_eq!(authenticator.0.remembered.lock().unwrap().len(), REMEMBERED_MAX);
        assert!(authenticator.recall(&hash("0")).is_some());
    }

    #[tokio::test]
    async fn without_an_api_server_only_certificates_are_somebody() {
        let authority = authority();
        let (authenticator, _sender) = believing(&authority, None);
        let head = |id: Option<&str>, token| head(id.map(|id| (&*authority, id, SystemTime::now())), token);
        let id = "spiffe://cluster.local/ns/default/sa/reviews";
        let ask = async |shown, token| authenticator.caller(&head(shown, token)).await.map_err(|one| one.reason());
        assert_eq!(ask(Some(id), None).await.unwrap().id.to_string(), id);
        assert_eq!(ask(None, None).await.unwrap_err(), "nothing");
        assert_eq!(ask(None, Some("Basic abc")).await.unwrap_err(), "nothing");
        assert_eq!(ask(None, Some("Bearer abc")).await.unwrap_err(), "no_server");
        let long = format!("bearer {}", "a".repeat(20_000));
        assert_eq!(ask(None, Some(&long)).await.unwrap_err(), "too_large");
        assert_eq!(ask(Some("spiffe://other.org/ns/default/sa/reviews"), None).await.unwrap_err(), "trust_domain");
        // A certificate that is none is not made good by a token.
        let mut no_id = head(None, Some("Bearer abc"));
        no_id.extensions.insert(Peer::new("127.0.0.1:1".parse().unwrap(), &[CertificateDer::from(vec![0x30])]));
        assert_eq!(authenticator.caller(&no_id).await.unwrap_err().reason(), "certificate");
    }
}
