//! The requests that nginx answers at this moment, by name and by connection: who is told of a line in the log, and of a connection's end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tokio::sync::oneshot;

use crate::meter::access_log::Line;
use crate::meter::{Cookie, Ended};

/// How many requests nginx may answer for us at once: as many connections as an nginx has by default, several times over. Each costs
/// about a kilobyte and a descriptor.
const MAX_RUNNING: usize = 8192;

/// What nginx says at the end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finish {
    pub(super) status: u16,
    /// How much of the body was handed to the kernel.
    pub(super) body_bytes: u64,
    /// How much with the head.
    pub(super) sent_bytes: u64,
    /// Whether that was the whole answer.
    pub(super) is_whole: bool,
    /// When the file that was sent was written, in seconds since 1970, and how long it was.
    pub(super) file: Option<(u64, u64)>,
}

impl Finish {
    pub(super) fn of(line: &Line<'_>) -> Self {
        Self { status: line.status, body_bytes: line.body_bytes, sent_bytes: line.sent_bytes, is_whole: line.is_whole, file: line.file }
    }
}

/// A line of the log for whoever looks after its request.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) finish: Finish,
    /// Told when what came of it is saved; dropped where it never will be.
    saved: oneshot::Sender<()>,
}

impl Told {
    /// Says whether what came of it is saved.
    pub(super) fn tell_saved(self, is_saved: bool) {
        if is_saved {
            // Nobody may count any more.
            let _ = self.saved.send(());
        }
    }
}

/// Who looks after what.
#[derive(Debug, Default)]
pub(super) struct Desk(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<u64, oneshot::Sender<Told>>,
    /// Several requests may follow one another over one connection.
    by_connection: HashMap<Cookie, Vec<Arc<OnceLock<u64>>>>,
    running: usize,
}

/// A request's place at the desk, until it is dropped.
#[derive(Debug)]
pub(in crate::delivery) struct Place {
    desk: Arc<Desk>,
    name: u64,
    cookie: Cookie,
    /// Comes when nginx has written the request's line.
    pub(super) line: oneshot::Receiver<Told>,
    /// How much of the connection had been acknowledged at its end, once that is told.
    pub(super) acked_at_end: Arc<OnceLock<u64>>,
}

impl Desk {
    /// Takes a request in; `None` where there are too many.
    pub(super) fn enter(self: &Arc<Self>, name: u64, cookie: Cookie) -> Option<Place> {
        let (tell, line) = oneshot::channel();
        let acked_at_end = Arc::new(OnceLock::new());
        let mut table = self.table();
        if table.running >= MAX_RUNNING {
            return None;
        }
        table.running += 1;
        table.by_name.insert(name, tell);
        table.by_connection.entry(cookie).or_default().push(acked_at_end.clone());
        Some(Place { desk: self.clone(), name, cookie, line, acked_at_end })
    }

    /// Tells of a line. Returns what comes when all that it says is saved, and fails where it never will be; `None` where nobody waits for it.
    pub(super) fn tell(&self, name: u64, finish: Finish) -> Option<oneshot::Receiver<()>> {
        let tell = self.table().by_name.remove(&name)?;
        let (tell_saved, saved) = oneshot::channel();
        tell.send(Told { finish, saved: tell_saved }).ok()?;
        Some(saved)
    }

    /// Tells of the end of a connection.
    pub(super) fn connection_ended(&self, ended: Ended) {
        for acked in self.table().by_connection.get(&ended.cookie).into_iter().flatten() {
            let _ = acked.set(ended.bytes_acked);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nobody panics while holding the desk")
    }
}

impl Place {
    /// Gives it up, with a line that came too late to be heard: what came of the request is saved, or never will be.
    pub(super) fn leave(mut self, is_saved: bool) {
        self.line.close();
        if let Ok(told) = self.line.try_recv() {
            told.tell_saved(is_saved);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.desk.table();
        table.running -= 1;
        table.by_name.remove(&self.name);
        if let Some(all) = table.by_connection.get_mut(&self.cookie) {
            all.retain(|acked| !Arc::ptr_eq(acked, &self.acked_at_end));
            if all.is_empty() {
                table.by_connection.remove(&self.cookie);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINISH: Finish = Finish { status: 200, body_bytes: 1, sent_bytes: 2, is_whole: true, file: None };

    #[tokio::test]
    async fn a_line_reaches_whoever_waits_for_it_once_and_nobody_else() {
        let desk = Arc::new(Desk::default());
        let mut one = desk.enter(1, Cookie::from_number(7)).unwrap();
        let two = desk.enter(2, Cookie::from_number(7)).unwrap();
        assert!(desk.tell(3, FINISH).is_none());
        let mut saved = desk.tell(1, FINISH).unwrap();
        assert!(desk.tell(1, FINISH).is_none(), "a line that comes again says nothing new");
        let told = (&mut one.line).await.unwrap();
        assert_eq!(told.finish, FINISH);
        assert!(saved.try_recv().is_err());
        told.tell_saved(true);
        saved.await.unwrap();
        drop(two);
        assert!(desk.tell(2, FINISH).is_none());
    }

    #[tokio::test]
    async fn a_line_that_comes_when_all_is_decided_is_saved_with_it_or_never() {
        let desk = Arc::new(Desk::default());
        let places = [1, 2].map(|name| desk.enter(name, Cookie::from_number(7)).unwrap());
        let [first, second] = [1, 2].map(|name| desk.tell(name, FINISH).unwrap());
        for (place, is_saved) in places.into_iter().zip([true, false]) {
            place.leave(is_saved);
        }
        first.await.unwrap();
        assert!(second.await.is_err());
        let place = desk.enter(3, Cookie::from_number(7)).unwrap();
        place.leave(true);
        assert!(desk.tell(3, FINISH).is_none());
    }

    #[test]
    fn the_end_of_a_connection_is_told_to_all_who_use_it_and_nothing_is_left_behind() {
        let desk = Arc::new(Desk::default());
        let places = [1, 2].map(|name| desk.enter(name, Cookie::from_number(7)).unwrap());
        let other = desk.enter(3, Cookie::from_number(8)).unwrap();
        desk.connection_ended(Ended { cookie: Cookie::from_number(7), bytes_acked: 5 });
        assert_eq!(places.each_ref().map(|place| place.acked_at_end.get().copied()), [Some(5); 2]);
        assert_eq!(other.acked_at_end.get(), None);
        drop((places, other));
        let table = desk.table();
        assert_eq!((table.running, table.by_name.len(), table.by_connection.len()), (0, 0, 0));
    }

    #[test]
    fn there_is_a_most() {
        let desk = Arc::new(Desk::default());
        let places: Vec<_> = (0..MAX_RUNNING as u64).map(|name| desk.enter(name, Cookie::from_number(name)).unwrap()).collect();
        assert!(desk.enter(u64::MAX, Cookie::from_number(0)).is_none());
        drop(places);
        assert!(desk.enter(u64::MAX, Cookie::from_number(0)).is_some());
    }
}
