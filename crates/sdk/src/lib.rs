//! The client library of Anser, which goim servers understand as well: connects over TCP or
//! WebSocket, authenticates, keeps the connection, and delivers pushes in order.
//!
//! ```no_run
//! use anser_sdk::{Client, Config, Event, Login};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // The second address is for when the first does not work.
//!     let addresses = ["tcp://localhost:3101".parse()?, "ws://localhost:3102/sub".parse()?];
//!     let login = Login::new().mid(7).key("phone-7").accepts([1000]).anser();
//!     let (client, mut events) = Client::connect(Config::new(addresses, login)).await?;
//!
//!     // Answers come behind pushes, so requests are made where events are taken by somebody else.
//!     let requests = tokio::spawn(async move {
//!         client.join("live://1000").await?;
//!         client.send(4, "hello").await?;
//!         println!("{} are here", client.heartbeat().await?);
//!         Ok::<_, anser_sdk::RequestError>(client)
//!     });
//!
//!     while let Some(event) = events.next().await {
//!         match event {
//!             Event::Connected { address } => println!("connected to {address}"),
//!             Event::Push { op, body } => println!("{op}: {} bytes", body.len()),
//!             Event::Disconnected { cause, retry_in: Some(delay) } => println!("{cause}; again in {delay:?}"),
//!             Event::Disconnected { cause, retry_in: None } => println!("{cause}; that was the end"),
//!             other => println!("{other:?}"),
//!         }
//!     }
//!     let client = requests.await??;
//!     client.close().await;
//!     Ok(())
//! }
//! ```
//!
//! # What it does by itself
//!
//! A [`Client`] is one task. It sends heartbeats, and takes a server that does not answer them for
//! gone. When the connection is lost it waits ([`Backoff`], or as long as a draining server asked
//! for), tries the addresses in order, authenticates, and restores the rooms and operations that were
//! asked for since. [`Events`] tell of all that. Only a token that is refused [`Config::auth_attempts`]
//! times in a row ends it.
//!
//! What was pushed while there was no connection is lost, as goim's protocol has it: what must not be
//! lost has to be pulled as well, after [`Event::Connected`].
//!
//! # Bounds
//!
//! Nothing grows without bound. When the application does not take its events, [`Config::events`] of
//! them wait and the task stops reading; the socket's buffers fill, and then it is the server who
//! holds back, or drops and counts ([`Event::Dropped`], [`Event::Behind`]). Heartbeats leave all the
//! same, so the connection stays; answers to requests lie behind what is not read, so requests can
//! time out ([`RequestError::Timeout`]), and WebSocket pings of a proxy go unanswered until the
//! application takes events again. A lost connection too is found, and replaced, only then.
//!
//! When requests are made faster than they can be sent, [`Config::requests`] of them wait and the
//! caller of the next waits as well, [`Config::request_timeout`] at most.

mod address;
mod backoff;
mod client;
mod config;
mod error;
mod event;
mod session;
mod task;
mod token;
mod transport;
mod wanted;

pub use anser_wire::client::{Closed, Timing};
pub use anser_wire::operation;

pub use self::address::{Address, AddressError};
pub use self::backoff::Backoff;
pub use self::client::Client;
pub use self::config::Config;
pub use self::error::{ConnectError, Failure, Refused, RequestError};
pub use self::event::{Cause, Event, Events};
pub use self::token::{Login, Token};
