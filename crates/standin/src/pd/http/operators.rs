//! Endpoint `/operators`.

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use bytes::Bytes;

use super::app::App;
use super::query::QueryParameters;
use super::reply;
use crate::pd::operators::LeaderTransfer;

const NOT_FOUND: &str = "[PD:operator:ErrOperatorNotFound]operator not found";
/// Names of PD's operators that the stand-in refuses, since the peers and the keys of its regions never change.
const FIXED: [&str; 6] = ["transfer-region", "remove-peer", "merge-region", "split-region", "scatter-region", "scatter-regions"];

pub async fn list(State(app): State<App>, uri: Uri) -> Response {
    let query = QueryParameters::of(&uri);
    let (objects, kinds) = (query.has("object"), query.all("kind").collect::<Vec<_>>());
    let matches = move |operator: &LeaderTransfer| {
        kinds.is_empty()
            || kinds.iter().any(|kind| match kind.as_str() {
                // An operator with several kinds is counted under the first one.
                "admin" => operator.is_admin(),
                "leader" => !operator.is_admin(),
                _ => false,
            })
    };
    app.cluster(move |cluster| {
        let found = cluster.operators.running().filter(|operator| matches(operator));
        if objects {
            reply::ok(&found.map(LeaderTransfer::answer).collect::<Vec<_>>())
        } else {
            reply::ok(&found.map(LeaderTransfer::to_string).collect::<Vec<_>>())
        }
    })
    .await
}

pub async fn create(State(app): State<App>, body: Bytes) -> Response {
    let input = match reply::object(&body) {
        Ok(input) => input,
        Err(answer) => return answer,
    };
    let Some(name) = input.get("name").and_then(serde_json::Value::as_str) else {
        return reply::bad_request("missing operator name");
    };
    if FIXED.contains(&name) {
        return reply::internal(&format!("operator {name} is not supported by this cluster"));
    }
    let (from, to) = match name {
        "transfer-leader" => (None, "to_store_id"),
        "transfer-peer" => (Some("from_store_id"), "to_store_id"),
        "add-peer" | "add-learner" => (None, "store_id"),
        _ => return reply::bad_request("unknown operator"),
    };
    let Some(region) = reply::number(input.get("region_id")) else { return reply::bad_request("missing region id") };
    if from.is_some_and(|from| reply::number(input.get(from)).is_none()) {
        return reply::bad_request("invalid store id to transfer peer from");
    }
    let Some(store) = reply::number(input.get(to)) else {
        return reply::bad_request(match name {
            "transfer-leader" => "missing store id to transfer leader to",
            _ => "invalid store id to transfer peer to",
        });
    };
    if name != "transfer-leader" {
        let from = from.and_then(|from| reply::number(input.get(from)));
        return app.cluster(move |cluster| reply::internal(&cluster.refuse_peer(region, from, store))).await;
    }
    app.cluster(move |cluster| match cluster.transfer_leader(region, store) {
        Ok(()) => reply::ok(&"The operator is created."),
        Err(why) => reply::internal(&why),
    })
    .await
}

pub async fn one(State(app): State<App>, Path(region): Path<String>) -> Response {
    let Ok(region) = region.parse::<u64>() else { return reply::bad_request(&reply::not_a_number("ParseUint", &region)) };
    app.cluster(move |cluster| match cluster.operators.latest(region) {
        Some(operator) => reply::ok(&operator.with_status()),
        None => reply::internal(NOT_FOUND),
    })
    .await
}

pub async fn cancel(State(app): State<App>, Path(region): Path<String>) -> Response {
    let Ok(region) = region.parse::<u64>() else { return reply::bad_request(&reply::not_a_number("ParseUint", &region)) };
    app.cluster(
        move |cluster| {
            if cluster.cancel(region) { reply::ok(&"The pending operator is canceled.") } else { reply::internal(NOT_FOUND) }
        },
    )
    .await
}

pub(crate) async fn cancel_all(State(app): State<App>) -> Response {
    app.cluster(|cluster| {
        let running: Vec<u64> = cluster.operators.running().map(LeaderTransfer::region).collect();
        for region in running {
            cluster.cancel(region);
        }
        reply::ok(&"All pending operators are canceled.")
    })
    .await
}

pub async fn records(State(app): State<App>, uri: Uri) -> Response {
    let from = QueryParameters::of(&uri).text("from");
    let from = match from.parse::<i64>() {
        Ok(seconds) => seconds.saturating_mul(1_000_000_000),
        Err(_) if from.is_empty() => 0,
        Err(_) => return reply::bad_request(&reply::not_a_number("ParseInt", &from)),
    };
    app.cluster(move |cluster| {
        let records: Vec<String> = cluster.operators.records(from).into_iter().map(LeaderTransfer::to_string).collect();
        if records.is_empty() { reply::internal(NOT_FOUND) } else { reply::ok(&records) }
    })
    .await
}
