//! An answer that may be larger than memory, sent as it is written.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::costly::Place;

/// Pieces of the answer that wait to be sent, and how large each is: whoever does not read holds up the writing, and is cut
/// off by the listener ten seconds later.
const PIECES: usize = 4;
const PIECE: usize = 128 << 10;

/// What `write` writes. One that is cut short has no end, and the client's library says so; what is sent has a last word of
/// its own all the same.
pub(super) fn streamed(
    place: Place,
    what: &'static str,
    write: impl FnOnce(&mut Pieces) -> anyhow::Result<()> + Send + 'static,
) -> Body {
    let (pieces, sent) = mpsc::channel(PIECES);
    let run = move || {
        let _place = place;
        let mut out = Pieces { pieces, piece: BytesMut::with_capacity(PIECE) };
        let written = write(&mut out).and_then(|()| Ok(out.flush()?));
        if let Err(error) = written {
            tracing::warn!(error = format!("{error:#}"), "{what} was cut short");
            // An answer that ends in a fault is none; and if it looked whole, its end would be missing.
            let _ = out.pieces.blocking_send(Err(io::Error::other("the answer was cut short")));
        }
    };
    drop(tokio::task::spawn_blocking(run));
    Body::new(Sent(sent))
}

/// Hands what is written to whoever sends it, piece by piece.
pub(super) struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        self.pieces.blocking_send(Ok(piece)).map_err(|_gone| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// The answer's body.
struct Sent(mpsc::Receiver<io::Result<Bytes>>);

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
