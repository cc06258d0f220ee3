//! Finding a file: filters, what is still being written, what is below a folder, what is likely wanted.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::*;

/// Writes a file that changed so many seconds before the scene's clock.
fn put(scene: &Scene, path: &str, bytes: usize, seconds_ago: i64) {
    let at = scene.folder.path().join(path);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(&at, vec![7; bytes]).unwrap();
    age(scene, path, seconds_ago);
}

/// Sets when a file changed, in seconds before the scene's clock.
fn age(scene: &Scene, path: &str, seconds_ago: i64) {
    let changed = u64::try_from(scene.clock.now().wall.0 / 1000 - seconds_ago).unwrap();
    let file = std::fs::File::open(scene.folder.path().join(path)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(changed)).unwrap();
}

/// Waits until the index knows so many files, and all of them.
async fn until_indexed(scene: &Scene, files: usize) {
    let known = || scene.side.catalog.index_health().state;
    while known().building || known().files != files {
        scene.side.catalog.all_files(1).await;
        tokio::task::yield_now().await;
    }
}

/// Films, pictures and a book, of different ages and sizes, which the index knows.
async fn stocked() -> Scene {
    let scene = scene().await;
    age(&scene, "film.mkv", 4000);
    age(&scene, "sub/book.pdf", 5000);
    put(&scene, "photos/beach.jpg", 300, 100_000);
    put(&scene, "photos/2024/dunes.jpg", 20, 200_000);
    put(&scene, "photos/2024/waves.mkv", 50_000, 300);
    for folder in ["sub", "photos/2024", "photos"] {
        age(&scene, folder, 1_000_000);
    }
    until_indexed(&scene, 5).await;
    scene
}

async fn found(scene: &Scene, query: &str) -> (Vec<String>, u64) {
    let page = scene.call("GET", &format!("/api/v1/files?{query}")).await.expect(200).json();
    assert_eq!(keys(&page), ["entries", "index", "next_cursor", "path", "total"]);
    (paths(&page["entries"]), page["total"].as_u64().unwrap())
}

fn paths(entries: &Value) -> Vec<String> {
    entries.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn filters_leave_what_passes_of_a_folder_of_a_search_and_of_everything() {
    let scene = stocked().await;
    for (query, expected, total) in [
        ("kind=video", vec!["film.mkv"], 1),
        ("kind=folder", vec!["photos", "sub"], 2),
        ("kind=folder,video&limit=2", vec!["photos", "sub"], 3),
        ("path=photos&kind=image", vec!["photos/beach.jpg"], 1),
        ("min_bytes=1001", vec![], 0),
        ("min_bytes=1000&max_bytes=1000&kind=", vec!["film.mkv"], 1),
        ("changed_since=2027-01-15", vec!["film.mkv"], 1),
        ("changed_since=2027-01-15T06:53:21Z", vec![], 0),
        ("query=a&kind=image,video", vec!["photos/beach.jpg", "photos/2024/waves.mkv"], 2),
        ("query=a&kind=image,video&limit=1", vec!["photos/beach.jpg"], 2),
        ("query=photos&max_bytes=100", vec!["photos/2024/dunes.jpg"], 1),
        ("query=a&changed_since=2027-01-15&everywhere=true", vec!["photos/2024/waves.mkv"], 1),
        ("everywhere=true&kind=image,video&limit=3", vec!["photos/2024/waves.mkv", "film.mkv", "photos/beach.jpg"], 4),
        ("everywhere=true&kind=document", vec!["sub/book.pdf"], 1),
        ("everywhere=true&limit=1", vec!["photos/2024/waves.mkv"], 8),
        ("everywhere=false&kind=document", vec![], 0),
    ] {
        assert_eq!(found(&scene, query).await, (expected.into_iter().map(str::to_owned).collect(), total), "{query}");
    }
    let index = |query: &str| {
        let ask = scene.call("GET", &format!("/api/v1/files?{query}"));
        async { ask.await.expect(200).json()["index"].clone() }
    };
    assert_eq!(index("everywhere=true").await, json!({ "building": false, "files": 5, "truncated": false }));
    assert_eq!(index("kind=video").await, Value::Null);
}

#[tokio::test]
async fn a_filtered_folder_is_leafed_through_in_each_order() {
    let scene = scene().await;
    for n in 1..=5 {
        put(&scene, &format!("{n}.jpg"), n, 100 * i64::try_from(n).unwrap());
        put(&scene, &format!("{n}.txt"), n, 0);
    }
    for (sort, expected) in [("name", "1 2 3 4 5"), ("newest", "1 2 3 4 5"), ("largest", "5 4 3 2 1")] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let target = format!("/api/v1/files?kind=image&limit=2&sort={sort}&cursor={cursor}");
            let page = scene.call("GET", &target).await.expect(200).json();
            assert_eq!(page["total"], 5);
            seen.extend(paths(&page["entries"]));
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        assert_eq!(seen.join(" ").replace(".jpg", ""), expected, "{sort}");
    }
}

#[tokio::test]
async fn an_entry_says_whether_it_is_still_being_written() {
    let scene = scene().await;
    for (path, seconds_ago) in
        [("old.mkv", 31), ("new.mkv", 29), ("ahead.mkv", -29), ("far ahead.mkv", -31), ("x.mkv.part", 9000), ("in/y.mkv", 5)]
    {
        put(&scene, path, 1, seconds_ago);
    }
    age(&scene, "in", 0);
    let page = scene.call("GET", "/api/v1/files").await.expect(200).json();
    let changing = page["entries"].as_array().unwrap().iter().filter(|entry| entry["changing"] == true);
    let names: Vec<&str> = changing.map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ahead.mkv", "new.mkv", "x.mkv.part"]);
    assert_eq!(scene.call("GET", "/api/v1/files/new.mkv").await.expect(200).json()["changing"], true);
    scene.clock.advance(Duration::from_secs(2));
    assert_eq!(scene.call("GET", "/api/v1/files/new.mkv").await.expect(200).json()["changing"], false);
}

#[tokio::test]
async fn a_folder_says_how_much_is_below_it_wherever_it_is_listed() {
    let scene = stocked().await;
    let photos = (json!(3), json!(50_320));
    let below = |entry: &Value| (entry["files"].clone(), entry["total_bytes"].clone());
    for query in ["", "query=photos", "kind=folder&everywhere=true"] {
        let page = scene.call("GET", &format!("/api/v1/files?{query}")).await.expect(200).json();
        let entry = page["entries"].as_array().unwrap().iter().find(|entry| entry["path"] == "photos").unwrap();
        assert_eq!(below(entry), photos, "{query}");
    }
    assert_eq!(below(&scene.call("GET", "/api/v1/files/photos").await.expect(200).json()), photos);
    let deeper = scene.call("GET", "/api/v1/files?path=photos").await.expect(200).json();
    assert_eq!(below(&deeper["entries"][0]), (json!(2), json!(50_020)));
    assert_eq!(below(&deeper["entries"][1]), (Value::Null, Value::Null), "that is a file");
}

#[tokio::test]
async fn what_was_shared_before_stands_beside_what_is_new() {
    let scene = stocked().await;
    let empty = scene.call("GET", "/api/v1/recent").await.expect(200).json();
    assert_eq!((keys(&empty), &empty["shared"]), (vec!["newest", "shared"], &json!([])));
    assert_eq!(paths(&empty["newest"]), ["photos/2024/waves.mkv", "film.mkv", "sub/book.pdf", "photos/beach.jpg", "photos/2024/dunes.jpg"]);

    let share = async |path: &str| {
        scene.clock.advance(Duration::from_secs(60));
        let body = json!({ "path": path }).to_string();
        scene.call("POST", "/api/v1/shares").json(body).await.expect(201).json()["id"].as_str().unwrap().to_owned()
    };
    for path in ["film.mkv", "sub/book.pdf", "photos/beach.jpg", "film.mkv", "photos/2024/dunes.jpg"] {
        let id = share(path).await;
        if path != "sub/book.pdf" {
            scene.call("DELETE", &format!("/api/v1/shares/{id}")).await.expect(200);
        }
    }
    // One is gone, and one became a folder.
    std::fs::remove_file(scene.folder.path().join("photos/beach.jpg")).unwrap();
    std::fs::remove_file(scene.folder.path().join("photos/2024/dunes.jpg")).unwrap();
    std::fs::create_dir(scene.folder.path().join("photos/2024/dunes.jpg")).unwrap();
    let recent = scene.call("GET", "/api/v1/recent").await.expect(200).json();
    assert_eq!(paths(&recent["shared"]), ["film.mkv", "sub/book.pdf"]);
    let film = &recent["shared"][0];
    assert_eq!((&film["shares"], &film["shared_at"]), (&json!(2), &json!("2027-01-15T08:04:00Z")));
    assert_eq!((&film["size_bytes"], &film["kind"], &film["changing"]), (&json!(1000), &json!("file"), &json!(false)));
    assert_eq!((&recent["shared"][1]["shares"], &recent["shared"][1]["name"]), (&json!(1), &json!("book.pdf")));

    let one = scene.call("GET", "/api/v1/recent?limit=1").await.expect(200).json();
    assert_eq!((paths(&one["shared"]), paths(&one["newest"])), (vec!["film.mkv".to_owned()], vec!["photos/2024/waves.mkv".to_owned()]));
}

#[tokio::test]
async fn no_more_than_fifty_are_likely_wanted() {
    let scene = scene().await;
    for n in 0..60 {
        put(&scene, &format!("{n}.txt"), 1, 1000 + n);
    }
    until_indexed(&scene, 62).await;
    let newest = async |query: &str| paths(&scene.call("GET", &format!("/api/v1/recent{query}")).await.expect(200).json()["newest"]).len();
    assert_eq!((newest("").await, newest("?limit=1000").await), (20, 50));
}
