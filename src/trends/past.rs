//! What was usual, as it is read for lists: days are remembered for an hour, since a list of a week asks for twelve of them
//! for each thing, and they change once a day.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::assess::Past;
use super::languages;
use crate::store::{StoreError, UsualDay, UsualHour, UsualView};

/// Days of things that are remembered; beyond it the store is asked.
const MOST: usize = 100_000;

/// What is remembered, and in which hour it was read.
#[derive(Default)]
pub(super) struct Days {
    hour: u32,
    rows: HashMap<(u32, u64, u16), UsualDay>,
}

/// The store's, with what is remembered of it.
pub(super) struct KeptPast<'a> {
    view: UsualView,
    days: &'a Mutex<Days>,
}

impl<'a> KeptPast<'a> {
    /// As of this hour.
    pub(super) fn new(view: UsualView, days: &'a Mutex<Days>, hour: u32) -> Self {
        let mut kept = days.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.hour != hour {
            *kept = Days { hour, rows: HashMap::new() };
        }
        drop(kept);
        Self { view, days }
    }
}

impl Past for KeptPast<'_> {
    fn hour(&self, hour: u32, target: u64, language: &str) -> Result<UsualHour, StoreError> {
        self.view.hour(hour, target, language)
    }

    fn day(&self, day: u32, target: u64, language: &str) -> Result<UsualDay, StoreError> {
        let number = languages::number(language);
        // Of those that have no number only that of all languages is remembered.
        if number == 0 && !language.is_empty() {
            return self.view.day(day, target, language);
        }
        let key = (day, target, number);
        let lock = || self.days.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().rows.get(&key) {
            return Ok(*known);
        }
        let found = self.view.day(day, target, language)?;
        let mut kept = lock();
        if kept.rows.len() < MOST {
            kept.rows.insert(key, found);
        }
        Ok(found)
    }
}
