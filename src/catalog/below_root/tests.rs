//! Attacks, each tried in every way that a path can be opened.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, mkfifoat, renameat_with};

use super::super::tests::{Place, hostile_names, path};
use super::*;

/// Every way that leads to a file: one `openat2`, an `openat2` for each name, and the walk without it.
fn every_way(place: &Place) -> Vec<(&'static str, Root)> {
    let elsewhere = CatalogOptions { show_hidden: false, excluded: vec![place.outside()], ..Default::default() };
    let open = |options, way| Root::open_by(&place.root(), options, Some(way)).unwrap();
    vec![
        ("openat2", open(CatalogOptions::default(), Way::OpenAt2)),
        ("openat2 by names", open(elsewhere.clone(), Way::OpenAt2)),
        ("walk", open(CatalogOptions::default(), Way::Walk)),
        ("walk with exclusions", open(elsewhere, Way::Walk)),
    ]
}

fn read(open: OpenFile) -> String {
    let mut text = String::new();
    { open }.file.read_to_string(&mut text).unwrap();
    text
}

fn word<T>(result: Result<T, CatalogError>) -> &'static str {
    match result {
        Ok(_) => "opened",
        Err(CatalogError::NotFound { .. }) => "not found",
        Err(CatalogError::IsFolder { .. }) => "is a folder",
        Err(CatalogError::NotRegular { .. }) => "not regular",
        Err(CatalogError::NotFolder { .. }) => "not a folder",
        Err(CatalogError::Denied { .. }) => "denied",
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn this_kernel_is_asked_for_openat2() {
    let place = Place::new();
    let root = Root::open(&place.root(), CatalogOptions::default()).unwrap();
    // A sandbox without it is what the walk is for; the attacks below run in both ways wherever they can.
    let probe = openat2(&root.folder, ".", OFlags::PATH, Mode::empty(), no_escape());
    assert_eq!(root.way, if probe.is_ok() { Way::OpenAt2 } else { Way::Walk });
}

#[test]
fn nothing_but_a_regular_file_below_the_root_is_opened() {
    let place = Place::new();
    place.file("file", "inside").file("folder/sub/deep", "inside").file(".hidden", "h").file(".git/config", "h").file("@eaDir/x", "h");
    place.file("folder/.ssh/key", "h");
    let secret = place.outside().join("secret");
    let link = |target: &Path, name: &str| symlink(target, place.at(name)).unwrap();
    link(&secret, "absolute");
    link(Path::new("../outside/secret"), "relative");
    link(&place.outside(), "ancestor");
    link(Path::new("file"), "to-a-file-inside");
    link(Path::new("folder"), "to-a-folder-inside");
    link(Path::new("chain2"), "chain1");
    link(Path::new("absolute"), "chain2");
    link(Path::new("loop2"), "loop1");
    link(Path::new("loop1"), "loop2");
    link(Path::new("self"), "self");
    link(Path::new("nowhere"), "dangling");
    link(Path::new("."), "dot");
    link(Path::new(".."), "dotdot");
    link(Path::new("/proc/self/root"), "magic");
    link(Path::new("/proc/self/fd/0"), "magic-fd");
    mkfifoat(CWD, place.at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    let _listener = UnixListener::bind(place.at("socket")).unwrap();

    let table = [
        ("file", "opened", "not a folder"),
        ("folder/sub/deep", "opened", "not a folder"),
        ("folder", "is a folder", "opened"),
        ("folder/sub", "is a folder", "opened"),
        ("", "is a folder", "opened"),
        ("missing", "not found", "not found"),
        ("missing/x", "not found", "not found"),
        ("file/x", "not found", "not found"),
        ("fifo/x", "not found", "not found"),
        ("absolute", "not found", "not found"),
        ("relative", "not found", "not found"),
        ("ancestor", "not found", "not found"),
        ("ancestor/secret", "not found", "not found"),
        ("to-a-file-inside", "not found", "not found"),
        ("to-a-folder-inside", "not found", "not found"),
        ("to-a-folder-inside/sub/deep", "not found", "not found"),
        ("chain1", "not found", "not found"),
        ("loop1", "not found", "not found"),
        ("loop1/x", "not found", "not found"),
        ("self/self", "not found", "not found"),
        ("dangling", "not found", "not found"),
        ("dot/file", "not found", "not found"),
        ("dotdot/outside/secret", "not found", "not found"),
        ("magic", "not found", "not found"),
        ("magic/etc/passwd", "not found", "not found"),
        ("magic-fd", "not found", "not found"),
        (".hidden", "not found", "not found"),
        (".git/config", "not found", "not found"),
        ("folder/.ssh/key", "not found", "not found"),
        ("@eaDir/x", "not found", "not found"),
        ("fifo", "not regular", "not a folder"),
        ("socket", "not regular", "not a folder"),
    ];
    for (way, root) in every_way(&place) {
        for (name, file, folder) in table {
            assert_eq!(word(root.open_file(&path(name))), file, "file {name:?} by {way}");
            assert_eq!(word(root.open_folder(&path(name))), folder, "folder {name:?} by {way}");
        }
        assert_eq!(read(root.open_file(&path("folder/sub/deep")).unwrap()), "inside");
    }
}

#[test]
fn devices_and_magic_links_of_the_kernel_are_not_opened() {
    for way in [Way::OpenAt2, Way::Walk] {
        let open = |root| Root::open_by(Path::new(root), CatalogOptions::default(), Some(way)).unwrap();
        let devices = open("/dev");
        for device in ["null", "zero", "tty"] {
            assert!(matches!(word(devices.open_file(&path(device))), "not regular" | "not found"), "{device} by {way:?}");
        }
        let processes = open("/proc");
        let own = std::process::id();
        for magic in ["root", "cwd", "exe", "root/etc/passwd", "cwd/Cargo.toml", "fd/0", "task"] {
            let expected = if magic == "task" { "is a folder" } else { "not found" };
            assert_eq!(word(processes.open_file(&path(format!("{own}/{magic}")))), expected, "{magic} by {way:?}");
        }
        assert_eq!(word(processes.open_file(&path("self/status"))), "not found");
    }
}

#[test]
fn a_file_of_a_folder_that_others_have_mounted_has_no_device_of_this_machine() {
    let place = Place::new();
    place.file("a", "12345");
    let options = CatalogOptions { is_mounted_elsewhere: true, ..Default::default() };
    let open = Root::open(&place.root(), options).unwrap().open_file(&path("a")).unwrap();
    let stat = rustix::fs::stat(place.at("a")).unwrap();
    assert_eq!(open.identity, FileIdentity { device: 0, ..identity_of(&stat) });
    assert_eq!(open.identity_now().unwrap(), open.identity);
    // What lies on another file system below it is told apart as ever: nothing says that others have it.
    let proc = CatalogOptions { is_mounted_elsewhere: true, ..Default::default() };
    let elsewhere = Root::open(Path::new("/"), proc).unwrap().open_file(&path("proc/self/status"));
    assert!(elsewhere.is_err() || elsewhere.is_ok_and(|open| open.identity.device != 0));
}

#[test]
fn a_file_is_opened_read_only_and_as_what_it_is() {
    let place = Place::new();
    place.file("a", "12345");
    for (way, root) in every_way(&place) {
        let open = root.open_file(&path("a")).unwrap();
        let stat = rustix::fs::stat(place.at("a")).unwrap();
        assert_eq!(open.identity, identity_of(&stat), "{way}");
        let flags = rustix::fs::fcntl_getfl(&open.file).unwrap();
        assert_eq!(flags & OFlags::RWMODE, OFlags::RDONLY, "{way}");
        assert!(open.is_local, "{way}: the temporary folder is expected on a local file system");
    }
}

#[test]
fn every_hostile_name_is_only_a_name() {
    let place = Place::new();
    for name in hostile_names() {
        place.file([b"d/", &name[..]].concat(), "x");
    }
    for (way, root) in every_way(&place) {
        for name in hostile_names() {
            let opened = root.open_file(&path("d").join(&name).unwrap());
            assert_eq!(word(opened), "opened", "{} by {way}", name.escape_ascii());
        }
    }
}

#[test]
fn a_path_as_long_as_they_come_is_answered() {
    let place = Place::new();
    let long = "d/".repeat(2047) + "f";
    for (_, root) in every_way(&place) {
        assert_eq!(word(root.open_file(&path(&long))), "not found");
        assert_eq!(word(root.open_file(&path("x".repeat(255)))), "not found");
    }
}

#[test]
fn nothing_beneath_an_excluded_folder_is_opened_whatever_it_is_called() {
    let place = Place::new();
    place.file("a/state/portcullis.db", "secret").file("a/state/deep/er", "secret").file("a/film", "film");
    let options = CatalogOptions { show_hidden: true, excluded: vec![place.at("a/state")], ..Default::default() };
    for way in [Way::OpenAt2, Way::Walk] {
        let root = Root::open_by(&place.root(), options.clone(), Some(way)).unwrap();
        for name in ["a/state", "a/state/portcullis.db", "a/state/deep/er", "a/state/missing"] {
            assert_eq!(word(root.open_file(&path(name))), "not found", "{name} by {way:?}");
            assert_eq!(word(root.open_folder(&path(name))), "not found", "{name} by {way:?}");
        }
        assert_eq!(word(root.open_file(&path("a/film"))), "opened");
        std::fs::rename(place.at("a/state"), place.at("b")).unwrap();
        assert_eq!(word(root.open_file(&path("b/portcullis.db"))), "not found", "{way:?}");
        std::fs::rename(place.at("b"), place.at("a/state")).unwrap();
    }
}

#[test]
fn hidden_names_are_opened_when_the_owner_shows_them() {
    let place = Place::new();
    place.file(".git/config", "h").file("$RECYCLE.BIN/x", "h");
    let options = CatalogOptions { show_hidden: true, ..Default::default() };
    let root = Root::open(&place.root(), options).unwrap();
    assert_eq!(word(root.open_file(&path(".git/config"))), "opened");
    assert_eq!(word(root.open_file(&path("$RECYCLE.BIN/x"))), "opened");
}

#[test]
fn the_owner_may_name_the_root_by_a_link_and_move_it_later() {
    let place = Place::new();
    place.file("a", "inside");
    let link = place.root().with_file_name("link");
    symlink(place.root(), &link).unwrap();
    let root = Root::open(&link, CatalogOptions::default()).unwrap();
    assert!(root.is_reachable());
    std::fs::remove_file(&link).unwrap();
    symlink(place.outside(), &link).unwrap();
    assert!(!root.is_reachable());
    assert_eq!(word(root.open_file(&path("secret"))), "not found");
    assert_eq!(read(root.open_file(&path("a")).unwrap()), "inside");
}

/// Exchanges two names again and again while `attack` runs.
fn while_swapping(one: &Path, other: &Path, attack: impl Fn()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        // Also when the attack panics, or the other thread would never end.
        let _done = Finally(&done);
        attack();
    });
}

struct Finally<'a>(&'a AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const ATTEMPTS: usize = 2000;

#[test]
fn a_link_that_is_swapped_in_and_out_never_leads_outside() {
    for (name, decoy, attacked) in [("last", "file", "d/x"), ("ancestor", "d", "d/secret")] {
        let place = Place::new();
        place.file("d/x", "inside").file("d/secret", "inside").file("file", "inside");
        let (swapped, target) = match decoy {
            "d" => (place.at("d"), place.outside()),
            _ => (place.at("d/x"), place.outside().join("secret")),
        };
        let link = place.at("zz-link");
        symlink(target, &link).unwrap();
        for (way, root) in every_way(&place) {
            let seen = std::cell::Cell::new((0, 0));
            while_swapping(&swapped, &link, || {
                for _ in 0..ATTEMPTS {
                    let (opened, refused) = seen.get();
                    match root.open_file(&path(attacked)) {
                        Ok(open) => {
                            assert_eq!(read(open), "inside", "{name} by {way}");
                            seen.set((opened + 1, refused));
                        }
                        Err(CatalogError::NotFound { .. } | CatalogError::Busy) => seen.set((opened, refused + 1)),
                        Err(error) => panic!("{name} by {way}: {error:?}"),
                    }
                }
            });
            assert_eq!(seen.get().0 + seen.get().1, ATTEMPTS);
        }
    }
}

#[test]
fn a_pipe_that_is_swapped_in_and_out_never_blocks_or_passes_for_a_file() {
    let place = Place::new();
    place.file("d/x", "inside");
    let pipe = place.at("zz-pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    for (way, root) in every_way(&place) {
        while_swapping(&place.at("d/x"), &pipe, || {
            for _ in 0..ATTEMPTS {
                match root.open_file(&path("d/x")) {
                    Ok(open) => assert_eq!(read(open), "inside", "{way}"),
                    Err(CatalogError::NotRegular { .. } | CatalogError::NotFound { .. } | CatalogError::Busy) => {}
                    Err(error) => panic!("by {way}: {error:?}"),
                }
            }
        });
    }
}

#[test]
fn a_file_that_is_replaced_all_the_time_is_opened_whole() {
    let place = Place::new();
    place.file("x", "inside").file("zz-new", "inside");
    for (way, root) in every_way(&place) {
        while_swapping(&place.at("x"), &place.at("zz-new"), || {
            for _ in 0..ATTEMPTS {
                match root.open_file(&path("x")) {
                    Ok(open) => {
                        assert_eq!(
                            open.identity,
                            open.identity_now().map(|now| FileIdentity { changed_ns: open.identity.changed_ns, ..now }).unwrap()
                        );
                        assert_eq!(read(open), "inside", "{way}");
                    }
                    Err(CatalogError::Busy) => {}
                    Err(error) => panic!("by {way}: {error:?}"),
                }
            }
        });
    }
}

/// How many exchanges each way meets where `SWAPS` does not say: a quarter of a million by each of four ways.
const DEFAULT_SWAPS: u64 = 250_000;

/// Everything at once, counted: an ancestor and its link, a file and its link, two files, a file and a pipe.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long a test runs is no setting of the program")]
fn no_swap_of_a_million_leads_outside_or_to_another_inode_by_any_way() {
    let swaps: u64 = std::env::var("SWAPS").ok().map_or(DEFAULT_SWAPS, |text| text.parse().expect("SWAPS is a number"));
    let place = Place::new();
    place
        .file("d/secret", "inside")
        .file("e/deep/secret", "inside")
        .file("f", "inside")
        .file("g", "one")
        .file("h", "another")
        .file("p", "inside");
    std::fs::create_dir(place.outside().join("deep")).unwrap();
    std::fs::write(place.outside().join("deep/secret"), "secret").unwrap();
    for (name, target) in [("to-d", place.outside()), ("to-e", place.outside()), ("to-f", place.outside().join("secret"))] {
        symlink(target, place.at(name)).unwrap();
    }
    mkfifoat(CWD, place.at("to-p"), Mode::RUSR | Mode::WUSR).unwrap();
    for (way, root) in every_way(&place) {
        let (done, met) = (AtomicBool::new(false), std::cell::Cell::new([0_u64; 2]));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _done = Finally(&done);
                for n in 0..swaps {
                    let (one, other) = [("d", "to-d"), ("e", "to-e"), ("f", "to-f"), ("g", "h"), ("p", "to-p")][(n % 5) as usize];
                    renameat_with(CWD, place.at(one), CWD, place.at(other), RenameFlags::EXCHANGE).unwrap();
                }
            });
            while !done.load(Ordering::Relaxed) {
                for name in ["d/secret", "to-d/secret", "e/deep/secret", "f", "to-f", "g", "h", "p"] {
                    met.set(count(met.get(), attack(&root, name, way)));
                }
                for name in ["d", "e/deep", "to-e"] {
                    met.set(count(met.get(), list(&root, name, way)));
                }
            }
        });
        let [opened, refused] = met.get();
        assert!(opened > 0 && refused > 0, "{way}: {opened} opened and {refused} refused");
    }
}

fn count([opened, refused]: [u64; 2], is_open: bool) -> [u64; 2] {
    [opened + u64::from(is_open), refused + u64::from(!is_open)]
}

/// Opens a file; fails where what it holds is not what its identity says.
fn attack(root: &Root, name: &str, way: &str) -> bool {
    match root.open_file(&path(name)) {
        Ok(open) => {
            let size = open.identity.size_bytes as usize;
            let now = open.identity_now().unwrap();
            assert_eq!((now.device, now.inode), (open.identity.device, open.identity.inode), "{name} by {way}");
            let text = read(open);
            assert!(matches!(&text[..], "inside" | "one" | "another") && text.len() == size, "{name} by {way}: {text:?} of {size} bytes");
            true
        }
        Err(CatalogError::NotFound { .. } | CatalogError::NotRegular { .. } | CatalogError::Busy) => false,
        Err(error) => panic!("{name} by {way}: {error:?}"),
    }
}

/// Lists a folder; fails where it is the one outside.
fn list(root: &Root, name: &str, way: &str) -> bool {
    let stat = match root.open_folder(&path(name)) {
        Ok(folder) => fstat(&folder).unwrap(),
        Err(CatalogError::NotFound { .. } | CatalogError::NotFolder { .. } | CatalogError::Busy) => return false,
        Err(error) => panic!("{name} by {way}: {error:?}"),
    };
    let outside = |name: &str| rustix::fs::stat(root.path.with_file_name(name)).unwrap();
    for place in [outside("outside"), outside("outside/deep")] {
        assert_ne!((stat.st_dev, stat.st_ino), (place.st_dev, place.st_ino), "{name} by {way} is the folder outside");
    }
    true
}

#[test]
fn what_is_opened_at_once_is_what_is_opened_otherwise() {
    let place = Place::new();
    place.file("file", "inside").file("folder/sub/deep", "inside").file(".hidden", "h").file("state/key", "secret");
    symlink(place.outside().join("secret"), place.at("link")).unwrap();
    symlink(place.outside(), place.at("out")).unwrap();
    symlink(place.at("folder"), place.at("in")).unwrap();
    mkfifoat(CWD, place.at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    let _listener = UnixListener::bind(place.at("socket")).unwrap();
    let options = CatalogOptions { show_hidden: false, excluded: vec![place.at("state")], ..Default::default() };
    for (way, root) in every_way(&place).into_iter().chain([("excluding", Root::open(&place.root(), options).unwrap())]) {
        for name in ["file", "folder/sub/deep", "folder", "missing", "link", "out/secret", "in/sub/deep", "fifo", "socket", ".hidden"] {
            let (slow, fast) = (root.open_file(&path(name)).ok(), root.open_file_at_once(&path(name)));
            // What was opened just before is in memory, where this kernel can be asked for that.
            let is_asked =
                root.way == Way::OpenAt2 && openat2(&root.folder, ".", OFlags::PATH, Mode::empty(), resolution(Haste::AtOnce)).is_ok();
            assert_eq!(fast.as_ref().map(|open| open.identity), slow.filter(|_| is_asked).map(|open| open.identity), "{way}: {name}");
        }
    }
    let options = CatalogOptions { show_hidden: false, excluded: vec![place.at("state")], ..Default::default() };
    assert!(Root::open(&place.root(), options).unwrap().open_file_at_once(&path("state/key")).is_none());
    let options = CatalogOptions { show_hidden: false, excluded: vec![place.at("not there yet")], ..Default::default() };
    assert!(Root::open(&place.root(), options).unwrap().open_file_at_once(&path("file")).is_none(), "it has to be looked for");
}

#[test]
fn another_file_system_is_never_opened_at_once() {
    let kernel = Root::open(Path::new("/proc/self"), CatalogOptions::default()).unwrap();
    assert!(kernel.open_file(&path("status")).is_ok() && kernel.open_file_at_once(&path("status")).is_none(), "it is not local");
    let all = Root::open(Path::new("/"), CatalogOptions::default()).unwrap();
    assert!(all.open_file(&path("proc/version")).is_ok() && all.open_file_at_once(&path("proc/version")).is_none(), "it is mounted below");
}
