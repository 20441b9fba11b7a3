//! Who reads here by right of having joined: a GET that a server signs with the key of the actor it joined as, or of another
//! actor that stands for the server (Akkoma joins as its relay and fetches as its fetcher). It stands beside
//! [`super::verify`], because it is the same signature, the same keys and the same rules; but nothing comes of it than an
//! answer, so it is neither counted nor kept.
//!
//! Promise: only for a server that has joined is a key ever fetched, so a stranger's request costs nothing.

use std::net::IpAddr;

use http::{HeaderMap, Method};

use super::Relay;
use super::verify::{Refused, Rejection};
use crate::ids::{Authority, Iri};
use crate::wire::actor::ActorKind;
use crate::wire::http_sig;

const JOIN: &str = "The admin of a server joins with it first; the home page / says how.";
const SIGN: &str = "Sign the GET (draft-cavage-12 or RFC 9421) with the key of the actor that your server joined with, or of its instance actor.";

impl Relay {
    /// The active subscriber whose actor signed a GET of `target` (path and query as on the request line), that came `from`
    /// this address.
    ///
    /// A signature may be used again for an hour, as that of any GET: it opens nothing but what its server may read.
    ///
    /// # Errors
    /// What to answer: 401 about the signature, 403 if its server has not joined or is blocked, 503 if its key cannot be
    /// read just now.
    pub async fn subscriber_asking(
        &self,
        target: &str,
        headers: &HeaderMap,
        from: Option<IpAddr>,
    ) -> Result<Authority, Rejection> {
        if !headers.contains_key("signature") {
            return Err(Rejection::new(401, "unsigned", "only servers that joined may search here".to_owned(), SIGN));
        }
        let request = http_sig::Request { method: &Method::GET, target, headers };
        let claim = http_sig::read(&request, b"", &self.0.identity.ids.origin, self.0.clock.now())
            .map_err(|fault| Rejection::new(401, fault.check(), fault.to_string(), fault.remedy()))?;
        let key_id = Iri::parse(&claim.key_id)
            .map_err(|fault| Rejection::new(401, "key-id", format!("the keyId is no id we take: {fault}"), SIGN))?;
        let authority = key_id.authority();
        self.refuse_blocked(&authority)?;
        if !self.0.store.subscriber(&authority).is_some_and(|one| one.is_active()) {
            return Err(Rejection::new(403, "not-joined", format!("{authority} has not joined this relay"), JOIN));
        }
        let mut look = None;
        let signer = match self.check_signature(&claim, &key_id, from, &mut look).await {
            Ok(signer) => signer,
            Err(Refused::Rejected(rejection)) => return Err(rejection),
            Err(Refused::Ignored(why)) => return Err(Rejection::new(401, "signature", why.to_owned(), SIGN)),
        };
        if let Some(look) = look {
            look.was_worth_it();
        }
        if signer.authority() == authority && self.stands_for_its_server(&signer).await {
            return Ok(authority);
        }
        let detail = format!("{signer} does not stand for {authority}, which has joined");
        Err(Rejection::new(403, "not-the-server", detail, SIGN))
    }

    /// Whether an actor joined for its server, or is a program and no person. Its key was read just now, and so was it.
    async fn stands_for_its_server(&self, actor: &Iri) -> bool {
        if self.is_registered(actor) {
            return true;
        }
        self.0.peers.actor(actor).await.is_ok_and(|actor| actor.kind == ActorKind::Application)
    }
}
