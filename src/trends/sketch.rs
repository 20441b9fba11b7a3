//! Which of very many things are spoken of on more than one server: a sketch that never says no where the answer is yes.
//! What only one server speaks of can not trend, and is nine in ten of all hashtags: it costs nothing here, however many
//! are made up.
//!
//! Each thing has a slot in each of four rows, and a slot holds the first server that spoke of anything in it, or that
//! there were several. If any of its four slots still holds its own server alone, it was that server alone.

/// Rows: each multiplies the share of things that are let in for nothing.
const ROWS: usize = 4;
/// Several servers.
const MANY: u16 = u16::MAX;
/// Odd numbers that spread a thing over the slots of each row.
const SPREAD: [u64; ROWS] =
    [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0xd6e8_feb8_6659_fd93];

/// The sketch.
pub struct Sketch {
    slots: Vec<u16>,
    bits: u32,
}

impl Sketch {
    /// One that takes at most so many bytes, and a few hundred at least.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let bits = (bytes / (ROWS * size_of::<u16>())).max(64).ilog2();
        Self { slots: vec![0; ROWS << bits], bits }
    }

    /// Takes note that a server, by its number, speaks of something; whether any other may have before.
    pub fn note(&mut self, target: u64, server: u32) -> bool {
        // 0 is a slot that nobody has; of 65,534 servers two may look the same, and then it takes a third one.
        let mine = u16::try_from(server % u32::from(MANY - 1)).unwrap_or(0) + 1;
        let mut others = true;
        for (row, spread) in SPREAD.iter().enumerate() {
            let place = usize::try_from(target.wrapping_mul(*spread) >> (64 - self.bits)).unwrap_or(0);
            let Some(slot) = self.slots.get_mut((row << self.bits) + place) else { continue };
            others &= *slot != 0 && *slot != mine;
            *slot = if *slot == 0 || *slot == mine { mine } else { MANY };
        }
        others
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.fill(0);
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u16>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(number: u64) -> u64 {
        crate::store::target(crate::store::Subject::Tag, &number.to_string())
    }

    #[test]
    fn what_a_second_server_speaks_of_is_always_let_in() {
        let mut sketch = Sketch::new(1 << 20);
        for number in 0..100_000 {
            sketch.note(thing(number), u32::try_from(number % 900).unwrap());
        }
        for number in 0..100_000 {
            let other = u32::try_from(number % 900).unwrap() + 1000;
            assert!(sketch.note(thing(number), other), "{number}");
        }
    }

    #[test]
    fn of_a_million_things_of_one_server_each_few_are_let_in() {
        let mut sketch = Sketch::new(16 << 20);
        assert_eq!(sketch.bytes(), 16 << 20);
        let count = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };
        let mut sketch_in = 0;
        for _again in 0..2 {
            sketch_in =
                (0..count).filter(|number| sketch.note(thing(*number), u32::try_from(number % 900).unwrap())).count();
        }
        assert!(sketch_in < 30_000, "{sketch_in}");
        sketch.clear();
        assert!(!sketch.note(thing(1), 1) && !sketch.note(thing(1), 1));
    }
}
