//! Whom the back end let in a short while ago, for when it is away.

use std::collections::HashMap;
use std::time::Duration;

use ring::digest;
use tokio::time::Instant;

use super::verdict::Verdict;

/// Most entries. Some 20 MB when all are there.
const MOST: usize = 100_000;

/// Longest names and lists that are remembered, in bytes: a back end that answers with more is asked again.
const LONGEST: usize = 1024;

/// What somebody showed, as a digest: tokens are secrets, and are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shown([u8; digest::SHA256_OUTPUT_LEN]);

impl Shown {
    /// The token and the cookies: the back end may have looked at either.
    pub(super) fn new(token: &[u8], cookie: Option<&str>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&(token.len() as u64).to_be_bytes());
        context.update(token);
        context.update(&[cookie.is_some() as u8]);
        context.update(cookie.unwrap_or_default().as_bytes());
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

/// The last verdicts, in two halves: when the younger one is full, it takes the place of the older one.
#[derive(Debug)]
pub(super) struct Memory {
    grace: Duration,
    half: usize,
    young: HashMap<Shown, (Instant, Verdict)>,
    old: HashMap<Shown, (Instant, Verdict)>,
}

impl Memory {
    /// Remembers for this long.
    pub(super) fn new(grace: Duration) -> Self {
        Self::holding(MOST, grace)
    }

    fn holding(most: usize, grace: Duration) -> Self {
        Self { grace, half: most / 2, young: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn insert(&mut self, shown: Shown, verdict: &Verdict) {
        self.remove(&shown);
        let length = |name: &Option<String>| name.as_ref().map_or(0, String::len);
        let accepts = verdict.accepts.as_ref().map_or(0, |accepts| size_of_val(&accepts[..]));
        if length(&verdict.key) + length(&verdict.room_id) + accepts > LONGEST {
            return;
        }
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(shown, (Instant::now(), verdict.clone()));
    }

    /// The back end has changed its mind.
    pub(super) fn remove(&mut self, shown: &Shown) {
        self.young.remove(shown);
        self.old.remove(shown);
    }

    pub(super) fn get(&self, shown: &Shown) -> Option<Verdict> {
        let (at, verdict) = self.young.get(shown).or_else(|| self.old.get(shown))?;
        (at.elapsed() < self.grace).then(|| verdict.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn remembers_the_newest_for_a_while() {
        let shown = |n: u8| Shown::new(&[n], None);
        let mut memory = Memory::holding(4, Duration::from_secs(10));
        let verdict = Verdict { key: Some("k".into()), ..Verdict::default() };
        for n in 0..5 {
            memory.insert(shown(n), &verdict);
        }
        assert!(memory.young.len() + memory.old.len() <= 4);
        assert_eq!(memory.get(&shown(0)), None);
        assert_eq!(memory.get(&shown(4)), Some(verdict.clone()));
        memory.remove(&shown(4));
        assert_eq!(memory.get(&shown(4)), None);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(memory.get(&shown(3)), Some(verdict.clone()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(memory.get(&shown(3)), None);

        let long = Verdict { accepts: Some(vec![0; 257]), ..Verdict::default() };
        memory.insert(shown(9), &long);
        assert_eq!(memory.get(&shown(9)), None);
    }

    #[test]
    fn token_and_cookie_are_not_mixed_up() {
        let all = [
            Shown::new(b"", None),
            Shown::new(b"", Some("")),
            Shown::new(b"ab", None),
            Shown::new(b"a", Some("b")),
            Shown::new(b"", Some("ab")),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
    }
}
