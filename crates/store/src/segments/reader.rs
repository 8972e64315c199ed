//! Reading records back.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::open::next_record;
use super::record::{Found, RECORD_HEADER, SEGMENT_HEADER, decode};
use super::{Segment, Shared, lock};
use crate::log::{Damage, Page, ReadError};

/// Bytes read at once, at least.
const WINDOW: usize = 256 << 10;

/// A page of records of the segments that `segment_at` finds, up to the end of what is durable.
pub(super) fn page(
    segment_at: impl Fn(u64) -> Option<(u64, Segment)>,
    durable: u64,
    from: u64,
    max_bytes: usize,
    folder: &str,
) -> Result<Page, ReadError> {
    let mut page = Page { next: from, ..Page::default() };
    let mut left = max_bytes;
    while page.is_empty()
        && page.next < durable
        && let Some((base, segment)) = segment_at(page.next)
    {
        if base >= durable {
            break;
        }
        let at = page.next.max(base + SEGMENT_HEADER as u64);
        let end = (base + segment.len).min(durable);
        let done = read_segment(base, &segment, at, end, &mut left, &mut page);
        done.map_err(|cause| ReadError {
            what: format!("segment {} in {folder}", Shared::segment_name(base)),
            cause,
        })?;
    }
    Ok(page)
}

impl Shared {
    fn segment_at(&self, position: u64) -> Option<(u64, Segment)> {
        lock(&self.catalog).segment_at(position)
    }

    pub(super) fn page(&self, from: u64, max_bytes: usize) -> Result<Page, ReadError> {
        let durable = self.durable.load(Ordering::Acquire);
        page(|position| self.segment_at(position), durable, from, max_bytes, &self.disk.name())
    }

    pub(super) fn one(&self, position: u64) -> Result<Option<Bytes>, ReadError> {
        let Some((base, _)) = self.segment_at(position) else { return Ok(None) };
        if position < base + SEGMENT_HEADER as u64 || position >= self.durable.load(Ordering::Acquire) {
            return Ok(None);
        }
        let page = self.page(position, 1)?;
        let found = page.records.into_iter().next().filter(|(at, _)| *at == position);
        Ok(found.map(|(_, content)| content))
    }
}

/// Reads records from `at` up to `end`, about `left` bytes of them. `page.next` is behind what was looked at.
fn read_segment(
    base: u64,
    segment: &Segment,
    mut at: u64,
    end: u64,
    left: &mut usize,
    page: &mut Page,
) -> io::Result<()> {
    while at < end && *left > 0 {
        let mut want = ((end - at) as usize).min(WINDOW.max((*left).min(WINDOW * 4)));
        let bytes = loop {
            let mut bytes = vec![0; want];
            let read = segment.file.read_at(&mut bytes, at - base)?;
            bytes.truncate(read);
            match decode(at, &bytes) {
                Found::Cut(more) if at + more as u64 <= end && more > want => want = more,
                _ => break Bytes::from(bytes),
            }
        };
        let mut within = 0;
        while within < bytes.len() && *left > 0 {
            let position = at + within as u64;
            match decode(position, &bytes[within..]) {
                Found::Record { content, .. } => {
                    let (from, len) = (within + RECORD_HEADER, content.len());
                    page.records.push((position, bytes.slice(from..from + len)));
                    *left = left.saturating_sub(RECORD_HEADER + len);
                    within += RECORD_HEADER + len;
                }
                Found::Nothing => {
                    page.next = base + segment.len;
                    return Ok(());
                }
                // Its rest is in the next window.
                Found::Cut(_) if within > 0 => break,
                Found::Cut(_) | Found::Bad => {
                    let to = skip(base, segment, position, end)?;
                    page.damage.push(Damage { from: position, to });
                    page.next = to;
                    return Ok(());
                }
            }
        }
        at += within as u64;
        page.next = at;
    }
    if at >= end {
        page.next = at.max(page.next);
    }
    Ok(())
}

/// Where records go on behind something that is none.
fn skip(base: u64, segment: &Segment, from: u64, end: u64) -> io::Result<u64> {
    let mut bytes = vec![0; (end - from) as usize];
    let read = segment.file.read_at(&mut bytes, from - base)?;
    bytes.truncate(read);
    Ok(next_record(from, &bytes, 1).map_or(base + segment.len, |at| from + at as u64))
}
