//! Who may be believed: the decision table for an activity whose HTTP signature is good. Pure.
//!
//! The relay believes an actor about itself, and nobody about anybody else (FEP-fe34). An actor speaks by its HTTP
//! signature, or by a proof in the document (FEP-8b32), whoever brings it. LD signatures are never a reason to believe:
//! they produced six CVEs in three projects. Everything that is not believed is at most a hint: an id that may be read
//! from its own origin.
//!
//! A proof says who wrote, not when it was sent: whoever has a copy can send it again. So it counts for content, which is
//! taken once, and for nothing that changes who is who.

use crate::ids::Iri;
use crate::wire::activity::{Activity, Kind};

/// How far the body of a request is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The actor itself signed.
    Direct,
    /// Somebody else brought it, with a proof of the actor's that holds.
    Proven,
    /// Another actor of the same server signed (GoToSocial's instance actor pushes its users' posts): a hint.
    SameServer,
    /// Somebody else signed: a hint at most, and only where the operator chose to listen.
    Foreign,
    /// Not even that; why, in a word.
    Nobody(&'static str),
}

/// Judges `activity`, signed over HTTP by `signer`; `prover` owns the key whose proof in the document holds.
#[must_use]
pub fn trust(activity: &Activity, signer: &Iri, prover: Option<&Iri>) -> Trust {
    match &activity.id {
        Some(id) if !id.same_origin(&activity.actor) => return Trust::Nobody("id-of-another-origin"),
        None if !matches!(activity.kind, Kind::Follow | Kind::Undo) => return Trust::Nobody("no-id"),
        _ => {}
    }
    if *signer == activity.actor {
        Trust::Direct
    } else if prover == Some(&activity.actor) && is_content(activity) {
        Trust::Proven
    } else if signer.same_origin(&activity.actor) {
        Trust::SameServer
    } else {
        Trust::Foreign
    }
}

/// Whether it is about a post, and not about who somebody is or whom they want to hear.
fn is_content(activity: &Activity) -> bool {
    matches!(activity.kind, Kind::Create | Kind::Update | Kind::Delete | Kind::Announce)
        && activity.target.id() != Some(&activity.actor)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOTE: &str = "https://a.example/notes/1";

    fn activity(id: Option<&str>, kind: &str, actor: &str, object: &Value) -> Activity {
        let mut body = json!({
            "@context": "https://www.w3.org/ns/activitystreams",
            "type": kind, "actor": actor, "object": object,
        });
        if let Some(id) = id {
            body["id"] = id.into();
        }
        Activity::read(&body).unwrap()
    }

    fn check(id: Option<&str>, kind: &str, actor: &str, signer: &str, expected: Trust) {
        let activity = activity(id, kind, actor, &json!(NOTE));
        let signer = Iri::parse(signer).unwrap();
        assert_eq!(trust(&activity, &signer, None), expected, "{id:?} {kind} {actor} {signer}");
        // Somebody else's proof changes nothing, nor does one of the actor's own where the actor signed.
        for prover in ["https://a.example/users/eve", "https://c.example/users/ada", "https://a.example/users/ada/"] {
            assert_eq!(trust(&activity, &signer, Some(&Iri::parse(prover).unwrap())), expected, "{prover}");
        }
        if signer == activity.actor {
            assert_eq!(trust(&activity, &signer, Some(&activity.actor)), expected);
        }
    }

    /// One that bears a proof of its actor's, brought by `signer`.
    fn check_proven(id: Option<&str>, kind: &str, object: &Value, signer: &str, expected: Trust) {
        let activity = activity(id, kind, "https://a.example/users/ada", object);
        let trust = trust(&activity, &Iri::parse(signer).unwrap(), Some(&activity.actor));
        assert_eq!(trust, expected, "{id:?} {kind} {object} {signer}");
    }

    #[test]
    fn a_proof_counts_for_content_whoever_brings_it_and_for_nothing_else() {
        let (own, note) = (Some("https://a.example/activities/1"), json!(NOTE));
        let embedded = json!({ "id": NOTE, "type": "Note" });
        let (near, far) = ("https://a.example/actor", "https://b.example/actor");
        for kind in ["Create", "Update", "Delete", "Announce"] {
            for object in [&note, &embedded] {
                check_proven(own, kind, object, far, Trust::Proven);
                check_proven(own, kind, object, near, Trust::Proven);
            }
            check_proven(
                Some("https://b.example/activities/1"),
                kind,
                &note,
                far,
                Trust::Nobody("id-of-another-origin"),
            );
            check_proven(None, kind, &note, far, Trust::Nobody("no-id"));
            // About the actor itself.
            for object in [json!("https://a.example/users/ada"), json!({ "id": "https://a.example/users/ada" })] {
                check_proven(own, kind, &object, far, Trust::Foreign);
                check_proven(own, kind, &object, near, Trust::SameServer);
            }
        }
        for kind in ["Follow", "Undo", "Accept", "Reject", "Block", "Move", "Like", "Flag", "Add"] {
            check_proven(own, kind, &note, far, Trust::Foreign);
            check_proven(own, kind, &note, near, Trust::SameServer);
        }
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
