//! Descriptions of the available actions for agents.

use std::fmt::Write as _;

use indexmap::IndexMap;

use chaosrun_scenario::model::Action;
use chaosrun_scenario::params;

/// Description of one action for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub id: String,
    pub description: String,
    pub risk: &'static str,
    /// Names of the parameters, each with a description.
    pub params: Vec<(String, String)>,
    pub undo: String,
}

#[must_use]
pub fn all(actions: &IndexMap<String, Action>) -> Vec<Described> {
    let one = |action: &Action| Described {
        id: action.id.clone(),
        description: action.description.split_whitespace().collect::<Vec<_>>().join(" "),
        risk: action.risk.as_str(),
        params: action.params.iter().map(|(name, param)| (name.clone(), params::words(param))).collect(),
        undo: action.undo.clone().unwrap_or_else(|| "not possible".into()),
    };
    actions.values().map(one).collect()
}

/// Returns the text that describes all actions in a tool's description, one paragraph per action.
#[must_use]
pub fn text(actions: &IndexMap<String, Action>) -> String {
    let mut text = String::new();
    for Described { id, description, risk, params, undo, .. } in all(actions) {
        let _ = write!(text, "\n\n{id} (risk: {risk}; undo: {undo}): {description}");
        if params.is_empty() {
            text.push_str("\n  no parameters");
        }
        for (name, words) in params {
            let _ = write!(text, "\n  {name}: {words}");
        }
    }
    text
}
