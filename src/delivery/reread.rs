//! What to do when an inbox says that it moved (3xx) or is gone (410): its actor, read afresh from its origin, decides.
//! An inbox may only ever change to what the actor's own document says, on the actor's own origin.

use super::attempt::{Courier, Found};
use crate::ids::Authority;
use crate::store::{Registration, Store, StoreError, Style};
use crate::wire::actor::RemoteActor;

/// What the actor's document says about the inbox that we serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reread {
    /// It is the one.
    Same,
    /// It is another, which is now written down.
    Moved,
    /// The actor is gone as well.
    Gone,
    /// The document cannot be read just now.
    Unclear,
}

/// Reads the actor of `served` again and writes down where its inboxes are now.
///
/// # Errors
/// The store's.
pub(super) async fn reread(
    courier: &Courier,
    store: &Store,
    subscriber: &Authority,
    served: &Registration,
) -> Result<Reread, StoreError> {
    let actor = match courier.actor(&served.actor).await {
        Found::Actor(actor) => *actor,
        Found::Gone => return Ok(Reread::Gone),
        Found::Unclear => return Ok(Reread::Unclear),
    };
    if !is_changed(served, &actor) {
        return Ok(Reread::Same);
    }
    let subscriber = subscriber.clone();
    let written = store.write(move |tx| {
        let Some(mut row) = tx.subscriber(&subscriber)? else { return Ok(()) };
        for registration in row.registrations.iter_mut().filter(|one| one.actor == actor.id) {
            registration.inbox = inbox_of(registration.style, &actor);
            registration.actor_inbox = actor.inbox.clone();
        }
        tx.put_subscriber(row)
    });
    written.await?;
    Ok(Reread::Moved)
}

fn is_changed(served: &Registration, actor: &RemoteActor) -> bool {
    served.inbox != inbox_of(served.style, actor)
}

/// Where a registration is served: GoToSocial honours relay traffic nowhere but in the actor's own inbox.
fn inbox_of(style: Style, actor: &RemoteActor) -> crate::ids::Iri {
    match (style, &actor.shared_inbox) {
        (Style::Mastodon, Some(shared)) => shared.clone(),
        _ => actor.inbox.clone(),
    }
}
