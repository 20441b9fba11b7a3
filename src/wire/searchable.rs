//! What documents say about being found: every sign of an author ([`ActorSignals`]) and of a post ([`ObjectSignals`])
//! that somebody has made up for it so far, and what an author's profile shows ([`Profile`]).
//!
//! Nothing is decided here, that is `consent`'s; but doubt is settled, always the same way. What would allow counts only
//! if it is said in the one form that servers really send (`"indexable": true`); what would deny counts in any form: under
//! a prefix or a whole IRI, as a text, in a list too long to be read. So what is absent, `null` or a text is no yes, and
//! Misskey's silence is none either. These values are kept beside what is indexed, to say why: they are small and know no
//! words of the profile. Reading is bounded, and nothing panics.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::ids::{Iri, is_public};
use crate::wire::activity::id_of;
use crate::wire::fold::fold;
use crate::wire::json;
use crate::wire::object::{Audience, Post, PostFault, single_text};
use crate::wire::text::{MAX_TEXT, plain_text};

/// Kinds of object that are indexed. `Audio` and `Document` are relayed only: they are files with a name.
const INDEXED_KINDS: [&str; 7] = ["Note", "Article", "Page", "Question", "Event", "Video", "Image"];
/// Words by which people have said no for years, with `#` before them or without, in name, bio, fields or tags. Hyphens
/// and underscores are left out before they are compared, and capitals are small.
const NO_WORDS: [&str; 6] = ["nobot", "nobots", "nobridge", "noindex", "nosearch", "noarchive"];
/// The restrictive ones among the words of Fedibird and kmyblue, likewise; what they say with one word in a bio, as their
/// users cannot set `searchableBy` everywhere. The word that allows says nothing here.
const SEARCHABLE_BY_FEWER: [&str; 4] =
    ["searchablebyfollowersonly", "searchablebyreactedusersonly", "searchablebynobody", "searchablebyme"];
/// kmyblue's `[searchability:…]`, the restrictive ones.
const SEARCHABILITY_FEWER: [&str; 6] = ["followers", "private", "reactors", "reacted", "nobody", "limited"];
/// With this word a person asks to be found (see [`ActorSignals::magic_word`]).
const MAGIC_WORD: &str = "searchable";
/// Entries that are read of a list: searchers, fields, tags, variants by language. Longer ones are taken for a no where
/// one could stand in the rest.
const MAX_ENTRIES: usize = 100;

/// The most characters of a shown name, and of a user name.
pub const MAX_NAME: usize = 100;
/// The most characters of a shown bio.
pub const MAX_SUMMARY: usize = 500;
/// The most hashtags of a profile, each of at most [`MAX_NAME`] characters.
pub const MAX_PROFILE_TAGS: usize = 30;

/// A switch that a document has, or has not. The order is that of their weight: of several spellings the last counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// It is absent or `null`, which is no yes.
    #[default]
    Nothing,
    /// JSON's own `true`, under its plain name.
    Yes,
    /// `false`, or anything else that is not `true`.
    No,
}

impl Said {
    /// Whether it is the one form of yes.
    #[must_use]
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Yes)
    }

    fn of(value: &Value, is_plain: bool) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Bool(true) if is_plain => Self::Yes,
            Value::Bool(true) => Self::Nothing,
            _ => Self::No,
        }
    }
}

/// Who may search, by `searchableBy` (FEP-268d; Fedibird, kmyblue, CherryPick) or `canSearch` (streams, Hubzilla). It can
/// only deny: that everyone may search is not yet a wish to be indexed. The order is that of their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Searchers {
    /// It is absent or `null`.
    #[default]
    Unsaid,
    /// The public audience is named, in any of its spellings, and no marker for "nobody".
    Everyone,
    /// Followers, the author alone, nobody (`as:Limited`, `kmyblue:Limited`, an empty list), or something else that we do
    /// not know.
    Fewer,
}

impl Searchers {
    fn of(value: &Value) -> Self {
        let entries = match value {
            Value::Null => return Self::Unsaid,
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let ids = || entries.iter().filter_map(id_of);
        let is_open = entries.len() <= MAX_ENTRIES && ids().any(is_public) && !ids().any(|id| term(id) == "Limited");
        if is_open { Self::Everyone } else { Self::Fewer }
    }
}

/// What an actor's own document says about being found. The default says nothing at all, which is a no.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ActorSignals {
    /// Whose document it is; `None`: it names no usable id, or is no document that we read.
    pub id: Option<Iri>,
    /// `indexable` (FEP-5feb): public posts may be found by anyone. The author's key.
    pub indexable: Said,
    /// `discoverable`: the account may be listed and recommended.
    pub discoverable: Said,
    /// `searchableBy` of the actor, or the same in a word of the bio (`searchable_by_followers_only`,
    /// `[searchability:private]`).
    pub searchable_by: Searchers,
    /// `canSearch`.
    pub can_search: Searchers,
    /// `noindex` is on, or a fork's `isIndexable` is off.
    pub noindex: bool,
    /// `#nobot`, `#noindex` and their like, in name, bio, fields or tags.
    pub opt_out_word: bool,
    /// Misskey: contents are for those who are signed in, or become so after a while (`_misskey_requireSigninToViewContents`,
    /// `_misskey_makeNotesFollowersOnlyBefore`, `_misskey_makeNotesHiddenBefore`; 2024.10).
    pub members_only: bool,
    /// Suspended by its own server.
    pub suspended: bool,
    /// In memory of somebody, who cannot withdraw any more.
    pub memorial: bool,
    /// It moved to another account. Consent does not move along.
    pub moved: bool,
    /// `manuallyApprovesFollowers`: a locked account.
    pub locked: bool,
    /// An `Application` or a `Service`.
    pub bot: bool,
    /// The hashtag `#searchable` in bio, fields or tags, or the bare word alone on a line or in a field. "Not searchable"
    /// holds the word as well, so within a sentence it counts for nothing.
    pub magic_word: bool,
    /// When the account says that it was made (`published`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
}

impl ActorSignals {
    /// Reads an actor's document. Whether it came from its own address is for whoever fetched it to know.
    #[must_use]
    pub fn of(actor_document: &Value) -> Self {
        let Some(fields) = plain_object(actor_document) else { return Self::default() };
        let mut signals = Self {
            id: own_id(fields),
            bot: matches!(single_text(fields.get("type")), Some("Application" | "Service")),
            ..Self::default()
        };
        for (key, value) in fields {
            let term = term(key);
            match term {
                "indexable" => signals.indexable = signals.indexable.max(Said::of(value, term == key)),
                "discoverable" => signals.discoverable = signals.discoverable.max(Said::of(value, term == key)),
                "searchableBy" => signals.searchable_by = signals.searchable_by.max(Searchers::of(value)),
                "canSearch" => signals.can_search = signals.can_search.max(Searchers::of(value)),
                "noindex" | "noIndex" => signals.noindex |= is_on(value),
                "isIndexable" => signals.noindex |= Said::of(value, true) == Said::No,
                "_misskey_requireSigninToViewContents"
                | "_misskey_makeNotesFollowersOnlyBefore"
                | "_misskey_makeNotesHiddenBefore" => signals.members_only |= is_on(value),
                "suspended" => signals.suspended |= is_on(value),
                "memorial" => signals.memorial |= is_on(value),
                "movedTo" => signals.moved |= is_on(value),
                "published" => signals.created = value.as_str().and_then(Timestamp::from_rfc3339),
                "manuallyApprovesFollowers" => signals.locked |= is_on(value),
                _ => {}
            }
        }
        let words = Words::of_profile(fields);
        signals.opt_out_word = words.opts_out;
        signals.magic_word = words.magic;
        if words.fewer {
            signals.searchable_by = Searchers::Fewer;
        }
        signals
    }
}

/// What sort of thing a document is, as far as search needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// A post of a kind that is indexed: Note, Article, Page, Question, Event, Video, Image.
    Post,
    /// A vote in a poll.
    Vote,
    /// An `Announce`: somebody else's post.
    Boost,
    /// Anything else, or nothing that can be read.
    #[default]
    Other,
}

/// What a post's own document says about being found. The default is no post at all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectSignals {
    /// What it is.
    pub kind: ObjectKind,
    /// Its id.
    pub id: Option<Iri>,
    /// `attributedTo`, if it is of the post's own origin.
    pub author: Option<Iri>,
    /// `attributedTo` names others too who may be people: their consent is not known.
    pub shared: bool,
    /// Public in `to`.
    pub to_public: bool,
    /// Public in `cc`.
    pub cc_public: bool,
    /// When it was written, as claimed.
    pub published: Option<Timestamp>,
    /// `indexable` of the post. Only a no counts: the yes is the author's document's to say.
    pub indexable: Said,
    /// `searchableBy` of the post.
    pub searchable_by: Searchers,
    /// `canSearch` of the post.
    pub can_search: Searchers,
    /// `noindex` is on.
    pub noindex: bool,
    /// One of its hashtags is `#noindex`, `#nobot` or their like. The same words in the text are not: people write about
    /// them.
    pub opt_out_tag: bool,
}

impl ObjectSignals {
    /// Reads a post's document, be it its own or that of a `Create`.
    #[must_use]
    pub fn of(post_document: &Value) -> Self {
        let Some(fields) = plain_object(post_document) else { return Self::default() };
        let post = match Post::read(post_document) {
            Ok(post) => post,
            Err(fault) => {
                let Audience { to_public, cc_public, .. } = Audience::of(post_document);
                let (kind, id) = (kind_of_none(fields, &fault), own_id(fields));
                return Self { kind, id, to_public, cc_public, ..Self::default() };
            }
        };
        let mut signals = Self {
            kind: match () {
                () if post.is_vote => ObjectKind::Vote,
                () if INDEXED_KINDS.contains(&post.kind.as_str()) => ObjectKind::Post,
                () => ObjectKind::Other,
            },
            shared: post.owner.as_ref().is_some_and(|owner| is_shared(fields.get("attributedTo"), owner)),
            id: Some(post.id),
            author: post.owner,
            to_public: post.audience.to_public,
            cc_public: post.audience.cc_public,
            published: post.published,
            opt_out_tag: hashtags(fields).any(|tag| NO_WORDS.contains(&folded(tag).as_str())),
            ..Self::default()
        };
        for (key, value) in fields {
            let term = term(key);
            match term {
                "indexable" => signals.indexable = signals.indexable.max(Said::of(value, term == key)),
                "searchableBy" => signals.searchable_by = signals.searchable_by.max(Searchers::of(value)),
                "canSearch" => signals.can_search = signals.can_search.max(Searchers::of(value)),
                "noindex" | "noIndex" => signals.noindex |= is_on(value),
                "isIndexable" => signals.noindex |= Said::of(value, true) == Said::No,
                _ => {}
            }
        }
        signals
    }
}

/// What is kept of a profile to find and show the account. Its picture is not: showing it would tell the author's server
/// who searches. Nor are the handles of others that a bio names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// `preferredUsername`, the first half of the handle; empty if there is none that makes a handle.
    pub username: String,
    /// `name` on one line, at most [`MAX_NAME`] characters; empty if there is none.
    pub name: String,
    /// The page of the profile, of the actor's own origin; else its id.
    pub url: Iri,
    /// `summary` as plain text, a line for each paragraph, at most [`MAX_SUMMARY`] characters.
    pub summary: String,
    /// Its hashtags, as spelt, without `#`, each once.
    pub tags: Vec<String>,
}

impl Profile {
    /// Reads an actor's document; `None` if it has no usable id.
    #[must_use]
    pub fn of(actor_document: &Value) -> Option<Self> {
        let fields = plain_object(actor_document)?;
        let id = own_id(fields)?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let username = text("preferredUsername");
        let makes_a_handle = |c: char| c.is_alphanumeric() || "_.-~".contains(c);
        let username = if username.chars().count() <= MAX_NAME && username.chars().all(makes_a_handle) {
            username.to_owned()
        } else {
            String::new()
        };
        let summary: Vec<String> = plain_text(text("summary")).lines().map(without_handles).collect();
        let mut tags: Vec<String> = Vec::new();
        for tag in hashtags(fields).map(|tag| tag.trim_start_matches(['#', '＃'])) {
            let is_new = |tag: &str| !tags.iter().any(|one| one.to_lowercase() == tag.to_lowercase());
            let fits = tags.len() < MAX_PROFILE_TAGS && tag.chars().count() <= MAX_NAME && !tag.is_empty();
            if fits && !tag.contains(|c: char| c.is_whitespace() || c.is_control()) && is_new(tag) {
                tags.push(tag.to_owned());
            }
        }
        Some(Self {
            username,
            name: shortened(&without_handles(text("name")), MAX_NAME),
            url: page(fields.get("url"), &id).unwrap_or(id),
            summary: shortened(summary.join("\n").trim(), MAX_SUMMARY),
            tags,
        })
    }
}

/// Whether a profile holds this word, of ASCII letters, digits and hyphens: in its name, its bio or one of its fields.
#[must_use]
pub fn shows_word(actor_document: &Value, word: &str) -> bool {
    let Some(fields) = plain_object(actor_document) else { return false };
    let attachment = match fields.get("attachment") {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let of_fields =
        attachment.iter().take(MAX_ENTRIES).flat_map(|field| ["name", "value", "content"].map(|part| field.get(part)));
    let of_profile = ["name", "summary", "_misskey_summary"].map(|part| fields.get(part));
    let texts = of_profile.into_iter().chain(of_fields).flatten().filter_map(Value::as_str);
    // Part of a longer word is another word.
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    texts.into_iter().any(|text| plain_text(text).split(|c| !is_part(c)).any(|one| one == word))
}

/// The members of a document that JSON-LD readers would not read differently from us.
fn plain_object(document: &Value) -> Option<&Map<String, Value>> {
    document.as_object().filter(|_| json::restructured(document).is_none())
}

fn own_id(fields: &Map<String, Value>) -> Option<Iri> {
    fields.get("id").and_then(Value::as_str).and_then(|id| Iri::parse(id).ok())
}

/// The last part of a name with a prefix or of a whole IRI; the name itself if it is plain.
fn term(name: &str) -> &str {
    name.rsplit([':', '#', '/']).next().unwrap_or(name)
}

/// Whether a switch that would deny is on: anything but a clear "off" is.
fn is_on(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_on) => *is_on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !["", "false", "0", "no"].contains(&text.trim().to_ascii_lowercase().as_str()),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn kind_of_none(fields: &Map<String, Value>, fault: &PostFault) -> ObjectKind {
    match (single_text(fields.get("type")), fault) {
        (Some("Announce"), _) => ObjectKind::Boost,
        // It is a post, only not its author's: `author` stays empty.
        (Some(kind), PostFault::ForeignOwner) if INDEXED_KINDS.contains(&kind) => ObjectKind::Post,
        _ => ObjectKind::Other,
    }
}

/// Whether somebody else than `owner` is named who is not expressly a group: PeerTube names a video's channel.
fn is_shared(attributed_to: Option<&Value>, owner: &Iri) -> bool {
    let Some(Value::Array(entries)) = attributed_to else { return false };
    let is_group = |entry: &Value| matches!(single_text(entry.get("type")), Some("Group" | "Organization"));
    entries.len() > MAX_ENTRIES || entries.iter().any(|entry| id_of(entry) != Some(owner.as_str()) && !is_group(entry))
}

/// The names of the hashtags in `tag`, as they stand there.
fn hashtags(fields: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let entries = match fields.get("tag") {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let of_a_hashtag = |tag: &&Value| single_text(tag.get("type")).is_some_and(|kind| term(kind) == "Hashtag");
    entries.iter().filter(of_a_hashtag).filter_map(|tag| tag.get("name")?.as_str())
}

/// The words of a profile that mean something.
#[derive(Default)]
struct Words {
    opts_out: bool,
    fewer: bool,
    magic: bool,
}

impl Words {
    fn of_profile(fields: &Map<String, Value>) -> Self {
        let mut words = Self::default();
        for (name, by_language) in [("name", "nameMap"), ("summary", "summaryMap")] {
            let variants = fields.get(by_language).and_then(Value::as_object);
            words.opts_out |= variants.is_some_and(|variants| variants.len() > MAX_ENTRIES);
            let variants = variants.into_iter().flat_map(Map::values).take(MAX_ENTRIES);
            for text in fields.get(name).into_iter().chain(variants).filter_map(Value::as_str) {
                words.read(text, true);
            }
        }
        if let Some(text) = fields.get("_misskey_summary").and_then(Value::as_str) {
            words.read(text, true);
        }
        let attachment = match fields.get("attachment") {
            Some(Value::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        words.opts_out |= attachment.len() > MAX_ENTRIES;
        for field in attachment.iter().take(MAX_ENTRIES) {
            // The name of a field is its question: "searchable" may be answered with no.
            for (part, may_ask) in [("name", false), ("value", true), ("content", true)] {
                if let Some(text) = field.get(part).and_then(Value::as_str) {
                    words.read(text, may_ask);
                }
            }
        }
        for tag in hashtags(fields) {
            let word = folded(tag);
            words.opts_out |= NO_WORDS.contains(&word.as_str());
            words.magic |= word == MAGIC_WORD;
        }
        words
    }

    /// Reads one text, which may be HTML. One that is too long to be read to its end may say no there.
    fn read(&mut self, text: &str, may_ask: bool) {
        self.opts_out |= text.len() > MAX_TEXT;
        let plain = plain_text(text);
        if plain.len() != text.len() {
            // A name is no HTML: what looks like a tag in it is text.
            self.search(text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default());
        }
        self.search(&plain);
        let asks = |line: &str| {
            let in_a_tag = |word: &str| word.strip_prefix(['#', '＃']).is_some_and(|tag| is_magic(trimmed(tag)));
            is_magic(line.trim()) || line.split_whitespace().any(in_a_tag)
        };
        self.magic |= may_ask && plain.lines().any(asks);
    }

    fn search(&mut self, text: &str) {
        self.search_words(text);
        // What is not seen may part a word, or two.
        if text.chars().any(is_invisible) {
            let seen: String = text.chars().filter(|c| !is_invisible(*c)).collect();
            self.search_words(&seen);
        }
    }

    fn search_words(&mut self, text: &str) {
        let mut before = String::new();
        for word in
            text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).filter(|word| !word.is_empty())
        {
            let word = folded(word);
            self.opts_out |= NO_WORDS.contains(&word.as_str());
            self.fewer |= SEARCHABLE_BY_FEWER.contains(&word.as_str())
                || before == "searchability" && SEARCHABILITY_FEWER.contains(&word.as_str());
            before = word;
        }
    }
}

/// Soft hyphens, joiners and marks of direction, which a word may hold without looking like another one.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn is_magic(word: &str) -> bool {
    word.eq_ignore_ascii_case(MAGIC_WORD)
}

fn trimmed(word: &str) -> &str {
    word.trim_end_matches(|c: char| c.is_ascii_punctuation() && c != '_' && c != '-')
}

/// A word without `#`, hyphens and underscores, in small letters. Longer ones than any that we look for are nothing.
fn folded(word: &str) -> String {
    if word.len() > MAX_NAME {
        return String::new();
    }
    fold(word).chars().filter(|c| c.is_alphanumeric()).collect()
}

/// A line without the handles of others (`@bo`, `@bo@b.example`) and addresses, spaces single.
fn without_handles(line: &str) -> String {
    let names_somebody =
        |word: &&str| word.split('@').skip(1).any(|after| after.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
    line.split_whitespace().filter(|word| !names_somebody(word)).collect::<Vec<_>>().join(" ")
}

/// At most so many characters, none of which could disturb the page around it.
fn shortened(text: &str, most: usize) -> String {
    let disturbs =
        |c: &char| c.is_control() && *c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|c| !disturbs(c)).take(most).collect()
}

/// The first page among `url` (a text, a `Link`, or several) on the origin of `id`.
fn page(url: Option<&Value>, id: &Iri) -> Option<Iri> {
    let entries = match url? {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let address = |entry: &Value| Iri::parse(entry.as_str().or_else(|| entry.get("href")?.as_str())?).ok();
    entries.iter().take(MAX_ENTRIES).filter_map(address).find(|page| page.same_origin(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn actor(more: Value) -> ActorSignals {
        let mut document = json!({"id": "https://a.example/users/ada", "type": "Person"});
        let (Some(fields), Value::Object(more)) = (document.as_object_mut(), more) else { panic!("objects") };
        fields.extend(more);
        ActorSignals::of(&document)
    }

    #[test]
    fn only_true_is_yes_and_any_spelling_of_no_counts() {
        use Said::{No, Nothing, Yes};
        let check = |more: Value, expected: Said| assert_eq!(actor(more.clone()).indexable, expected, "{more}");
        check(json!({}), Nothing);
        check(json!({"indexable": null}), Nothing);
        check(json!({"indexable": true}), Yes);
        check(json!({"toot:indexable": true}), Nothing);
        check(json!({"http://joinmastodon.org/ns#indexable": true}), Nothing);
        for no in [json!(false), json!("true"), json!(1), json!([true]), json!({}), json!("")] {
            check(json!({"indexable": no}), No);
            check(json!({"indexable": true, "toot:indexable": no}), No);
            check(json!({"indexable": true, "http://joinmastodon.org/ns#indexable": no}), No);
        }
        check(json!({"Indexable": true}), Nothing);
        check(json!({"indexable": true, "@included": []}), Nothing);
        assert_eq!(ActorSignals::of(&json!(["indexable"])), ActorSignals::default());
    }

    #[test]
    fn searchers_are_everyone_only_where_the_public_is_named_and_no_nobody() {
        use Searchers::{Everyone, Fewer, Unsaid};
        let public = "https://www.w3.org/ns/activitystreams#Public";
        let many: Vec<Value> = (0..=MAX_ENTRIES).map(|_| json!(public)).collect();
        let table = [
            (json!(null), Unsaid),
            (json!(public), Everyone),
            (json!([public]), Everyone),
            (json!(["as:Public"]), Everyone),
            (json!({"id": "Public"}), Everyone),
            (json!(["https://a.example/users/ada/followers", public]), Everyone),
            (json!([]), Fewer),
            (json!(""), Fewer),
            (json!({}), Fewer),
            (json!(true), Fewer),
            (json!([[public]]), Fewer),
            (json!(many), Fewer),
            (json!("as:Limited"), Fewer),
            (json!(["kmyblue:Limited"]), Fewer),
            (json!([public, "kmyblue:Limited"]), Fewer),
            (json!([{"id": "http://kmy.blue/ns#Limited"}, public]), Fewer),
            (json!(["kmyblue:LocalPublic"]), Fewer),
            (json!("https://a.example/users/ada/followers"), Fewer),
            (json!("https://a.example/users/ada"), Fewer),
        ];
        for (value, expected) in table {
            assert_eq!(actor(json!({"searchableBy": value})).searchable_by, expected, "{value}");
            assert_eq!(actor(json!({"fedibird:searchableBy": value})).searchable_by, expected, "{value}");
            assert_eq!(actor(json!({"canSearch": value})).can_search, expected, "{value}");
        }
    }

    #[test]
    fn words_of_the_profile_that_deny_are_found_wherever_they_stand() {
        let denies = |more: Value, expected: bool| assert_eq!(actor(more.clone()).opt_out_word, expected, "{more}");
        for text in [
            "<p>#nobot</p>",
            "<p>Hi! <a href=\"https://a.example/tags/NoBot\">#<span>NoBot</span></a></p>",
            "#nobots",
            "#NoBridge, please",
            "noindex",
            "Ada | NoSearch",
            "a #no-archive b",
            "#no_index",
            ":nobot:",
            "#art#noarchive",
            "ｎｏｉｎｄｅｘ",
            "\u{1d427}\u{1d428}\u{1d41b}\u{1d428}\u{1d42d}",
            "no\u{200b}index",
            "no\u{ad}se\u{2060}arch",
            "#nosearch\u{200b}please",
        ] {
            denies(json!({"summary": text}), true);
            denies(json!({"name": text}), true);
            denies(json!({"summaryMap": {"en": text}}), true);
            denies(json!({"attachment": [{"type": "PropertyValue", "name": "x", "value": text}]}), true);
            denies(json!({"attachment": {"type": "PropertyValue", "name": text, "value": "x"}}), true);
        }
        denies(json!({"tag": [{"type": "Hashtag", "name": "#NoBot"}]}), true);
        denies(json!({"tag": {"type": "as:Hashtag", "name": "nosearch"}}), true);
        denies(json!({"name": "<noindex>"}), true);
        denies(json!({"summary": "x".repeat(MAX_TEXT + 1)}), true);
        for text in ["I am no bot", "nobody", "robots", "index", "#nobotany", "no search, no fun", "", "snobot"] {
            denies(json!({"summary": text, "name": text}), false);
        }
        let fewer = |text: &str, expected: bool| {
            assert_eq!(actor(json!({"summary": text})).searchable_by == Searchers::Fewer, expected, "{text}");
        };
        fewer("searchable_by_followers_only", true);
        fewer("<p>hi searchable_by_reacted_users_only</p>", true);
        fewer("#searchable_by_nobody", true);
        fewer("[searchability:private]", true);
        fewer("[searchability: reactors]", true);
        fewer("[searchability:public]", false);
        fewer("searchable_by_all_users", false);
        fewer("searchable_by_default_range", false);
    }

    #[test]
    fn a_word_is_shown_in_name_bio_or_fields_and_whole() {
        let check = |document: Value, expected: bool| {
            assert_eq!(shows_word(&document, "relay-remove-0a1b"), expected, "{document}");
        };
        check(json!({ "summary": "<p>Birds.</p><p>relay-remove-0a1b</p>" }), true);
        check(json!({ "summary": "my word:relay-remove-0a1b." }), true);
        check(json!({ "name": "Ada relay-remove-0a1b" }), true);
        check(
            json!({ "attachment": [{ "type": "PropertyValue", "name": "x", "value": "<b>relay-remove-0a1b</b>" }] }),
            true,
        );
        check(json!({ "attachment": { "name": "relay-remove-0a1b" } }), true);
        check(json!({ "summary": "relay-remove-0a1" }), false);
        check(json!({ "summary": "relay-remove-0a1bc" }), false);
        check(json!({ "summary": "not-relay-remove-0a1b" }), false);
        check(json!({ "url": "https://a.example/relay-remove-0a1b" }), false);
        check(json!({ "tag": [{ "name": "relay-remove-0a1b" }] }), false);
        check(json!("relay-remove-0a1b"), false);
    }

    #[test]
    fn the_magic_word_counts_alone_or_as_a_tag_and_never_in_a_sentence() {
        let check = |more: Value, expected: bool| assert_eq!(actor(more.clone()).magic_word, expected, "{more}");
        for (text, expected) in [
            ("#searchable", true),
            ("<p>birds</p><p>Searchable</p>", true),
            ("birds, #Searchable.", true),
            ("not searchable", false),
            ("unsearchable", false),
            ("#searchable_not", false),
            ("#unsearchable", false),
            ("searchable?", false),
        ] {
            check(json!({"summary": text}), expected);
            check(json!({"attachment": [{"name": "x", "value": text}]}), expected);
        }
        check(json!({"attachment": [{"name": "searchable", "value": "no"}]}), false);
        check(json!({"tag": [{"type": "Hashtag", "name": "#searchable"}]}), true);
    }

    #[test]
    fn other_switches_deny_in_any_form_that_is_not_off() {
        let read = |more: Value| {
            let signals = actor(more);
            let ActorSignals { noindex, members_only, suspended, memorial, moved, locked, bot, .. } = signals;
            [noindex, members_only, suspended, memorial, moved, locked, bot].map(u8::from)
        };
        assert_eq!(read(json!({"noindex": true})), [1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(json!({"isIndexable": false})), [1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(json!({"isIndexable": true})), [0; 7]);
        assert_eq!(read(json!({"_misskey_requireSigninToViewContents": true})), [0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(read(json!({"_misskey_makeNotesHiddenBefore": -86400})), [0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(read(json!({"toot:suspended": "true"})), [0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(read(json!({"memorial": 1})), [0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(read(json!({"movedTo": "https://b.example/u"})), [0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(read(json!({"movedTo": ""})), [0; 7]);
        assert_eq!(read(json!({"manuallyApprovesFollowers": true})), [0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(read(json!({"type": "Service"})), [0, 0, 0, 0, 0, 0, 1]);
        let off = json!({"noindex": false, "suspended": "false", "memorial": 0, "movedTo": null,
            "_misskey_requireSigninToViewContents": false, "_misskey_makeNotesHiddenBefore": null});
        assert_eq!(read(off), [0; 7]);
    }

    #[test]
    fn a_profile_is_short_and_names_nobody_else() {
        let document = json!({
            "id": "https://a.example/users/ada", "type": "Person", "preferredUsername": "ada",
            "name": "  Ada \u{202e}Lovelace 👩‍💻 @home@b.example ",
            "summary": "<p>Birds &amp; looms. With <a href=\"https://b.example/@bo\">@bo@b.example</a>, me@a.example</p><p>two</p>",
            "url": [{"type": "Link", "href": "https://evil.example/@ada"}, "https://a.example/@ada"],
            "icon": {"url": "https://a.example/ada.png"},
            "tag": [{"type": "Hashtag", "name": "#Birds"}, {"type": "Hashtag", "name": "#birds"},
                {"type": "Emoji", "name": ":x:"}, {"type": "Hashtag", "name": "#"}],
        });
        let profile = Profile::of(&document).unwrap();
        assert_eq!(profile.username, "ada");
        assert_eq!(profile.name, "Ada Lovelace 👩‍💻");
        assert_eq!(profile.summary, "Birds & looms. With\ntwo");
        assert_eq!(profile.url.as_str(), "https://a.example/@ada");
        assert_eq!(profile.tags, ["Birds"]);
        let long = json!({"id": "https://a.example/u", "name": "ü".repeat(500), "summary": "ü".repeat(5000),
            "preferredUsername": "a b", "url": "https://evil.example/"});
        let profile = Profile::of(&long).unwrap();
        assert_eq!((profile.name.chars().count(), profile.summary.chars().count()), (MAX_NAME, MAX_SUMMARY));
        assert_eq!((profile.username.as_str(), profile.url.as_str()), ("", "https://a.example/u"));
        assert_eq!(Profile::of(&json!({"name": "nobody"})), None);
    }

    #[test]
    fn signals_are_small_and_survive_being_kept() {
        let signals = actor(json!({"indexable": true, "summary": "x #nobot".repeat(1000)}));
        let bytes = serde_json::to_vec(&signals).unwrap();
        assert!(bytes.len() < 500, "{}", bytes.len());
        assert_eq!(serde_json::from_slice::<ActorSignals>(&bytes).unwrap(), signals);
        assert_eq!(
            serde_json::from_str::<ActorSignals>("{}").unwrap(),
            ActorSignals::default(),
            "later fields may be added"
        );
    }

    #[test]
    fn what_is_too_long_to_be_read_to_its_end_may_say_no_there() {
        let fields =
            |count: usize| (0..count).map(|n| json!({"name": format!("{n}"), "value": "#"})).collect::<Vec<_>>();
        let languages = |count: usize| (0..count).map(|n| (n.to_string(), "x".into())).collect::<Map<_, _>>();
        for (long, longer) in [
            (json!({"summary": "<div>".repeat(MAX_TEXT / 5)}), json!({"summary": "<div>".repeat(MAX_TEXT / 5 + 1)})),
            (json!({"name": "a".repeat(MAX_TEXT)}), json!({"name": "a".repeat(1 << 20)})),
            (json!({"attachment": fields(MAX_ENTRIES)}), json!({"attachment": fields(MAX_ENTRIES + 1)})),
            (json!({"summaryMap": languages(MAX_ENTRIES)}), json!({"summaryMap": languages(MAX_ENTRIES + 1)})),
        ] {
            assert!(!actor(long).opt_out_word && actor(longer).opt_out_word);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in ".{0,200}", html in "(<|>|/|p|a|#|@|nobot|searchable|&amp;| |é|\u{202e}){0,40}") {
            for text in [&text, &html] {
                let document = json!({
                    "id": text, "type": text, "name": text, "summary": text, "preferredUsername": text, "url": text,
                    "tag": [{"type": "Hashtag", "name": text}], "searchableBy": text, "attachment": [{"value": text}],
                });
                let _ = (ActorSignals::of(&document), ObjectSignals::of(&document));
                let mut named = document.clone();
                named["id"] = json!("https://a.example/u");
                let profile = Profile::of(&named).expect("it has an id");
                prop_assert!(profile.summary.chars().count() <= MAX_SUMMARY && profile.name.chars().count() <= MAX_NAME);
            }
        }
    }
}
