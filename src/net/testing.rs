//! For the tests of `net` and `peers`: servers on loopback addresses. "The public internet" is 127.0.0.2 and 127.0.0.3;
//! 127.0.0.1 stays forbidden and is where the canaries sit.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::client::Client;
use super::keyring::{KeyRing, Keys, Standing};
use super::signed::SignedClient;
use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::ids::Iri;
use crate::wire::http_sig::Scheme;
use crate::wire::key::SigningKey;

/// 2026-08-23T12:00:00Z.
pub(crate) const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

/// Where the honest and the hostile live.
pub(crate) const OPEN: &str = "127.0.0.2";
/// Another public host.
pub(crate) const OTHER: &str = "127.0.0.3";
/// Where nobody may ever knock.
pub(crate) const CANARY: &str = "127.0.0.1";

/// The settings that make it so.
pub(crate) fn fetch() -> config::Fetch {
    let mut fetch = config::Config::embedded().fetch;
    fetch.allow_private = vec!["127.0.0.2/31".parse().unwrap()];
    fetch.allow_http = true;
    fetch.timeout = Duration::from_secs(5);
    fetch
}

/// The relay's test keys.
pub(crate) fn keys() -> Keys {
    let key = |fragment: &str, pem| {
        let id = format!("https://relay.example/actor#{fragment}");
        SigningKey::from_pem(Iri::parse(&id).unwrap(), pem).unwrap()
    };
    Keys {
        rsa: key("main-key", include_str!("../../tests/fixtures/keys/relay.rsa.pk8.pem")),
        ed25519: key("ed25519-key", include_str!("../../tests/fixtures/keys/relay.ed25519.pk8.pem")),
    }
}

/// The pair that replaces them.
pub(crate) fn other_keys() -> Keys {
    let id = |fragment: &str| Iri::parse(&format!("https://relay.example/actor#{fragment}")).unwrap();
    let rsa = include_str!("../../tests/fixtures/keys/author.rsa.pk8.pem");
    Keys {
        rsa: SigningKey::from_pem(id("main-key-2"), rsa).unwrap(),
        ed25519: SigningKey::generate_ed25519(id("ed25519-key-2"), &mut rand::rng()).unwrap(),
    }
}

/// A client on loopback.
pub(crate) fn signed_client(clock: Clock, fetch: &config::Fetch) -> SignedClient {
    signed_client_with(KeyRing::new(Standing::only(keys())), clock, fetch)
}

/// The same with these keys.
pub(crate) fn signed_client_with(keys: KeyRing, clock: Clock, fetch: &config::Fetch) -> SignedClient {
    let client = Client::new(&config::Config::embedded().net, fetch, "shearwater/test").unwrap();
    SignedClient::new(client, keys, clock, fetch)
}

/// Runs beside the test until the test's runtime ends.
#[expect(clippy::disallowed_methods, reason = "a test's servers fall with its runtime")]
pub(crate) fn beside(future: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(future));
}

/// A server that answers every connection with these bytes, whatever is asked, and counts connections. An answer that
/// ends with `...` goes on for ever; one that ends with `zzz` is followed by silence.
pub(crate) async fn raw_server(host: &str, answer: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let (addr, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    beside(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            beside(async move {
                let _ = socket.read(&mut [0; 8192]).await;
                let _ = socket.write_all(answer).await;
                if answer.ends_with(b"...") {
                    while socket.write_all(&[b'x'; 4096]).await.is_ok() {}
                } else if answer.ends_with(b"zzz") {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
            });
        }
    });
    (addr, count)
}

/// A server that answers like [`raw_server`] and then sends `piece` again and again, as long as somebody takes it; how many
/// bytes of that were taken.
pub(crate) async fn hose(host: &str, answer: &'static [u8], piece: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let (addr, taken) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = taken.clone();
    beside(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let counted = counted.clone();
            beside(async move {
                let _ = socket.read(&mut [0; 8192]).await;
                let _ = socket.write_all(answer).await;
                while socket.write_all(piece).await.is_ok() {
                    counted.fetch_add(piece.len(), Ordering::SeqCst);
                }
            });
        }
    });
    (addr, taken)
}

/// A server that resets every connection.
pub(crate) async fn resetting(host: &str) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    beside(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // What was sent and never read makes a reset of the end.
            let _ = socket.readable().await;
            drop(socket);
        }
    });
    addr
}

/// Who calls itself `tls.example`, or a name below it, as the test CA confirms, and speaks what is in `alpn`.
pub(crate) fn tls_acceptor(alpn: &[&str]) -> tokio_rustls::TlsAcceptor {
    tokio_rustls::TlsAcceptor::from(Arc::new(tls_config(alpn, 0)))
}

/// The settings of it, with as many certificates more in the chain, which nobody needs.
pub(crate) fn tls_config(alpn: &[&str], more: usize) -> rustls::ServerConfig {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let read = |pem: &[u8]| CertificateDer::from_pem_slice(pem).unwrap();
    let mut chain = vec![read(include_bytes!("../../tests/fixtures/tls/server.pem"))];
    chain.extend(std::iter::repeat_n(read(include_bytes!("../../tests/fixtures/tls/ca.pem")), more));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../tests/fixtures/tls/server.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
    config
}

/// Makes session tickets of as many bytes. What they hide is in the open: for tests.
#[derive(Debug)]
pub(crate) struct Tickets(pub(crate) usize);

impl rustls::server::ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        3600
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut ticket = u32::try_from(plain.len()).ok()?.to_be_bytes().to_vec();
        ticket.extend(plain);
        ticket.resize(ticket.len().max(self.0), 0);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (length, rest) = ticket.split_first_chunk()?;
        rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?).map(<[u8]>::to_vec)
    }
}

/// A TLS server that answers `tls` once to each connection.
pub(crate) async fn tls_server() -> u16 {
    let acceptor = tls_acceptor(&[]);
    let listener = TcpListener::bind((OPEN, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    beside(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(socket).await else { continue };
            let _ = tls.read(&mut [0; 8192]).await;
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntls").await;
            let _ = tls.shutdown().await;
        }
    });
    port
}

/// Serves a router beside the test.
pub(crate) fn serve(listener: TcpListener, router: axum::Router) {
    beside(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = TowerToHyperService::new(router.clone());
            beside(async move {
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
}

/// What a [`Site`] answers to one path.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Page {
    /// An ActivityPub document.
    pub(crate) fn document(body: impl ToString) -> Self {
        Self::typed("application/activity+json", body)
    }

    pub(crate) fn typed(content_type: &str, body: impl ToString) -> Self {
        Self { status: 200, headers: vec![("content-type", content_type.to_owned())], body: body.to_string() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self { status: 302, headers: vec![("location", to.to_owned())], body: String::new() }
    }
}

type Meanwhile = Box<dyn FnOnce() + Send>;

/// A server whose pages the test sets, and which remembers what it was asked.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) addr: SocketAddr,
    pages: Arc<Mutex<HashMap<String, Page>>>,
    seen: Arc<Mutex<Vec<(String, http::HeaderMap)>>>,
    demand: Arc<Mutex<Option<(Scheme, u16)>>>,
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

impl Site {
    /// A site on a free port of this address. Pages not set are 404.
    pub(crate) async fn start(host: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let site = Self {
            addr: listener.local_addr().unwrap(),
            pages: Arc::default(),
            seen: Arc::default(),
            demand: Arc::default(),
            meanwhile: Arc::default(),
        };
        let answering = site.clone();
        let router = axum::Router::new().fallback(move |request: Request| {
            let site = answering.clone();
            let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            let headers = request.headers().clone();
            async move { site.answer(path, headers).await }
        });
        serve(listener, router);
        site
    }

    /// `http://127.0.0.2:4101` and the path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// What a `Host` header calls it.
    pub(crate) fn host(&self) -> http::HeaderValue {
        self.addr.to_string().parse().unwrap()
    }

    pub(crate) fn iri(&self, path: &str) -> Iri {
        Iri::parse(&self.url(path)).unwrap()
    }

    pub(crate) fn set(&self, path: &str, page: Page) {
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// The paths that were asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }

    /// Does this while the next request is answered.
    pub(crate) fn meanwhile(&self, done: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(done));
    }

    /// From now on a request that is not signed with this profile is answered with this status.
    pub(crate) fn demand(&self, wanted: Option<(Scheme, u16)>) {
        *self.demand.lock().unwrap() = wanted;
    }

    /// The headers of the latest request for this path.
    pub(crate) fn headers_of(&self, path: &str) -> http::HeaderMap {
        let seen = self.seen.lock().unwrap();
        seen.iter().rev().find(|(asked, _)| asked == path).unwrap().1.clone()
    }

    /// The headers of the latest request.
    pub(crate) fn last_headers(&self) -> http::HeaderMap {
        self.seen.lock().unwrap().last().unwrap().1.clone()
    }

    async fn answer(&self, path: String, headers: http::HeaderMap) -> Response {
        let scheme = if headers.contains_key("signature-input") { Scheme::Rfc9421 } else { Scheme::Cavage };
        self.seen.lock().unwrap().push((path.clone(), headers));
        let demand = *self.demand.lock().unwrap();
        let page = self.pages.lock().unwrap().get(&path).cloned().unwrap_or_else(|| Page::status(404));
        let page = match demand {
            Some((wanted, status)) if wanted != scheme => Page::status(status),
            _ => page,
        };
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(done) = meanwhile {
            done();
        }
        // Long enough that requests which can meet do meet.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut response = Response::builder().status(page.status);
        for (name, value) in page.headers {
            response = response.header(name, value);
        }
        response.body(page.body.into()).unwrap()
    }
}
