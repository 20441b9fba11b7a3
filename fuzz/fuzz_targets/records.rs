//! What lies on disk. The first three bytes of an input choose a version and a bit, the rest is a payload. Whatever it
//! holds, a record is read or refused; what was read is written and read as the same; and a frame with one flipped bit,
//! or cut anywhere, is refused. Two records that nobody else knows, each a number in a row of its own, are not among them:
//! when the search was awake, and how many noes last.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shearwater::ids::Seq;
use shearwater::log::Entry;
use shearwater::relay::resolver::WaitingHint;
use shearwater::search::authors::AuthorToRead;
use shearwater::store::{
    ApiToken, Arrivals, AuthorityFacts, ControlRow, ControlTally, Edited, Following, HeldPost, HeldTally, Hold,
    IndexedAuthor, IndexedPost, Leaving, Leftover, Noted, Record, Refusal, Refused, Rule, SearchKey, SearchServer,
    Subscriber, Suppressed, SwitchedOff, decode, encode, frame, unframe,
};

fn check<R: Record + PartialEq + std::fmt::Debug>(framed: &[u8], broken: &[u8], raw: &[u8]) {
    assert!(decode::<R>(broken).is_err());
    let _ = decode::<R>(raw);
    if let Ok(record) = decode::<R>(framed) {
        let written = encode(&record).unwrap();
        assert_eq!(decode::<R>(&written).unwrap(), record, "reads as something else");
        assert_eq!(encode(&decode::<R>(&written).unwrap()).unwrap(), written, "two spellings of one record");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[version, at, bit], payload)) = data.split_first_chunk::<3>() else { return };
    let framed = frame(version, payload);
    assert_eq!(unframe("test", &framed).unwrap(), (version, payload));
    let mut broken = framed.clone();
    let place = (usize::from(at) * 257 + usize::from(bit)) % broken.len();
    broken[place] ^= 1 << (bit % 8);
    assert!(unframe("test", &broken).is_err());
    assert!(unframe("test", &framed[..place]).is_err());
    assert!(unframe("test", &[&framed[..], &[at]].concat()).is_err());

    check::<Arrivals>(&framed, &broken, data);
    check::<AuthorityFacts>(&framed, &broken, data);
    check::<ControlRow>(&framed, &broken, data);
    check::<ControlTally>(&framed, &broken, data);
    check::<Following>(&framed, &broken, data);
    check::<HeldPost>(&framed, &broken, data);
    check::<HeldTally>(&framed, &broken, data);
    check::<Hold>(&framed, &broken, data);
    check::<Refusal>(&framed, &broken, data);
    check::<Rule>(&framed, &broken, data);
    check::<Subscriber>(&framed, &broken, data);
    check::<WaitingHint>(&framed, &broken, data);

    check::<ApiToken>(&framed, &broken, data);
    check::<AuthorToRead>(&framed, &broken, data);
    check::<Edited>(&framed, &broken, data);
    check::<IndexedAuthor>(&framed, &broken, data);
    check::<IndexedPost>(&framed, &broken, data);
    check::<Leaving>(&framed, &broken, data);
    check::<Leftover>(&framed, &broken, data);
    check::<Noted>(&framed, &broken, data);
    check::<Refused>(&framed, &broken, data);
    check::<SearchKey>(&framed, &broken, data);
    check::<SearchServer>(&framed, &broken, data);
    check::<Suppressed>(&framed, &broken, data);
    check::<SwitchedOff>(&framed, &broken, data);

    let _ = Entry::decode(Seq(1), data);
    assert!(Entry::decode(Seq(1), &broken).is_err());
    if let Ok(entry) = Entry::decode(Seq(1), &framed) {
        let written = entry.draft.encode().unwrap();
        assert_eq!(Entry::decode(Seq(1), &written).unwrap(), entry, "reads as something else");
        assert!(payload.ends_with(&entry.body));
        assert_eq!(entry.announce_hash().len(), 32);
    }
});
