//! One HTTP server for all four services: what differs is the function that answers.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;

use crate::timing;

/// Largest request body read, in bytes: a login form.
const FORM_BYTES_MAX: usize = 16 << 10;

/// A request, read whole.
pub struct Asked {
    /// Method.
    pub method: Method,
    /// Path without the query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// What a service answers.
pub type Answer = Response<Full<Bytes>>;

/// A JSON answer.
pub fn json(status: u16, value: &serde_json::Value) -> Answer {
    with_type(status, "application/json", value.to_string())
}

/// An HTML answer.
pub fn html(status: u16, text: String) -> Answer {
    with_type(status, "text/html; charset=utf-8", text)
}

/// An answer that sends the browser elsewhere, with a cookie.
pub fn go_to(location: &'static str, cookie: &str) -> Answer {
    let mut answer = with_type(302, "text/plain", String::new());
    answer.headers_mut().insert(http::header::LOCATION, http::HeaderValue::from_static(location));
    if let Ok(cookie) = cookie.parse() {
        answer.headers_mut().insert(http::header::SET_COOKIE, cookie);
    }
    answer
}

fn with_type(status: u16, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}

/// Serves until SIGTERM or Ctrl-C; then for `drain` as before, because who sends learns late that we end; then until what
/// is under way is finished.
pub async fn until_asked_to_end<F, Fut>(name: &str, address: SocketAddr, drain: Duration, answer: F) -> Result<()>
where
    F: Fn(Asked) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.with_context(|| format!("{name} cannot listen on {address}"))?;
    println!("{name} listens on {address}");
    let answer = Arc::new(answer);
    let graceful = GracefulShutdown::new();
    let ending = async {
        asked_to_end().await;
        tokio::time::sleep(drain).await;
    };
    tokio::pin!(ending);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut ending => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("{name}: accept: {error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let answer = answer.clone();
        let service = service_fn(move |request| respond(answer.clone(), request));
        let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            // The peer went away: nothing that a demo server would do about it.
            let _ = connection.await;
        });
    }
    drop(listener);
    // Nobody waits longer for one of these services.
    let _ = tokio::time::timeout(timing::REVIEWS_V2_WAITS, graceful.shutdown()).await;
    Ok(())
}

/// Returns at SIGTERM or Ctrl-C.
pub async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        // Without the handler, the default action of SIGTERM still ends us; Ctrl-C is what a person uses.
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

async fn respond<F, Fut>(answer: Arc<F>, request: Request<Incoming>) -> Result<Answer, Infallible>
where
    F: Fn(Asked) -> Fut,
    Fut: Future<Output = Answer>,
{
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, FORM_BYTES_MAX).collect().await else {
        return Ok(json(413, &serde_json::json!({"error": "the body is too large"})));
    };
    let asked =
        Asked { method: head.method, path: head.uri.path().to_owned(), headers: head.headers, body: body.to_bytes() };
    Ok(answer(asked).await)
}
