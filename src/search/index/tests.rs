//! The index against a model of it that looks at every post, and against what happens to disks and processes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tantivy::query::EnableScoring;
use tantivy::{DocSet as _, TERMINATED};
use tempfile::TempDir;

use super::*;
use crate::search::compile::Names;
use crate::search::query::{Expr, Leaf, Query};
use crate::search::schema::{IndexDoc, first_id};
use crate::search::stems::{MAX_LISTS, MAX_OPEN};
use crate::wire::document::{Document, Prop, Props};

const NOW: Timestamp = Timestamp::from_secs(1_787_486_400);
const AMPLE: Duration = Duration::from_secs(600);
const HEAP: usize = 15 << 20;

/// A post of the tests: what the index gets, and what the model looks at.
#[derive(Debug, Clone)]
struct Post {
    id: u64,
    author: u64,
    server: u64,
    language: &'static str,
    document: Document,
}

impl Post {
    fn saying(id: u64, text: &str) -> Self {
        let document = Document { text: text.to_owned(), ..Document::default() };
        Self { id, author: 1, server: 1, language: "en", document }
    }

    fn doc(&self) -> IndexDoc<'_> {
        IndexDoc {
            id: self.id,
            author: self.author,
            server: self.server,
            language: self.language,
            document: &self.document,
        }
    }
}

/// `from:u1` is author 1, `domain:s1` server 1.
struct Numbers;

fn number(name: &str, sign: char) -> Vec<u64> {
    name.strip_prefix(sign).and_then(|digits| digits.parse().ok()).into_iter().collect()
}

impl Names for Numbers {
    fn authors(&self, who: &str) -> Vec<u64> {
        number(who, 'u')
    }

    fn servers(&self, host: &str) -> Vec<u64> {
        number(host, 's')
    }
}

fn compiled(query: &str) -> Compiled {
    let query = Query::read(query).unwrap();
    Compiled::new(&query, &Numbers, query.wants_sensitive())
}

struct Scene {
    dir: TempDir,
    index: Index,
    writer: Writer,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path()).unwrap();
        let writer = index.writer(HEAP).unwrap();
        Self { dir, index, writer }
    }

    fn of(posts: &[Post]) -> Self {
        let mut scene = Self::new();
        scene.add(posts);
        scene
    }

    fn add(&mut self, posts: &[Post]) {
        for post in posts {
            self.writer.put(&post.doc()).unwrap();
        }
        self.commit();
    }

    fn commit(&mut self) {
        self.writer.commit(self.writer.position() + 1, NOW).unwrap();
    }

    fn newest(&self, query: &str) -> Vec<u64> {
        let page = Page { limit: MAX_RESULTS, ..Page::default() };
        let found = self.index.newest(&compiled(query), page, &|_| true, AMPLE).unwrap();
        assert!(!found.took_too_long);
        found.ids
    }

    fn best(&self, query: &str) -> Vec<u64> {
        self.index.best(&compiled(query), 0, MAX_RESULTS, &|_| true, AMPLE).unwrap().ids
    }

    fn files(&self) -> PathBuf {
        self.dir.path().join(VERSION)
    }
}

mod model {
    use super::*;

    /// The words of each part of a post.
    fn parts(post: &Post) -> Vec<Vec<&str>> {
        let document = &post.document;
        let all = [&document.title, &document.warning, &document.text];
        all.into_iter().chain(&document.options).map(|part| part.split_whitespace().collect()).collect()
    }

    pub(super) fn holds(expr: &Expr, post: &Post) -> bool {
        let word = |test: &dyn Fn(&str) -> bool| parts(post).iter().flatten().any(|word| test(word));
        let millis = i64::try_from(post.id >> 16).unwrap();
        match expr {
            Expr::All(members) => members.iter().all(|member| holds(member, post)),
            Expr::Any(members) => members.iter().any(|member| holds(member, post)),
            Expr::Not(inner) => !holds(inner, post),
            Expr::Leaf(leaf) => match leaf {
                Leaf::Word(asked) => word(&|word| word == asked),
                Leaf::Prefix(asked) => word(&|word| word.starts_with(asked.as_str())),
                Leaf::Phrase(asked) => {
                    let asked: Vec<&str> = asked.split_whitespace().collect();
                    parts(post).iter().any(|part| part.windows(asked.len()).any(|window| window == asked))
                }
                Leaf::Tag(key) => post.document.tags.contains(key),
                Leaf::TagPrefix(key) => post.document.tags.iter().any(|tag| tag.starts_with(key.as_str())),
                Leaf::From(who) => number(who, 'u').contains(&post.author),
                Leaf::Domain(host) => number(host, 's').contains(&post.server),
                Leaf::Language(code) => post.language == code,
                Leaf::Prop(prop) => post.document.props.has(*prop),
                Leaf::Library => false,
                Leaf::Before(bound) => millis < *bound,
                Leaf::After(bound) => millis > *bound,
            },
        }
    }
}

fn words(count: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    // Some words are everywhere, and some begin alike.
    let word = prop::sample::select(vec!["aa", "aa", "aa", "ab", "abc", "bb", "bc", "cc", "zz"]);
    prop::collection::vec(word, count).prop_map(|words| words.join(" "))
}

fn post() -> impl Strategy<Value = Post> {
    let tags = prop::collection::btree_set(prop::sample::select(vec!["cat", "cats", "dog"]), 0..3);
    let warning = prop_oneof![4 => Just(String::new()), 1 => words(1..3)];
    let document = (words(0..3), warning, words(0..8), prop::collection::vec(words(1..3), 0..2), tags);
    let language = prop::sample::select(vec!["en", "de", "und"]);
    (0_u64..40, 0_u64..3, 1_u64..4, 1_u64..3, language, document).prop_map(
        |(millis, seq, author, server, language, (title, warning, text, options, tags))| Post {
            id: (millis << 16) | seq,
            author,
            server,
            language,
            document: Document {
                title,
                warning,
                text,
                options,
                tags: tags.into_iter().map(str::to_owned).collect(),
                props: if millis % 3 == 0 { Props::default().with(Prop::Sensitive) } else { Props::default() },
                ..Document::default()
            },
        },
    )
}

fn query() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        8 => words(1..2),
        3 => words(2..4).prop_map(|words| format!("\"{words}\"")),
        2 => prop::sample::select(vec!["aa*", "ab*", "b*", "#cat", "#dog", "#ca*", "#nobody"]).prop_map(str::to_owned),
        2 => prop::sample::select(vec!["from:u1", "from:u2,u3", "from:nobody", "domain:s1", "language:de,und",
            "is:sensitive", "in:library"]).prop_map(str::to_owned),
        2 => (0_u64..40).prop_map(|millis| format!("before:{millis}")),
        2 => (0_u64..40).prop_map(|millis| format!("after:{millis}")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(|members| format!("({})", members.join(" "))),
            1 => prop::collection::vec(inner.clone(), 1..4).prop_map(|members| format!("({})", members.join(" OR "))),
            1 => inner.prop_map(|member| format!("-{member}")),
        ]
    })
}

/// What happens to an index, one commit after another.
#[derive(Debug, Clone)]
enum Step {
    Put(Vec<Post>),
    Remove(Vec<usize>),
    RemoveAuthor(u64),
    RemoveServer(u64),
    Expunge,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(post(), 1..24).prop_map(Step::Put),
        3 => prop::collection::vec(0_usize..100, 1..6).prop_map(Step::Remove),
        1 => (1_u64..4).prop_map(Step::RemoveAuthor),
        1 => (1_u64..3).prop_map(Step::RemoveServer),
        1 => Just(Step::Expunge),
    ]
}

fn perform(step: &Step, scene: &mut Scene, posts: &mut BTreeMap<u64, Post>) {
    match step {
        Step::Put(new) => {
            for post in new {
                scene.writer.put(&post.doc()).unwrap();
                posts.insert(post.id, post.clone());
            }
        }
        Step::Remove(places) => {
            for place in places {
                if let Some(id) = posts.keys().nth(*place).copied() {
                    scene.writer.remove(id);
                    posts.remove(&id);
                }
            }
        }
        Step::RemoveAuthor(author) => {
            scene.writer.remove_author(*author);
            posts.retain(|_, post| post.author != *author);
        }
        Step::RemoveServer(server) => {
            scene.writer.remove_server(*server);
            posts.retain(|_, post| post.server != *server);
        }
        Step::Expunge => {
            let done = scene.writer.expunge(NOW).unwrap();
            assert_eq!(done.left, 0);
            let stats = scene.index.stats().unwrap();
            assert_eq!((stats.deleted, stats.oldest_delete), (0, None));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn searches_find_what_looking_at_every_post_finds(
        steps in prop::collection::vec(step(), 1..8),
        queries in prop::collection::vec(query(), 30),
        hidden in prop::collection::btree_set(0_u64..40, 0..6),
        bounds in (0_u64..40, 0_u64..40),
        limit in 0_usize..12,
    ) {
        let (mut scene, mut posts) = (Scene::new(), BTreeMap::new());
        for step in &steps {
            perform(step, &mut scene, &mut posts);
            scene.commit();
        }
        let alive = |id: u64| !hidden.contains(&(id >> 16));
        let (above, below) = (bounds.0.min(bounds.1) << 16, bounds.0.max(bounds.1) << 16);
        for text in &queries {
            let Ok(query) = Query::read(text) else { continue };
            let compiled = Compiled::new(&query, &Numbers, true);
            let matching: Vec<u64> = posts.values().rev()
                .filter(|post| alive(post.id) && model::holds(&query.root, post)).map(|post| post.id).collect();
            let all = Page { limit: MAX_RESULTS, ..Page::default() };
            let found = scene.index.newest(&compiled, all, &alive, AMPLE).unwrap();
            prop_assert_eq!(&found.ids, &matching, "{}", text);
            let page = Page { below: Some(below), above: Some(above), limit };
            let found = scene.index.newest(&compiled, page, &alive, AMPLE).unwrap();
            let expected: Vec<u64> =
                matching.iter().copied().filter(|id| *id > above && *id < below).take(limit).collect();
            prop_assert_eq!(&found.ids, &expected, "{}", text);
            // By relevance the same posts, and each page is a piece of the whole.
            let ranked = scene.index.best(&compiled, 0, MAX_RESULTS, &alive, AMPLE).unwrap().ids;
            let (found, expected): (BTreeSet<u64>, BTreeSet<u64>) =
                (ranked.iter().copied().collect(), matching.iter().copied().collect());
            prop_assert_eq!(found, expected, "{}", text);
            let page = scene.index.best(&compiled, 2, limit, &alive, AMPLE).unwrap().ids;
            let expected: Vec<u64> = ranked.iter().copied().skip(2).take(limit).collect();
            prop_assert_eq!(page, expected, "{}", text);
        }
    }
}

#[test]
fn each_operator_finds_what_it_names() {
    let mut posts: Vec<Post> = (1..=6_i64).map(|n| Post::saying(first_id(n * 1000), "")).collect();
    posts[0].document.text = "A cat sat on the mat".to_owned();
    posts[1].document.text = "the dog and the cat".to_owned();
    posts[1].language = "de";
    posts[2].document.title = "Cat".to_owned();
    posts[2].document.text = "sat elsewhere".to_owned();
    posts[2].author = 2;
    posts[3].document.warning = "cats".to_owned();
    posts[3].document.props = Props::default().with(Prop::Sensitive);
    posts[3].document.text = "a cat in a box".to_owned();
    posts[4].document.tags = vec!["CatsOfFedi".to_owned()];
    posts[4].server = 2;
    posts[5].document.options = vec!["cat".to_owned(), "sat".to_owned()];
    posts[5].document.props = Props::default().with(Prop::Poll);
    let scene = Scene::of(&posts);
    let check = |query: &str, expected: &[usize]| {
        let found: Vec<usize> =
            scene.newest(query).iter().map(|id| posts.iter().position(|post| post.id == *id).unwrap() + 1).collect();
        assert_eq!(found, expected, "{query}");
        let ranked: BTreeSet<u64> = scene.best(query).into_iter().collect();
        assert_eq!(ranked, expected.iter().map(|n| posts[n - 1].id).collect(), "{query}, by relevance");
    };
    check("cat", &[6, 3, 2, 1]);
    check("CAT", &[6, 3, 2, 1]);
    check("cat is:sensitive", &[4]);
    check("cat -dog", &[6, 3, 1]);
    check("dog OR mat", &[2, 1]);
    check("\"cat sat\"", &[1]);
    check("\"the cat\"", &[2]);
    check("ca*", &[6, 3, 2, 1]);
    check("#catsoffedi", &[5]);
    check("#cats*", &[5]);
    check("cat language:de", &[2]);
    check("cat language:de,en", &[6, 3, 2, 1]);
    check("cat from:u2", &[3]);
    check("cat from:nobody", &[]);
    check("domain:s2 #catsoffedi", &[5]);
    check("cat has:poll", &[6]);
    check("cat before:3000", &[2, 1]);
    check("cat after:3000", &[6]);
    check("cat -after:2000", &[2, 1]);
    check("(dog before:9000) OR (mat after:1000)", &[2]);
    check("cat during:3000", &[3]);
    check("cat in:library", &[]);
    check("cat -in:library", &[6, 3, 2, 1]);
    check("", &[]);
    check("-cat", &[5]);
}

#[test]
fn those_that_fit_best_come_first_and_then_the_newest() {
    let texts = ["cat x x x x x x x", "cat", "cat x x x", "cat", "dog"];
    let posts: Vec<Post> = texts.iter().enumerate().map(|(n, text)| Post::saying(n as u64 + 1, text)).collect();
    assert_eq!(Scene::of(&posts).best("cat"), [4, 2, 3, 1]);
}

#[test]
fn of_posts_that_fit_equally_well_none_is_missing_between_two_pages() {
    let tagged = |id: u64| {
        let mut post = Post::saying(id, "");
        post.document.tags = vec!["dog".to_owned()];
        post
    };
    let mut scene = Scene::new();
    scene.add(&[tagged(262_144)]);
    scene.add(&[tagged(0), tagged(589_824), tagged(1)]);
    let page = |skip| scene.index.best(&compiled("#dog"), skip, 1, &|_| true, AMPLE).unwrap().ids;
    assert_eq!([page(0), page(1), page(2), page(3)].concat(), scene.best("#dog"));
}

#[test]
fn pages_are_full_whatever_may_not_be_shown() {
    let posts: Vec<Post> = (1..=1000).map(|id| Post::saying(id, "cat")).collect();
    let mut scene = Scene::new();
    for batch in posts.chunks(300) {
        scene.add(batch);
    }
    let alive = |id: u64| id.is_multiple_of(50);
    let page = |below| Page { below, above: None, limit: 7 };
    let first = scene.index.newest(&compiled("cat"), page(None), &alive, AMPLE).unwrap().ids;
    assert_eq!(first, [1000, 950, 900, 850, 800, 750, 700]);
    let second = scene.index.newest(&compiled("cat"), page(first.last().copied()), &alive, AMPLE).unwrap().ids;
    assert_eq!(second, [650, 600, 550, 500, 450, 400, 350]);
    assert_eq!(scene.index.best(&compiled("cat"), 14, 10, &alive, AMPLE).unwrap().ids, [300, 250, 200, 150, 100, 50]);
}

#[test]
fn few_are_asked_about_for_a_page() {
    let mut scene = Scene::new();
    for batch in 0..5 {
        let posts: Vec<Post> = (0..200).map(|n| Post::saying(batch * 1000 + n, "cat")).collect();
        scene.add(&posts);
    }
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let alive = |_| asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 1000;
    let page = Page { limit: 20, ..Page::default() };
    assert_eq!(scene.index.newest(&compiled("cat"), page, &alive, AMPLE).unwrap().ids.len(), 20);
    assert_eq!(asked.swap(0, std::sync::atomic::Ordering::Relaxed), 20);
    assert_eq!(scene.index.best(&compiled("cat"), 0, 20, &alive, AMPLE).unwrap().ids.len(), 20);
    assert_eq!(asked.into_inner(), 20);
}

#[test]
fn no_more_than_the_limit_is_paged_through() {
    let posts: Vec<Post> = (1..=500).map(|id| Post::saying(id, "cat")).collect();
    let scene = Scene::of(&posts);
    let page = Page { limit: usize::MAX, ..Page::default() };
    assert_eq!(scene.index.newest(&compiled("cat"), page, &|_| true, AMPLE).unwrap().ids.len(), MAX_RESULTS);
    assert_eq!(scene.index.best(&compiled("cat"), 390, 100, &|_| true, AMPLE).unwrap().ids.len(), 10);
    assert!(scene.index.best(&compiled("cat"), usize::MAX, usize::MAX, &|_| true, AMPLE).unwrap().ids.is_empty());
}

#[test]
fn a_search_that_takes_too_long_says_so_and_shows_nothing_wrong() {
    let posts: Vec<Post> = (1..=200).map(|id| Post::saying(id, "a cat is no dog")).collect();
    let scene = Scene::of(&posts);
    let page = Page { limit: 20, ..Page::default() };
    // What stands behind the minus is the first to stop: nothing may come through because of that.
    for query in ["cat", "\"a cat\"", "cat -\"no dog\""] {
        let found = scene.index.newest(&compiled(query), page, &|_| true, Duration::ZERO).unwrap();
        assert_eq!(found, Found { took_too_long: true, ..Found::default() }, "{query}");
        let found = scene.index.best(&compiled(query), 0, 20, &|_| true, Duration::ZERO).unwrap();
        assert_eq!(found, Found { took_too_long: true, ..Found::default() }, "{query}");
    }
    let slow = |_| {
        std::thread::sleep(Duration::from_millis(2));
        false
    };
    let found = scene.index.newest(&compiled("cat"), page, &slow, Duration::from_millis(20)).unwrap();
    assert!(found.took_too_long && found.ids.is_empty());
}

#[test]
fn a_prefix_of_too_many_words_says_so() {
    let text: Vec<String> = (0..600).map(|n| format!("cat{n}")).collect();
    let scene = Scene::of(&[Post::saying(1, &text.join(" ")), Post::saying(2, "cat1 dog")]);
    let page = Page { limit: 20, ..Page::default() };
    let found = scene.index.newest(&compiled("cat*"), page, &|_| true, AMPLE).unwrap();
    assert_eq!(found, Found { ids: vec![2, 1], cut: true, took_too_long: false });
    assert!(!scene.index.newest(&compiled("cat1*"), page, &|_| true, AMPLE).unwrap().cut);
}

/// Posts with so many words for each of 64 beginnings (`aa`, `ab`, ...), and a query for all of these.
fn beginnings(first: u64, each: usize) -> (Vec<Post>, String) {
    let stems: Vec<String> =
        (0..64_u8).map(|n| [b'a' + n / 8, b'a' + n % 8].iter().map(|byte| char::from(*byte)).collect()).collect();
    let words = |stem: &String| (0..each).map(|n| format!("{stem}{n}")).collect::<Vec<_>>().join(" ");
    let posts = (first..).zip(&stems).map(|(id, stem)| Post::saying(id, &words(stem))).collect();
    (posts, stems.iter().map(|stem| format!("{stem}*")).collect::<Vec<_>>().join(" OR "))
}

/// What is found of a page, and how many lists the beginnings in the query opened for it.
fn opened(scene: &Scene, query: &str, limit: usize, within: Duration) -> (Found, usize) {
    opened_of(MAX_OPEN, scene, query, limit, within)
}

/// The same where they may open so many.
fn opened_of(may: usize, scene: &Scene, query: &str, limit: usize, within: Duration) -> (Found, usize) {
    let (searcher, deadline) = (scene.index.0.reader.searcher(), deadline(within));
    let bound = compiled(query).bind(&scene.index.0.fields, false, &deadline);
    bound.allowance.leave(may);
    let spans = scene.index.spans(&searcher).unwrap();
    let found = collect::newest(&searcher, &spans, &bound, &(0..u64::MAX), limit, &|_| true, &deadline).unwrap();
    (found, may - bound.allowance.left())
}

#[test]
fn a_query_of_64_prefixes_is_over_in_time_and_opens_few_lists() {
    let (posts, query) = beginnings(1, 40);
    let scene = Scene::of(&posts);
    let (found, lists) = opened(&scene, &query, MAX_RESULTS, AMPLE);
    assert!(lists <= MAX_LISTS && found.cut && !found.took_too_long, "{lists} {found:?}");
    assert_eq!(found.ids.len(), 64, "each beginning had its share");
    let (found, lists) = opened(&scene, &query, MAX_RESULTS, Duration::ZERO);
    assert_eq!((found.took_too_long, found.ids.len(), lists), (true, 0, 0), "nothing is looked up when time is over");
    let (found, lists) = opened(&scene, "aa*", MAX_RESULTS, AMPLE);
    assert_eq!((found.ids, lists, found.cut), (vec![1], 40, false), "one beginning has all of it");
}

#[test]
fn what_begins_so_is_looked_up_in_no_segment_before_its_turn() {
    let mut scene = Scene::new();
    for batch in 0..3 {
        scene.add(&beginnings(1 + 100 * batch, 10).0);
    }
    let (found, lists) = opened(&scene, "hh*", 1, AMPLE);
    assert_eq!((found.ids, lists), (vec![264], 10));
    let (found, lists) = opened(&scene, "hh*", 3, AMPLE);
    assert_eq!((found.ids, lists), (vec![264, 164, 64], 30));
}

/// Whoever looks up how words begin asks for the time as well: a segment may have very many.
#[test]
fn no_list_is_opened_when_the_time_is_over() {
    let scene = Scene::of(&beginnings(1, 10).0);
    let (searcher, deadline) = (scene.index.0.reader.searcher(), deadline(AMPLE));
    let bound = compiled("hh*").bind(&scene.index.0.fields, false, &deadline);
    let weight = bound.query.weight(EnableScoring::disabled_from_searcher(&searcher)).unwrap();
    deadline.end();
    let scorer = weight.scorer(searcher.segment_reader(0), 1.0).unwrap();
    assert_eq!((scorer.doc(), bound.allowance.left()), (TERMINATED, MAX_OPEN));
}

/// Terms are looked at in the order of the alphabet, and only so many.
#[test]
fn a_beginning_of_very_many_words_is_not_looked_through_to_its_end() {
    let words: Vec<String> = (0..5000).map(|n| format!("zz{n:04}")).collect();
    let scene = Scene::of(&[Post::saying(1, &words.join(" ")), Post::saying(2, "zzzz"), Post::saying(3, "zzzz")]);
    let (found, lists) = opened(&scene, "zz*", 9, AMPLE);
    assert_eq!((found.ids, found.cut, lists), (vec![1], true, MAX_LISTS / 2));
}

/// What a query opens in all segments together has a bound of its own.
#[test]
fn where_the_last_list_is_opened_the_search_is_over_and_says_so() {
    let mut scene = Scene::new();
    for batch in 0..3 {
        scene.add(&beginnings(1 + 100 * batch, 10).0);
    }
    let (found, lists) = opened_of(25, &scene, "hh*", 9, AMPLE);
    assert_eq!((found.ids, found.took_too_long, lists), (vec![264, 164], true, 20));
    let (found, lists) = opened_of(30, &scene, "hh*", 9, AMPLE);
    assert_eq!((found.ids, found.took_too_long, lists), (vec![264, 164, 64], false, 30));
}

#[test]
fn spans_are_those_of_the_last_commit() {
    let mut scene = Scene::of(&[Post::saying(5, "cat"), Post::saying(7, "cat")]);
    let page = Page { below: Some(7), ..Page { limit: 9, ..Page::default() } };
    let newest = |scene: &Scene, page| scene.index.newest(&compiled("cat"), page, &|_| true, AMPLE).unwrap().ids;
    assert_eq!(newest(&scene, page), [5]);
    scene.add(&[Post::saying(6, "cat"), Post::saying(9, "cat")]);
    assert_eq!((newest(&scene, page), scene.newest("cat")), (vec![6, 5], vec![9, 7, 6, 5]));
    for (above, below, expected) in [(Some(9), None, vec![]), (None, Some(5), vec![]), (Some(4), Some(6), vec![5])] {
        assert_eq!(newest(&scene, Page { above, below, limit: 9 }), expected);
    }
    scene.writer.remove(7);
    scene.writer.expunge(NOW).unwrap();
    assert_eq!(scene.newest("cat"), [9, 6, 5]);
}

#[test]
fn scripts_without_spaces_are_found_by_any_piece() {
    let texts = ["熱力学の基礎", "学力と熱", "iPhone用の充電器", "หนังสือดี", "party 🏳️‍🌈!", "#FooBarBaz today"];
    let posts: Vec<Post> = texts.iter().enumerate().map(|(n, text)| Post::saying(n as u64 + 1, text)).collect();
    let scene = Scene::of(&posts);
    let check = |query: &str, expected: &[u64]| {
        assert_eq!(scene.newest(query), expected, "{query}");
        let ranked: BTreeSet<u64> = scene.best(query).into_iter().collect();
        assert_eq!(ranked, expected.iter().copied().collect(), "{query}, by relevance");
    };
    check("熱力学", &[1]);
    check("力学", &[1]);
    check("学力", &[2]);
    check("熱", &[2, 1]);
    check("学", &[2, 1]);
    check("礎", &[1]);
    check("熱学", &[]);
    check("iphone用", &[3]);
    check("\"iphone 用\"", &[3]);
    check("充電*", &[3]);
    check("หนัง", &[4]);
    check("🏳️‍🌈", &[5]);
    check("foobarbaz", &[6]);
    check("bar", &[6]);
    check("\"foo bar baz today\"", &[6]);
    check("\"#FooBarBaz today\"", &[6]);
}

#[test]
fn no_phrase_reaches_from_one_part_into_the_next() {
    let mut post = Post::saying(1, "middle one");
    post.document.title = "first".to_owned();
    post.document.options = vec!["last".to_owned(), "end".to_owned()];
    let scene = Scene::of(&[post]);
    for query in ["\"first middle\"", "\"one last\"", "\"last end\""] {
        assert!(scene.newest(query).is_empty(), "{query}");
    }
    assert_eq!(scene.newest("\"middle one\" first last"), [1]);
}

#[test]
fn many_small_commits_are_merged_and_stay_in_order() {
    let mut scene = Scene::new();
    for round in 0..20_u64 {
        let posts: Vec<Post> = (0..5).map(|n| Post::saying(n * 20 + round, "cat")).collect();
        scene.add(&posts);
    }
    let until = Instant::now() + AMPLE;
    while scene.index.stats().unwrap().segments > 12 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    scene.commit();
    assert!(scene.index.stats().unwrap().segments <= 12);
    assert_eq!(scene.newest("cat"), (0..100).rev().collect::<Vec<u64>>());
}

#[test]
fn the_position_survives_and_what_was_not_committed_never_was() {
    let scene = Scene::of(&[Post::saying(1, "cat")]);
    let Scene { dir, index, mut writer } = scene;
    writer.commit(41, NOW).unwrap();
    writer.put(&Post::saying(2, "cat").doc()).unwrap();
    writer.remove(1);
    assert!(matches!(index.writer(HEAP), Err(IndexFault::Busy(_))));
    drop(writer);
    drop(index);
    let index = Index::open(dir.path()).unwrap();
    assert_eq!(index.position().unwrap(), 41);
    let writer = index.writer(HEAP).unwrap();
    assert_eq!(writer.position(), 41);
    let scene = Scene { dir, index, writer };
    assert_eq!(scene.newest("cat"), [1]);
}

#[test]
fn what_is_counted_as_found_can_be_found() {
    let mut scene = Scene::new();
    // One that has not seen the commit, as ours has not between the engine's commit and its own next look.
    let before = Index::open(scene.dir.path()).unwrap();
    scene.add(&[Post::saying(1, "a petrel")]);
    let counted = |index: &Index| {
        let found = index.newest(&compiled("petrel"), Page { limit: 9, ..Page::default() }, &|_| true, AMPLE).unwrap();
        (index.stats().unwrap().docs, found.ids.len())
    };
    assert_eq!((counted(&before), counted(&scene.index)), ((0, 0), (1, 1)));
}

#[test]
fn putting_twice_is_putting_once() {
    let mut scene = Scene::of(&[Post::saying(1, "cat"), Post::saying(1, "dog")]);
    assert_eq!((scene.newest("cat"), scene.newest("dog")), (vec![], vec![1]));
    scene.add(&[Post::saying(1, "bird")]);
    assert_eq!((scene.newest("dog"), scene.newest("bird")), (vec![], vec![1]));
    scene.writer.clear().unwrap();
    assert_eq!((scene.newest("bird"), scene.writer.position()), (vec![], 0));
}

/// Every term in the files, of all fields and segments, and every id.
fn readable(folder: &Path) -> BTreeSet<Vec<u8>> {
    let engine = tantivy::Index::open_in_dir(folder).unwrap();
    let mut found = BTreeSet::new();
    for segment in engine.reader().unwrap().searcher().segment_readers() {
        for (field, _) in engine.schema().fields() {
            let index = segment.inverted_index(field).unwrap();
            let mut terms = index.terms().stream().unwrap();
            while terms.advance() {
                found.insert(terms.key().to_vec());
            }
        }
        let ids = Ids::of(segment).unwrap();
        found.extend((0..segment.max_doc()).map(|doc| ids.at(doc).to_be_bytes().to_vec()));
    }
    found
}

#[test]
fn what_was_removed_is_gone_from_the_files_after_an_expunge() {
    let mut scene = Scene::new();
    for batch in 0..3 {
        let posts: Vec<Post> =
            (0..50).map(|n| Post::saying(batch * 100 + n, if n == 7 { "a secretword cat" } else { "a cat" })).collect();
        scene.add(&posts);
    }
    for id in [7, 107, 207] {
        scene.writer.remove(id);
    }
    scene.commit();
    let stats = scene.index.stats().unwrap();
    assert_eq!((stats.docs, stats.deleted, stats.oldest_delete), (147, 3, Some(NOW)));
    assert!(scene.newest("secretword").is_empty());
    let before = readable(&scene.files());
    assert!(before.contains("secretword".as_bytes()), "the engine keeps what was removed: why there is an expunge");

    assert_eq!(scene.writer.expunge(NOW).unwrap(), Expunged { segments: 3, left: 0 });

    let after = readable(&scene.files());
    assert!(!after.contains("secretword".as_bytes()));
    assert!(!after.contains(107_u64.to_be_bytes().as_slice()));
    assert_eq!(after.len(), before.len() - 4);
    let stats = scene.index.stats().unwrap();
    assert_eq!((stats.docs, stats.deleted, stats.oldest_delete), (147, 0, None));
    assert_eq!(scene.newest("cat").len(), 147);
}

#[test]
fn an_expunge_takes_no_merge_that_is_under_way_for_something_left_behind() {
    let mut scene = Scene::new();
    for batch in 0..8 {
        let posts: Vec<Post> = (0..200).map(|n| Post::saying(batch * 1000 + n, "a cat")).collect();
        scene.add(&posts);
    }
    assert_eq!(scene.writer.expunge(NOW).unwrap().left, 0);
    assert_eq!(scene.index.stats().unwrap().segments, 1, "they were merged meanwhile");
}

#[test]
fn an_index_of_removed_posts_only_is_empty_after_an_expunge() {
    let mut scene = Scene::of(&[Post::saying(1, "cat")]);
    scene.writer.remove(1);
    scene.writer.expunge(NOW).unwrap();
    assert!(readable(&scene.files()).is_empty());
    assert_eq!(scene.index.stats().unwrap().segments, 0);
}

/// The engine reads what is removed on a thread where a panic ends the process, so this ends it if the fault is not met
/// before.
#[test]
fn damage_that_comes_while_it_is_open_is_a_fault_and_not_the_end_of_the_process() {
    let posts: Vec<Post> = (1..=300).map(|id| Post::saying(id, "a cat and \"a dog\" cats")).collect();
    let Scene { dir, index, writer } = Scene::of(&posts);
    drop((index, writer));
    let folder = dir.path().join(VERSION);
    let files = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let whole: Vec<(PathBuf, Vec<u8>)> = files().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    for kind in ["term", "idx"] {
        let (file, bytes) =
            whole.iter().find(|(path, _)| path.extension().is_some_and(|ending| ending == kind)).cloned().unwrap();
        for (at, junk) in (0..bytes.len()).step_by(bytes.len().div_ceil(24)).flat_map(|at| [(at, 0xff), (at, 0x00)]) {
            for path in files() {
                fs::remove_file(path).unwrap();
            }
            for (path, bytes) in &whole {
                fs::write(path, bytes).unwrap();
            }
            let index = Index::open(dir.path()).unwrap();
            let mut writer = index.writer(HEAP).unwrap();
            let open = fs::OpenOptions::new().write(true).open(&file).unwrap();
            // In place, as a failing disk does it: what is mapped into memory changes.
            let length = 24.min(bytes.len() - at);
            std::os::unix::fs::FileExt::write_all_at(&open, &vec![junk; length], at as u64).unwrap();
            for id in 1..50 {
                writer.remove(id);
            }
            writer.remove_author(1);
            writer.put(&Post::saying(9, "a bird").doc()).unwrap();
            let done = writer.commit(2, NOW);
            assert!(!matches!(done, Err(IndexFault::Busy(_))), "{kind} {at}: {done:?}");
        }
    }
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_file_is_a_fault_whichever_it_is_and_however_it_is_damaged() {
    let posts: Vec<Post> = (1..=300).map(|id| Post::saying(id, "a cat and \"a dog\" cats")).collect();
    let mut scene = Scene::of(&posts);
    scene.writer.remove(7);
    scene.commit();
    let Scene { dir, index, writer } = scene;
    drop((index, writer));
    let folder = dir.path().join(VERSION);
    let is_ours = |name: &str| segment_of(name).is_some() || name == "meta.json";
    let names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| is_ours(name))
        .collect();
    assert!(names.len() > 5, "{names:?}");
    let damages: [(&str, Damage); 5] = [
        ("emptied", Vec::clear),
        ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
        ("flipped at the start", |bytes| bytes[0] ^= 0x40),
        ("flipped in the middle", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x01;
        }),
        ("zeroed", |bytes| bytes.fill(0)),
    ];
    for name in &names {
        let file = folder.join(name);
        let whole = fs::read(&file).unwrap();
        for (how, damage) in damages {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(&file, bytes).unwrap();
            let opened = Index::open(dir.path());
            if let Ok(index) = &opened {
                // Whatever is found, it is not a panic.
                for query in ["cat", "\"a cat\"", "ca* -dog"] {
                    let _ = index.newest(&compiled(query), Page { limit: 20, ..Page::default() }, &|_| true, AMPLE);
                    let _ = index.best(&compiled(query), 0, 20, &|_| true, AMPLE);
                }
            }
            // The engine's list of segments bears no checksum: a flipped bit may pass, but never in the position.
            let may_pass = name == "meta.json" && how.starts_with("flipped");
            match opened.and_then(|index| index.writer(HEAP)) {
                Err(fault) => assert!(matches!(fault, IndexFault::Damaged(_)), "{name} {how}: {fault:?}"),
                Ok(writer) => assert!(may_pass && writer.position() == 2, "{name} {how}"),
            }
        }
        fs::remove_file(&file).unwrap();
        let fault = Index::open(dir.path()).and_then(|index| index.writer(HEAP)).err();
        assert!(matches!(fault, Some(IndexFault::Damaged(_))), "{name} missing: {fault:?}");
        fs::write(&file, whole).unwrap();
    }
    assert!(Index::open(dir.path()).unwrap().writer(HEAP).is_ok());
    let aside = Index::set_aside(dir.path()).unwrap();
    assert!(aside.is_dir());
    assert_eq!(Index::open(dir.path()).unwrap().position().unwrap(), 0);
}
