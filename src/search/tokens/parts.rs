//! The parts of a hashtag, by its case, digits and underscores.

use super::class::Class;

/// Parts of one hashtag; what follows is only in its whole.
pub(super) const MAX_PARTS: usize = 16;

/// The words that a hashtag is made of: `foo|bar`, `Foo|Bar`, `HTML|Parser`, `foo|2024`.
pub(super) struct Parts {
    spans: [(usize, usize); MAX_PARTS],
    count: usize,
}

/// What a letter is for the borders of parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Upper,
    /// Or without case.
    Lower,
    Digit,
}

impl Parts {
    pub(super) fn of(body: &str) -> Self {
        let mut parts = Self { spans: [(0, 0); MAX_PARTS], count: 0 };
        // The part that is open: its beginning, its last letter's beginning and case, and that of the one before.
        let mut open: Option<(usize, usize, Case, Option<Case>)> = None;
        for (at, c) in body.char_indices() {
            let case = match c {
                _ if !c.is_alphanumeric() && Class::of(c) == Class::Break => {
                    if let Some((from, ..)) = open.take() {
                        parts.add(from, at);
                    }
                    continue;
                }
                _ if c.is_numeric() => Case::Digit,
                _ if c.is_uppercase() => Case::Upper,
                _ if c.is_alphanumeric() => Case::Lower,
                _ => continue,
            };
            open = Some(match open {
                None => (at, at, case, None),
                Some((from, last, before, earlier)) => match (before, case) {
                    (Case::Upper, Case::Lower) if earlier == Some(Case::Upper) => {
                        parts.add(from, last);
                        (last, at, case, Some(before))
                    }
                    (Case::Lower, Case::Upper) | (Case::Digit, Case::Upper | Case::Lower) | (_, Case::Digit)
                        if before != case =>
                    {
                        parts.add(from, at);
                        (at, at, case, None)
                    }
                    _ => (from, at, case, Some(before)),
                },
            });
        }
        if let Some((from, ..)) = open {
            parts.add(from, body.len());
        }
        parts
    }

    fn add(&mut self, from: usize, to: usize) {
        if let Some(span) = self.spans.get_mut(self.count) {
            *span = (from, to);
            self.count += 1;
        }
    }

    /// From where to where in the body, in bytes.
    pub(super) fn as_slice(&self) -> &[(usize, usize)] {
        self.spans.get(..self.count).unwrap_or_default()
    }
}
