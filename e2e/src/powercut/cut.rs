//! At which operation the power goes.

use std::fmt;

use super::places;

/// What happens at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// The process is killed before it.
    Before,
    /// In the middle: of a write, half of the bytes have been written; a sync has begun. Anything else
    /// has no middle, and this is after it.
    Middle,
    /// After it, before the process learns of it.
    After,
    /// The power stays on, and the operation fails with EIO.
    Fail,
}

impl When {
    /// Those that kill.
    pub const CUTS: [Self; 3] = [Self::Before, Self::Middle, Self::After];

    /// Every one, as the shim counts them: from 1.
    pub(super) const ALL: [Self; 4] = [Self::Before, Self::Middle, Self::After, Self::Fail];

    pub(super) fn number(self) -> u64 {
        self as u64 + 1
    }

    pub(super) fn from_number(number: u64) -> Self {
        let known = Self::ALL.into_iter().find(|when| when.number() == number);
        known.unwrap_or_else(|| panic!("the shim knows an action {number}"))
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Before => "before",
            Self::Middle => "middle",
            Self::After => "after",
            Self::Fail => "fail",
        })
    }
}

/// One operation at which the power goes, or which fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    place: &'static str,
    nth: u64,
    when: When,
}

impl Cut {
    /// After the `nth` operation (from 1) of a life at a place, such as `segment.sync`. The places are
    /// in `e2e/src/powercut/places.rs`.
    #[track_caller]
    pub fn at(place: &str, nth: u64) -> Self {
        Self { place: places::names()[places::number(place)], nth, when: When::After }
    }

    /// At another moment of it.
    #[must_use]
    pub fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    /// Before it.
    #[must_use]
    pub fn before(self) -> Self {
        self.when(When::Before)
    }

    /// In its middle.
    #[must_use]
    pub fn middle(self) -> Self {
        self.when(When::Middle)
    }

    /// No cut: it fails with EIO, and the process lives.
    #[must_use]
    pub fn fail(self) -> Self {
        self.when(When::Fail)
    }

    /// Where it is.
    pub fn place(&self) -> &'static str {
        self.place
    }

    /// At which moment.
    pub fn moment(&self) -> When {
        self.when
    }

    /// As the shim reads it.
    pub(super) fn code(&self) -> String {
        format!("{}:{}:{}", places::number(self.place), self.nth, self.when.number())
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.place, self.nth, self.when)
    }
}
