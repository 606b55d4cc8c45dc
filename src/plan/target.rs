//! Choosing the nodes of a fault.

use rand::Rng;
use rand::seq::index;

use crate::scenario::model::{Cluster, Pick, Target, TargetOf};

/// Nodes to choose from, in the order of the cluster. None for a `select`, whose value is known only when injected.
#[must_use]
pub fn candidates(target: &Target, cluster: &Cluster) -> Option<Vec<String>> {
    let taken = |name: &str| !target.except.iter().any(|except| except == name);
    let nodes = cluster.nodes.iter().filter(|node| match &target.of {
        TargetOf::Nodes(names) => names.contains(&node.name),
        TargetOf::Role(role) => node.role == *role,
        TargetOf::All => true,
        TargetOf::Select(_) => false,
    });
    match target.of {
        TargetOf::Select(_) => None,
        _ => Some(nodes.map(|node| node.name.clone()).filter(|name| taken(name)).collect()),
    }
}

/// Chooses nodes. `selected` is the value of the target's `select`: names of nodes.
///
/// # Errors
/// In one sentence: there are not enough nodes, or the `select` gave something else than nodes.
pub fn choose(target: &Target, cluster: &Cluster, rng: &mut impl Rng, selected: Option<&[String]>) -> Result<Vec<String>, String> {
    let candidates = match (candidates(target, cluster), &target.of) {
        (Some(candidates), _) => candidates,
        (None, TargetOf::Select(select)) => {
            let selected = selected.ok_or_else(|| format!("select `{select}` was not asked"))?;
            if let Some(stranger) = selected.iter().find(|name| !cluster.nodes.iter().any(|node| node.name == **name)) {
                return Err(format!("select `{select}` gave `{stranger}`, which is not a node"));
            }
            let named = |name: &String| selected.contains(name) && !target.except.contains(name);
            cluster.nodes.iter().map(|node| node.name.clone()).filter(named).collect()
        }
        (None, _) => Vec::new(),
    };
    if candidates.is_empty() {
        return Err(match &target.of {
            TargetOf::Select(select) => format!("select `{select}` gave no node"),
            _ => "no node is left to choose from".to_owned(),
        });
    }
    let wanted = wanted(target.pick, candidates.len());
    if wanted > candidates.len() {
        return Err(format!("{wanted} nodes wanted, {} to choose from", candidates.len()));
    }
    let mut chosen = index::sample(rng, candidates.len(), wanted).into_vec();
    chosen.sort_unstable();
    Ok(chosen.into_iter().map(|at| candidates[at].clone()).collect())
}

fn wanted(pick: Pick, of: usize) -> usize {
    match pick {
        Pick::Count(count) => count,
        Pick::All => of,
        Pick::Majority => of / 2 + 1,
        // Never none: of one or two nodes it is one.
        Pick::Minority => (of.saturating_sub(1) / 2).max(1),
        Pick::Percent(percent) => {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a cluster has few nodes, and the share is between 0 and 100"
            )]
            let nodes = (of as f64 * percent / 100.0).ceil() as usize;
            nodes.clamp(1, of.max(1))
        }
    }
}
