//! What became of a push, and who is traced.

use super::*;
use crate::comet::{Inquiry, Note, Present, Testimony, Unwritten};
use crate::job::{Account, Addressed, Ended, Explanation, Progress, Share, Subject};
use crate::trace::{Trace, Traced, Traces};

fn a_note() -> impl Strategy<Value = Note> {
    let why = prop_oneof![
        Just(Unwritten::Absent),
        Just(Unwritten::Filtered),
        Just(Unwritten::Overflow),
        Just(Unwritten::Closed),
        Just(Unwritten::Budget),
        Just(Unwritten::Draining),
        Just(Unwritten::Expired),
        Just(Unwritten::Pulled),
    ];
    (option::of(a_key()), why, a_time()).prop_map(|(key, why, at)| Note { key, why, at })
}

fn a_testimony() -> impl Strategy<Value = Testimony> {
    let present = (a_key(), any::<(bool, bool, bool)>()).prop_map(|(key, (takes, member, waits))| Present {
        key,
        takes,
        member,
        waits,
    });
    (vec(a_note(), 0..4), any::<bool>(), option::of(a_time()), vec(present, 0..3))
        .prop_map(|(notes, more, since, present)| Testimony { notes, more, since, present })
}

fn a_progress() -> impl Strategy<Value = Progress> {
    let why = prop_oneof![
        Just(Ended::Refused),
        Just(Ended::Expired),
        Just(Ended::Full),
        Just(Ended::Away),
        Just(Ended::Lost),
        Just(Ended::NotBack),
        Just(Ended::NoLane),
    ];
    prop_oneof![
        Just(Progress::Turn),
        a_time().prop_map(|until| Progress::Parked { until }),
        a_time().prop_map(|until| Progress::Paused { until }),
        a_time().prop_map(|since| Progress::CometAway { since }),
        a_time().prop_map(|until| Progress::Returning { until }),
        Just(Progress::Taken),
        Just(Progress::Done),
        (why, a_time()).prop_map(|(why, at)| Progress::Ended { why, at }),
    ]
}

fn a_share() -> impl Strategy<Value = Share> {
    let flags = any::<(bool, bool)>();
    (option::of(a_key()), a_comet(), a_progress(), flags, or_away(a_testimony())).prop_map(
        |(key, comet, progress, (followed, resent), said)| Share {
            key,
            comet,
            progress,
            followed,
            resent,
            said,
        },
    )
}

fn an_account() -> impl Strategy<Value = Account> {
    let to = prop_oneof![
        any::<(u64, u64)>().prop_map(|(connected, absent)| Addressed::Keys { connected, absent }),
        any::<(u64, u64)>().prop_map(|(users, connected)| Addressed::Users { users, connected }),
        a_room().prop_map(Addressed::Room),
        Just(Addressed::All),
    ];
    let place = prop_oneof![a_comet().prop_map(Place::At), Just(Place::Absent), Just(Place::Unknown)];
    let numbers = any::<(i32, u64, bool, u64)>();
    let times = (a_time(), option::of(a_time()), a_time());
    (times, numbers, to, vec(a_key(), 0..3), vec(a_share(), 0..3), vec((a_key(), place), 0..3)).prop_map(
        |((accepted, expires, since), (op, bytes, named, more), to, absent, shares, now)| Account {
            accepted,
            op,
            bytes,
            expires,
            to,
            named,
            absent,
            shares,
            more,
            since,
            now,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn questions(
        position in a_position(),
        numbers in any::<(u64, i32)>(),
        room in option::of(a_room()),
        keys in vec(a_key(), 0..4),
        user in a_user(),
        until in a_time(),
        revision in any::<u64>(),
    ) {
        let (log, op) = numbers;
        let inquiry = Inquiry { log: LogId(log), position, op, room: room.clone(), keys: keys.clone() };
        same::<comet::ExplainRequest, _>(&inquiry);
        let subjects = keys.iter().cloned().map(Subject::Key).chain(room.map(Subject::Room));
        for subject in subjects.chain([Subject::User { user, keys: keys.clone() }]) {
            same::<job::ExplainRequest, _>(&(position, subject));
        }
        let of = keys.into_iter().map(Traced::Key).chain([Traced::User(user)]);
        let list = of.map(|of| Trace { of, until }).collect();
        same::<common::Traces, _>(&Traces { revision, list });
    }

    #[test]
    fn answers(
        testimony in or_away(a_testimony()),
        account in an_account(),
        next in a_position(),
        first in option::of(a_position()),
        why in away(),
        missing in or_away(vec(a_comet(), 0..3)),
    ) {
        same::<comet::ExplainReply, _>(&testimony);
        for explanation in [
            Ok(Explanation::NotGiven { next }),
            Ok(Explanation::NotKept { first }),
            Ok(Explanation::Kept(Box::new(account))),
            Err(why.clone()),
        ] {
            same::<job::ExplainReply, _>(&explanation);
        }
        same::<job::TraceReply, _>(&missing);
        same::<comet::TraceReply, _>(&Err::<(), _>(why));
        same::<comet::TraceReply, _>(&Ok::<_, Away>(()));
    }
}

#[test]
fn what_does_not_parse() {
    fn refused<T: Debug + TryFrom<M, Error = Bad>, M>(message: M, expected: &str) {
        let Bad(why) = T::try_from(message).unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
    refused::<(Position, Subject), _>(job::ExplainRequest::default(), "`subject` is missing");
    refused::<Note, _>(common::Note { why: 77, ..common::Note::default() }, "`why` is missing");
    refused::<Share, _>(job::Share::default(), "`said` is missing");
    refused::<Progress, _>(job::Progress::default(), "`what` is missing");
    let traces = common::Traces { revision: 1, traces: vec![common::Trace::default()] };
    refused::<Traces, _>(traces, "`subject` is missing");
}
