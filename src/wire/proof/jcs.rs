//! The one spelling of a JSON document (RFC 8785, JCS) that a proof is over. The spelling itself is a crate's work; here
//! is what it leaves open: numbers that a double cannot tell apart are refused, since a proof over one of them would
//! hold for its neighbours too.

use serde_json::Value;

/// The largest whole number up to which every whole number has a double of its own, and so a spelling of its own
/// (RFC 7493 section 2.2, RFC 8785 appendix D).
const LARGEST: f64 = 9_007_199_254_740_991.0;

/// `value` as RFC 8785 spells it; `None` if a number in it is beyond what a double holds exactly.
///
/// `1`, `1.0` and `1e0` are one number to every reader, and get one spelling. Documents come from
/// [`crate::wire::json::parse`], which bounds their depth and refuses duplicate keys.
pub(super) fn canonical(value: &Value) -> Option<Vec<u8>> {
    if !is_exact(value) {
        return None;
    }
    serde_json_canonicalizer::to_vec(value).ok()
}

fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= LARGEST),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::wire::json;

    fn check(text: &str, expected: Option<&str>) {
        let value = json::parse(text.as_bytes()).expect("JSON");
        let made = canonical(&value).map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
        assert_eq!(made.as_deref(), expected, "{text}");
    }

    #[test]
    fn the_examples_of_rfc_8785_are_spelt_as_it_spells_them() {
        // Section 3.2.2, but for its 1E30.
        check(
            r#"{
                "numbers": [333333333.33333329, 4.50, 2e-3, 0.000000000000000000000000001],
                "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
                "literals": [null, true, false]
            }"#,
            Some(concat!(
                r#"{"literals":[null,true,false],"numbers":[333333333.3333333,4.5,0.002,1e-27],"#,
                r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
            )),
        );
        // Section 3.2.3: keys are ordered by UTF-16 code units, which puts an emoji before U+FB33.
        check(
            r#"{
                "\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh",
                "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control",
                "\u00f6": "Latin Small Letter O With Diaeresis"
            }"#,
            Some(concat!(
                "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",",
                "\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",",
                "\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}"
            )),
        );
    }

    #[test]
    fn numbers_are_spelt_as_ecmascript_spells_them() {
        // RFC 8785 appendix B, as far as a whole number has a double of its own.
        for (bits, expected) in [
            (0x0000_0000_0000_0000_u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x433f_ffff_ffff_ffff, "9007199254740991"),
            (0xc33f_ffff_ffff_ffff, "-9007199254740991"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let made = canonical(&json!(f64::from_bits(bits))).expect("a number");
            assert_eq!(String::from_utf8(made).expect("UTF-8"), expected);
        }
        check("[1, 1.0, 1e0, 10e-1, -0, 1E-7, 0.000001]", Some("[1,1,1,1,0,1e-7,0.000001]"));
    }

    #[test]
    fn a_number_that_stands_for_its_neighbours_too_is_refused_at_any_depth() {
        check("9007199254740991", Some("9007199254740991"));
        for number in [
            "9007199254740992",
            "9007199254740993",
            "-9007199254740992",
            "18446744073709551615",
            "18446744073709551616",
            "1e30",
            "-1E30",
            "9007199254740992.0",
        ] {
            check(number, None);
            check(&format!(r#"{{"a":[{{"b":{number}}}]}}"#), None);
        }
    }

    proptest! {
        #[test]
        fn what_was_spelt_reads_back_and_spells_the_same(text in r#"[ -~é€😀]{0,12}"#, number in -1e15_f64..1e15, whole in any::<i32>()) {
            let value = json!({ "a": null, &text: [number, whole, { "x": &text }] });
            let made = canonical(&value).expect("it is exact");
            let read = json::parse(&made).expect("JSON");
            prop_assert_eq!(canonical(&read).expect("it is exact"), made);
            prop_assert_eq!(&read[&text][0].as_f64(), &Some(number));
        }
    }
}
