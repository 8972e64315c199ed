//! The client against a server that each test plays itself, over real sockets. Where time matters
//! the clock stands still and the test moves it.

mod connect;
mod pressure;
mod reconnect;
mod requests;
mod server;
mod timing;
