//! Where a file that was named on the command line lies in the catalog.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, bail};

use crate::share::CatalogPath;

/// Returns the catalog's path of `file`: a path on this machine that leads below the server's root, or a path as the
/// catalog lists it where there is no such file here (the server may see the folder under another name, in a container).
pub(super) async fn in_catalog(file: &Path, root: &Path) -> anyhow::Result<CatalogPath> {
    // The catalog follows no symbolic links; those on the way to the file are followed here, where its owner typed them.
    let here = tokio::fs::canonicalize(file).await.ok();
    let root_here = tokio::fs::canonicalize(root).await.ok();
    match (&here, &root_here) {
        (Some(here), Some(root_here)) => {
            let Ok(below) = here.strip_prefix(root_here) else {
                let listed = root.join(file);
                // Which of both is meant is not for us to guess: one of them would go out into the world.
                let instead = if file.is_relative() && tokio::fs::try_exists(&listed).await.unwrap_or(false) {
                    format!("; there is one of that name in it: say {}", listed.display())
                } else {
                    String::new()
                };
                bail!("{} lies outside the folder that is shared ({}){instead}", here.display(), root.display());
            };
            catalog_path(below)
        }
        // Without the root here, a name can only be meant as the server sees it.
        (_, None) => catalog_path(file.strip_prefix(root).unwrap_or(file)),
        (None, Some(_)) if file.is_relative() => catalog_path(file),
        (None, Some(_)) => bail!("there is no file {}", file.display()),
    }
}

/// Returns the catalog's path of a file on another machine, as its catalog lists it or with the folder that it serves before.
pub(super) fn as_listed(file: &Path, root: &Path) -> anyhow::Result<CatalogPath> {
    let below = file.strip_prefix(root).unwrap_or(file);
    if below.is_absolute() {
        bail!("{} is not below {}; name the file as `portcullis files` lists it", file.display(), root.display());
    }
    catalog_path(below)
}

fn catalog_path(path: &Path) -> anyhow::Result<CatalogPath> {
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    CatalogPath::from_bytes(bytes).with_context(|| format!("{} cannot be shared", path.display()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    async fn place(file: &Path, root: &Path) -> Result<Vec<u8>, String> {
        in_catalog(file, root).await.map(|path| path.as_bytes().to_vec()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_path_on_this_machine_leads_below_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("nas"), folder.path().join("secret.txt"));
        fs::create_dir_all(root.join("film")).unwrap();
        let odd = root.join("film").join(OsStr::from_bytes(b"\xff\n.mp4"));
        fs::write(&odd, "x").unwrap();
        fs::write(&outside, "x").unwrap();
        symlink(&root, folder.path().join("link-to-nas")).unwrap();
        symlink(root.join("film"), folder.path().join("link-to-film")).unwrap();
        symlink(&outside, root.join("way-out")).unwrap();
        let name = OsStr::from_bytes(b"\xff\n.mp4");
        for (file, root) in [
            (odd.clone(), root.clone()),
            (folder.path().join("link-to-film").join(name), root.clone()),
            (odd.clone(), folder.path().join("link-to-nas")),
            (root.join("film/../film/./").join(name), root.clone()),
        ] {
            assert_eq!(place(&file, &root).await, Ok(b"film/\xff\n.mp4".to_vec()), "{file:?} in {root:?}");
        }
        for file in [&outside, &root.join("way-out")] {
            assert!(place(file, &root).await.unwrap_err().contains("outside the folder"), "{file:?}");
        }
        assert_eq!(place(Path::new("/nowhere/at/all"), &root).await.unwrap_err(), "there is no file /nowhere/at/all");
    }

    #[tokio::test]
    async fn of_a_name_that_is_here_and_in_the_catalog_it_is_told_how_to_say_the_other() {
        let root = tempfile::tempdir().unwrap();
        // Tests run where this file is.
        let name = Path::new("Cargo.toml");
        let told = async || place(name, root.path()).await.unwrap_err();
        assert!(told().await.contains("outside") && !told().await.contains("say"), "{}", told().await);
        fs::write(root.path().join(name), "x").unwrap();
        let full = root.path().join(name);
        assert!(told().await.ends_with(&format!("say {}", full.display())), "{}", told().await);
        assert_eq!(place(&full, root.path()).await, Ok(b"Cargo.toml".to_vec()));
    }

    #[tokio::test]
    async fn a_name_that_is_not_here_is_meant_as_the_catalog_lists_it() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(place(Path::new("no-such-folder/x.mp4"), root.path()).await, Ok(b"no-such-folder/x.mp4".to_vec()));
        assert_eq!(place(Path::new("./no-such-folder/x.mp4"), root.path()).await, Ok(b"no-such-folder/x.mp4".to_vec()));
        assert!(place(Path::new("no-such-folder/../x.mp4"), root.path()).await.is_err());
        // The server's root is not on this machine: a container's.
        let root = Path::new("/nowhere/data");
        assert_eq!(place(Path::new("/nowhere/data/film/x.mp4"), root).await, Ok(b"film/x.mp4".to_vec()));
        assert_eq!(place(Path::new("Cargo.toml"), root).await, Ok(b"Cargo.toml".to_vec()));
        assert!(place(Path::new("/etc/passwd"), root).await.is_err());
    }
}
