//! The stream of live changes.

use super::*;

/// A stream as a browser reads it.
struct Stream {
    body: Body,
    text: String,
}

#[derive(Debug)]
struct Event {
    name: String,
    id: Option<u64>,
    data: Value,
}

async fn open(scene: &Scene, last_seen: Option<&str>) -> Stream {
    let mut ask = scene.call("GET", "/api/v1/events/stream");
    if let Some(last_seen) = last_seen {
        ask = ask.header("last-event-id", last_seen);
    }
    let response = ask.begin().await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(response.headers().get("content-encoding").is_none());
    Stream { body: response.into_body(), text: String::new() }
}

impl Stream {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned);
                let event = field("event").map(|name| Event {
                    name,
                    id: field("id").map(|id| id.parse().unwrap()),
                    data: serde_json::from_str(&field("data").unwrap()).unwrap(),
                });
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await.expect("it speaks within ten seconds");
            let data = frame?.unwrap().into_data().unwrap();
            self.text += std::str::from_utf8(&data).unwrap();
        }
    }

    async fn until(&mut self, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if wanted(&event) {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn a_change_is_told_with_its_number() {
    let scene = scene().await;
    let mut stream = open(&scene, None).await;
    let ready = stream.next().await.unwrap();
    assert_eq!((ready.name.as_str(), ready.id), ("ready", Some(0)));
    let share = scene.share().await;
    let offered = stream.until(|event| event.name == "share" && event.data["state"] == "offered").await;
    assert_eq!(offered.data, share);
    assert_eq!(offered.id, Some(2), "created and opened");
}

#[tokio::test]
async fn who_comes_back_hears_what_they_missed_once_and_as_it_stands() {
    let scene = scene().await;
    let first = scene.share().await;
    scene.call("DELETE", &format!("/api/v1/shares/{}", first["id"].as_str().unwrap())).await.expect(200);
    let second = scene.share().await;
    let latest = scene.side.store.latest_seq().await.unwrap();
    // The first share's creation was seen, nothing since.
    let mut stream = open(&scene, Some("1")).await;
    let mut told = Vec::new();
    let ready = stream
        .until(|event| {
            told.push((event.name.clone(), event.data["id"].clone(), event.id));
            event.name == "ready"
        })
        .await;
    told.pop();
    assert!(ready.id >= Some(latest));
    let ids: Vec<&Value> = told.iter().map(|(_, id, _)| id).collect();
    assert_eq!(ids, [&first["id"], &second["id"]], "each once, in the order of their last change");
    assert!(told.windows(2).all(|pair| pair[0].2 < pair[1].2) && told.iter().all(|(name, ..)| name == "share"));
    let third = scene.share().await;
    stream.until(|event| event.name == "share" && event.data["id"] == third["id"]).await;
}

#[tokio::test]
async fn what_cannot_be_replayed_is_asked_for_anew() {
    let scene = scene().await;
    scene.share().await;
    for unknown in ["99999", "x", "-1", "18446744073709551616"] {
        let mut stream = open(&scene, Some(unknown)).await;
        let event = stream.next().await.unwrap();
        assert_eq!(event.name, "resync", "{unknown}");
        assert_eq!(event.id, Some(scene.side.store.latest_seq().await.unwrap()), "it comes back from here the next time");
    }
}

#[tokio::test]
async fn streams_are_bounded_and_give_their_place_back() {
    let scene = scene().await;
    let mut streams = Vec::new();
    for _ in 0..stream::MAX_STREAMS {
        streams.push(open(&scene, None).await);
    }
    let refused = scene.call("GET", "/api/v1/events/stream").await.expect_problem(503, "too_many_streams");
    assert!(!refused.header("retry-after").is_empty());
    streams.pop();
    open(&scene, None).await;
}

#[tokio::test]
async fn a_stream_ends_when_the_program_stops() {
    let scene = scene().await;
    let draining = Draining::default();
    let mut request = scene.call("GET", "/api/v1/events/stream").request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(draining.clone());
    let response = scene.router.clone().oneshot(request).await.unwrap();
    let mut stream = Stream { body: response.into_body(), text: String::new() };
    assert_eq!(stream.next().await.unwrap().name, "ready");
    draining.0.cancel();
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_says_that_it_lives_and_ends_some_day() {
    let scene = scene().await;
    let mut body = scene.call("GET", "/api/v1/events/stream").begin().await.into_body();
    let begun = tokio::time::Instant::now();
    let mut beats = 0;
    while let Some(frame) = body.frame().await {
        beats += usize::from(frame.unwrap().into_data().unwrap().as_ref() == b":\n\n");
    }
    assert!((50..70).contains(&beats), "{beats}");
    assert_eq!(begun.elapsed().as_secs(), 15 * 60);
}
