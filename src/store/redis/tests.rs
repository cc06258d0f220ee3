//! The promises, on a real Redis.

mod faults;
mod layout;
mod migrate;
mod server;
mod several;

use self::server::store;
use crate::store::contract::{every_promise, every_shared_promise};

every_promise!(match store().await {
    Some(store) => store,
    None => return,
});
every_shared_promise!(match store().await {
    Some(store) => store,
    None => return,
});
