//! Whether a share is reached from outside, as far as somebody has looked.
//!
//! That a way in is open says what our side of it serves. Whether anybody in the internet gets there is another question, and
//! only a visit answers it: under the public name, by the public address, through everything that lies between.

use serde::{Deserialize, Serialize};

/// What came of a look from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reach", content = "why")]
pub enum Reach {
    /// Whoever has the link gets in.
    Yes,
    /// Nobody does.
    No(Obstacle),
    /// Nobody looked, or could.
    NotProbed(Unprobed),
}

impl Reach {
    /// Returns the word that JSON uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No(_) => "no",
            Self::NotProbed(_) => "not_probed",
        }
    }
}

/// What a visitor meets instead of the share: each names the first step that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// The public DNS does not know the name.
    NameUnknown,
    /// Nobody takes a connection at the public address.
    NoConnection,
    /// The connection was taken and cut in the handshake: so Funnel tells a visitor that nobody is let in.
    HandshakeCut,
    /// The certificate is not the name's, or by nobody whom this machine trusts.
    ForeignCertificate,
    /// The connection was taken and nothing was said, or it ended without an answer.
    NoAnswer,
    /// Somebody answered, and not we.
    OtherAnswer,
}

/// Why nobody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unprobed {
    /// The operator wants none of it.
    Off,
    /// This machine reaches nobody outside whom it could ask.
    NoWayOut,
    /// There were too many to look at.
    Busy,
}
