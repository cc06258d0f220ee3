//! What people and programs reach over HTTP: two sides that share no route.
//!
//! * `owner/` (the LAN): the REST API, the owner's page, and the loop that serves both. `legacy.rs`: the original's endpoints.
//!   `auth.rs`: who an owner is, and from where. `assets.rs`: the files of the page. `problem.rs`: errors as answers.
//! * `recipient/` (public): the pages of a link.
//! * `words.rs`: what both say in sentences.

pub mod words;
pub mod recipient;
pub mod problem;
pub mod auth;
pub mod assets;
pub mod legacy;
pub mod owner;
