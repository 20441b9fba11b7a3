//! Tokens of programs: made by the operator, shown once, checked at each use. What is written down of them is `store`'s.
//!
//! A token is `shearwater_<id>_<secret>`: 16 hex digits by which it is found, and 64 that nobody here knows. They are
//! compared by their hash and in constant time, so that neither the store nor the time of an answer tells them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use thiserror::Error;

use crate::clock::{Clock, Timestamp};
use crate::store::{Act, ApiToken, Scope, Store, StoreError};

/// What each token begins with: so that people and programs who find one somewhere know what it is.
const PREFIX: &str = "shearwater_";
/// Characters of a name.
const MAX_NAME: usize = 100;

/// Makes, lists, revokes and checks tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    store: Store,
    clock: Clock,
}

/// A token that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The token itself: to be shown to the operator and to nobody else, once.
    pub token: String,
    /// Its public half.
    pub id: String,
    /// What was written down of it.
    pub record: ApiToken,
}

/// Whose a good token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its public half, by which its use is counted.
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// What it opens.
    pub scope: Scope,
    /// Until when.
    pub expires_at: Option<Timestamp>,
}

/// Why a token opens nothing.
#[derive(Debug, Error)]
pub enum TokenFault {
    /// There is none like this: mistyped, made up, or revoked.
    #[error("there is no such token")]
    Unknown,
    /// Its time is over.
    #[error("this token expired at {0}")]
    Expired(Timestamp),
    /// It opens something else.
    #[error("this token is for something else")]
    OtherScope,
    /// It cannot be looked up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tokens {
    /// On `store`.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Makes a token that opens `scope` for so long; without `life`, until it is revoked.
    ///
    /// # Errors
    /// A sentence for the operator: about the name, that there is one like it, or the store's.
    pub async fn make(&self, name: &str, scope: Scope, life: Option<Duration>, act: &Act) -> anyhow::Result<Made> {
        self.make_until(name, scope, life.map(|life| self.clock.now().plus(life)), act).await
    }

    /// The same until a moment.
    ///
    /// # Errors
    /// As there.
    pub async fn make_until(
        &self,
        name: &str,
        scope: Scope,
        expires_at: Option<Timestamp>,
        act: &Act,
    ) -> anyhow::Result<Made> {
        let name = name.trim().to_owned();
        anyhow::ensure!(
            (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(char::is_control),
            "a token needs a name that says who has it, of at most {MAX_NAME} characters"
        );
        let (id, secret) = (hex(&rand::random::<[u8; 8]>()), hex(&rand::random::<[u8; 32]>()));
        let made_at = self.clock.now();
        let record = ApiToken { name, scope, hash: hash(&secret), made_at, expires_at, used_on: None };
        let (row, key, act) = (record.clone(), id.clone(), act.clone());
        self.store.write(move |tx| tx.add_token(&key, &row, &act)).await?;
        Ok(Made { token: format!("{PREFIX}{id}_{secret}"), id, record })
    }

    /// All of them that can be read, by their public halves.
    ///
    /// # Errors
    /// The store's.
    pub fn list(&self) -> Result<Vec<(String, ApiToken)>, StoreError> {
        self.store.all_sound()
    }

    /// Takes a token back; whether there was one of this name. It opens nothing from then on.
    ///
    /// # Errors
    /// The store's.
    pub async fn revoke(&self, name: &str, act: &Act) -> Result<bool, StoreError> {
        let (name, act) = (name.trim().to_owned(), act.clone());
        self.store.write(move |tx| tx.revoke_token(&name, &act)).await
    }

    /// Whether what somebody shows opens `scope`; whose it is.
    ///
    /// # Errors
    /// [`TokenFault`].
    pub async fn check(&self, shown: &str, scope: Scope) -> Result<Holder, TokenFault> {
        let (id, secret) = halves(shown).ok_or(TokenFault::Unknown)?;
        let token: ApiToken = self.store.get(id)?.ok_or(TokenFault::Unknown)?;
        if verify_slices_are_equal(hash(secret).as_bytes(), token.hash.as_bytes()).is_err() {
            return Err(TokenFault::Unknown);
        }
        let now = self.clock.now();
        match token.expires_at {
            Some(at) if at <= now => return Err(TokenFault::Expired(at)),
            _ if !token.scope.opens(scope) => return Err(TokenFault::OtherScope),
            _ => {}
        }
        if token.used_on.is_none_or(|day| day < now.day()) {
            let id = id.to_owned();
            // A store that is busy notes it next time; nobody is turned away for it.
            let _ = self.store.write(move |tx| tx.note_token_use(&id, now.day())).await;
        }
        Ok(Holder { id: id.to_owned(), name: token.name, scope: token.scope, expires_at: token.expires_at })
    }
}

/// The public and the secret half of a token.
fn halves(shown: &str) -> Option<(&str, &str)> {
    let (id, secret) = shown.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hex(id, 16) && is_hex(secret, 64)).then_some((id, secret))
}

fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn tokens() -> (tempfile::TempDir, Tokens, Clock) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        (dir, Tokens::new(store, clock.clone()), clock)
    }

    #[tokio::test]
    async fn a_token_opens_until_it_expires_or_is_revoked() {
        let (_dir, tokens, clock) = tokens();
        let made = tokens.make(" a reader ", Scope::Search, Some(90 * DAY), &Act::local("")).await.unwrap();
        let lasting = tokens.make("another", Scope::Search, None, &Act::local("")).await.unwrap();
        assert_eq!(made.record.name, "a reader");
        tokens.check(&made.token, Scope::Search).await.unwrap();
        clock.advance(90 * DAY);
        assert!(matches!(tokens.check(&made.token, Scope::Search).await, Err(TokenFault::Expired(_))));
        tokens.check(&lasting.token, Scope::Search).await.unwrap();
        assert!(tokens.revoke("another", &Act::local("")).await.unwrap());
        assert!(matches!(tokens.check(&lasting.token, Scope::Search).await, Err(TokenFault::Unknown)));
        assert!(!tokens.revoke("another", &Act::local("")).await.unwrap(), "once");
    }

    #[tokio::test]
    async fn what_is_no_token_opens_nothing() {
        let (_dir, tokens, _clock) = tokens();
        let made = tokens.make("a reader", Scope::Search, None, &Act::local("")).await.unwrap().token;
        let (head, secret) = made.rsplit_once('_').unwrap();
        let other = tokens.make("another", Scope::Search, None, &Act::local("")).await.unwrap().token;
        let (_, of_other) = other.rsplit_once('_').unwrap();
        let turned = secret.chars().rev().collect::<String>();
        let hash = tokens.list().unwrap().into_iter().find(|(_, one)| one.name == "a reader").unwrap().1.hash;
        for shown in [
            String::new(),
            made[..made.len() - 1].to_owned(),
            format!("{made}0"),
            format!("{head}_{turned}"),
            format!("{head}_{of_other}"),
            format!("{head}_{hash}"),
            format!("{head}_"),
            format!("shearwater__{secret}"),
            format!("shearwater_0000000000000000_{secret}"),
            secret.to_owned(),
            "shearwater_ä".to_owned(),
        ] {
            assert!(matches!(tokens.check(&shown, Scope::Search).await, Err(TokenFault::Unknown)), "{shown}");
        }
    }

    #[tokio::test]
    async fn the_store_knows_the_hash_and_the_day_and_no_more() {
        let (dir, tokens, clock) = tokens();
        let made = tokens.make("a reader", Scope::Search, None, &Act::local("")).await.unwrap();
        let secret = made.token.rsplit('_').next().unwrap();
        clock.advance(Duration::from_secs(3723));
        tokens.check(&made.token, Scope::Search).await.unwrap();
        let (_, row) = tokens.list().unwrap().remove(0);
        assert_eq!((row.used_on, row.hash.len()), (Some(clock.now().day()), 64));
        clock.advance(DAY);
        tokens.check(&made.token, Scope::Search).await.unwrap();
        assert_eq!(tokens.list().unwrap()[0].1.used_on, Some(clock.now().day()));
        let file = std::fs::read(dir.path().join("shearwater.redb")).unwrap();
        assert!(!file.windows(secret.len()).any(|part| part == secret.as_bytes()));
    }

    /// Who sees that a token was stolen must be able to take it back, whatever the disk did to another.
    #[tokio::test]
    async fn one_row_that_cannot_be_read_hides_no_other_token() {
        let (_dir, tokens, _clock) = tokens();
        let stolen = tokens.make("stolen", Scope::Admin, None, &Act::local("")).await.unwrap();
        tokens.make("good", Scope::Read, None, &Act::local("")).await.unwrap();
        crate::store::testing::spoil::<ApiToken>(&tokens.store, "0000000000000000").await;
        assert_eq!(tokens.list().unwrap().len(), 2);
        assert!(tokens.revoke("stolen", &Act::local("")).await.unwrap());
        assert!(matches!(tokens.check(&stolen.token, Scope::Read).await, Err(TokenFault::Unknown)));
        tokens.make("new", Scope::Read, None, &Act::local("")).await.unwrap();
        let forgotten = tokens.store.write(|tx| tx.forget_tokens()).await.unwrap();
        assert_eq!((forgotten, tokens.list().unwrap().len()), (3, 0), "and the one that cannot be read");
    }

    #[tokio::test]
    async fn names_are_there_once_and_say_something() {
        let (_dir, tokens, _clock) = tokens();
        tokens.make("a reader", Scope::Search, None, &Act::local("")).await.unwrap();
        let again = tokens.make("a reader", Scope::Search, None, &Act::local("")).await.unwrap_err().to_string();
        assert!(again.contains("revoke it first"), "{again}");
        for name in ["", "  ", "a\nb", &"x".repeat(101)] {
            assert!(tokens.make(name, Scope::Search, None, &Act::local("")).await.is_err(), "{name:?}");
        }
        assert_eq!(tokens.list().unwrap().len(), 1);
    }
}
