use tokio::time::sleep;

use super::*;
use crate::share::Timestamp;
use crate::store::mortal::Mortal;

const NOW: Moment = Moment { steady: Steady(1_000_000), wall: Timestamp(1_800_000_000_000) };

fn new(name: &str) -> NewToken {
    NewToken { id: new_id(), name: name.to_owned(), scope: Scope::Read, lifetime: None }
}

/// Tokens over a disk that can hang, two of them made.
async fn two() -> (Arc<Mortal>, Tokens, [(ApiToken, String); 2]) {
    let store = Arc::new(Mortal::default());
    let tokens = Tokens::new(store.clone());
    let made = [tokens.make(new("one"), NOW).await.unwrap(), tokens.make(new("two"), NOW).await.unwrap()];
    (store, tokens, made)
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_made_or_revoked_on_a_disk_that_hangs_keeps_no_other_waiting() {
    let (store, tokens, [(_, stays), (goes, gone)]) = two().await;
    assert!(tokens.find(&gone, NOW).await.unwrap().is_some());
    // At first the table is fresh, then it is to be read anew.
    for later in [NOW, NOW.plus(BELIEVED_FOR)] {
        store.hangs.send_replace(true);
        let changes = async { tokio::join!(tokens.make(new("three"), later), tokens.revoke(&goes.id)) };
        let look = async {
            sleep(Duration::from_secs(1)).await;
            let find = async { (tokens.find(&stays, later).await.unwrap(), tokens.find(&gone, later).await.unwrap()) };
            let found = timeout(NOTED_WITHIN, find).await;
            store.hangs.send_replace(false);
            found
        };
        let ((made, revoked), found) = tokio::join!(changes, look);
        let (stays, gone) = found.expect("a script waits for what another does");
        assert!(stays.is_some(), "a token works while another is made");
        assert!(gone.is_none(), "what is being revoked opens nothing");
        revoked.unwrap();
        let (_, secret) = made.unwrap();
        assert!(tokens.find(&secret, later).await.unwrap().is_some());
    }
    assert!(tokens.find(&gone, NOW.plus(BELIEVED_FOR * 2)).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_nobody_waits_for_any_more_is_decided_by_the_store() {
    let (store, tokens, [(token, secret), _]) = two().await;
    store.hangs.send_replace(true);
    assert!(timeout(Duration::from_secs(1), tokens.revoke(&token.id)).await.is_err());
    store.hangs.send_replace(false);
    // The store above does nothing for whoever left.
    assert!(tokens.find(&secret, NOW).await.unwrap().is_some());
    tokens.revoke(&token.id).await.unwrap();
    assert!(tokens.find(&secret, NOW).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_two_revoke_stays_shut_where_one_of_them_leaves() {
    let (store, tokens, [(token, secret), _]) = two().await;
    store.hangs.send_replace(true);
    let leaves = timeout(Duration::from_secs(1), tokens.revoke(&token.id));
    let stays = async { tokio::join!(tokens.revoke(&token.id), tokens.find(&secret, NOW)).0 };
    let look = async {
        sleep(Duration::from_secs(2)).await;
        let found = (tokens.find(&secret, NOW).await, tokens.holds(&token.id, NOW).await);
        store.hangs.send_replace(false);
        found
    };
    let (left, stayed, found) = tokio::join!(leaves, stays, look);
    assert!(left.is_err() && stayed.is_ok());
    assert!(found.0.unwrap().is_none() && !found.1.unwrap(), "one of them waits still");
}
