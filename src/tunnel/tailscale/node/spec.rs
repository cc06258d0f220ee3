//! What a share's container is (pure): how it is made of the options, and how it is known again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::share::{ShareId, Timestamp};

/// Where tailscaled's socket lies within a container.
const SOCKET_FOLDER: &str = "/var/run/tailscale";
/// The name of the socket in its folder.
pub(super) const SOCKET: &str = "tailscaled.sock";
/// Where the key lies within a container.
const KEY_FILE: &str = "/run/portcullis/authkey";
/// Where a node keeps its state and its certificates: in memory, gone with the container.
const MEMORY_FOLDER: (&str, &str) = ("/tmp", "rw,nosuid,nodev,noexec,size=64m,mode=1777");
/// The most memory: an idle tailscaled takes 40 MB, one that proxies to a slow recipient holds up to 20 MB of theirs.
const MEMORY_BYTES: i64 = 256 << 20;
/// The most threads and processes: tailscaled has some ten threads to a processor.
const MOST_PROCESSES: i64 = 256;
/// How long a node may take to leave: containerboot takes up to 25 seconds, and a logout 5.
const STOP_TIMEOUT: i64 = 35;
/// How much of what a node says is kept.
const MOST_LOG: &str = "1m";

/// The labels. `OURS` tells from all other containers, `INSTANCE` from those of another state folder.
pub(super) const OURS: &str = "portcullis";
pub(super) const INSTANCE: &str = "portcullis.instance";
pub(super) const SHARE: &str = "portcullis.share";
const EXPIRES: &str = "portcullis.expires";

/// How nodes are made.
#[derive(Debug, Clone)]
pub struct Image {
    /// The image: one with Tailscale's containerboot. Best pinned by its digest; not older than v1.102.2, since 1.102.0 and
    /// 1.102.1 let nobody in. Usually [`DEFAULT_IMAGE`].
    pub name: String,
    /// Whether this program may have the engine fetch the image where it is missing. Usually not: a share would wait for it, and
    /// what runs beside the NAS is the operator's choice.
    pub may_pull: bool,
}

/// The image unless another is set.
pub const DEFAULT_IMAGE: &str = "tailscale/tailscale:v1.102.3";

/// What each container is given.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The file with the auth key, as the engine finds it on its machine: one for tagged, ephemeral, reusable and pre-approved nodes. It is
    /// mounted into the container, and its content is never in what `docker inspect` shows. The account that nodes run as
    /// must be able to read it.
    pub auth_key_file: PathBuf,
    /// More arguments of `tailscale up`, as `--advertise-tags=tag:share`; containerboot parts them at spaces.
    pub extra_args: String,
    /// The network of containers, as `portcullis_default`; `None` for the engine's usual one. Our recipient listener must be
    /// reached by it.
    pub network: Option<String>,
    /// The account that nodes run as, as `1000:1000`: this program's own, for tailscaled lets no other but root change what it
    /// serves. With an engine that maps accounts, what ours is within a container.
    pub user: String,
    /// More of the environment, as `TS_DEBUG_MTU=1280`. No secrets: `docker inspect` shows it.
    pub environment: Vec<String>,
    /// More mounts, as `/etc/our-ca.pem:/etc/ssl/our-ca.pem:ro`.
    pub mounts: Vec<String>,
}

/// A container as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) image: String,
    pub(crate) environment: Vec<String>,
    pub(crate) mounts: Vec<Mount>,
    /// More of them, in Docker's own words.
    pub(crate) more_mounts: Vec<String>,
    pub(crate) memory_folder: (&'static str, &'static str),
    pub(crate) network: Option<String>,
    pub(crate) user: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) memory_bytes: i64,
    pub(crate) most_processes: i64,
    pub(crate) stop_timeout: i64,
    pub(crate) most_log: &'static str,
}

/// Something of the engine's machine that must be there: Docker would make a folder of what is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) from: String,
    pub(crate) to: &'static str,
    pub(crate) is_read_only: bool,
}

/// Returns the container of a share's node. `sockets` is the folder of its socket as the engine finds it.
pub(super) fn of(image: &Image, given: &Given, instance: &str, share: ShareId, sockets: &Path, expires: Timestamp) -> Spec {
    let mut environment = vec![
        // The path, not the key: `tailscale up` reads the file.
        format!("TS_AUTHKEY=file:{KEY_FILE}"),
        format!("TS_HOSTNAME={}", hostname(share)),
        format!("TS_SOCKET={SOCKET_FOLDER}/{SOCKET}"),
        "TS_USERSPACE=true".to_owned(),
        // With Tailscale's DNS a container finds neither its neighbours nor us.
        "TS_ACCEPT_DNS=false".to_owned(),
    ];
    if !given.extra_args.is_empty() {
        environment.push(format!("TS_EXTRA_ARGS={}", given.extra_args));
    }
    environment.extend(given.environment.iter().cloned());
    let mounts = vec![
        Mount { from: sockets.display().to_string(), to: SOCKET_FOLDER, is_read_only: false },
        Mount { from: given.auth_key_file.display().to_string(), to: KEY_FILE, is_read_only: true },
    ];
    let labels =
        [(OURS, "1".to_owned()), (INSTANCE, instance.to_owned()), (SHARE, share.to_string()), (EXPIRES, (expires.0 / 1000).to_string())];
    Spec {
        image: image.name.clone(),
        environment,
        mounts,
        more_mounts: given.mounts.clone(),
        memory_folder: MEMORY_FOLDER,
        network: given.network.clone(),
        user: given.user.clone(),
        labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
        memory_bytes: MEMORY_BYTES,
        most_processes: MOST_PROCESSES,
        stop_timeout: STOP_TIMEOUT,
        most_log: MOST_LOG,
    }
}

/// Returns the name that a share's node asks for. It may get another one.
pub(super) fn hostname(share: ShareId) -> String {
    format!("s-{share}")
}

/// Returns the name of a share's container.
pub(super) fn container(instance: &str, share: ShareId) -> String {
    format!("portcullis-{instance}-{share}")
}

/// Returns the labels by which our own containers are found, as the engine's filters have them.
pub(super) fn filters(instance: &str) -> Vec<String> {
    vec![format!("{OURS}=1"), format!("{INSTANCE}={instance}")]
}

/// Returns whose container has these labels; `None` where it is none of ours.
pub(super) fn share_of<'a>(label: impl Fn(&str) -> Option<&'a str>, instance: &str) -> Option<ShareId> {
    let is_ours = label(OURS) == Some("1") && label(INSTANCE) == Some(instance);
    if is_ours { label(SHARE)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        Given {
            auth_key_file: "/srv/keys/tailscale".into(),
            extra_args: "--advertise-tags=tag:share".to_owned(),
            network: Some("portcullis_default".to_owned()),
            user: "1000:1000".to_owned(),
            environment: vec!["A=b".to_owned()],
            mounts: vec!["/ca.pem:/ca.pem:ro".to_owned()],
        }
    }

    fn spec(given: &Given) -> Spec {
        let image = Image { name: DEFAULT_IMAGE.to_owned(), may_pull: false };
        of(&image, given, "ab12", ShareId::from_random(1), Path::new("/state/nodes/x"), Timestamp(1_700_000_000_999))
    }

    #[test]
    fn a_node_is_given_what_it_needs_and_is_known_again() {
        let spec = spec(&given());
        let expected = [
            "TS_AUTHKEY=file:/run/portcullis/authkey",
            &format!("TS_HOSTNAME=s-{}", ShareId::from_random(1)),
            "TS_SOCKET=/var/run/tailscale/tailscaled.sock",
            "TS_USERSPACE=true",
            "TS_ACCEPT_DNS=false",
            "TS_EXTRA_ARGS=--advertise-tags=tag:share",
            "A=b",
        ];
        assert_eq!(spec.environment, expected);
        let mounts: Vec<_> = spec.mounts.iter().map(|it| (it.from.as_str(), it.to, it.is_read_only)).collect();
        assert_eq!(mounts, [("/state/nodes/x", "/var/run/tailscale", false), ("/srv/keys/tailscale", "/run/portcullis/authkey", true)]);
        assert_eq!(spec.more_mounts, ["/ca.pem:/ca.pem:ro"]);
        assert_eq!(spec.labels["portcullis.expires"], "1700000000");
        let label = |name: &str| spec.labels.get(name).map(String::as_str);
        assert_eq!(share_of(label, "ab12"), Some(ShareId::from_random(1)));
        assert_eq!(share_of(label, "ab13"), None, "another state folder's");
    }

    #[test]
    fn a_state_folder_or_a_serve_config_is_never_given() {
        // With a state folder a node is not ephemeral; what containerboot serves by itself overwrites what we serve.
        assert!(spec(&given()).environment.iter().all(|it| !it.starts_with("TS_STATE_DIR") && !it.starts_with("TS_SERVE_CONFIG")));
        let bare = spec(&Given { extra_args: String::new(), ..given() });
        assert!(bare.environment.iter().all(|it| !it.starts_with("TS_EXTRA_ARGS")));
    }

    #[test]
    fn what_has_no_labels_of_ours_is_not_ours() {
        let share = ShareId::from_random(2).to_string();
        let all = [(OURS, "1"), (INSTANCE, "ab"), (SHARE, share.as_str())];
        let with = |labels: &[(&str, &'static str)]| {
            let labels: Vec<(String, &'static str)> = labels.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
            share_of(move |name| labels.iter().find(|(of, _)| of == name).map(|(_, value)| *value), "ab")
        };
        assert!(share_of(|name| all.iter().find(|(of, _)| *of == name).map(|(_, value)| *value), "ab").is_some());
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[(OURS, "1"), (INSTANCE, "ab")]), None);
        assert_eq!(with(&[(OURS, "2"), (INSTANCE, "ab"), (SHARE, "0123456789")]), None);
        assert_eq!(with(&[(OURS, "1"), (INSTANCE, "ab"), (SHARE, "../../etc")]), None);
    }
}
