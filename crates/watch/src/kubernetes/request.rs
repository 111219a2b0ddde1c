//! The requests of lists and watches, and their bounded answers.
//!
//! In: a kind, a version of it, and where to begin. Out: the text of a page, or the lines of a watch. Reads no object.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use http::Request;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use kube::Client;

use super::failure::{self, Failure};

/// Objects of one page.
pub const PAGE_OBJECTS: u32 = 500;
/// Largest answer to a list, in bytes: the pages hold objects of at most 1.5 MiB each, etcd's bound, rarely so large.
pub const PAGE_BYTES_MAX: u64 = 256 << 20;
/// Longest line of a watch, in bytes.
pub const LINE_BYTES_MAX: usize = 8 << 20;
/// How long a server may take to begin its answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Where a watch begins.
pub(crate) enum Start<'a> {
    /// With everything that exists, at least as new as this version; the empty version is the newest.
    List(&'a str),
    /// After this version.
    After(&'a str),
}

/// Finds the objects of a kind.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) version: &'static str,
    /// Only there.
    pub(crate) namespace: Option<Arc<str>>,
}

impl Place {
    /// A page of a list; `next` names it, empty for the first. `is_whole` asks for everything at once.
    pub(crate) async fn page(&self, client: &Client, next: &str, is_whole: bool) -> Result<Vec<u8>, Failure> {
        let mut query = Query::new(self.kind);
        if !is_whole {
            query.add("limit", &PAGE_OBJECTS.to_string());
        }
        if !next.is_empty() {
            query.add("continue", next);
        }
        let mut body = self.send(client, query).await?.take(PAGE_BYTES_MAX);
        let mut text = Vec::new();
        body.read_to_end(&mut text).await.map_err(|error| failure::of_io(&error))?;
        if text.len() as u64 == PAGE_BYTES_MAX {
            return Err(Failure::Down(format!("a list of {} is longer than {PAGE_BYTES_MAX} bytes", self.kind)));
        }
        Ok(text)
    }

    /// A watch that the server ends after `lasting`.
    pub(crate) async fn watch(
        &self,
        client: &Client,
        start: Start<'_>,
        lasting: Duration,
    ) -> Result<Lines<impl AsyncBufRead + Unpin + use<>>, Failure> {
        let mut query = Query::new(self.kind);
        query.add("watch", "true");
        query.add("allowWatchBookmarks", "true");
        query.add("timeoutSeconds", &lasting.as_secs().to_string());
        match start {
            Start::After(version) => query.add("resourceVersion", version),
            Start::List(version) => {
                query.add("sendInitialEvents", "true");
                query.add("resourceVersionMatch", "NotOlderThan");
                query.add("resourceVersion", version);
            }
        }
        Ok(Lines { body: self.send(client, query).await?, line: Vec::new() })
    }

    async fn send(&self, client: &Client, query: Query) -> Result<impl AsyncBufRead + Unpin + use<>, Failure> {
        let (group, version, plural) = (self.kind.group(), self.version, self.kind.plural());
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let within = self.namespace.iter().map(|name| format!("/namespaces/{name}")).collect::<String>();
        let request = Request::get(format!("{root}{within}/{plural}?{}", query.0))
            .header(ACCEPT, "application/json")
            // A compressed watch would arrive late: the compressor holds lines back.
            .header(ACCEPT_ENCODING, "identity")
            .body(Vec::new())
            .map_err(|error| Failure::Down(format!("no request can be made: {error}")))?;
        stream(client, request).await
    }
}

async fn stream(client: &Client, request: Request<Vec<u8>>) -> Result<impl AsyncBufRead + Unpin + use<>, Failure> {
    match tokio::time::timeout(ANSWER_MAX, client.request_stream(request)).await {
        Err(_) => Err(Failure::Down(format!("the API server does not answer within {} s", ANSWER_MAX.as_secs()))),
        Ok(Err(error)) => Err(failure::of_error(&error)),
        Ok(Ok(body)) => Ok(Box::pin(body)),
    }
}

/// The lines that answer a request of any watch.
pub(crate) async fn lines(
    client: &Client,
    request: Request<Vec<u8>>,
) -> Result<Lines<impl AsyncBufRead + Unpin + use<>>, Failure> {
    Ok(Lines { body: stream(client, request).await?, line: Vec::new() })
}

struct Query(String);

impl Query {
    fn new(kind: Kind) -> Self {
        let mut query = Self(String::new());
        match kind {
            // Pods that have ended serve nobody; jobs leave many behind.
            Kind::Pod => query.add("fieldSelector", "status.phase!=Succeeded,status.phase!=Failed"),
            // What cannot be a certificate is not read, least of all kept: Helm's releases are a MiB each. Nor are the
            // keys of certificate authorities, which are for no proxy.
            Kind::Secret => query.add(
                "fieldSelector",
                "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token,type!=kubernetes.io/dockerconfigjson,\
                 metadata.name!=cacerts,metadata.name!=istio-ca-secret",
            ),
            _ => {}
        }
        query
    }

    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.0.push(byte as char),
                _ => self.0.push_str(&format!("%{byte:02X}")),
            }
        }
    }
}

/// The lines of a watch.
pub(crate) struct Lines<B> {
    body: B,
    line: Vec<u8>,
}

impl<B: AsyncBufRead + Unpin> Lines<B> {
    /// The next line; `None` when the server has ended the watch. What it cut off in the middle is not a line.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.line.clear();
        loop {
            let ready = self.body.fill_buf().await.map_err(|error| failure::of_io(&error))?;
            if ready.is_empty() {
                return Ok(None);
            }
            let end = ready.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(ready.len(), |end| end + 1);
            self.line.extend_from_slice(&ready[..taken]);
            self.body.consume_unpin(taken);
            if self.line.len() > LINE_BYTES_MAX {
                return Err(Failure::Down(format!("a line of the watch is longer than {LINE_BYTES_MAX} bytes")));
            }
            if end.is_some() {
                return Ok(Some(&self.line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query_are_escaped() {
        let mut query = Query::new(Kind::Pod);
        query.add("continue", "a+/=");
        assert_eq!(query.0, "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed&continue=a%2B%2F%3D");
    }

    #[tokio::test]
    async fn lines_end_with_a_newline_or_are_none() {
        let mut lines = Lines { body: &b"one\ntwo\nthr"[..], line: Vec::new() };
        assert_eq!(lines.next().await, Ok(Some(&b"one\n"[..])));
        assert_eq!(lines.next().await, Ok(Some(&b"two\n"[..])));
        assert_eq!(lines.next().await, Ok(None));
    }
}
