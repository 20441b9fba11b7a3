//! What the witness wrote down, and what follows from it: lost, repeated, altered. Pure but for reading the file.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, bail};

/// What a crash may repeat of one subscriber.
pub(crate) const REPEATS: usize = 16;

/// One line. Times are milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// The relay answered 202.
    Acknowledged { at: u64, post: u64 },
    /// A member got a post; `whole`: an Announce of something that was sent, or the very bytes that were. `epoch`: how
    /// often the relay had been stopped when the connection was made that this came over.
    Received { at: u64, member: usize, post: u64, whole: bool, epoch: u32 },
    /// A member got something that names no post.
    Stray { at: u64, member: usize },
    /// The relay was stopped so often.
    Epoch(u32),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledged { at, post } => write!(f, "A {at} {post}"),
            Self::Received { at, member, post, whole, epoch } => {
                write!(f, "R {at} {member} {post} {} {epoch}", u8::from(*whole))
            }
            Self::Stray { at, member } => write!(f, "S {at} {member}"),
            Self::Epoch(number) => write!(f, "E {number}"),
        }
    }
}

impl Line {
    fn read(text: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words.as_slice() {
            ["A", at, post] => Self::Acknowledged { at: at.parse()?, post: post.parse()? },
            ["R", at, member, post, whole, epoch] => Self::Received {
                at: at.parse()?,
                member: member.parse()?,
                post: post.parse()?,
                whole: *whole == "1",
                epoch: epoch.parse()?,
            },
            ["S", at, member] => Self::Stray { at: at.parse()?, member: member.parse()? },
            ["E", number] => Self::Epoch(number.parse()?),
            _ => bail!("this is no line of a ledger: {text:?}"),
        })
    }
}

/// What the ledger proves.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) acknowledged: usize,
    pub(crate) received: usize,
    /// Acknowledged, and missing at a living member: how many, and the first few as (member, post, when it was acknowledged).
    pub(crate) lost: usize,
    pub(crate) first_lost: Vec<(usize, u64, u64)>,
    /// Receipts of what was never sent, or not as it was sent.
    pub(crate) altered: usize,
    /// Receipts repeated after a stop: the most for one member and stop, and all.
    pub(crate) most_repeated: usize,
    pub(crate) repeated: usize,
    /// Receipts repeated although nothing was stopped in between; and the first few as (member, post, when it came, when
    /// it came again).
    pub(crate) repeated_idly: usize,
    pub(crate) first_idle: Vec<(usize, u64, u64, u64)>,
    pub(crate) epochs: u32,
    pub(crate) last_acknowledged_at: u64,
}

/// Reads the ledger. `members` joined; if `dead`, the last of them is not owed anything.
pub(crate) fn judge(ledger: &Path, members: usize, dead: bool) -> anyhow::Result<Verdict> {
    let text = std::fs::read_to_string(ledger).with_context(|| format!("reading {}", ledger.display()))?;
    let lines: Vec<Line> = text.lines().map(Line::read).collect::<Result<_, _>>()?;
    Ok(weigh(&lines, members, dead))
}

fn weigh(lines: &[Line], members: usize, dead: bool) -> Verdict {
    let mut verdict = Verdict::default();
    let mut acknowledged = Bits::default();
    let mut times: HashMap<u64, u64> = HashMap::new();
    // By member: in which epoch each post came last, and when.
    let mut came: Vec<HashMap<u64, (u32, u64)>> = vec![HashMap::new(); members];
    let mut repeats: HashMap<(usize, u32), usize> = HashMap::new();
    for line in lines {
        match *line {
            Line::Epoch(number) => verdict.epochs = number,
            Line::Stray { .. } => verdict.altered += 1,
            Line::Acknowledged { at, post } => {
                acknowledged.set(post);
                times.insert(post, at);
                verdict.last_acknowledged_at = at;
            }
            Line::Received { at, member, post, whole, epoch } => {
                verdict.received += 1;
                verdict.altered += usize::from(!whole);
                let Some((before, then)) = came.get_mut(member).and_then(|posts| posts.insert(post, (epoch, at)))
                else {
                    continue;
                };
                if before == epoch {
                    verdict.repeated_idly += 1;
                    if verdict.first_idle.len() < 5 {
                        verdict.first_idle.push((member, post, then, at));
                    }
                } else {
                    verdict.repeated += 1;
                    *repeats.entry((member, before)).or_default() += 1;
                }
            }
        }
    }
    verdict.acknowledged = acknowledged.count();
    verdict.most_repeated = repeats.into_values().max().unwrap_or_default();
    for (member, posts) in came.iter().enumerate().take(members - usize::from(dead)) {
        let owed = acknowledged.iter().filter(|post| *post as usize % members != member);
        for post in owed.filter(|post| !posts.contains_key(post)) {
            verdict.lost += 1;
            if verdict.first_lost.len() < 5 {
                verdict.first_lost.push((member, post, times.get(&post).copied().unwrap_or_default()));
            }
        }
    }
    verdict
}

impl Verdict {
    /// What is not as promised, if anything, when a stop may repeat `allowed` receipts of a member.
    pub(crate) fn broken(&self, allowed: usize) -> Option<String> {
        let mut broken = Vec::new();
        if self.lost > 0 {
            broken.push(format!("{} lost, such as (member, post, acknowledged at) {:?}", self.lost, self.first_lost));
        }
        if self.altered > 0 {
            broken.push(format!("{} altered or never sent", self.altered));
        }
        if self.most_repeated > allowed {
            broken.push(format!("{} repeated of one subscriber, {allowed} allowed", self.most_repeated));
        }
        if self.repeated_idly > 0 {
            let first = &self.first_idle;
            broken.push(format!(
                "{} repeated without a stop, such as (member, post, came, again) {first:?}",
                self.repeated_idly
            ));
        }
        if self.acknowledged == 0 {
            broken.push("nothing was acknowledged: this proves nothing".to_owned());
        }
        (!broken.is_empty()).then(|| broken.join("; "))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  acknowledged {}, received {}", self.acknowledged, self.received)?;
        writeln!(f, "  lost {}, altered or never sent {}", self.lost, self.altered)?;
        write!(
            f,
            "  repeated after a stop: at most {} for one subscriber and stop, {} in all; without a stop: {}",
            self.most_repeated, self.repeated, self.repeated_idly
        )
    }
}

/// A set of numbers that are close together.
#[derive(Debug, Default, Clone)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn set(&mut self, number: u64) {
        let index = usize::try_from(number / 64).unwrap_or(0);
        if self.0.len() <= index {
            self.0.resize(index + 1, 0);
        }
        if let Some(word) = self.0.get_mut(index) {
            *word |= 1 << (number % 64);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        each(self.0.iter().copied())
    }

    /// Those that are not in `other`.
    pub(crate) fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        each(self.0.iter().enumerate().map(|(index, word)| word & !other.0.get(index).copied().unwrap_or(0)))
    }
}

fn each(words: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let words = words.enumerate().filter(|(_, word)| *word != 0);
    words.flat_map(|(index, word)| {
        (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index as u64 * 64 + bit)
    })
}

/// That the scales weigh: each fault is seen, and nothing where there is none.
pub(crate) fn self_test() -> anyhow::Result<()> {
    let ack = |post| Line::Acknowledged { at: 1, post };
    let got = |member, post, epoch| Line::Received { at: 2, member, post, whole: true, epoch };
    // Posts 0 and 3 are member 0's own, of three.
    let good = [
        ack(0),
        got(1, 0, 0),
        Line::Epoch(1),
        got(1, 0, 1),
        got(2, 0, 0),
        ack(4),
        got(0, 4, 1),
        got(2, 4, 1),
        got(2, 5, 1),
    ];
    let seen = weigh(&good, 3, false);
    let expected = Verdict {
        acknowledged: 2,
        received: 6,
        most_repeated: 1,
        repeated: 1,
        epochs: 1,
        last_acknowledged_at: 1,
        ..Verdict::default()
    };
    anyhow::ensure!(seen == expected && seen.broken(1).is_none(), "{seen:?}");
    anyhow::ensure!(seen.broken(0).is_some(), "one too many");
    let lost = weigh(&good[..7], 3, false);
    anyhow::ensure!(lost.lost == 1 && lost.first_lost == [(2, 4, 1)] && lost.broken(1).is_some(), "{lost:?}");
    anyhow::ensure!(weigh(&good[..7], 3, true).lost == 0, "the dead are owed nothing");
    let idle = weigh(&[ack(0), got(1, 0, 0), got(1, 0, 0), got(2, 0, 0)], 3, false);
    anyhow::ensure!(
        idle.repeated_idly == 1 && idle.first_idle == [(1, 0, 2, 2)] && idle.broken(16).is_some(),
        "{idle:?}"
    );
    let bent =
        weigh(&[ack(0), got(1, 0, 0), Line::Received { at: 2, member: 2, post: 0, whole: false, epoch: 0 }], 3, false);
    anyhow::ensure!(bent.altered == 1 && bent.broken(16).is_some(), "{bent:?}");
    for line in good {
        anyhow::ensure!(Line::read(&line.to_string())? == line, "{line}");
    }
    Ok(())
}
