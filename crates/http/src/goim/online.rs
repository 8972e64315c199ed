//! `GET /goim/online/{top,room,total}`.

use std::collections::BTreeMap;

use anser_api::id::Room;
use axum::extract::{RawQuery, State};

use super::host::host;
use super::json::{Object, list};
use super::{Answer, Goim, NAME, bad_query, success};
use crate::query::{Query, required};

/// The largest rooms of a kind.
pub(super) async fn top(State(goim): State<Goim>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let kind = query.first("type");
    let limit = query.int64("limit").map_err(|cause| bad_query(&cause))?;
    required(&[("Type", kind.is_empty()), ("Limit", limit == 0)]).map_err(|cause| bad_query(&cause))?;
    // goim panics here, which its clients see as status 500 without a body. No client can want that.
    let limit = usize::try_from(limit).map_err(|_| bad_query("limit must be 1 or more"))?;
    let top =
        |(id, members): &(String, u32)| Object::new().text("room_id", id).number("count", *members).end();
    Ok(success(&list(goim.top(kind, limit).await.iter().map(top))))
}

/// The members of rooms.
pub(super) async fn room(State(goim): State<Goim>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let kind = query.first("type");
    let ids: Vec<&str> = query.all("rooms").collect();
    required(&[("Type", kind.is_empty()), ("Rooms", ids.is_empty())]).map_err(|cause| bad_query(&cause))?;
    goim.check_count(ids.len(), ("rooms in one request", "ask for fewer at once"))?;
    // A name that no room can have has no members.
    let mut members: BTreeMap<&str, u32> = ids.iter().map(|id| (*id, 0)).collect();
    let room = |id: &str| Room::parse(&format!("{kind}://{id}"), NAME).ok();
    let named = members.keys().filter_map(|id| Some((*id, room(id)?)));
    let (ids, rooms): (Vec<&str>, Vec<Room>) = named.unzip();
    members.extend(ids.into_iter().zip(goim.directory.members(rooms).await));
    let data = members.iter().fold(Object::new(), |data, (id, members)| data.number(id, *members));
    Ok(success(&data.end()))
}

/// Connections and addresses in all.
pub(super) async fn total(State(goim): State<Goim>) -> Answer {
    let online = goim.directory.online().await;
    let data = Object::new().number("conn_count", online.connections).number("ip_count", online.addresses);
    Ok(success(&data.end()))
}

impl Goim {
    /// The largest rooms whose names begin with `kind`, by their ids. goim passes over those whose names are
    /// no URLs, so more are asked for until there are enough.
    async fn top(&self, kind: &str, limit: usize) -> Vec<(String, u32)> {
        let mut ask = limit;
        loop {
            let rooms = self.directory.largest_rooms(kind.to_owned(), ask).await;
            let is_all = rooms.len() < ask;
            let id = |(room, members): (Room, u32)| Some((host(room.as_str())?, members));
            let top: Vec<_> = rooms.into_iter().filter_map(id).take(limit).collect();
            if is_all || top.len() == limit {
                return top;
            }
            ask = ask.saturating_mul(2);
        }
    }
}
