//! Authors who are to be read, and the posts of theirs that wait for it: so many in all, and of one domain no more than are
//! left for all others. A word about a profile takes no room of posts and is never dropped for lack of it.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, Seq};
use crate::peers::queue::Key;

/// Posts that wait for their authors.
const MOST: usize = if cfg!(test) { 200 } else { 20_000 };
/// Of one domain: so great a part, and never more than are left.
const SHARE: usize = 4;
/// Of one author.
const MOST_OF_ONE: usize = 64;

/// An author who is to be read.
pub(super) struct Waiting {
    /// Who.
    pub(super) actor: Iri,
    /// When it began.
    pub(super) since: Timestamp,
    /// Tries.
    pub(super) attempts: usize,
    /// A reading from before this does not do: there is a newer word of theirs.
    pub(super) anew: Option<Timestamp>,
    /// Their posts, by their places in the log.
    pub(super) posts: Vec<Seq>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Room {
    authors: HashMap<Key, Waiting>,
    posts: usize,
    /// Posts by domain; none has 0.
    domains: HashMap<String, usize>,
}

impl Room {
    /// Whether there is room for one more post from there.
    pub(super) fn has_room(&self, server: &Authority) -> bool {
        let own = self.domains.get(server.registrable()).copied().unwrap_or_default();
        own < (MOST / SHARE).min(MOST.saturating_sub(self.posts))
    }

    /// Somebody is to be read for a post, or because of a newer word of theirs (`anew`).
    pub(super) fn put(&mut self, actor: Iri, post: Option<Seq>, anew: bool, now: Timestamp) {
        let (key, server) = (actor.key(), actor.authority());
        let one = self.authors.entry(key).or_insert_with(|| Waiting {
            actor,
            since: now,
            attempts: 0,
            anew: None,
            posts: Vec::new(),
        });
        if anew {
            one.anew = Some(now);
        }
        if let Some(post) = post.filter(|post| one.posts.len() < MOST_OF_ONE && !one.posts.contains(post)) {
            one.posts.push(post);
            self.posts += 1;
            *self.domains.entry(server.registrable().to_owned()).or_default() += 1;
        }
    }

    /// Puts back somebody who is read again later.
    pub(super) fn put_back(&mut self, key: Key, one: Waiting) {
        self.posts += one.posts.len();
        if !one.posts.is_empty() {
            let domain = one.actor.authority().registrable().to_owned();
            *self.domains.entry(domain).or_default() += one.posts.len();
        }
        self.authors.insert(key, one);
    }

    /// Takes somebody out who was read.
    pub(super) fn take(&mut self, key: Key) -> Option<Waiting> {
        let one = self.authors.remove(&key)?;
        self.posts = self.posts.saturating_sub(one.posts.len());
        let server = one.actor.authority();
        if let Some(count) = self.domains.get_mut(server.registrable()) {
            *count = count.saturating_sub(one.posts.len());
            if *count == 0 {
                self.domains.remove(server.registrable());
            }
        }
        Some(one)
    }

    /// Who waits.
    pub(super) fn get(&self, key: Key) -> Option<&Waiting> {
        self.authors.get(&key)
    }

    /// Those of whom there is a newer word.
    pub(super) fn anew(&self) -> Vec<Key> {
        self.authors.iter().filter(|(_, one)| one.anew.is_some()).map(|(key, _)| *key).collect()
    }

    /// The first post that waits.
    pub(super) fn oldest(&self) -> Option<Seq> {
        self.authors.values().flat_map(|one| &one.posts).min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_domain_leaves_room_for_all_others_and_a_word_about_a_profile_takes_none() {
        let (mut room, now) = (Room::default(), Timestamp::from_secs(1_787_486_400));
        let actor = |host: &str, number: u64| Iri::parse(&format!("https://{host}/users/{number}")).unwrap();
        let mut seq = 0;
        let mut fill = |room: &mut Room, domain: &str| {
            let mut count = 0;
            // Sub-domains by the dozen.
            for number in 0..1000 {
                let actor = actor(&format!("x{}.{domain}", number % 10), number);
                if room.has_room(&actor.authority()) {
                    seq += 1;
                    room.put(actor, Some(Seq(seq)), false, now);
                    count += 1;
                }
            }
            count
        };
        let taken: Vec<usize> = (0..6).map(|number| fill(&mut room, &format!("evil{number}.example"))).collect();
        assert_eq!(taken, [50, 50, 50, 25, 13, 6]);
        let honest = actor("honest.example", 1);
        assert!(room.has_room(&honest.authority()));
        room.put(honest.clone(), None, true, now);
        assert_eq!((room.posts, room.anew()), (194, vec![honest.key()]));
        // Read, and read again later, and done with.
        let one = room.take(actor("x1.evil0.example", 1).key()).unwrap();
        assert_eq!(room.posts, 193);
        room.put_back(one.actor.key(), one);
        assert_eq!((room.posts, room.oldest()), (194, Some(Seq(1))));
        for key in room.authors.keys().copied().collect::<Vec<_>>() {
            room.take(key);
        }
        assert!(room.posts == 0 && room.domains.is_empty() && room.get(honest.key()).is_none());
    }

    #[test]
    fn of_one_author_a_few_posts_wait_each_once() {
        let mut room = Room::default();
        let ada = Iri::parse("https://a.example/users/ada").unwrap();
        for number in (1..100).chain(1..100) {
            room.put(ada.clone(), Some(Seq(number)), false, Timestamp::default());
        }
        assert_eq!(room.take(ada.key()).unwrap().posts.len(), MOST_OF_ONE);
    }
}
