//! Where a name leads: whom the outbound client asks. Looked up once, judged by the guard, and kept for a minute; what is
//! dialled are the very addresses that were judged.
//!
//! Promises: nothing is kept that the guard refused, nor more than [`KEPT`] names of [`ADDRESSES`] addresses; however many
//! wait for a name, it is looked up once; a host that could not be reached is looked up anew.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::client::{NetFault, is_exhausted};
use super::guard::{Guard, Refused};

/// Name look-ups under way at once. Each holds a thread until the system's resolver gives up, which no deadline of ours
/// can shorten; a cap below tokio's 512 leaves threads for everybody else.
const LOOKUPS: usize = 128;

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

/// The resolver that reqwest asks. Cheap to clone; all clones share what is kept.
#[derive(Debug, Clone)]
pub(super) struct GuardedNames {
    guard: Guard,
    names: Names,
    lookups: Arc<Semaphore>,
    kept: Cache<String, Arc<[IpAddr]>>,
    /// The host of `net.proxy`: the operator's own, wherever it is.
    proxy: Option<Arc<str>>,
}

impl GuardedNames {
    pub(super) fn new(guard: Guard, names: Names, proxy: Option<&str>) -> Self {
        Self {
            guard,
            names,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            kept: Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build(),
            proxy: proxy.map(Arc::from),
        }
    }

    /// Where `name` leads, if it may be dialled.
    ///
    /// One address that is not public spoils the name: a name that leads both outside and inside is an attack or a mistake.
    pub(super) async fn addresses(&self, name: &str) -> Result<Arc<[IpAddr]>, NetFault> {
        let look_up = async {
            let found = self.look_up(name).await?;
            match found.iter().find(|address| !self.guard.permits(**address)) {
                Some(address) => Err(Refused::Address(*address).into()),
                None => Ok(found.into_iter().take(ADDRESSES).collect()),
            }
        };
        let found = self.kept.try_get_with_by_ref(name, look_up).await;
        found.map_err(|fault| NetFault::clone(&fault))
    }

    /// What was behind `name` did not answer: it is looked up again.
    pub(super) async fn forget(&self, name: &str) {
        self.kept.invalidate(name).await;
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, NetFault> {
        if let Some(address) = self.guard.known(name) {
            return Ok(vec![address]);
        }
        let found = match &self.names {
            Names::Scripted(script) => Ok(script(name)),
            Names::System => ask_the_system(name.to_owned(), self.lookups.clone()).await,
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
            let found = match &names.proxy {
                Some(proxy) if **proxy == *name => names.look_up(name).await?.into(),
                _ => names.addresses(name).await?,
            };
            // Port 0 means: the URL's.
            let addresses: Vec<_> = found.iter().map(|address| SocketAddr::new(*address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// On a blocking thread that keeps its place in the count until the system has answered.
async fn ask_the_system(host: String, lookups: Arc<Semaphore>) -> io::Result<Vec<IpAddr>> {
    let place = lookups.acquire_owned().await.map_err(io::Error::other)?;
    tokio::task::spawn_blocking(move || {
        let _place = place;
        Ok((host.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    })
    .await
    .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

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
        names.forget("a.example").await;
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
