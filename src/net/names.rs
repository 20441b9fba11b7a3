//! Where a name leads: whom the outbound client asks. Looked up once, judged by the guard, and kept for a minute; what is
//! dialled are the very addresses that were judged.
//!
//! Promises: nothing is kept that the guard refused, nor more than [`KEPT`] names of [`ADDRESSES`] addresses; however many
//! wait for a name, it is looked up once; a host that a delivery could not reach is looked up anew; names that we read from
//! take no look-ups from those that we deliver to.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use moka::{future, sync};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::client::{NetFault, is_exhausted};
use super::guard::{Guard, Refused};

/// Name look-ups under way at once, for deliveries and as many for what is read. Each holds a thread until the system's
/// resolver gives up, which no deadline of ours can shorten; a cap below tokio's 512 leaves threads for everybody else.
const LOOKUPS: usize = 64;

/// Look-ups of `net.proxy`'s own name.
const LOOKUPS_OF_PROXY: usize = 8;

/// How long a request that goes through `net.proxy` waits for this machine to say whether its name leads inside. The proxy
/// looks it up as well, and there is often no other way to do that.
const LOCAL_LOOKUP: Duration = Duration::from_millis(300);

/// Addresses of one name that are tried. Honest servers have two or four; a thousand dead ones would eat the deadline.
const ADDRESSES: usize = 8;

/// Names kept, and for how long: the system does not say how long its answers are good for. Connections that stand need no
/// look-up, so longer saves little, and a server that moved is found a minute later at the latest.
const KEPT: u64 = 10_000;
const KEPT_FOR: Duration = Duration::from_secs(60);

/// A stand-in for DNS: each call may answer differently.
pub type Script = Arc<dyn Fn(&str) -> Vec<IpAddr> + Send + Sync>;

/// Who turns names into addresses. Either way the guard judges what they say.
#[derive(Clone)]
pub enum Names {
    /// The operating system.
    System,
    /// A function that tests give.
    Scripted(Script),
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Scripted(_) => "Scripted",
        })
    }
}

/// The resolver that reqwest asks. Cheap to clone; all clones share what is kept, and look-ups unless they are `apart`.
#[derive(Debug, Clone)]
pub(super) struct GuardedNames {
    known: Arc<Known>,
    /// Look-ups under way, by name.
    asked: future::Cache<String, Arc<[IpAddr]>>,
    lookups: Arc<Semaphore>,
}

#[derive(Debug)]
struct Known {
    guard: Guard,
    names: Names,
    kept: sync::Cache<String, Arc<[IpAddr]>>,
    proxy: Option<Proxy>,
}

/// What goes for requests through `net.proxy`.
#[derive(Debug)]
struct Proxy {
    /// Its own name: the operator's, wherever it leads.
    host: String,
    lookups: Arc<Semaphore>,
    /// What came of asking this machine, where that was no address: a refusal, or nothing.
    told: sync::Cache<String, Option<Refused>>,
}

impl GuardedNames {
    pub(super) fn new(guard: Guard, names: Names, proxy: Option<&str>) -> Self {
        let kept = sync::Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build();
        let proxy = proxy.map(|host| Proxy {
            host: host.to_owned(),
            lookups: Arc::new(Semaphore::new(LOOKUPS_OF_PROXY)),
            told: sync::Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build(),
        });
        Self::asking(Arc::new(Known { guard, names, kept, proxy }))
    }

    /// The same names, with look-ups that take no place from those of `self`, nor wait for one of them.
    pub(super) fn apart(&self) -> Self {
        Self::asking(self.known.clone())
    }

    fn asking(known: Arc<Known>) -> Self {
        let asked = future::Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build();
        Self { known, asked, lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }

    /// Where `name` leads, if it may be dialled.
    ///
    /// One address that is not public spoils the name: a name that leads both outside and inside is an attack or a mistake.
    pub(super) async fn addresses(&self, name: &str) -> Result<Arc<[IpAddr]>, NetFault> {
        if let Some(found) = self.known.kept.get(name) {
            return Ok(found);
        }
        let look_up = async {
            let (known, name) = (self.known.clone(), name.to_owned());
            on_a_thread(self.lookups.clone(), move || known.look_up(&name)).await
        };
        let found = self.asked.try_get_with_by_ref(name, look_up).await;
        // Whoever comes now finds it where it is kept.
        self.asked.invalidate(name).await;
        found.map_err(|fault| NetFault::clone(&fault))
    }

    /// Whether this machine itself sees, and soon, that `name` may not be dialled: for requests that a proxy carries.
    pub(super) async fn refuses(&self, name: &str) -> Option<Refused> {
        let proxy = self.known.proxy.as_ref()?;
        if let Some(told) = proxy.told.get(name) {
            return told;
        }
        match tokio::time::timeout(LOCAL_LOOKUP, self.addresses(name)).await {
            Ok(Err(NetFault::Refused(refused))) => Some(refused),
            Ok(Ok(_) | Err(NetFault::Exhausted)) => None,
            // If it does tell later, that is in there already or comes in.
            Ok(Err(_)) | Err(_) => proxy.told.get_with_by_ref(name, || None),
        }
    }

    /// What was behind `name` could not be reached: it is looked up again.
    pub(super) fn forget(&self, name: &str) {
        self.known.kept.invalidate(name);
    }
}

impl Known {
    /// Asks, judges and keeps. Whoever wanted to know may have given up meanwhile: the next one does not begin anew.
    fn look_up(&self, name: &str) -> Result<Arc<[IpAddr]>, NetFault> {
        let found = self.ask(name)?;
        if let Some(address) = found.iter().find(|address| !self.guard.permits(**address)) {
            let refused = Refused::Address(*address);
            if let Some(proxy) = &self.proxy {
                proxy.told.insert(name.to_owned(), Some(refused.clone()));
            }
            return Err(refused.into());
        }
        let found: Arc<[IpAddr]> = found.into_iter().take(ADDRESSES).collect();
        self.kept.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    fn ask(&self, name: &str) -> Result<Vec<IpAddr>, NetFault> {
        if let Some(address) = self.guard.known(name) {
            return Ok(vec![address]);
        }
        let found = match &self.names {
            Names::Scripted(script) => Ok(script(name)),
            Names::System => (name, 0).to_socket_addrs().map(|all| all.map(|address| address.ip()).collect()),
        };
        match found {
            Ok(found) if found.is_empty() => Err(NetFault::Dns),
            Ok(found) => Ok(found),
            Err(error) if is_exhausted(&error) => Err(NetFault::Exhausted),
            Err(_cause) => Err(NetFault::Dns),
        }
    }
}

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let name = name.as_str();
            let found = match &names.known.proxy {
                Some(proxy) if proxy.host == *name => {
                    let (known, name) = (names.known.clone(), name.to_owned());
                    on_a_thread(proxy.lookups.clone(), move || known.ask(&name)).await?.into()
                }
                _ => names.addresses(name).await?,
            };
            // Port 0 means: the URL's.
            let addresses: Vec<_> = found.iter().map(|address| SocketAddr::new(*address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// On a blocking thread that keeps its place in the count until it is done.
async fn on_a_thread<T: Send + 'static>(
    lookups: Arc<Semaphore>,
    look_up: impl FnOnce() -> Result<T, NetFault> + Send + 'static,
) -> Result<T, NetFault> {
    let place = lookups.acquire_owned().await.map_err(|_closed| NetFault::Dns)?;
    let thread = tokio::task::spawn_blocking(move || {
        let _place = place;
        look_up()
    });
    thread.await.map_err(|_panic| NetFault::Dns)?
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    /// Names that say of each look-up what comes next of `answers`, and how often they were asked.
    fn names(answers: &[&[&str]]) -> (GuardedNames, Arc<Mutex<usize>>) {
        let answers: Vec<Vec<IpAddr>> =
            answers.iter().map(|one| one.iter().map(|text| text.parse().unwrap()).collect()).collect();
        let asked = Arc::new(Mutex::new(0));
        let count = asked.clone();
        let script = Names::Scripted(Arc::new(move |_| {
            let mut count = count.lock().unwrap();
            *count += 1;
            answers.get(*count - 1).or(answers.last()).cloned().unwrap_or_default()
        }));
        (GuardedNames::new(Guard::new(&[], false), script, None), asked)
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_for_all_who_ask_and_again_when_it_did_not_answer() {
        let (names, asked) = names(&[&["1.1.1.1"], &["9.9.9.9"]]);
        let (one, two) = tokio::join!(names.addresses("a.example"), names.addresses("a.example"));
        assert_eq!(one.unwrap()[..], two.unwrap()[..]);
        names.addresses("a.example").await.unwrap();
        assert_eq!(*asked.lock().unwrap(), 1);
        names.forget("a.example");
        assert_eq!(names.addresses("a.example").await.unwrap()[..], ["9.9.9.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(*asked.lock().unwrap(), 2);
    }

    #[tokio::test]
    async fn what_the_guard_refuses_and_what_has_no_address_is_not_kept() {
        let inside = "10.0.0.1".parse().unwrap();
        let (names, asked) = names(&[&["1.1.1.1", "10.0.0.1"], &[], &["10.0.0.1"], &["1.1.1.1"]]);
        let refused = NetFault::Refused(Refused::Address(inside));
        assert_eq!(names.addresses("a.example").await.unwrap_err(), refused, "whole");
        assert_eq!(names.addresses("a.example").await.unwrap_err(), NetFault::Dns);
        assert_eq!(names.addresses("a.example").await.unwrap_err(), refused);
        assert!(names.addresses("a.example").await.is_ok());
        assert_eq!(*asked.lock().unwrap(), 4);
    }

    /// A resolver that says nothing of any name but `good.example` until this is dropped.
    struct Slow {
        open: Arc<AtomicBool>,
        /// Look-ups that hang.
        asking: Arc<AtomicUsize>,
    }

    impl Slow {
        fn new(proxy: Option<&str>) -> (Self, GuardedNames) {
            let slow = Self { open: Arc::default(), asking: Arc::default() };
            let (open, asking) = (slow.open.clone(), slow.asking.clone());
            let script = Names::Scripted(Arc::new(move |name: &str| {
                if name != "good.example" {
                    asking.fetch_add(1, Ordering::SeqCst);
                    while !open.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    asking.fetch_sub(1, Ordering::SeqCst);
                }
                vec![if name.starts_with("inside") { "10.0.0.1" } else { "1.1.1.1" }.parse().unwrap()]
            }));
            (slow, GuardedNames::new(Guard::new(&[], false), script, proxy))
        }

        fn asking(&self) -> usize {
            self.asking.load(Ordering::SeqCst)
        }

        async fn ends(self) {
            self.open.store(true, Ordering::SeqCst);
            eventually("the look-ups end", || self.asking() == 0).await;
        }
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            self.open.store(true, Ordering::SeqCst);
        }
    }

    async fn eventually(what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..2000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}");
    }

    #[tokio::test]
    async fn slow_names_of_strangers_take_no_look_up_from_a_delivery() {
        let (slow, delivering) = Slow::new(None);
        let reading = delivering.apart();
        let mut strangers = tokio::task::JoinSet::new();
        for number in 0..200 {
            let reading = reading.clone();
            strangers.spawn(async move { reading.addresses(&format!("n{number}.evil.example")).await });
        }
        // One of them names the very host.
        strangers.spawn(async move { reading.addresses("good.example").await });
        eventually("all places are taken", || slow.asking() == LOOKUPS).await;
        let found = tokio::time::timeout(Duration::from_secs(10), delivering.addresses("good.example")).await;
        assert!(found.is_ok_and(|found| found.is_ok()), "a delivery has places of its own");
        assert_eq!(slow.asking(), LOOKUPS, "and strangers no more than theirs");
        strangers.shutdown().await;
        slow.ends().await;
        eventually("what nobody waits for any more is known all the same", || {
            delivering.known.kept.contains_key("n0.evil.example")
        })
        .await;
    }

    #[tokio::test]
    async fn behind_a_proxy_a_look_up_that_hangs_holds_up_one_request_and_for_a_moment() {
        let (slow, names) = Slow::new(Some("proxy.lan"));
        for name in ["a.example", "inside.example"] {
            let told = tokio::time::timeout(Duration::from_secs(10), names.refuses(name)).await;
            assert_eq!(told, Ok(None), "{name} goes to the proxy");
        }
        for _ in 0..1000 {
            assert_eq!(names.refuses("a.example").await, None);
        }
        assert_eq!(slow.asking(), 2, "each name is asked for once");
        slow.ends().await;
        let inside = Refused::Address("10.0.0.1".parse().unwrap());
        let proxy = names.known.proxy.as_ref().unwrap();
        eventually("what is said late counts from then on", || {
            proxy.told.get("inside.example") == Some(Some(inside.clone()))
        })
        .await;
        assert_eq!(names.refuses("inside.example").await, Some(inside));
    }

    #[tokio::test]
    async fn of_a_thousand_addresses_all_are_judged_and_a_few_are_kept() {
        let mut many = vec!["1.1.1.1"; 1000];
        let (names, _) = names(&[&many]);
        assert_eq!(names.addresses("a.example").await.unwrap().len(), ADDRESSES);
        many.push("127.0.0.1");
        let (names, _) = self::names(&[&many]);
        assert!(matches!(names.addresses("a.example").await, Err(NetFault::Refused(_))));
    }
}
