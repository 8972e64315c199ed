//! `GET /goim/nodes/{weighted,instances}`: where clients connect, and which comets there are.

use anser_api::logic::{Advice, NodeState};
use axum::extract::{RawQuery, State};

use super::json::{Object, list};
use super::{Answer, Goim, success};
use crate::query::Query;

/// The platform whose clients need names, for certificates and origins.
const WEB: &str = "web";

/// What a client has to know to connect.
pub(super) async fn weighted(State(goim): State<Goim>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::parse(&query.unwrap_or_default());
    let advice = &goim.advice;
    let best = goim.directory.best_nodes().await;
    let mut nodes: Vec<String> = if query.first("platform") == WEB {
        best.iter().map(|node| format!("{}{}", node.comet, advice.host_domain)).collect()
    } else {
        // A comet without an address counts as one with an empty one, as in goim.
        let or_empty = |list: Vec<String>| if list.is_empty() { vec![String::new()] } else { list };
        best.into_iter().flat_map(|node| or_empty(node.addresses)).collect()
    };
    if nodes.is_empty() {
        nodes.push(advice.domain.clone());
    }
    Ok(success(&told(advice, &nodes)))
}

fn told(advice: &Advice, nodes: &[String]) -> String {
    let whole = |seconds: u64| i128::from(seconds);
    let backoff = Object::new()
        .number_if("max_delay", whole(advice.backoff.max_delay.as_secs()))
        .number_if("base_delay", whole(advice.backoff.base_delay.as_secs()))
        .float_if("factor", advice.backoff.factor)
        .float_if("jitter", advice.backoff.jitter);
    Object::new()
        .text_if("domain", &advice.domain)
        .number_if("tcp_port", advice.tcp_port)
        .number_if("ws_port", advice.ws_port)
        .number_if("wss_port", advice.wss_port)
        .number_if("heartbeat", whole(advice.heartbeat.as_secs()))
        .texts("nodes", nodes.iter().map(String::as_str))
        .raw("backoff", &backoff.end())
        .number_if("heartbeat_max", advice.heartbeat_max)
        .end()
}

/// The comets, as goim's registry lists them.
pub(super) async fn instances(State(goim): State<Goim>) -> Answer {
    let nodes = goim.directory.nodes().await;
    if nodes.is_empty() {
        return Ok(success("null"));
    }
    Ok(success(&list(nodes.iter().map(|state| instance(state, &goim.deploy_env)))))
}

fn instance(state: &NodeState, env: &str) -> String {
    let NodeState { node, connections, addresses, since } = state;
    let metadata = Object::new()
        .text("addrs", &node.addresses.join(","))
        .text("conn_count", &connections.to_string())
        .text("ip_count", &addresses.to_string())
        .text("offline", &node.offline.to_string())
        .text("weight", &node.weight.to_string());
    // Inside one process no other role needs an address of it.
    let addresses = Some(&node.grpc[..]).filter(|address| !address.is_empty());
    Object::new()
        .text("region", &node.region)
        .text("zone", &node.zone)
        .text("env", env)
        .text("appid", "goim.comet")
        .text("hostname", node.comet.as_str())
        .texts("addrs", addresses)
        .text("version", "")
        .number("latest_timestamp", *since)
        .raw("metadata", &metadata.end())
        .end()
}
