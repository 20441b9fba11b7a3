//! The handles of the people a post speaks to: they may not have agreed to be found, so what is kept does not name them.

use std::collections::HashSet;

use serde_json::Value;

use super::entries;
use crate::wire::object::single_text;
use crate::wire::text::{Plain, Tags};

/// The people whose handles are left out of what is kept.
pub(super) struct People {
    /// Handles in lower case, with `@`.
    names: HashSet<String>,
    /// Their actors.
    ids: HashSet<String>,
}

impl People {
    /// Those that `tag` mentions, and those whose handle a link reads: nobody links such a label by chance.
    pub(super) fn of(post: &Value, content: &Plain, tags: &Tags<'_>) -> Self {
        let labels = content.links.iter().map(|link| link.label.trim()).filter(|label| is_handle(label));
        let labels = labels.map(str::to_lowercase);
        let tagged = tags.names.iter().filter(|name| name.starts_with('@') && name.len() > 1).cloned();
        let mentions = entries(post.get("tag")).filter(|tag| single_text(tag.get("type")) == Some("Mention"));
        let ids = mentions.filter_map(|tag| Some(tag.get("href")?.as_str()?.to_owned())).collect();
        Self { names: labels.chain(tagged).collect(), ids }
    }

    /// Takes their handles out of a text, and every handle that names a server, whoever it may belong to.
    pub(super) fn leave_out(&self, text: String) -> String {
        if !text.contains(['@', '＠']) {
            return text;
        }
        let mut kept = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(['@', '＠']) {
            let (before, handle) = rest.split_at(at);
            push_apart(&mut kept, before);
            let length = handle_length(handle);
            let sign = handle.chars().next().map_or(0, char::len_utf8);
            let (handle, after) = handle.split_at(length.max(sign));
            let begins = !kept.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if length == 0 || !begins || !self.knows(handle) {
                push_apart(&mut kept, handle);
            }
            rest = after;
        }
        push_apart(&mut kept, rest);
        kept.truncate(kept.trim_end().len());
        kept
    }

    /// Is this the actor of one of them?
    pub(super) fn have(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    fn knows(&self, handle: &str) -> bool {
        let name = handle.trim_start_matches(['@', '＠']);
        name.contains('@') || self.names.contains(&format!("@{}", name.to_lowercase()))
    }
}

/// Appends, but never a second space, nor one at the start of a line.
fn push_apart(kept: &mut String, more: &str) {
    if kept.is_empty() || kept.ends_with([' ', '\n']) {
        let more = more.trim_start_matches(' ');
        if more.starts_with('\n') {
            kept.truncate(kept.trim_end().len());
        }
        kept.push_str(if kept.is_empty() { more.trim_start() } else { more });
    } else {
        kept.push_str(more);
    }
}

/// Is that all that it reads?
pub(super) fn is_handle(label: &str) -> bool {
    label.len() > 1 && handle_length(label) == label.len()
}

/// The bytes of the handle that a text begins with, sign included: `@bo`, `@bo@b.example`, and not the full stop behind
/// it. Nothing if there is none.
#[must_use]
pub fn handle_length(text: &str) -> usize {
    let Some(rest) = text.strip_prefix(['@', '＠']) else { return 0 };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let run = |text: &str, fits: &dyn Fn(char) -> bool| {
        let end = text.find(|c: char| !fits(c)).unwrap_or(text.len());
        text.get(..end).unwrap_or_default().trim_end_matches(['.', '-']).len()
    };
    let name = run(rest, &is_name);
    if name == 0 {
        return 0;
    }
    let end = text.len() - rest.len() + name;
    // Names of servers may be in any script.
    let is_host = |c: char| is_name(c) || (!c.is_ascii() && c.is_alphanumeric());
    match text.get(end..).and_then(|rest| rest.strip_prefix('@')).map_or(0, |host| run(host, &is_host)) {
        0 => end,
        host => end + 1 + host,
    }
}
