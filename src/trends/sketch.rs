//! Which of very many things are spoken of on more than one server. What only one server speaks of can not trend, and is
//! nine in ten of all hashtags: it takes a slot of four bytes here, and nothing else, however many are made up.
//!
//! A thing has its place in one of many short rows, and there a slot with a part of its number and the server that spoke of
//! it. Another server is seen at once. A full row forgets what it learned first, so that what was seen lately is there
//! always: the sketch need not be emptied, and a thing that is forgotten is one of millions that were spoken of since. One
//! thing in four thousand is taken for another and let in for nothing.

/// Slots of a row: one line of a processor's cache.
const ROW: usize = 16;
/// Servers look like one of so many: of two that look the same it takes a third.
const SERVERS: u32 = u16::MAX as u32;

/// The sketch.
pub struct Sketch {
    rows: Vec<[u32; ROW]>,
}

impl Sketch {
    /// One that takes at most so many bytes, and a row at least.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { rows: vec![[0; ROW]; (bytes / (ROW * size_of::<u32>())).max(1)] }
    }

    /// Takes note that a server, by its number, speaks of something; whether any other did before.
    pub fn note(&mut self, target: u64, server: u32) -> bool {
        // 0 is a slot that nobody has.
        let mine = server % SERVERS + 1;
        let part = u32::try_from(target & 0xffff).unwrap_or(0);
        let place = usize::try_from((target >> 16) % self.rows.len() as u64).unwrap_or(0);
        let Some(row) = self.rows.get_mut(place) else { return false };
        if let Some(known) = row.iter().find(|slot| **slot & 0xffff != 0 && **slot >> 16 == part) {
            return known & 0xffff != mine;
        }
        row.copy_within(..ROW - 1, 1);
        if let Some(first) = row.first_mut() {
            *first = part << 16 | mine;
        }
        false
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.len() * ROW * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(number: u64) -> u64 {
        crate::store::target(crate::store::Subject::Tag, &number.to_string())
    }

    #[test]
    fn what_a_second_server_speaks_of_is_let_in() {
        let mut sketch = Sketch::new(4 << 20);
        for number in 0..100_000 {
            sketch.note(thing(number), u32::try_from(number % 900).unwrap());
        }
        for number in 0..100_000 {
            let other = u32::try_from(number % 900).unwrap() + 1000;
            assert!(sketch.note(thing(number), other), "{number}");
        }
    }

    /// Ten million in three days; in a test that is not optimised, a tenth of it in a tenth of the room.
    #[test]
    fn of_ten_million_things_of_one_server_each_few_are_let_in_on_any_day() {
        let less: u64 = if cfg!(debug_assertions) { 10 } else { 1 };
        let mut sketch = Sketch::new((16 << 20) / usize::try_from(less).unwrap());
        let in_a_day = 10_000_000 / 3 / less;
        // Each is said twice on its day, by the same server.
        for day in 0..3 {
            let mut let_in = 0;
            for _again in 0..2 {
                let things = day * in_a_day..(day + 1) * in_a_day;
                let seen = things.filter(|number: &u64| {
                    let server = u32::try_from(number % 900).unwrap();
                    sketch.note(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29), server)
                });
                let_in += seen.count() as u64;
            }
            assert!(let_in < in_a_day / 500, "{let_in} of {in_a_day} on day {day}");
        }
        let event = thing(1);
        assert!(!sketch.note(event, 1) && !sketch.note(event, 1) && sketch.note(event, 2));
    }
}
