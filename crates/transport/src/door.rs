//! The door of a port that everybody reaches: who holds connections open there keeps nobody else out.
//!
//! In: a listener and its bounds. Out: connections. There is always room for one more: where there are too many, of all or
//! of one source, one of the source that has the most ends, the one that has been idle for longest. So whoever comes for
//! a short question, as kubelet does for a probe, is answered. A connection also ends when it says nothing at its
//! beginning, or does not take what it is sent. Knows no protocol: it counts bytes, not requests.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

/// How many may be here, and how slow they may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time.
    pub connections: usize,
    /// Of one address.
    pub of_one_source: usize,
    /// How long the first byte may take to come.
    pub silence: Duration,
    /// How long the other end may take nothing of what it is sent.
    pub stall: Duration,
}

/// A listener and those who came in.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    hall: Hall,
}

/// Those who came in. Cheap to clone.
#[derive(Clone, Debug)]
struct Hall {
    bounds: Bounds,
    began: Instant,
    seats: Arc<Mutex<Seats>>,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    taken: BTreeMap<u64, Arc<Seat>>,
    of: BTreeMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Seat {
    source: IpAddr,
    // Milliseconds since the door was made.
    used: AtomicU64,
    ended: AtomicBool,
    task: AtomicWaker,
}

/// A connection's place, free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    seat: Arc<Seat>,
    number: u64,
    hall: Hall,
}

/// A connection that ends when its place is needed, when it is silent at first, or when it stalls.
#[derive(Debug)]
pub struct Guest<IO> {
    io: IO,
    place: Place,
    first: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Door {
    /// A door to this listener.
    pub fn new(listener: TcpListener, bounds: Bounds) -> Self {
        Self { listener, hall: Hall { bounds, began: Instant::now(), seats: Arc::default() } }
    }

    /// The next connection, and its place.
    pub async fn accept(&self) -> (TcpStream, SocketAddr, Place) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    return (stream, peer, self.hall.admit(peer.ip()));
                }
                Err(error) => {
                    // Out of file descriptors, as a rule: it passes.
                    tracing::warn!("accept: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// The next connection, where bytes need no handshake first.
    pub async fn next(&self) -> (Guest<TcpStream>, SocketAddr) {
        let (stream, peer, place) = self.accept().await;
        (place.guard(stream), peer)
    }
}

impl Hall {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn admit(&self, source: IpAddr) -> Place {
        let used = AtomicU64::new(self.now_ms());
        let seat = Arc::new(Seat { source, used, ended: AtomicBool::new(false), task: AtomicWaker::new() });
        let mut seats = self.seats();
        if seats.of.get(&source).is_some_and(|count| *count >= self.bounds.of_one_source) {
            seats.end(|seat| seat.source == source);
        } else if seats.taken.len() >= self.bounds.connections {
            seats.end(|_| true);
        }
        let number = seats.next;
        seats.next += 1;
        *seats.of.entry(source).or_default() += 1;
        seats.taken.insert(number, seat.clone());
        drop(seats);
        Place { seat, number, hall: self.clone() }
    }
}

impl Seats {
    fn end(&mut self, may_end: impl Fn(&Seat) -> bool) {
        let may_end = self.taken.iter().filter(|(_, seat)| may_end(seat));
        let key = |seat: &Seat| {
            (Reverse(self.of.get(&seat.source).copied().unwrap_or_default()), seat.used.load(Ordering::Relaxed))
        };
        let Some(number) = may_end.min_by_key(|(_, seat)| key(seat)).map(|(number, _)| *number) else { return };
        if let Some(seat) = self.leave(number) {
            seat.ended.store(true, Ordering::Release);
            seat.task.wake();
        }
    }

    fn leave(&mut self, number: u64) -> Option<Arc<Seat>> {
        let seat = self.taken.remove(&number)?;
        if let Some(count) = self.of.get_mut(&seat.source) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&seat.source);
            }
        }
        Some(seat)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hall.seats().leave(self.number);
    }
}

impl Place {
    /// The connection, which ends with its place.
    pub fn guard<IO>(self, io: IO) -> Guest<IO> {
        let first = Some(Box::pin(tokio::time::sleep(self.hall.bounds.silence)));
        Guest { io, place: self, first, stalled: None }
    }

    /// When somebody else needs the place.
    pub async fn ended(&self) {
        poll_fn(|cx| self.poll_ended(cx)).await;
    }

    fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        self.seat.task.register(cx.waker());
        match self.seat.ended.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn use_it(&self) {
        self.seat.used.store(self.hall.now_ms(), Ordering::Relaxed);
    }
}

impl<IO> Guest<IO> {
    /// The connection itself.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        match self.place.poll_ended(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "others need the place")),
            Poll::Pending => Ok(()),
        }
    }

    // What a write or a flush came to.
    fn sent<T>(&mut self, done: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let limit = self.place.hall.bounds.stall;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other end takes nothing")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guest<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(done) => {
                self.first = None;
                self.place.use_it();
                Poll::Ready(done)
            }
            Poll::Pending => match &mut self.first {
                None => Poll::Pending,
                Some(timer) => {
                    ready!(timer.as_mut().poll(cx));
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was said")))
                }
            },
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guest<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let done = Pin::new(&mut self.io).poll_write(cx, buf);
        self.place.use_it();
        self.sent(done, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let done = Pin::new(&mut self.io).poll_flush(cx);
        self.sent(done, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let done = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.place.use_it();
        self.sent(done, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn hall(connections: usize, of_one_source: usize) -> Hall {
        let (silence, stall) = (Duration::from_secs(10), Duration::from_secs(10));
        let bounds = Bounds { connections, of_one_source, silence, stall };
        Hall { bounds, began: Instant::now(), seats: Arc::default() }
    }

    fn enter(hall: &Hall, source: u8) -> (Guest<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(8);
        (hall.admit(IpAddr::from([10, 0, 0, source])).guard(ours), theirs)
    }

    fn is_ended(guest: &Guest<DuplexStream>) -> bool {
        guest.place.seat.ended.load(Ordering::Acquire)
    }

    async fn say(guest: &mut Guest<DuplexStream>, theirs: &mut DuplexStream) {
        tokio::time::advance(Duration::from_millis(1)).await;
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(guest.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_ends_the_oldest_idle_of_its_source() {
        let hall = hall(8, 2);
        let (mut first, mut of_first) = enter(&hall, 1);
        let second = enter(&hall, 1);
        let other = enter(&hall, 2);
        say(&mut first, &mut of_first).await;
        let third = enter(&hall, 1);
        assert!(!is_ended(&first) && is_ended(&second.0) && !is_ended(&other.0) && !is_ended(&third.0));
        // It is told at once, also where it waits for bytes.
        let mut second = second.0;
        assert_eq!(second.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_the_most_gives_way_where_all_places_are_taken() {
        let hall = hall(4, 3);
        let kubelet = enter(&hall, 9);
        let many: Vec<_> = (0..3).map(|_| enter(&hall, 1)).collect();
        let newcomer = enter(&hall, 2);
        let ended: Vec<bool> = many.iter().map(|(guest, _)| is_ended(guest)).collect();
        assert_eq!(ended, [true, false, false]);
        assert!(!is_ended(&kubelet.0) && !is_ended(&newcomer.0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_makes_room() {
        let hall = hall(1, 1);
        drop(enter(&hall, 1));
        let (one, _theirs) = enter(&hall, 1);
        assert!(!is_ended(&one));
        drop(one);
        assert!(hall.seats().taken.is_empty() && hall.seats().of.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_and_those_who_take_nothing_end() {
        let hall = hall(4, 4);
        let (mut silent, _theirs) = enter(&hall, 1);
        assert_eq!(silent.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut deaf, _theirs) = enter(&hall, 1);
        assert_eq!(deaf.write_all(&[0; 64]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // After the first byte it may wait.
        let (mut patient, mut theirs) = enter(&hall, 1);
        say(&mut patient, &mut theirs).await;
        assert!(tokio::time::timeout(Duration::from_secs(3600), patient.read_u8()).await.is_err());
    }
}
