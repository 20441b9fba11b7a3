//! What kind of post it is and what hangs on it, by the names that queries use.

use serde::{Deserialize, Serialize};

/// Something to be seen or heard. Where its file lies is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// What it is.
    pub kind: MediaKind,
    /// Its description for those who do not see or hear it, at most [`super::MAX_ALT`] characters; often empty.
    pub alt: String,
}

/// What an attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A film, or a moving picture.
    Video,
    /// A sound.
    Audio,
    /// Any other file.
    File,
}

/// One property of a post, as the query language calls it (`has:poll`, `is:reply`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Prop {
    /// Something is attached to be seen or heard.
    Media,
    /// A picture is.
    Image,
    /// A film is.
    Video,
    /// A sound is.
    Audio,
    /// It asks, with options.
    Poll,
    /// It links to something that is neither a person, a hashtag nor the post it quotes.
    Link,
    /// It answers another post.
    Reply,
    /// It is marked as sensitive, or has a content warning.
    Sensitive,
    /// It quotes another post.
    Quote,
    /// A program wrote it. Not to be seen on the post: whoever knows the author adds it.
    Bot,
}

impl Prop {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Media,
        Self::Image,
        Self::Video,
        Self::Audio,
        Self::Poll,
        Self::Link,
        Self::Reply,
        Self::Sensitive,
        Self::Quote,
        Self::Bot,
    ];

    /// Its name in queries and in the index.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Poll => "poll",
            Self::Link => "link",
            Self::Reply => "reply",
            Self::Sensitive => "sensitive",
            Self::Quote => "quote",
            Self::Bot => "bot",
        }
    }

    /// The property of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|prop| prop.as_str() == name)
    }
}

/// A set of [`Prop`]s. Stored as a number whose bits are in the order of [`Prop::ALL`]: new ones come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Props(u16);

impl Props {
    /// Is it among them?
    #[must_use]
    pub const fn has(self, prop: Prop) -> bool {
        self.0 & (1 << prop as u8) != 0
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, prop: Prop) -> Self {
        Self(self.0 | 1 << prop as u8)
    }

    /// Those in the set.
    pub fn iter(self) -> impl Iterator<Item = Prop> {
        Prop::ALL.into_iter().filter(move |prop| self.has(*prop))
    }
}

impl FromIterator<Prop> for Props {
    fn from_iter<I: IntoIterator<Item = Prop>>(props: I) -> Self {
        props.into_iter().fold(Self::default(), Self::with)
    }
}
