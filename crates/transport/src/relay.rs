//! Bytes both ways between two connections, until both ends are done, or nothing moved for too long.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// Bytes taken at a time; allocated only while there is something to carry.
const BUFFER_BYTES: usize = 16 << 10;

/// What a relay carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// From the client to the upstream.
    pub up: u64,
    /// From the upstream to the client.
    pub down: u64,
    /// Why it ended.
    pub ended: Ended,
}

/// Why a relay ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// Both sides were done, or one broke.
    #[default]
    Closed,
    /// Nothing moved for too long.
    Idle,
    /// It was as old as it may get.
    Aged,
    /// Whoever watches over it said so.
    Cut,
}

/// How long a relay may last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Without a byte either way.
    pub idle: Option<Duration>,
    /// From its beginning, whatever moves.
    pub age: Option<Duration>,
}

/// Carries bytes until both directions have ended, or until `cut`. A direction that ends closes the other side's writing half.
pub async fn relay<A, B>(client: A, upstream: B, bounds: Bounds, cut: impl Future<Output = ()>) -> Carried
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Rc::new(Cell::new(Instant::now()));
    let (up, down) = (Cell::new(0), Cell::new(0));
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let both = async {
        tokio::try_join!(
            one_way(client_read, upstream_write, &up, &moved),
            one_way(upstream_read, client_write, &down, &moved)
        )
    };
    let aged = async {
        match bounds.age {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        // A connection that breaks ends the relay; what was carried until then counts.
        _ = both => Ended::Closed,
        () = until_idle(&moved, bounds.idle) => Ended::Idle,
        () = aged => Ended::Aged,
        () = cut => Ended::Cut,
    };
    Carried { up: up.get(), down: down.get(), ended }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &Cell<u64>,
    moved: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        // TLS keeps what its socket did not take; without this it would wait for the next bytes.
        to.flush().await?;
        count.set(count.get() + read as u64);
        moved.set(Instant::now());
    }
}

async fn until_idle(moved: &Cell<Instant>, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        let deadline = moved.get() + idle;
        if Instant::now() >= deadline {
            return;
        }
        tokio::time::sleep_until(deadline).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

    use super::*;

    #[tokio::test]
    async fn what_a_side_keeps_until_it_is_flushed_is_not_left_there() {
        let (mut client, near) = tokio::io::duplex(64);
        let (far, mut upstream) = tokio::io::duplex(64);
        let (near, far) = (tokio::io::BufStream::new(near), tokio::io::BufStream::new(far));
        let talk = async {
            let mut heard = [0; 2];
            client.write_all(b"hi").await.unwrap();
            upstream.read_exact(&mut heard).await.unwrap();
            upstream.write_all(b"yo").await.unwrap();
            client.read_exact(&mut heard).await.unwrap();
            drop((client, upstream));
            heard
        };
        let (carried, heard) = tokio::join!(relay(near, far, Bounds::default(), std::future::pending()), talk);
        assert_eq!((heard, carried.up, carried.down), (*b"yo", 2, 2));
    }

    /// Its reads fail; nothing can be written to it.
    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_tls_without_a_word_ends_the_relay() {
        let (near, _far) = tokio::io::duplex(64);
        assert_eq!(relay(Broken, near, Bounds::default(), std::future::pending()).await.ended, Ended::Closed);
    }
}
