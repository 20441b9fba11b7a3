//! What a backup is made of, while the relay runs: the rows of the store as of one moment; and whether all of it is what it
//! should be. Only over the Unix socket: the rows hold the secret of every hash here, and what waits for the operator.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{HeaderName, header};
use bytes::{Bytes, BytesMut};
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::mpsc;

use super::noted;
use super::operator::Operator;
use super::problem::{Problem, Usual};
use crate::backup::{Findings, LEFT_OUT, check as check_all};
use crate::identity::Identity;
use crate::log::Log;
use crate::store::Store;

/// Pieces of the answer that wait to be sent, and how large each is: whoever does not read holds up the copy, and is cut
/// off by the listener ten seconds later.
const PIECES: usize = 4;
const PIECE: usize = 128 << 10;

/// The rows of the store, all of one moment, as they lie in a backup.
pub(in crate::http) async fn rows(
    State(store): State<Store>,
    State(log): State<Log>,
    operator: Operator,
) -> Result<([(HeaderName, &'static str); 1], Body), Problem> {
    noted(&store, operator.act(""), "backup", "the rows of the store", Value::Null).await?;
    let snapshot = store.snapshot()?;
    let (pieces, sent) = mpsc::channel(PIECES);
    let write = move || {
        let mut out = Pieces { pieces, piece: BytesMut::with_capacity(PIECE) };
        let written = snapshot.write(&LEFT_OUT, log.head(), &mut out);
        if let Err(error) = written {
            tracing::warn!(error = format!("{error:#}"), "a backup was cut short");
            // An answer that ends in a fault is none; and if it looked whole, its end would be missing.
            let _ = out.pieces.blocking_send(Err(io::Error::other("the copy was cut short")));
        }
    };
    drop(tokio::task::spawn_blocking(write));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::new(Sent(sent))))
}

/// Read everything that is kept, and say what is not as it should be.
///
/// Every row of the store, what belongs together in it, the log and who reads it, the keys. Takes seconds where there is much.
/// The index of the search is compared by `index/check`.
#[utoipa::path(
    get,
    path = "/api/admin/v1/store/check",
    tag = "relay",
    operation_id = "check_store",
    responses((status = 200, description = "What was found; `ok` if nothing is wrong.", body = Findings), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn check(
    State(store): State<Store>,
    State(identity): State<Identity>,
) -> Result<Json<Findings>, Problem> {
    let read = move || check_all(&store.snapshot()?, identity.rotation.status());
    Ok(Json(tokio::task::spawn_blocking(read).await??))
}

/// Hands what is written to whoever sends it, piece by piece.
struct Pieces {
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
