//! A relay with subscribers of one kind, and a server whose author posts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use shearwater::config;
use shearwater::demo::{Composed, Family, Instance, Options, PostSpec, Swarm, SwarmOptions};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::relay::{LONG, TestRelay};

/// Posts that the poster sends at once.
pub(crate) const POSTS_AT_ONCE: usize = 4;

/// A relay, its subscribers, and somebody who posts.
pub(crate) struct Stage {
    pub(crate) relay: TestRelay,
    pub(crate) swarm: Swarm,
    pub(crate) poster: Arc<Instance>,
}

impl Stage {
    pub(crate) async fn set(
        family: Family,
        subscribers: usize,
        delay: Duration,
        change: impl FnOnce(&mut config::Delivery),
    ) -> anyhow::Result<Self> {
        let relay = TestRelay::start(|config| change(&mut config.delivery)).await?;
        let poster =
            Instance::start(Family::Mastodon, Options { name: "poster".to_owned(), ..Options::default() }).await?;
        let answer = poster.join(relay.url()).await?;
        ensure!(answer.is_ok() && poster.wait_accepted(LONG).await, "the poster is not accepted: {}", answer.text());
        let swarm = Swarm::start(subscribers, SwarmOptions { family, delay, ..SwarmOptions::default() }).await?;
        let taken = swarm.join_all(relay.url(), 32).await?;
        ensure!(taken == number(subscribers), "{taken} of {subscribers} may join");
        ensure!(swarm.wait_accepted(taken, LONG).await, "{} of {taken} are accepted", swarm.accepted());
        Ok(Self { relay, swarm, poster: Arc::new(poster) })
    }

    pub(crate) fn compose(&self, posts: usize) -> Vec<Composed> {
        let text = "The herons are back at the weir, five of them, and nobody has told the fish. ".repeat(5);
        (0..posts).map(|_| self.poster.compose(&PostSpec::public(&text))).collect()
    }

    /// Sends the posts to the relay, a few at a time; all must be taken.
    pub(crate) async fn post(&self, posts: Vec<Composed>) -> anyhow::Result<()> {
        let gate = Arc::new(Semaphore::new(POSTS_AT_ONCE));
        let mut sending = JoinSet::new();
        for post in posts {
            let (gate, poster) = (gate.clone(), self.poster.clone());
            sending.spawn(async move {
                let _place = gate.acquire().await?;
                let posted = poster.send(&post).await?;
                ensure!(posted.status() == 202, "{posted:?}");
                Ok(())
            });
        }
        while let Some(sent) = sending.join_next().await {
            sent??;
        }
        Ok(())
    }

    /// Posts until everybody is forwarded to, and once more for each request that may be under way; the body of a post.
    pub(crate) async fn warm_up(&self) -> anyhow::Result<Bytes> {
        let mut forwarded = 0;
        for _ in 0..20 {
            // What a lane knows of a server it did not know is read anew after half a second.
            tokio::time::sleep(Duration::from_millis(600)).await;
            let posts = self.compose(1);
            let body = posts.first().map(|post| Bytes::from(post.activity.to_string())).context("a post")?;
            let (bytes, everybody) = (self.swarm.bytes(), number(self.swarm.per_subscriber().len()));
            let target = self.swarm.received() + everybody;
            self.post(posts).await?;
            ensure!(self.swarm.wait_received(target, LONG).await, "a post does not come through");
            forwarded += usize::from(self.swarm.bytes() - bytes == everybody * number(body.len()));
            if forwarded == 3 {
                return Ok(body);
            }
        }
        anyhow::bail!("posts are not forwarded")
    }

    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.relay.stop().await
    }
}

const fn number(of: usize) -> u64 {
    of as u64
}
