//! What every tunnel promises. `tests/it` holds tunnels to it that need the real thing, so it names nothing but its parent.

use std::sync::Arc;

use super::{ShareId, Standing, Tunnel};

/// Holds `tunnel` to its promises. `reaches` says whether the share's path leads in, asked from outside the tunnel.
pub(crate) async fn holds(tunnel: Arc<dyn Tunnel>, reaches: impl Fn(ShareId) -> bool) {
    let (ours, other) = (ShareId::from_random(1), ShareId::from_random(2));

    assert!(!reaches(ours), "nothing leads in before it is opened");
    tunnel.close(ours).await.expect("closing what was never opened is fine");

    tunnel.open(ours).await.expect("it opens");
    assert!(reaches(ours) && !reaches(other), "it opens what was asked for and nothing else");
    tunnel.open(ours).await.expect("opening twice is fine");
    assert!(tunnel.list().await.expect("it lists").open.contains(&ours));

    tunnel.open(other).await.expect("two stand side by side");
    tunnel.close(ours).await.expect("it closes");
    assert!(!reaches(ours) && reaches(other), "it closes what was asked for and nothing else");
    tunnel.close(ours).await.expect("closing twice is fine");
    assert_eq!(tunnel.list().await.expect("it lists").open.into_iter().collect::<Vec<_>>(), [other]);

    tunnel.open(ours).await.expect("it opens again");
    assert!(reaches(ours));
    for share in [ours, other] {
        tunnel.close(share).await.expect("it closes");
    }
    assert_eq!(tunnel.list().await.expect("it lists"), Standing::default(), "and nobody else took any away");
    assert_eq!(tunnel.public_url(ours), tunnel.public_url(ours), "its address stays");
}
