//! Connections that are kept: a pool for each host, so that there can be a budget for all of them together. reqwest closes what
//! was idle for long, and bounds what one host has; which of ten thousand hosts loses its connections to the others is
//! decided here: the one that was used longest ago. All pools share one TLS configuration, and so what it remembers.
//!
//! Promises: idle connections to all hosts together stay within the budget; a request under way keeps its connection until
//! it has its answer; a host that does not answer leaves nothing behind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

use super::names::GuardedNames;
use crate::config;

/// How long a connection may take to stand, name look-up included. Longer only keeps slots busy: a server that needs more
/// will not manage the request either.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Idle connections kept per host, and for how long: enough for a steady stream, little enough for ten thousand hosts at
/// 28 KB each.
const IDLE_PER_HOST: usize = 2;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Servers whose TLS sessions are remembered (a few kilobytes each): a connection that is made anew costs a third then.
/// rustls alone would remember 32, and forget each before its turn comes again.
const SESSIONS: usize = 4096;

/// rustls counts tickets, of which it keeps up to eight for a server.
const TICKETS: usize = 8;

/// When there are too many pools, one in so many goes: the next ones to come find room.
const SHARE: usize = 16;

/// The version of HTTP that a host is spoken to with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Everybody, and cheaper for what we do.
    Http1,
    /// The few that take nothing else.
    Http2,
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
    /// The count of uses when it was last used, and when that was.
    used: u64,
    at: Instant,
}

/// What a request needs of a pool. To be held for one request only.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) http: reqwest::Client,
    pub(super) speaks: Speaks,
    /// How many others had to go for it.
    pub(super) closed: usize,
}

/// All pools, by host and port.
#[derive(Debug)]
pub(super) struct Pools {
    recipe: Recipe,
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    uses: u64,
    /// When pools without a connection were last looked for.
    swept: Instant,
    pools: HashMap<Box<str>, Pool>,
}

impl Pools {
    /// Room for `connections` idle ones.
    ///
    /// # Errors
    /// A file of `net.extra_roots` cannot be read or holds no certificate, the system has no root certificates at all, or
    /// `net.proxy` is no URL.
    pub(super) fn new(
        net: &config::Net,
        names: GuardedNames,
        user_agent: &str,
        connections: usize,
    ) -> anyhow::Result<Self> {
        let proxy =
            (!net.proxy.is_empty()).then(|| reqwest::Proxy::all(&net.proxy)).transpose().context("net.proxy")?;
        let recipe = Recipe { user_agent: user_agent.to_owned(), tls: tls(net)?, names, proxy };
        recipe.pool(Speaks::Http1).context("building the outbound client")?;
        let kept = Kept { uses: 0, swept: Instant::now(), pools: HashMap::new() };
        Ok(Self { recipe, most: (connections / IDLE_PER_HOST).max(1), kept: Mutex::new(kept) })
    }

    /// The pool for this host.
    ///
    /// # Errors
    /// reqwest's; none is known that a first pool would not have had.
    pub(super) fn of(&self, host: &str) -> Result<Lent, reqwest::Error> {
        let (mut kept, now) = (self.kept(), Instant::now());
        let Kept { uses, swept, pools } = &mut *kept;
        *uses += 1;
        if let Some(pool) = pools.get_mut(host) {
            (pool.used, pool.at) = (*uses, now);
            return Ok(Lent { http: pool.http.clone(), speaks: pool.speaks, closed: 0 });
        }
        if now.duration_since(*swept) > IDLE_TIMEOUT {
            *swept = now;
            pools.retain(|_, pool| now.duration_since(pool.at) <= IDLE_TIMEOUT);
        }
        let closed = if pools.len() < self.most { 0 } else { close_oldest(pools) };
        let (speaks, http) = (Speaks::Http1, self.recipe.pool(Speaks::Http1)?);
        pools.insert(host.into(), Pool { http: http.clone(), speaks, used: *uses, at: now });
        Ok(Lent { http, speaks, closed })
    }

    /// This host does not speak what it was `tried` with: from now on the other; which that is. `None`: somebody else found
    /// that out meanwhile.
    ///
    /// # Errors
    /// As [`Pools::of`].
    pub(super) fn switch(&self, host: &str, tried: Speaks) -> Result<Option<Speaks>, reqwest::Error> {
        let mut kept = self.kept();
        let Kept { uses, pools, .. } = &mut *kept;
        if pools.get(host).is_some_and(|pool| pool.speaks != tried) {
            return Ok(None);
        }
        let speaks = match tried {
            Speaks::Http1 => Speaks::Http2,
            Speaks::Http2 => Speaks::Http1,
        };
        let http = self.recipe.pool(speaks)?;
        pools.insert(host.into(), Pool { http, speaks, used: *uses, at: Instant::now() });
        Ok(Some(speaks))
    }

    /// This host did not answer: what was kept for it is of no use.
    pub(super) fn forget(&self, host: &str) {
        self.kept().pools.remove(host);
    }

    /// Hosts that something is kept for.
    #[cfg(test)]
    pub(super) fn hosts(&self) -> usize {
        self.kept().pools.len()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recipe {
    fn pool(&self, speaks: Speaks) -> Result<reqwest::Client, reqwest::Error> {
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
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .pool_idle_timeout(IDLE_TIMEOUT)
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

/// Closes the pools that were used longest ago: a share of all, so that not each new host has to look through all. How many.
fn close_oldest(pools: &mut HashMap<Box<str>, Pool>) -> usize {
    let before = pools.len();
    let mut uses: Vec<u64> = pools.values().map(|pool| pool.used).collect();
    if uses.is_empty() {
        return 0;
    }
    let (_, youngest, _) = uses.select_nth_unstable(before / SHARE);
    let youngest = *youngest;
    pools.retain(|_, pool| pool.used > youngest);
    before - pools.len()
}

/// The system's roots and those of `net.extra_roots`; what servers know us by again.
fn tls(net: &config::Net) -> anyhow::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra_roots(net)?, provider.clone()).context("root certificates")?;
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    // "Dangerous" is any verifier that is not rustls' own; this one is the platform's.
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut tls = builder.with_no_client_auth();
    tls.resumption = Resumption::in_memory_sessions(SESSIONS * TICKETS);
    Ok(tls)
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

    fn pools(connections: usize) -> Pools {
        let names = GuardedNames::new(Guard::new(&[], false), Names::System, None);
        Pools::new(&Config::embedded().net, names, "shearwater/test", connections).unwrap()
    }

    fn held(pools: &Pools) -> Vec<String> {
        let mut hosts: Vec<String> = pools.kept().pools.keys().map(ToString::to_string).collect();
        hosts.sort();
        hosts
    }

    #[test]
    fn beyond_the_budget_the_pools_used_longest_ago_go_first() {
        let pools = pools(6);
        for host in ["a", "b", "c"] {
            assert_eq!(pools.of(host).unwrap().closed, 0);
        }
        pools.of("a").unwrap();
        assert_eq!(pools.of("d").unwrap().closed, 1);
        assert_eq!(held(&pools), ["a", "c", "d"], "two connections each: three hosts");
        pools.of("e").unwrap();
        assert_eq!(held(&pools), ["a", "d", "e"]);
        assert_eq!(self::pools(0).most, 1, "one at least");
    }

    #[test]
    fn of_many_a_share_goes_at_once() {
        let pools = pools(160);
        let closed: Vec<usize> = (0..86).map(|host| pools.of(&format!("{host:03}")).unwrap().closed).collect();
        assert_eq!((closed[80], closed[81..].iter().sum::<usize>()), (6, 0));
        assert_eq!(held(&pools).first().unwrap(), "006");
    }

    #[test]
    fn who_does_not_answer_and_who_was_not_asked_for_long_leaves_nothing_behind() {
        let pools = pools(100);
        for host in ["a", "b", "c"] {
            pools.of(host).unwrap();
        }
        pools.forget("b");
        assert_eq!(held(&pools), ["a", "c"]);
        let past = Instant::now().checked_sub(IDLE_TIMEOUT * 2).unwrap();
        pools.kept().swept = past;
        pools.kept().pools.get_mut("a").unwrap().at = past;
        pools.of("d").unwrap();
        assert_eq!(held(&pools), ["c", "d"]);
    }

    #[test]
    fn a_host_that_speaks_something_else_is_spoken_to_so_and_back() {
        let pools = pools(6);
        let speaks = || pools.of("a").unwrap().speaks;
        assert_eq!(speaks(), Speaks::Http1);
        assert_eq!(pools.switch("a", Speaks::Http1).unwrap(), Some(Speaks::Http2));
        assert_eq!(speaks(), Speaks::Http2);
        assert_eq!(pools.switch("a", Speaks::Http1).unwrap(), None, "two requests found the same out");
        assert_eq!(speaks(), Speaks::Http2);
        assert_eq!(pools.switch("a", Speaks::Http2).unwrap(), Some(Speaks::Http1));
        assert_eq!(speaks(), Speaks::Http1);
    }
}
