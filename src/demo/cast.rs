//! Who takes part in the demo: which families, under which domains, known for how long, whose clocks are wrong, who is slow,
//! who dies and who falters.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
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

/// One role: name, registrable domain, days for which the relay knows it, family, clock skew in seconds, health, and its
/// peculiarity.
struct Role(&'static str, &'static str, u64, Family, i64, Health, Odd);

#[derive(Clone, Copy, PartialEq)]
enum Odd {
    None,
    Secure,
    Modern,
}

/// Larger casts repeat it; faults are for the first round only. A clock that is behind is the common case; one that is
/// more than five minutes ahead could not join, and should not. One is so young that what is said there makes no trend, and
/// one weighs half.
const ROLES: [Role; 12] = [
    Role("mastodon-old", "gannet.example", 80, Family::Mastodon, 0, Health::Well, Odd::None),
    Role("misskey", "puffin.example", 75, Family::Misskey, 120, Health::Well, Odd::None),
    Role("akkoma", "petrel.example", 60, Family::Akkoma, -1_200, Health::Well, Odd::None),
    Role("gotosocial", "fulmar.example", 70, Family::GoToSocial, -60, Health::Well, Odd::None),
    Role("mastodon-safe", "kittiwake.example", 85, Family::Mastodon, 0, Health::Well, Odd::Secure),
    Role("misskey-500", "guillemot.example", 50, Family::Misskey, 0, Health::Flaky, Odd::None),
    Role("akkoma-dead", "cormorant.example", 45, Family::Akkoma, 0, Health::Dead, Odd::None),
    Role("mastodon-slow", "razorbill.example", 65, Family::Mastodon, 0, Health::Slow, Odd::None),
    Role("mastodon-new", "skua.example", 1, Family::Mastodon, 30, Health::Well, Odd::Modern),
    Role("friendica", "tern.example", 55, Family::Friendica, 20, Health::Well, Odd::None),
    Role("mastodon-late", "dovekie.example", 20, Family::Mastodon, -2_400, Health::Well, Odd::None),
    Role("gotosocial-2", "noddy.example", 35, Family::GoToSocial, 0, Health::Well, Odd::None),
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
    /// For so many days the relay knows it.
    pub(super) age: u64,
}

/// Servers that are known for less say nothing in trends: `trends::score::YOUNG_DAYS`.
pub(super) const YOUNG: u64 = 3;

/// The domain of one of them.
fn domain(index: usize) -> String {
    let Role(_, domain, ..) = &ROLES[index % ROLES.len()];
    match index / ROLES.len() {
        0 => (*domain).to_owned(),
        round => format!("{}-{}.example", domain.trim_end_matches(".example"), round + 1),
    }
}

/// The domains of `count` of them, each on this machine.
pub(super) fn domains(count: usize) -> BTreeMap<String, IpAddr> {
    (0..count).map(|index| (domain(index), Ipv4Addr::LOCALHOST.into())).collect()
}

/// Starts `count` instances.
pub(super) async fn start(count: usize) -> std::io::Result<Vec<Actor>> {
    let mut cast = Vec::new();
    for index in 0..count {
        let Role(name, _, age, family, skew, health, odd) = &ROLES[index % ROLES.len()];
        let round = index / ROLES.len();
        let name = if round == 0 { (*name).to_owned() } else { format!("{name}-{}", round + 1) };
        let health = if round == 0 { *health } else { Health::Well };
        let authors: Vec<String> = NAMES[index % NAMES.len()].iter().map(|&name| name.to_owned()).collect();
        let options = Options {
            name: name.clone(),
            domain: Some(domain(index)),
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
        cast.push(Actor { instance, member, authors, is_behind, is_searched: false, age: *age });
    }
    Ok(cast)
}
