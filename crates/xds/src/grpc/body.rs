//! A response stream as an HTTP body that is made while the socket takes it.
//!
//! In: responses, as references to shared bytes. Out: gRPC frames. Small resources are copied into frames of a bounded size,
//! large ones are passed on shared; so a client that reads slowly costs one frame, not one configuration. gRPC over HTTP2,
//! "Length-Prefixed-Message" and "Trailers".

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tonic::Status;

use crate::Response;
use crate::limits::{FRAME_BYTES, SHARED_FRAME_BYTES_MIN};

/// The body of one stream.
pub(super) struct ResponseBody {
    responses: mpsc::Receiver<Result<Response, Status>>,
    current: Option<(Response, usize)>,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl ResponseBody {
    pub(super) fn new(responses: mpsc::Receiver<Result<Response, Status>>) -> Self {
        Self { responses, current: None, ready: VecDeque::new(), ended: false }
    }

    fn begin(&mut self, response: Response) {
        let mut prefix = BytesMut::with_capacity(5);
        prefix.put_u8(0); // not compressed
        // A message is bounded by CHUNK_BYTES_MAX, or holds one larger resource or a whole state; none nears 4 GiB.
        prefix.put_u32(u32::try_from(response.encoded_len()).unwrap_or(u32::MAX));
        self.ready.push_back(prefix.freeze());
        self.current = Some((response, 0));
    }

    // Writes pieces of the current response until a frame is full.
    fn fill(&mut self) {
        let Some((response, mut at)) = self.current.take() else { return };
        let mut out = BytesMut::new();
        if let Some(prefix) = self.ready.pop_back() {
            out.extend_from_slice(&prefix);
        }
        while at < response.pieces() && out.len() < FRAME_BYTES {
            let shared = response.put_piece(at, &mut out);
            at += 1;
            match shared {
                Some(bytes) if bytes.len() >= SHARED_FRAME_BYTES_MIN => {
                    self.ready.extend([out.split().freeze(), bytes]);
                    break;
                }
                Some(bytes) => out.extend_from_slice(&bytes),
                None => {}
            }
        }
        if !out.is_empty() {
            self.ready.push_back(out.freeze());
        }
        if at < response.pieces() {
            self.current = Some((response, at));
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ready.is_empty() && self.current.is_some() {
            self.fill();
        }
        if let Some(bytes) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let status = match ready!(self.responses.poll_recv(cx)) {
            Some(Ok(response)) => {
                self.begin(response);
                self.fill();
                return Poll::Ready(self.ready.pop_front().map(|bytes| Ok(Frame::data(bytes))));
            }
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.ended = true;
        let mut trailers = http::HeaderMap::new();
        // A status whose words cannot be a header is sent as internal; never panics.
        if status.add_header(&mut trailers).is_err() {
            trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("13"));
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Resource, TypeUrl};
    use http_body_util::BodyExt;

    fn response(sizes: &[usize]) -> Response {
        let resource =
            |(at, size): (usize, &usize)| Resource::new(TypeUrl::Cluster, format!("c{at}"), "1", &vec![7; *size]);
        Response {
            mode: Mode::Delta,
            kind: Some(TypeUrl::Cluster),
            type_url: TypeUrl::Cluster.url().into(),
            version: "1".into(),
            nonce: "1".into(),
            resources: sizes.iter().enumerate().map(resource).collect(),
            removed: vec!["gone".into()],
            absent: Vec::new(),
        }
    }

    #[tokio::test]
    async fn frames_join_to_the_message_and_are_bounded() {
        let response = response(&[10, 100_000, 3_000, 20_000, 5_000, 60_000]);
        let (out, queue) = mpsc::channel(2);
        out.send(Ok(response.clone())).await.unwrap();
        out.send(Err(Status::permission_denied("no"))).await.unwrap();
        let mut body = ResponseBody::new(queue);
        let (mut all, mut trailers) = (BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(data) => {
                    assert!(data.len() < FRAME_BYTES + SHARED_FRAME_BYTES_MIN || data.len() > 100_000);
                    all.extend_from_slice(&data);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        assert_eq!(all[1..5], u32::try_from(response.encoded_len()).unwrap().to_be_bytes());
        assert_eq!(all[5..], response.encode());
        assert_eq!(trailers.unwrap()["grpc-status"], "7");
    }
}
