//! What the API knows of a message, as sentences.

use std::fmt::Write as _;

use serde::Deserialize;

/// The answer of `GET /api/v1/messages/{id}`. What a newer server says beside is passed over.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    id: String,
    state: String,
    log_id: Option<String>,
    message: Option<Message>,
}

#[derive(Debug, Deserialize)]
struct Message {
    accepted_at: String,
    operation: i32,
    bytes: u64,
    expires_at: Option<String>,
    to: To,
    named: bool,
    absent: Vec<String>,
    deliveries: Vec<Delivery>,
    more: u64,
    places: Vec<Place>,
}

#[derive(Debug, Deserialize)]
struct To {
    kind: String,
    connected: Option<u64>,
    absent: Option<u64>,
    users: Option<u64>,
    room: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delivery {
    device: Option<String>,
    comet: String,
    outcome: String,
    at: Option<String>,
    detail: Option<String>,
    followed: bool,
    resent: bool,
    now: Option<Now>,
    notes: Vec<Note>,
    more_notes: bool,
}

#[derive(Debug, Deserialize)]
struct Now {
    takes_operation: bool,
    member: bool,
}

#[derive(Debug, Deserialize)]
struct Note {
    device: Option<String>,
    outcome: String,
    at: String,
}

#[derive(Debug, Deserialize)]
struct Place {
    device: String,
    state: String,
    comet: Option<String>,
}

impl Answer {
    /// One sentence a line.
    pub(super) fn tell(&self, subject: &str) -> String {
        let id = &self.id;
        let mut text = match (&self.message, &self.state[..], &self.log_id) {
            (Some(message), ..) => return message.tell(id, subject),
            (None, "not_given", Some(next)) => {
                format!("Message {id} was never given: the next message has number {next} or above")
            }
            (None, _, Some(first)) => format!(
                "Message {id} is not in the log: no message has this number, or it has been removed \
                 (store.retention). The log begins with {first}"
            ),
            (None, ..) => format!(
                "Message {id} is not in the log, which is empty: it may have been removed \
                                   (store.retention)"
            ),
        };
        text.push_str(".\n");
        text
    }
}

impl Message {
    fn tell(&self, id: &str, subject: &str) -> String {
        let mut lines = vec![self.accepted(id)];
        lines.extend(self.whom(subject));
        for device in &self.absent {
            lines.push(format!("{device} was not connected when it was accepted, so it was not sent to it"));
        }
        for delivery in &self.deliveries {
            lines.push(delivery.tell(self));
            if delivery.device.is_none() {
                lines.extend(delivery.notes.iter().filter_map(|note| note.tell(self, delivery)));
            }
            if delivery.more_notes {
                lines.push(format!("Comet {} has noted more than is told here", delivery.comet));
            }
        }
        if self.more > 0 {
            lines.push(format!("It went to {} more connections, which are not told here", self.more));
        }
        lines.extend(self.places.iter().map(Place::tell));
        lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}.");
            text
        })
    }

    fn accepted(&self, id: &str) -> String {
        let Self { accepted_at, operation, bytes, .. } = self;
        let count = |count: Option<u64>, what: &str| {
            let count = count.unwrap_or(0);
            format!("{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        let to = &self.to;
        let whom = match &to.kind[..] {
            "devices" => {
                let (connected, absent) = (to.connected.unwrap_or(0), to.absent.unwrap_or(0));
                let all = count(Some(connected + absent), "device");
                format!("{all}, of which {connected} connected")
            }
            "users" => format!("{} with {}", count(to.users, "user"), count(to.connected, "connection")),
            "room" => format!("room {}", to.room.as_deref().unwrap_or("?")),
            "all" => "everyone".to_owned(),
            other => other.to_owned(),
        };
        let mut line = format!(
            "Message {id} was accepted at {accepted_at}: operation {operation}, {bytes} bytes, to {whom}"
        );
        if let Some(end) = &self.expires_at {
            let _ = write!(line, "; it expires at {end}");
        }
        line
    }

    /// What is to be said before the deliveries.
    fn whom(&self, subject: &str) -> Option<String> {
        let nothing = self.deliveries.is_empty() && self.absent.is_empty();
        match &self.to.kind[..] {
            _ if !self.named => Some(format!("It was not for {subject}")),
            "users" if self.to.users.is_some_and(|users| users > 1) => Some(
                "It went to several users, and which connection was whose is not noted: told here is of those that \
                 are the user's now"
                    .to_owned(),
            ),
            "users" | "devices" if nothing => Some(format!("{subject} had no connection then")),
            "room" if nothing => Some(format!(
                "{subject} is connected nowhere now, and nothing is noted of it: if it was in the room then, it was \
                 written to it"
            )),
            "all" if nothing => Some(format!(
                "{subject} is connected nowhere now, and nothing is noted of it: if it was connected then and took \
                 operation {}, it was written to it",
                self.operation
            )),
            _ => None,
        }
    }
}

impl Delivery {
    fn tell(&self, message: &Message) -> String {
        let (comet, operation) = (&self.comet, message.operation);
        let whose = match &self.device {
            Some(device) => format!("{device} on comet {comet}"),
            None => format!("Comet {comet}"),
        };
        let at = self.at.as_deref().unwrap_or("a time that is not noted");
        let said = match &self.outcome[..] {
            "written" => "it was written to the connection (when is not noted)".to_owned(),
            "written_to_members" => {
                let now = self.now.as_ref().map(|now| if now.member { "is one now" } else { "is none now" });
                self.written("every member that the room had there then", now)
            }
            "written_to_takers" => {
                let now = self.now.as_ref();
                let now =
                    now.map(|now| if now.takes_operation { "takes it now" } else { "does not take it now" });
                self.written(&format!("every connection there that took operation {operation} then"), now)
            }
            "turn" => "it waits for its turn on the way there".to_owned(),
            "room_full" => format!("it waits, as the room's queue there is full; it is tried again at {at}"),
            "comet_full" => format!("it waits, as the comet has no place for it; it is tried again at {at}"),
            "comet_away" => format!("it waits, as the comet cannot be reached since {at}"),
            "returning" => format!(
                "it waits for the device to come back, until {at} at the longest (job.return_within), as its comet \
                 was lost"
            ),
            "taken" => "the comet has it, and has not said yet what became of it".to_owned(),
            "queued" => {
                "it waits behind the socket, which takes no more: the client reads too slowly".to_owned()
            }
            "unknown" => {
                let detail = self.detail.as_deref().unwrap_or("the server does not say why");
                format!("what became of it is not known: {detail}")
            }
            other => unwritten(other, at, operation),
        };
        let taken_now = self.now.as_ref().map(|now| now.takes_operation);
        let mut line = format!("{whose}: {said}");
        if self.outcome == "filtered" {
            line.push_str(match taken_now {
                Some(true) => "; it does now",
                Some(false) => "; it does not now either",
                None => "",
            });
        }
        if self.resent {
            line.push_str("; it was sent again, as a comet was lost with it, and may have come twice");
        } else if self.followed {
            line.push_str("; it came there behind the device, which was elsewhere before");
        }
        line
    }

    fn written(&self, whom: &str, now: Option<&str>) -> String {
        let mut line = format!("it was written to {whom}");
        if let (Some(device), Some(now)) = (&self.device, now) {
            let _ = write!(line, "; who that was is not noted, and {device} {now}");
        }
        line
    }
}

impl Note {
    /// One member's, beside what is told of the room.
    fn tell(&self, message: &Message, delivery: &Delivery) -> Option<String> {
        let device = self.device.as_ref()?;
        let said = unwritten(&self.outcome, &self.at, message.operation);
        Some(format!("{device} on comet {}: {said}", delivery.comet))
    }
}

/// Why it did not come to a connection.
fn unwritten(outcome: &str, at: &str, operation: i32) -> String {
    match outcome {
        "absent" => format!("it was not written, as the device was not there any more at {at}"),
        "filtered" => {
            format!("it was not written at {at}, as the connection did not take operation {operation}")
        }
        "overflow" => format!(
            "it was dropped at {at}, as the connection's queue was full: the client read too slowly (comet.queue, \
             comet.queue_bytes)"
        ),
        "closed" => format!("it was lost at {at}, as the connection ended before its turn"),
        "budget" => format!(
            "it was lost at {at}, as the connection was closed: too much waited for all of them \
             (comet.outbound_budget)"
        ),
        "draining" => format!("it was lost at {at}, as the comet went away before its turn"),
        "expired" => format!("it was not written at {at}, as it had expired"),
        "pulled" => format!("it was left at {at} for the client to pull"),
        "refused" => format!("the comet refused it at {at}, for good; the log of the job says why"),
        "lane_full" => format!(
            "it was dropped at {at}, as too much waited for the comet (job.lane, job.lane_bytes), or for devices to \
             come back (job.returning)"
        ),
        "gave_up" => {
            format!(
                "it was dropped at {at}, as the comet was away or took nothing for longer than job.patience"
            )
        }
        "lost" => format!("it was lost at {at}, as the comet died with it"),
        "not_back" => {
            format!("it was dropped at {at}, as the device did not come back within job.return_within")
        }
        "no_lane" => {
            format!("it was dropped at {at}, as the job does not know this comet: name it in cluster.comets")
        }
        other => format!("{other}, at {at}"),
    }
}

impl Place {
    fn tell(&self) -> String {
        let Self { device, .. } = self;
        match (&self.state[..], &self.comet) {
            ("connected", Some(comet)) => format!("{device} is connected to comet {comet} now"),
            ("absent", _) => format!("{device} is not connected now"),
            _ => format!("Where {device} is now is not known: logic has not heard of every comet yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(answer: Value, subject: &str) -> String {
        serde_json::from_value::<Answer>(answer).unwrap().tell(subject)
    }

    fn delivery(outcome: &str, more: &Value) -> Value {
        let mut delivery = json!({
            "device": "phone-7", "comet": "c", "outcome": outcome, "at": "T", "followed": false, "resent": false,
            "notes": [], "more_notes": false,
        });
        for (name, value) in more.as_object().unwrap() {
            delivery[name] = value.clone();
        }
        delivery
    }

    fn message(kind: &Value, deliveries: &[Value]) -> Value {
        json!({"id": "12", "state": "kept", "message": {
            "accepted_at": "2026-03-01T12:00:00.123Z", "operation": 1000, "bytes": 5, "to": kind, "named": true,
            "absent": [], "deliveries": deliveries, "more": 0, "places": [],
        }})
    }

    #[test]
    fn a_number_without_a_message() {
        let answer = json!({"id": "12", "state": "not_given", "log_id": "9"});
        let said = "Message 12 was never given: the next message has number 9 or above.\n";
        assert_eq!(told(answer, "x"), said);
        let answer = json!({"id": "12", "state": "not_kept", "log_id": "90"});
        assert!(told(answer, "x").contains("removed (store.retention). The log begins with 90.\n"));
        assert!(told(json!({"id": "12", "state": "not_kept"}), "x").contains("which is empty"));
    }

    #[test]
    fn a_whole_story() {
        let kind = json!({"kind": "devices", "connected": 1, "absent": 1});
        let now = json!({"takes_operation": false, "member": false});
        let mut answer = message(&kind, &[delivery("filtered", &json!({"now": now}))]);
        answer["message"]["absent"] = json!(["phone-8"]);
        answer["message"]["places"] = json!([
            {"device": "phone-7", "state": "connected", "comet": "c"}, {"device": "phone-8", "state": "absent"},
        ]);
        let said = "\
Message 12 was accepted at 2026-03-01T12:00:00.123Z: operation 1000, 5 bytes, to 2 devices, of which 1 connected.
phone-8 was not connected when it was accepted, so it was not sent to it.
phone-7 on comet c: it was not written at T, as the connection did not take operation 1000; it does not now either.
phone-7 is connected to comet c now.
phone-8 is not connected now.
";
        assert_eq!(told(answer, "user 7"), said);
    }

    #[test]
    fn each_outcome_is_a_sentence() {
        let kind = json!({"kind": "room", "room": "live://1"});
        let now = json!({"now": {"takes_operation": true, "member": true}});
        for (outcome, more, said) in [
            ("written", json!({}), "it was written to the connection (when is not noted)."),
            ("written_to_members", now.clone(), "who that was is not noted, and phone-7 is one now."),
            ("written_to_takers", now.clone(), "and phone-7 takes it now."),
            ("filtered", now, "operation 1000; it does now."),
            ("turn", json!({}), "it waits for its turn on the way there."),
            ("room_full", json!({}), "tried again at T."),
            ("comet_full", json!({}), "tried again at T."),
            ("comet_away", json!({}), "cannot be reached since T."),
            ("returning", json!({}), "until T at the longest"),
            ("taken", json!({}), "has not said yet"),
            ("queued", json!({}), "the client reads too slowly."),
            ("absent", json!({}), "not there any more at T."),
            ("overflow", json!({}), "dropped at T, as the connection's queue was full"),
            ("closed", json!({"followed": true}), "before its turn; it came there behind the device"),
            ("budget", json!({}), "comet.outbound_budget"),
            ("draining", json!({}), "the comet went away"),
            ("expired", json!({}), "not written at T, as it had expired."),
            ("pulled", json!({}), "to pull."),
            ("refused", json!({}), "the comet refused it at T"),
            ("lane_full", json!({}), "job.lane"),
            ("gave_up", json!({}), "job.patience"),
            ("lost", json!({"resent": true, "followed": true}), "died with it; it was sent again"),
            ("not_back", json!({}), "job.return_within."),
            ("no_lane", json!({}), "cluster.comets."),
            ("unknown", json!({"detail": "because"}), "is not known: because."),
            ("something_new", json!({}), "something_new, at T."),
        ] {
            let told = told(message(&kind, &[delivery(outcome, &more)]), "phone-7");
            let line = told.lines().nth(1).unwrap();
            assert!(line.starts_with("phone-7 on comet c: ") && line.contains(said), "{outcome}: {line}");
        }
    }

    #[test]
    fn a_room_tells_of_its_members() {
        let kind = json!({"kind": "room", "room": "live://1"});
        let notes = json!([
            {"device": "a", "outcome": "overflow", "at": "T"}, {"outcome": "draining", "at": "U"},
        ]);
        let more = json!({"device": null, "notes": notes, "more_notes": true});
        let told = told(message(&kind, &[delivery("written_to_members", &more)]), "room live://1");
        let lines: Vec<&str> = told.lines().skip(1).collect();
        assert_eq!(lines[0], "Comet c: it was written to every member that the room had there then.");
        assert!(lines[1].starts_with("a on comet c: it was dropped at T"));
        assert_eq!(lines[2..], ["Comet c has noted more than is told here."]);
    }

    #[test]
    fn whom_it_was_not_for() {
        let mut answer = message(&json!({"kind": "devices", "connected": 1, "absent": 0}), &[]);
        answer["message"]["named"] = json!(false);
        assert!(told(answer, "phone-9").ends_with("\nIt was not for phone-9.\n"));
        let answer = message(&json!({"kind": "users", "users": 1, "connected": 0}), &[]);
        let said = told(answer, "user 7");
        assert!(
            said.contains("to 1 user with 0 connections.")
                && said.ends_with("\nuser 7 had no connection then.\n")
        );
        let answer = message(&json!({"kind": "all"}), &[]);
        assert!(told(answer, "phone-7").contains("if it was connected then and took operation 1000"));
    }
}
