//! Questions to another replica about its proxies, over its HTTP port.
//!
//! In: objects and generations. Out: how far each has come there. Bounded in time and bytes; decides nothing.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::ObjectKey;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::progress::Stand;
use crate::replicas::Peer;
use crate::reporting::question;

/// One question and its answer take at most so long.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Bytes of an answer.
const BYTES_MAX: usize = 1 << 20;
/// Objects asked for at once.
pub(crate) const QUESTIONS_MAX: usize = 64;

/// How far these generations have come with a replica's proxies, in their order.
pub(crate) async fn ask(peer: &Peer, questions: &[(&ObjectKey, i64)]) -> Result<Vec<Stand>> {
    let list: Vec<String> = questions.iter().take(QUESTIONS_MAX).map(|(key, number)| question(key, *number)).collect();
    let path = format!("/debug/progress?of={}", list.join(","));
    let answer = tokio::time::timeout(ANSWER_MAX, get(peer, &path)).await.context("no answer in time")??;
    let answer: Vec<Value> = serde_json::from_slice(&answer).context("not a list")?;
    if answer.len() != list.len() {
        bail!("{} answers to {} questions", answer.len(), list.len());
    }
    Ok(answer.iter().map(parse).collect())
}

async fn get(peer: &Peer, path: &str) -> Result<Bytes> {
    let stream = TcpStream::connect(peer.http).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    let exchange = async {
        let request = hyper::Request::get(path).header("host", peer.http.to_string()).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
        if status != 200 {
            bail!("{status}");
        }
        Ok(body.to_bytes())
    };
    tokio::select! {
        answer = exchange => answer,
        () = driver => bail!("the connection ended"),
    }
}

/// A stand as replicas tell each other.
pub(crate) fn to_json(stand: &Stand) -> Value {
    json!({
        "done": stand.is_done, "proxies": stand.proxies, "answered": stand.answered, "refused": stand.refused,
        "refusals": stand.refusals, "waiting": stand.waiting, "took_ms": stand.took_ms,
    })
}

fn parse(value: &Value) -> Stand {
    let number = |key: &str| value[key].as_u64().unwrap_or_default();
    let count = |key: &str| u32::try_from(number(key)).unwrap_or(u32::MAX);
    let words = |key: &str| {
        let list = value[key].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|one| Some(one.as_str()?.to_owned())).take(8).collect()
    };
    Stand {
        is_done: value["done"].as_bool().unwrap_or_default(),
        proxies: count("proxies"),
        answered: count("answered"),
        refused: count("refused"),
        refusals: words("refusals"),
        waiting: words("waiting"),
        took_ms: number("took_ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_are_read_back() {
        let stand = Stand { proxies: 3, answered: 2, waiting: vec!["a.b".into()], took_ms: 7, ..Stand::default() };
        assert_eq!(parse(&to_json(&stand)), stand);
        assert_eq!(parse(&json!("nonsense")), Stand::default());
    }
}
