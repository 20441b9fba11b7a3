//! What an instance says to the relay: the two handshakes, posts, edits, deletions and boosts, each in its family's own
//! form and signed by whom that family signs with.

use bytes::Bytes;
use serde_json::{Value, json};

use super::client::{Answer, Trouble};
use super::family::Family;
use super::parts::{As, Composed, Posted};
use super::posts::{PostSpec, Visibility};
use super::remote::{id_of, text};
use super::shapes::{self, AS2, PUBLIC, Place};
use super::sign::Tweaks;
use super::state::{Relay, Shared, Stored};
use super::{actors, keys, ld, proofs};

impl Shared {
    /// Sends the Follow, in the form of the family. What an admin pastes is the relay's inbox or its actor.
    pub(super) async fn join(&self, base: &str) -> Result<Answer, Trouble> {
        let (me, base) = (self.id_of(&As::Server), base.trim_end_matches('/'));
        let (typed_inbox, actor) = (format!("{base}/inbox"), format!("{base}/actor"));
        let token = self.token();
        let (follow_id, object, inbox) = if self.family.follows_public() {
            let id = match self.family {
                Family::Misskey => format!("{}/activities/follow-relay/{token}", self.origin),
                _ => format!("{}/{token}", self.origin),
            };
            (id, PUBLIC.to_owned(), typed_inbox)
        } else {
            let document = self.document(&actor).await.map_err(Trouble::Unreadable)?;
            let inbox = text(&document, "inbox").map(str::to_owned);
            let inbox = inbox.ok_or_else(|| Trouble::Unreadable(format!("{actor} has no inbox")))?;
            (format!("{me}/follow/{token}"), actor.clone(), inbox)
        };
        let mut follow = json!({ "@context": AS2, "id": follow_id, "type": "Follow", "actor": me, "object": object });
        if !self.family.follows_public() {
            shapes::merge(&mut follow, json!({ "to": [actor] }));
        }
        let body = Bytes::from(follow.to_string());
        // Remembered before it is sent: an Accept may be faster than our own answer.
        let (accepted, rejected, followed_back) = (false, false, false);
        let relay = Relay { inbox: inbox.clone(), actor, follow_id, follow, accepted, rejected, followed_back };
        self.with(|state| state.relay = Some(relay));
        self.deliver(&inbox, body, &As::Server, &Tweaks::default()).await
    }

    /// Takes the Follow back; an Accept that comes later is ignored.
    pub(super) async fn leave(&self) -> Result<Answer, Trouble> {
        let Some(relay) = self.with(|state| state.relay.take()) else { return Err(nobody()) };
        let id = match self.family {
            Family::Misskey => format!("{}/undo", relay.follow_id),
            _ => format!("{}/{}", self.origin, self.token()),
        };
        let mut undo = json!({ "@context": AS2, "id": id, "type": "Undo", "actor": self.id_of(&As::Server) });
        shapes::merge(&mut undo, json!({ "object": relay.follow }));
        self.deliver(&relay.inbox, Bytes::from(undo.to_string()), &As::Server, &Tweaks::default()).await
    }

    /// Makes a post: it can be read here from now on, and the activity for the relay is ready.
    pub(super) fn compose(&self, spec: &PostSpec) -> Composed {
        let first = self.options.authors.first().map(|author| author.name.clone());
        let name = spec.author.clone().or(first).unwrap_or_else(|| "nobody".to_owned());
        let author = As::Author(name.clone());
        let (token, path) = (self.token(), self.path_of(&author));
        let post_path = self.family.post_path(&path, &token);
        let id = format!("{}{post_path}", self.origin);
        let actor = self.id_of(&author);
        let place = Place { family: self.family, origin: self.origin.clone(), author: actor, name, id, token };
        let published = spec.published.unwrap_or_else(|| self.now());
        let object = shapes::object(&place, spec, published);
        let activity_id = match self.family {
            Family::Akkoma => format!("{}/activities/{}", self.origin, place.token),
            Family::GoToSocial => format!("{}#create", place.id),
            _ => format!("{}/activity", place.id),
        };
        let mut composed = Composed {
            id: place.id.clone(),
            activity_id: activity_id.clone(),
            visibility: spec.visibility,
            signer: if self.family == Family::GoToSocial { As::Server } else { author },
            embedded: false,
            activity: shapes::activity("Create", &activity_id, &place, object.clone(), published),
        };
        if self.family == Family::Akkoma {
            composed.signer = As::Server;
            let relay = self.id_of(&As::Server);
            composed.activity = shapes::litepub_announce(&activity_id, &relay, &place, published);
        }
        self.embed(&mut composed, &place, !self.options.secure_mode);
        let visibility = spec.visibility;
        self.with(|state| state.posts.insert(post_path, Stored { place, object, visibility, deleted: false }));
        composed
    }

    /// Changes a post's text; `None` if there is no such post. The answer is `None` where the family tells no relay.
    pub(super) fn compose_edit(&self, id: &str, new_text: &str) -> Option<Composed> {
        let (now, number) = (self.now(), self.next());
        let stored = self.with(|state| {
            let stored = state.posts.values_mut().find(|post| post.place.id == id)?;
            let change = json!({ "content": format!("<p>{new_text}</p>"), "updated": now.rfc3339() });
            shapes::merge(&mut stored.object, change);
            Some(stored.clone())
        })?;
        let activity_id = format!("{id}#updates/{number}");
        let activity = shapes::activity("Update", &activity_id, &stored.place, stored.object.clone(), now);
        Some(self.follow_up(&stored, activity_id, activity, !self.options.secure_mode))
    }

    /// Deletes a post: 410 from now on.
    pub(super) fn compose_deletion(&self, id: &str) -> Option<Composed> {
        let stored = self.with(|state| {
            let stored = state.posts.values_mut().find(|post| post.place.id == id)?;
            stored.deleted = true;
            Some(stored.clone())
        })?;
        let activity_id = format!("{id}#delete");
        let mut activity = shapes::delete(&activity_id, &stored.place);
        if self.family == Family::GoToSocial {
            shapes::merge(&mut activity, json!({ "object": id }));
        }
        // Mastodon signs deletions in secure mode as well.
        Some(self.follow_up(&stored, activity_id, activity, true))
    }

    /// An Update of an author's own document.
    pub(super) fn compose_profile(&self, name: &str) -> Option<Composed> {
        let author = self.options.authors.iter().find(|author| author.name == name)?;
        let who = As::Author(name.to_owned());
        let (id, token) = (self.id_of(&who), self.token());
        let activity_id = format!("{id}#updates/{token}");
        let activity = json!({
            "@context": [AS2, "https://w3id.org/security/v1"], "id": activity_id, "type": "Update", "actor": id,
            "to": [PUBLIC], "object": actors::person(self, author),
        });
        let (visibility, embedded) = (Visibility::Public, false);
        Some(Composed { id, activity_id, visibility, signer: who, embedded, activity })
    }

    fn follow_up(&self, stored: &Stored, activity_id: String, activity: Value, embed: bool) -> Composed {
        let author = As::Author(stored.place.name.clone());
        let signer = if self.family == Family::GoToSocial { As::Server } else { author };
        let (id, visibility) = (stored.place.id.clone(), stored.visibility);
        let mut composed = Composed { id, activity_id, visibility, signer, embedded: false, activity };
        self.embed(&mut composed, &stored.place, embed);
        composed
    }

    /// Adds the author's embedded signature, where the family makes them.
    fn embed(&self, composed: &mut Composed, place: &Place, wanted: bool) {
        let able = matches!(self.family, Family::Mastodon | Family::Misskey | Family::Friendica);
        if !(able && wanted && self.options.embedded_signatures) {
            return;
        }
        let path = place.author.strip_prefix(self.origin.as_str()).unwrap_or_default();
        let key = keys::key(self.keys_of(path).signs);
        let nonce = (self.family == Family::Misskey).then_some(place.token.as_str());
        ld::attach(&mut composed.activity, &self.family.key_id(&place.author), key, self.now(), nonce);
        composed.embedded = true;
    }

    /// Adds an actor's proof, made now, to any activity.
    pub(super) fn prove(&self, activity: &mut Value, who: &As) {
        proofs::attach(activity, &self.id_of(who), self.now());
    }

    /// A boost of any post by an author of ours.
    pub(super) fn compose_boost(&self, name: &str, object: &str) -> Composed {
        let author = As::Author(name.to_owned());
        let actor = self.id_of(&author);
        let id = format!("{actor}/boosts/{}", self.token());
        let activity = shapes::boost(&id, &actor, object, self.now());
        let visibility = Visibility::Public;
        Composed { id: object.to_owned(), activity_id: id, visibility, signer: author, embedded: false, activity }
    }

    /// Sends what was composed. LitePub's relay actor tells nobody anything before it is followed back, and knows no
    /// edits and deletions.
    pub(super) async fn send(&self, composed: &Composed) -> Result<Posted, Trouble> {
        let Some(relay) = self.look(|state| state.relay.clone()) else { return Err(nobody()) };
        let kind = text(&composed.activity, "type").unwrap_or_default();
        let by_relay_actor = composed.activity.get("actor").and_then(id_of) == Some(self.id_of(&As::Server).as_str());
        let silent = self.family == Family::Akkoma && !(kind == "Announce" && relay.followed_back && by_relay_actor);
        let answer = if silent {
            None
        } else {
            let body = Bytes::from(composed.activity.to_string());
            Some(self.deliver(&relay.inbox, body, &composed.signer, &Tweaks::default()).await?)
        };
        let (id, activity_id) = (composed.id.clone(), composed.activity_id.clone());
        Ok(Posted { id, activity_id, visibility: composed.visibility, embedded: composed.embedded, answer })
    }
}

pub(super) fn nobody() -> Trouble {
    Trouble::Unreadable("this instance joined no relay".to_owned())
}
