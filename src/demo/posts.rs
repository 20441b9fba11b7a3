//! What people post in the demo: short posts in the languages and scripts of the fediverse, with hashtags, pictures and
//! content warnings, and who may see them.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Who may see a post. Only [`Visibility::Public`] may be relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visibility {
    /// Public in `to`.
    Public,
    /// Public in `cc` only ("quiet public").
    Unlisted,
    /// Followers only.
    Followers,
    /// The people mentioned.
    Direct,
}

/// A post to be made.
#[derive(Clone, Debug)]
pub struct PostSpec {
    /// The name of one of the instance's authors; `None` is its first one.
    pub author: Option<String>,
    /// Plain text; a paragraph of HTML is made of it.
    pub text: String,
    /// BCP 47.
    pub language: String,
    /// Who may see it.
    pub visibility: Visibility,
    /// Hashtags, without `#`.
    pub tags: Vec<String>,
    /// The content warning.
    pub warning: Option<String>,
    /// Has a picture, with a description.
    pub picture: bool,
    /// The object's type: `Note` unless set otherwise.
    pub kind: String,
    /// The id of the post it answers.
    pub in_reply_to: Option<String>,
    /// When, instead of now.
    pub published: Option<Timestamp>,
    /// Members that are added to the object (or replace what is there), for odd cases.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl PostSpec {
    /// A plain note for everybody, in English.
    #[must_use]
    pub fn public(text: &str) -> Self {
        Self {
            author: None,
            text: text.to_owned(),
            language: "en".to_owned(),
            visibility: Visibility::Public,
            tags: Vec::new(),
            warning: None,
            picture: false,
            kind: "Note".to_owned(),
            in_reply_to: None,
            published: None,
            extra: serde_json::Map::new(),
        }
    }

    /// The same for other eyes.
    #[must_use]
    pub fn visible_to(mut self, visibility: Visibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// The same by another author.
    #[must_use]
    pub fn by(mut self, author: &str) -> Self {
        self.author = Some(author.to_owned());
        self
    }

    /// The same with these hashtags.
    #[must_use]
    pub fn tagged(mut self, tags: &[&str]) -> Self {
        self.tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        self
    }
}

type Line = (&'static str, &'static str, &'static [&'static str]);

const CORPUS: [Line; 24] = [
    ("en", "Good morning, fediverse. The kettle is on.", &["coffee"]),
    ("de", "Der Nebel hängt noch über dem Hafen, aber die Fähre fährt.", &["Hafen", "Nebel"]),
    ("fr", "Premier essai de pain au levain : la croûte chante !", &["boulangerie"]),
    ("es", "¿Alguien más escucha las golondrinas a las seis de la mañana?", &["aves"]),
    ("pt", "A feira de sábado cheira a manga e a terra molhada.", &["feira"]),
    ("ja", "朝の散歩で見つけた紫陽花。雨の日も悪くない。", &["写真", "紫陽花"]),
    ("ko", "오늘은 한강에서 노을을 보았다. 바람이 좋다.", &["노을"]),
    ("zh-Hans", "下班路上的桂花香，今年来得有点早。", &["桂花"]),
    ("zh-Hant", "山上起霧了，茶還是熱的。", &["茶"]),
    ("ar", "قهوة الصباح وصوت المطر على النافذة.", &["قهوة", "مطر"]),
    ("he", "השוק מלא רימונים, ואני קניתי יותר מדי.", &["שוק"]),
    ("ru", "Первый снег, и город сразу стал тише.", &["снег"]),
    ("uk", "Спекла хліб на заквасці. Вийшло!", &["хліб"]),
    ("pl", "Na szlaku pusto, tylko kruki i wiatr.", &["góry"]),
    ("fi", "Järvi jäätyi yöllä, nyt se laulaa.", &["järvi"]),
    ("hi", "आज छत पर पतंगें ही पतंगें।", &["पतंग"]),
    ("tr", "Vapurda simit, martılar ve biraz güneş.", &["istanbul"]),
    ("nl", "Wind mee op de dijk: dat telt dubbel.", &["fietsen"]),
    ("sv", "Kantareller i blåbärsriset, hinken är full.", &["svamp"]),
    ("eo", "Hodiaŭ mi lernis novan vorton kaj tuj forgesis ĝin.", &["esperanto"]),
    ("el", "Η θάλασσα σήμερα είναι λάδι.", &["θάλασσα"]),
    ("th", "ฝนตกทั้งวัน แต่ข้าวต้มร้อน ๆ ช่วยได้", &["ฝน"]),
    ("vi", "Cà phê sáng ở hẻm nhỏ, radio bật nhạc cũ.", &["càphê"]),
    ("cy", "Mae'r mynydd yn gwisgo cap o eira heddiw.", &["eira"]),
];

/// The post at `index` of an endless, repeatable stream: all languages in turn, every fourth with a picture, every
/// sixth behind a warning. Public; the scenario decides who may really see it.
#[must_use]
pub fn corpus(index: usize) -> PostSpec {
    let (language, text, tags) = CORPUS[index % CORPUS.len()];
    PostSpec {
        language: language.to_owned(),
        picture: index % 4 == 1,
        warning: (index % 6 == 4).then(|| "food".to_owned()),
        kind: if index % 29 == 28 { "Question" } else { "Note" }.to_owned(),
        ..PostSpec::public(text).tagged(tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_repeats_itself_and_speaks_many_languages() {
        let languages: std::collections::BTreeSet<String> = (0..48).map(|index| corpus(index).language).collect();
        assert_eq!(languages.len(), CORPUS.len());
        assert_eq!(corpus(3).text, corpus(3 + CORPUS.len()).text);
        assert!((0..12).any(|index| corpus(index).picture) && (0..12).any(|index| corpus(index).warning.is_some()));
    }
}
