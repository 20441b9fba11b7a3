//! How one thing is spelled: a few texts, each known by a number that is made from it, so that taking a vote back never
//! depends on which of them are kept. Kept are those that the most servers use; a text that nobody uses any more goes.

/// Texts that are kept of one thing.
const MOST: usize = 8;
/// Bytes of one; longer ones are taken for the key.
pub const MAX_TEXT: usize = 128;

/// The texts of one thing.
#[derive(Debug, Default)]
pub struct Spellings(Vec<(u16, Box<str>)>);

impl Spellings {
    /// The number of a text; 0 stands for the key itself. Of two texts with one number, which one in tens of thousands
    /// have, the first one is shown for both.
    #[must_use]
    pub fn number(text: &str) -> u16 {
        if text.is_empty() || text.len() > MAX_TEXT {
            return 0;
        }
        // FNV-1a: the same on every machine.
        let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        u16::try_from((hash >> 16) ^ (hash & 0xffff)).unwrap_or(0).max(1)
    }

    /// Whether its text is here, or need not be.
    #[must_use]
    pub fn knows(&self, number: u16) -> bool {
        number == 0 || self.text(number).is_some()
    }

    /// The text of a number, if it is here.
    #[must_use]
    pub fn text(&self, number: u16) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == number).map(|(_, text)| &**text)
    }

    /// Takes a text in; where there is no room, for the one that the fewest servers use, if those are fewer.
    pub fn learn(&mut self, number: u16, text: &str, servers: impl Fn(u16) -> usize) {
        if self.knows(number) {
            return;
        }
        if self.0.len() < MOST {
            self.0.reserve_exact(1);
            self.0.push((number, text.into()));
            return;
        }
        let use_of = |number: u16, text: &str| (servers(number), std::cmp::Reverse(text.to_owned()));
        let mine = use_of(number, text);
        let rarest = self.0.iter_mut().min_by_key(|(known, text)| use_of(*known, text));
        if let Some(rarest) = rarest
            && use_of(rarest.0, &rarest.1) < mine
        {
            *rarest = (number, text.into());
        }
    }

    /// Forgets one.
    pub fn forget(&mut self, number: u16) {
        self.retain(|known| known != number);
    }

    /// Forgets those that are not in use.
    pub fn retain(&mut self, is_used: impl Fn(u16) -> bool) {
        self.0.retain(|(number, _)| is_used(*number));
        self.0.shrink_to_fit();
    }

    /// Bytes of memory beside its own.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts: usize = self.0.iter().map(|(_, text)| text.len() + 8).sum();
        texts + self.0.capacity() * size_of::<(u16, Box<str>)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_that_most_servers_use_are_kept_and_no_more_than_eight() {
        let mut spellings = Spellings::default();
        let texts: Vec<String> = (0..20).map(|number| format!("Text{number}")).collect();
        for text in &texts {
            spellings.learn(Spellings::number(text), text, |_| 1);
        }
        assert_eq!(spellings.0.len(), MOST);
        let common = Spellings::number("Common");
        spellings.learn(common, "Common", |number| if number == common { 3 } else { 1 });
        assert_eq!((spellings.0.len(), spellings.text(common)), (MOST, Some("Common")));
        let bytes = spellings.bytes();
        assert!(bytes <= MOST * (MAX_TEXT + 32));
        spellings.forget(common);
        assert!(spellings.0.len() == MOST - 1 && spellings.bytes() < bytes);
        spellings.retain(|_| false);
        assert_eq!(spellings.bytes(), 0);
        assert_eq!(Spellings::number(&"x".repeat(MAX_TEXT + 1)), 0, "it is taken for the key");
        assert!(spellings.knows(0) && spellings.text(0).is_none());
    }
}
