//! The recipient side: the link's page, redeem, transfer, nothing else.

pub mod pages;
