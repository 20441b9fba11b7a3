//! The inside of a simulated server: what it is (fixed when it starts) and what it remembers (behind one lock that is
//! never held across an await). The other files of the room each add the part of its behaviour that is theirs.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::client::{Answer, Loopback, Trouble};
use super::family::Family;
use super::faults::{Fault, Tamper};
use super::keys::{Key, key};
use super::ledger::{Receipt, Shown};
use super::parts::{As, Options};
use super::posts::Visibility;
use super::shapes::Place;
use super::sign::{self, Profile, Signer, Tweaks};
use crate::clock::{Clock, Timestamp};

/// A post of this instance.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) place: Place,
    pub(super) object: Value,
    pub(super) visibility: Visibility,
    pub(super) deleted: bool,
}

/// The relay as this instance knows it, once its admin pasted a URL.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    /// What was pasted for Follow-of-Public: compared byte for byte with the actor's `inbox` ever after.
    pub(super) inbox: String,
    pub(super) actor: String,
    pub(super) follow_id: String,
    pub(super) follow: Value,
    pub(super) accepted: bool,
    pub(super) rejected: bool,
    pub(super) followed_back: bool,
}

/// A key of somebody else, and the actor that it belongs to.
#[derive(Clone, Debug)]
pub(super) struct RemoteKey {
    pub(super) owner: String,
    pub(super) pem: String,
    pub(super) actor: Value,
}

/// Which pool keys an actor signs with and publishes; they differ only after a silent rotation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyChoice {
    pub(super) signs: usize,
    pub(super) published: usize,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) relay: Option<Relay>,
    /// Own posts by path.
    pub(super) posts: BTreeMap<String, Stored>,
    /// Others' posts by id.
    pub(super) shown: BTreeMap<String, Shown>,
    /// The objects of Announces by id, so that an Undo can be understood.
    pub(super) announces: HashMap<String, String>,
    pub(super) receipts: Vec<Receipt>,
    pub(super) fetches: BTreeMap<String, u64>,
    pub(super) served: u64,
    pub(super) inbox_fault: Fault,
    pub(super) document_fault: Fault,
    pub(super) tamper: Tamper,
    /// How often `tamper` had its chance.
    pub(super) tampered: u32,
    pub(super) keys: BTreeMap<String, KeyChoice>,
    /// What authors changed in their documents, by name.
    pub(super) profiles: HashMap<String, Value>,
    pub(super) remote_keys: HashMap<String, RemoteKey>,
    pub(super) counter: u64,
}

pub(super) struct Shared {
    pub(super) family: Family,
    pub(super) options: Options,
    pub(super) addr: SocketAddr,
    /// `http://127.0.0.1:PORT`, or with its domain.
    pub(super) origin: String,
    pub(super) client: Loopback,
    pub(super) tasks: TaskTracker,
    /// Ends everything this instance does.
    pub(super) stop: CancellationToken,
    /// True time, for receipts; the instance's own clock is in its options and may be wrong.
    pub(super) true_clock: Clock,
    pub(super) changed: watch::Sender<u64>,
    pub(super) state: Mutex<State>,
}

impl Shared {
    /// Looks at or changes what is remembered, and wakes those who wait for it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let result = act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|turn| *turn = turn.wrapping_add(1));
        result
    }

    /// Looks at what is remembered without waking anybody.
    pub(super) fn look<R>(&self, see: impl FnOnce(&State) -> R) -> R {
        see(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until `done`; false if `limit` passed first.
    pub(super) async fn until(&self, limit: Duration, done: impl Fn(&State) -> bool) -> bool {
        let mut turns = self.changed.subscribe();
        let wait = async {
            while !self.look(&done) {
                if turns.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok() && self.look(&done)
    }

    /// Runs `job` beside the answer, as servers do with their queues; it ends with the instance.
    pub(super) fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = job => {}
            }
        });
    }

    pub(super) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    pub(super) fn host(&self) -> String {
        self.options.domain.clone().unwrap_or_else(|| self.addr.ip().to_string())
    }

    /// The path of an actor of this instance.
    pub(super) fn path_of(&self, who: &As) -> String {
        match who {
            As::Server => self.family.server_path(&self.host()),
            As::Fetcher => self.family.fetcher_path(&self.host()),
            As::Author(name) => self.family.author_path(name),
        }
    }

    /// The id of an actor of this instance.
    pub(super) fn id_of(&self, who: &As) -> String {
        format!("{}{}", self.origin, self.path_of(who))
    }

    /// The keys of the actor at `path`; which of the pool they are follows from the instance's name and the path.
    pub(super) fn keys_of(&self, path: &str) -> KeyChoice {
        let seed = self
            .options
            .name
            .bytes()
            .chain(path.bytes())
            .fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let usual = KeyChoice { signs: seed, published: seed };
        self.look(|state| state.keys.get(path).copied().unwrap_or(usual))
    }

    pub(super) fn signing_key(&self, who: &As) -> &'static Key {
        key(self.keys_of(&self.path_of(who)).signs)
    }

    fn signer(&self, who: &As) -> Signer {
        let key_id = self.family.key_id(&self.id_of(who));
        Signer { key_id, key: self.signing_key(who), bare_host: self.family == Family::Mastodon }
    }

    pub(super) fn profile(&self) -> Profile {
        if self.options.rfc9421 { Family::modern_profile() } else { self.family.profile() }
    }

    /// POSTs an activity, signed by `who`.
    pub(super) async fn deliver(&self, to: &str, body: Bytes, who: &As, tweaks: &Tweaks) -> Result<Answer, Trouble> {
        let target = tweaks.url.as_deref().unwrap_or(to);
        let url = Url::parse(target).map_err(|_cause| Trouble::NotLoopback(target.to_owned()))?;
        self.client.send(sign::post(url, body, &self.signer(who), self.profile(), self.now(), tweaks)).await
    }

    /// GETs a document, signed by `who`: as a rule the actor that this family fetches with. Draft-cavage even where the instance sends
    /// RFC 9421: half of its peers would not understand.
    pub(super) async fn fetch(&self, url: &str, who: &As) -> Result<Answer, Trouble> {
        let url = Url::parse(url).map_err(|_cause| Trouble::NotLoopback(url.to_owned()))?;
        self.client.send(sign::get(url, &self.signer(who), self.family.profile(), self.now())).await
    }

    /// A number that this instance did not use before.
    pub(super) fn next(&self) -> u64 {
        self.with(|state| {
            state.counter += 1;
            state.counter
        })
    }

    /// A short id that looks a little like this family's own.
    pub(super) fn token(&self) -> String {
        let number = self.next();
        match self.family {
            Family::Mastodon => format!("{}", 116_000_000_000_000_000 + number),
            Family::Misskey => format!("a9{number:08x}"),
            Family::GoToSocial => format!("01KDEMO{number:019}"),
            Family::Akkoma | Family::Friendica => format!("6f9b1c0e-1d5e-4a53-9d1a-{number:012x}"),
        }
    }
}
