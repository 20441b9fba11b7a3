//! The query language, as tables: what is typed, and what it is understood as (printed in full).

use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: &str) {
    match Query::read(text) {
        Ok(query) => assert_eq!(query.to_string(), expected, "{text}"),
        Err(fault) => panic!("{text}: {fault}"),
    }
}

fn check_fault(text: &str, at: usize, wrong: Wrong) {
    assert_eq!(Query::read(text), Err(Fault { at, wrong }), "{text}");
}

#[test]
fn words_phrases_and_minus_are_what_they_are_everywhere() {
    check("", "");
    check("   \t\u{3000} ", "");
    check("cats", "cats");
    check("Cats AND dogs", "cats dogs");
    check("cats and dogs", "cats and dogs");
    check("cats -dogs", "cats -dogs");
    check("cats --dogs +birds", "cats -dogs birds");
    check("cats - dogs", "cats dogs");
    check(r#""black cats" -"grey dogs""#, r#""black cats" -"grey dogs""#);
    check(r#"12"vinyl""#, r#"12 "vinyl""#);
    check(r#""" cats"#, "cats");
    check("!!! cats ...", "cats");
    check("cat* #Cats #cat*", "cat* #cats #cat*");
    check("#1 ##x #foo, #foo:bar", "1 #x #foo #foo bar");
    check("c++ don't foo-bar a_b", "c++ don't foo-bar a_b");
    check("f(x) -f(x) foo(bar baz) foo(bar OR baz)", "f x -(f x) foo bar baz foo (bar OR baz)");
    check(":( sad", "sad");
    check("nul\0bel\u{7}", "nul bel");
}

#[test]
fn every_quote_glyph_opens_and_closes() {
    for text in ["„a b“", "“a b”", "«a b»", "»a b«", "「a b」", "『a b』", "《a b》", "〈a b〉", "＂a b＂", "‹a b›"]
    {
        check(text, "\"a b\"");
    }
    check("don’t ‘x’", "don’t ‘x’");
}

#[test]
fn signs_of_east_asian_keyboards_are_signs() {
    check("（猫　OR　犬）　－鳥　＃猫　language：ja", "(猫 OR 犬) -鳥 #猫 language:\"ja\"");
}

#[test]
fn mastodons_operators_mean_what_they_mean_there() {
    check("has:media", "is:media");
    check("has:poll has:embed", "is:poll is:link");
    check("is:reply -is:sensitive", "is:reply -is:sensitive");
    check("language:en", "language:\"en\"");
    check("language:pt-BR", "language:\"pt\"");
    check("from:me", "from:\"me\"");
    check("from:@Alice@Example.ORG", "from:\"alice@example.org\"");
    check("from:alice", "from:\"alice\"");
    check("-from:alice cats", "-from:\"alice\" cats");
    check("before:2024-01-02", "before:1704153600000");
    check("after:2024-01-02", "after:1704239999999");
    check("during:2024-01-02", "after:1704153599999 before:1704240000000");
    check("before:1704153600000 after:5", "before:1704153600000 after:5");
    check("in:public cats", "cats");
    check("in:library cats", "in:library cats");
    check("in:all cats", "cats");
    check("foo:bar", "foo bar");
    check("-foo:bar", "-(foo bar)");
    check("foo:\"bar baz\"", "foo \"bar baz\"");
    check(":blobcat: 12:30 :-)", "blobcat 12 30");
    check("https://example.org/a:b(c)", "https://example.org/a:b c");
    check("https://from:me", "https://from:me");
    check(r#"from:"alice@example.org""#, "from:\"alice@example.org\"");
}

#[test]
fn what_is_ours_reads_as_one_would_expect() {
    check("cats OR dogs", "(cats OR dogs)");
    check("language:en cat OR dog", "language:\"en\" (cat OR dog)");
    check("(a b) OR c OR (d OR e)", "((a b) OR c OR d OR e)");
    check("((cats))", "cats");
    check("-(cats OR dogs) birds", "-(cats OR dogs) birds");
    check("-(-cats)", "cats");
    check("() -() cats OR ()", "cats");
    check("language:en,de", "(language:\"en\" OR language:\"de\")");
    check("-language:en,de cats", "-(language:\"en\" OR language:\"de\") cats");
    check("has:image,video", "(is:image OR is:video)");
    check("Domain:Example.org", "domain:\"example.org\"");
    check("during:2024-02", "after:1706745599999 before:1709251200000");
    check("during:2023-12 ", "after:1701388799999 before:1704067200000");
    check("before:2024-01-02T12:00:00Z", "before:1704196800000");
    check("before:2024-01-02t13:00:00+01:00", "before:1704196800000");
    check("during:1970-01-01", "before:86400000");
    check("after:9998-12-31", "after:253370764799999");
    check("after:9999-12", "after:253402300799998");
    check("cats sort:relevance", "cats sort:relevance");
    check("cats order:desc", "cats");
    check("hello :)", "hello");
}

#[test]
fn a_fault_names_the_character() {
    check_fault("cats \"dogs", 6, Wrong::OpenQuote);
    check_fault("猫猫 「犬", 4, Wrong::OpenQuote);
    check_fault("from:\"x", 6, Wrong::OpenQuote);
    check_fault("a (b (c)", 3, Wrong::OpenBracket);
    check_fault("a b) c", 4, Wrong::StrayBracket);
    check_fault("(hello :))", 10, Wrong::StrayBracket);
    check_fault("OR cats", 1, Wrong::LoneOr);
    check_fault("cats OR", 6, Wrong::LoneOr);
    check_fault("(cats OR) x", 7, Wrong::LoneOr);
    check_fault("cats OR OR dogs", 6, Wrong::LoneOr);
    check_fault("cats from:", 6, Wrong::NoValue);
    check_fault("from:@ x", 1, Wrong::NoValue);
    check_fault("cats before:yesterday", 13, Wrong::Date);
    check_fault("before:2024-02-30", 8, Wrong::Date);
    check_fault("before:2024-13", 8, Wrong::Date);
    check_fault("before:99999999999999999999", 8, Wrong::Date);
    check_fault("has:image,cats", 11, Wrong::Property);
    check_fault("sort:oldest", 6, Wrong::Sort);
    check_fault("(sort:relevance)", 2, Wrong::SortWithin);
    check_fault("-sort:relevance", 2, Wrong::SortWithin);
    let fault = Query::read("cats \"dogs").unwrap_err();
    assert_eq!(fault.to_string(), "At character 6: this quote is not closed.");
}

#[test]
fn limits_hold_and_cost_nothing() {
    check_fault(&"a".repeat(1 << 20), MAX_BYTES + 1, Wrong::TooLong);
    check_fault(&"é".repeat(1 << 20), MAX_BYTES / 2 + 1, Wrong::TooLong);
    check_fault(&"(".repeat(2000), MAX_BYTES + 1, Wrong::TooLong);
    check_fault(&"(".repeat(1000), MAX_DEPTH + 1, Wrong::TooDeep);
    check_fault(&"-(".repeat(500), 2 * MAX_DEPTH + 2, Wrong::TooDeep);
    check_fault(&"a OR ".repeat(50_000), MAX_BYTES + 1, Wrong::TooLong);
    check_fault(&"a OR ".repeat(100), 5 * MAX_CLAUSES + 1, Wrong::TooMany);
    check_fault(&format!("language:{}", "e,".repeat(100)), 1, Wrong::TooMany);
    assert!(Query::read(&"a ".repeat(MAX_CLAUSES)).is_ok());
    assert!(Query::read(&format!("{}a{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH))).is_ok());
}

#[test]
fn a_search_is_for_something() {
    let reach = |text: &str| Query::read(text).unwrap().reach();
    let authors = |names: &[&str]| Reach::Authors(names.iter().map(|name| (*name).to_owned()).collect());
    for text in ["cats", "\"a cat\"", "ca*", "#cats", "a cats", "from:me cats", "(cats OR dogs) -birds", "-(-cats)"] {
        assert_eq!(reach(text), Reach::Text, "{text}");
    }
    for text in [
        "",
        "a",
        "a b c",
        "-cats",
        "has:image",
        "language:en",
        "domain:example.org",
        "after:2024-01-01",
        "a*",
        "cats OR a",
        "cats OR -dogs",
        "is:reply -from:me",
        "#a",
        "from:me OR has:image",
    ] {
        assert_eq!(reach(text), Reach::Everything, "{text}");
    }
    assert_eq!(reach("from:alice has:image"), authors(&["alice"]));
    assert_eq!(reach("from:alice a -cats"), authors(&["alice"]));
    assert_eq!(reach("from:alice OR cats"), authors(&["alice"]));
    assert_eq!(reach("from:a@b,c@d"), authors(&["a@b", "c@d"]));
    assert_eq!(reach("in:library"), Reach::Text);
}

#[test]
fn common_words_do_not_open_what_somebody_wrote() {
    let few = |text: &str| Query::read(text).unwrap().reach_among_few();
    for text in
        ["from:ada cats", "from:ada \"a cat\"", "from:ada #cats -dogs", "cats (from:ada OR from:eve)", "from:ada 東京"]
    {
        assert_eq!(few(text), Reach::Text, "{text}");
    }
    for text in [
        "from:ada (the OR to OR and)",
        "from:ada the OR to OR and",
        "from:ada th*",
        "from:ada #th*",
        "from:ada 東",
        "from:ada -(-the -to)",
        "(from:ada the) OR (from:ada to)",
        "from:ada (has:media OR (the OR to))",
    ] {
        assert_ne!(few(text), Reach::Text, "{text}");
    }
    assert_eq!(few("domain:a.example (the OR to)"), Reach::Everything);
    let about = |text: &str| {
        let query = Query::read(text).unwrap();
        let About { authors, servers } = query.about();
        authors.into_iter().chain(servers).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(about("from:ada,eve cats -from:zoe domain:a.example"), ["ada", "eve", "a.example"]);
    assert_eq!(about("cats -(-from:ada -domain:b.example)"), ["ada", "b.example"]);
}

#[test]
fn sensitive_posts_are_wanted_by_name() {
    for (text, wanted) in [("cats", false), ("cats is:sensitive", true), ("cats -is:sensitive", false)] {
        assert_eq!(Query::read(text).unwrap().wants_sensitive(), wanted, "{text}");
    }
}

/// Texts that are mostly grammar.
fn typed() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just(" OR ".to_owned()),
        Just("-".to_owned()),
        Just("\"".to_owned()),
        Just(" ".to_owned()),
        Just("*".to_owned()),
        Just("#".to_owned()),
        Just(":".to_owned()),
        Just("from:".to_owned()),
        Just("language:en,de".to_owned()),
        Just("during:2024-01-02".to_owned()),
        Just("has:image".to_owned()),
        Just("https://".to_owned()),
        Just("sort:relevance".to_owned()),
        Just("「".to_owned()),
        Just("\u{202e}".to_owned()),
        Just("\0".to_owned()),
        "[a-cA-C]{1,3}",
        "\\PC{0,4}",
        "[猫犬熱力学]{1,3}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_a_query_or_a_fault_within_it(text in ".{0,200}") {
        if let Err(fault) = Query::read(&text) {
            prop_assert!(fault.at >= 1 && fault.at <= text.chars().count() + 1);
        }
    }

    #[test]
    fn what_is_printed_is_read_as_the_same(text in typed()) {
        let Ok(query) = Query::read(&text) else { return Ok(()) };
        let printed = query.to_string();
        // In print, values are written out and brackets stand where none were needed.
        let limits = read::Limits { bytes: 1 << 16, depth: 1000, clauses: 1000 };
        prop_assert_eq!(read::read(&printed, &limits), Ok(query), "{}", printed);
    }
}
