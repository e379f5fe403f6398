//! What stands between the internet and the pages: headers, limits, the visitor's address.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use dashmap::DashMap;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::listen::Peer;
use crate::event::{Timestamp, canonical_ip, network_of};

/// Posts a minute from one IPv4 address or IPv6 /64, at once or spread, without a link of ours.
const STRANGE_A_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// The same with one: a whole office may stand behind an address.
const GOOD_A_MINUTE: NonZeroU32 = NonZeroU32::new(600).unwrap();
/// Posts a minute with one link, from wherever.
const LINK_A_MINUTE: NonZeroU32 = NonZeroU32::new(12).unwrap();
/// Addresses past which those of the last minute alone are kept.
const SWEEP_AT: usize = 10_000;

/// No scripts, no frames, nothing from elsewhere; forms go back here only.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=()",
    ),
    ("x-robots-tag", "noindex, nofollow"),
];

/// Puts the headers that every answer carries; `no-store` unless the answer says otherwise.
pub fn harden(response: &mut Response, https: bool) {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    if https {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// The visitor's address: the peer's, or, where the peer is a proxy that is trusted, the
/// last address of `X-Forwarded-For` that no trusted proxy has.
pub fn visitor(request: &Request, trusted: &[IpNet]) -> IpAddr {
    let peer = request
        .extensions()
        .get::<ConnectInfo<Peer>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.0.ip());
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    let mut visitor = canonical_ip(peer);
    for hop in forwarded(request.headers()).into_iter().rev() {
        if !is_trusted(&visitor) {
            break;
        }
        visitor = canonical_ip(hop);
    }
    visitor
}

/// Addresses in `X-Forwarded-For`, as far as they are ones.
fn forwarded(headers: &HeaderMap) -> Vec<IpAddr> {
    headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|address| address.trim().parse().ok())
        .collect()
}

/// How often one visitor may post, and how often one link may be posted with. Whoever makes
/// up links uses up another share of an address than those who got one.
pub struct Posts {
    strange: DefaultKeyedRateLimiter<IpAddr>,
    good: DefaultKeyedRateLimiter<IpAddr>,
    links: DefaultKeyedRateLimiter<TokenHash>,
}

/// A token as limits remember it: nobody can open a link by it.
pub type TokenHash = [u8; 16];

pub fn token_hash(token: &str) -> TokenHash {
    let digest = Sha256::digest(token.as_bytes());
    let mut hash = TokenHash::default();
    hash.copy_from_slice(&digest[..16]);
    hash
}

impl Default for Posts {
    fn default() -> Self {
        let keyed = |quota| RateLimiter::keyed(Quota::per_minute(quota));
        Posts {
            strange: keyed(STRANGE_A_MINUTE),
            good: keyed(GOOD_A_MINUTE),
            links: RateLimiter::keyed(Quota::per_minute(LINK_A_MINUTE)),
        }
    }
}

impl Posts {
    /// `link` is the token of a link that is ours.
    pub fn allows(&self, visitor: IpAddr, link: Option<&str>) -> bool {
        let network = network_of(visitor, network_bits(visitor));
        match link {
            Some(token) => admits(&self.good, &network) && admits(&self.links, &token_hash(token)),
            None => admits(&self.strange, &network),
        }
    }
}

fn admits<K: std::hash::Hash + Eq + Clone>(limiter: &DefaultKeyedRateLimiter<K>, key: &K) -> bool {
    if limiter.len() > SWEEP_AT {
        limiter.retain_recent();
    }
    limiter.check_key(key).is_ok()
}

/// Whether a browser says that a page of another site made it post. `origin` is what links
/// begin with, without a path. Our own pages send no referrer, for which browsers write
/// `Origin: null`; newer ones say in `Sec-Fetch-Site` what it was all the same.
pub fn is_foreign(headers: &HeaderMap, origin: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text("sec-fetch-site") {
        // "none" is a person who loads the page again.
        return !matches!(site, "same-origin" | "none");
    }
    match text("origin") {
        None | Some("null") => false,
        Some(named) => {
            let here = text("host").is_some_and(|host| {
                named
                    .split_once("://")
                    .is_some_and(|(_, named)| named.eq_ignore_ascii_case(host))
            });
            !here && !named.eq_ignore_ascii_case(origin)
        }
    }
}

/// Scheme and host of a URL.
pub fn origin_of(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    &url[..end]
}

/// Wrong codes that a link takes.
const TRIES: u8 = 5;

/// How often each link was tried with a wrong code. Only links that open get this far, so no
/// more are held than mails were sent.
#[derive(Default)]
pub struct Tries(DashMap<TokenHash, (u8, Timestamp)>);

/// What became of a typed code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    Right,
    Wrong,
    /// The link takes no more codes, right ones included.
    Spent,
}

impl Tries {
    /// Compares what was typed for `token`, a link that ends at `ends`.
    pub fn judge(&self, token: &str, ends: Timestamp, right: bool, now: Timestamp) -> Typed {
        if self.0.len() > SWEEP_AT {
            self.0.retain(|_, (_, ends)| *ends > now);
        }
        let mut held = self.0.entry(token_hash(token)).or_insert((0, ends));
        let (wrong, _) = held.value_mut();
        match (*wrong, right) {
            (TRIES.., _) => Typed::Spent,
            (_, true) => Typed::Right,
            (_, false) => {
                *wrong += 1;
                Typed::Wrong
            }
        }
    }
}

/// A household has one IPv4 address, or an IPv6 /64.
fn network_bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use std::net::SocketAddr;

    fn request(peer: &str, forwarded: &str) -> Option<Request> {
        let mut request = Request::builder()
            .header("x-forwarded-for", forwarded)
            .body(Body::empty())
            .ok()?;
        let peer: IpAddr = peer.parse().ok()?;
        request
            .extensions_mut()
            .insert(ConnectInfo(Peer(SocketAddr::new(peer, 1))));
        Some(request)
    }

    #[track_caller]
    fn seen(peer: &str, forwarded: &str, expected: &str) {
        let trusted: Vec<IpNet> = ["127.0.0.0/8", "10.0.0.0/8"]
            .iter()
            .filter_map(|net| net.parse().ok())
            .collect();
        let request = request(peer, forwarded).expect("a request");
        assert_eq!(visitor(&request, &trusted).to_string(), expected);
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        seen("203.0.113.9", "198.51.100.1", "203.0.113.9");
        seen("127.0.0.1", "198.51.100.1", "198.51.100.1");
        seen("127.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1");
        seen(
            "127.0.0.1",
            "1.2.3.4, 198.51.100.1, 10.0.0.2",
            "198.51.100.1",
        );
        seen("127.0.0.1", "nonsense", "127.0.0.1");
    }

    #[test]
    fn a_visitor_posts_so_often_and_an_ipv6_network_counts_as_one() {
        let posts = Posts::default();
        let allowed = (0..100_u32)
            .filter(|n| {
                let ip = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, *n as u16);
                posts.allows(IpAddr::V6(ip), None)
            })
            .count();
        assert_eq!(allowed, STRANGE_A_MINUTE.get() as usize);
        assert!(posts.allows(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), None));
    }

    #[test]
    fn an_office_behind_one_address_answers_while_somebody_there_makes_up_links() {
        let posts = Posts::default();
        let office = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        while posts.allows(office, None) {}
        let answered = (0..200).filter(|n| posts.allows(office, Some(&format!("token {n}"))));
        assert_eq!(answered.count(), 200);
        let pressed = (0..50).filter(|_| posts.allows(office, Some("one token")));
        assert_eq!(pressed.count(), LINK_A_MINUTE.get() as usize);
    }

    #[test]
    fn a_link_takes_five_wrong_codes_and_then_not_even_the_right_one() {
        let tries = Tries::default();
        let judge = |token, right| tries.judge(token, Timestamp(9), right, Timestamp(1));
        for _ in 0..4 {
            assert_eq!(judge("a", false), Typed::Wrong);
        }
        assert_eq!(judge("a", true), Typed::Right);
        assert_eq!(judge("a", false), Typed::Wrong);
        assert_eq!(judge("a", true), Typed::Spent);
        assert_eq!(judge("b", true), Typed::Right);
    }

    #[test]
    fn only_our_own_pages_post() {
        let foreign = |headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| {
                let name: axum::http::HeaderName = name.parse().expect("a name");
                (name, HeaderValue::from_str(value).expect("a value"))
            });
            is_foreign(&headers.collect(), "https://account.example.com")
        };
        assert!(!foreign(&[]), "no browser");
        assert!(!foreign(&[
            ("sec-fetch-site", "same-origin"),
            ("origin", "null")
        ]));
        assert!(!foreign(&[("sec-fetch-site", "none")]));
        assert!(foreign(&[
            ("sec-fetch-site", "cross-site"),
            ("origin", "null")
        ]));
        assert!(foreign(&[("sec-fetch-site", "same-site")]));
        assert!(!foreign(&[("origin", "https://account.example.com")]));
        assert!(!foreign(&[
            ("origin", "http://10.0.0.1:80"),
            ("host", "10.0.0.1:80")
        ]));
        assert!(foreign(&[
            ("origin", "https://evil.example"),
            ("host", "10.0.0.1:80")
        ]));
        assert_eq!(origin_of("https://a.example:8/x/y"), "https://a.example:8");
        assert_eq!(origin_of("https://a.example"), "https://a.example");
    }
}
