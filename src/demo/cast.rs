//! Who takes part in the demo: which families, whose clocks are wrong, who is slow, who dies and who falters.

use std::sync::Arc;
use std::time::Duration;

use super::check::Member;
use super::family::Family;
use super::faults::Fault;
use super::instance::Instance;
use super::parts::{Author, Options};
use super::promise::Health;
use crate::clock::Clock;

/// How long the slow one takes to answer: well under what a relay waits for.
const SLOW: Duration = Duration::from_millis(400);

/// One role: name, family, clock skew in seconds, health, and its peculiarity.
struct Role(&'static str, Family, i64, Health, Odd);

#[derive(Clone, Copy, PartialEq)]
enum Odd {
    None,
    Secure,
    Modern,
}

/// Larger casts repeat it; faults are for the first round only. A clock that is behind is the common case; one that is
/// more than five minutes ahead could not join, and should not.
const ROLES: [Role; 12] = [
    Role("mastodon-old", Family::Mastodon, 0, Health::Well, Odd::None),
    Role("misskey", Family::Misskey, 120, Health::Well, Odd::None),
    Role("akkoma", Family::Akkoma, -1_200, Health::Well, Odd::None),
    Role("gotosocial", Family::GoToSocial, -60, Health::Well, Odd::None),
    Role("mastodon-safe", Family::Mastodon, 0, Health::Well, Odd::Secure),
    Role("misskey-500", Family::Misskey, 0, Health::Flaky, Odd::None),
    Role("akkoma-dead", Family::Akkoma, 0, Health::Dead, Odd::None),
    Role("mastodon-slow", Family::Mastodon, 0, Health::Slow, Odd::None),
    Role("mastodon-new", Family::Mastodon, 30, Health::Well, Odd::Modern),
    Role("friendica", Family::Friendica, 20, Health::Well, Odd::None),
    Role("mastodon-late", Family::Mastodon, -2_400, Health::Well, Odd::None),
    Role("gotosocial-2", Family::GoToSocial, 0, Health::Well, Odd::None),
];

const NAMES: [[&str; 2]; 6] =
    [["ada", "grace"], ["mei", "haruka"], ["olga", "pavel"], ["noor", "idris"], ["lena", "jonas"], ["ines", "tomas"]];

/// An instance of the demo and its part.
pub(super) struct Actor {
    pub(super) instance: Arc<Instance>,
    pub(super) member: Member,
    pub(super) authors: Vec<String>,
    /// Its clock is.
    pub(super) is_behind: bool,
    /// Its admin switched search on.
    pub(super) is_searched: bool,
}

/// Starts `count` instances.
pub(super) async fn start(count: usize) -> std::io::Result<Vec<Actor>> {
    let mut cast = Vec::new();
    for index in 0..count {
        let Role(name, family, skew, health, odd) = &ROLES[index % ROLES.len()];
        let round = index / ROLES.len();
        let name = if round == 0 { (*name).to_owned() } else { format!("{name}-{}", round + 1) };
        let health = if round == 0 { *health } else { Health::Well };
        let authors: Vec<String> = NAMES[index % NAMES.len()].iter().map(|&name| name.to_owned()).collect();
        let options = Options {
            name: name.clone(),
            clock: Clock::skewed(skew * 1000),
            authors: authors.iter().map(|author| Author::named(author)).collect(),
            secure_mode: *odd == Odd::Secure,
            rfc9421: *odd == Odd::Modern,
            ..Options::default()
        };
        let instance = Arc::new(Instance::start(*family, options).await?);
        if health == Health::Slow {
            instance.set_fault(Fault::Slow(SLOW));
        }
        let (member, is_behind) = (Member { name, family: *family, health, joined: false, refused: None }, *skew < 0);
        cast.push(Actor { instance, member, authors, is_behind, is_searched: false });
    }
    Ok(cast)
}
