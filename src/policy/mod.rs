//! With whom the operator does not deal: one pure decision, asked at every use (joining, sending, receiving), so that a
//! rule takes effect everywhere as soon as it is read, which is at the start. How much anybody may send is for [`limits`] to say,
//! and which posts the operator looks at first for [`screen`], with what [`wave`] and [`repeats`] count.

pub mod limits;
pub mod repeats;
pub mod screen;
pub mod wave;

pub use limits::Limits;

use crate::config;
use crate::ids::Authority;

/// What the rules say of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against it.
    Allow,
    /// It may receive; its posts are not relayed.
    Silence,
    /// It may not join, send or receive.
    Block,
}

/// The rules in force.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    block: Vec<String>,
    silence: Vec<String>,
    allow: Vec<String>,
}

impl Rules {
    /// The rules of the config. Domains were typed by a person: case and a leading dot or `*.` mean nothing.
    #[must_use]
    pub fn new(policy: &config::Policy, relay: &config::Relay) -> Self {
        let domains = |list: &[String]| list.iter().map(|domain| plain(domain)).filter(|one| !one.is_empty()).collect();
        Self { block: domains(&policy.block), silence: domains(&policy.silence), allow: domains(&relay.allowlist) }
    }

    /// What they say of `authority`; a rule covers its subdomains, and the harsher one wins.
    #[must_use]
    pub fn verdict(&self, authority: &Authority) -> Verdict {
        let within = |list: &[String]| list.iter().any(|domain| authority.is_within(domain));
        if within(&self.block) {
            Verdict::Block
        } else if within(&self.silence) {
            Verdict::Silence
        } else {
            Verdict::Allow
        }
    }

    /// Whether `authority` is on the list of those who may join (`relay.allowlist`).
    #[must_use]
    pub fn is_listed(&self, authority: &Authority) -> bool {
        self.allow.iter().any(|domain| authority.is_within(domain) || authority.as_str() == domain)
    }
}

fn plain(domain: &str) -> String {
    let domain = domain.trim().trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
    Authority::parse(domain).map_or_else(|_odd| domain.to_ascii_lowercase(), |authority| authority.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_cover_subdomains_and_nothing_that_only_looks_alike() {
        let mut config = config::Config::embedded();
        config.policy.block = vec!["Evil.example".into(), "*.bad.example".into()];
        config.policy.silence = vec![".loud.example".into(), "x.evil.example".into()];
        let rules = Rules::new(&config.policy, &config.relay);
        let check = |text: &str, expected: Verdict| {
            assert_eq!(rules.verdict(&Authority::parse(text).unwrap()), expected, "{text}");
        };
        check("evil.example", Verdict::Block);
        check("evil.example:8443", Verdict::Block);
        check("a.b.evil.example", Verdict::Block);
        check("x.evil.example", Verdict::Block);
        check("bad.example", Verdict::Block);
        check("loud.example", Verdict::Silence);
        check("notevil.example", Verdict::Allow);
        check("evil.example.org", Verdict::Allow);
        check("evil.exampl", Verdict::Allow);
    }
}
