//! Digests of trials. The *yardstick* is the digest of everything that must be equal in two compared trials. The *subject* is the digest of
//! the variant that is compared.

use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::model::{ClusterSpec, Scenario, Scoring, Variant};

/// Version of all code that determines verdicts and scores. It must be increased if a change of this code would judge the same trial
/// differently. Baselines stay valid only within one version.
pub const SEMANTICS: u32 = 4;

/// Returns the yardstick: the digest of the scenario without its variant, the cluster, the scoring and the version [`SEMANTICS`].
#[must_use]
pub fn yardstick(scenario: &Scenario) -> String {
    let mut value = serde_json::to_value(scenario).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        // The variant and its limits are the subject. Descriptions and the scenario's own tests do not affect the verdict.
        for key in ["variant", "limits", "description", "check", "controls", "golden"] {
            map.remove(key);
        }
        // Actions on a cluster are tools of the agent and do not affect the verdict.
        if let Some(cluster) = map.get_mut("cluster").and_then(Value::as_object_mut) {
            cluster.remove("actions");
        }
    }
    digest(&json!({ "semantics": SEMANTICS, "scenario": value }))
}

/// Returns the yardstick (digest of everything that must be equal in two compared trials) of a trial in containers. It includes `images`,
/// the digests of the container images by role.
#[must_use]
pub fn with_images(yardstick: &str, images: &IndexMap<String, String>) -> String {
    if images.is_empty() { yardstick.to_owned() } else { digest(&json!({ "yardstick": yardstick, "images": images })) }
}

/// Returns the digest of the variant. If the variant may use the actions of the cluster, the digest includes these actions.
#[must_use]
pub fn subject(variant: &Variant, cluster: &ClusterSpec) -> String {
    let mut value = serde_json::to_value(variant).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.remove("description");
        if variant.acts() {
            map.insert("actions".into(), serde_json::to_value(&cluster.actions).unwrap_or_default());
        }
    }
    digest(&value)
}

/// Returns the digest of the scoring: its parts, its gates and its rules on commands.
#[must_use]
pub fn scoring(scoring: &Scoring) -> String {
    digest(&serde_json::to_value(scoring).unwrap_or_default())
}

/// Returns the digest of the rules on commands that belong to a scoring. Results about commands can be shared by all scorings with the same
/// digest.
#[must_use]
pub fn of_commands(scoring: &Scoring) -> String {
    digest(&json!({ "forbidden": scoring.forbidden, "autopsy": &*scoring.autopsy }))
}

/// Returns the first 128 bits of the digest of a JSON value, in hexadecimal.
pub fn digest(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

/// Appends the value as JSON with sorted keys and without white space. Digests therefore do not depend on the order of keys in a file. If
/// an order matters, the model contains a list.
pub fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            text.push('{');
            for key in keys {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                canonical(&map[key], text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}
