//! What stands between the internet and the pages: headers, limits, the visitor's address.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;

use super::listen::Peer;
use crate::event::{canonical_ip, network_of};

/// Posts a minute from one IPv4 address or IPv6 /64, at once or spread.
const POSTS_A_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
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

/// How often one visitor may post.
pub struct Posts(DefaultKeyedRateLimiter<IpAddr>);

impl Default for Posts {
    fn default() -> Self {
        Posts(RateLimiter::keyed(Quota::per_minute(POSTS_A_MINUTE)))
    }
}

impl Posts {
    pub fn allows(&self, visitor: IpAddr) -> bool {
        if self.0.len() > SWEEP_AT {
            self.0.retain_recent();
        }
        self.0
            .check_key(&network_of(visitor, network_bits(visitor)))
            .is_ok()
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
                posts.allows(IpAddr::V6(ip))
            })
            .count();
        assert_eq!(allowed, POSTS_A_MINUTE.get() as usize);
        assert!(posts.allows(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    }
}
