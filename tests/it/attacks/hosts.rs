//! Hosts under the corpus's hand: each answers GETs with the pages it was given, takes every POST, and remembers all that
//! it was asked. Written on bare sockets, so that a page can say what no honest server would.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::letter::Key;

/// The longest a host listens to one request.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a host answers to a GET.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Page {
    pub(super) fn document(value: &Value) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/activity+json".to_owned())];
        Self { status: 200, headers, body: value.to_string().into_bytes() }
    }

    fn json(value: &Value) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { status: 200, headers, body: value.to_string().into_bytes() }
    }
}

#[derive(Default)]
struct Inside {
    pages: HashMap<String, Page>,
    gets: Vec<String>,
    posts: Vec<String>,
}

/// A host. Cheap to clone.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) origin: String,
    inside: Arc<Mutex<Inside>>,
}

impl Host {
    /// Starts one on a free port of `address`; it lives as long as `tasks` is not dropped with its runtime.
    pub(super) async fn start(address: Ipv4Addr, tasks: &TaskTracker) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        Self::on(listener, tasks)
    }

    pub(super) fn on(listener: TcpListener, tasks: &TaskTracker) -> Self {
        let addr = listener.local_addr().expect("an address");
        let host = Self { origin: format!("http://{addr}"), inside: Arc::default() };
        host.serve_nodeinfo();
        let (served, inner) = (host.clone(), tasks.clone());
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let host = served.clone();
                inner.spawn(async move { tokio::time::timeout(PATIENCE, host.answer(stream)).await });
            }
        });
        host
    }

    /// Serves an ordinary actor; its key's id ends in `#main-key`, that of the one for proofs in `#ed25519-key`.
    pub(super) fn serve_actor(&self, path: &str, kind: &str, key: &Key) {
        self.set(path, Page::document(&self.actor(path, kind, key)));
    }

    /// An ordinary actor document.
    pub(super) fn actor(&self, path: &str, kind: &str, key: &Key) -> Value {
        let id = format!("{}{path}", self.origin);
        json!({
            "@context": ["https://www.w3.org/ns/activitystreams", "https://w3id.org/security/v1"],
            "id": id, "type": kind, "preferredUsername": path.rsplit('/').next().unwrap_or_default(),
            "inbox": format!("{}/inbox", self.origin), "outbox": format!("{id}/outbox"), "followers": format!("{id}/followers"),
            "publicKey": { "id": format!("{id}#main-key"), "owner": id, "publicKeyPem": key.public_pem },
            "assertionMethod": [{
                "id": format!("{id}#ed25519-key"), "type": "Multikey", "controller": id, "publicKeyMultibase": key.multibase,
            }],
        })
    }

    fn serve_nodeinfo(&self) {
        let link = json!({ "rel": "http://nodeinfo.diaspora.software/ns/schema/2.0", "href": format!("{}/nodeinfo/2.0", self.origin) });
        self.set("/.well-known/nodeinfo", Page::json(&json!({ "links": [link] })));
        let software = json!({ "name": "mastodon", "version": "4.5.0" });
        self.set(
            "/nodeinfo/2.0",
            Page::json(&json!({ "version": "2.0", "software": software, "protocols": ["activitypub"] })),
        );
    }

    pub(super) fn set(&self, target: &str, page: Page) {
        self.inside().pages.insert(target.to_owned(), page);
    }

    /// The targets of all GETs of the relay so far.
    pub(super) fn gets(&self) -> Vec<String> {
        self.inside().gets.clone()
    }

    /// The bodies of all POSTs so far.
    pub(super) fn posts(&self) -> Vec<String> {
        self.inside().posts.clone()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, mut stream: TcpStream) {
        let Some((method, target, by_relay, body)) = read_request(&mut stream).await else { return };
        let page = {
            let mut inside = self.inside();
            if method == "POST" {
                inside.posts.push(String::from_utf8_lossy(&body).into_owned());
                Some(Page { status: 202, headers: Vec::new(), body: Vec::new() })
            } else {
                if by_relay {
                    inside.gets.push(target.clone());
                }
                inside.pages.get(&target).cloned()
            }
        };
        let page = page.unwrap_or(Page { status: 404, headers: Vec::new(), body: Vec::new() });
        let mut head = format!("HTTP/1.1 {} Scripted\r\nConnection: close\r\n", page.status);
        if !page.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            head.push_str(&format!("Content-Length: {}\r\n", page.body.len()));
        }
        for (name, value) in &page.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        // A relay that has read enough hangs up.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&page.body).await;
        let _ = stream.shutdown().await;
    }
}

/// Method, target, whether it is the relay that asks, and body.
async fn read_request(stream: &mut TcpStream) -> Option<(String, String, bool, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let by_relay = head.to_ascii_lowercase().contains("user-agent: shearwater");
    let mut line = head.lines().next()?.split(' ');
    let (method, target) = (line.next()?.to_owned(), line.next()?.to_owned());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    while bytes.len() < head_end + length.unwrap_or(0) {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((method, target, by_relay, bytes.split_off(head_end)))
}

/// A listener at an address that the relay must never dial.
pub(super) struct Canary {
    pub(super) addr: SocketAddr,
    touched: Arc<AtomicUsize>,
}

impl Canary {
    pub(super) async fn start(tasks: &TaskTracker) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let (addr, touched) = (listener.local_addr().expect("an address"), Arc::new(AtomicUsize::new(0)));
        let count = touched.clone();
        tasks.spawn(async move {
            while let Ok((_stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { addr, touched }
    }

    /// How often somebody came.
    pub(super) fn touched(&self) -> usize {
        self.touched.load(Ordering::SeqCst)
    }
}
