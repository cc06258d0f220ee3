//! A long body over TLS: copied in pieces out of the page cache, each proven before it is sealed.
//!
//! What is sealed cannot change any more, so nothing has to be held back until the rest arrived.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::burst::{MAX_UNSENT_BYTES, PIECE_BYTES, with_piece};
use super::super::pace::Purse;
use super::super::socket;
use super::super::stream::Stream;
use super::{End, Metered, Watch, proven_copy, rest};
use crate::catalog::OpenFile;
use crate::share::{ByteRange, FileIdentity};

pub(super) async fn send(
    stream: &Arc<Stream>,
    head: Vec<u8>,
    file: &Arc<OpenFile>,
    metered: &Metered,
    threads: &Arc<Semaphore>,
) -> Result<(), End> {
    let (pinned, end) = (metered.pass().file.identity, metered.range.end);
    let mut watch = Watch::new(stream, metered);
    let mut purse = Purse::new(metered.pass().pace.clone());
    // What the kernel holds of it cannot be taken back, and is memory.
    socket::hold_unsent(&stream.tcp, MAX_UNSENT_BYTES);
    watch.over(stream.send_all(&head, true)).await?;
    drop(head);
    let mut at = metered.range.start;
    while at < end {
        watch.over(room(stream)).await?;
        let length = match purse.open((end - at).min(PIECE_BYTES as u64), Instant::now()) {
            Ok(n) => n,
            Err(wait) => {
                watch.over(rest(wait)).await?;
                continue;
            }
        };
        let range = ByteRange::new(at, at + length);
        let sent = match from_memory(stream, file, range, pinned) {
            Some(sent) => sent?,
            None => {
                let bytes = watch.over(proven_copy(file, range, metered.pass(), threads)).await?.ok_or(End::Changed)?;
                watch.over(stream.send_all(&bytes, false)).await?;
                length
            }
        };
        purse.sent(sent);
        at += sent;
    }
    watch.over(stream.flushed()).await
}

/// Waits until the kernel wants more: nothing is copied before that.
async fn room(stream: &Stream) -> io::Result<()> {
    stream.flushed().await?;
    socket::writable(&stream.tcp).await
}

/// Seals what lies in the page cache; `None` where a thread has to read.
fn from_memory(stream: &Stream, file: &OpenFile, range: ByteRange, pinned: FileIdentity) -> Option<Result<u64, End>> {
    if !file.is_local {
        return None;
    }
    with_piece(&file.file, range, |bytes| {
        if file.identity_now().map_err(End::Failed)? != pinned {
            return Err(End::Changed);
        }
        match stream.send_now(bytes, false) {
            Ok(n) => Ok(n as u64),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(End::Failed(error)),
        }
    })
}
