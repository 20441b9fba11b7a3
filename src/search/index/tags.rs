//! The hashtags that the index knows, by how they begin. What it knows includes tags of posts that were removed a moment
//! ago: whoever asks looks for posts that may be shown before a tag is named.

use std::collections::BTreeMap;

use super::fault::guarded;
use super::{Index, IndexFault};

/// Tags of one segment that are looked at, in the order of the alphabet.
const MAX_SCANNED: usize = 4096;

impl Index {
    /// At most `most` tags whose keys begin with `stem`: the one that is it first, then those that most posts have.
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] or [`IndexFault::Failed`].
    pub fn tags(&self, stem: &str, most: usize) -> Result<Vec<String>, IndexFault> {
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        guarded(|| {
            for segment in self.0.reader.searcher().segment_readers() {
                let index = segment.inverted_index(self.0.fields.tag)?;
                let mut stream = index.terms().range().ge(stem).into_stream()?;
                for _ in 0..MAX_SCANNED {
                    if !stream.advance() || !stream.key().starts_with(stem.as_bytes()) {
                        break;
                    }
                    if let Ok(key) = std::str::from_utf8(stream.key()) {
                        *found.entry(key.to_owned()).or_default() += u64::from(stream.value().doc_freq);
                    }
                }
            }
            Ok(())
        })?;
        let mut found: Vec<(String, u64)> = found.into_iter().collect();
        found.sort_by(|(one, posts), (other, more)| {
            (other == stem).cmp(&(one == stem)).then(more.cmp(posts)).then_with(|| one.cmp(other))
        });
        Ok(found.into_iter().take(most).map(|(key, _)| key).collect())
    }
}
