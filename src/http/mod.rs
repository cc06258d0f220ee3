//! What people and programs reach over HTTP: two sides that share no route.

pub mod words;
pub mod recipient;
