//! Downloads that nginx goes on with while the product is dead: each is seen again, or ended, and none of them is forgotten.

use std::time::Duration;

use super::product::delivered;
use crate::harness::{Client, Offer, SOON, Server, Setup, free_port, put, sha256};

const MIB: usize = 1024 * 1024;
/// More than the kernels on the way hold by far.
const FILM_BYTES: usize = 24 * MIB;
const GRACE: Duration = Duration::from_secs(2);

/// Somebody has all of the film, and fetches it again.
struct Again {
    server: Server,
    offer: Offer,
    client: Client,
    got: usize,
}

impl Again {
    fn new(grace: Duration) -> Self {
        let server = Setup::new().behind_nginx().set("GRACE_PERIOD_SECONDS", grace.as_secs()).start();
        let content = put(&server, "film.mkv", FILM_BYTES);
        let offer = server.share("film.mkv");
        let transfer = server.redeem(&offer);
        let all = server.fetch("GET", &transfer, &["Connection: close"]).expect("an answer").expect_status(200);
        assert_eq!(sha256(&all.body), sha256(&content));
        server.wait_for(&offer.id, "all of it is delivered", |share| share["state"] == "delivered");
        let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
        client.ask("GET", &transfer, &["Connection: close"]);
        client.answer_head().expect("an answer").expect_status(200);
        let got = client.read_some(MIB).len();
        Self { server, offer, client, got }
    }

    fn assert_cut(&mut self) {
        self.got += self.client.read_to_close(SOON).len();
        assert!(self.got < FILM_BYTES, "all of it came");
    }
}

#[test]
fn what_is_fetched_again_while_the_product_is_dead_is_cut_with_its_share() {
    let mut again = Again::new(Duration::from_secs(60));
    again.server.kill();
    again.server.start();
    again.got += again.client.read_some(MIB).len();
    again.server.revoke(&again.offer.id);
    again.assert_cut();
    assert_eq!(again.server.outcome(&again.offer.id), "revoked");
}

#[test]
fn what_is_fetched_again_is_cut_at_the_start_where_its_share_ended_meanwhile() {
    let mut again = Again::new(GRACE);
    again.server.kill();
    std::thread::sleep(GRACE);
    again.server.start();
    again.assert_cut();
    assert_eq!(again.server.outcome(&again.offer.id), "completed");
}

#[test]
fn what_nginx_sends_is_ended_where_it_is_not_to_send_any_more() {
    let mut server = Setup::new().behind_nginx().start();
    put(&server, "film.mkv", FILM_BYTES);
    let offer = server.share("film.mkv");
    let transfer = server.redeem(&offer);
    let mut client = Client::connect_with_small_buffer(server.recipient, 16 * 1024);
    client.ask("GET", &transfer, &["Connection: close"]);
    client.answer_head().expect("an answer").expect_status(200);
    let got = client.read_some(MIB).len();
    server.kill();
    let nginx = server.without_nginx(free_port());
    server.start();
    assert!(got + client.read_to_close(SOON).len() < FILM_BYTES, "all of it came");
    let share = server.wait_for(&offer.id, "nothing runs any more", |share| share["state"] == "waiting");
    assert_eq!(server.uses(&offer.id), 1, "{share:#}");
    // Whoever asks for the end of it says nothing about what was never sent.
    const END: usize = 20 * MIB;
    let end = server.fetch("GET", &transfer, &["Connection: close", &format!("Range: bytes={END}-")]).expect("an answer");
    assert_eq!(end.expect_status(206).body.len(), FILM_BYTES - END);
    let share = server.wait_for(&offer.id, "it is counted", |share| delivered(share) >= (FILM_BYTES - END) as u64);
    assert!(delivered(&share) < (FILM_BYTES - END + 4 * MIB) as u64, "{share:#}");
    let all = server.fetch("GET", &transfer, &["Connection: close"]).expect("an answer").expect_status(200);
    assert_eq!(all.body.len(), FILM_BYTES);
    server.wait_for(&offer.id, "all of it is delivered", |share| share["state"] == "delivered");
    drop(nginx);
}
