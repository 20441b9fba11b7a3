//! Ids and names of servers: three lines, any two of which are compared. An id is taken as it is spelt or not at all;
//! origins agree with those of the WHATWG parser; the name of a server has one spelling; a domain contains what its
//! labels say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shearwater::ids::{Authority, Iri, IriFault};
use url::Url;

fn check_iri(iri: &Iri, text: &str) {
    assert_eq!(iri.as_str(), text);
    let url = Url::parse(text).unwrap();
    assert_eq!(iri.url(), url);
    assert!(matches!(url.scheme(), "https" | "http") && url.username().is_empty() && url.password().is_none());
    assert_eq!(url.origin().ascii_serialization(), iri.origin());
    assert!(iri.origin().is_ascii() && !iri.origin().bytes().any(|byte| byte.is_ascii_uppercase()));
    assert!(!text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\'));
    // What a client would ask for is of the same origin, and of the same path depth: nothing was climbed out of.
    match Iri::parse(url.as_str()) {
        Ok(asked) => assert!(asked.same_origin(iri)),
        Err(fault) => assert_eq!(fault, IriFault::TooLong),
    }
    let bare = iri.without_fragment();
    assert!(!bare.as_str().contains('#') && bare.same_origin(iri) && bare.without_fragment() == bare);
    assert!(iri.same_origin(iri));
    check_authority(&iri.authority());
}

fn check_authority(authority: &Authority) {
    let text = authority.as_str();
    assert_eq!(Authority::try_from(text.to_owned()).as_ref(), Ok(authority), "read back as another name");
    assert!(text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_uppercase()));
    assert!(!text.contains(['/', '@', '?', '#', ' ', '\\']));
    let host = authority.host();
    assert!(!host.is_empty() && text.starts_with(host) && !host.ends_with('.'));
    let domain = authority.registrable();
    assert!(!domain.is_empty() && text.contains(domain));
    assert!(authority.is_within(host));
    assert!(domain == text || authority.is_within(domain), "{text} is not within {domain}");
}

fuzz_target!(|data: &[u8]| {
    let Some(lines) = shearwater_fuzz::lines::<3>(data) else { return };
    let iris: Vec<Iri> =
        lines.iter().filter_map(|text| Iri::parse(text).ok().inspect(|iri| check_iri(iri, text))).collect();
    for a in &iris {
        for b in &iris {
            let same = a.same_origin(b);
            assert_eq!(same, b.same_origin(a));
            assert_eq!(same, a.url().origin() == b.url().origin(), "{a} {b}");
            assert!(!same || a.authority() == b.authority());
            for c in &iris {
                assert!(!(same && b.same_origin(c)) || a.same_origin(c));
            }
        }
    }
    let names: Vec<Authority> = lines.iter().filter_map(|text| Authority::parse(text).ok()).collect();
    for name in &names {
        check_authority(name);
        assert_eq!(Authority::parse(name.as_str()).as_ref(), Ok(name), "a name with two spellings");
        for other in &names {
            let (mut inner, mut outer) = (name.host().rsplit('.'), other.host().rsplit('.'));
            let labels = outer.all(|label| inner.next() == Some(label));
            assert_eq!(name.is_within(other.host()), labels, "{name} in {other}");
        }
    }
});
