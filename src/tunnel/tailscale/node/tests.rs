use super::*;
use crate::clock::FakeClock;
use crate::share::{Moment, Steady};

fn options(folder: &Path) -> NodeOptions {
    let now = Moment { steady: Steady(0), wall: Timestamp(1_795_000_000_000) };
    NodeOptions {
        docker: Docker::new("unix:///nonexistent/docker.sock").unwrap(),
        image: Image { name: DEFAULT_IMAGE.to_owned(), may_pull: false },
        given: Given { auth_key_file: "/key".into(), ..Given::default() },
        folder: folder.join("nodes"),
        folder_on_host: None,
        target: "portcullis:8001".to_owned(),
        hold: Hold::Here,
        most: 8,
        max_life: Duration::from_secs(3600),
        clock: Arc::new(FakeClock::at(now)),
    }
}

#[test]
fn options_that_cannot_be_are_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut NodeOptions)| {
        let mut options = options(folder.path());
        change(&mut options);
        Nodes::new(options, Doors::default()).map(drop).unwrap_err().to_string()
    };
    assert_eq!(refused(&|options| options.most = 0), "there may be 1 to 100 nodes at once, not 0");
    assert_eq!(refused(&|options| options.most = 101), "there may be 1 to 100 nodes at once, not 101");
    let relative = refused(&|options| options.given.auth_key_file = "key".into());
    assert_eq!(relative, "the file of the auth key must be named from / on, as Docker finds it, and is key");
    let long = refused(&|options| options.folder = folder.path().join("x".repeat(80)));
    assert!(long.ends_with("is too long for a socket's path: use a state folder with a shorter path"), "{long}");
    std::fs::write(folder.path().join("file"), "").unwrap();
    let unusable = refused(&|options| options.folder = folder.path().join("file/nodes"));
    assert!(unusable.contains("cannot be used for the sockets of nodes"), "{unusable}");
}

#[test]
fn a_state_folder_knows_its_containers_again() {
    use std::os::unix::fs::PermissionsExt;
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let instance = |folder: &Path| Nodes::new(options(folder), Doors::default()).unwrap().instance;
    let first = instance(one.path());
    assert_eq!(first, instance(one.path()));
    assert_ne!(first, instance(other.path()));
    assert_eq!(std::fs::metadata(one.path().join("nodes")).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::write(one.path().join("nodes/instance"), "x y").unwrap();
    let error = Nodes::new(options(one.path()), Doors::default()).map(drop).unwrap_err();
    assert!(error.to_string().contains("does not hold what this program wrote"), "{error}");
}

#[tokio::test]
async fn an_engine_that_is_away_is_told_as_trouble_and_the_door_is_shut_all_the_same() {
    let (folder, doors) = (tempfile::tempdir().unwrap(), Doors::default());
    let nodes = Nodes::new(options(folder.path()), doors.clone()).unwrap();
    let share = ShareId::from_random(1);
    doors.open(share);
    let error = nodes.close(share).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().starts_with("Docker does not answer at unix:///nonexistent/docker.sock"), "{error}");
    assert!(!doors.is_open(share));
    assert_eq!(nodes.trouble(), Some(error.to_string()));
    assert!(nodes.open(share).await.is_err() && nodes.list().await.is_err());
    assert_eq!(nodes.public_url(share).at("/x"), "https://the-node-has-told-no-name-yet.invalid/x");
}

#[test]
fn what_nodes_left_behind_is_swept_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let [left, placed, contained] = [1, 2, 3].map(ShareId::from_random);
    for share in [left, placed, contained] {
        std::fs::create_dir(at(share.as_str())).unwrap();
        std::fs::write(at(share.as_str()).join("tailscaled.sock"), "").unwrap();
    }
    std::fs::create_dir(at("not a share")).unwrap();
    std::fs::write(at(ShareId::from_random(4).as_str()), "a file").unwrap();
    let slots = Mutex::new(Slots::from([(placed, Arc::default())]));
    sweep(folder.path(), &slots, &HashMap::from([(contained, false)])).unwrap();
    assert!(!at(left.as_str()).exists());
    for name in [placed.as_str(), contained.as_str(), "not a share", ShareId::from_random(4).as_str()] {
        assert!(at(name).exists(), "{name}");
    }
}
