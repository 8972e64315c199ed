mod explain;

use std::fmt::Debug;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anser_wire::packet::{Header, Packet};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::comet::{
    Away, Batch, Flow, Form, OnOverflow, Outcome, Parcel, PushError, Report, Taken, Target, Welcome,
};
use crate::grpc::generated::anser::comet::v1 as comet;
use crate::grpc::generated::anser::job::v1 as job;
use crate::grpc::generated::anser::logic::v1 as logic;
use crate::grpc::generated::anser::v1 as common;
use crate::id::{Generation, Incarnation, LogId, Session};
use crate::job::{Accepted, Destination, Idempotency, Route};
use crate::logic::{
    Audience, Connect, Connected, Node, NodeState, Online, Place, Received, Refused, Renewal, Renewed,
    Restore,
};
use crate::trace::{Trace, Traced, Traces};

/// A value is the same behind a message and its bytes.
#[track_caller]
fn same<M, T>(value: &T)
where
    T: Clone + Debug + PartialEq + TryFrom<M>,
    T::Error: Debug,
    M: From<T> + Message + Default,
{
    let bytes = M::from(value.clone()).encode_to_vec();
    let message = M::decode(&bytes[..]).unwrap();
    assert_eq!(T::try_from(message).unwrap(), *value);
}

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn a_key() -> impl Strategy<Value = Key> {
    text().prop_map(|name| Key::parse(&name, NAME).unwrap())
}

fn a_room() -> impl Strategy<Value = Room> {
    text().prop_map(|name| Room::parse(&name, NAME).unwrap())
}

fn a_comet() -> impl Strategy<Value = CometName> {
    text().prop_map(|name| CometName::parse(&name, NAME).unwrap())
}

fn a_user() -> impl Strategy<Value = UserId> {
    (1..=i64::MAX).prop_map(UserId)
}

fn a_body() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn a_span() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn a_time() -> impl Strategy<Value = SystemTime> {
    any::<u64>().prop_map(time)
}

fn a_position() -> impl Strategy<Value = Position> {
    any::<u64>().prop_map(Position)
}

fn a_session() -> impl Strategy<Value = Session> {
    (a_key(), any::<u64>()).prop_map(|(key, generation)| Session { key, generation: Generation(generation) })
}

fn counts() -> impl Strategy<Value = Vec<(Room, u32)>> {
    vec((a_room(), any::<u32>()), 0..4)
}

fn away() -> impl Strategy<Value = Away> {
    text().prop_map(Away)
}

fn or_away<T: Debug>(good: impl Strategy<Value = T>) -> impl Strategy<Value = Result<T, Away>> {
    (good, option::of(away())).prop_map(|(good, away)| away.map_or(Ok(good), Err))
}

fn a_push_error() -> impl Strategy<Value = PushError> {
    let size = || any::<u64>().prop_map(size);
    prop_oneof![
        a_span().prop_map(|retry_after| PushError::Exhausted { retry_after }),
        (size(), size()).prop_map(|(len, max)| PushError::TooLarge { len, max }),
        size().prop_map(|max| PushError::TooMany { max }),
        Just(PushError::Draining),
        (text(), a_span()).prop_map(|(what, retry_after)| PushError::Unavailable { what, retry_after }),
        Just(PushError::Conflict),
    ]
}

fn a_form() -> impl Strategy<Value = (Form, Bytes)> {
    prop_oneof![
        a_body().prop_map(|body| (Form::Message, body)),
        (any::<(i16, i32, i32)>(), a_body())
            .prop_map(|((ver, op, seq), body)| (Form::Packet { ver, op, seq }, body)),
        vec((any::<(i16, i32, i32)>(), a_body()), 1..3).prop_map(|packets| {
            let mut bytes = Vec::new();
            for ((ver, op, seq), body) in packets {
                Packet { header: Header { ver, op, seq }, body: &body }.encode(&mut bytes);
            }
            (Form::Packets, bytes.into())
        }),
    ]
}

fn a_push() -> impl Strategy<Value = crate::comet::Push> {
    let target = prop_oneof![
        vec(a_key(), 0..4).prop_map(Target::Keys),
        a_room().prop_map(Target::Room),
        any::<u32>().prop_map(|speed| Target::All { speed }),
    ];
    let on_overflow = prop_oneof![Just(OnOverflow::Pull), Just(OnOverflow::Drop)];
    (target, any::<i32>(), a_form(), on_overflow, option::of(a_time())).prop_map(
        |(target, op, (form, body), on_overflow, expires)| crate::comet::Push {
            target,
            op,
            form,
            body,
            on_overflow,
            expires,
        },
    )
}

fn an_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Queued),
        Just(Outcome::Absent),
        Just(Outcome::Draining),
        a_push_error().prop_map(Outcome::Refused),
        a_span().prop_map(|retry_after| Outcome::Full { retry_after }),
    ]
}

fn idempotency() -> impl Strategy<Value = Option<Idempotency>> {
    option::of((text(), any::<[u8; 32]>()).prop_map(|(key, digest)| Idempotency { key, digest }))
}

fn a_node() -> impl Strategy<Value = Node> {
    let texts = (text(), text(), text());
    (a_comet(), vec(text(), 0..3), texts, any::<(u32, bool)>()).prop_map(
        |(comet, addresses, (region, zone, grpc), (weight, offline))| Node {
            comet,
            addresses,
            region,
            zone,
            weight,
            offline,
            grpc,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_comets_are_asked(
        push in a_push(),
        log in any::<u64>(),
        done in a_position(),
        parcels in vec((a_position(), any::<bool>(), a_push()), 0..3),
        session in a_session(),
        to in prop_oneof![Just(Flow::Live), Just(Flow::Behind), Just(Flow::Held)],
    ) {
        same::<comet::PushRequest, _>(&push);
        let parcel = |(position, late, push)| Parcel { position, late, push };
        let parcels = parcels.into_iter().map(parcel).collect();
        same::<comet::TakeRequest, _>(&Batch { log: LogId(log), done, held: vec![done, Position(log)], parcels });
        same::<comet::SwitchRequest, _>(&(session, to));
    }

    #[test]
    fn what_comets_answer(
        done in option::of(a_push_error()),
        welcome in or_away((any::<u64>(), option::of(a_position()), vec(a_position(), 0..4))),
        taken in or_away((vec(an_outcome(), 0..5), any::<u64>())),
        report in or_away((
            any::<(u64, u64)>(),
            vec(a_position(), 0..4),
            option::of(a_position()),
            vec((a_position(), a_key()), 0..4),
        )),
    ) {
        same::<common::Done, _>(&done.map_or(Ok(()), Err));
        same::<comet::OpenLaneReply, _>(&welcome.map(|(incarnation, seen, missing)| {
            Welcome { incarnation: Incarnation(incarnation), seen, missing }
        }));
        same::<comet::TakeReply, _>(&taken.map(|(outcomes, count)| Taken { outcomes, count }));
        same::<comet::ReportReply, _>(&report.map(|((number, count), open, end, absent)| {
            Report { number, count, open, end, absent }
        }));
    }

    #[test]
    fn what_logic_is_asked(
        comet in a_comet(),
        token in a_body(),
        cookie in option::of(text()),
        remote in any::<IpAddr>(),
        session in a_session(),
        user in option::of(a_user()),
        numbers in any::<(i32, i32)>(),
    ) {
        same::<logic::ConnectRequest, _>(&Connect { comet, token: token.clone(), cookie, remote });
        same::<common::Session, _>(&session.clone());
        same::<logic::ReceiveRequest, _>(
            &Received { session, user, op: numbers.0, seq: numbers.1, body: token }
        );
    }

    #[test]
    fn what_comets_tell_logic(
        node in a_node(),
        numbers in any::<(u64, u64, u64, bool)>(),
        rooms in counts(),
        sessions in vec((a_session(), option::of(a_user())), 0..4),
        renewed in or_away((any::<bool>(), counts())),
        restored in option::of(away()),
    ) {
        let (incarnation, connections, addresses, last) = numbers;
        let incarnation = Incarnation(incarnation);
        let comet = node.comet.clone();
        same::<logic::NodeState, _>(&NodeState { node: node.clone(), connections, addresses, since: incarnation.0 });
        same::<logic::RenewRequest, _>(&Renewal { node, incarnation, connections, addresses, rooms });
        same::<logic::RestoreRequest, _>(&Restore { comet, incarnation, sessions: sessions.clone(), last });
        let list = sessions.iter().map(|(session, user)| Trace {
            of: user.map_or(Traced::Key(session.key.clone()), Traced::User),
            until: time(connections),
        }).collect();
        let traces = Traces { revision: connections, list };
        same::<logic::RenewReply, _>(
            &renewed.map(|(restore, elsewhere)| Renewed { restore, elsewhere, traces })
        );
        same::<logic::RestoreReply, _>(&restored.map_or(Ok(()), Err));
    }

    #[test]
    fn what_logic_answers(
        session in a_session(),
        user in option::of(a_user()),
        room in option::of(a_room()),
        accepts in vec(any::<i32>(), 0..4),
        idle in a_span(),
        flags in any::<(bool, bool)>(),
        why in text(),
        sizes in any::<(u64, u64)>(),
        places in or_away(vec(prop_oneof![
            a_comet().prop_map(Place::At), Just(Place::Absent), Just(Place::Unknown)
        ], 0..4)),
        keys in vec(a_key(), 0..4),
        rooms in vec(a_room(), 0..4),
        online in any::<(u64, u64, u64)>(),
    ) {
        let connected =
            Connected { session, user, room, accepts, idle, anser: flags.0, tell_dropped: flags.1 };
        same::<logic::ConnectReply, _>(&Ok(connected));
        for kind in [
            Key::parse("x", 0).unwrap_err(), Room::parse("x", 0).unwrap_err(), CometName::parse("x", 0).unwrap_err()
        ] {
            let long = crate::id::TooLong { what: kind.what, len: size(sizes.0), max: size(sizes.1) };
            same::<logic::ConnectReply, _>(&Err(Refused::TooLong(long)));
        }
        same::<logic::ConnectReply, _>(&Err(Refused::BadToken(why.clone())));
        same::<logic::ConnectReply, _>(&Err(Refused::Unavailable(why)));
        same::<logic::LocateReply, _>(&places);
        same::<logic::LocateRequest, _>(&keys);
        same::<logic::MembersRequest, _>(&rooms);
        let (connections, users, addresses) = online;
        same::<logic::OnlineReply, _>(&Online { connections, users, addresses });
    }

    #[test]
    fn pushes_that_are_logged(
        audience in prop_oneof![
            vec(a_key(), 0..4).prop_map(Audience::Keys),
            vec(a_user(), 0..4).prop_map(Audience::Users),
            a_room().prop_map(Audience::Room),
            any::<u32>().prop_map(|speed| Audience::All { speed }),
        ],
        destination in prop_oneof![
            (vec((a_key(), a_comet()), 0..4), vec(a_key(), 0..4), vec(a_user(), 0..4)).prop_map(
                |(routes, absent, users)| Destination::Keys {
                    routes: routes.into_iter().map(|(key, comet)| Route { key, comet }).collect(),
                    absent,
                    users,
                }
            ),
            a_room().prop_map(Destination::Room),
            any::<u32>().prop_map(|speed| Destination::All { speed }),
        ],
        op in any::<i32>(),
        body in a_body(),
        expires in option::of(a_time()),
        idempotency in idempotency(),
        accepted in any::<(u64, u64, u64, bool)>(),
        error in a_push_error(),
    ) {
        same::<logic::PushRequest, _>(&crate::logic::Push {
            to: audience, op, body: body.clone(), expires, idempotency: idempotency.clone(),
        });
        same::<job::PushRequest, _>(&crate::job::Push { to: destination, op, body, expires, idempotency });
        let (position, routed, absent, repeated) = accepted;
        same::<common::Pushed, _>(&Ok(Accepted { position: Position(position), routed, absent, repeated }));
        same::<common::Pushed, _>(&Err(error));
    }
}

/// What a stranger, or a newer version, may send.
#[test]
fn what_does_not_parse_is_refused() {
    fn refused<T: Debug + TryFrom<M, Error = Bad>, M>(message: M, expected: &str) {
        let Bad(why) = T::try_from(message).unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
    let long = "x".repeat(NAME + 1);
    let push = |target, form| comet::PushRequest {
        target,
        op: 1,
        form,
        body: Bytes::from_static(b"no packets"),
        on_overflow: comet::Overflow::Drop.into(),
        expires: None,
    };
    let all = || Some(comet::push_request::Target::All(comet::All { speed: 0 }));
    refused::<crate::comet::Push, _>(push(None, None), "`target` is missing");
    refused::<crate::comet::Push, _>(
        push(Some(comet::push_request::Target::Room(long.clone())), None),
        "a room name of 4097 bytes",
    );
    let keys = comet::Keys { keys: vec![String::new(), long.clone()] };
    refused::<crate::comet::Push, _>(
        push(Some(comet::push_request::Target::Keys(keys)), None),
        "a key of 4097",
    );
    refused::<crate::comet::Push, _>(
        push(all(), Some(comet::push_request::Form::Packets(common::Empty {}))),
        "cannot hold a packet",
    );
    let header = comet::Header { ver: 1 << 15, op: 1, seq: 1 };
    refused::<crate::comet::Push, _>(
        push(all(), Some(comet::push_request::Form::Packet(header))),
        "over 16 bits",
    );
    let unspecified = comet::PushRequest { on_overflow: 77, ..push(all(), None) };
    refused::<crate::comet::Push, _>(unspecified, "`on_overflow` is missing");
    refused::<(Session, Flow), _>(comet::SwitchRequest::default(), "`to` is missing");
    refused::<Result<(), PushError>, _>(
        common::Done { error: Some(common::PushError::default()) },
        "`cause`",
    );
    refused::<Result<Taken, Away>, _>(comet::TakeReply::default(), "`result` is missing");
    refused::<Connect, _>(logic::ConnectRequest::default(), "4 or 16 bytes");
    let user = logic::ReceiveRequest {
        session: Some(common::Session::default()),
        user: Some(0),
        ..logic::ReceiveRequest::default()
    };
    refused::<Received, _>(user, "0 is no user");
    refused::<Idempotency, _>(
        common::Idempotency { key: "k".into(), digest: Bytes::from_static(b"short") },
        "32 bytes",
    );
    refused::<Idempotency, _>(common::Idempotency { key: long, digest: Bytes::new() }, "too long");
}

#[test]
fn times_that_do_not_fit_become_the_nearest() {
    assert_eq!(nanos(Duration::MAX), u64::MAX);
    assert_eq!(since_1970(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), 0);
}
