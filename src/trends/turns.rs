//! Who makes a list when somebody asks for one that is not there: one at a time for each list, two in all, and a few wait.
//! Everybody else is told to come back: making lists must not take the threads that deliveries are signed on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lists::Asked;

/// Lists that are made at once for those who ask.
const AT_ONCE: usize = 2;
/// Who waits, each on a thread.
const MOST_WAITING: usize = 8;
/// For so long.
const PATIENCE: Duration = Duration::from_secs(3);

/// All turns.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    making: Vec<Asked>,
    waiting: usize,
}

/// The right to make a list; given back when dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    asked: Asked,
}

impl Turns {
    /// A turn, perhaps after a while; `None`: too many ask.
    pub(super) fn take(&self, asked: &Asked) -> Option<Turn<'_>> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.lock();
        loop {
            if state.making.len() < AT_ONCE && !state.making.contains(asked) {
                state.making.push(asked.clone());
                return Some(Turn { turns: self, asked: asked.clone() });
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.waiting >= MOST_WAITING || left.is_zero() {
                return None;
            }
            state.waiting += 1;
            state = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        let asked = &self.asked;
        if let Some(at) = state.making.iter().position(|one| one == asked) {
            state.making.swap_remove(at);
        }
        drop(state);
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Subject;
    use crate::trends::assess::Window;

    fn asked(language: &str) -> Asked {
        Asked { subject: Subject::Tag, window: Window::Six, language: Some(language.to_owned()) }
    }

    #[test]
    fn one_makes_a_list_two_make_lists_a_few_wait_and_nobody_else() {
        let turns = std::sync::Arc::new(Turns::default());
        let first = turns.take(&asked("de")).unwrap();
        let second = turns.take(&asked("fr")).unwrap();
        let ask = |language: &'static str| {
            let turns = turns.clone();
            std::thread::spawn(move || turns.take(&asked(language)).is_some())
        };
        let waiting: Vec<_> = (0..MOST_WAITING).map(|_| ask("de")).collect();
        while turns.lock().waiting < MOST_WAITING {
            std::thread::yield_now();
        }
        assert!(turns.take(&asked("eu")).is_none(), "whoever comes now is told to come back");
        drop((first, second));
        assert!(waiting.into_iter().all(|one| one.join().unwrap()));
        assert!(turns.lock().making.is_empty());
    }
}
