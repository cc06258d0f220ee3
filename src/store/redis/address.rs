//! What `REDIS_URL` names: one server, a primary that Sentinels know, or a Cluster.

use std::time::Duration;

use std::fmt;

use percent_encoding::percent_decode_str;
use redis::cluster::ClusterClientBuilder;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsMode};

/// The most servers that one address names: more than anybody runs.
const MAX_HOSTS: usize = 32;
const FORMS: &str = "it must be redis://, rediss:// or unix:// (or valkey:// and so on), redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or \
                     redis+cluster://HOST:PORT,HOST:PORT";

/// Where Redis is. Its password is shown nowhere.
#[derive(Clone)]
pub struct RedisAddress(Kind);

#[derive(Clone)]
enum Kind {
    One(Box<ConnectionInfo>),
    Sentinel { hosts: Vec<(String, u16)>, service: String, access: Access },
    Cluster { hosts: Vec<(String, u16)>, access: Access },
}

/// How one gets in.
#[derive(Clone)]
struct Access {
    is_sealed: bool,
    user: Option<String>,
    password: Option<String>,
    database: Option<i64>,
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisAddress({self})")
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[(String, u16)]| hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect::<Vec<_>>().join(",");
        match &self.0 {
            Kind::One(info) => write!(f, "{}", info.addr()),
            Kind::Sentinel { hosts, service, .. } => write!(f, "{service} of the Sentinels {}", list(hosts)),
            Kind::Cluster { hosts, .. } => write!(f, "the Cluster {}", list(hosts)),
        }
    }
}

impl RedisAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// A sentence on what is wrong with it, without any of its text: a password may stand anywhere in what was mistyped.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or(FORMS)?;
        let (is_sealed, kind) = match scheme {
            "redis+sentinel" | "valkey+sentinel" => (false, "sentinel"),
            "rediss+sentinel" | "valkeys+sentinel" => (true, "sentinel"),
            "redis+cluster" | "valkey+cluster" => (false, "cluster"),
            "rediss+cluster" | "valkeys+cluster" => (true, "cluster"),
            "redis" | "rediss" | "valkey" | "valkeys" | "redis+unix" | "valkey+unix" | "unix" => {
                return Self::one(text);
            }
            _ => return Err(FORMS),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = authority.rsplit_once('@').map_or((None, authority), |(before, hosts)| (Some(before), hosts));
        let hosts = hosts_of(hosts, if kind == "sentinel" { 26379 } else { 6379 })?;
        let (user, password) = credentials.map_or(Ok((None, None)), credentials_of)?;
        let access = Access { is_sealed, user, password, database: None };
        if kind == "cluster" {
            if !matches!(path, "" | "0") {
                return Err("a Cluster has only database 0");
            }
            return Ok(Self(Kind::Cluster { hosts, access }));
        }
        let (service, database) = path.split_once('/').unwrap_or((path, ""));
        if service.is_empty() {
            return Err("behind the Sentinels must stand the name of the service, as in redis+sentinel://HOST:PORT/mymaster");
        }
        let database = match database {
            "" => None,
            number => Some(number.parse().map_err(|_| "behind the name of the service may stand the number of a database alone")?),
        };
        Ok(Self(Kind::Sentinel { hosts, service: decoded(service)?, access: Access { database, ..access } }))
    }

    fn one(text: &str) -> Result<Self, &'static str> {
        let info = text.into_connection_info().map_err(|_| FORMS)?;
        Ok(Self(Kind::One(Box::new(info))))
    }

    /// Returns whether an acknowledged write can be lost with one machine unless replicas have it: another takes its place then.
    pub fn fails_over(&self) -> bool {
        !matches!(self.0, Kind::One(_))
    }

    /// Returns how long connecting may take.
    pub(super) fn connects_within(&self) -> Duration {
        if matches!(self.0, Kind::Sentinel { .. }) { super::link::SENTINEL_TIMEOUT } else { super::link::CONNECT_TIMEOUT }
    }

    /// Makes what connects there.
    pub(super) fn server(&self) -> Result<Server, redis::RedisError> {
        match &self.0 {
            Kind::One(info) => Client::open((**info).clone()).map(|client| Server::One(Box::new(client))),
            Kind::Sentinel { hosts, service, access } => access.sentinel(hosts, service).map(|client| Server::Sentinel(Box::new(client))),
            Kind::Cluster { hosts, access } => {
                let mut builder = ClusterClientBuilder::new(hosts.iter().map(|(host, port)| access.info(host, *port)));
                builder = builder.connection_timeout(super::link::CONNECT_TIMEOUT).response_timeout(super::link::COMMAND_TIMEOUT);
                builder = builder.retries(CLUSTER_RETRIES).max_retry_wait(CLUSTER_RETRY_MS).min_retry_wait(CLUSTER_RETRY_MS / 2);
                if access.is_sealed {
                    builder = builder.tls(TlsMode::Secure);
                }
                if let Some(password) = &access.password {
                    builder = builder.password(password);
                }
                if let Some(user) = &access.user {
                    builder = builder.username(user);
                }
                builder.build().map(|client| Server::Cluster(Box::new(client)))
            }
        }
    }
}

/// How often a Cluster is asked again where a slot has moved, and how long is waited between: within the limit of a command. Each
/// write can be sent twice (`writer.rs`).
const CLUSTER_RETRIES: u32 = 3;
const CLUSTER_RETRY_MS: u64 = 200;

/// What connects.
pub(super) enum Server {
    One(Box<Client>),
    Sentinel(Box<SentinelClient>),
    Cluster(Box<redis::cluster::ClusterClient>),
}

impl Access {
    fn address(&self, host: &str, port: u16) -> ConnectionAddr {
        if self.is_sealed {
            ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host.to_owned(), port)
        }
    }

    fn info(&self, host: &str, port: u16) -> ConnectionInfo {
        let mut settings = RedisConnectionInfo::default();
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        let info = self.address(host, port).into_connection_info().expect("an address alone can be connected to");
        info.set_redis_settings(settings)
    }

    fn sentinel(&self, hosts: &[(String, u16)], service: &str) -> redis::RedisResult<SentinelClient> {
        let addresses: Vec<ConnectionAddr> = hosts.iter().map(|(host, port)| self.address(host, *port)).collect();
        let mut builder = SentinelClientBuilder::new(addresses, service, SentinelServerType::Master)?;
        if self.is_sealed {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure).set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(user) = &self.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(database) = self.database {
            builder = builder.set_client_to_redis_db(database);
        }
        builder.build()
    }
}

fn hosts_of(text: &str, default_port: u16) -> Result<Vec<(String, u16)>, &'static str> {
    const WRONG: &str = "its servers must be HOST:PORT,HOST:PORT and so on, an IPv6 address in brackets";
    let hosts = text.split(',').map(|one| {
        let (host, port) = match one.rsplit_once(':') {
            Some((host, port)) if !one.ends_with(']') => (host, port.parse().map_err(|_| WRONG)?),
            _ => (one, default_port),
        };
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
        if is_name { Ok((host.to_owned(), port)) } else { Err(WRONG) }
    });
    let hosts: Vec<(String, u16)> = hosts.collect::<Result<_, _>>()?;
    if hosts.len() > MAX_HOSTS { Err("it names more than 32 servers") } else { Ok(hosts) }
}

fn credentials_of(text: &str) -> Result<(Option<String>, Option<String>), &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let given = |part: &str| if part.is_empty() { Ok(None) } else { decoded(part).map(Some) };
    Ok((given(user)?, given(password)?))
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "what is percent-encoded in it must be UTF-8")?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart_and_show_no_password() {
        for (text, shown) in [
            ("redis://nas", "nas:6379"),
            ("redis://user:s3cret@nas:7000/3", "nas:7000"),
            ("rediss://:s3cret@nas", "nas:6379"),
            ("valkey://nas", "nas:6379"),
            ("unix:///run/redis.sock", "/run/redis.sock"),
            ("redis+unix:///run/redis.sock?pass=s3cret", "/run/redis.sock"),
            ("redis+sentinel://u:s3cret@a:1,b/mymaster/2", "mymaster of the Sentinels a:1,b:26379"),
            ("rediss+sentinel://[fd00::1]:5/m", "m of the Sentinels fd00::1:5"),
            ("redis+cluster://:s3cret@a:1,b:2,c", "the Cluster a:1,b:2,c:6379"),
        ] {
            let address = RedisAddress::parse(text).unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(!format!("{address:?}").contains("s3cret"));
            assert!(address.server().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_wrong_address_is_one_sentence_without_its_text() {
        for text in [
            "",
            "s3cret",
            "http://s3cret@nas",
            "redis://:s3cret@nas:port",
            "redis+sentinel://:s3cret@nas:1",
            "redis+sentinel://nas:s3cret/m",
            "redis+sentinel://nas:1/m/s3cret",
            "redis+cluster://nas:1/3?s3cret",
            "redis+cluster://a b",
            "redis+cluster://:%ff@a",
        ] {
            let sentence = RedisAddress::parse(text).unwrap_err();
            assert!(!sentence.contains("s3cret") && sentence.len() > 20, "{text}: {sentence}");
        }
    }
}
