//! People on servers, compared with normal: the score of everything that may trend, as pure functions. Nothing is read,
//! counted or remembered here. `docs/TRENDS.md` explains it with an example whose numbers a test recomputes;
//! `docs/decisions/0012` says why it is this one.
//!
//! * A server (registrable domain) **adds** the square root of its people, times its weight: `a = w√p`. A hundred people
//!   on one server add as much as ten do on another.
//! * No server counts for more than the **fourth largest**: what three say, however many they are, is as much as the next
//!   one makes of it, and nothing where there is none.
//! * **Reach**, `R`: the sum of that. **Spread**, `N`: on how many equal servers the same reach would stand,
//!   `R² / Σ a²`. It is told, and decides nothing.
//! * **Usual**, `E`: the reach that was there at this time yesterday, or a week ago, whichever is larger.
//! * **Score**, `z = (R − E) / √(E + 1)`: how many times its ordinary fluctuation a thing is above the usual.
//!
//! One more person never makes any of R, z and the servers smaller: nobody can be talked off a list.
//!
//! Reach is a sum of whole millionths, so that neither the order of votes nor the machine changes a digit of it, and
//! anybody can compute it again from the counts. All limits are here and nowhere else.

use serde::{Deserialize, Serialize};

/// People that it takes.
pub const MIN_PEOPLE: u32 = 5;
/// Servers that it takes. None counts for more than the last of so many, in order of what each adds: with a smaller number
/// fewer servers together make a trend of whatever they like.
pub const MIN_SERVERS: u32 = 4;
/// Where very many servers speak, it takes such a part of their weight: one in so many. More would keep what a country
/// speaks of from a list of the world.
pub const SHARE: u64 = 50;
/// But never more than so many servers that weigh in full: else whoever brings in silent ones keeps things off.
pub const MOST_SERVERS: u32 = 10;
/// Score that it takes.
pub const MIN_Z: f64 = 3.0;
/// The score of rank 100: a thing that a few thousand servers speak of, and nobody did before. The scale is the same
/// everywhere and for ever, so that lists of different relays and days can be compared: each tenfold score is 33 ranks.
pub const TOP_Z: f64 = 3000.0;

/// A whole one of what is counted in millionths.
pub const ONE: u64 = 1_000_000;
/// The weight of a server that counts in full.
pub const FULL: u32 = 1000;
/// A server that has been known for less than this counts nothing: names are cheap.
pub const YOUNG_DAYS: u32 = 3;
/// From here on it counts in full; in between, in proportion.
pub const GROWN_DAYS: u32 = 30;

const HOURS_OF_A_DAY: u32 = 24;

/// Weights are told to everybody, and are such steps, so that they do not tell a server's age, which would name it: a day and a
/// third each.
pub const STEP: u32 = FULL / 20;

/// The weight of a server that has been known for so many hours, in thousandths.
#[must_use]
pub fn weight(hours_known: u32) -> u32 {
    let (young, grown) = (YOUNG_DAYS * HOURS_OF_A_DAY, GROWN_DAYS * HOURS_OF_A_DAY);
    let past = hours_known.saturating_sub(young);
    let share = u64::from(past) * u64::from(FULL) / u64::from(grown - young);
    let weight = u32::try_from(share).unwrap_or(FULL).min(FULL);
    weight - weight % STEP
}

/// What is known of one thing in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Measure {
    /// People on servers that weigh something.
    pub people: u32,
    /// Those servers.
    pub servers: u32,
    /// What they weigh together, in thousandths.
    pub weight: u64,
    /// `R` in millionths.
    pub reach: u64,
    /// `N` in millionths.
    pub spread: u64,
}

/// Measures: of each server its people and its weight in thousandths.
#[must_use]
pub fn measure(servers: impl IntoIterator<Item = (u32, u32)>) -> Measure {
    let (mut measure, mut all) = (Measure::default(), Vec::new());
    for (people, weight) in servers {
        let adds = adds(people, weight);
        if adds == 0 {
            continue;
        }
        measure.people = measure.people.saturating_add(people);
        measure.servers = measure.servers.saturating_add(1);
        measure.weight = measure.weight.saturating_add(weight.min(FULL).into());
        all.push(adds);
    }
    let (cap, mut squares) = (cap(&mut all), 0_u128);
    for adds in all {
        let counts = adds.min(cap);
        measure.reach = measure.reach.saturating_add(counts);
        squares += u128::from(counts) * u128::from(counts);
    }
    let reach = u128::from(measure.reach);
    let square = reach.saturating_mul(reach).saturating_mul(u128::from(ONE));
    measure.spread = square.checked_div(squares).unwrap_or(0).try_into().unwrap_or(u64::MAX);
    measure
}

/// What a server adds, in millionths: its weight (in thousandths) times the square root of its people, rounded down twice.
#[must_use]
pub fn adds(people: u32, weight: u32) -> u64 {
    root(people) * u64::from(weight.min(FULL)) / u64::from(FULL)
}

/// What a server counts for at most: what the fourth largest adds, and nothing where there are fewer. In which order they
/// stand afterwards is left open.
fn cap(adds: &mut [u64]) -> u64 {
    let last = MIN_SERVERS as usize - 1;
    if adds.len() <= last {
        return 0;
    }
    *adds.select_nth_unstable_by(last, |one, other| other.cmp(one)).1
}

/// The square root in millionths, rounded down.
fn root(people: u32) -> u64 {
    (u64::from(people) * ONE).saturating_mul(ONE).isqrt()
}

/// The weight that the servers of a thing must have together where all that speak weigh `all`, both in thousandths; 0 where
/// so few speak that [`MIN_SERVERS`] says enough.
#[must_use]
pub fn needed_weight(all: u64) -> u64 {
    let (share, full) = (all / SHARE, u64::from(FULL));
    if share > u64::from(MIN_SERVERS) * full { share.min(u64::from(MOST_SERVERS) * full) } else { 0 }
}

/// What keeps a thing from trending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Short {
    /// Of [`MIN_PEOPLE`].
    People,
    /// Of [`MIN_SERVERS`].
    Servers,
    /// Of [`needed_weight`]: too few of all servers that speak.
    Share,
    /// Of [`MIN_Z`]: it is about as usual.
    Score,
}

/// What a measure is worth beside what is usual.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// `z`.
    pub z: f64,
    /// What it falls short of; `None`: it trends.
    pub short: Option<Short>,
    /// From 1 to 100 if it trends, else 0.
    pub rank: u32,
}

impl Score {
    /// Whether it trends.
    #[must_use]
    pub const fn trends(&self) -> bool {
        self.short.is_none()
    }
}

/// Scores a measure where few servers speak; `usual` is `E` in millionths.
#[must_use]
pub fn score(now: &Measure, usual: u64) -> Score {
    score_among(now, usual, 0)
}

/// Scores a measure where all servers that speak of anything weigh `all` together, in thousandths (S).
#[must_use]
pub fn score_among(now: &Measure, usual: u64, all: u64) -> Score {
    let z = z(now.reach, usual);
    let short = match () {
        () if now.people < MIN_PEOPLE => Some(Short::People),
        () if now.servers < MIN_SERVERS => Some(Short::Servers),
        () if now.weight < needed_weight(all) => Some(Short::Share),
        () if z < MIN_Z => Some(Short::Score),
        () => None,
    };
    Score { z, short, rank: if short.is_none() { rank(z) } else { 0 } }
}

/// What is left of a score by its age; `fresh` is between 0 and 1.
#[must_use]
pub fn aged(score: Score, fresh: f64) -> Score {
    let z = score.z * fresh;
    let short = score.short.or((z < MIN_Z).then_some(Short::Score));
    Score { z, short, rank: if short.is_none() { rank(z) } else { 0 } }
}

/// `(R − E) / √(E + 1)`, from millionths.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "both are far below 2^53")]
pub fn z(reach: u64, usual: u64) -> f64 {
    let (one, reach, usual) = (ONE as f64, reach as f64, usual as f64);
    (reach - usual) / one / (usual / one + 1.0).sqrt()
}

/// The place on the fixed scale: 1 at [`MIN_Z`], 100 at [`TOP_Z`], by the logarithm.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 1 and 100")]
pub fn rank(z: f64) -> u32 {
    let share = (z.max(MIN_Z) / MIN_Z).log10() / (TOP_Z / MIN_Z).log10();
    (1.0 + 99.0 * share).round().clamp(1.0, 100.0) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `(servers, people on each, weight)`.
    fn crowd(parts: &[(u32, u32, u32)]) -> Measure {
        measure(parts.iter().flat_map(|(servers, people, weight)| (0..*servers).map(|_| (*people, *weight))))
    }

    fn rounded(millionths: u64) -> f64 {
        (millionths as f64 / 10_000.0).round() / 100.0
    }

    /// What formulas in use make of these stands beside each: Mastodon's `(o − e)² / e` and fediscoverer's difference of
    /// means.
    #[test]
    fn the_eight_scenarios() {
        struct Case {
            what: &'static str,
            now: Measure,
            usual: Measure,
            /// R, N, z.
            expected: (f64, f64, f64),
            short: Option<Short>,
        }
        let nothing = Measure::default();
        let check = |case: &Case| {
            let score = score(&case.now, case.usual.reach);
            let found = (rounded(case.now.reach), rounded(case.now.spread), (score.z * 100.0).round() / 100.0);
            assert_eq!(found, case.expected, "{}", case.what);
            assert_eq!(score.short, case.short, "{}", case.what);
            assert_eq!(score.rank > 0, case.short.is_none(), "{}", case.what);
        };
        for case in [
            Case {
                what: "300 accounts on one server (Mastodon: 89,401; fediscoverer: 12.5)",
                now: crowd(&[(1, 300, FULL)]),
                usual: nothing,
                expected: (0.0, 0.0, 0.0),
                short: Some(Short::Servers),
            },
            Case {
                what: "50 on 50 sub-domains of one domain, which are one server (2,401; 2.1)",
                now: crowd(&[(1, 50, FULL)]),
                usual: nothing,
                expected: (0.0, 0.0, 0.0),
                short: Some(Short::Servers),
            },
            Case {
                what: "50 on 50 domains that are new (2,401; 2.1)",
                now: crowd(&[(50, 1, 0)]),
                usual: nothing,
                expected: (0.0, 0.0, 0.0),
                short: Some(Short::People),
            },
            Case {
                what: "200 on two old servers and one on another (39,601; 8.3)",
                now: crowd(&[(1, 100, FULL), (1, 99, FULL), (1, 1, FULL)]),
                usual: nothing,
                expected: (0.0, 0.0, 0.0),
                short: Some(Short::Servers),
            },
            Case {
                what: "40 people on 20 servers, usually two on one (722; 1.6)",
                now: crowd(&[(20, 2, FULL)]),
                usual: crowd(&[(1, 2, FULL)]),
                expected: (28.28, 20.0, 28.28),
                short: None,
            },
            Case {
                what: "120 on one huge server and 12 on others, usually five on five (1,488; 5.1)",
                now: crowd(&[(1, 120, FULL), (12, 1, FULL)]),
                usual: crowd(&[(5, 1, FULL)]),
                expected: (13.0, 13.0, 3.27),
                short: None,
            },
            Case {
                what: "#caturday: 400 today, 390 last Saturday (7,220; 15.8)",
                now: crowd(&[(100, 4, FULL)]),
                usual: crowd(&[(97, 4, FULL), (1, 2, FULL)]),
                expected: (200.0, 100.0, 0.33),
                short: Some(Short::Score),
            },
            Case {
                what: "an evergreen: 900, usually 880 (0.5; 0.4)",
                now: crowd(&[(180, 5, FULL)]),
                usual: crowd(&[(176, 5, FULL)]),
                expected: (402.49, 180.0, 0.45),
                short: Some(Short::Score),
            },
        ] {
            check(&case);
        }
    }

    #[test]
    fn three_servers_are_worth_what_the_fourth_makes_of_them() {
        let of = |fourth: (u32, u32, u32)| score(&crowd(&[(3, 1000, FULL), fourth]), 0);
        assert_eq!(of((0, 0, 0)).short, Some(Short::Servers));
        let old = of((1, 1, FULL));
        assert_eq!((old.z, old.rank), (4.0, 5), "however many the three are, one person counts as one");
        assert_eq!(of((1, 1, weight(3 * HOURS_OF_A_DAY + 1))).short, Some(Short::Servers));
        let new = of((1, 1, weight(5 * HOURS_OF_A_DAY)));
        assert_eq!((new.z, new.short), (0.2, Some(Short::Score)));
        // The other way round: nobody is talked off a list by a crowd on one server.
        assert!(
            score(&crowd(&[(12, 1, FULL)]), 0).trends() && score(&crowd(&[(12, 1, FULL), (1, 240, FULL)]), 0).trends()
        );
    }

    #[test]
    fn where_many_servers_speak_it_takes_a_fiftieth_of_them_and_never_more_than_ten() {
        let full = u64::from(FULL);
        for (all, expected) in [(0, 0), (200, 0), (250, 5), (400, 8), (500, 10), (100_000, 10)] {
            assert_eq!(needed_weight(all * full), expected * full, "{all}");
        }
        let eight = crowd(&[(8, 2, FULL)]);
        assert!(score_among(&eight, 0, 400 * full).trends());
        assert_eq!(score_among(&eight, 0, 500 * full).short, Some(Short::Share));
        let with_names = crowd(&[(8, 2, FULL), (20, 5, 1)]);
        assert_eq!(score_among(&with_names, 0, 500 * full).short, Some(Short::Share), "names weigh what they weigh");
    }

    /// `docs/TRENDS.md` has an example; its table and its sentences are what comes out.
    #[test]
    fn the_worked_example_is_right() {
        let text = include_str!("../../docs/TRENDS.md");
        let rows: Vec<(u32, u32, String, String)> = text
            .lines()
            .filter(|line| line.contains(".example |"))
            .map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                let weight = cells[3].replace('.', "").parse().unwrap();
                (cells[2].parse().unwrap(), weight, cells[4].to_owned(), cells[5].to_owned())
            })
            .collect();
        let millionths = |number: u64| format!("{}.{:06}", number / ONE, number % ONE);
        let mut all: Vec<u64> = rows.iter().map(|(people, weight, ..)| adds(*people, *weight)).collect();
        let most = cap(&mut all);
        for (people, weight, adds, counts) in &rows {
            let added = super::adds(*people, *weight);
            assert_eq!((&millionths(added), &millionths(added.min(most))), (adds, counts));
        }
        let now = measure(rows.iter().map(|(people, weight, ..)| (*people, *weight)));
        let usual = measure([(1, FULL), (1, FULL), (1, FULL), (1, weight(10 * 24))]).reach;
        let score = score(&now, usual);
        let said = format!(
            "R = {}, N = {}, E = {}, z = {:.6}: it trends, with rank {}.",
            millionths(now.reach),
            millionths(now.spread),
            millionths(usual),
            score.z,
            score.rank
        );
        let text = text.replace('\n', " ");
        assert!(score.trends() && text.contains(&said), "{said}");
        let moved = measure([(17, FULL), (4, FULL), (4, FULL), (1, weight(10 * 24))]);
        let said = format!("R = {}: it would not.", millionths(moved.reach));
        assert!(super::score(&moved, 0).short == Some(Short::Score) && text.contains(&said), "{said}");
    }

    #[test]
    fn a_server_grows_into_its_weight() {
        let day = HOURS_OF_A_DAY;
        for (hours, expected) in [
            (0, 0),
            (3 * day, 0),
            (3 * day + 1, 0),
            (5 * day, 50),
            (16 * day + 12, 500),
            (30 * day - 1, 950),
            (30 * day, FULL),
            (u32::MAX, FULL),
        ] {
            assert_eq!(weight(hours), expected, "{hours} h");
        }
    }

    #[test]
    fn the_scale_is_fixed() {
        for (z, expected) in
            [(0.0, 1), (3.0, 1), (3.1, 1), (7.3, 14), (17.3, 26), (30.0, 34), (300.0, 67), (3000.0, 100)]
        {
            assert_eq!(rank(z), expected, "{z}");
        }
        assert_eq!(rank(1e12), 100);
    }

    proptest! {
        /// Whoever is added, on a server that was there or a new one, and however many servers there are in all.
        #[test]
        fn one_more_person_never_ends_a_trend_and_the_order_of_servers_is_irrelevant(
            mut servers in prop::collection::vec((1_u32..300, 0..=FULL), 1..30),
            usual in 0..40_000_000_u64,
            silent in 0..600_000_u64,
            which in any::<prop::sample::Index>(),
            newcomer in prop::option::of(0..=FULL),
        ) {
            let before = measure(servers.iter().copied());
            let mut turned = servers.clone();
            turned.reverse();
            prop_assert_eq!(before, measure(turned));
            let mut all = silent + before.weight;
            match newcomer {
                Some(weight) => {
                    servers.push((1, weight));
                    all += u64::from(weight);
                }
                None => {
                    let which = which.index(servers.len());
                    servers[which].0 += 1;
                }
            }
            let after = measure(servers.iter().copied());
            prop_assert!(after.reach >= before.reach && z(after.reach, usual) >= z(before.reach, usual));
            prop_assert!(after.people >= before.people && after.servers >= before.servers);
            let trended = score_among(&before, usual, silent + before.weight).trends();
            prop_assert!(!trended || score_among(&after, usual, all).trends());
        }

        #[test]
        fn it_never_overflows_and_the_spread_is_at_most_the_servers(
            servers in prop::collection::vec((0..=u32::MAX, 0..=u32::MAX), 0..300),
            usual in any::<u64>(),
        ) {
            let measure = measure(servers.iter().copied());
            prop_assert!(measure.spread <= u64::from(measure.servers) * ONE);
            prop_assert!(measure.servers < MIN_SERVERS || measure.spread >= ONE);
            let score = score(&measure, usual);
            prop_assert!(score.z.is_finite() && score.rank <= 100);
        }
    }
}
