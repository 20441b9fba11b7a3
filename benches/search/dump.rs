//! The same posts, queries and figures as files, for `benches/compare/search`: written into the folder that the variable
//! `SHEARWATER_BENCH_DUMP` names, if it does.
//!
//! Others get the posts taken apart already, by our own analysis: what it costs, they are spared.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use shearwater::search::schema::first_id;
use shearwater::search::tokens::{Reading, tokens};
use shearwater::wire::document::tag_key;

use crate::asked::Asked;
use crate::corpus::Corpus;

const FOLDER: &str = "SHEARWATER_BENCH_DUMP";
/// Posts that are put in while others are asked: a minute of them.
const LATER: u64 = 60 * crate::PER_SECOND;

/// Writes `posts.tsv`, `later.tsv`, `queries.tsv` and `ours.tsv`.
pub(crate) fn write(corpus: &Corpus, asked: &[Asked], figures: &[Vec<String>]) -> anyhow::Result<()> {
    let Some(folder) = std::env::var_os(FOLDER) else { return Ok(()) };
    let folder = Path::new(&folder);
    let size = corpus.size();
    for (name, numbers) in [("posts.tsv", 0..size), ("later.tsv", size..size + LATER)] {
        let mut out = BufWriter::new(File::create(folder.join(name))?);
        for number in numbers {
            write_post(&mut out, corpus, number)?;
        }
        out.flush()?;
    }
    let mut out = BufWriter::new(File::create(folder.join("queries.tsv"))?);
    for one in asked {
        let words: Vec<String> = terms(&one.words).into_iter().map(|(_, term)| term).collect();
        let (from, until) = (first_id(one.from), first_id(one.until.min(i64::MAX >> 17)));
        let language = one.text.split_once("language:").map_or("", |(_, code)| code);
        writeln!(out, "{}\t{}\t{from}\t{until}\t{language}", one.kind.name(), words.join(" "))?;
    }
    out.flush()?;
    let mut out = BufWriter::new(File::create(folder.join("ours.tsv"))?);
    for line in figures {
        writeln!(out, "{}", line.join("\t"))?;
    }
    Ok(out.flush()?)
}

/// Id, author, server, language, hashtags, terms with their places as PostgreSQL reads them, and terms as SQLite does.
fn write_post(out: &mut impl Write, corpus: &Corpus, number: u64) -> anyhow::Result<()> {
    let post = corpus.post(number);
    let document = &post.document;
    let parts = [&document.warning, &document.text].into_iter().chain(&document.options);
    let all: Vec<&str> = parts.chain(document.media.iter().map(|one| &one.alt)).map(String::as_str).collect();
    let found = terms(&all.join(" \n"));
    let tags: Vec<String> = document.tags.iter().filter_map(|tag| tag_key(tag)).collect();
    let placed: Vec<String> =
        found.iter().map(|(place, term)| format!("'{}':{}", term.replace('\'', "''"), place + 1)).collect();
    let terms: Vec<&str> = found.iter().map(|(_, term)| term.as_str()).collect();
    let (id, author, server, language) = (post.id(), post.author, post.server, post.language);
    let (tags, placed, terms) = (tags.join(" "), placed.join(" "), terms.join(" "));
    writeln!(out, "{id}\t{author}\t{server}\t{language}\t{tags}\t{placed}\t{terms}")?;
    Ok(())
}

/// What a query would ask for: one term at each place.
fn terms(text: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    tokens(text, |token| {
        if !matches!(token.reading, Reading::Part | Reading::Tail) {
            found.push((token.position, token.text.to_owned()));
        }
    });
    found
}
