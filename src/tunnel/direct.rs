//! No tunnel: the recipient listener is reached at `BASE_URL` as it is, by a port forwarding or within the LAN.

use futures_util::future::{BoxFuture, FutureExt, ready};

use super::{Doors, PublicUrl, Standing, Tunnel, TunnelError};
use crate::share::ShareId;

/// Opens and shuts doors of our own listener.
#[derive(Debug)]
pub struct Direct {
    base: PublicUrl,
    doors: Doors,
}

impl Direct {
    /// Takes where the recipient listener is reached, and the doors that it asks.
    pub fn new(base: PublicUrl, doors: Doors) -> Self {
        Self { base, doors }
    }
}

impl Tunnel for Direct {
    fn backend(&self) -> &'static str {
        "direct"
    }

    fn public_url(&self, _: ShareId) -> PublicUrl {
        self.address()
    }

    fn address(&self) -> PublicUrl {
        self.base.clone()
    }

    fn opens_at_once(&self) -> bool {
        true
    }

    fn open(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        self.doors.open(share);
        ready(Ok(())).boxed()
    }

    fn close(&self, share: ShareId) -> BoxFuture<'_, Result<(), TunnelError>> {
        self.doors.shut(share);
        ready(Ok(())).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Standing, TunnelError>> {
        ready(Ok(Standing::open(self.doors.all_open()))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tunnel::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        let doors = Doors::default();
        let tunnel = Arc::new(Direct::new(PublicUrl::new("http://nas.example:8001/"), doors.clone()));
        contract::holds(tunnel, |share| doors.is_open(share)).await;
    }

    #[test]
    fn a_base_url_joins_with_one_slash() {
        let direct = Direct::new(PublicUrl::new("https://example.org/files//"), Doors::default());
        assert_eq!(direct.public_url(ShareId::from_random(1)).at("/abc/x"), "https://example.org/files/abc/x");
    }
}
