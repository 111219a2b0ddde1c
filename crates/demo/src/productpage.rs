//! productpage: the page. It asks details once and reviews up to twice, and tells them who is logged in.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::client::Way;
use crate::serve::{Answer, Asked, go_to, html, json};
use crate::{client, page, timing};

/// A user name is at most this long, in bytes; the rest is cut.
const USER_BYTES_MAX: usize = 64;

/// Answers `/productpage`, `/login`, `/logout`, `/api/v1/products/0[/reviews|/ratings]`, `/` and `/health`.
pub async fn answer(way: Way, asked: Asked) -> Answer {
    match (&asked.method, asked.path.as_str()) {
        (_, "/") | (_, "/index.html") => html(200, page::index()),
        (_, "/health") => html(200, "Product page is healthy".into()),
        (&Method::POST, "/login") => {
            go_to("/productpage", &format!("session={}; Path=/; HttpOnly", user_of_form(&asked.body)))
        }
        (_, "/logout") => go_to("/productpage", "session=; Path=/; Max-Age=0"),
        (_, "/productpage") => product(way, &asked).await,
        (_, "/api/v1/products") => json(200, &serde_json::json!([{"id": 0, "title": page::TITLE}])),
        (_, "/api/v1/products/0") => pass(details(way, &headers_for(&asked)).await),
        (_, "/api/v1/products/0/reviews") => pass(reviews(way, &headers_for(&asked)).await),
        _ => html(404, "not found".into()),
    }
}

async fn product(way: Way, asked: &Asked) -> Answer {
    let headers = headers_for(asked);
    let (details, reviews) = (details(way, &headers).await, reviews(way, &headers).await);
    html(200, page::product(user(&asked.headers).as_deref(), &details, &reviews))
}

/// A status and JSON, or the sentence that the page shows instead.
pub type Part = Result<Value, (u16, &'static str)>;

fn pass(part: Part) -> Answer {
    match part {
        Ok(value) => json(200, &value),
        Err((status, error)) => json(status, &serde_json::json!({ "error": error })),
    }
}

async fn details(way: Way, headers: &HeaderMap) -> Part {
    let sorry = "Sorry, product details are currently unavailable for this book.";
    match client::get(way, "details:9080", "/details/0", headers, timing::PRODUCTPAGE_WAITS).await {
        Ok((200, body)) => parse(&body).ok_or((500, sorry)),
        Ok((status, _)) => Err((status, sorry)),
        Err(error) => {
            eprintln!("{error:#}");
            Err((500, sorry))
        }
    }
}

async fn reviews(way: Way, headers: &HeaderMap) -> Part {
    let sorry = "Sorry, product reviews are currently unavailable for this book.";
    let mut last = 500;
    for _ in 0..timing::PRODUCTPAGE_TRIES {
        match client::get(way, "reviews:9080", "/reviews/0", headers, timing::PRODUCTPAGE_WAITS).await {
            Ok((200, body)) => return parse(&body).ok_or((500, sorry)),
            Ok((status, _)) => last = status,
            Err(error) => eprintln!("{error:#}"),
        }
    }
    Err((last, sorry))
}

fn parse(body: &Bytes) -> Option<Value> {
    serde_json::from_slice(body).ok()
}

// A client's own `end-user` header does not count: the session does (TR14).
fn headers_for(asked: &Asked) -> HeaderMap {
    let mut headers = client::pass_on(&asked.headers);
    headers.remove("end-user");
    if let Some(value) = user(&asked.headers).and_then(|user| HeaderValue::from_str(&user).ok()) {
        headers.insert("end-user", value);
    }
    headers
}

fn user(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get(http::header::COOKIE)?.to_str().ok()?;
    let session = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix("session="))?;
    (!session.is_empty()).then(|| session.to_owned())
}

// `username=jason&passwd=…`; any password will do. Only letters, digits, `-`, `_` and `.` are kept.
fn user_of_form(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let name = text.split('&').find_map(|pair| pair.strip_prefix("username=")).unwrap_or_default();
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(USER_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(cookie: &str) -> Asked {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_str(cookie).unwrap());
        headers.insert("end-user", HeaderValue::from_static("mallory"));
        Asked { method: Method::GET, path: "/productpage".into(), headers, body: Bytes::new() }
    }

    #[test]
    fn end_user_is_the_session_not_the_header() {
        assert_eq!(headers_for(&asked("a=b; session=jason"))["end-user"], "jason");
        assert!(!headers_for(&asked("a=b")).contains_key("end-user"));
    }

    #[test]
    fn a_form_gives_a_plain_name() {
        assert_eq!(user_of_form(b"username=jas%0don&passwd=x"), "jas0don");
        assert_eq!(user_of_form(b"nothing"), "");
    }
}
