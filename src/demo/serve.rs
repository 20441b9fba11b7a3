//! The accept loop of the simulated servers, and the bodies that misbehave. One task per connection, all of them owned
//! by the tracker and ended by the token of the instance: when the handle is dropped, nothing of it is left running.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest request body that any simulated server reads at all.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// What a handler gives back.
pub(super) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A handler's wish to close the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("hung up on purpose")]
pub(super) struct HangUp;

/// A request as it came, and the address it came to (a swarm tells its subscribers apart by it).
pub(super) struct Arrived {
    pub(super) request: Request<Bytes>,
    pub(super) local: SocketAddr,
}

/// Serves `listener` until `stop`, over TLS where `tls` has it for an address of ours. Connections whose two ends are not both loopback are closed
/// unread.
pub(super) async fn accept<H, F>(
    listener: TcpListener,
    tls: impl Fn(SocketAddr) -> Option<TlsAcceptor>,
    tasks: TaskTracker,
    stop: CancellationToken,
    handler: H,
) where
    H: Fn(Arrived) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Reply, HangUp>> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) if peer.ip().is_loopback() => {
                let Some(local) = stream.local_addr().ok().filter(|local| local.ip().is_loopback()) else { continue };
                let (handler, stop, tls) = (handler.clone(), stop.clone(), tls(local));
                let _best_effort = stream.set_nodelay(true);
                let serving = async move {
                    let Some(tls) = tls else { return serve(stream, local, handler).await };
                    // Who does not get as far as that is nothing to report either.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, local, handler).await;
                    }
                };
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = Box::pin(serving) => {}
                    }
                });
            }
            Ok(_) => {}
            // Out of file descriptors, most likely: wait for some to come back instead of spinning.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve<S, H, F>(stream: S, local: SocketAddr, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Arrived) -> F,
    F: Future<Output = Result<Reply, HangUp>>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let handler = &handler;
        async move {
            let (parts, body) = request.into_parts();
            match Limited::new(body, MAX_BODY).collect().await {
                Ok(body) => handler(Arrived { request: Request::from_parts(parts, body.to_bytes()), local }).await,
                Err(_) => Ok(text(StatusCode::PAYLOAD_TOO_LARGE, "")),
            }
        }
    });
    // A peer that goes away mid-request is nothing to report: it is what this module simulates.
    let _ended = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// An answer with a body of a given type.
pub(super) fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed_unsync());
    *reply.status_mut() = status;
    reply.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    reply
}

/// A plain text answer.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, "text/plain", body)
}

/// An answer whose body has no end: `chunk` again and again, with `gap` between.
pub(super) fn endless(chunk: &'static [u8], gap: Duration) -> Reply {
    let body = Endless { chunk, gap, wait: Box::pin(tokio::time::sleep(Duration::ZERO)) };
    Response::new(body.boxed_unsync())
}

struct Endless {
    chunk: &'static [u8],
    gap: Duration,
    wait: Pin<Box<tokio::time::Sleep>>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.wait.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let next = tokio::time::Instant::now() + self.gap;
        self.wait.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(self.chunk)))))
    }
}
