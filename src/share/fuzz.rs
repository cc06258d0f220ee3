//! What hostile bytes meet where an owner names a file, a share or a network.

use core::net::IpAddr;

use super::{CatalogPath, Network, ShareId, TokenId, TransferId};

/// The longest path of Linux, and of a single name on it.
const MOST: (usize, usize) = (4096, 255);

/// A path, as bytes and as text: it stays below the root, and every form of it reads back to itself.
pub(crate) fn catalog_path(data: &[u8]) {
    let from_bytes = CatalogPath::from_bytes(data);
    let climbs = data.split(|byte| *byte == b'/').any(|name| matches!(name, b"" | b"." | b".."));
    let is_fine = !data.contains(&0) && (data.is_empty() || !climbs) && data.len() <= MOST.0;
    let is_fine = is_fine && data.split(|byte| *byte == b'/').all(|name| name.len() <= MOST.1);
    assert_eq!(from_bytes.is_ok(), is_fine, "{:?}", data.escape_ascii().to_string());
    let from_text = std::str::from_utf8(data).ok().and_then(|text| CatalogPath::parse(text).ok());
    for path in from_bytes.into_iter().chain(from_text) {
        check(&path);
    }
}

fn check(path: &CatalogPath) {
    let bytes = path.as_bytes();
    assert!(!bytes.contains(&0) && bytes.len() <= MOST.0 && bytes.first() != Some(&b'/') && bytes.last() != Some(&b'/'));
    assert!(path.components().all(|name| !matches!(name, b"" | b"." | b"..") && name.len() <= MOST.1));
    // Each step copies what is there, so of a path of thousands of names the last step alone is made.
    let last = path.name_bytes();
    let folder = CatalogPath::from_bytes(bytes[..bytes.len() - last.len()].strip_suffix(b"/").unwrap_or_default());
    let folder = folder.expect("the folder of a path is one");
    assert!(path.is_root() || folder.join(last).as_ref() == Ok(path), "a name of a path is a name");
    assert_eq!(CatalogPath::parse(&path.to_text()).as_ref(), Ok(path), "its text reads back as another");
    let json = serde_json::to_string(path).expect("a text is JSON");
    assert_eq!(serde_json::from_str::<CatalogPath>(&json).ok().as_ref(), Some(path), "its JSON reads back as another");
    assert!(!path.for_display().contains(|c: char| c.is_control() || ('\u{202A}'..='\u{202E}').contains(&c)));
    assert!(!path.name_for_display().contains('/') && path.name().split('/').count() == 1);
}

/// Ids and networks: one spelling each, or a network that means what it says.
pub(crate) fn ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<ShareId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<TokenId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<TransferId>() {
        assert_eq!(id.to_string(), text);
    }
    let Ok(network) = text.parse::<Network>() else { return };
    assert_eq!(network.to_string().parse(), Ok(network), "it reads back as another");
    let address: IpAddr = text.split('/').next().unwrap_or_default().parse().expect("a network begins with an address");
    assert!(network.contains(address), "{text} does not hold its own address");
}
