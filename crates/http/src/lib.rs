//! Every HTTP surface: goim's push API ([`goim`]), health and metrics ([`health`]), and the server under
//! them ([`server`]), which bounds what a stranger can cost.

mod config;
mod goim;
mod health;
mod long;
mod query;
mod server;

pub use config::Config;
pub use health::{Alive, Ready};
pub use server::{Bound, Http};
