//! Questions that cost much to answer: those that read the whole store, or a good part of it. Few are answered at once, and
//! whoever asks and goes away holds their place until the reading has ended: the thread that reads does not notice that
//! nobody waits any more.
//!
//! Who sits at the machine has places of their own: a program with a token cannot keep them from looking what it does.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::operator::Operator;
use super::problem::Problem;

/// At once, by tokens. Each may read the disk as fast as it goes.
const ELSEWHERE: usize = 2;
/// At once, at the machine.
const HERE: usize = 4;
/// Seconds after which it is worth asking again.
const LATER: u32 = 5;

/// How many are answered. Cheap to clone.
#[derive(Clone)]
pub struct Costly {
    here: Arc<Semaphore>,
    elsewhere: Arc<Semaphore>,
}

impl Default for Costly {
    fn default() -> Self {
        Self { here: Arc::new(Semaphore::new(HERE)), elsewhere: Arc::new(Semaphore::new(ELSEWHERE)) }
    }
}

/// A place among them; to be held by what reads.
pub(in crate::http) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Costly {
    /// A place, if there is one.
    pub(in crate::http) fn place(&self, operator: &Operator) -> Result<Place, Problem> {
        let places = if operator.is_local() { &self.here } else { &self.elsewhere };
        match places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: permit }),
            Err(_none) => {
                let detail = "as much is being read as may be at once";
                Err(Problem::later(StatusCode::SERVICE_UNAVAILABLE, detail, LATER))
            }
        }
    }

    /// Reads, off the threads that answer everybody.
    pub(in crate::http) async fn read<T, E>(
        &self,
        operator: &Operator,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Send + 'static,
        Problem: From<E>,
    {
        let place = self.place(operator)?;
        let holding = move || {
            let _place = place;
            read()
        };
        Ok(tokio::task::spawn_blocking(holding).await??)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn who_asks_and_goes_away_holds_their_place_until_the_reading_ends() {
        let (costly, operator) = (Costly::default(), Operator::local());
        let mut ends = Vec::new();
        for _ in 0..HERE {
            let (end, wait) = mpsc::channel::<()>();
            let (begun, begins) = tokio::sync::oneshot::channel();
            let read = move || {
                let _ = begun.send(());
                let _ = wait.recv();
                Ok::<_, Problem>(())
            };
            // Nobody waits any more as soon as it has begun.
            tokio::select! {
                _ = costly.read(&operator, read) => panic!("it reads until it is told"),
                begun = begins => begun.unwrap(),
            }
            ends.push(end);
        }
        assert!(costly.place(&operator).is_err(), "and it reads on");
        ends.pop();
        while costly.place(&operator).is_err() {
            tokio::task::yield_now().await;
        }
    }
}
