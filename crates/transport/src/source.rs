//! A request's body as it comes from the client: who reads it sees the frames, who watches it learns when it is over,
//! and copies of it fill up on the side.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::body::BodyError;

/// Bytes of one copy that wait to be read; a copy that falls further behind is given up.
pub const COPY_BYTES_MAX: usize = 1 << 20;

/// A client's body.
#[derive(Debug)]
pub struct Source {
    incoming: Incoming,
    // Boxed: most bodies have neither.
    extras: Option<Box<Extras>>,
}

#[derive(Debug, Default)]
struct Extras {
    arrival: Option<Rc<Arrival>>,
    copies: Vec<Writer>,
}

/// When a request has arrived to its last byte, and when anything of it last moved. One task may wait for it.
#[derive(Debug)]
pub struct Arrival {
    over: Cell<bool>,
    moved: Cell<Instant>,
    waiting: Notify,
}

impl Arrival {
    /// Of a request that has arrived whole, or is still to come.
    pub fn new(over: bool) -> Rc<Self> {
        Rc::new(Self { over: Cell::new(over), moved: Cell::new(Instant::now()), waiting: Notify::new() })
    }

    /// Waits for the last byte.
    pub async fn wait(&self) {
        if !self.over.get() {
            self.waiting.notified().await;
        }
    }

    /// True when the last byte has come.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// When anything last moved.
    pub fn moved(&self) -> &Cell<Instant> {
        &self.moved
    }

    /// Something moved.
    pub fn touch(&self) {
        self.moved.set(Instant::now());
    }

    fn end(&self) {
        if !self.over.replace(true) {
            self.waiting.notify_one();
        }
    }
}

impl Source {
    /// The body of a request.
    pub fn new(incoming: Incoming) -> Self {
        Self { incoming, extras: None }
    }

    /// Tells when it has come.
    pub fn watch(&mut self) -> Rc<Arrival> {
        let arrival = Arrival::new(self.incoming.is_end_stream());
        self.extras.get_or_insert_default().arrival = Some(arrival.clone());
        arrival
    }

    /// A copy that fills up as this one is read. `waiting` counts the bytes that wait in all copies together, `most` is
    /// their bound.
    pub fn copy(&mut self, waiting: Rc<Cell<usize>>, most: usize) -> Copied {
        let shared = Rc::new(RefCell::new(Shared {
            frames: VecDeque::new(),
            bytes: 0,
            waiting,
            most,
            state: State::Open,
            hint: self.incoming.size_hint(),
            reader: None,
        }));
        self.extras.get_or_insert_default().copies.push(Writer(shared.clone()));
        Copied(shared)
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        let ended = match &frame {
            Some(Ok(_)) => self.incoming.is_end_stream(),
            None => true,
            Some(Err(_)) => false,
        };
        if let Some(extras) = &mut self.extras {
            extras.pass(frame.as_ref().and_then(|frame| frame.as_ref().ok()), ended);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Client)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Extras {
    fn pass(&mut self, frame: Option<&Frame<Bytes>>, ended: bool) {
        if let Some(arrival) = &self.arrival {
            arrival.touch();
            if ended {
                arrival.end();
            }
        }
        for copy in &self.copies {
            let mut shared = copy.0.borrow_mut();
            if let Some(frame) = frame {
                shared.put(frame);
            }
            if ended && shared.state == State::Open {
                shared.state = State::Whole;
            }
            shared.wake();
        }
    }
}

/// A body that may not come to its end: the original's reader stopped, or this one fell too far behind.
#[derive(Debug)]
pub struct Copied(Rc<RefCell<Shared>>);

// The original's side; when it goes before the end, the copy breaks off.
#[derive(Debug)]
struct Writer(Rc<RefCell<Shared>>);

#[derive(Debug)]
struct Shared {
    frames: VecDeque<Frozen>,
    bytes: usize,
    waiting: Rc<Cell<usize>>,
    most: usize,
    state: State,
    hint: SizeHint,
    reader: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    // More may come.
    Open,
    // All came.
    Whole,
    // It will never be whole.
    Broken,
    // Nobody reads it any more.
    Unread,
}

#[derive(Debug)]
enum Frozen {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

impl Shared {
    fn put(&mut self, frame: &Frame<Bytes>) {
        if self.state != State::Open {
            return;
        }
        if let Some(data) = frame.data_ref() {
            if self.bytes + data.len() > COPY_BYTES_MAX || self.waiting.get() + data.len() > self.most {
                self.state = State::Broken;
                return self.clear();
            }
            self.count(data.len() as isize);
            self.frames.push_back(Frozen::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.frames.push_back(Frozen::Trailers(trailers.clone()));
        }
    }

    fn count(&mut self, change: isize) {
        self.bytes = self.bytes.saturating_add_signed(change);
        self.waiting.set(self.waiting.get().saturating_add_signed(change));
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.count(-(self.bytes as isize));
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        if shared.state == State::Open {
            shared.state = State::Broken;
        }
        shared.wake();
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.clear();
        shared.state = State::Unread;
    }
}

impl Body for Copied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut shared = self.0.borrow_mut();
        match (shared.frames.pop_front(), shared.state) {
            (_, State::Broken) => Poll::Ready(Some(Err(BodyError::Lost))),
            (Some(Frozen::Data(data)), _) => {
                shared.count(-(data.len() as isize));
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            (Some(Frozen::Trailers(trailers)), _) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            (None, State::Open) => {
                shared.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            (None, State::Whole | State::Unread) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.0.borrow();
        shared.state == State::Whole && shared.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().hint
    }
}
