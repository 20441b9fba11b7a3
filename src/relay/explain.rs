//! What the inbox's words mean, for the admin of another server and for the operator: one sentence on what was found, one on
//! what to mend. Pure; nothing here names anybody. Every word that the inbox answers with stands here, which a test holds.

/// What a word means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// What was found, in a sentence.
    pub says: &'static str,
    /// What to do about it; empty where there is nothing to be done.
    pub mend: &'static str,
}

/// What `word` means: a failed check, or what became of a request.
#[must_use]
pub fn meaning(word: &str) -> Option<Meaning> {
    let all = REFUSED.iter().chain(IGNORED).chain(TAKEN);
    all.copied().find(|(known, _, _)| *known == word).map(|(_, says, mend)| Meaning { says, mend })
}

const PROXY: &str = "Look for a proxy that adds, drops or rewrites headers on the way out.";
const WAIT: &str = "Nothing is wrong with the request: it is sent again later.";
const CLOCK: &str = "Set the server's clock (NTP), and let it sign each attempt anew.";
const ASK: &str = "Ask the operator of this relay; the home page names a contact.";
const JOIN: &str = "Join the relay: the home page says which address to add.";
const NOTHING: &str = "";

/// Requests that were not taken, by the failed check.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "unsigned",
        "The request bears no signature.",
        "Let it be signed (draft-cavage-12 or RFC 9421); look for a proxy that drops the Signature header.",
    ),
    ("repeated", "A header or parameter of the signature is there twice.", PROXY),
    ("malformed", "The signature's headers cannot be read.", PROXY),
    (
        "algorithm",
        "The signature is of an algorithm that we do not verify.",
        "Sign with rsa-sha256 (2048 bits or more) or with Ed25519.",
    ),
    (
        "coverage",
        "The signature leaves out what it must cover, or covers what is not there.",
        "Cover (request-target), host, date and digest; in RFC 9421 @method, @target-uri, content-digest and created. Look for a proxy that drops headers.",
    ),
    (
        "host",
        "It was signed for another server's name.",
        "Send to the address in our actor's document; look for a proxy that rewrites Host.",
    ),
    ("date", "The signed time is too far from this server's clock.", CLOCK),
    ("expires", "The signature has expired, or wants to be good for more than a day.", CLOCK),
    (
        "digest",
        "The digest does not fit the body.",
        "Compute it over the bytes that are sent; look for a proxy that changes the body.",
    ),
    (
        "signature",
        "The signature does not match the key that the actor publishes.",
        "If the key changed, wait ten minutes: it is read again then. Else see that one key pair signs and is published, and that no proxy changes signed headers.",
    ),
    (
        "key-id",
        "The signature's keyId is no address that we take.",
        "Name the key by the https address under which the actor publishes it.",
    ),
    (
        "key",
        "The key could not be read and bound to an actor.",
        "Publish the actor, with its publicKey, at its id, as application/activity+json, also to requests that other servers sign.",
    ),
    (
        "key-unreadable",
        "We could not read the key just now.",
        "See that your server answers from outside: by all addresses of its name, within ten seconds, with a certificate that is good and whole, and without a challenge page that programs cannot pass.",
    ),
    (
        "key-rate",
        "Too many requests came with keys that we had to look for in vain.",
        "Mend what is wrong with the signatures; then wait a minute.",
    ),
    (
        "actor",
        "The actor's document is no actor with an inbox of its own origin.",
        "Publish it under its id, as application/activity+json.",
    ),
    (
        "actor-unreadable",
        "We could not read the actor just now.",
        "See that your server answers from outside: by all addresses of its name, within ten seconds, with a certificate that is good and whole, and without a challenge page that programs cannot pass.",
    ),
    ("blocked", "The operator of this relay does not deal with this server.", ASK),
    ("admission", "A request to join was turned down.", ASK),
    (
        "turned-away",
        "The server was turned away: by the word of the operator of this relay, or by a rule of theirs.",
        ASK,
    ),
    (
        "search-off",
        "There is no search on this relay, and this was for it.",
        "Take that address out of your relays; /inbox is the relay's.",
    ),
    ("rate", "More came than this relay takes in a minute.", WAIT),
    ("held-full", "Posts of this server wait for the operator of this relay, and no more are kept.", ASK),
    ("disk", "This relay's disk is full.", WAIT),
    ("overload", "This relay was busy.", WAIT),
    ("internal", "This relay failed.", WAIT),
    ("json", "The body is no JSON that we take.", "Send one object, without duplicate keys, at most 32 deep."),
    ("activity", "The body is no activity that we can read.", "Send one activity with one actor."),
    ("content-type", "The content type is none of an activity.", "Send application/activity+json."),
    ("content-encoding", "The body is compressed.", "Send it as it is."),
    ("body-size", "The body is too big.", "Send smaller activities."),
    ("body-time", "The body took too long to come.", WAIT),
    ("body", "The body broke off.", WAIT),
];

/// Requests that were in order, and of which nothing came.
const IGNORED: &[(&str, &str, &str)] = &[
    ("not-a-subscriber", "It came from a server that has not joined.", JOIN),
    ("author-not-a-subscriber", "Its author's server has not joined.", JOIN),
    ("subscriber-pending", "The server's request to join waits for the operator of this relay.", ASK),
    (
        "search-not-on",
        "It came for the search, which is not switched on for this server.",
        "Add the search's address as docs/PRIVACY.md says, or take it out.",
    ),
    ("author-search-not-on", "It came for the search, which is not switched on for its author's server.", NOTHING),
    ("comes-by-the-relay", "It came to the search's address; the same comes by the relay, and that counts.", NOTHING),
    ("silenced", "The operator of this relay does not pass on what this server posts.", ASK),
    ("blocked", "The operator of this relay does not deal with this server.", ASK),
    ("blocked-actor", "The operator of this relay passes nothing on of this account.", ASK),
    ("origin-not-relayed", "The operator of this relay passes nothing on of where it comes from.", ASK),
    ("keyword", "A word of the post is one that the operator of this relay does not pass on.", ASK),
    (
        "not-public",
        "It is not public: unlisted, for followers, or direct.",
        "Nothing is to be mended: only public posts are passed on.",
    ),
    ("reply", "It is a reply, and this relay passes on only what starts a thread.", NOTHING),
    ("vote", "It is a vote in a poll.", NOTHING),
    ("too-old", "It is older than this relay passes on.", NOTHING),
    ("dated-in-the-future", "It is dated in the future.", CLOCK),
    ("kind-not-relayed", "It is of a kind that relays do not pass on, such as a like.", NOTHING),
    ("object-kind-not-relayed", "What it is about is no post.", NOTHING),
    ("no-object", "It is about nothing.", NOTHING),
    ("object-without-document", "It does not carry what it is about.", NOTHING),
    ("object-of-another-author", "What it is about is somebody else's.", NOTHING),
    ("object-of-another-origin", "What it is about is another server's.", NOTHING),
    ("boost", "It is a boost: those are not passed on.", NOTHING),
    ("move", "It tells of an account that moved: that is not passed on.", NOTHING),
    ("block", "It blocks somebody that this relay does not know.", NOTHING),
    (
        "said-by-somebody-else",
        "It was signed by another than its actor, and proves nothing.",
        "Let the actor itself sign what it says.",
    ),
    ("no-id", "It has no id.", "Give each activity an id of its actor's origin."),
    (
        "id-of-another-origin",
        "Its id is of another server than its actor.",
        "Give each activity an id of its actor's origin.",
    ),
    ("our-own", "It speaks of our own posts.", NOTHING),
    ("seen-before", "It came before.", NOTHING),
    ("replay", "It came before.", NOTHING),
    ("relayed-before", "The post was passed on before.", NOTHING),
    ("taken-before", "The post was taken before.", NOTHING),
    ("held-before", "The post waits for the operator of this relay already.", ASK),
    ("deleted-before", "The post was deleted before.", NOTHING),
    ("not-relayed-before", "It changes a post that never came here.", NOTHING),
    ("change-of-anothers-object", "It changes somebody else's post.", NOTHING),
    ("deletion-of-anothers-object", "It deletes somebody else's post.", NOTHING),
    ("deletion-of-nothing", "It deletes nothing.", NOTHING),
    ("deletion-of-unknown-actor", "An account was deleted that is not known here.", NOTHING),
    ("deletion-noted", "A deletion of what never came here was noted.", NOTHING),
    ("shape-not-relayed", "It is of a shape that relays do not pass on.", NOTHING),
    ("too-many-addressees", "It is addressed to more than we read.", NOTHING),
    ("announce-of-nothing", "It announces nothing.", NOTHING),
    ("announce-of-an-activity", "It announces an activity instead of a post.", NOTHING),
    ("announce-of-anothers-post", "It announces another server's post.", NOTHING),
    ("hint-about-nothing", "It names no post.", NOTHING),
    ("hint-not-about-a-post", "It names no post of its own server.", NOTHING),
    ("hint-not-wanted", "It tells of what relays do not pass on.", NOTHING),
    ("follow-of-somebody-else", "It follows an account that is not ours.", JOIN),
    ("undo-of-nothing", "It takes nothing back.", NOTHING),
    ("undo-not-relayed", "It takes back what relays do not pass on.", NOTHING),
    ("undo-of-somebody-else", "It takes back what somebody else did.", NOTHING),
    ("undo-of-unknown-follow", "It takes back a Follow that we do not know.", NOTHING),
    ("undo-of-unknown-block", "It takes back a Block that we do not know.", NOTHING),
    ("undo-of-unknown-boost", "It takes back a boost that we do not know.", NOTHING),
    ("answer-to-nothing", "It answers a Follow that we never sent.", NOTHING),
    ("answer-to-another", "It answers another Follow than the one that we sent.", NOTHING),
    ("blocked-before", "It blocks this relay, which it did before.", NOTHING),
    ("not-in-search", "It concerns the search, which holds nothing of it.", NOTHING),
    ("not-counted", "It concerns trends, which count nothing of it.", NOTHING),
    ("refusal-not-kept", "It says no to the search, which holds nothing of it.", NOTHING),
    ("actor-changed", "A profile changed: it is read again when it is needed.", NOTHING),
    ("nothing", "Nothing came of it.", NOTHING),
];

/// Requests that something came of.
const TAKEN: &[(&str, &str, &str)] = &[
    ("relayed", "A post was passed on.", NOTHING),
    ("change-relayed", "An edit was passed on.", NOTHING),
    ("deletion-relayed", "A deletion was passed on.", NOTHING),
    ("hint", "A post was named, and is read from its own server first.", NOTHING),
    ("recheck", "A change was named, and is read from its own server first.", NOTHING),
    ("held", "A post waits for the operator of this relay.", ASK),
    ("released", "A post that waited was passed on.", NOTHING),
    ("joined", "The server joined.", NOTHING),
    (
        "join-checked",
        "The server asked to join; its NodeInfo is read before it is answered.",
        "Have the proxy pass /.well-known/nodeinfo on. It takes a minute.",
    ),
    ("join-held", "The server asked to join, and waits for the operator of this relay.", ASK),
    ("join-rejected", "A request to join was turned down.", ASK),
    ("left", "The server left.", NOTHING),
    ("left-in-one-style", "One of several Follows was taken back.", NOTHING),
    ("follow-accepted", "It accepted our Follow.", NOTHING),
    ("follow-rejected", "It rejected our Follow.", "On Akkoma and Pleroma, see that the relay may be followed back."),
    ("search-on", "Search was switched on for this server.", NOTHING),
    ("search-on-by-operator", "Search is on for this server, by the operator's word.", NOTHING),
    ("search-off", "Search was switched off for this server.", NOTHING),
    ("search-refused", "Search could not be switched on for this server.", ASK),
    (
        "personal-follow",
        "A person followed the search's account; that is for a server's own actor.",
        "Add the search's address in the server's relay settings.",
    ),
    ("for-search", "A post was taken for the search.", NOTHING),
    ("change-for-search", "An edit was taken for the search.", NOTHING),
    ("deletion-for-search", "A deletion was taken for the search.", NOTHING),
    ("boost-noted", "A boost was counted for trends.", NOTHING),
    ("boost-taken-back", "A boost is counted no more.", NOTHING),
    ("withdrawn", "Somebody said no to being found, and is not.", NOTHING),
    ("readmitted", "Somebody took back their no to being found.", NOTHING),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The words that come out of these files as answers: checks of rejections, reasons to ignore, results.
    fn words_of_the_inbox() -> BTreeSet<String> {
        let sources = [
            include_str!("route.rs"),
            include_str!("trust.rs"),
            include_str!("verify.rs"),
            include_str!("effects.rs"),
            include_str!("inbox.rs"),
            include_str!("switch.rs"),
            include_str!("withdraw.rs"),
            include_str!("subscribe.rs"),
            include_str!("../http/federation.rs"),
            include_str!("../wire/http_sig/fault.rs"),
        ];
        let ways = [
            r#"Ignore\("([a-z-]+)"\)"#,
            r#"Ignored\("([a-z-]+)"\)"#,
            r#"Err\("([a-z-]+)"\)"#,
            r#"Nobody\("([a-z-]+)"\)"#,
            r#"Not\("([a-z-]+)"\)"#,
            r#"check: "([a-z-]+)""#,
            r#"Rejection::new\(\s*\d+,\s*"([a-z-]+)""#,
            r#"Rejection::later\(\s*"([a-z-]+)""#,
            r#"refuse\(\d+, "([a-z-]+)""#,
            r#"Self::[A-Za-z]+(?: \{ \.\. \})? => "([a-z]+)","#,
            r#"Welcome::[A-Za-z()_]+ => "([a-z-]+)","#,
        ];
        let mut words = BTreeSet::new();
        for source in sources {
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            for way in ways {
                let found = regex::Regex::new(way).unwrap();
                words.extend(found.captures_iter(code).map(|one| one[1].to_owned()));
            }
        }
        words
    }

    #[test]
    fn every_word_that_the_inbox_answers_is_explained() {
        let words = words_of_the_inbox();
        assert!(words.len() > 60, "{} words were found: {words:?}", words.len());
        let silent: Vec<&String> = words.iter().filter(|word| meaning(word).is_none()).collect();
        assert_eq!(silent, Vec::<&String>::new(), "the admin who meets one of these learns nothing");
    }

    #[test]
    fn explanations_are_whole_sentences_and_each_word_stands_once_in_its_list() {
        for list in [REFUSED, IGNORED, TAKEN] {
            let words: BTreeSet<&str> = list.iter().map(|(word, _, _)| *word).collect();
            assert_eq!(words.len(), list.len());
            for (word, says, mend) in list {
                assert!(says.ends_with('.') && says.len() > 10, "{word}: {says}");
                assert!(mend.is_empty() || mend.ends_with('.'), "{word}: {mend}");
            }
        }
    }
}
