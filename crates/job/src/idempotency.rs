//! Requests that may come again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use anser_api::comet::PushError;
use anser_api::job::{Accepted, Idempotency};
use anser_store::Durable;

/// Requests by their keys, the oldest forgotten first.
#[derive(Debug)]
pub(crate) struct Remembered {
    by_key: HashMap<String, Request>,
    order: VecDeque<(SystemTime, String)>,
    most: usize,
    age: Duration,
}

#[derive(Debug)]
struct Request {
    digest: [u8; 32],
    accepted: Accepted,
    durable: Option<Durable>,
}

impl Remembered {
    pub(crate) fn new(most: usize, age: Duration) -> Self {
        Self { by_key: HashMap::new(), order: VecDeque::new(), most, age }
    }

    /// The answer to an earlier request, if this is its repetition, and whether that is on disk.
    pub(crate) fn find(
        &mut self,
        request: &Idempotency,
        now: SystemTime,
    ) -> Result<Option<(Accepted, Option<Durable>)>, PushError> {
        self.forget(now);
        match self.by_key.get(&request.key) {
            None => Ok(None),
            Some(known) if known.digest == request.digest => {
                Ok(Some((Accepted { repeated: true, ..known.accepted }, known.durable.clone())))
            }
            Some(_) => Err(PushError::Conflict),
        }
    }

    pub(crate) fn insert(
        &mut self,
        request: &Idempotency,
        accepted: Accepted,
        durable: Option<Durable>,
        now: SystemTime,
    ) {
        self.forget(now);
        if self.order.len() >= self.most
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        let known = Request { digest: request.digest, accepted, durable };
        if self.by_key.insert(request.key.clone(), known).is_none() {
            self.order.push_back((now, request.key.clone()));
        }
    }

    fn forget(&mut self, now: SystemTime) {
        let old = |then: SystemTime| now.duration_since(then).is_ok_and(|age| age > self.age);
        while self.order.front().is_some_and(|(then, _)| old(*then)) {
            if let Some((_, key)) = self.order.pop_front() {
                self.by_key.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anser_api::id::Position;

    use super::*;

    #[test]
    fn repetitions_conflicts_and_what_is_forgotten() {
        let mut remembered = Remembered::new(2, Duration::from_secs(10));
        let request = |key: &str, digest| Idempotency { key: key.into(), digest: [digest; 32] };
        let accepted = |at| Accepted { position: Position(at), routed: 1, absent: 0, repeated: false };
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        let position = |remembered: &mut Remembered, key, digest, secs| {
            remembered
                .find(&request(key, digest), at(secs))
                .map(|known| known.map(|(a, _)| (a.position.0, a.repeated)))
        };
        remembered.insert(&request("a", 1), accepted(10), None, at(0));
        assert_eq!(position(&mut remembered, "a", 1, 1), Ok(Some((10, true))));
        assert_eq!(position(&mut remembered, "a", 2, 1), Err(PushError::Conflict));
        assert_eq!(position(&mut remembered, "b", 1, 1), Ok(None));
        remembered.insert(&request("b", 1), accepted(20), None, at(2));
        remembered.insert(&request("c", 1), accepted(30), None, at(3));
        assert_eq!(position(&mut remembered, "a", 2, 3), Ok(None));
        assert_eq!(position(&mut remembered, "b", 1, 12), Ok(Some((20, true))));
        assert_eq!(position(&mut remembered, "b", 1, 13), Ok(None));
        assert_eq!(position(&mut remembered, "c", 1, 13), Ok(Some((30, true))));
    }
}
