//! Where we never go: a URL, what a redirect from there says, and an address. What the guard lets pass is a public name
//! over https, or an address that the standard library's own predicates call neither private nor special.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use shearwater::net::Guard;
use url::{Host, Url};

static STRICT: LazyLock<Guard> = LazyLock::new(|| Guard::new(&[], false));
static LAN: LazyLock<Guard> = LazyLock::new(|| Guard::new(&["127.0.0.0/8".parse().unwrap()], true));

fn is_special_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_unspecified()
        || a == 0
        || a >= 240
        || (a == 100 && b & 0xc0 == 64)
        || (a == 198 && b & 0xfe == 18)
        || matches!((a, b, c), (192, 0, 0) | (192, 88, 99) | (192, 31, 196) | (192, 52, 193) | (192, 175, 48))
}

fn is_special_v6(v6: Ipv6Addr) -> bool {
    let [a, b, c, ..] = v6.segments();
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || v6.is_unique_local()
        || v6.is_unicast_link_local()
        || v6.to_ipv4().is_some()
        || !(0x2000..=0x3fff).contains(&a)
        || a == 0x2002
        || (a == 0x2001 && (b < 0x200 || b == 0xdb8))
        || (a == 0x2620 && b == 0x4f && c == 0x8000)
        || (a == 0x3fff && b < 0x1000)
}

fn check_address(address: IpAddr) {
    let special = match address {
        IpAddr::V4(v4) => is_special_v4(v4),
        IpAddr::V6(v6) => is_special_v6(v6),
    };
    assert_eq!(STRICT.permits(address), !special, "{address}");
    let exempt = matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 127);
    assert_eq!(LAN.permits(address), !special || exempt, "{address}");
}

fn check_url(url: &Url) {
    if STRICT.check_url(url).is_ok() {
        assert_eq!(url.scheme(), "https");
        assert!(url.username().is_empty() && url.password().is_none());
        assert!(url.port_or_known_default().is_some_and(|port| port == 443 || port >= 1024));
        let Some(Host::Domain(name)) = url.host() else { panic!("{url} has no name") };
        assert!(name.parse::<IpAddr>().is_err(), "{name} is an address");
        let labels: Vec<&str> = name.split('.').collect();
        assert!(labels.len() > 1 && labels.last().is_some_and(|last| !matches!(*last, "" | "localhost")));
        assert!(!labels.last().unwrap().bytes().all(|byte| byte.is_ascii_digit()), "{name} reads as an address");
        assert!(name.is_ascii() && name.len() <= 253 && !name.contains(['%', '@', ':', '/', ' ', '\\']));
    }
    if LAN.check_url(url).is_ok() && STRICT.check_url(url).is_err() {
        assert!(matches!(url.host(), Some(Host::Ipv4(v4)) if v4.octets()[0] == 127), "{url} is no exempt address");
    }
}

fuzz_target!(|data: &[u8]| {
    // url 2.5.8 has a debug assertion that fails for some paths of `file:` URLs; a release build has none, and no such
    // URL passes the guard.
    if data.windows(5).any(|window| window.eq_ignore_ascii_case(b"file:")) {
        return;
    }
    if let Ok(bytes) = <[u8; 4]>::try_from(data) {
        check_address(bytes.into());
    }
    if let Ok(bytes) = <[u8; 16]>::try_from(data) {
        check_address(bytes.into());
        // IPv4 in the clothes that hosts and gateways take off again.
        let v4 = Ipv4Addr::from([bytes[12], bytes[13], bytes[14], bytes[15]]);
        let [a, b, c, d] = v4.octets().map(u16::from);
        let embedded = [
            v4.to_ipv6_mapped(),
            v4.to_ipv6_compatible(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d),
            Ipv6Addr::new(0x2002, a << 8 | b, c << 8 | d, 0, 0, 0, 0, 1),
        ];
        assert!(embedded.iter().all(|v6| !STRICT.permits((*v6).into()) && !LAN.permits((*v6).into())));
    }
    let Some([url, redirect, address]) = shearwater_fuzz::lines::<3>(data) else { return };
    if let Ok(address) = address.parse() {
        check_address(address);
    }
    let Ok(url) = Url::parse(url) else { return };
    check_url(&url);
    if let Ok(next) = url.join(redirect) {
        check_url(&next);
    }
});
