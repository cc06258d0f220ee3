//! Sessions and API tokens.

use std::sync::Arc;

use super::seconds;
use crate::share::{Steady, Timestamp};
use crate::store::{ApiToken, ApiTokenId, MAX_API_TOKENS, MAX_SESSIONS, Scope, Session, Store, StoreError};

pub(in crate::store) async fn a_session_lives_until_its_end_and_can_be_prolonged(store: Arc<dyn Store>) {
    let session = session([1; 32], Steady(100));
    store.put_session(session.clone()).await.unwrap();
    assert_eq!(store.session([1; 32], Steady(99)).await.unwrap(), Some(session.clone()));
    assert_eq!(store.session([1; 32], Steady(100)).await.unwrap(), None);
    assert_eq!(store.session([2; 32], Steady(0)).await.unwrap(), None);
    for expires in [200, 150] {
        store.put_session(Session { expires: Steady(expires), ..session.clone() }).await.unwrap();
        assert_eq!(store.session([1; 32], Steady(199)).await.unwrap(), Some(Session { expires: Steady(200), ..session.clone() }));
    }
}

pub(in crate::store) async fn a_session_ends_when_told_and_takes_the_stale_with_it(store: Arc<dyn Store>) {
    for (n, expires) in [(1, 100), (2, 100), (3, 300)] {
        store.put_session(session([n; 32], Steady(expires))).await.unwrap();
    }
    store.end_session([1; 32], Steady(50)).await.unwrap();
    assert_eq!(store.session([1; 32], Steady(0)).await.unwrap(), None);
    assert!(store.session([2; 32], Steady(0)).await.unwrap().is_some());
    store.end_session([9; 32], Steady(100)).await.unwrap();
    assert_eq!(store.session([2; 32], Steady(0)).await.unwrap(), None);
    assert!(store.session([3; 32], Steady(0)).await.unwrap().is_some());
}

pub(in crate::store) async fn sessions_have_a_bound(store: Arc<dyn Store>) {
    let session = |n: usize| {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        session(digest, Steady(1000 + n as i64))
    };
    futures_util::future::try_join_all((0..=MAX_SESSIONS).map(|n| store.put_session(session(n)))).await.unwrap();
    assert_eq!(store.session(session(0).digest, Steady(0)).await.unwrap(), None);
    for n in [1, MAX_SESSIONS] {
        assert_eq!(store.session(session(n).digest, Steady(0)).await.unwrap(), Some(session(n)));
    }
}

pub(in crate::store) async fn a_session_keeps_where_it_came_from_and_when_it_was_seen(store: Arc<dyn Store>) {
    let signed_in = Session {
        created: Timestamp(5),
        seen: Timestamp(5),
        address: Some("192.0.2.7".to_owned()),
        agent: "Firefox".to_owned(),
        ..session([1; 32], Steady(100))
    };
    store.put_session(signed_in.clone()).await.unwrap();
    for seen in [9, 7] {
        store.put_session(Session { seen: Timestamp(seen), ..session([1; 32], Steady(100)) }).await.unwrap();
    }
    assert_eq!(store.session([1; 32], Steady(0)).await.unwrap(), Some(Session { seen: Timestamp(9), ..signed_in }));
}

pub(in crate::store) async fn sessions_are_listed_the_one_seen_last_first(store: Arc<dyn Store>) {
    let all = [(1, 10, 100), (2, 30, 100), (3, 30, 100), (4, 40, 50), (5, 20, 100)]
        .map(|(n, seen, expires)| Session { seen: Timestamp(seen), ..session([n; 32], Steady(expires)) });
    for session in all.clone() {
        store.put_session(session).await.unwrap();
    }
    let [oldest, second, third, ended, fourth] = all;
    assert_eq!(store.sessions(Steady(50)).await.unwrap(), [&second, &third, &fourth, &oldest].map(Session::clone));
    assert_eq!(store.sessions(Steady(49)).await.unwrap().first(), Some(&ended));
}

pub(in crate::store) async fn an_api_token_comes_back_until_it_is_removed(store: Arc<dyn Store>) {
    let first = ApiToken { expires: Some(seconds(90)), scope: Scope::Admin, ..token(1) };
    let second = ApiToken { scope: Scope::Read, name: "sauvegarde \"é\"".to_owned(), ..token(2) };
    for token in [&first, &second] {
        store.put_api_token(token.clone()).await.unwrap();
    }
    assert_eq!(store.api_tokens().await.unwrap(), [second.clone(), first.clone()]);
    for at in [70, 60] {
        store.api_token_used(first.id.clone(), Timestamp(at)).await.unwrap();
    }
    let used = ApiToken { last_used: Some(Timestamp(70)), ..first };
    assert_eq!(store.remove_api_token(used.id.clone()).await.unwrap(), Some(used.clone()));
    assert_eq!(store.remove_api_token(used.id.clone()).await.unwrap(), None);
    store.api_token_used(used.id, Timestamp(80)).await.unwrap();
    assert_eq!(store.api_tokens().await.unwrap(), [second], "what is gone stays gone");
}

pub(in crate::store) async fn api_tokens_have_a_bound(store: Arc<dyn Store>) {
    for n in 0..MAX_API_TOKENS {
        store.put_api_token(token(n)).await.unwrap();
    }
    let refused = store.put_api_token(token(MAX_API_TOKENS)).await;
    assert!(matches!(refused, Err(StoreError::Full { most: MAX_API_TOKENS, .. })), "{refused:?}");
    store.remove_api_token(token(0).id).await.unwrap();
    store.put_api_token(token(MAX_API_TOKENS)).await.unwrap();
    assert_eq!(store.api_tokens().await.unwrap().len(), MAX_API_TOKENS);
}

pub(in crate::store) async fn no_two_api_tokens_share_an_id_or_a_secret(store: Arc<dyn Store>) {
    store.put_api_token(token(1)).await.unwrap();
    for twin in [ApiToken { id: token(1).id, ..token(2) }, ApiToken { digest: token(1).digest, ..token(2) }] {
        assert!(matches!(store.put_api_token(twin).await, Err(StoreError::Unavailable { .. })));
    }
    assert_eq!(store.api_tokens().await.unwrap(), [token(1)]);
}

pub(in crate::store) fn token(n: usize) -> ApiToken {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&n.to_be_bytes());
    ApiToken {
        id: ApiTokenId::parse(&format!("token{n}")).unwrap(),
        name: format!("script {n}"),
        scope: Scope::Share,
        digest,
        created: Timestamp(n as i64),
        expires: None,
        last_used: None,
    }
}

pub(in crate::store) fn session(digest: [u8; 32], expires: Steady) -> Session {
    Session { digest, expires, created: Timestamp(0), seen: Timestamp(0), address: None, agent: String::new() }
}
