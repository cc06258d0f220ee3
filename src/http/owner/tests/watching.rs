//! The stream of live changes.

use super::*;
use crate::share::ShareId;

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

/// Takes what comes up to `ready`, and returns what it was.
async fn until_ready(stream: &mut Stream) -> Vec<Event> {
    let mut told = Vec::new();
    loop {
        let event = stream.next().await.expect("the stream goes on");
        let is_ready = event.name == "ready";
        told.push(event);
        if is_ready {
            return told;
        }
    }
}

fn ids_of(events: &[Event], name: &str) -> Vec<Option<u64>> {
    events.iter().filter(|event| event.name == name).map(|event| event.id).collect()
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<Option<u64>> {
    range.map(Some).collect()
}

/// Writes a share into the store of which the controller knows nothing, as one that another process made: a line that is
/// not told.
async fn write_untold(scene: &Scene) -> ShareId {
    let now = scene.clock.now();
    let path = crate::share::CatalogPath::parse("film.mkv").unwrap();
    let file = crate::share::SharedFile { identity: scene.side.catalog.open(&path).await.unwrap().identity, path };
    let policy = crate::share::Policy::new(crate::share::PolicyRequest::default(), LIMITS, now).unwrap();
    let (share, facts) = crate::share::Share::new(random::share_id(), random::token_id(), file, policy, None, now);
    let id = share.id;
    scene.side.store.save(crate::store::Save { share: Arc::new(share), facts, at: now }).await.unwrap();
    id
}

#[tokio::test]
async fn each_line_is_told_as_the_log_has_it_and_the_share_behind_it() {
    let scene = scene().await;
    let mut stream = open(&scene, None).await;
    let ready = until_ready(&mut stream).await;
    assert_eq!((ready.len(), ready[0].id), (1, Some(0)));
    let share = scene.share().await;
    let mut told = Vec::new();
    stream
        .until(|event| {
            told.push((event.name.clone(), event.id, event.data.clone()));
            event.name == "share" && event.data["state"] == "offered"
        })
        .await;
    let (_, id, offered) = told.pop().unwrap();
    assert_eq!((id, &offered), (None, &share));
    let log = scene.call("GET", "/api/v1/events").await.expect(200).json()["events"].clone();
    let lines: Vec<Value> = told.iter().filter(|(name, ..)| name == "log").map(|(.., line)| line.clone()).collect();
    assert_eq!(Value::from(lines), log);
    let ids: Vec<_> = told.iter().filter(|(name, ..)| name == "log").map(|(_, id, _)| *id).collect();
    assert_eq!(ids, numbers(1..=2), "created and opened");
}

#[tokio::test]
async fn who_comes_back_gets_every_line_since_and_then_each_share_once_as_it_stands() {
    let scene = scene().await;
    let first = scene.share().await;
    scene.call("DELETE", &format!("/api/v1/shares/{}", first["id"].as_str().unwrap())).await.expect(200);
    let second = scene.share().await;
    let latest = scene.side.store.latest_seq().await.unwrap();
    // The first share's creation was seen, nothing since.
    let mut stream = open(&scene, Some("1")).await;
    let told = until_ready(&mut stream).await;
    assert_eq!(ids_of(&told, "log"), numbers(2..=latest));
    let shares: Vec<&Value> = told.iter().filter(|event| event.name == "share").map(|event| &event.data).collect();
    let of: Vec<&Value> = shares.iter().map(|share| &share["id"]).collect();
    assert_eq!(of, [&first["id"], &second["id"]], "each once, in the order of their last change");
    assert_eq!((&shares[0]["outcome"], &shares[1]["state"]), (&"revoked".into(), &"offered".into()));
    assert_eq!(told.last().unwrap().id, Some(latest));
    let third = scene.share().await;
    stream.until(|event| event.name == "share" && event.data["id"] == third["id"]).await;
}

#[tokio::test]
async fn a_number_of_another_log_begins_anew_and_says_so() {
    let scene = scene().await;
    scene.share().await;
    for unknown in ["99999", "x", "-1", "18446744073709551616"] {
        let mut stream = open(&scene, Some(unknown)).await;
        let told = until_ready(&mut stream).await;
        let names: Vec<(&str, Option<u64>)> = told.iter().map(|event| (event.name.as_str(), event.id)).collect();
        let latest = scene.side.store.latest_seq().await.unwrap();
        assert_eq!(names, [("resync", None), ("ready", Some(latest))], "{unknown}: it comes back from here the next time");
    }
}

#[tokio::test]
async fn a_long_absence_costs_no_line_and_asks_once_for_the_shares() {
    let scene = scene().await;
    for _ in 0..1234 {
        write_untold(&scene).await;
    }
    let mut stream = open(&scene, Some("3")).await;
    let told = until_ready(&mut stream).await;
    assert_eq!(ids_of(&told, "log"), numbers(4..=1234));
    assert_eq!(ids_of(&told, "resync"), [None], "too many shares changed to tell of each");
    assert_eq!(ids_of(&told, "share"), []);
}

#[tokio::test]
async fn lines_that_were_not_told_are_read_and_stand_before_those_that_were() {
    let scene = scene().await;
    let mut stream = open(&scene, None).await;
    until_ready(&mut stream).await;
    let untold = write_untold(&scene).await;
    let share = scene.share().await;
    let (mut lines, mut shares) = (Vec::new(), Vec::new());
    stream
        .until(|event| {
            match event.name.as_str() {
                "log" => lines.push(event.id),
                "share" => shares.push(event.data["id"].clone()),
                other => panic!("{other}"),
            }
            event.name == "share" && event.data["state"] == "offered" && event.data["id"] == share["id"]
        })
        .await;
    assert_eq!(lines, numbers(1..=3));
    assert!(shares.contains(&untold.to_string().into()), "the share of the line that was read is told of, too");
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_to_read_again_and_misses_no_line() {
    let scene = scene().await;
    let mut stream = open(&scene, None).await;
    until_ready(&mut stream).await;
    let share = scene.share().await;
    let id = share["id"].as_str().unwrap().parse().unwrap();
    for seconds in 0..1500 {
        scene.side.controller.extend(id, Duration::from_secs(60 + seconds)).await.unwrap();
    }
    let latest = scene.side.store.latest_seq().await.unwrap();
    let mut told = Vec::new();
    while told.iter().filter(|event: &&Event| event.name == "log").count() < latest as usize {
        told.push(stream.next().await.expect("the stream goes on"));
    }
    let after = scene.share().await;
    told.push(stream.until(|event| event.name == "resync").await);
    stream.until(|event| event.name == "share" && event.data["id"] == after["id"]).await;
    assert_eq!(ids_of(&told, "log"), numbers(1..=latest));
    assert_eq!(ids_of(&told, "resync"), [None]);
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
