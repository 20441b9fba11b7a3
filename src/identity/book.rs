//! Which pair of keys signs, since when, and what comes next: the small file `rotation.json` beside the keys, and the four
//! steps that a rotation takes through it. Pure; without the file there is one pair, the first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// How long a new pair is listed before it signs.
pub const HOLD: Duration = Duration::from_secs(48 * 3600);

/// How long a pair that no longer signs stays listed: proofs that it made are checked as long as posts are asked for, and
/// the messages that tell subscribers of the new one are tried for as long (`delivery.control_horizon`).
pub const FAREWELL: Duration = Duration::from_secs(7 * 24 * 3600);

/// The form of the file.
const VERSION: u32 = 1;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Book {
    version: u32,
    /// The highest number that a pair ever had: an id is never given twice.
    last: u32,
    /// The pair that signs, and since when.
    pub(super) signs: Term,
    /// The pair that will sign, and from when.
    pub(super) coming: Option<Term>,
    /// The pair that signed before, and until when it is listed.
    pub(super) leaving: Option<Term>,
    /// Subscribers are still to be told of the pair that signs.
    pub(super) untold: bool,
}

/// A pair by its number, and a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Term {
    pub(super) pair: u32,
    #[serde(with = "rfc3339")]
    pub(super) at: Timestamp,
}

impl Book {
    /// Before the first rotation.
    pub(super) fn first(since: Timestamp) -> Self {
        let signs = Term { pair: 1, at: since };
        Self { version: VERSION, last: 1, signs, coming: None, leaving: None, untold: false }
    }

    /// Reads the file.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let book: Self = serde_json::from_str(text).map_err(|cause| cause.to_string())?;
        if book.version != VERSION {
            return Err(format!("its version is {}; this program knows {VERSION}", book.version));
        }
        let pairs: Vec<u32> = book.pairs().collect();
        let twice = pairs.iter().enumerate().any(|(at, pair)| pairs.iter().skip(at + 1).any(|other| other == pair));
        if twice || pairs.iter().any(|pair| *pair == 0 || *pair > book.last) {
            return Err("its pairs contradict each other".to_owned());
        }
        Ok(book)
    }

    /// What the file holds.
    pub(super) fn text(&self) -> String {
        // Numbers and times: it cannot fail, and an empty file would be refused on reading.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// The pairs whose files are needed.
    pub(super) fn pairs(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.signs).chain(self.coming).chain(self.leaving).map(|term| term.pair)
    }

    /// A new pair, to sign from `from` on. `None` while another rotation is under way.
    pub(super) fn begin(&self, from: Timestamp) -> Option<Self> {
        if self.coming.is_some() || self.leaving.is_some() {
            return None;
        }
        let pair = self.last.checked_add(1)?;
        Some(Self { last: pair, coming: Some(Term { pair, at: from }), ..self.clone() })
    }

    /// A new pair in place of all others, at once.
    pub(super) fn replace(&self, now: Timestamp) -> Option<Self> {
        let pair = self.last.checked_add(1)?;
        let signs = Term { pair, at: now };
        Some(Self { version: VERSION, last: pair, signs, coming: None, leaving: None, untold: true })
    }

    /// What the clock asks for: the coming pair begins to sign, the leaving one is dropped. `None` if nothing is due.
    pub(super) fn advance(&self, now: Timestamp) -> Option<Self> {
        match (self.coming, self.leaving) {
            (Some(coming), _) if coming.at <= now => Some(Self {
                signs: Term { pair: coming.pair, at: now },
                coming: None,
                leaving: Some(Term { pair: self.signs.pair, at: now.plus(FAREWELL) }),
                untold: true,
                ..self.clone()
            }),
            (_, Some(leaving)) if leaving.at <= now => Some(Self { leaving: None, ..self.clone() }),
            _ => None,
        }
    }

    /// The same, and numbers up to this one count as given.
    pub(super) fn past(&self, pair: u32) -> Self {
        Self { last: self.last.max(pair), ..self.clone() }
    }

    /// Subscribers are told, or about to be.
    pub(super) fn told(&self) -> Self {
        Self { untold: false, ..self.clone() }
    }
}

/// Times as people read them: whole seconds are enough here.
mod rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::clock::Timestamp;

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.rfc3339())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::from_rfc3339(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no time")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    #[test]
    fn a_rotation_goes_its_way_by_the_clock_and_each_step_survives_the_file() {
        let kept = |book: &Book| Book::read(&book.text()).expect("what was written is read");
        let first = kept(&Book::first(NOON));
        assert_eq!(first.advance(NOON.plus(HOLD)), None);
        let switch = NOON.plus(HOLD);
        let begun = kept(&first.begin(switch).expect("it begins"));
        assert_eq!((begun.signs.pair, begun.coming.map(|term| term.pair)), (1, Some(2)));
        assert_eq!(begun.begin(switch), None, "one at a time");
        assert_eq!(begun.advance(switch.minus(Duration::from_secs(1))), None);
        let turned = kept(&begun.advance(switch).expect("it is due"));
        assert_eq!((turned.signs.pair, turned.leaving.map(|term| term.pair), turned.untold), (2, Some(1), true));
        assert_eq!(turned.begin(switch), None, "and not before the old pair is gone");
        assert_eq!(turned.advance(NOON), None, "a clock that is set back gives the old pair nothing");
        let told = kept(&turned.told());
        let ended = kept(&told.advance(switch.plus(FAREWELL)).expect("it is due"));
        assert_eq!((ended.pairs().collect::<Vec<_>>(), ended.untold), (vec![2], false));
        let again = ended.begin(NOON).expect("the next one");
        assert_eq!(again.coming.map(|term| term.pair), Some(3), "no number is given twice");
    }

    #[test]
    fn a_stolen_pair_is_replaced_at_any_step_and_takes_the_others_with_it() {
        let first = Book::first(NOON);
        let begun = first.begin(NOON).unwrap();
        let turned = begun.advance(NOON).unwrap();
        for (book, expected) in [(&first, 2), (&begun, 3), (&turned, 3)] {
            let replaced = book.replace(NOON).unwrap();
            assert_eq!((replaced.pairs().collect::<Vec<_>>(), replaced.untold), (vec![expected], true));
        }
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused() {
        let good = Book::first(NOON).begin(NOON).unwrap().text();
        assert!(Book::read(&good).is_ok());
        for bad in [
            String::new(),
            "{}".to_owned(),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("\"pair\": 2", "\"pair\": 1"),
            good.replace("\"pair\": 2", "\"pair\": 3"),
            good.replace("\"pair\": 1", "\"pair\": 0"),
            good.replace("\"untold\"", "\"untolled\""),
            good.replace("2026-", "last "),
            good[..good.len() / 2].to_owned(),
        ] {
            assert!(Book::read(&bad).is_err(), "{bad}");
        }
    }
}
