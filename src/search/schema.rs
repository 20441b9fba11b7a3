//! What the index knows of a post: the fields, and how a document fills them. The index keeps terms and one number; what
//! is shown of a post, its address included, is in the ledger, so that a deletion there is final at once.
//!
//! Not indexed, and so not to be found by: who is mentioned, and addresses of posts and files.

use tantivy::schema::{Field, INDEXED, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{IndexSettings, IndexSortByField, Order, TantivyDocument, Term};

use super::tokens::tokens;
use crate::wire::document::{Document, tag_key};

/// The folder of this schema within that of the index. Raise it with every change to fields or tokens: the index is then
/// made anew from the ledger.
pub const VERSION: &str = "v1";

/// Places left free between the parts of a post, so that no phrase reaches from one into the next.
const GAP: usize = 8;

/// A post, to be indexed.
#[derive(Debug, Clone, Copy)]
pub struct IndexDoc<'a> {
    /// Its place in time, and its name here: milliseconds since the epoch shifted left by [`SEQ_BITS`], and a number.
    pub id: u64,
    /// The ledger's number of its author.
    pub author: u64,
    /// The ledger's number of the author's server.
    pub server: u64,
    /// The primary subtag of its language, or `und`.
    pub language: &'a str,
    /// What it says.
    pub document: &'a Document,
}

/// Bits of an id that tell posts of one millisecond apart.
pub const SEQ_BITS: u32 = 16;

/// The first id of this millisecond. Times before 1970 are the first, times beyond the year 6429 the last.
#[must_use]
pub fn first_id(millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or(0).min(u64::MAX >> SEQ_BITS) << SEQ_BITS
}

/// The fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    pub(super) id: Field,
    pub(super) author: Field,
    pub(super) server: Field,
    pub(super) language: Field,
    pub(super) prop: Field,
    pub(super) tag: Field,
    pub(super) text: Field,
}

impl Fields {
    pub(super) fn build() -> (Schema, Self) {
        let mut schema = Schema::builder();
        let raw = TextFieldIndexing::default()
            .set_tokenizer("raw")
            .set_fieldnorms(false)
            .set_index_option(IndexRecordOption::Basic);
        let raw = TextOptions::default().set_indexing_options(raw);
        // Positions for phrases, lengths for relevance. Its tokens are ours; the engine's tokenizer is never asked.
        let text = TextFieldIndexing::default()
            .set_tokenizer("raw")
            .set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let fields = Self {
            id: schema.add_u64_field("id", NumericOptions::default().set_indexed().set_fast()),
            author: schema.add_u64_field("author", INDEXED),
            server: schema.add_u64_field("server", INDEXED),
            language: schema.add_text_field("language", raw.clone()),
            prop: schema.add_text_field("prop", raw.clone()),
            tag: schema.add_text_field("tag", raw),
            text: schema.add_text_field("text", TextOptions::default().set_indexing_options(text)),
        };
        (schema.build(), fields)
    }

    pub(super) fn document(&self, doc: &IndexDoc<'_>) -> TantivyDocument {
        let mut filled = TantivyDocument::new();
        filled.add_u64(self.id, doc.id);
        filled.add_u64(self.author, doc.author);
        filled.add_u64(self.server, doc.server);
        filled.add_text(self.language, doc.language);
        for prop in doc.document.props.iter() {
            filled.add_text(self.prop, prop.as_str());
        }
        let mut keys: Vec<String> = doc.document.tags.iter().filter_map(|tag| tag_key(tag)).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            filled.add_text(self.tag, key);
        }
        filled.add_pre_tokenized_text(self.text, words(doc.document));
        filled
    }

    pub(super) fn id_term(&self, id: u64) -> Term {
        Term::from_field_u64(self.id, id)
    }
}

/// Newest first within each segment: this is what searches by date stop early by.
pub(super) fn settings() -> IndexSettings {
    IndexSettings {
        sort_by_field: Some(IndexSortByField { field: "id".to_owned(), order: Order::Desc }),
        // Nothing is stored, so there is nothing for a thread to compress.
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    }
}

/// Title, warning, text, options of a poll, descriptions of media: one after another with gaps between.
fn words(document: &Document) -> PreTokenizedString {
    let (mut found, mut base) = (Vec::new(), 0);
    for part in document.parts() {
        let mut end = base;
        tokens(part, |token| {
            let position = base + usize::try_from(token.position).unwrap_or(usize::MAX >> 1);
            end = end.max(position + GAP);
            // Where it stands in the text is of use to what shows it, not here.
            found.push(Token {
                offset_from: 0,
                offset_to: 0,
                position,
                text: token.text.to_owned(),
                position_length: 1,
            });
        });
        base = end;
    }
    PreTokenizedString { text: String::new(), tokens: found }
}
