//! Job and logic die, or end in order, in the middle of a storm of pushes.

use std::time::Instant;

use anser_e2e::{Apart, Role};

use super::storm::{Storm, say};

/// Both are killed 25 times: each push that was taken and named a client that stayed comes to it, once, and
/// in order.
#[test]
fn fifty_kills_of_job_and_logic_lose_nothing() {
    let began = Instant::now();
    let mut apart = Apart::start(2, Storm::SETTINGS);
    let storm = Storm::start(&apart, 4);
    let mut rng = fastrand::Rng::with_seed(50);
    for role in [Role::Job, Role::Logic].repeat(25) {
        storm.rage(rng.u64(1..30));
        apart.kill(role);
        apart.run(role);
    }
    storm.rage(50);
    storm.end(&apart);
    say(&format!("50 kills took {:?}", began.elapsed()));
}

/// The same with SIGTERM: whoever is told to go finishes what it has begun.
#[test]
fn drains_of_job_and_logic_lose_nothing() {
    let mut apart = Apart::start(2, Storm::SETTINGS);
    let storm = Storm::start(&apart, 4);
    for role in [Role::Job, Role::Logic].repeat(3) {
        storm.rage(30);
        apart.drain(role);
        apart.run(role);
    }
    storm.rage(50);
    storm.end(&apart);
}
