//! How much room the disk has. What to do about it is for those who ask; nothing is decided here.
//!
//! Looked at when somebody asks, and four times a second at most: at the inbox's fastest, what is taken in between is less
//! than the bodies it holds in memory, and so less than the reserve.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a reading counts. Real time: nothing of it is kept.
const LIFE: Duration = Duration::from_millis(250);
const _: () = assert!(LIFE.as_millis() <= 1000, "longer, and more is taken in between than the reserve holds");

/// Asks the disk; `None` if it does not say.
type Ask = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The last reading, and how to make another.
pub(super) struct Room {
    ask: Ask,
    last: Mutex<Option<(Instant, u64)>>,
}

impl Room {
    /// Of the file system that this folder is on.
    pub(super) fn on_disk(dir: PathBuf) -> Self {
        Self::new(Box::new(move || {
            let stat = rustix::fs::statvfs(&dir);
            let stat = stat.inspect_err(|error| tracing::debug!(%error, "the disk does not say what is free")).ok()?;
            // What others than root may use.
            Some(stat.f_bavail.saturating_mul(stat.f_frsize))
        }))
    }

    fn new(ask: Ask) -> Self {
        Self { ask, last: Mutex::new(None) }
    }

    /// Free bytes.
    pub(super) fn free(&self) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some((at, free)) if at.elapsed() < LIFE => free,
            _ => {
                let free = (self.ask)().unwrap_or(u64::MAX);
                *last = Some((Instant::now(), free));
                free
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_disk_is_asked_now_and_then_and_its_room_comes_back_by_itself() {
        let (free, asked) = (Arc::new(AtomicU64::new(5)), Arc::new(AtomicU64::new(0)));
        let (disk, count) = (free.clone(), asked.clone());
        let room = Room::new(Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Some(disk.load(Ordering::SeqCst)).filter(|bytes| *bytes > 0)
        }));
        let begun = Instant::now();
        for _ in 0..10_000 {
            assert_eq!(room.free(), 5);
        }
        let most = 2 + begun.elapsed().as_millis() / LIFE.as_millis();
        assert!(u128::from(asked.load(Ordering::SeqCst)) <= most);
        for (now, said) in [(700, 700), (0, u64::MAX), (3, 3)] {
            free.store(now, Ordering::SeqCst);
            std::thread::sleep(LIFE);
            assert_eq!(room.free(), said);
        }
    }

    #[test]
    fn a_real_disk_says_something_and_a_folder_that_is_not_there_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let free = Room::on_disk(dir.path().to_owned()).free();
        assert!(free > 0 && free < u64::MAX, "{free}");
        assert_eq!(Room::on_disk(dir.path().join("nowhere")).free(), u64::MAX);
    }
}
