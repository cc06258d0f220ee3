use std::os::unix::fs::symlink;

use super::super::CatalogOptions;
use super::super::tests::{Place, path};
use super::*;

/// Longer than anything here takes on a machine that does something else as well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs an index over a place while `ask` asks it.
async fn while_running<T>(place: &Place, options: CatalogOptions, ask: impl AsyncFnOnce(&Index) -> T) -> T {
    let root = Arc::new(Root::open(&place.root(), options).unwrap());
    let index = Index::new();
    let shutdown = CancellationToken::new();
    let ((), answer) = tokio::join!(index.keep_fresh(root, shutdown.clone()), async {
        let answer = ask(&index).await;
        shutdown.cancel();
        answer
    });
    answer
}

fn paths(index: &Index) -> Vec<String> {
    let (tree, _) = index.snapshot();
    tree.indexes().map(|at| tree.path(at).to_text()).collect()
}

#[tokio::test]
async fn it_holds_the_catalog_breadth_first_and_nothing_else() {
    let place = Place::new();
    place.file("b/c/d", "").file("b/a10", "").file("b/a9", "").file("z", "").file(".hidden/x", "").file("state/db", "");
    symlink(place.outside(), place.at("link")).unwrap();
    symlink(".", place.at("b/loop")).unwrap();
    let options = CatalogOptions { show_hidden: false, excluded: vec![place.at("state")], ..Default::default() };
    while_running(&place, options, async |index| {
        index.freshen(PATIENCE).await;
        assert_eq!(paths(index), ["b", "z", "b/c", "b/a9", "b/a10", "b/c/d"]);
        assert_eq!(index.snapshot().1, IndexState { building: false, files: 4, truncated: false });
    })
    .await;
}

#[tokio::test]
async fn it_learns_of_what_comes_and_goes() {
    let place = Place::new();
    place.file("old", "");
    while_running(&place, CatalogOptions::default(), async |index| {
        index.freshen(PATIENCE).await;
        std::fs::remove_file(place.at("old")).unwrap();
        place.file("new", "");
        index.freshen(PATIENCE).await;
        assert_eq!(paths(index), ["new"]);
    })
    .await;
}

#[tokio::test]
async fn a_root_that_went_away_leaves_what_was_known() {
    let place = Place::new();
    place.file("film", "");
    while_running(&place, CatalogOptions::default(), async |index| {
        index.freshen(PATIENCE).await;
        let gone = place.outside().join("gone");
        std::fs::rename(place.root(), &gone).unwrap();
        std::fs::create_dir(place.root()).unwrap();
        index.freshen(PATIENCE).await;
        assert_eq!(paths(index), ["film"]);
        std::fs::remove_dir(place.root()).unwrap();
        std::fs::rename(gone, place.root()).unwrap();
        place.file("second", "");
        index.freshen(PATIENCE).await;
        assert_eq!(paths(index), ["film", "second"]);
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_may_not_be_read_is_left_out() {
    let place = Place::new();
    place.file("good/x", "").folder("bad");
    // Root may read everything, so a name that is gone by the time it is read stands for it: the walker treats both alike.
    let root = Arc::new(Root::open(&place.root(), CatalogOptions::default()).unwrap());
    let (hand_over, _walked) = mpsc::channel(1);
    let walker = Walker { root, hand_over, stop: Arc::default(), parts: false };
    let mut tree = Tree::new();
    walker.read(&mut tree, ROOT).unwrap();
    std::fs::remove_dir(place.at("bad")).unwrap();
    for folder in [1, 2] {
        walker.read(&mut tree, folder).unwrap();
    }
    assert_eq!(tree.indexes().map(|at| tree.path(at)).collect::<Vec<_>>(), [path("bad"), path("good"), path("good/x")]);
}

#[tokio::test]
async fn parts_are_handed_over_while_the_first_walk_goes_on() {
    let place = Place::new();
    for number in 0..FIRST_PART {
        place.file(format!("a/f{number}"), "");
    }
    place.file("a/b/last", "");
    let root = Arc::new(Root::open(&place.root(), CatalogOptions::default()).unwrap());
    let (hand_over, mut walked) = mpsc::channel(10);
    let walker = Walker { root, hand_over, stop: Arc::default(), parts: true };
    let thread = std::thread::spawn(move || walker.run());
    let Some(Walked::Part(part)) = walked.recv().await else { panic!("no part") };
    let Some(Walked::Whole(whole)) = walked.recv().await else { panic!("no end") };
    thread.join().unwrap();
    assert_eq!((part.files(), whole.files()), (FIRST_PART, FIRST_PART + 1));
    let index = Index::new();
    index.swap_in(part, true);
    assert_eq!(index.snapshot().1, IndexState { building: true, files: FIRST_PART, truncated: false });
}

#[tokio::test]
async fn it_ends_when_told_to_also_in_the_middle_of_a_walk_or_a_rest() {
    let place = Place::new();
    place.file("film", "");
    let root = Arc::new(Root::open(&place.root(), CatalogOptions::default()).unwrap());
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    Index::new().keep_fresh(Arc::clone(&root), shutdown).await;

    let (hand_over, mut walked) = mpsc::channel(1);
    Walker { root, hand_over, stop: Arc::new(AtomicBool::new(true)), parts: false }.run();
    assert!(walked.recv().await.is_none());
    while_running(&place, CatalogOptions::default(), async |index| index.freshen(PATIENCE).await).await;
}

#[tokio::test]
async fn nobody_waits_for_an_index_that_nobody_keeps() {
    Index::new().freshen(Duration::from_secs(1_000_000)).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_walk_that_cannot_end_in_time() {
    let index = Index::new();
    let began = Instant::now();
    let wait_after = async |took, rests| {
        let rests_until = Some(Instant::now() + Duration::from_millis(rests));
        index.walks.send_replace(Walks {
            running: true,
            started: 1,
            ended: 1,
            took: Duration::from_millis(took),
            rests_until,
            ..Walks::default()
        });
        let began = Instant::now();
        index.freshen(Duration::from_secs(1)).await;
        began.elapsed().as_millis()
    };
    assert_eq!(wait_after(1500, 0).await, 0);
    assert_eq!(wait_after(10, 30_000).await, 0);
    assert!(began.elapsed().is_zero());
    // This one is waited for; that it does not come is answered in time all the same.
    assert!((1000..1100).contains(&wait_after(10, 500).await));
}

#[tokio::test(start_paused = true)]
async fn it_rests_long_when_nobody_asks_and_short_when_somebody_does() {
    let index = Index::new();
    let shutdown = CancellationToken::new();
    let rest = async |took| {
        let began = Instant::now();
        index.rest(took, &shutdown).await;
        began.elapsed().as_secs()
    };
    assert_eq!(rest(Duration::ZERO).await, 60);
    assert_eq!(rest(Duration::from_secs(10)).await, 200);
    assert_eq!(rest(Duration::from_secs(100_000)).await, 3600);
    index.want_fresh();
    assert_eq!(rest(Duration::ZERO).await, 0);
    index.want_fresh();
    assert_eq!(rest(Duration::from_secs(1)).await, 20);
    shutdown.cancel();
    assert_eq!(rest(Duration::from_secs(10)).await, 0);
}
