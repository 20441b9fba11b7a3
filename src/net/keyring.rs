//! Our keys as they stand at this moment: which pair signs, which will sign next, which signed until lately. Who signs
//! asks each time, so that a rotation needs no restart; making keys and deciding when they change is `identity`'s.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::ids::Authority;
use crate::wire::key::SigningKey;

/// A pair of our keys: made together, replaced together. No `Debug` shows their secrets.
#[derive(Debug, Clone)]
pub struct Keys {
    /// What nearly everything is signed with.
    pub rsa: SigningKey,
    /// For proofs in documents (FEP-8b32).
    pub ed25519: SigningKey,
}

/// How the pairs stand.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The pair that signs, and whose RSA key is our actor's `publicKey`.
    pub signs: Arc<Keys>,
    /// The pair that will sign next: listed already, so that who reads all keys knows it in time.
    pub coming: Option<Arc<Keys>>,
    /// The pair that signed until lately: still listed.
    pub leaving: Option<Arc<Keys>>,
    /// Who is still spoken to with the leaving pair.
    pub untold: Untold,
}

impl Standing {
    /// One pair and no other.
    #[must_use]
    pub fn only(keys: Keys) -> Self {
        Self { signs: Arc::new(keys), coming: None, leaving: None, untold: Untold::Nobody }
    }

    /// All pairs that our actor lists; the one that signs first.
    pub fn listed(&self) -> impl Iterator<Item = &Arc<Keys>> {
        std::iter::once(&self.signs).chain(&self.coming).chain(&self.leaving)
    }
}

/// The servers that were not told yet of the pair that signs. Until then they may know no key of ours but the leaving
/// one: Misskey and Akkoma take a new key from an `Update` that the old one signed, and from little else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Untold {
    /// All know.
    #[default]
    Nobody,
    /// The messages that tell them are not written yet.
    Everybody,
    /// These.
    These(HashSet<Authority>),
}

impl Untold {
    fn includes(&self, authority: &Authority) -> bool {
        match self {
            Self::Nobody => false,
            Self::Everybody => true,
            Self::These(authorities) => authorities.contains(authority),
        }
    }
}

/// The handle. Cheap to clone; all clones show the same.
#[derive(Debug, Clone)]
pub struct KeyRing(Arc<RwLock<Arc<Standing>>>);

impl KeyRing {
    /// A ring of keys that stand so.
    #[must_use]
    pub fn new(standing: Standing) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(standing))))
    }

    /// How the pairs stand now.
    #[must_use]
    pub fn standing(&self) -> Arc<Standing> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The pair that signs what is for all. Ask for each signature; do not keep it.
    #[must_use]
    pub fn signs(&self) -> Arc<Keys> {
        self.standing().signs.clone()
    }

    /// The pair that signs a request to this server: the leaving one until it was told of the other.
    #[must_use]
    pub fn signs_for(&self, authority: &Authority) -> Arc<Keys> {
        let standing = self.standing();
        match &standing.leaving {
            Some(leaving) if standing.untold.includes(authority) => leaving.clone(),
            _ => standing.signs.clone(),
        }
    }

    /// The pair that makes proofs in documents, which are the same for all: the leaving one until all were told of the
    /// other. Who was told knows both.
    #[must_use]
    pub fn proves(&self) -> Arc<Keys> {
        let standing = self.standing();
        match &standing.leaving {
            Some(leaving) if standing.untold != Untold::Nobody => leaving.clone(),
            _ => standing.signs.clone(),
        }
    }

    /// From now on they stand so.
    pub fn set(&self, standing: Standing) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(standing);
    }

    /// From now on these were not told yet.
    pub fn set_untold(&self, untold: Untold) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if held.untold != untold {
            *held = Arc::new(Standing { untold, ..Standing::clone(&held) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing;

    #[test]
    fn who_was_not_told_yet_is_spoken_to_with_the_key_it_knows() {
        let authority = |text: &str| Authority::parse(text).unwrap();
        let (a, b) = (authority("a.example"), authority("b.example"));
        let (old, new) = (Arc::new(testing::keys()), Arc::new(testing::other_keys()));
        let ring = KeyRing::new(Standing {
            signs: new.clone(),
            coming: None,
            leaving: Some(old.clone()),
            untold: Untold::Everybody,
        });
        let signs_for = |one: &Authority| ring.signs_for(one).rsa.key_id().clone();
        assert_eq!([signs_for(&a), signs_for(&b)], [old.rsa.key_id().clone(), old.rsa.key_id().clone()]);
        assert_eq!(ring.signs().rsa.key_id(), new.rsa.key_id(), "what is for all is signed with the new one");
        let proves = || ring.proves().ed25519.key_id().clone();
        assert_eq!(proves(), *old.ed25519.key_id());
        ring.set_untold(Untold::These(HashSet::from([a.clone()])));
        assert_eq!([signs_for(&a), signs_for(&b)], [old.rsa.key_id().clone(), new.rsa.key_id().clone()]);
        assert_eq!(proves(), *old.ed25519.key_id(), "a document goes to both");
        ring.set_untold(Untold::Nobody);
        assert_eq!(proves(), *new.ed25519.key_id());
        assert_eq!([signs_for(&a), signs_for(&b)], [new.rsa.key_id().clone(), new.rsa.key_id().clone()]);
        // Without a leaving pair nobody is spoken to with it.
        ring.set(Standing { untold: Untold::Everybody, ..Standing::only(testing::other_keys()) });
        assert_eq!(signs_for(&a), new.rsa.key_id().clone());
        assert_eq!(ring.standing().listed().count(), 1);
    }
}
