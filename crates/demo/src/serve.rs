//! One HTTP server for all four services: what differs is the function that answers.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

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

/// Serves until the process ends.
pub async fn forever<F, Fut>(name: &str, address: SocketAddr, answer: F) -> Result<()>
where
    F: Fn(Asked) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.with_context(|| format!("{name} cannot listen on {address}"))?;
    println!("{name} listens on {address}");
    let answer = Arc::new(answer);
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("{name}: accept: {error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(answer.clone(), request));
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // The peer went away: nothing that a demo server would do about it.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
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
