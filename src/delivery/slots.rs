//! How many requests may be under way at once, and who gets the next place. Two pools, so that those who do not answer
//! can never hold the places of those who do: fresh attempts of lanes that answer promptly share three quarters of
//! `delivery.in_flight`; retries, and lanes that are known to be slow, share the last quarter.
//!
//! Each lane stands in the queue with one attempt at a time, and queues are first come, first served: that is round
//! robin, whatever a single lane has to send. An attempt keeps its fresh place for [`PATIENCE`]; after that it moves to the
//! slow pool, or, if that is full, is cut off and tried again from there as soon as no fresh place is left: others may wait
//! for it. So the longest anybody waits behind a server that has just died is that patience, not the whole timeout. While
//! there are places, nobody is cut off: what was cut off may have been taken, and comes twice.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long an attempt may hold a fresh place, and what counts as a prompt answer. Longer: servers that die hold others
/// up for longer. Shorter: more servers count as slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How often an attempt that has outstayed its patience looks whether it is in anybody's way.
const LOOK: Duration = Duration::from_millis(100);

/// Which pool an attempt belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    /// A first attempt to a server that answers promptly.
    Fresh,
    /// A retry, or an attempt to a slow server.
    Slow,
}

/// Both pools. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    fresh: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

/// A place in a pool; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    pool: Pool,
    pools: Slots,
    permit: OwnedSemaphorePermit,
}

impl Slots {
    /// `in_flight` places in all, at least one in each pool.
    pub(super) fn new(in_flight: usize) -> Self {
        let in_flight = in_flight.min(Semaphore::MAX_PERMITS);
        let slow = (in_flight / 4).max(1);
        let fresh = in_flight.saturating_sub(slow).max(1);
        Self { fresh: Arc::new(Semaphore::new(fresh)), slow: Arc::new(Semaphore::new(slow)) }
    }

    /// Waits for a place. Cancel-safe, but the place in the queue is lost.
    pub(super) async fn acquire(&self, pool: Pool) -> Option<Slot> {
        let semaphore = if pool == Pool::Fresh { &self.fresh } else { &self.slow };
        // Nobody closes the pools.
        let permit = semaphore.clone().acquire_owned().await.ok()?;
        Some(Slot { pool, pools: self.clone(), permit })
    }

    /// Places that are free: fresh, slow.
    #[cfg(test)]
    pub(super) fn free(&self) -> (usize, usize) {
        (self.fresh.available_permits(), self.slow.available_permits())
    }
}

impl Slot {
    /// Runs `request` in this place; `None` if it was cut off because it took too long for a fresh place, no slow one was
    /// free, and no fresh one was left for others.
    pub(super) async fn run<T>(mut self, request: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(request);
        let mut patience = PATIENCE;
        while self.pool == Pool::Fresh {
            if let Ok(done) = tokio::time::timeout(patience, &mut request).await {
                return Some(done);
            }
            if let Ok(place) = self.pools.slow.clone().try_acquire_owned() {
                (self.pool, self.permit) = (Pool::Slow, place);
            } else if self.pools.fresh.available_permits() == 0 {
                return None;
            }
            patience = LOOK;
        }
        Some(request.await)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::future::pending;
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn retries_never_take_more_than_a_quarter() {
        let slots = Slots::new(8);
        assert_eq!(slots.free(), (6, 2));
        let _held = (slots.acquire(Pool::Slow).await, slots.acquire(Pool::Slow).await);
        let third = tokio::time::timeout(Duration::from_secs(3600), slots.acquire(Pool::Slow)).await;
        assert!(third.is_err());
        assert_eq!(slots.free(), (6, 0));
        assert_eq!(Slots::new(0).free(), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_hangs_gives_its_fresh_place_back() {
        let slots = Slots::new(4);
        let hang = |slot: Slot| tokio::time::timeout(Duration::from_secs(10), slot.run(pending::<()>()));
        let (first, second) = (slots.acquire(Pool::Fresh).await.unwrap(), slots.acquire(Pool::Fresh).await.unwrap());
        let _last = slots.acquire(Pool::Fresh).await.unwrap();
        let started = tokio::time::Instant::now();
        let (one, other, ()) = tokio::join!(hang(first), hang(second), async {
            tokio::time::sleep(PATIENCE + LOOK / 2).await;
            assert_eq!(slots.free(), (1, 0), "one moved to the slow pool, one is in nobody's way yet");
            let _taken = slots.acquire(Pool::Fresh).await.unwrap();
            tokio::time::sleep(LOOK).await;
            assert_eq!(slots.free(), (1, 0), "it was cut off");
        });
        let ran_out = [&one, &other].iter().filter(|end| end.is_err()).count();
        let cut_off = [&one, &other].iter().filter(|end| matches!(end, Ok(None))).count();
        assert_eq!((ran_out, cut_off), (1, 1), "the one with a slow place went on to its own timeout");
        assert_eq!(started.elapsed(), Duration::from_secs(10));
        let slot = slots.acquire(Pool::Slow).await.unwrap();
        assert_eq!(slot.run(async { 7 }).await, Some(7));
    }

    proptest::proptest! {
        /// Lanes with much to send, with little, and with slow servers, over two pools: whoever stands in a queue is served
        /// after those who stood there before, and nobody's work grows anybody's wait.
        #[test]
        fn no_lane_starves(
            in_flight in 1_usize..9,
            lanes in proptest::collection::vec((1_u32..40, 1_u64..5_000, proptest::bool::ANY), 2..12),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let slots = Slots::new(in_flight);
                let served = Arc::new(Mutex::new(vec![Vec::new(), Vec::new()]));
                let mut running = tokio::task::JoinSet::new();
                for (lane, (work, takes, slow)) in lanes.iter().copied().enumerate() {
                    let (slots, served) = (slots.clone(), served.clone());
                    running.spawn(async move {
                        let pool = if slow { Pool::Slow } else { Pool::Fresh };
                        for _ in 0..work {
                            let before = served.lock().unwrap()[usize::from(slow)].len();
                            let slot = slots.acquire(pool).await.unwrap();
                            {
                                let order: &mut Vec<usize> = &mut served.lock().unwrap()[usize::from(slow)];
                                let others = order[before..].iter().filter(|one| **one != lane);
                                let mut turns = HashMap::new();
                                others.for_each(|one| *turns.entry(*one).or_insert(0) += 1);
                                // One that was called before and comes in now, and one that stood in front.
                                assert!(turns.values().all(|turns| *turns <= 2), "{lane} waited while others had {turns:?}");
                                order.push(lane);
                            }
                            slot.run(tokio::time::sleep(Duration::from_millis(takes))).await;
                        }
                    });
                }
                while let Some(end) = running.join_next().await {
                    end.unwrap();
                }
                let sent: usize = served.lock().unwrap().iter().map(Vec::len).sum();
                assert_eq!(sent, lanes.iter().map(|(work, ..)| *work as usize).sum::<usize>());
            });
        }
    }

    /// Everybody hangs for a while, as when the network or this machine stood still.
    #[tokio::test(start_paused = true)]
    async fn nobody_is_cut_off_while_there_are_places() {
        let slots = Slots::new(8);
        let slow_answer = || async { tokio::time::sleep(PATIENCE * 2).await };
        let mut hanging = tokio::task::JoinSet::new();
        for _ in 0..5 {
            hanging.spawn(slots.acquire(Pool::Fresh).await.unwrap().run(slow_answer()));
        }
        tokio::time::sleep(PATIENCE + LOOK).await;
        assert_eq!(slots.free(), (3, 0), "two moved, and three stay where they are in nobody's way");
        assert_eq!(hanging.join_all().await, [Some(()); 5]);
        // The next time somebody needs the last place.
        let mut hanging = tokio::task::JoinSet::new();
        for _ in 0..5 {
            hanging.spawn(slots.acquire(Pool::Fresh).await.unwrap().run(slow_answer()));
        }
        tokio::time::sleep(PATIENCE + LOOK).await;
        let _all = [(); 3].map(|()| slots.fresh.clone().try_acquire_owned().unwrap());
        let waiting = tokio::time::timeout(LOOK * 2, slots.acquire(Pool::Fresh)).await;
        assert!(waiting.is_ok(), "a place is free in a moment");
        let cut_off = hanging.join_all().await.iter().filter(|end| end.is_none()).count();
        assert!((1..=2).contains(&cut_off), "as many as are waited for, and one more: {cut_off}");
    }
}
