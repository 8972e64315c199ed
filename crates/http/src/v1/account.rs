//! What became of a message, as the API tells it: what the job and the comets know, and what follows from it.

use std::time::SystemTime;

use anser_api::comet::{Note, Testimony, Unwritten};
use anser_api::id::{Key, Position};
use anser_api::job::{Account, Addressed, Ended, Explanation, Progress, Share};
use anser_api::logic::Place;
use jiff::{Timestamp, Unit};
use serde::Serialize;
use utoipa::ToSchema;

/// The answer to a question about a message.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct MessageAnswer {
    /// The number that was asked for.
    id: String,
    state: State,
    /// Without a message: the first number that the log keeps (`not_kept`), or the next that it may give
    /// (`not_given`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    log_id: Option<String>,
    /// What is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message: Option<MessageAccount>,
}

/// Whether the log has the message: it has it, or no message has this number yet, or none that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    Kept,
    NotGiven,
    NotKept,
}

/// What is known of a message.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct MessageAccount {
    /// When it was accepted.
    #[schema(format = DateTime)]
    accepted_at: String,
    operation: i32,
    /// Bytes of its body.
    bytes: u64,
    /// When it is of no use any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    expires_at: Option<String>,
    to: AddressedTo,
    /// It was for whom it is asked for: it names them, or goes to a room or to everyone.
    named: bool,
    /// Devices of those asked for that it named and that were not connected.
    absent: Vec<String>,
    /// What became of it on its way to each connection, or each comet.
    deliveries: Vec<Delivery>,
    /// There are so many more.
    more: u64,
    /// Where the devices are now.
    places: Vec<DevicePlace>,
}

/// Whom a message was for.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct AddressedTo {
    kind: Kind,
    /// Connections that it reached out to; not for rooms and everyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    connected: Option<u64>,
    /// Devices that were not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    absent: Option<u64>,
    /// How many users it named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    users: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    room: Option<String>,
}

/// What kind of receivers a message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Devices,
    Users,
    Room,
    All,
}

/// A message on its way to a connection, or to a room on one comet.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Delivery {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    device: Option<String>,
    comet: String,
    outcome: Outcome,
    /// When that was, if it is noted; for what waits: since when, or until when, as the outcome says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime)]
    at: Option<String>,
    /// More about an outcome that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
    /// It came to this comet behind its device, which was elsewhere before.
    followed: bool,
    /// It was sent again, as a comet was lost with it: it may have been received twice.
    resent: bool,
    /// The connection as it is now, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    now: Option<Now>,
    /// What the comet did not write, and why.
    notes: Vec<DeliveryNote>,
    /// More was noted than is told.
    more_notes: bool,
}

/// A connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Now {
    takes_operation: bool,
    /// It is in the room of the message.
    member: bool,
}

/// What a comet noted.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct DeliveryNote {
    /// None for all who had not got it by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    device: Option<String>,
    outcome: Outcome,
    #[schema(format = DateTime)]
    at: String,
}

/// What became of it.
///
/// - `written`: to the connection; `written_to_members`, `written_to_takers`: to whoever was in the room, or
///   took the operation, then. Who that was is not noted.
/// - On its way: `turn` (waits for its turn), `room_full`, `comet_full` (tried again `at`), `comet_away`
///   (since `at`), `returning` (waits for the device to come back, until `at`), `taken` (by the comet),
///   `queued` (behind a socket that takes no more).
/// - Not written by the comet: `absent`, `filtered` (the connection did not take the operation), `overflow`
///   (its queue was full), `closed`, `budget`, `draining`, `expired`, `pulled` (left for the client to pull).
/// - Not taken by the comet: `refused`, `lane_full`, `gave_up` (it was away too long), `lost` (it died),
///   `not_back` (the device did not come back), `no_lane` (the job does not know the comet).
/// - `unknown`: the detail says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Written,
    WrittenToMembers,
    WrittenToTakers,
    Turn,
    RoomFull,
    CometFull,
    CometAway,
    Returning,
    Taken,
    Queued,
    Absent,
    Filtered,
    Overflow,
    Closed,
    Budget,
    Draining,
    Expired,
    Pulled,
    Refused,
    LaneFull,
    GaveUp,
    Lost,
    NotBack,
    NoLane,
    Unknown,
}

/// Where a device is.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct DevicePlace {
    device: String,
    state: Whereabouts,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    comet: Option<String>,
}

/// Whether a device is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Whereabouts {
    Connected,
    Absent,
    Unknown,
}

/// In RFC 3339 with milliseconds.
pub(super) fn told(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).and_then(|time| time.round(Unit::Millisecond));
    time.map_or_else(|_| "9999-12-31T00:00:00.000Z".to_owned(), |time| format!("{time:.3}"))
}

impl MessageAnswer {
    pub(super) fn of(position: Position, explanation: Explanation) -> Self {
        let (state, log_id, message) = match explanation {
            Explanation::NotGiven { next } => (State::NotGiven, Some(next), None),
            Explanation::NotKept { first } => (State::NotKept, first, None),
            Explanation::Kept(account) => (State::Kept, None, Some(MessageAccount::of(&account))),
        };
        Self { id: position.to_string(), state, log_id: log_id.map(|id| id.to_string()), message }
    }
}

impl MessageAccount {
    fn of(account: &Account) -> Self {
        Self {
            accepted_at: told(account.accepted),
            operation: account.op,
            bytes: account.bytes,
            expires_at: account.expires.map(told),
            to: AddressedTo::of(&account.to),
            named: account.named,
            absent: account.absent.iter().map(Key::to_string).collect(),
            deliveries: account.shares.iter().map(|share| Delivery::of(account, share)).collect(),
            more: account.more,
            places: account.now.iter().map(DevicePlace::of).collect(),
        }
    }
}

impl AddressedTo {
    fn of(to: &Addressed) -> Self {
        let of = |kind| Self { kind, connected: None, absent: None, users: None, room: None };
        match to {
            Addressed::Keys { connected, absent } => {
                Self { connected: Some(*connected), absent: Some(*absent), ..of(Kind::Devices) }
            }
            Addressed::Users { users, connected } => {
                Self { connected: Some(*connected), users: Some(*users), ..of(Kind::Users) }
            }
            Addressed::Room(room) => Self { room: Some(room.to_string()), ..of(Kind::Room) },
            Addressed::All => of(Kind::All),
        }
    }
}

impl DevicePlace {
    fn of((key, place): &(Key, Place)) -> Self {
        let (state, comet) = match place {
            Place::At(comet) => (Whereabouts::Connected, Some(comet.to_string())),
            Place::Absent => (Whereabouts::Absent, None),
            Place::Unknown => (Whereabouts::Unknown, None),
        };
        Self { device: key.to_string(), state, comet }
    }
}

impl Delivery {
    fn of(account: &Account, share: &Share) -> Self {
        let (outcome, at, detail) = judge(account, share);
        let (notes, more_notes, now) = match &share.said {
            Ok(Testimony { notes, more, present, .. }) => {
                let now = present
                    .first()
                    .map(|present| Now { takes_operation: present.takes, member: present.member });
                (notes.iter().map(DeliveryNote::of).collect(), *more, now)
            }
            Err(_) => (Vec::new(), false, None),
        };
        Self {
            device: share.key.as_ref().map(Key::to_string),
            comet: share.comet.to_string(),
            outcome,
            at: at.map(told),
            detail,
            followed: share.followed,
            resent: share.resent,
            now,
            notes,
            more_notes,
        }
    }
}

impl DeliveryNote {
    fn of(note: &Note) -> Self {
        Self {
            device: note.key.as_ref().map(Key::to_string),
            outcome: unwritten(note.why),
            at: told(note.at),
        }
    }
}

fn unwritten(why: Unwritten) -> Outcome {
    match why {
        Unwritten::Absent => Outcome::Absent,
        Unwritten::Filtered => Outcome::Filtered,
        Unwritten::Overflow => Outcome::Overflow,
        Unwritten::Closed => Outcome::Closed,
        Unwritten::Budget => Outcome::Budget,
        Unwritten::Draining => Outcome::Draining,
        Unwritten::Expired => Outcome::Expired,
        Unwritten::Pulled => Outcome::Pulled,
    }
}

fn ended(why: Ended) -> Outcome {
    match why {
        Ended::Refused => Outcome::Refused,
        Ended::Expired => Outcome::Expired,
        Ended::Full => Outcome::LaneFull,
        Ended::Away => Outcome::GaveUp,
        Ended::Lost => Outcome::Lost,
        Ended::NotBack => Outcome::NotBack,
        Ended::NoLane => Outcome::NoLane,
    }
}

/// What became of a share, when, and what is to be said of it.
fn judge(account: &Account, share: &Share) -> (Outcome, Option<SystemTime>, Option<String>) {
    match share.progress {
        Progress::Turn => return (Outcome::Turn, None, None),
        Progress::Parked { until } => return (Outcome::RoomFull, Some(until), None),
        Progress::Paused { until } => return (Outcome::CometFull, Some(until), None),
        Progress::CometAway { since } => return (Outcome::CometAway, Some(since), None),
        Progress::Returning { until } => return (Outcome::Returning, Some(until), None),
        Progress::Ended { why, at } => return (ended(why), Some(at), None),
        Progress::Taken | Progress::Done => {}
    }
    let unknown = |detail: String| (Outcome::Unknown, None, Some(detail));
    let said = match &share.said {
        Ok(said) => said,
        Err(away) => return unknown(format!("comet {} cannot be asked now: {away}", share.comet)),
    };
    // What a room's members did not get is told beside what became of it for the others.
    let note = |note: &&Note| share.key.is_some() || note.key.is_none();
    if let Some(note) = said.notes.iter().rev().find(note) {
        return (unwritten(note.why), Some(note.at), None);
    }
    if share.progress == Progress::Taken {
        let queued = said.present.iter().any(|present| present.waits);
        return (if queued { Outcome::Queued } else { Outcome::Taken }, None, None);
    }
    match said.since {
        None => return unknown(format!("comet {} keeps no notes (comet.notes is 0)", share.comet)),
        Some(since) if since > account.accepted => {
            return unknown(format!("what comet {} noted reaches back to {} only", share.comet, told(since)));
        }
        Some(_) => {}
    }
    if account.since > account.accepted {
        return unknown(format!("what the job noted reaches back to {} only", told(account.since)));
    }
    let outcome = match account.to {
        Addressed::Keys { .. } | Addressed::Users { .. } => Outcome::Written,
        Addressed::Room(_) => Outcome::WrittenToMembers,
        Addressed::All => Outcome::WrittenToTakers,
    };
    (outcome, None, None)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anser_api::comet::{Away, Present};
    use anser_api::id::CometName;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn key(name: &str) -> Key {
        Key::parse(name, 9).unwrap()
    }

    fn said(notes: &[(Option<&str>, Unwritten)]) -> Testimony {
        let note = |(n, (name, why)): (usize, &(Option<&str>, Unwritten))| Note {
            key: name.map(key),
            why: *why,
            at: at(20 + n as u64),
        };
        let notes = notes.iter().enumerate().map(note).collect();
        Testimony { notes, more: false, since: Some(at(0)), present: vec![] }
    }

    fn share(progress: Progress, said: Testimony) -> Share {
        let comet = CometName::parse("c", 9).unwrap();
        Share { key: Some(key("a")), comet, progress, followed: false, resent: false, said: Ok(said) }
    }

    fn account(to: Addressed) -> Account {
        Account {
            accepted: at(10),
            op: 1000,
            bytes: 5,
            expires: None,
            to,
            named: true,
            absent: vec![],
            shares: vec![],
            more: 0,
            since: at(0),
            now: vec![],
        }
    }

    #[test]
    fn no_note_of_what_is_done_means_written() {
        let keys = || Addressed::Keys { connected: 1, absent: 0 };
        let users = Addressed::Users { users: 1, connected: 1 };
        let room = Addressed::Room(anser_api::id::Room::parse("live://1", 9).unwrap());
        for (to, outcome) in [
            (keys(), Outcome::Written),
            (users, Outcome::Written),
            (room, Outcome::WrittenToMembers),
            (Addressed::All, Outcome::WrittenToTakers),
        ] {
            assert_eq!(judge(&account(to), &share(Progress::Done, said(&[]))).0, outcome);
        }
        // Not when a note may have been forgotten, by either of the two, or nobody can be asked.
        let late = Testimony { since: Some(at(11)), ..said(&[]) };
        let none = Testimony { since: None, ..said(&[]) };
        for (share, detail) in [
            (share(Progress::Done, late), "what comet c noted reaches back to 2023-11-14T22:13:31.000Z only"),
            (share(Progress::Done, none), "comet c keeps no notes (comet.notes is 0)"),
            (
                Share { said: Err(Away("gone".into())), ..share(Progress::Done, said(&[])) },
                "comet c cannot be asked now: gone",
            ),
        ] {
            assert_eq!(judge(&account(keys()), &share), (Outcome::Unknown, None, Some(detail.to_owned())));
        }
        let forgetful = Account { since: at(11), ..account(keys()) };
        assert_eq!(judge(&forgetful, &share(Progress::Done, said(&[]))).0, Outcome::Unknown);
    }

    #[test]
    fn what_is_noted_counts_the_last_first() {
        let account = account(Addressed::All);
        let notes = said(&[(Some("a"), Unwritten::Absent), (Some("a"), Unwritten::Overflow)]);
        for progress in [Progress::Done, Progress::Taken] {
            let expected = (Outcome::Overflow, Some(at(21)), None);
            assert_eq!(judge(&account, &share(progress, notes.clone())), expected);
        }
        // Of a room, one member's note is not the room's.
        let of_room = |notes| Share { key: None, ..share(Progress::Done, notes) };
        assert_eq!(judge(&account, &of_room(notes)).0, Outcome::WrittenToTakers);
        let all = said(&[(None, Unwritten::Expired)]);
        assert_eq!(judge(&account, &of_room(all)).0, Outcome::Expired);
    }

    #[test]
    fn what_is_on_its_way() {
        let account = account(Addressed::All);
        let present = |waits| Present { key: key("a"), takes: true, member: true, waits };
        let taken = |waits| Testimony { present: vec![present(waits)], ..said(&[]) };
        for (share, outcome, time) in [
            (share(Progress::Turn, said(&[])), Outcome::Turn, None),
            (share(Progress::Parked { until: at(5) }, said(&[])), Outcome::RoomFull, Some(at(5))),
            (share(Progress::Paused { until: at(5) }, said(&[])), Outcome::CometFull, Some(at(5))),
            (share(Progress::CometAway { since: at(5) }, said(&[])), Outcome::CometAway, Some(at(5))),
            (share(Progress::Returning { until: at(5) }, said(&[])), Outcome::Returning, Some(at(5))),
            (share(Progress::Taken, taken(false)), Outcome::Taken, None),
            (share(Progress::Taken, taken(true)), Outcome::Queued, None),
            (share(Progress::Ended { why: Ended::Lost, at: at(5) }, said(&[])), Outcome::Lost, Some(at(5))),
        ] {
            assert_eq!(judge(&account, &share), (outcome, time, None));
        }
    }
}
