//! HTML without its markup, in one pass. Tags, comments and raw text begin and end where the standard's tokenizer (HTML
//! section 13.2.5) has them begin and end; there is no tree. What receivers make of one HTML differs, and there is a
//! [`Reading`] for each kind.

use super::entities::decode;
use super::{MAX_TEXT, cut};
use crate::wire::fold::is_invisible;

/// What a receiver shows of HTML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::wire) enum Reading {
    /// As browsers show it, and Mastodon: elements that are no text are dropped with their content.
    #[default]
    Usual,
    /// As those who only take tags away: the content of every element is text (Misskey shows that of `script`), cells of
    /// tables and other blocks that few keep run together (Mastodon's do), and titles and descriptions are read.
    Bare,
    /// As the eye sees it: without what stands in a `span` of the class `invisible`, which Mastodon lets anybody use.
    Veiled,
}

/// A link and what it reads.
pub(in crate::wire) struct Link {
    pub(in crate::wire) to: String,
    pub(in crate::wire) label: String,
}

/// HTML without its markup.
#[derive(Default)]
pub(in crate::wire) struct Plain {
    pub(in crate::wire) text: String,
    pub(in crate::wire) links: Vec<Link>,
    reading: Reading,
    /// The invisible characters that spelling needs stay: those that join emoji, choose their colour, or keep letters of
    /// Persian apart. In a text to be compared they could hide a word.
    keeps_joiners: bool,
    /// The link that is open, and where in `text` its label begins.
    open: Option<(String, usize)>,
    /// Inside of an element whose text nobody is shown.
    hidden: Option<&'static str>,
    /// How many blocks of each kind are open.
    blocks: [u16; BLOCKS.len()],
    /// For each `span` that is open, whether it is invisible.
    spans: Vec<bool>,
    /// How many of them are.
    veils: usize,
    /// Invisible text of a link, which counts if it is its end: so Mastodon shortens links.
    veiled: String,
    bare_differs: bool,
    veiled_differs: bool,
    /// Bytes that were looked at to find where tags and raw texts begin and end.
    pub(super) looked_at: usize,
}

impl Plain {
    /// The usual reading.
    pub(in crate::wire) fn of(html: &str) -> Self {
        Self::read(html, Reading::Usual)
    }

    /// Text that is no HTML.
    pub(in crate::wire) fn literal(text: &str) -> Self {
        let mut plain = Self::default();
        plain.put(cut(text, MAX_TEXT));
        plain.close()
    }

    /// The usual reading, of a text to be shown.
    pub(in crate::wire) fn shown(html: &str) -> Self {
        Self { keeps_joiners: true, ..Self::default() }.walk(html)
    }

    /// A text to be shown that is no HTML.
    pub(in crate::wire) fn verbatim(text: &str) -> Self {
        let mut plain = Self { keeps_joiners: true, ..Self::default() };
        for (number, line) in cut(text, MAX_TEXT).lines().enumerate() {
            if number > 0 {
                plain.space('\n');
            }
            plain.put(line);
        }
        plain.close()
    }

    pub(in crate::wire) fn read(html: &str, reading: Reading) -> Self {
        Self { reading, ..Self::default() }.walk(html)
    }

    fn walk(mut self, html: &str) -> Self {
        let reading = self.reading;
        let plain = &mut self;
        let mut rest = cut(html, MAX_TEXT);
        while let Some(at) = rest.find('<') {
            let (before, tag) = rest.split_at(at);
            plain.looked_at += at;
            plain.say(before);
            if let (Reading::Bare, Some(inside)) = (reading, tag.strip_prefix(CDATA)) {
                rest = inside;
                continue;
            }
            let length = tag_length(tag);
            plain.looked_at += length.unwrap_or(if opens_a_tag(tag) { tag.len() } else { 1 });
            let Some(length) = length else {
                match tag.get(1..).filter(|_| !opens_a_tag(tag)) {
                    // A lone `<` is text.
                    Some(after) => {
                        plain.say("<");
                        rest = after;
                        continue;
                    }
                    // A tag that never ends: browsers show nothing of it.
                    None => {
                        plain.bare_differs = true;
                        plain.only_bare(tag);
                        return self.close();
                    }
                }
            };
            let (tag, after) = tag.split_at(length);
            plain.take(tag);
            rest = match RAW.iter().find(|one| tag_name(tag).eq_ignore_ascii_case(one) && !tag.starts_with("</")) {
                // Until its own end tag there are no tags.
                Some(name) => {
                    let (content, after) = after.split_at(raw_length(after, name));
                    plain.looked_at += content.len();
                    plain.say(content);
                    after
                }
                None => after,
            };
        }
        plain.looked_at += rest.len();
        plain.say(rest);
        self.close()
    }

    /// The readings by which other words are seen.
    pub(in crate::wire) fn differs(&self) -> impl Iterator<Item = Reading> {
        let readings = [(self.bare_differs, Reading::Bare), (self.veiled_differs, Reading::Veiled)];
        readings.into_iter().filter_map(|(differs, reading)| differs.then_some(reading))
    }

    fn close(mut self) -> Self {
        self.end_link();
        self.text.truncate(self.text.trim_end().len());
        self
    }

    fn say(&mut self, run: &str) {
        if run.is_empty() {
            return;
        }
        if self.hidden.is_some() {
            self.bare_differs = true;
            return;
        }
        let run = decode(run);
        if self.veils > 0 {
            self.veiled_differs = true;
            let begins_link = self.open.as_ref().is_some_and(|(_, start)| self.text.len() == *start);
            if self.reading == Reading::Veiled && !begins_link {
                if self.open.is_some() {
                    self.veiled.push_str(&run);
                }
                return;
            }
        }
        self.veiled.clear();
        self.put(&run);
    }

    /// Puts words, without what shows nothing.
    fn put(&mut self, run: &str) {
        if self.open.is_none() {
            // Where the sender did not make links of them, some readers' apps do.
            let bare = run.split_whitespace().filter(|word| has_scheme(word));
            self.links.extend(bare.map(|word| Link { to: word.to_owned(), label: String::new() }));
        }
        for c in run.chars() {
            if c.is_whitespace() {
                self.space(' ');
            } else if !c.is_control() && (!is_invisible(c) || (self.keeps_joiners && is_joiner(c))) {
                self.text.push(c);
            }
        }
    }

    /// Puts a word that only a [`Reading::Bare`] sees.
    fn only_bare(&mut self, words: &str) {
        if self.reading == Reading::Bare {
            self.space(' ');
            self.put(words);
            self.space(' ');
        }
    }

    /// One space or line break between words, none at the start.
    fn space(&mut self, space: char) {
        match self.text.chars().next_back() {
            None | Some('\n') => {}
            Some(' ') if space == '\n' => {
                self.text.pop();
                self.text.push('\n');
            }
            Some(' ') => {}
            Some(_) => self.text.push(space),
        }
    }

    fn take(&mut self, tag: &str) {
        let name = tag_name(tag);
        let is = |one: &&str| name.eq_ignore_ascii_case(one);
        let ends = tag.starts_with("</");
        self.bare_differs |= tag.starts_with(CDATA);
        if let Some(hidden) = self.hidden {
            if ends && name.eq_ignore_ascii_case(hidden) {
                self.hidden = None;
            }
            return;
        }
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return;
        }
        if let (Some(hidden), false) = (HIDDEN.into_iter().find(|one| is(one)), ends) {
            self.hidden = Some(hidden).filter(|_| self.reading != Reading::Bare);
        } else if let Some(kind) = BLOCKS.iter().position(|names| names.iter().any(&is)) {
            if self.breaks(kind, ends) {
                self.space('\n');
            }
        } else if name.eq_ignore_ascii_case("a") {
            self.end_link();
            let to = if ends { None } else { attribute(tag, "href") };
            self.open = to.filter(|to| has_scheme(to)).map(|to| (to, self.text.len()));
        } else if name.eq_ignore_ascii_case("span") {
            if ends {
                self.veils -= usize::from(self.spans.pop() == Some(true));
            } else {
                let class = attribute(tag, "class").unwrap_or_default();
                let is_veil = class.split_ascii_whitespace().any(|one| one == "invisible");
                self.veils += usize::from(is_veil);
                self.spans.push(is_veil);
            }
        }
        for name in ["alt", "title"] {
            if let Some(words) = attribute(tag, name).filter(|words| !words.is_empty() && !ends) {
                self.bare_differs = true;
                self.only_bare(&words);
            }
        }
    }

    /// Whether a new line begins at this tag of a block: an end tag without a beginning is nothing, so that `bu</div>y` is
    /// one word, and so is a cell without a table.
    fn breaks(&mut self, kind: usize, ends: bool) -> bool {
        let in_table = self.blocks.get(TABLE).is_some_and(|open| *open > 0);
        if kind == IN_TABLE && !in_table {
            return false;
        }
        let Some(open) = self.blocks.get_mut(kind) else { return false };
        let breaks = match (kind, ends) {
            (ALWAYS, _) => true,
            (_, false) => {
                // Of those that end when the next one begins, one is open at a time.
                *open = if kind == ONE_AT_A_TIME || kind == IN_TABLE { 1 } else { open.saturating_add(1) };
                true
            }
            (_, true) => {
                let was_open = *open > 0;
                *open = open.saturating_sub(1);
                was_open
            }
        };
        let runs_together = matches!(kind, TABLE | IN_TABLE | RUN_TOGETHER);
        self.bare_differs |= breaks && runs_together;
        breaks && !(runs_together && self.reading == Reading::Bare)
    }

    fn end_link(&mut self) {
        let veiled = std::mem::take(&mut self.veiled);
        self.put(&veiled);
        if let Some((to, start)) = self.open.take() {
            // A space that a line break took the place of may lie before `start`.
            let label = self.text.get(start..).unwrap_or_default().to_owned();
            self.links.push(Link { to, label });
        }
    }
}

/// Elements before and after which a new line begins, by how they open and close.
const BLOCKS: [&[&str]; 10] = [
    &["p", "br", "hr"],
    &["li", "dd", "dt"],
    &["table"],
    &["tr", "td", "th", "caption", "thead", "tbody", "tfoot"],
    &[
        "center",
        "details",
        "dialog",
        "fieldset",
        "figcaption",
        "figure",
        "form",
        "legend",
        "main",
        "menu",
        "option",
        "search",
        "summary",
    ],
    &["h1", "h2", "h3", "h4", "h5", "h6"],
    &["div"],
    &["blockquote"],
    &["ul", "ol", "dl", "pre"],
    &["address", "article", "aside", "footer", "header", "hgroup", "nav", "section"],
];
/// Where in [`BLOCKS`] stand those whose end tags begin a line even where nothing is open,
const ALWAYS: usize = 0;
/// those that end where the next one begins,
const ONE_AT_A_TIME: usize = 1;
/// the table, what is nothing outside of one,
const TABLE: usize = 2;
const IN_TABLE: usize = 3;
/// and what Mastodon puts no space in the place of.
const RUN_TOGETHER: usize = 4;

/// Elements that are dropped with their content.
const HIDDEN: [&str; 11] =
    ["script", "style", "template", "noscript", "iframe", "noembed", "noframes", "xmp", "plaintext", "math", "svg"];
/// Elements in which there are no tags but their own end.
const RAW: [&str; 9] = ["script", "style", "iframe", "noembed", "noframes", "xmp", "plaintext", "textarea", "title"];

const CDATA: &str = "<![CDATA[";

fn opens_a_tag(text: &str) -> bool {
    text.as_bytes().get(1).is_some_and(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!' | b'?'))
}

/// The bytes from `<` to the end of the tag or comment; `None` if it is none, or never ends.
fn tag_length(text: &str) -> Option<usize> {
    if !opens_a_tag(text) {
        return None;
    }
    if let Some(comment) = text.strip_prefix("<!--") {
        return comment_length(comment).map(|length| length + 4);
    }
    // `<!`, `<?`, `</` and no letter: comments of a kind, which end at the next `>`, whatever it stands in.
    if !tag_name(text).starts_with(|c: char| c.is_ascii_alphabetic()) {
        return text.find('>').map(|at| at + 1);
    }
    let mut place = Place::Name;
    for (at, byte) in text.bytes().enumerate().skip(2) {
        place = match (place, byte) {
            (Place::Quoted(open), _) if byte == open => Place::Blank,
            (Place::Quoted(open), _) => Place::Quoted(open),
            (_, b'>') => return Some(at + 1),
            (Place::Equals, b'"' | b'\'') => Place::Quoted(byte),
            (Place::Equals, _) if byte.is_ascii_whitespace() => Place::Equals,
            (Place::Equals, _) => Place::Value,
            (Place::Value, _) if byte.is_ascii_whitespace() => Place::Blank,
            (Place::Value, _) => Place::Value,
            (Place::Attribute | Place::After, b'=') => Place::Equals,
            (Place::Attribute | Place::After, _) if byte.is_ascii_whitespace() => Place::After,
            (_, b'/') => Place::Blank,
            (Place::Name, _) if byte.is_ascii_whitespace() => Place::Blank,
            (Place::Name, _) => Place::Name,
            (Place::Blank, _) if byte.is_ascii_whitespace() => Place::Blank,
            (Place::Blank | Place::Attribute | Place::After, _) => Place::Attribute,
        };
    }
    None
}

/// Where in a tag one is.
#[derive(Clone, Copy)]
enum Place {
    /// In its name.
    Name,
    /// Before an attribute, or behind a quoted value.
    Blank,
    /// In the name of an attribute: a quote here is a letter like any other.
    Attribute,
    /// Behind one.
    After,
    /// Behind its equals sign.
    Equals,
    /// In a value without quotes.
    Value,
    /// In one with them.
    Quoted(u8),
}

/// The bytes from behind `<!--` to the end of the comment.
fn comment_length(text: &str) -> Option<usize> {
    if let Some(short) = [">", "->"].into_iter().find(|end| text.starts_with(end)) {
        return Some(short.len());
    }
    text.match_indices('-').find_map(|(at, _)| {
        let end = ["-->", "--!>"].into_iter().find(|end| text.get(at..).is_some_and(|rest| rest.starts_with(end)))?;
        Some(at + end.len())
    })
}

/// The bytes up to the end tag of a raw element.
fn raw_length(text: &str, name: &str) -> usize {
    let is_end = |at: usize| {
        let after = text.get(at + 2..)?;
        let behind = after.get(name.len()..)?;
        let named = after.get(..name.len())?.eq_ignore_ascii_case(name);
        (named && behind.starts_with(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>'))).then_some(at)
    };
    text.match_indices("</").find_map(|(at, _)| is_end(at)).unwrap_or(text.len())
}

fn tag_name(tag: &str) -> &str {
    let name = tag.trim_start_matches('<');
    let name = name.strip_prefix('/').unwrap_or(name);
    name.split(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>')).next().unwrap_or_default()
}

/// The value of an attribute of a tag, decoded.
fn attribute(tag: &str, wanted: &str) -> Option<String> {
    let mut rest = tag.trim_start_matches('<').get(tag_name(tag).len()..)?;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/' || c == '=');
        let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return None;
        }
        let after = after.trim_start();
        let Some(value) = after.strip_prefix('=').map(str::trim_start) else {
            rest = after;
            continue;
        };
        let (value, after) = match value.chars().next()? {
            quote @ ('"' | '\'') => value.get(1..)?.split_once(quote)?,
            _ => value.split_at(value.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(value.len())),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(html_escape::decode_html_entities(value).trim().to_owned());
        }
        rest = after;
    }
}

pub(in crate::wire) fn has_scheme(text: &str) -> bool {
    let start = |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    start("https://") || start("http://")
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(html: &str, usual: &str) {
        assert_eq!(Plain::of(html).text, usual, "{html}");
    }

    /// All readings that differ from the usual one.
    fn others(html: &str) -> Vec<String> {
        let plain = Plain::of(html);
        let read = |reading| Plain::read(html, reading).text;
        let others: Vec<String> = plain.differs().map(read).filter(|text| *text != plain.text).collect();
        for reading in [Reading::Bare, Reading::Veiled] {
            let text = read(reading);
            assert!(text == plain.text || others.contains(&text), "{html} is also read as {text}");
        }
        others
    }

    #[test]
    fn markup_goes_and_words_stay() {
        check("", "");
        check("plain", "plain");
        check("<p>one</p><p>two<br>three</p>", "one\ntwo\nthree");
        check("<p>a  b\n\tc</p>", "a b c");
        check("a &amp; b &lt;c&gt; &#x41;&#66;", "a & b <c> AB");
        check("&amp;lt;", "&lt;");
        check("<span class=\"invisible\">https://</span><span>a.example/x</span>", "https://a.example/x");
        check("1 < 2 and 3 > 2", "1 < 2 and 3 > 2");
        check("<3 you", "<3 you");
        check("a<!-- <b>hidden</b> -->b", "ab");
        check("a<script>if (a < b) { \"</p>\" }</script>b<style>p{}</style>c", "abc");
        check("<a title=\"a > b\" href='x'>y</a>", "y");
        check("before<a href=\"never closed", "before");
        check("v\u{200b}i\u{ad}a\u{202e}g\u{3164}r\u{e0101}a", "viagra");
        check("a\u{0}\u{7}b", "ab");
        check("<UL><LI>x<li>y</UL>", "x\ny");
        check("日本<br/>語 &hearts;", "日本\n語 ♥");
        check("<section>a</section><article>b</article>c", "a\nb\nc");
    }

    /// Where a browser sees a tag or a comment end, so do we: else a word behind it could be hidden from us.
    #[test]
    fn tags_and_comments_end_where_browsers_see_them_end() {
        check("<b \">word</b \">", "word");
        check("<b x\">word<b y\">", "word");
        check("<b x=y\">word<b y=\">", "word");
        check("<b x=\"y\"z='>'>word", "word");
        check("<b x = '>' y>word", "word");
        check("<b x=>word", "word");
        check("<b/x=\"/>\"/>word", "word");
        check("<b x=/>word", "word");
        check("<b x=y/z=\">word<b y=\">", "word");
        check("</b \">word", "word");
        check("</p=\">word", "word");
        check("<!-- a --!>word<!-- b -->", "word");
        check("<!-->word<!-- b -->", "word");
        check("<!--->word<!-- b -->", "word");
        check("<!---->word<!----!>", "word");
        check("<!-- a -- > b ->c--->word", "word");
        check("<!x \">word<!y \">", "word");
        check("<?x \">word<?y \">", "word");
        check("</ \">word</ \">", "word");
        check("<!x y=\">word<!x y=\">", "word");
        check("<?x y=\">word<?x y=\">", "word");
        check("</ y=\">word</ y=\">", "word");
        check("</>word", "word");
        check("<!>word", "word");
        check("<style><a \"</style>word<b \">", "word");
        check("<script>'<!--'</script >word<!-- -->", "word");
        check("<STYLE></styles></Style/>word", "word");
        check("<textarea><!-- </textarea>word<!-- -->", "<!-- word");
        check("<title><b \"</title>word<b \">", "<b \"word");
        check("<title></titles><b \"></title>word<b \">", "</titles><b \">word");
        check("w<b-x>or</b-x><p-x>d", "word");
    }

    #[test]
    fn an_end_without_a_beginning_and_a_cell_without_a_table_break_no_word() {
        check("wo</div>rd", "word");
        check("wo</li>r</blockquote></h1></ul>d", "word");
        check("wo<td>r</tr><caption>d", "word");
        check("<div>wo</div>rd", "wo\nrd");
        check("<div><div>a</div>b</div>c</div>d", "a\nb\ncd");
        check("<ul><li><li>a</li>wo</li>rd", "a\nword");
        check("<h1>a</h2>wo</h1>rd", "a\nword");
        check("a</p>b</br>c", "a\nb\nc");
        check("<table><tr><td>a<td>b</table>c<td>d", "a\nb\ncd");
    }

    #[test]
    fn what_only_some_receivers_show_is_in_another_reading() {
        let check = |html: &str, usual: &str, expected: &[&str]| {
            check(html, usual);
            assert_eq!(others(html), expected, "{html}");
        };
        check("plain <b>bold</b><!-- nobody's -->", "plain bold", &[]);
        for name in ["noscript", "template", "svg", "math", "iframe", "noembed", "noframes", "xmp", "script", "style"] {
            check(&format!("a<{name}>word</{name}>b"), "ab", &["awordb"]);
        }
        check("a<noscript><p>w<b>or</b>d</noscript>b", "ab", &["a\nwordb"]);
        check("a<plaintext>word</plaintext>", "a", &["aword"]);
        check("a<svg><![CDATA[word]]></svg>b", "ab", &["aword]]>b"]);
        check("a<![CDATA[x>word]]>", "aword]]>", &["ax>word]]>"]);
        check("a <img alt='word'>b", "a b", &["a word b"]);
        check("<abbr title=\"long word\">lw</abbr>", "lw", &["long word lw"]);
        check("<table><tr><td>wo</td><td>rd</td></tr></table>", "wo\nrd", &["word"]);
        check("wo<center>rd</center>", "wo\nrd", &["word"]);
        check("a<b never ends", "a", &["a <b never ends"]);
        check("wo<span class=\"x invisible\">xyz</span>rd", "woxyzrd", &["word"]);
        check("wo<span class=invisible>x<span>y</span>z</span>rd", "woxyzrd", &["word"]);
        check("<a href='https://a.example'>wo<span class='invisible'>x</span>rd</a>", "woxrd", &["word"]);
        check("<span class=\"invisible\">all</span>", "all", &[""]);
        // As Mastodon shortens links, they read the same.
        check(
            "<a href=\"https://a.example/long/way\"><span class=\"invisible\">https://</span><span \
             class=\"ellipsis\">a.example/long</span><span class=\"invisible\">/way</span></a>",
            "https://a.example/long/way",
            &[],
        );
    }
}
