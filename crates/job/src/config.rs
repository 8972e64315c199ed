//! The `[job]` section of the configuration.

use anser_api::settings;
use anser_api::settings::Span;

settings! {
    /// The job's part of the configuration.
    pub struct Config {
        /// Most pushes on their way to one comet, until it says that they are written. Above it, a push
        /// that goes there alone is refused; one that goes elsewhere too is dropped for that comet. At
        /// least 1.
        lane: usize = 65_536,
        /// Most bytes of such pushes. One push is always taken, however large.
        lane_bytes: usize = 64 << 20,
        /// How long a comet may be away, or take nothing, before what waits for it is dropped. At least 1s,
        /// at most 24h.
        patience: Span = Span::secs(30),
        /// After a comet has died: how long what was not written to a key waits for it to come back. At
        /// least 1s, at most 24h.
        return_within: Span = Span::secs(60),
        /// Most pushes that wait for keys to come back, one for each key. At least 1.
        returning: usize = 100_000,
        /// Most connections a second that a push to everyone reaches, over all comets, whatever it asks
        /// for. 0: no limit.
        broadcast_speed: u32 = 0,
        /// How long an idempotency key is remembered, as long as the push log is kept. At least 1m, at most
        /// 168h.
        idempotency: Span = Span::secs(24 * 3600),
        /// Most idempotency keys that are remembered; above it the oldest are forgotten. At least 1.
        idempotency_keys: usize = 100_000,
    }
}
