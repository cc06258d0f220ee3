//! The Redis in which several controllers share their state.

use super::source::Source;
use super::values::{Secret, shown, whole, yes_or_no};
use crate::store::redis::{RedisAddress, RedisOptions};
use crate::store::shared::MAX_NAME_BYTES;

/// The most replicas that a write waits for: more than anybody runs.
const MAX_REPLICAS: u64 = 16;

/// A Redis, and how it is used.
#[derive(Debug, Clone)]
pub struct Redis {
    /// Where it is, as it was written: it may hold a password.
    pub url: Secret,
    /// Where it is.
    pub address: RedisAddress,
    /// What its keys begin with.
    pub prefix: String,
    /// How many replicas must have a write before it counts.
    pub replicas: u64,
    /// Whether one is taken that may forget what it has acknowledged.
    pub accepts_loss: bool,
    /// What this controller is called.
    pub name: String,
}

impl Redis {
    /// Returns how it is opened by the controller of a state folder.
    pub fn options(&self, folder: [u8; 16]) -> RedisOptions {
        RedisOptions { address: self.address.clone(), prefix: self.prefix.clone(), replicas: self.replicas, folder }
    }

    /// Returns what of it differs, by the names of the settings.
    pub(super) fn differs(one: Option<&Self>, other: Option<&Self>, name: &str) -> bool {
        let part = |redis: Option<&Self>| {
            redis.map(|redis| match name {
                "REDIS_URL" => redis.url.expose().to_owned(),
                "REDIS_PREFIX" => redis.prefix.clone(),
                "REDIS_REPLICAS" => redis.replicas.to_string(),
                "REDIS_ACCEPT_LOSS" => redis.accepts_loss.to_string(),
                _ => redis.name.clone(),
            })
        };
        // The others are nothing without the first.
        part(one) != part(other) && (name == "REDIS_URL" || one.is_some() && other.is_some())
    }
}

impl Source<'_> {
    pub(super) fn redis(&mut self) -> Option<Redis> {
        let url = self.secret("REDIS_URL", |text| RedisAddress::parse(text).map(drop).map_err(str::to_owned));
        let prefix = self.required("REDIS_PREFIX", |text| {
            let wrong = || format!("{} is not allowed; it must be letters, digits and -_.: alone, 64 at most", shown(text));
            RedisOptions::is_prefix(text).then(|| text.to_owned()).ok_or_else(wrong)
        });
        let replicas = self.optional("REDIS_REPLICAS", |text| whole(text, 0..=MAX_REPLICAS));
        let accepts_loss = self.required("REDIS_ACCEPT_LOSS", yes_or_no);
        let name = self.optional("CONTROLLER_NAME", |text| {
            let is_name = text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control);
            is_name.then(|| text.to_owned()).ok_or_else(|| format!("{} is no name of {MAX_NAME_BYTES} bytes at most", shown(text)))
        });
        let url = url?;
        let address = RedisAddress::parse(url.expose()).ok()?;
        let replicas = replicas.unwrap_or(u64::from(address.fails_over()));
        let name = name.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        Some(Redis { url, address, prefix, replicas, accepts_loss, name })
    }
}
