//! The form of a case: how it is written in `tests/fixtures/attacks`, how one table stands for many cases, and how words
//! such as `${eve}` become what they mean. `tests/fixtures/attacks/README.md` explains it to whoever writes one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::proving::Prove;

/// One request, and what must come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// A sentence: what is tried.
    #[serde(rename = "name")]
    _name: String,
    /// The threats of `docs/THREATS.md` that it belongs to.
    #[serde(rename = "threats")]
    _threats: Vec<String>,
    /// The valid activity to start from.
    #[serde(default = "create")]
    pub(super) base: String,
    /// Whose activity that is.
    #[serde(default = "ada")]
    pub(super) by: String,
    /// Who signs; as `by` where it is left out.
    pub(super) signer: Option<String>,
    /// Members to set, by JSON pointer.
    #[serde(default)]
    pub(super) set: Map<String, Value>,
    /// Members to take away, by JSON pointer.
    #[serde(default)]
    pub(super) remove: Vec<String>,
    /// A proof of the author's to put into it (FEP-8b32).
    pub(super) prove: Option<Prove>,
    /// Texts to replace in the finished body, before it is signed.
    #[serde(default)]
    pub(super) replace: Vec<(String, String)>,
    /// The whole body, instead of an activity.
    pub(super) body: Option<String>,
    /// Headers to set before signing: they are signed as they stand. Empty: not sent.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// The covered components, instead of the usual ones.
    pub(super) cover: Option<String>,
    /// `cavage` or `rfc9421`.
    #[serde(default = "cavage")]
    pub(super) profile: String,
    /// The key id to claim.
    pub(super) key_id: Option<String>,
    /// The algorithm to claim.
    pub(super) algorithm: Option<String>,
    /// More parameters of the signature, as text.
    #[serde(default)]
    pub(super) params: String,
    /// The name of the key to sign with.
    pub(super) key: Option<String>,
    /// Flip a bit of the signature.
    #[serde(default)]
    pub(super) spoil: bool,
    /// The request target that is signed, instead of the one asked for.
    pub(super) signed_target: Option<String>,
    /// The method.
    #[serde(default = "post")]
    pub(super) method: String,
    /// The request target.
    pub(super) target: Option<String>,
    /// What is done to the request after signing.
    #[serde(default)]
    pub(super) after: After,
    /// The whole request, instead of all that.
    pub(super) raw: Option<String>,
    /// Pages that hosts serve from now on.
    #[serde(default)]
    pub(super) serve: Vec<Serve>,
    /// Send it this often; the last answer counts, and every one must be like it.
    #[serde(default = "one")]
    pub(super) times: usize,
    /// What must come of it.
    pub(super) expect: Expect,
}

/// What is done after signing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct After {
    /// Headers to set.
    pub(super) set: BTreeMap<String, String>,
    /// Header lines to add beside those of the same name.
    pub(super) add: Vec<(String, String)>,
    /// Headers to take away.
    pub(super) drop: Vec<String>,
    /// Texts to replace in the body.
    pub(super) replace: Vec<(String, String)>,
    /// Another body.
    pub(super) body: Option<String>,
}

/// A page of a host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Serve {
    /// Which host.
    #[serde(default = "fresh")]
    pub(super) host: String,
    /// The request target.
    pub(super) path: String,
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default = "activity_json")]
    pub(super) content_type: String,
    /// More headers.
    #[serde(default)]
    pub(super) headers: Vec<(String, String)>,
    /// An ordinary document to start from: `actor`, `server` or `note`; else nothing.
    #[serde(default)]
    pub(super) like: String,
    /// The name of the key that an actor publishes.
    pub(super) key: Option<String>,
    #[serde(default)]
    pub(super) set: Map<String, Value>,
    #[serde(default)]
    pub(super) remove: Vec<String>,
    /// Texts to replace in the finished page.
    #[serde(default)]
    pub(super) replace: Vec<(String, String)>,
    /// The whole page as text.
    pub(super) text: Option<String>,
}

/// What must come of it. Whatever is left out must not happen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// The HTTP status; 0: the connection is closed without an answer.
    pub(super) status: u16,
    /// The failed check in the answer, or, with a 202, the counted reason.
    #[serde(default)]
    pub(super) word: String,
    /// What becomes of the hint that it leaves in the log.
    pub(super) hint: Option<String>,
    /// What the log gets.
    #[serde(default)]
    pub(super) log: Vec<String>,
    /// The fresh host becomes a subscriber; it is made to leave again.
    #[serde(default)]
    pub(super) joins: bool,
    /// How many requests the scripted hosts get, if that matters; else three at most.
    pub(super) fetches: Option<usize>,
}

fn create() -> String {
    "create".to_owned()
}

fn ada() -> String {
    "ada".to_owned()
}

fn cavage() -> String {
    "cavage".to_owned()
}

fn post() -> String {
    "POST".to_owned()
}

fn fresh() -> String {
    "fresh".to_owned()
}

fn activity_json() -> String {
    "application/activity+json".to_owned()
}

const fn ok() -> u16 {
    200
}

const fn one() -> usize {
    1
}

/// A case as written, with the words of this run still in it.
pub(super) struct Written {
    table: Value,
    file: String,
}

impl Written {
    pub(super) fn new(table: Value, file: &str) -> Self {
        Self { table, file: file.to_owned() }
    }

    /// A valid request, which must have its effect.
    pub(super) fn is_control(&self) -> bool {
        self.file.starts_with("0-controls")
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn name(&self) -> &str {
        self.table["name"].as_str().unwrap_or_default()
    }

    pub(super) fn threats(&self) -> impl Iterator<Item = &str> {
        self.table["threats"].as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    pub(super) fn mentions(&self, words: &[&str]) -> bool {
        let text = self.table.to_string();
        words.iter().any(|word| text.contains(word))
    }

    /// The case, each `${word}` made into what it means now.
    pub(super) fn read(&self, meaning: &dyn Fn(&str) -> Option<String>) -> Case {
        let table = walk(&self.table, &|text| Value::String(put_meanings(text, meaning)));
        serde_json::from_value(table).unwrap_or_else(|error| panic!("{}: {}: {error}", self.file, self.name()))
    }
}

fn put_meanings(text: &str, meaning: &dyn Fn(&str) -> Option<String>) -> String {
    let mut parts = text.split("${");
    let mut put = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (word, rest) = part.split_once('}').unwrap_or_else(|| panic!("${{ without an end in {text:?}"));
        match meaning(word) {
            Some(meaning) => put.push_str(&meaning),
            // Digests, old headers and proofs are known only when the request is written.
            None if matches!(word, "sha256" | "sha512" | "was" | "value" | "digits") => {
                put.push_str(&format!("${{{word}}}"))
            }
            None => panic!("nobody knows what ${{{word}}} means"),
        }
        put.push_str(rest);
    }
    put
}

/// Reads all cases of a folder, in the order of file names.
pub(super) fn read_all(folder: &Path) -> Vec<Written> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Written> {
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    let text = std::fs::read_to_string(file).expect("a readable file");
    let document: Value = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let tables = document.get("case").and_then(Value::as_array).unwrap_or_else(|| panic!("{name}: no [[case]]"));
    tables.iter().flat_map(expand).map(|table| Written { table, file: name.clone() }).collect()
}

/// A table with `each` stands for one case per entry: the words of the entry are put in everywhere.
fn expand(table: &Value) -> Vec<Value> {
    let mut table = table.clone();
    let each = table.as_object_mut().and_then(|members| members.remove("each"));
    let Some(Value::Array(entries)) = each else { return vec![table] };
    let words = |entry: &Value| match entry {
        Value::Object(words) => words.clone(),
        one => Map::from_iter([("x".to_owned(), one.clone())]),
    };
    entries.iter().map(|entry| put_words(&table, &words(entry))).collect()
}

fn put_words(value: &Value, words: &Map<String, Value>) -> Value {
    walk(value, &|text| {
        // A text that is nothing but one word may stand for any value.
        if let Some(whole) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
            && let Some(value) = words.get(whole)
        {
            return value.clone();
        }
        let put = words.iter().fold(text.to_owned(), |text, (word, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.replace(&format!("${{{word}}}"), &value)
        });
        Value::String(put)
    })
}

/// Every text of a value, keys of objects included, made anew.
pub(super) fn walk(value: &Value, text: &dyn Fn(&str) -> Value) -> Value {
    match value {
        Value::String(one) => text(one),
        Value::Array(items) => items.iter().map(|item| walk(item, text)).collect(),
        Value::Object(members) => {
            let key = |name: &str| text(name).as_str().map_or_else(|| name.to_owned(), str::to_owned);
            Value::Object(members.iter().map(|(name, value)| (key(name), walk(value, text))).collect())
        }
        other => other.clone(),
    }
}

/// Puts `value` where a JSON pointer says; the last step may be new. `-` appends to an array.
pub(super) fn set(document: &mut Value, pointer: &str, value: Value) {
    if pointer.is_empty() {
        *document = value;
        return;
    }
    let (parent, last) = pointer.rsplit_once('/').expect("a JSON pointer");
    let last = last.replace("~1", "/").replace("~0", "~");
    match document.pointer_mut(parent) {
        Some(Value::Object(members)) => {
            members.insert(last, value);
        }
        Some(Value::Array(items)) if last == "-" => items.push(value),
        other => panic!("nothing at {parent} to set {last} in: {other:?}"),
    }
}

/// Takes away what a JSON pointer names.
pub(super) fn remove(document: &mut Value, pointer: &str) {
    let (parent, last) = pointer.rsplit_once('/').expect("a JSON pointer");
    let gone = document.pointer_mut(parent).and_then(Value::as_object_mut).and_then(|members| members.remove(last));
    assert!(gone.is_some(), "nothing at {pointer} to take away");
}
