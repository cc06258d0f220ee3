//! The scripts: each checks and writes all of one thing, in Redis, in one step.

use redis::{Cmd, Pipeline, cmd};

/// One of the scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Save,
    Append,
    ForgetAudit,
    Forget,
    Page,
    PutSession,
    EndSession,
    PutApiToken,
    RemoveApiToken,
    ApiTokenUsed,
    PutPlan,
    EndPlan,
    PutKept,
    TryWrite,
    Join,
    Beat,
    Leave,
    TakeOver,
    ShareKey,
    AddWraps,
    Fill,
    Empty,
    Aside,
}

/// Each with its text, in the order of the enum.
const TEXTS: [(Script, &str); 23] = [
    (Script::Save, concat!(include_str!("lua/common.lua"), include_str!("lua/line.lua"), include_str!("lua/save.lua"))),
    (Script::Append, concat!(include_str!("lua/common.lua"), include_str!("lua/line.lua"), include_str!("lua/append.lua"))),
    (Script::ForgetAudit, concat!(include_str!("lua/common.lua"), include_str!("lua/line.lua"), include_str!("lua/forget_audit.lua"))),
    (Script::Forget, concat!(include_str!("lua/common.lua"), include_str!("lua/forget.lua"))),
    (Script::Page, concat!(include_str!("lua/common.lua"), include_str!("lua/page.lua"))),
    (Script::PutSession, concat!(include_str!("lua/common.lua"), include_str!("lua/put_session.lua"))),
    (Script::EndSession, concat!(include_str!("lua/common.lua"), include_str!("lua/end_session.lua"))),
    (Script::PutApiToken, concat!(include_str!("lua/common.lua"), include_str!("lua/put_api_token.lua"))),
    (Script::RemoveApiToken, concat!(include_str!("lua/common.lua"), include_str!("lua/remove_api_token.lua"))),
    (Script::ApiTokenUsed, concat!(include_str!("lua/common.lua"), include_str!("lua/api_token_used.lua"))),
    (Script::PutPlan, concat!(include_str!("lua/common.lua"), include_str!("lua/put_plan.lua"))),
    (Script::EndPlan, concat!(include_str!("lua/common.lua"), include_str!("lua/end_plan.lua"))),
    (Script::PutKept, concat!(include_str!("lua/common.lua"), include_str!("lua/put_kept.lua"))),
    (Script::TryWrite, concat!(include_str!("lua/common.lua"), include_str!("lua/try_write.lua"))),
    (Script::Join, concat!(include_str!("lua/common.lua"), include_str!("lua/together.lua"), include_str!("lua/join.lua"))),
    (Script::Beat, concat!(include_str!("lua/common.lua"), include_str!("lua/together.lua"), include_str!("lua/beat.lua"))),
    (Script::Leave, concat!(include_str!("lua/common.lua"), include_str!("lua/together.lua"), include_str!("lua/leave.lua"))),
    (Script::TakeOver, concat!(include_str!("lua/common.lua"), include_str!("lua/together.lua"), include_str!("lua/take_over.lua"))),
    (Script::ShareKey, concat!(include_str!("lua/common.lua"), include_str!("lua/share_key.lua"))),
    (Script::AddWraps, concat!(include_str!("lua/common.lua"), include_str!("lua/add_wraps.lua"))),
    (Script::Fill, concat!(include_str!("lua/common.lua"), include_str!("lua/fill.lua"))),
    (Script::Empty, concat!(include_str!("lua/common.lua"), include_str!("lua/together.lua"), include_str!("lua/empty.lua"))),
    (Script::Aside, concat!(include_str!("lua/common.lua"), include_str!("lua/aside.lua"))),
];

/// Arguments of a script.
pub(super) type Args = Vec<Vec<u8>>;

/// The scripts, under a prefix.
pub(super) struct Scripts {
    keys: Keys,
    hashes: Vec<String>,
}

impl Scripts {
    pub(super) fn new(keys: Keys) -> Self {
        let hashes = TEXTS.iter().map(|(_, text)| redis::Script::new(text).get_hash().to_owned()).collect();
        Self { keys, hashes }
    }

    /// Writes down a call.
    pub(super) fn call<'a>(&self, script: Script, args: impl IntoIterator<Item = &'a Vec<u8>>) -> Cmd {
        let mut call = cmd("EVALSHA");
        // The one key says where in a Cluster it belongs: all have the same hash tag.
        call.arg(&self.hashes[script as usize]).arg(1).arg(self.keys.of("meta")).arg(self.keys.prefix());
        for arg in args {
            call.arg(arg.as_slice());
        }
        call
    }

    /// Writes down what teaches Redis every script.
    pub(super) fn load(&self) -> Pipeline {
        let mut pipe = redis::pipe();
        for (_, text) in TEXTS {
            pipe.cmd("SCRIPT").arg("LOAD").arg(text);
        }
        pipe
    }

    /// Writes down a call with the script's text: for a Redis that has forgotten it, and for a node of a Cluster that never knew it.
    pub(super) fn whole<'a>(&self, script: Script, args: impl IntoIterator<Item = &'a Vec<u8>>) -> Cmd {
        let mut call = cmd("EVAL");
        call.arg(TEXTS[script as usize].1).arg(1).arg(self.keys.of("meta")).arg(self.keys.prefix());
        for arg in args {
            call.arg(arg.as_slice());
        }
        call
    }
}

/// How many slots a Cluster has.
const SLOTS: u16 = 16384;

/// The names of keys: `{portcullis}:share:…`, all with one hash tag, so that in a Cluster they lie on one node and a script may use them all.
#[derive(Debug, Clone)]
pub(super) struct Keys(String);

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self(format!("{{{prefix}}}:"))
    }

    pub(super) fn prefix(&self) -> &str {
        &self.0
    }

    /// Returns the name of a key.
    pub(super) fn of(&self, name: impl std::fmt::Display) -> String {
        format!("{}{name}", self.0)
    }

    /// Returns the slot of a Cluster that they all lie in.
    pub(super) fn slot(&self) -> u16 {
        // What stands in the braces decides.
        crc16::State::<crc16::XMODEM>::calculate(&self.0.as_bytes()[1..self.0.len() - 2]) % SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_stands_in_its_place() {
        for (place, (script, _)) in TEXTS.iter().enumerate() {
            assert_eq!(*script as usize, place);
        }
    }
}
