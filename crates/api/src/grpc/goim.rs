//! goim's own contracts, so that its jobs, its comets and other callers find here what they know.
//!
//! Texts and codes of errors are goim's where goim has one; they are plain errors of Go, and so carry the
//! code `UNKNOWN`.

mod comet;
mod logic;
mod sessions;

use anser_wire::operation::RAW;
use anser_wire::packet;
use bytes::Bytes;
use tonic::Status;

pub(super) use comet::CometService;
pub use comet::Rooms;
pub(super) use logic::LogicService;

use super::generated::goim::protocol::Proto;
use crate::comet::Form;

/// How a packet of goim is to be written, and what of it.
fn form(proto: Proto) -> Result<(Form, Bytes), Status> {
    let Proto { ver, op, seq, body } = proto;
    if op == RAW {
        packet::check_all(&body).map_err(|cause| {
            Status::invalid_argument(format!(
                "a body for operation {RAW} is whole packets, one behind the other: {cause}"
            ))
        })?;
        return Ok((Form::Packets, body));
    }
    // goim writes the lower half, too.
    Ok((Form::Packet { ver: ver as i16, op, seq }, body))
}
