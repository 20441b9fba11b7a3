//! Who may wait for a key that we do not know. Such requests are unsigned as yet, and each holds a connection and memory
//! until another server has answered; without places of their own, one slow server would hold up the inbox for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ids::Authority;

/// Requests that may wait in all, and of these for keys of authorities that are not familiar.
const ALL: usize = 128;
const STRANGERS: usize = ALL / 2;

/// Requests that may wait for keys of one authority.
const PER_AUTHORITY: usize = 8;

/// All places. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    strangers: usize,
    /// Only those who hold a place, so at most [`ALL`].
    each: HashMap<Authority, usize>,
}

/// The right to wait; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    authority: Authority,
    stranger: bool,
}

impl Places {
    /// A place, if there is one now. Nobody queues.
    pub(super) fn take(&self, authority: Authority, stranger: bool) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.each.get(&authority).copied().unwrap_or_default();
        if taken.all >= ALL || own >= PER_AUTHORITY || (stranger && taken.strangers >= STRANGERS) {
            return None;
        }
        taken.all += 1;
        taken.strangers += usize::from(stranger);
        taken.each.insert(authority.clone(), own + 1);
        Some(Place { places: self.clone(), authority, stranger })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        taken.strangers -= usize::from(self.stranger);
        if let Some(own) = taken.each.get_mut(&self.authority) {
            *own -= 1;
            if *own == 0 {
                taken.each.remove(&self.authority);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_wait_for_one_authority_and_strangers_leave_room_for_the_others() {
        let places = Places::default();
        let host = |n: usize| Authority::parse(&format!("h{n}.example")).unwrap();
        let mut held: Vec<_> = (0..20).filter_map(|_| places.take(host(0), true)).collect();
        assert_eq!(held.len(), 8);
        held.extend((1..500).filter_map(|n| places.take(host(n), true)));
        assert_eq!(held.len(), 64);
        held.extend((500..999).filter_map(|n| places.take(host(n), false)));
        assert_eq!(held.len(), 128);
        drop(held);
        assert!(places.0.lock().unwrap().each.is_empty());
        assert_eq!((0..20).filter_map(|_| places.take(host(0), false)).map(std::mem::forget).count(), 8);
    }
}
