//! Names in the public DNS, asked over HTTPS (`application/dns-json`) of resolvers by their addresses.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use futures_util::future::join_all;
use http::{StatusCode, Uri};
use serde_json::Value;

use super::visit::{Question, Tls};
use super::{HTTPS, connect};

/// How many addresses of a name are tried: both kinds, and one more of each.
const MAX_ADDRESSES: usize = 4;
/// The kinds of records that hold addresses, and their numbers (RFC 1035, RFC 3596). The older first: not every house has the other.
const KINDS: [(&str, u64); 2] = [("A", 1), ("AAAA", 28)];
/// What a resolver says of a name that is there, and of one that is not (RFC 1035 §4.1.1).
const NO_ERROR: u64 = 0;
const NO_SUCH_NAME: u64 = 3;

/// A public resolver, known by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    address: SocketAddr,
    path: String,
}

impl FromStr for Resolver {
    type Err = String;

    /// Reads `https://1.1.1.1/dns-query`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "is no resolver known by its address; write it as https://1.1.1.1/dns-query".to_owned();
        let uri = Uri::from_str(text).map_err(|_| wrong())?;
        let ip = uri.host().and_then(|host| host.trim_matches(['[', ']']).parse().ok()).ok_or_else(wrong)?;
        if uri.scheme_str() != Some("https") || uri.query().is_some() || uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            return Err(wrong());
        }
        Ok(Self { address: SocketAddr::new(ip, uri.port_u16().unwrap_or(HTTPS)), path: uri.path().to_owned() })
    }
}

/// Returns the addresses that the public DNS has for a name, none where it has none; `None` where nobody could be asked.
///
/// All resolvers are asked at once. One that is a little behind the others must not hide a name that is there.
pub(super) async fn addresses(tls: &Tls, resolvers: &[Resolver], name: &str) -> Option<Vec<IpAddr>> {
    let questions = resolvers.iter().flat_map(|resolver| KINDS.map(|kind| resolver.ask(tls, name, kind)));
    let answers: Vec<Vec<IpAddr>> = join_all(questions).await.into_iter().flatten().collect();
    if answers.is_empty() {
        return None;
    }
    let mut known: Vec<IpAddr> = answers.into_iter().flatten().collect();
    known.sort_unstable_by_key(IpAddr::is_ipv6);
    let mut once: Vec<IpAddr> = Vec::new();
    for ip in known {
        if !once.contains(&ip) {
            once.push(ip);
        }
    }
    // One of each kind at least, where there are both.
    let (older, newer): (Vec<IpAddr>, Vec<IpAddr>) = once.into_iter().partition(IpAddr::is_ipv4);
    let half = MAX_ADDRESSES / 2;
    Some(older.into_iter().take(half).chain(newer.into_iter().take(half)).collect())
}

impl Resolver {
    /// Asks for records of one kind; `None` where there is no answer to go by.
    async fn ask(&self, tls: &Tls, name: &str, (kind, number): (&str, u64)) -> Option<Vec<IpAddr>> {
        let stream = connect(&[self.address]).await?;
        let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let ip = self.address.ip().to_string();
        let question = Question {
            name: &ip,
            authority: &self.address.to_string(),
            path: &format!("{}?name={encoded}&type={kind}", self.path),
            accept: "application/dns-json",
        };
        let (status, body) = tls.ask(stream, &question).await.ok()?;
        if status == StatusCode::OK { records(&body, number) } else { None }
    }
}

/// Reads the addresses out of an answer; `None` where it is no answer to go by.
fn records(body: &[u8], number: u64) -> Option<Vec<IpAddr>> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    match answer["Status"].as_u64()? {
        NO_ERROR => {}
        NO_SUCH_NAME => return Some(Vec::new()),
        _ => return None,
    }
    let records = answer["Answer"].as_array().into_iter().flatten();
    let of_kind = records.filter(|record| record["type"].as_u64() == Some(number));
    Some(of_kind.filter_map(|record| record["data"].as_str()?.parse().ok()).filter(|ip| !is_of_a_tailnet(*ip)).collect())
}

/// Returns whether an address lies within a tailnet: who gets there has not come by Funnel.
fn is_of_a_tailnet(ip: IpAddr) -> bool {
    match ip {
        // 100.64.0.0/10, and fd7a:115c:a1e0::/48.
        IpAddr::V4(ip) => ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64,
        IpAddr::V6(ip) => ip.segments()[..3] == [0xfd7a, 0x115c, 0xa1e0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_is_an_address_and_a_path() {
        let resolver: Resolver = "https://1.1.1.1/dns-query".parse().unwrap();
        assert_eq!((resolver.address.to_string(), &resolver.path[..]), ("1.1.1.1:443".to_owned(), "/dns-query"));
        let resolver: Resolver = "https://[2606:4700:4700::1111]:8443/resolve".parse().unwrap();
        assert_eq!(resolver.address.to_string(), "[2606:4700:4700::1111]:8443");
        for wrong in
            ["", "1.1.1.1", "http://1.1.1.1/dns-query", "https://dns.google/resolve", "https://me@1.1.1.1/x", "https://1.1.1.1/x?y=z"]
        {
            assert!(wrong.parse::<Resolver>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_gives_the_addresses_of_the_kind_that_was_asked_for() {
        let answer = br#"{"Status":0,"TC":false,"Answer":[
            {"name":"n.ts.net.","type":5,"TTL":60,"data":"funnel.ts.net."},
            {"name":"n.ts.net.","type":1,"TTL":60,"data":"208.111.34.178"},
            {"name":"n.ts.net.","type":1,"TTL":60,"data":"100.101.102.103"},
            {"name":"n.ts.net.","type":28,"TTL":60,"data":"2001:db8::1"},
            {"name":"n.ts.net.","type":28,"TTL":60,"data":"fd7a:115c:a1e0::1"}]}"#;
        assert_eq!(records(answer, 1), Some(vec!["208.111.34.178".parse().unwrap()]), "an address of the tailnet proves nothing");
        assert_eq!(records(answer, 28), Some(vec!["2001:db8::1".parse().unwrap()]));
    }

    #[test]
    fn a_name_that_is_not_there_is_told_from_a_resolver_that_knows_nothing() {
        assert_eq!(records(br#"{"Status":3}"#, 1), Some(vec![]));
        assert_eq!(records(br#"{"Status":0}"#, 1), Some(vec![]), "there, and without an address");
        for nothing in [&b""[..], b"<html>", b"[]", br#"{"Status":2}"#, br#"{"Status":"0"}"#, br#"{"Answer":[]}"#] {
            assert_eq!(records(nothing, 1), None, "{}", String::from_utf8_lossy(nothing));
        }
    }
}
