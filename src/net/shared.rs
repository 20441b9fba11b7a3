//! Signatures that fit many servers: made once for each message, inbox path, key and second, by whoever needs it first, and
//! kept for a moment for all others. Which servers may get one is `delivery`'s to say.
//!
//! Promises: never more than [`KEPT`] of them in memory, each forgotten after [`KEPT_FOR`]; a signature bears the second in
//! which it was asked for.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use moka::future::Cache;
use url::Url;

use super::client::NetFault;
use crate::clock::Timestamp;
use crate::ids::Iri;
use crate::wire::http_sig::Body;

/// Signatures kept at once, of a kilobyte or so. Servers choose the paths of their inboxes: many odd ones must not cost memory,
/// and merely make this be of less use. Nearly all have `/inbox`, so a few for each post that is going out are plenty.
const KEPT: u64 = 1024;

/// Longer than the second that they are for.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// The headers of a signed request, but `Host`.
type Headers = Arc<[(HeaderName, HeaderValue)]>;

/// What a signature is over, and whose it is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Signed {
    digest: [u8; 32],
    target: String,
    second: i64,
    key_id: Iri,
}

/// The handle. Cheap to clone; all clones share what is kept.
#[derive(Debug, Clone)]
pub(super) struct SharedSignatures(Cache<Signed, Headers>);

impl Default for SharedSignatures {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build())
    }
}

impl SharedSignatures {
    /// The headers for `body` to `inbox` at this second; made by `make` if nobody has, and awaited if somebody is at it.
    pub(super) async fn get(
        &self,
        body: &Body,
        inbox: &Url,
        at: Timestamp,
        key_id: &Iri,
        make: impl Future<Output = Result<Vec<(HeaderName, HeaderValue)>, NetFault>>,
    ) -> Result<Headers, NetFault> {
        let target = match inbox.query() {
            Some(query) => format!("{}?{query}", inbox.path()),
            None => inbox.path().to_owned(),
        };
        let signed = Signed { digest: body.digest, target, second: at.secs(), key_id: key_id.clone() };
        let made = self.0.try_get_with(signed, async { make.await.map(Headers::from) }).await;
        made.map_err(|fault| NetFault::clone(&fault))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::NOON;
    use super::*;

    /// What is kept under these names, made anew as `number` if it is not there.
    async fn get(kept: &SharedSignatures, body: &[u8], inbox: &str, second: u64, key: &str, number: usize) -> String {
        let (inbox, key) = (Url::parse(inbox).unwrap(), Iri::parse(key).unwrap());
        let make = async {
            let name = HeaderName::from_static("signature");
            Ok(vec![(name, HeaderValue::from_str(&number.to_string()).unwrap())])
        };
        let at = NOON.plus(Duration::from_secs(second));
        let headers = kept.get(&Body::of(body), &inbox, at, &key, make).await.unwrap();
        headers[0].1.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn only_the_same_message_path_second_and_key_share_a_signature() {
        let kept = SharedSignatures::default();
        let key = "https://relay.example/actor#main-key";
        assert_eq!(get(&kept, b"a", "https://one.example/inbox", 0, key, 1).await, "1");
        assert_eq!(get(&kept, b"a", "https://two.example:8443/inbox", 0, key, 2).await, "1", "another host");
        assert_eq!(get(&kept, b"b", "https://one.example/inbox", 0, key, 3).await, "3", "another message");
        assert_eq!(get(&kept, b"a", "https://one.example/actor/inbox", 0, key, 4).await, "4", "another path");
        assert_eq!(get(&kept, b"a", "https://one.example/inbox?a", 0, key, 5).await, "5", "another query");
        assert_eq!(get(&kept, b"a", "https://one.example/inbox", 1, key, 6).await, "6", "another second");
        let next = "https://relay.example/actor#main-key-2";
        assert_eq!(get(&kept, b"a", "https://one.example/inbox", 0, next, 7).await, "7", "another key");
        assert_eq!(get(&kept, b"a", "https://one.example/inbox", 0, key, 8).await, "1", "still there");
    }

    #[tokio::test]
    async fn however_many_paths_there_are_a_bounded_number_of_signatures_is_kept() {
        let kept = SharedSignatures::default();
        for number in 0..usize::try_from(KEPT).unwrap() * 3 {
            let inbox = format!("https://one.example/{number}/inbox");
            get(&kept, b"a", &inbox, 0, "https://relay.example/actor#main-key", number).await;
        }
        kept.0.run_pending_tasks().await;
        assert!(kept.0.entry_count() <= KEPT, "{}", kept.0.entry_count());
    }

    #[tokio::test]
    async fn a_signature_that_could_not_be_made_is_tried_again() {
        let kept = SharedSignatures::default();
        let (inbox, key) =
            (Url::parse("https://a.example/inbox").unwrap(), Iri::parse("https://r.example/#k").unwrap());
        let fails = async { Err(NetFault::Broken) };
        let fault = kept.get(&Body::of(b"a"), &inbox, NOON, &key, fails).await.unwrap_err();
        assert_eq!(fault, NetFault::Broken);
        assert_eq!(get(&kept, b"a", inbox.as_str(), 0, key.as_str(), 1).await, "1");
    }
}
