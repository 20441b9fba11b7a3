//! One simulated server, as a handle: start it on a free loopback port, let it join a relay, post, misbehave; look at
//! what it received. Dropping the handle stops everything it does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::{Answer, Loopback, Trouble};
use super::family::Family;
use super::faults::{Fault, Tamper, Verdict};
use super::inbox::{self, Post};
use super::ledger::{Ledger, Receipt, Shown};
use super::parts::{As, Composed, Options, Posted, Rotation, Where};
use super::posts::PostSpec;
use super::serve::{self, Arrived, HangUp, Reply, reply};
use super::sign::Tweaks;
use super::state::{Shared, State};
use super::{actors, outgoing};
use crate::clock::Clock;

/// A running simulated server.
pub struct Instance {
    shared: Arc<Shared>,
    listening: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

impl Instance {
    /// Starts a server of `family` on a free port.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(family: Family, options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::new(options.bind, 0)).await?;
        let addr = listener.local_addr()?;
        let host = options.domain.clone().unwrap_or_else(|| addr.ip().to_string());
        let origin = format!("http://{host}:{}", addr.port());
        let state = State { inbox_fault: options.fault.clone(), ..State::default() };
        let shared = Arc::new(Shared {
            family,
            options,
            addr,
            origin,
            client: Loopback::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            true_clock: Clock::system(),
            changed: watch::Sender::new(0),
            state: Mutex::new(state),
        });
        let instance = Self { shared, listening: Mutex::new(None) };
        instance.listen(listener);
        Ok(instance)
    }

    fn listen(&self, listener: TcpListener) {
        let stop = self.shared.stop.child_token();
        let (shared, tasks) = (Arc::clone(&self.shared), self.shared.tasks.clone());
        let handler = move |arrived| handle(Arc::clone(&shared), arrived);
        let task = self.shared.tasks.spawn(serve::accept(listener, |_| None, tasks, stop.clone(), handler));
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some((stop, task));
    }

    /// Dies: connections are cut, new ones refused. What it knows stays.
    pub async fn kill(&self) {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, task)) = listening {
            stop.cancel();
            let _ended = task.await;
        }
    }

    /// Comes back at the same address.
    ///
    /// # Errors
    /// When somebody else took the port meanwhile.
    pub async fn revive(&self) -> std::io::Result<()> {
        let listener = TcpListener::bind(self.shared.addr).await?;
        self.listen(listener);
        Ok(())
    }

    /// Stops everything and waits until it has stopped.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// What it imitates.
    #[must_use]
    pub fn family(&self) -> Family {
        self.shared.family
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.options.name
    }

    /// `http://127.0.0.1:PORT`, or with its domain.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// The id of one of its actors.
    #[must_use]
    pub fn actor(&self, who: &As) -> String {
        self.shared.id_of(who)
    }

    /// The key id of one of its actors.
    #[must_use]
    pub fn key_id(&self, who: &As) -> String {
        self.shared.family.key_id(&self.shared.id_of(who))
    }

    /// Asks the relay at `base` (its public URL) to relay for this instance.
    ///
    /// # Errors
    /// When the relay's actor cannot be read, or does not answer.
    pub async fn join(&self, base: &str) -> Result<Answer, Trouble> {
        self.shared.join(base).await
    }

    /// Lets the search of the relay at `base` have its posts, in its family's way of joining: from now on what it says goes
    /// to the search actor.
    ///
    /// # Errors
    /// When that actor cannot be read, or does not answer.
    pub async fn join_search(&self, base: &str) -> Result<Answer, Trouble> {
        self.shared.join(&format!("{}/search", base.trim_end_matches('/'))).await
    }

    /// The id of the Follow that the relay has to accept.
    #[must_use]
    pub fn follow_id(&self) -> Option<String> {
        self.shared.look(|state| state.relay.as_ref().map(|relay| relay.follow_id.clone()))
    }

    /// Waits until the relay accepted us in a way that our family understands; false after `limit`.
    pub async fn wait_accepted(&self, limit: Duration) -> bool {
        self.shared.until(limit, |state| state.relay.as_ref().is_some_and(|relay| relay.accepted)).await
    }

    /// Waits until the relay follows our relay actor (Akkoma publishes nothing before); false after `limit`.
    pub async fn wait_followed_back(&self, limit: Duration) -> bool {
        self.shared.until(limit, |state| state.relay.as_ref().is_some_and(|relay| relay.followed_back)).await
    }

    /// Whether the relay turned us away.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.shared.look(|state| state.relay.as_ref().is_some_and(|relay| relay.rejected))
    }

    /// Leaves the relay.
    ///
    /// # Errors
    /// When it does not answer, or was never joined.
    pub async fn leave(&self) -> Result<Answer, Trouble> {
        self.shared.leave().await
    }

    /// Makes a post and tells the relay.
    ///
    /// # Errors
    /// When the relay does not answer, or was never joined.
    pub async fn post(&self, spec: PostSpec) -> Result<Posted, Trouble> {
        self.shared.send(&self.shared.compose(&spec)).await
    }

    /// Makes a post (it can be read at its id from now on) without telling anybody.
    #[must_use]
    pub fn compose(&self, spec: &PostSpec) -> Composed {
        self.shared.compose(spec)
    }

    /// Tells the relay, once more if need be.
    ///
    /// # Errors
    /// As [`Instance::post`].
    pub async fn send(&self, composed: &Composed) -> Result<Posted, Trouble> {
        self.shared.send(composed).await
    }

    /// Changes a post's text and makes the Update; `None` if there is no such post.
    #[must_use]
    pub fn compose_edit(&self, id: &str, text: &str) -> Option<Composed> {
        self.shared.compose_edit(id, text)
    }

    /// Deletes a post (its id answers 410 from now on) and makes the Delete; `None` if there is no such post.
    #[must_use]
    pub fn compose_deletion(&self, id: &str) -> Option<Composed> {
        self.shared.compose_deletion(id)
    }

    /// Changes an author's document from now on: these properties are added, or take the place of those that are there.
    pub fn set_profile(&self, name: &str, properties: serde_json::Value) {
        self.shared.with(|state| {
            let changed = state.profiles.entry(name.to_owned()).or_insert_with(|| serde_json::json!({}));
            super::shapes::merge(changed, properties);
        });
    }

    /// Makes the Update with which the author `name` tells of their document; `None` if there is no such author.
    #[must_use]
    pub fn compose_profile(&self, name: &str) -> Option<Composed> {
        self.shared.compose_profile(name)
    }

    /// Adds the proof (FEP-8b32) of `who`, made now, to any activity. Their key is in their document.
    pub fn prove(&self, activity: &mut serde_json::Value, who: &As) {
        self.shared.prove(activity, who);
    }

    /// Makes the boost of any post by its id, as the author `name`.
    #[must_use]
    pub fn compose_boost(&self, name: &str, object: &str) -> Composed {
        self.shared.compose_boost(name, object)
    }

    /// Changes a post's text and tells the relay.
    ///
    /// # Errors
    /// As [`Instance::post`]; also when there is no such post.
    pub async fn edit(&self, id: &str, text: &str) -> Result<Posted, Trouble> {
        let composed = self.shared.compose_edit(id, text);
        self.shared.send(&composed.ok_or_else(|| unknown(id))?).await
    }

    /// Deletes a post and tells the relay.
    ///
    /// # Errors
    /// As [`Instance::edit`].
    pub async fn delete(&self, id: &str) -> Result<Posted, Trouble> {
        let composed = self.shared.compose_deletion(id);
        self.shared.send(&composed.ok_or_else(|| unknown(id))?).await
    }

    /// Boosts any post by its id, as the author `name`.
    ///
    /// # Errors
    /// As [`Instance::post`].
    pub async fn boost(&self, name: &str, object: &str) -> Result<Posted, Trouble> {
        self.shared.send(&self.shared.compose_boost(name, object)).await
    }

    /// Sends any body to the relay's inbox (or to the URL in `tweaks`), signed by `signer` as truly or falsely as
    /// `tweaks` says.
    ///
    /// # Errors
    /// When there is no answer, or no relay was joined and no URL given.
    pub async fn send_raw(&self, body: impl Into<Bytes>, signer: &As, tweaks: &Tweaks) -> Result<Answer, Trouble> {
        let inbox = self.shared.look(|state| state.relay.as_ref().map(|relay| relay.inbox.clone()));
        let inbox = inbox.or_else(|| tweaks.url.clone()).ok_or_else(outgoing::nobody)?;
        self.shared.deliver(&inbox, body.into(), signer, tweaks).await
    }

    /// GETs a document on loopback, signed as this family signs.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn fetch(&self, url: &str) -> Result<Answer, Trouble> {
        self.shared.fetch(url, &As::Fetcher).await
    }

    /// The same, signed by somebody else on this instance.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn fetch_as(&self, url: &str, who: &As) -> Result<Answer, Trouble> {
        self.shared.fetch(url, who).await
    }

    /// Everything that came to its inboxes, in order of arrival.
    #[must_use]
    pub fn received(&self) -> Vec<Receipt> {
        self.shared.look(|state| state.receipts.clone())
    }

    /// Waits until `done` is true of what it received; false after `limit`.
    pub async fn wait_received(&self, limit: Duration, done: impl Fn(&[Receipt]) -> bool) -> bool {
        self.shared.until(limit, |state| done(&state.receipts)).await
    }

    /// The posts of others that it holds.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        self.shared.look(|state| state.shown.values().cloned().collect())
    }

    /// How often each of its documents was asked for, by path and query.
    #[must_use]
    pub fn fetches(&self) -> BTreeMap<String, u64> {
        self.shared.look(|state| state.fetches.clone())
    }

    /// What is wrong with its inboxes from now on.
    pub fn set_fault(&self, fault: Fault) {
        self.set_fault_at(Where::Inbox, fault);
    }

    /// What is wrong with a part of it from now on.
    pub fn set_fault_at(&self, place: Where, fault: Fault) {
        self.shared.with(|state| match place {
            Where::Inbox => state.inbox_fault = fault,
            Where::Documents => state.document_fault = fault,
        });
    }

    /// Puts something between the relay and this instance that breaks a promise.
    pub fn set_tamper(&self, tamper: Tamper) {
        self.shared.with(|state| (state.tamper, state.tampered) = (tamper, 0));
    }

    /// Gives an actor another key of the pool.
    pub fn rotate_key(&self, who: &As, rotation: Rotation) {
        let path = self.shared.path_of(who);
        let mut choice = self.shared.keys_of(&path);
        choice.signs += 1;
        if rotation == Rotation::Published {
            choice.published = choice.signs;
        }
        self.shared.with(|state| state.keys.insert(path, choice));
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

fn unknown(id: &str) -> Trouble {
    Trouble::Unreadable(format!("there is no post {id} here"))
}

async fn handle(shared: Arc<Shared>, arrived: Arrived) -> Result<Reply, HangUp> {
    let (parts, body) = arrived.request.into_parts();
    let target = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let path = parts.uri.path().to_owned();
    if parts.method == Method::POST {
        return match path.ends_with("/inbox") {
            true => Box::pin(inbox::receive(&shared, Post { path, target, headers: parts.headers, body })).await,
            false => Ok(serve::text(StatusCode::NOT_FOUND, "")),
        };
    }
    if path == "/ledger" {
        return Ok(ledger(&shared, parts.uri.query().unwrap_or_default()));
    }
    let fault = shared.look(|state| state.document_fault.clone());
    shared.with(|state| {
        *state.fetches.entry(target.clone()).or_default() += 1;
        state.served += 1;
    });
    match fault.strike().await {
        Verdict::Go => Ok(Box::pin(actors::answer(&shared, &target, &parts.headers)).await),
        Verdict::GoSilently => Err(HangUp),
        Verdict::Stop(answer, _) => answer,
    }
}

fn ledger(shared: &Shared, query: &str) -> Reply {
    let since: u64 = query.strip_prefix("since=").and_then(|text| text.parse().ok()).unwrap_or(0);
    let ledger = shared.look(|state| Ledger {
        name: shared.options.name.clone(),
        family: shared.family,
        origin: shared.origin.clone(),
        accepted: state.relay.as_ref().is_some_and(|relay| relay.accepted),
        followed_back: state.relay.as_ref().is_some_and(|relay| relay.followed_back),
        receipts: state.receipts.iter().filter(|receipt| receipt.seq > since).cloned().collect(),
        posts: state.shown.values().cloned().collect(),
        served: state.served,
    });
    reply(StatusCode::OK, "application/json", serde_json::to_string(&ledger).unwrap_or_default())
}
