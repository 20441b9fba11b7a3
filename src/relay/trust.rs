//! Who may be believed: the decision table for an activity whose HTTP signature is good. Pure.
//!
//! The relay believes an actor about itself, and nobody about anybody else (FEP-fe34). LD signatures are never a reason
//! to believe: they produced six CVEs in three projects. Everything that is not believed is at most a hint: an id that
//! may be read from its own origin.

use crate::ids::Iri;
use crate::wire::activity::{Activity, Kind};

/// How far the body of a request is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The actor itself signed.
    Direct,
    /// Another actor of the same server signed (GoToSocial's instance actor pushes its users' posts): a hint.
    SameServer,
    /// Somebody else signed: a hint at most, and only where the operator chose to listen.
    Foreign,
    /// Not even that; why, in a word.
    Nobody(&'static str),
}

/// Judges `activity`, signed over HTTP by `signer`.
#[must_use]
pub fn trust(activity: &Activity, signer: &Iri) -> Trust {
    match &activity.id {
        Some(id) if !id.same_origin(&activity.actor) => return Trust::Nobody("id-of-another-origin"),
        None if !matches!(activity.kind, Kind::Follow | Kind::Undo) => return Trust::Nobody("no-id"),
        _ => {}
    }
    if *signer == activity.actor {
        Trust::Direct
    } else if signer.same_origin(&activity.actor) {
        Trust::SameServer
    } else {
        Trust::Foreign
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(id: Option<&str>, kind: &str, actor: &str, signer: &str, expected: Trust) {
        let mut body = json!({
            "@context": "https://www.w3.org/ns/activitystreams",
            "type": kind, "actor": actor, "object": "https://a.example/notes/1",
        });
        if let Some(id) = id {
            body["id"] = id.into();
        }
        let activity = Activity::read(&body).unwrap();
        assert_eq!(trust(&activity, &Iri::parse(signer).unwrap()), expected, "{id:?} {kind} {actor} {signer}");
    }

    #[test]
    fn every_row_of_the_table_and_every_near_miss() {
        let ada = "https://a.example/users/ada";
        let own = Some("https://a.example/activities/1");
        check(own, "Create", ada, ada, Trust::Direct);
        check(own, "Create", ada, "https://a.example/actor", Trust::SameServer);
        check(own, "Create", ada, "https://a.example/users/ad", Trust::SameServer);
        check(own, "Create", ada, "https://a.example/users/ada/", Trust::SameServer);
        check(own, "Create", ada, "https://b.example/users/ada", Trust::Foreign);
        check(own, "Create", ada, "http://a.example/users/ada", Trust::Foreign);
        check(own, "Create", ada, "https://a.example:8443/users/ada", Trust::Foreign);
        check(own, "Create", ada, "https://a.example.evil.example/users/ada", Trust::Foreign);
        for id in
            ["https://b.example/activities/1", "http://a.example/1", "https://a.example:8443/1", "https://a.exampl/1"]
        {
            check(Some(id), "Create", ada, ada, Trust::Nobody("id-of-another-origin"));
            check(Some(id), "Follow", ada, ada, Trust::Nobody("id-of-another-origin"));
        }
        for kind in ["Create", "Update", "Delete", "Announce", "Accept", "Reject", "Block", "Move", "Like"] {
            check(None, kind, ada, ada, Trust::Nobody("no-id"));
        }
        check(None, "Follow", ada, ada, Trust::Direct);
        check(None, "Undo", ada, ada, Trust::Direct);
        check(None, "Undo", ada, "https://b.example/users/ada", Trust::Foreign);
    }
}
