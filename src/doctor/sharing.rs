//! The Redis that is shared, where one is.

use std::time::Duration;

use super::Finding;
use crate::config::Redis;
use crate::share::Timestamp;
use crate::store::redis::{RedisLook, look_at};

/// How far its clock may be from ours before it is worth a word: who is silent is found by Redis's clock, which need not be right, but
/// one that is not kept right jumps when somebody sets it.
const MAX_SKEW: Duration = Duration::from_secs(2);

/// Looks at it, without writing anything.
pub(super) async fn look(redis: &Redis, now: Timestamp) -> Vec<Finding> {
    // Nothing is read that is of a state folder.
    match look_at(&redis.options([0; 16])).await {
        Ok(look) => findings(redis, &look, now),
        Err(error) => {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            vec![Finding::wrong(format!("REDIS_URL: {} ({cause}); start it, or name another", redis.address))]
        }
    }
}

fn findings(redis: &Redis, look: &RedisLook, now: Timestamp) -> Vec<Finding> {
    let mut findings = vec![Finding::fine(format!("REDIS_URL: {} answers, version {}", redis.address, look.version))];
    if let Some(problem) = look.later_format() {
        findings.push(Finding::wrong(format!("REDIS_PREFIX: {problem}")));
    }
    for risk in &look.risks {
        let sentence = format!("REDIS_URL: a used link could work again after a crash, since {risk}");
        findings.push(if redis.accepts_loss {
            Finding::odd(sentence)
        } else {
            Finding::wrong(format!("{sentence}; or accept that with REDIS_ACCEPT_LOSS=yes"))
        });
    }
    if look.risks.is_empty() {
        findings.push(Finding::fine("REDIS_URL: what it has acknowledged is on its disk"));
    }
    if look.replicas < redis.replicas {
        let (have, want) = (look.replicas, redis.replicas);
        findings.push(Finding::wrong(format!(
            "REDIS_REPLICAS: it is {want}, and {have} are connected, so no share can be made; connect more, or set it to {have}"
        )));
    } else if redis.replicas > 0 {
        findings.push(Finding::fine(format!("REDIS_REPLICAS: {} are connected, {} must have each write", look.replicas, redis.replicas)));
    }
    let skew = Duration::from_millis(look.clock.0.abs_diff(now.0));
    if skew > MAX_SKEW {
        findings.push(Finding::odd(format!(
            "REDIS_URL: its clock and ours are {} s apart; have both set by NTP, or links end when one of them says so",
            skew.as_secs()
        )));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Settings};
    use crate::doctor::Verdict;
    use crate::store::redis::Risk;

    fn redis(settings: &[(&str, &str)]) -> Redis {
        let mut given = Settings::default();
        settings.iter().for_each(|(name, value)| given.set(name, *value));
        // A secret is no flag: it stands in a file.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "redis://:s3cret@cache").unwrap();
        given.set("REDIS_URL_FILE", file.path());
        Config::load(&given).unwrap().redis.unwrap()
    }

    fn told(redis: &Redis, look: &RedisLook) -> Vec<(Verdict, String)> {
        findings(redis, look, Timestamp(10_000)).iter().map(|finding| (finding.verdict(), finding.parts().text.to_owned())).collect()
    }

    #[test]
    fn a_redis_is_looked_at_from_all_sides() {
        let well = RedisLook { version: "7".to_owned(), risks: vec![], replicas: 0, clock: Timestamp(11_000), format: Some(1) };
        let plain = redis(&[]);
        assert!(told(&plain, &well).iter().all(|(verdict, _)| *verdict == Verdict::Fine));
        let wrong = |redis: &Redis, look: &RedisLook| -> Vec<String> {
            told(redis, look).into_iter().filter(|(verdict, _)| *verdict == Verdict::Wrong).map(|(_, text)| text).collect()
        };
        let risky = RedisLook { risks: vec![Risk::LateFlush("everysec".to_owned())], ..well.clone() };
        assert!(wrong(&plain, &risky)[0].contains("appendfsync is everysec"));
        assert_eq!(wrong(&redis(&[("REDIS_ACCEPT_LOSS", "yes")]), &risky), [""; 0]);
        assert!(wrong(&redis(&[("REDIS_REPLICAS", "1")]), &well)[0].contains("0 are connected"));
        assert!(wrong(&plain, &RedisLook { format: Some(2), ..well.clone() })[0].contains("later version"));
        let odd = told(&plain, &RedisLook { clock: Timestamp(7000), ..well });
        assert!(odd.iter().any(|(verdict, text)| *verdict == Verdict::Odd && text.contains("3 s apart")), "{odd:?}");
    }

    #[tokio::test]
    async fn one_that_is_away_is_told_without_its_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "redis://:s3cret@127.0.0.1:1").unwrap();
        let mut given = Settings::default();
        given.set("REDIS_URL_FILE", file.path());
        let findings = look(&Config::load(&given).unwrap().redis.unwrap(), Timestamp(0)).await;
        assert!(findings[0].is_wrong() && findings[0].to_string().contains("127.0.0.1:1"), "{findings:?}");
        assert!(!format!("{findings:?}").contains("s3cret"));
    }
}
