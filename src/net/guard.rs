//! The addresses and URLs that we never dial. Pure decisions; `client` asks them before every request, in the resolver,
//! and again at every hop of a redirect.
//!
//! An allow-list by registry, since lists of forbidden addresses were incomplete in every project that tried them: IPv4
//! outside the IANA special-purpose registry (RFC 6890 and successors), IPv6 in 2000::/3 outside that registry's rows.
//! `fetch.allow_private` adds ranges for tests and LANs; only there are IP addresses taken as host names.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;
use url::{Host, Url};

use crate::ids::MAX_IRI_BYTES;

/// The IANA IPv4 special-purpose registry, neighbouring rows of one block folded together, and multicast.
const SPECIAL_V4: [Ipv4Net; 18] = [
    v4(0, 0, 0, 0, 8),       // "this network"
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // carrier-grade NAT
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local: cloud metadata lives here
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // IETF protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 31, 196, 0, 24), // AS112
    v4(192, 52, 193, 0, 24), // AMT
    v4(192, 88, 99, 0, 24),  // 6to4 relay anycast
    v4(192, 168, 0, 0, 16),  // private
    v4(192, 175, 48, 0, 24), // AS112
    v4(198, 18, 0, 0, 15),   // benchmarking
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 4),     // multicast
    v4(240, 0, 0, 0, 4),     // reserved, and the limited broadcast
];

/// Global unicast space: all that IANA has handed out. Loopback, unique-local, link-local, site-local, multicast and the
/// embeddings of IPv4 (mapped, compatible, NAT64) lie outside and are refused by that alone.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// The rows of the IANA IPv6 special-purpose registry inside [`GLOBAL_V6`].
const SPECIAL_V6: [Ipv6Net; 5] = [
    v6(0x2001, 0, 0, 23),           // IETF protocol assignments: Teredo, benchmarking, ORCHID
    v6(0x2001, 0x0db8, 0, 32),      // documentation
    v6(0x2002, 0, 0, 16),           // 6to4: any IPv4 address in disguise
    v6(0x2620, 0x004f, 0x8000, 48), // AS112
    v6(0x3fff, 0, 0, 20),           // documentation
];

/// The longest host name DNS can carry.
const MAX_HOST_BYTES: usize = 253;

/// Ports below this belong to system services; no ActivityPub server but on 443 lives there.
const FIRST_USER_PORT: u16 = 1024;

/// Why a URL or an address is not dialled. For our own log: other servers learn one opaque word.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// Longer than an id may be.
    #[error("the URL is longer than {MAX_IRI_BYTES} bytes")]
    TooLong,
    /// Neither https, nor http where that is allowed.
    #[error("its scheme is not allowed")]
    Scheme,
    /// A user name or password in the URL.
    #[error("the URL carries credentials")]
    Credentials,
    /// A port of a system service.
    #[error("port {0} is not allowed")]
    Port(u16),
    /// An IP address as host name, outside `fetch.allow_private`.
    #[error("the host is an IP address")]
    IpHost,
    /// No name of the public DNS: `localhost`, a single label, a trailing dot, too long, empty.
    #[error("the host is no public name")]
    LocalName,
    /// The name leads, also or only, to an address in special-purpose space.
    #[error("the host resolves to {0}, which is not public")]
    Address(IpAddr),
}

/// The judge of addresses and URLs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard {
    allow_private: Arc<[IpNet]>,
    allow_http: bool,
    /// Names whose addresses are known without DNS, so that nobody's answer leads elsewhere.
    known: Arc<BTreeMap<String, IpAddr>>,
}

impl Guard {
    /// From `fetch.allow_private` and `fetch.allow_http`.
    #[must_use]
    pub fn new(allow_private: &[IpNet], allow_http: bool) -> Self {
        Self { allow_private: allow_private.into(), allow_http, known: Arc::default() }
    }

    /// With names that lead to these addresses, from `fetch.names`; the addresses are judged like all others.
    #[must_use]
    pub fn knowing(self, names: &BTreeMap<String, IpAddr>) -> Self {
        Self { known: Arc::new(names.clone()), ..self }
    }

    /// Where a known name leads.
    pub(super) fn known(&self, name: &str) -> Option<IpAddr> {
        self.known.get(name).copied()
    }

    /// Whether a connection to this address may be made: public space, or a range the operator exempted.
    ///
    /// An IPv4 address in IPv6 clothes is judged as the IPv6 address it is written as, and so refused.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        self.is_exempt(address)
            || match address {
                IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|row| row.contains(&v4)),
                IpAddr::V6(v6) => GLOBAL_V6.contains(&v6) && !SPECIAL_V6.iter().any(|row| row.contains(&v6)),
            }
    }

    /// Whether a request to this URL may be made, as far as the URL alone tells; names are judged again by the addresses
    /// they lead to.
    ///
    /// # Errors
    /// [`Refused`] with the first reason found.
    pub fn check_url(&self, url: &Url) -> Result<(), Refused> {
        if url.as_str().len() > MAX_IRI_BYTES {
            return Err(Refused::TooLong);
        }
        if !matches!(url.scheme(), "https" | "http") {
            return Err(Refused::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        match url.host() {
            Some(Host::Ipv4(v4)) => self.check_ip_host(url, v4.into()),
            Some(Host::Ipv6(v6)) => self.check_ip_host(url, v6.into()),
            Some(Host::Domain(name)) if url.scheme() == "http" && self.allow_http && self.known(name).is_some() => {
                Ok(())
            }
            Some(Host::Domain(name)) => check_name(url, name),
            None => Err(Refused::LocalName),
        }
    }

    /// Inside the exempt ranges anything goes; outside them nothing does.
    fn check_ip_host(&self, url: &Url, address: IpAddr) -> Result<(), Refused> {
        if !self.is_exempt(address) {
            return Err(Refused::IpHost);
        }
        if url.scheme() == "http" && !self.allow_http { Err(Refused::Scheme) } else { Ok(()) }
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.allow_private.iter().any(|range| range.contains(&address))
    }
}

/// A name: https only, since whoever answers its DNS could otherwise lead us in clear text anywhere.
fn check_name(url: &Url, name: &str) -> Result<(), Refused> {
    if url.scheme() != "https" {
        return Err(Refused::Scheme);
    }
    let last_label = name.rsplit('.').next().unwrap_or_default();
    if !name.contains('.') || last_label.is_empty() || last_label == "localhost" || name.len() > MAX_HOST_BYTES {
        return Err(Refused::LocalName);
    }
    match url.port_or_known_default() {
        Some(443) => Ok(()),
        Some(port) if port >= FIRST_USER_PORT => Ok(()),
        port => Err(Refused::Port(port.unwrap_or_default())),
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// Written from the registries independently of the tables above: first and last address of each row, as text.
    const ROWS: &[(&str, &str)] = &[
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.31.196.0", "192.31.196.255"),
        ("192.52.193.0", "192.52.193.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("192.175.48.0", "192.175.48.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "255.255.255.255"),
        ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("::ffff:0.0.0.0", "::ffff:255.255.255.255"),
        ("64:ff9b::", "64:ff9b::ffff:ffff"),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
        ("100::", "100::ffff:ffff:ffff:ffff"),
        ("100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff"),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];

    fn rows() -> &'static [(IpAddr, IpAddr)] {
        static PARSED: LazyLock<Vec<(IpAddr, IpAddr)>> =
            LazyLock::new(|| ROWS.iter().map(|(first, last)| (ip(first), ip(last))).collect());
        &PARSED
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Ranges of numbers instead of prefixes: a different way to the same answer.
    fn is_special(address: IpAddr) -> bool {
        rows().iter().any(|(first, last)| first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last)
    }

    fn step(address: IpAddr, by: i8) -> Option<IpAddr> {
        match address {
            IpAddr::V4(v4) => v4.to_bits().checked_add_signed(by.into()).map(|bits| Ipv4Addr::from_bits(bits).into()),
            IpAddr::V6(v6) => v6.to_bits().checked_add_signed(by.into()).map(|bits| Ipv6Addr::from_bits(bits).into()),
        }
    }

    fn strict() -> Guard {
        Guard::new(&[], false)
    }

    fn lan() -> Guard {
        Guard::new(&["127.0.0.2/32".parse().unwrap(), "fd00:1::/32".parse().unwrap()], true)
    }

    #[test]
    fn each_registry_row_is_refused_to_its_very_edges() {
        for &(first, last) in rows() {
            for address in [Some(first), step(first, 1), step(last, -1), Some(last)].into_iter().flatten() {
                assert!(!strict().permits(address), "{address}");
            }
            for neighbour in [step(first, -1), step(last, 1)].into_iter().flatten() {
                assert_eq!(strict().permits(neighbour), !is_special(neighbour), "{neighbour}");
            }
        }
    }

    #[test]
    fn public_addresses_are_permitted() {
        for text in ["1.1.1.1", "9.255.255.255", "11.0.0.0", "172.32.0.0", "192.0.1.0", "223.255.255.255"] {
            assert!(strict().permits(ip(text)), "{text}");
        }
        for text in ["2000::", "2001:200::", "2606:4700::1111", "2003::1", "3ffe:ffff::", "3fff:1000::1"] {
            assert!(strict().permits(ip(text)), "{text}");
        }
    }

    #[test]
    fn ipv4_in_disguise_is_refused_even_where_the_plain_address_is_exempt() {
        for text in [
            "::ffff:127.0.0.2",
            "::127.0.0.2",
            "64:ff9b::7f00:2",
            "64:ff9b:1::7f00:2",
            "2002:7f00:2::",
            "2001:0:7f00:2::",
            "::ffff:0:127.0.0.2",
            "::ffff:8.8.8.8",
        ] {
            assert!(!lan().permits(ip(text)), "{text}");
        }
        assert!(lan().permits(ip("127.0.0.2")) && lan().permits(ip("fd00:1::7")));
        assert!(!lan().permits(ip("127.0.0.1")) && !lan().permits(ip("127.0.0.3")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn every_ipv4_address_is_judged_as_the_registry_says(bits: u32) {
            let address = IpAddr::from(Ipv4Addr::from_bits(bits));
            prop_assert_eq!(strict().permits(address), !is_special(address));
        }

        #[test]
        fn every_ipv6_address_is_judged_as_the_registry_says(bits: u128, top in 0u16..=0xffff, near: bool) {
            // Most of the rows begin with 2001 or so: without help hardly a random address would fall near them.
            let top = if near { 0x2000 | (top & 3) } else { top };
            let bits = (bits & !(0xffff << 112)) | (u128::from(top) << 112);
            let address = IpAddr::from(Ipv6Addr::from_bits(bits));
            prop_assert_eq!(strict().permits(address), !is_special(address));
        }

        #[test]
        fn a_random_address_of_each_row_is_refused(row in 0..ROWS.len(), offset: u128) {
            let address = match rows()[row] {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    let span = u128::from(last.to_bits() - first.to_bits()) + 1;
                    IpAddr::from(Ipv4Addr::from_bits(first.to_bits() + u32::try_from(offset % span).unwrap()))
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    let span = (last.to_bits() - first.to_bits()).saturating_add(1);
                    IpAddr::from(Ipv6Addr::from_bits(first.to_bits() + offset % span))
                }
                _ => unreachable!("a row has one family"),
            };
            prop_assert!(!strict().permits(address), "{}", address);
        }
    }

    fn check(guard: &Guard, text: &str) -> Result<(), Refused> {
        guard.check_url(&Url::parse(text).unwrap())
    }

    #[test]
    fn urls_are_https_to_a_public_name_or_refused() {
        for text in [
            "https://a.example/x",
            "https://a.example:8443/",
            "https://a.example:1024",
            "https://xn--bcher-kva.example",
        ] {
            assert_eq!(check(&strict(), text), Ok(()), "{text}");
        }
        let long_name = format!("https://{}example/", "abcdefgh.".repeat(28));
        let refused = [
            ("http://a.example/", Refused::Scheme),
            ("ftp://a.example/", Refused::Scheme),
            ("file:///etc/passwd", Refused::Scheme),
            ("data:application/json,{}", Refused::Scheme),
            ("https://u@a.example/", Refused::Credentials),
            ("https://u:p@a.example/", Refused::Credentials),
            ("https://:p@a.example/", Refused::Credentials),
            ("https://a.example:22/", Refused::Port(22)),
            ("https://a.example:80/", Refused::Port(80)),
            ("https://a.example:1023/", Refused::Port(1023)),
            ("https://a.example:0/", Refused::Port(0)),
            ("https://localhost/", Refused::LocalName),
            ("https://LOCALHOST:8443/", Refused::LocalName),
            ("https://x.localhost/", Refused::LocalName),
            ("https://intranet/", Refused::LocalName),
            ("https://a.example./", Refused::LocalName),
            ("https://localhost./", Refused::LocalName),
            (long_name.as_str(), Refused::LocalName),
        ];
        for (text, reason) in refused {
            assert_eq!(check(&strict(), text), Err(reason), "{text}");
        }
        assert_eq!(check(&strict(), &format!("https://a.example/{}", "x".repeat(3000))), Err(Refused::TooLong));
    }

    #[test]
    fn an_ip_address_is_no_host_name_however_it_is_spelt() {
        let spellings = [
            "https://127.0.0.1/",
            "https://8.8.8.8/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.1/",
            "https://017700000001/",
            "https://0177.0.0.01/",
            "https://127.1/",
            "https://127.0.0.1./",
            "https://１２７.０.０.１/",
            "https://%31%32%37.0.0.1/",
            "https://127。0。0。1/",
            "https://127．0．0．1/",
            "https://127｡0｡0｡1/",
            "https://①②⑦.0.0.1/",
            "https://127.0.0.%31/",
            "https://0x7F.0x0.0x0.0x1/",
            "https://0X7F000001/",
            "https://0x7f.0.1/",
            "https://127.0.1/",
            "https://127.0x1/",
            "https://0177.1/",
            "https://00000177.0.0.1/",
            "https://0x0000007f.0.0.1/",
            "https://127.0.0.1:8443/",
            "https://127.0.0.1.:8443/",
            "https://2130706433./",
            "https://4294967295/",
            "https://0x0/",
            "https://0.0.0.0/",
            "https://0x/",
            "https://10.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://2852039166/",
            "https://0xa9fea9fe/",
            "https://[0:0:0:0:0:0:0:1]/",
            "https://[::7f00:1]/",
            "https://[::127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://[0:0:0:0:0:ffff:7f00:0001]/",
            "https://[64:ff9b::127.0.0.1]/",
            "https://[64:ff9b:1::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://[2001:0:7f00:1::]/",
            "https://[fe80::1]/",
            "https://[fec0::1]/",
            "https://[FD00::1]/",
            "https://[::]:8443/",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[2606:4700::1111]/",
            "https://0/",
        ];
        for text in spellings {
            assert_eq!(check(&strict(), text), Err(Refused::IpHost), "{text}");
        }
        assert!(spellings.len() >= 40);
        for text in [
            "https://[fe80::1%25eth0]/",
            "https://[fe80::1%eth0]/",
            "https://[::1%251]/",
            "https://[::1/",
            "https://::1/",
            "https://[127.0.0.1]/",
            "https://[::ffff:1.2.3.4.5]/",
            "https://[1::2::3]/",
            "https://1.2.3.256/",
            "https://4294967296/",
            "https://0x100000000/",
            "https://1.2.3.4.5/",
            "https://127.0.0.0x/1",
            "https://a.0x7f/",
            "https://a b.example/",
            "https://a.example:65536/",
            "https://a.example:-1/",
            "https://%00.example/",
            "https://a%2fb.example/",
            "https://a%40b.example/",
            "https://xn--a.example/",
            "https://",
        ] {
            let parsed = Url::parse(text);
            let refused = parsed.as_ref().is_ok_and(|url| strict().check_url(url).is_err());
            assert!(parsed.is_err() || refused, "the parser or the guard refuses {text}: {parsed:?}");
        }
    }

    /// Names that look like one thing to a person or another parser, and lead somewhere else.
    #[test]
    fn names_in_disguise_are_judged_as_what_they_are() {
        let local = [
            "https://LOCALHOST/",
            "https://ｌｏｃａｌｈｏｓｔ/",
            "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
            "https://local%68ost/",
            "https://lo\u{ad}calhost/",
            "https://x.ｌｏｃａｌｈｏｓｔ/",
            "https://a.localhost。/",
            "https://localhost。/",
            "https://a.example。/",
            "https://a.example../",
        ];
        for text in local {
            assert_eq!(check(&strict(), text), Err(Refused::LocalName), "{text}");
        }
        let credentials = [
            "https://a.example@127.0.0.1/",
            "https://a.example:443@b.example/",
            "https://a.example%2f@b.example/",
            "https:a.example@b.example/",
            "https://a.example\\@b.example/",
        ];
        for text in credentials {
            let url = Url::parse(text).unwrap();
            let (verdict, host) = (strict().check_url(&url), url.host_str().unwrap_or_default().to_owned());
            assert!(verdict == Err(Refused::Credentials) || (verdict.is_ok() && host == "a.example"), "{text}: {host}");
        }
        // What is left after mapping is an ordinary name, and only its addresses decide.
        for (text, host) in [("https://BÜCHER.example/", "xn--bcher-kva.example"), ("https://ａ.example/", "a.example")]
        {
            assert_eq!(check(&strict(), text), Ok(()));
            assert_eq!(Url::parse(text).unwrap().host_str(), Some(host));
        }
    }

    #[test]
    fn inside_the_exempt_ranges_addresses_are_hosts_on_any_port() {
        for text in ["https://127.0.0.2/", "http://127.0.0.2:22/", "http://127.0.0.2:80/", "http://[fd00:1::7]:81/"] {
            assert_eq!(check(&lan(), text), Ok(()), "{text}");
        }
        assert_eq!(check(&lan(), "http://127.0.0.1:4000/"), Err(Refused::IpHost));
        assert_eq!(check(&lan(), "http://a.example:4000/"), Err(Refused::Scheme));
        assert_eq!(check(&lan(), "http://[::ffff:127.0.0.2]/"), Err(Refused::IpHost));
        let https_only = Guard::new(&["127.0.0.2/32".parse().unwrap()], false);
        assert_eq!(check(&https_only, "http://127.0.0.2/"), Err(Refused::Scheme));
        assert_eq!(check(&https_only, "https://127.0.0.2:9/"), Ok(()));
    }
}
