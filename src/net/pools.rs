//! Connections that are kept: a pool for each host, so that there can be a budget for all of them together. reqwest closes what
//! was idle for long, and bounds what one host has; which of ten thousand hosts loses its connections to the others is
//! decided here: the one that was used longest ago. What we read has pools apart from what we deliver: strangers choose whom
//! we read from, and nothing that they choose touches a connection that a delivery needs.
//!
//! Promises: idle connections to all hosts together stay within the budget; a request under way keeps its connection until
//! it has its answer; a host that never answered leaves nothing behind.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

use super::names::GuardedNames;
use super::sessions::{self, Sessions};
use crate::config;

/// How long a connection may take to stand, name look-up included. Longer only keeps slots busy: a server that needs more
/// will not manage the request either.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept per host, and for how long: enough for a steady stream, little enough for ten thousand hosts at
/// 28 KB each. Beyond half of the budget a new pool has one.
const IDLE_PER_HOST: usize = 2;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What reading may have of the budget, one for each host: more hosts than are read from at once, or soon again.
const READING: usize = 256;

/// When there are too many, one in so many goes: the next ones to come find room.
const SHARE: usize = 16;

/// Hosts that are known to take HTTP/2 alone, and for how long: a server that takes both one day is spoken to as everybody then.
const HTTP_2_ONLY: u64 = 1024;
const HTTP_2_ONLY_FOR: Duration = Duration::from_secs(24 * 3600);

/// How much of an answer over HTTP/2 may come before it is read, and in how large a head: in all no more than over HTTP/1.1.
const WINDOW: u32 = 65_535;
const HEAD: u32 = 16 << 10;

/// The version of HTTP that a host is spoken to with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Everybody, and cheaper for what we do.
    Http1,
    /// The few that take nothing else.
    Http2,
}

/// What connections are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// POST: to servers that joined, or asked to.
    Delivering,
    /// GET: from whomever somebody names.
    Reading,
}

impl Use {
    /// One word for metrics labels.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Delivering => "delivering",
            Self::Reading => "reading",
        }
    }
}

/// What every pool is made of.
#[derive(Debug)]
struct Recipe {
    user_agent: String,
    tls: rustls::ClientConfig,
    names: GuardedNames,
    proxy: Option<reqwest::Proxy>,
}

#[derive(Debug)]
struct Pool {
    http: reqwest::Client,
    speaks: Speaks,
    /// Idle connections that it may keep.
    idle: usize,
    answered: Arc<AtomicBool>,
    /// The count of uses when it was last used, and when that was.
    used: u64,
    at: Instant,
}

/// What a request needs of a pool. To be held for one request only.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) http: reqwest::Client,
    pub(super) speaks: Speaks,
    answered: Arc<AtomicBool>,
    /// How many others had to go for it.
    pub(super) closed: usize,
    /// Other pools are there than before.
    pub(super) changed: bool,
}

impl Lent {
    /// The host answered, in whatever way.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

/// All pools of one use, by host and port.
#[derive(Debug)]
pub(super) struct Pools {
    recipe: Recipe,
    budget: usize,
    per_host: usize,
    /// Who takes nothing but HTTP/2; for both uses.
    http_2_only: Cache<Box<str>, ()>,
    sessions: Option<Arc<Sessions>>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    uses: u64,
    /// When pools without a connection were last looked for.
    swept: Instant,
    /// Idle connections that all pools may keep.
    promised: usize,
    pools: HashMap<Box<str>, Pool>,
}

/// How full they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    /// Hosts that connections are kept for.
    pub(super) hosts: usize,
    /// Idle connections that they may keep, of the budget.
    pub(super) connections: usize,
    /// Bytes of TLS sessions.
    pub(super) sessions: usize,
}

/// The pools for delivering and those for reading, with room for `connections` idle ones in all.
///
/// # Errors
/// A file of `net.extra_roots` cannot be read or holds no certificate, the system has no root certificates at all, or
/// `net.proxy` is no URL.
pub(super) fn pools(
    net: &config::Net,
    names: (GuardedNames, GuardedNames),
    user_agent: &str,
    connections: usize,
) -> anyhow::Result<(Pools, Pools)> {
    let proxy = (!net.proxy.is_empty()).then(|| reqwest::Proxy::all(&net.proxy)).transpose().context("net.proxy")?;
    let (tls, sessions) = (tls(net)?, Arc::new(Sessions::new(sessions::MOST)));
    let http_2_only = Cache::builder()
        .max_capacity(HTTP_2_ONLY)
        .eviction_policy(EvictionPolicy::lru())
        .time_to_live(HTTP_2_ONLY_FOR)
        .build();
    let make = |sessions: Option<Arc<Sessions>>, names, budget: usize, per_host| {
        let mut tls = tls.clone();
        tls.resumption = sessions.clone().map_or_else(Resumption::disabled, |sessions| Resumption::store(sessions));
        let recipe = Recipe { user_agent: user_agent.to_owned(), tls, names, proxy: proxy.clone() };
        recipe.pool(Speaks::Http1, per_host).context("building the outbound client")?;
        let kept = Mutex::new(Kept { uses: 0, swept: Instant::now(), promised: 0, pools: HashMap::new() });
        anyhow::Ok(Pools { recipe, budget, per_host, http_2_only: http_2_only.clone(), sessions, kept })
    };
    let reading = READING.min(connections / 8).max(1);
    let delivering = connections.saturating_sub(reading).max(1);
    // Whom we read from strangers choose: how much each has us remember would be theirs to say as well.
    Ok((make(Some(sessions), names.0, delivering, IDLE_PER_HOST)?, make(None, names.1, reading, 1)?))
}

impl Pools {
    /// The pool for this host.
    ///
    /// # Errors
    /// reqwest's; none is known that a first pool would not have had.
    pub(super) fn of(&self, host: &str) -> Result<Lent, reqwest::Error> {
        let idle = {
            let mut kept = self.kept();
            let changed = kept.sweep();
            if let Some(lent) = kept.lend(host) {
                return Ok(Lent { changed, ..lent });
            }
            if kept.promised < self.budget / 2 { self.per_host } else { 1 }
        };
        // It takes a while: not while all others wait.
        let speaks = self.speaks(host);
        let http = self.recipe.pool(speaks, idle)?;
        let mut kept = self.kept();
        // Another request may have been as far.
        if let Some(lent) = kept.lend(host) {
            return Ok(lent);
        }
        let closed = kept.make_room(self.budget.saturating_sub(idle));
        let (used, answered) = (kept.uses, Arc::new(AtomicBool::new(false)));
        let lent = Lent { http: http.clone(), speaks, answered: answered.clone(), closed, changed: true };
        kept.promised += idle;
        kept.pools.insert(host.into(), Pool { http, speaks, idle, answered, used, at: Instant::now() });
        Ok(lent)
    }

    /// This host does not speak what it was `tried` with: from now on the other. Whether that is news, and not what somebody
    /// else found out meanwhile.
    pub(super) fn switch(&self, host: &str, tried: Speaks) -> bool {
        self.forget(host);
        if self.speaks(host) != tried {
            return false;
        }
        match tried {
            Speaks::Http1 => self.http_2_only.insert(host.into(), ()),
            Speaks::Http2 => self.http_2_only.invalidate(host),
        }
        true
    }

    /// What is kept for this host is of no use.
    pub(super) fn forget(&self, host: &str) {
        self.kept().remove(host);
    }

    /// The connection to this host broke. If that is all that ever came over HTTP/2, it may take HTTP/1.1 by now.
    pub(super) fn broken(&self, host: &str) {
        let gone = self.kept().remove(host);
        if gone.is_some_and(|pool| pool.speaks == Speaks::Http2 && !pool.has_answered()) {
            self.http_2_only.invalidate(host);
        }
    }

    /// This host did not answer in time. Over HTTP/1.1 the connection that it was asked over is closed by that, and the other
    /// one may be good; over HTTP/2 all use the one that hangs.
    pub(super) fn silent(&self, host: &str) {
        let speaks = self.kept().pools.get(host).map(|pool| (pool.speaks, pool.has_answered()));
        if matches!(speaks, Some((Speaks::Http2, _) | (_, false))) {
            self.broken(host);
        }
    }

    /// A request to this host came to nothing, for a reason that says nothing about its connections. Another one may be about to
    /// have an answer.
    pub(super) fn in_vain(&self, host: &str) {
        let mut kept = self.kept();
        if kept.pools.get(host).is_some_and(|pool| !pool.has_answered() && !pool.is_lent()) {
            kept.remove(host);
        }
    }

    /// How full they are.
    pub(super) fn fill(&self) -> Fill {
        let sessions = self.sessions.as_ref().map_or(0, |sessions| sessions.bytes());
        let kept = self.kept();
        Fill { hosts: kept.pools.len(), connections: kept.promised, sessions }
    }

    fn speaks(&self, host: &str) -> Speaks {
        if self.http_2_only.contains_key(host) { Speaks::Http2 } else { Speaks::Http1 }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether a request is under way.
    fn is_lent(&self) -> bool {
        Arc::strong_count(&self.answered) > 1
    }
}

impl Kept {
    fn lend(&mut self, host: &str) -> Option<Lent> {
        self.uses += 1;
        let pool = self.pools.get_mut(host)?;
        (pool.used, pool.at) = (self.uses, Instant::now());
        let (http, answered) = (pool.http.clone(), pool.answered.clone());
        Some(Lent { http, speaks: pool.speaks, answered, closed: 0, changed: false })
    }

    fn remove(&mut self, host: &str) -> Option<Pool> {
        let gone = self.pools.remove(host)?;
        self.promised -= gone.idle;
        Some(gone)
    }

    /// Drops the pools whose connections were closed for being idle, from time to time; whether it looked.
    fn sweep(&mut self) -> bool {
        let now = Instant::now();
        let is_time = now.duration_since(self.swept) > IDLE_TIMEOUT;
        if is_time {
            self.swept = now;
            self.retain(|pool| now.duration_since(pool.at) <= IDLE_TIMEOUT);
        }
        is_time
    }

    /// Closes those that were used longest ago until no more than `room` is promised: a share of all at once, so that not
    /// each new host has to look through all. How many.
    fn make_room(&mut self, room: usize) -> usize {
        let before = self.pools.len();
        while self.promised > room
            && let Some(youngest) = oldest(self.pools.values().map(|pool| pool.used))
        {
            self.retain(|pool| pool.used > youngest);
        }
        before - self.pools.len()
    }

    fn retain(&mut self, stays: impl Fn(&Pool) -> bool) {
        let Self { promised, pools, .. } = self;
        pools.retain(|_, pool| {
            let stays = stays(pool);
            *promised -= if stays { 0 } else { pool.idle };
            stays
        });
    }
}

/// Of counts of uses the one up to which those are that go, if a share of all has to; `None` if there are none.
pub(super) fn oldest(uses: impl Iterator<Item = u64>) -> Option<u64> {
    let mut uses: Vec<u64> = uses.collect();
    let share = uses.len() / SHARE;
    if uses.is_empty() { None } else { Some(*uses.select_nth_unstable(share).1) }
}

impl Recipe {
    fn pool(&self, speaks: Speaks, idle: usize) -> Result<reqwest::Client, reqwest::Error> {
        #[expect(clippy::disallowed_methods, reason = "the one place that builds the one outbound client")]
        let builder = reqwest::Client::builder();
        let mut tls = self.tls.clone();
        let (alpn, builder) = match speaks {
            Speaks::Http1 => ("http/1.1", builder.http1_only()),
            Speaks::Http2 => ("h2", builder.http2_prior_knowledge()),
        };
        tls.alpn_protocols = vec![alpn.into()];
        let builder = builder
            .user_agent(&self.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(idle)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(WINDOW * 4)
            .http2_max_header_list_size(HEAD)
            .tcp_nodelay(true)
            .tls_backend_preconfigured(tls)
            .dns_resolver(self.names.clone());
        match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        }
        .build()
    }
}

/// The system's roots and those of `net.extra_roots`.
fn tls(net: &config::Net) -> anyhow::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra_roots(net)?, provider.clone()).context("root certificates")?;
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    // "Dangerous" is any verifier that is not rustls' own; this one is the platform's.
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

fn extra_roots(net: &config::Net) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let mut roots = Vec::new();
    for path in &net.extra_roots {
        let wrong = || format!("net.extra_roots: {}", path.display());
        let bytes = std::fs::read(path).with_context(wrong)?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().with_context(wrong)?;
        anyhow::ensure!(!found.is_empty(), "{}: holds no PEM certificate", wrong());
        roots.extend(found);
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::super::guard::Guard;
    use super::super::names::Names;
    use super::*;
    use crate::config::Config;

    fn both(connections: usize) -> (Pools, Pools) {
        let names = GuardedNames::new(Guard::new(&[], false), Names::System, None);
        let names = (names.clone(), names.apart());
        super::pools(&Config::embedded().net, names, "shearwater/test", connections).unwrap()
    }

    /// Those for delivering, with room for so many.
    fn pools(budget: usize) -> Pools {
        Pools { budget, ..both(budget).0 }
    }

    fn held(pools: &Pools) -> Vec<String> {
        let mut hosts: Vec<String> = pools.kept().pools.keys().map(ToString::to_string).collect();
        hosts.sort();
        hosts
    }

    #[test]
    fn beyond_the_budget_the_pools_used_longest_ago_go_first() {
        let pools = pools(4);
        for host in ["a", "b", "c"] {
            assert_eq!(pools.of(host).unwrap().closed, 0);
        }
        assert_eq!(pools.fill().connections, 4, "two, and beyond half of the budget one each");
        pools.of("a").unwrap();
        assert_eq!(pools.of("d").unwrap().closed, 1);
        assert_eq!(held(&pools), ["a", "c", "d"]);
        pools.of("a").unwrap();
        pools.of("e").unwrap();
        assert_eq!((held(&pools), pools.fill().connections), (vec!["a".into(), "d".into(), "e".into()], 4));
        let (delivering, reading) = both(0);
        assert_eq!((delivering.budget, reading.budget), (1, 1), "one at least");
    }

    /// What the default is for: ten thousand subscribers, each asked in turn.
    #[test]
    fn three_quarters_as_many_hosts_as_connections_all_keep_theirs() {
        let pools = pools(400);
        for _ in 0..2 {
            let closed: usize = (0..300).map(|host| pools.of(&format!("{host:03}")).unwrap().closed).sum();
            assert_eq!((closed, pools.fill().hosts, pools.fill().connections), (0, 300, 400));
        }
        let wanted = Config::embedded().net.connections;
        assert_eq!(crate::telemetry::Taker::Kept.room(Some(65_536), wanted), wanted, "as many as the daemon asks for");
        let most = wanted - READING;
        assert!(most / 4 * 3 >= 10_000, "{most} connections");
    }

    #[test]
    fn of_many_a_share_goes_at_once() {
        let pools = pools(160);
        let closed: Vec<usize> = (0..125).map(|host| pools.of(&format!("{host:03}")).unwrap().closed).collect();
        assert_eq!(closed[..120].iter().sum::<usize>(), 0);
        assert_eq!((closed[120], closed[121..].iter().sum::<usize>()), (8, 0));
        assert_eq!(held(&pools).first().unwrap(), "008");
        let kept = pools.kept();
        assert_eq!(kept.promised, kept.pools.values().map(|pool| pool.idle).sum::<usize>(), "the count is right");
    }

    #[test]
    fn only_what_a_fault_speaks_against_is_forgotten() {
        let pools = pools(100);
        for host in ["a", "b", "c", "d", "e"] {
            let lent = pools.of(host).unwrap();
            if host != "b" {
                lent.answered();
            }
        }
        let under_way = pools.of("b").unwrap();
        pools.in_vain("b");
        assert_eq!(held(&pools).len(), 5, "another request may have an answer yet");
        drop(under_way);
        for host in ["a", "b"] {
            pools.in_vain(host);
            pools.silent(host);
        }
        assert_eq!(held(&pools), ["a", "c", "d", "e"], "who answered before keeps its connections");
        pools.forget("c");
        assert!(pools.switch("d", Speaks::Http1));
        pools.of("d").unwrap().answered();
        pools.in_vain("d");
        assert_eq!(held(&pools), ["a", "d", "e"]);
        pools.silent("d");
        assert_eq!(held(&pools), ["a", "e"], "over HTTP/2 all hang on one connection");
        // And who was not asked for long.
        let past = Instant::now().checked_sub(IDLE_TIMEOUT * 2).unwrap();
        pools.kept().swept = past;
        pools.kept().pools.get_mut("a").unwrap().at = past;
        pools.of("e").unwrap();
        assert_eq!((held(&pools), pools.fill().connections), (vec!["e".to_owned()], 2));
    }

    #[test]
    fn a_host_that_speaks_something_else_is_spoken_to_so_and_back() {
        let (pools, reading) = both(100);
        let speaks = || pools.of("a").unwrap().speaks;
        assert_eq!(speaks(), Speaks::Http1);
        assert!(pools.switch("a", Speaks::Http1));
        assert_eq!(speaks(), Speaks::Http2);
        assert!(!pools.switch("a", Speaks::Http1), "two requests found the same out");
        assert_eq!((speaks(), reading.of("a").unwrap().speaks), (Speaks::Http2, Speaks::Http2));
        pools.forget("a");
        assert_eq!(speaks(), Speaks::Http2, "that outlives the connections");
        assert!(pools.switch("a", Speaks::Http2));
        assert_eq!(speaks(), Speaks::Http1);
        // One that takes HTTP/1.1 by now and makes nothing of HTTP/2.
        for fails in [Pools::broken, Pools::silent] {
            pools.switch("a", Speaks::Http1);
            pools.of("a").unwrap().answered();
            fails(&pools, "a");
            assert_eq!(speaks(), Speaks::Http2, "it answered so: that once says nothing");
            fails(&pools, "a");
            assert_eq!(speaks(), Speaks::Http1);
        }
    }

    #[test]
    fn however_many_take_nothing_but_http_2_a_bounded_number_is_remembered() {
        let pools = pools(4);
        for host in 0..HTTP_2_ONLY * 3 {
            pools.switch(&host.to_string(), Speaks::Http1);
        }
        pools.http_2_only.run_pending_tasks();
        assert!(pools.http_2_only.entry_count() <= HTTP_2_ONLY, "{}", pools.http_2_only.entry_count());
    }
}
