//! Tokens that programs show to be let in. Of a token only a hash is kept: who reads the store cannot use what is in it.
//! How one is made and checked is `policy`'s to say.
//!
//! They do not travel with an export or a backup: one that was revoked since would come back with it.

use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Act, Record, StoreError, Tx, codec, table};
use crate::clock::Timestamp;

/// How many there may be.
pub const MAX_TOKENS: usize = 1000;

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The search, and trends with it.
    Search,
    /// Trends alone.
    Trends,
    /// The operator's own doors: looking at everything, changing nothing.
    Read,
    /// And letting in, turning away, rules, what is held: what is done every day.
    Moderate,
    /// And all else: tokens, keys, the index, whom the relay follows, the whole state.
    Admin,
}

impl Scope {
    /// Whether a token of this scope opens what asks for that one.
    #[must_use]
    pub fn opens(self, wanted: Self) -> bool {
        let level = |scope| match scope {
            Self::Trends | Self::Read => 1,
            Self::Search | Self::Moderate => 2,
            Self::Admin => 3,
        };
        self.is_operators() == wanted.is_operators() && level(self) >= level(wanted)
    }

    /// Whether it is for the operator's own doors. Such a token does not search, nor the other way round.
    #[must_use]
    pub const fn is_operators(self) -> bool {
        matches!(self, Self::Read | Self::Moderate | Self::Admin)
    }

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Trends => "trends",
            Self::Read => "read",
            Self::Moderate => "moderate",
            Self::Admin => "admin",
        }
    }
}

/// A token, as far as it is known here. Keyed by its public half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// What the operator calls it: who has it, or what for. Each name once.
    pub name: String,
    /// What it opens.
    pub scope: Scope,
    /// SHA-256 of its secret half, in hex. The secret is 256 random bits, so a slow hash would protect nothing more.
    pub hash: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// From when on it opens nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The day (from 1970, UTC) on which it was used last: enough to see which ones nobody needs, too coarse to see when
    /// somebody is awake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_on: Option<i64>,
}

impl Record for ApiToken {
    const TABLE: &'static str = "api_tokens";
}

impl Tx<'_> {
    /// Writes down a token that was just made.
    ///
    /// # Errors
    /// [`StoreError::Declined`] if there is one of this name, or as many as may be; the engine's, or a damaged record.
    pub fn add_token(&mut self, id: &str, token: &ApiToken, act: &Act) -> Result<(), StoreError> {
        let all = self.tokens()?;
        if all.iter().any(|(_, one)| one.name == token.name) {
            return Err(StoreError::Declined(format!("there is a token named {:?}: revoke it first", token.name)));
        }
        if all.len() >= MAX_TOKENS {
            return Err(StoreError::Declined(format!("there are {MAX_TOKENS} tokens already: revoke some first")));
        }
        self.audit(act, "token.create", &token.name, Value::Null, shown(token))?;
        self.put(id, token)
    }

    /// Takes a token back by its name; whether there was one.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn revoke_token(&mut self, name: &str, act: &Act) -> Result<bool, StoreError> {
        let all = self.tokens()?;
        let Some((id, token)) = all.iter().find(|(_, one)| one.name == name) else { return Ok(false) };
        self.audit(act, "token.revoke", name, shown(token), Value::Null)?;
        self.remove::<ApiToken>(id)
    }

    /// Notes that a token was used on this day.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn note_token_use(&mut self, id: &str, day: i64) -> Result<(), StoreError> {
        let Some(token) = self.get::<ApiToken>(id)? else { return Ok(()) };
        if token.used_on.is_none_or(|before| before < day) {
            self.put(id, &ApiToken { used_on: Some(day), ..token })?;
        }
        Ok(())
    }

    /// Takes all tokens back; how many. For a store that slept: which of them were revoked meanwhile it does not know.
    ///
    /// # Errors
    /// The engine's.
    pub fn forget_tokens(&mut self) -> Result<usize, StoreError> {
        let keys = {
            let table = self.engine().open_table(table::<ApiToken>())?;
            let keys = table.iter()?.map(|row| Ok(row?.0.value().to_owned()));
            keys.collect::<Result<Vec<String>, StoreError>>()?
        };
        keys.iter().try_for_each(|key| self.remove::<ApiToken>(key).map(drop))?;
        Ok(keys.len())
    }

    /// Those that can be read: one that cannot opens nothing, and hinders nobody from taking another back.
    fn tokens(&self) -> Result<Vec<(String, ApiToken)>, StoreError> {
        let table = self.engine().open_table(table::<ApiToken>())?;
        let mut tokens = Vec::new();
        for row in table.iter()? {
            let (key, row) = row?;
            match codec::decode(row.value()) {
                Ok(token) => tokens.push((key.value().to_owned(), token)),
                Err(StoreError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tokens)
    }
}

/// What the audit log keeps of a token: nothing that opens, and nothing that finds it.
fn shown(token: &ApiToken) -> Value {
    json!({ "scope": token.scope, "expires_at": token.expires_at.map(Timestamp::rfc3339) })
}
