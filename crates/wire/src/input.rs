//! Bytes that have arrived, as a cursor that decoders take from.

use core::mem;

/// What one read brought. A decoder takes what it understands; it may change the bytes in place
/// (a WebSocket payload is unmasked where it lies), hence the exclusive borrow.
#[derive(Debug)]
pub struct Input<'a> {
    rest: &'a mut [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`, nothing taken yet.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that nobody has taken yet.
    pub fn rest(&self) -> &[u8] {
        self.rest
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been taken.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes the next `n` bytes, or all of them when there are fewer.
    pub fn take(&mut self, n: usize) -> &'a mut [u8] {
        let n = n.min(self.rest.len());
        let (taken, rest) = mem::take(&mut self.rest).split_at_mut(n);
        self.rest = rest;
        taken
    }
}
