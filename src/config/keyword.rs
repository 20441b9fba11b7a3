//! A keyword of the operator: a regular expression that costs a bounded amount to make and linear time to match, whatever
//! somebody posts. It stands on the ground floor because the configuration is checked with it and rules are made of it.

use regex::{Regex, RegexBuilder};

/// The longest pattern, in bytes.
const MAX_BYTES: usize = 512;
/// The most memory of one compiled pattern, and of what it builds while it matches.
const COMPILED_BYTES: usize = 1 << 20;
/// How deep groups may nest.
const DEPTH: u32 = 32;

/// A pattern, ready to match. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keyword(Regex);

impl Keyword {
    /// Reads a pattern in the syntax of the `regex` crate. Case does not matter unless it says `(?-i)`.
    ///
    /// # Errors
    /// A sentence: too long, no regular expression, too costly, or one that matches everything.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the pattern is longer than {MAX_BYTES} bytes"));
        }
        let compiled = RegexBuilder::new(text)
            .case_insensitive(true)
            .size_limit(COMPILED_BYTES)
            .dfa_size_limit(COMPILED_BYTES)
            .nest_limit(DEPTH)
            .build();
        let regex = compiled.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("{text:?} is too costly: use smaller counts of repetition"),
            // Its text points at the place with several lines; the last one says what it is.
            other => {
                let why = other.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                format!("{text:?} is no regular expression: {why}")
            }
        })?;
        if regex.is_match("") {
            return Err(format!("{text:?} matches everything, the empty post included"));
        }
        Ok(Self(regex))
    }

    /// Whether it matches anywhere in `text`.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_is_a_pattern_of_bounded_cost() {
        let check = |pattern: &str, text: &str| Keyword::parse(pattern).map(|keyword| keyword.is_in(text));
        assert_eq!(check("buy (now|today)", "BUY TODAY!"), Ok(true));
        assert_eq!(check("(?-i)Buy", "buy"), Ok(false));
        assert_eq!(check("grün", "GRÜN"), Ok(true));
        for bad in ["(", "", "x*", ".*", "a{1000}{1000}{1000}", "(?=x)", &"x".repeat(513), &"(".repeat(300)] {
            assert!(Keyword::parse(bad).is_err(), "{bad}");
        }
    }

    /// A pattern that takes exponential time in engines that backtrack.
    #[test]
    fn matching_takes_linear_time() {
        let keyword = Keyword::parse("(x+x+)+y").unwrap();
        let started = std::time::Instant::now();
        assert!(!keyword.is_in(&"x".repeat(100_000)));
        assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
    }
}
