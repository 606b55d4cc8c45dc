//! Endpoints `/regions...`, `/region/...` and `/stats/region`.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::app::App;
use super::query::{QueryParameters, key, unescape};
use super::reply;
use crate::pd::regions::{PeerKind, RegionAnswer, RegionCheck};
use crate::wire::RegionHeartbeat;

/// Number of regions in an answer if the request has no limit.
const DEFAULT_LIMIT: usize = 16;
/// Largest number of regions in an answer.
const MAX_LIMIT: usize = 10_240;

#[derive(Serialize)]
struct Regions<'a> {
    count: usize,
    regions: Vec<RegionAnswer<'a>>,
}

fn answer<'a>(regions: impl IntoIterator<Item = &'a RegionHeartbeat>) -> Response {
    let regions: Vec<_> = regions.into_iter().map(RegionAnswer::from).collect();
    reply::compact(&Regions { count: regions.len(), regions })
}

fn one(region: Option<&RegionHeartbeat>) -> Response {
    match region {
        Some(region) => reply::compact(&RegionAnswer::from(region)),
        None => reply::compact(&RegionAnswer::unknown()),
    }
}

pub async fn all(State(app): State<App>) -> Response {
    app.cluster(|cluster| answer(cluster.regions.sorted())).await
}

pub async fn count(State(app): State<App>) -> Response {
    app.cluster(|cluster| reply::ok(&json!({"count": cluster.regions.len(), "regions": null}))).await
}

/// Returns the parameter `end_key`, or `endkey`, the other accepted name of the parameter.
fn end_key(query: &QueryParameters) -> &[u8] {
    if query.has("end_key") { query.bytes("end_key") } else { query.bytes("endkey") }
}

pub async fn scan(State(app): State<App>, uri: Uri) -> Response {
    let query = QueryParameters::of(&uri);
    let limit = query.text("limit");
    let limit = match limit.parse::<usize>() {
        Ok(limit) => limit.min(MAX_LIMIT),
        Err(_) if limit.is_empty() => DEFAULT_LIMIT,
        Err(_) => return reply::bad_request(&reply::not_a_number("Atoi", &limit)),
    };
    match (key(query.bytes("key"), &query), key(end_key(&query), &query)) {
        (Ok(from), Ok(to)) => app.cluster(move |cluster| answer(cluster.regions.scan(&from, &to, limit))).await,
        (Err(why), _) | (_, Err(why)) => reply::bad_request(&why),
    }
}

pub(crate) async fn of_store(State(app): State<App>, Path(id): Path<String>, uri: Uri) -> Response {
    let Ok(id) = id.parse::<u64>() else { return reply::bad_request(&reply::not_a_number("Atoi", &id)) };
    let kind = QueryParameters::of(&uri).text("type");
    let Some(kind) = PeerKind::parse(&kind) else {
        return reply::bad_request(&format!("unknown sub tree region type: {kind}"));
    };
    app.cluster(move |cluster| answer(cluster.regions.sorted().into_iter().filter(|region| kind.matches(region, id)))).await
}

pub async fn check(State(app): State<App>, Path(check): Path<String>) -> Response {
    let Some(check) = RegionCheck::parse(&check) else { return reply::not_found() };
    app.cluster(move |cluster| answer(cluster.regions.sorted().into_iter().filter(|region| check.matches(region)))).await
}

pub async fn by_id(State(app): State<App>, Path(id): Path<String>) -> Response {
    match id.parse::<u64>() {
        Ok(id) => app.cluster(move |cluster| one(cluster.regions.get(id))).await,
        Err(_) => reply::bad_request(&reply::not_a_number("ParseUint", &id)),
    }
}

pub(crate) async fn by_key(State(app): State<App>, uri: Uri) -> Response {
    let raw = uri.path().split_once("/region/key/").map(|(_, raw)| unescape(raw)).unwrap_or_default();
    match key(&raw, &QueryParameters::of(&uri)) {
        Ok(key) => app.cluster(move |cluster| one(cluster.regions.by_key(&key))).await,
        Err(why) => reply::bad_request(&why),
    }
}

/// Region statistics for `/stats/region`. Sizes are in MiB; the maps have store ids as keys.
#[derive(Default, Serialize)]
struct Stats {
    count: usize,
    empty_count: usize,
    storage_size: u64,
    user_storage_size: u64,
    storage_keys: u64,
    store_leader_count: BTreeMap<u64, u64>,
    store_peer_count: BTreeMap<u64, u64>,
    store_leader_size: BTreeMap<u64, u64>,
    store_leader_keys: BTreeMap<u64, u64>,
    store_peer_size: BTreeMap<u64, u64>,
    store_peer_keys: BTreeMap<u64, u64>,
}

impl Stats {
    fn of<'a>(regions: impl Iterator<Item = &'a RegionHeartbeat>) -> Self {
        let mut stats = Self::default();
        for region in regions {
            let (size, keys) = (region.approximate_size, region.approximate_keys);
            stats.count += 1;
            stats.empty_count += usize::from(RegionCheck::Empty.matches(region));
            stats.storage_size += size;
            stats.user_storage_size += size;
            stats.storage_keys += keys;
            let leader = region.leader.store_id;
            *stats.store_leader_count.entry(leader).or_default() += 1;
            *stats.store_leader_size.entry(leader).or_default() += size;
            *stats.store_leader_keys.entry(leader).or_default() += keys;
            for peer in &region.peers {
                *stats.store_peer_count.entry(peer.store_id).or_default() += 1;
                *stats.store_peer_size.entry(peer.store_id).or_default() += size;
                *stats.store_peer_keys.entry(peer.store_id).or_default() += keys;
            }
        }
        stats
    }
}

pub async fn stats(State(app): State<App>, uri: Uri) -> Response {
    let query = QueryParameters::of(&uri);
    let only_count = query.has("count");
    let (Ok(from), Ok(to)) = (key(query.bytes("start_key"), &query), key(end_key(&query), &query)) else {
        return reply::bad_request("encoding/hex: invalid key");
    };
    app.cluster(move |cluster| {
        let stats = Stats::of(cluster.regions.scan(&from, &to, usize::MAX).into_iter());
        let stats = if only_count { Stats { count: stats.count, empty_count: stats.empty_count, ..Stats::default() } } else { stats };
        reply::ok(&stats)
    })
    .await
}
