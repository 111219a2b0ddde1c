//! Request bodies on their way up: none, known bytes, a stream, or a stream that can be sent again.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::source::{Copied, Source};

/// The body of a request to an upstream.
#[derive(Debug, Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// Known bytes.
    Whole(Option<Bytes>),
    /// As it comes from the client.
    Stream(Source),
    /// What another request's body gives away as it passes.
    Copy(Copied),
    /// As it comes from the client, and again from the beginning.
    Replay(Replay),
}

/// Why a request's body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client broke off.
    #[error("the client's body broke off: {0}")]
    Client(hyper::Error),
    /// A copy lost its original, or fell too far behind it.
    #[error("the original of this copy is gone")]
    Lost,
}

/// One reading of a body that is kept while it passes.
#[derive(Debug)]
pub struct Replay {
    kept: Rc<RefCell<Kept>>,
    next: usize,
}

#[derive(Debug)]
struct Kept {
    source: Option<Source>,
    frames: Vec<Frozen>,
    bytes: usize,
    limit: usize,
    /// More came than is kept: this body cannot be sent again.
    overflown: bool,
    hint: SizeHint,
}

#[derive(Clone, Debug)]
enum Frozen {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

/// The owner's handle of a body that may be sent several times.
#[derive(Clone, Debug)]
pub struct Replayable(Rc<RefCell<Kept>>);

impl Replayable {
    /// Keeps up to `limit` bytes of `source` while they pass.
    pub fn new(source: Source, limit: usize) -> Self {
        let hint = source.size_hint();
        let kept = Kept { source: Some(source), frames: Vec::new(), bytes: 0, limit, overflown: false, hint };
        Self(Rc::new(RefCell::new(kept)))
    }

    /// A reading from the beginning; `None` when more passed than was kept.
    pub fn read(&self) -> Option<RequestBody> {
        let kept = self.0.borrow();
        (!kept.overflown).then(|| RequestBody::Replay(Replay { kept: self.0.clone(), next: 0 }))
    }

    /// True when it can be sent again.
    pub fn is_whole(&self) -> bool {
        !self.0.borrow().overflown
    }

    /// Bytes that came from the client so far.
    pub fn bytes(&self) -> usize {
        self.0.borrow().bytes
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            RequestBody::Stream(source) => Pin::new(source).poll_frame(cx),
            RequestBody::Copy(copied) => Pin::new(copied).poll_frame(cx),
            RequestBody::Replay(replay) => replay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Whole(bytes) => bytes.is_none(),
            RequestBody::Stream(source) => source.is_end_stream(),
            RequestBody::Copy(copied) => copied.is_end_stream(),
            RequestBody::Replay(replay) => {
                let kept = replay.kept.borrow();
                replay.next >= kept.frames.len() && kept.source.as_ref().is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            RequestBody::Stream(source) => source.size_hint(),
            RequestBody::Copy(copied) => copied.size_hint(),
            RequestBody::Replay(replay) => replay.kept.borrow().hint,
        }
    }
}

impl Replay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut kept = self.kept.borrow_mut();
        if let Some(frame) = kept.frames.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(match frame.clone() {
                Frozen::Data(data) => Frame::data(data),
                Frozen::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        let Some(source) = kept.source.as_mut() else { return Poll::Ready(None) };
        match std::task::ready!(Pin::new(source).poll_frame(cx)) {
            None => {
                kept.source = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => {
                kept.keep(&frame);
                self.next = kept.frames.len();
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Kept {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len();
            self.overflown |= self.bytes > self.limit;
            self.frames.push(Frozen::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.frames.push(Frozen::Trailers(trailers.clone()));
        }
        if self.overflown {
            self.frames.clear();
        }
    }
}
