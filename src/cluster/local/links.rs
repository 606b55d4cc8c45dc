//! Cut links, in the words of the relay.

use std::time::{Duration, Instant};

use super::relay::{self, Effect, Relay, Rule, Source};
use crate::cluster::{ClusterError, Cut, CutMode, Severed, Topology};

/// All cuts are one entry of the relay's table: it is replaced as a whole.
const ID: &str = "cuts";

pub(super) fn cut(relay: Option<&Relay>, cuts: &[Cut]) -> Result<(), ClusterError> {
    let relay = match (relay, cuts.first()) {
        (Some(relay), _) => relay,
        (None, None) => return Ok(()),
        (None, Some(cut)) => {
            return Err(ClusterError::Conflict {
                node: cut.to.clone(),
                problem: "has no links: nothing of this cluster passes a relay".into(),
            });
        }
    };
    if cuts.is_empty() {
        relay.remove(ID);
    } else {
        relay.put(ID, cuts.iter().map(rule).collect());
    }
    Ok(())
}

pub(super) fn severed(relay: &Relay) -> Vec<Severed> {
    // A relay sees bytes, not packets.
    relay.rules(ID).into_iter().filter_map(cut_of).map(|cut| Severed { cut, packets: None }).collect()
}

pub(super) async fn reaches(
    relay: Option<&Relay>,
    topology: &Topology,
    from: &str,
    to: &str,
    timeout: Duration,
) -> Result<Duration, String> {
    let relay = relay.ok_or("nothing of this cluster passes a relay")?;
    let port = topology.node(to).and_then(|node| node.ports.values().next()).ok_or("there is no port to dial")?;
    let begin = Instant::now();
    match tokio::time::timeout(timeout, relay.reach(Source::Node(from.into()), port.advertised)).await {
        Ok(Ok(())) => Ok(begin.elapsed()),
        Ok(Err(error)) => Err(match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "was refused".into(),
            std::io::ErrorKind::ConnectionReset => "was reset".into(),
            _ => error.to_string(),
        }),
        Err(_) => Err(format!("was not connected in {} ms", timeout.as_millis())),
    }
}

fn rule(cut: &Cut) -> Rule {
    let node = |name: &String| Source::Node(name.clone());
    let effect = match cut.mode {
        CutMode::Stall => relay::Cut::Stall,
        CutMode::Drop => relay::Cut::Drop,
        CutMode::Reject => relay::Cut::Reject,
    };
    Rule { from: node(&cut.from), to: node(&cut.to), port: None, effect: Effect::Cut(effect) }
}

fn cut_of(rule: Rule) -> Option<Cut> {
    let (Source::Node(from), Source::Node(to), Effect::Cut(effect)) = (rule.from, rule.to, rule.effect) else { return None };
    let mode = match effect {
        relay::Cut::Stall => CutMode::Stall,
        relay::Cut::Drop => CutMode::Drop,
        relay::Cut::Reject => CutMode::Reject,
    };
    Some(Cut { from, to, mode })
}
