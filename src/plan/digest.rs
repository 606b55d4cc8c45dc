//! The two digests. *Yardstick*: what must be equal to compare trials. *Subject*: what is compared.

use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::scenario::model::{Cluster, Scenario, Scoring, Variant};

/// Version of everything in the program that decides a verdict or a score. Raise it when the same files would be
/// judged in another way; a release that does not keeps all baselines.
pub const SEMANTICS: u32 = 3;

/// Digest of the scenario without its variant, the cluster, the scoring and the semantics.
#[must_use]
pub fn yardstick(scenario: &Scenario) -> String {
    let mut value = serde_json::to_value(scenario).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        // The variant and its limits are the subject. Descriptions and the scenario's own tests judge nothing.
        for key in ["variant", "limits", "description", "check", "controls", "golden"] {
            map.remove(key);
        }
        // What may be done to a cluster is a tool, and no part of what is judged.
        if let Some(cluster) = map.get_mut("cluster").and_then(Value::as_object_mut) {
            cluster.remove("actions");
        }
    }
    digest(&json!({ "semantics": SEMANTICS, "scenario": value }))
}

/// The yardstick of a trial in containers: what the images are is part of it. `images` are digests by what they are for.
#[must_use]
pub fn with_images(yardstick: &str, images: &IndexMap<String, String>) -> String {
    if images.is_empty() { yardstick.to_owned() } else { digest(&json!({ "yardstick": yardstick, "images": images })) }
}

/// Digest of the variant, with the actions of the cluster when it may use them.
#[must_use]
pub fn subject(variant: &Variant, cluster: &Cluster) -> String {
    let mut value = serde_json::to_value(variant).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.remove("description");
        if variant.acts() {
            map.insert("actions".into(), serde_json::to_value(&cluster.actions).unwrap_or_default());
        }
    }
    digest(&value)
}

/// Digest of what judges: the parts, the gates and the rules on commands.
#[must_use]
pub fn scoring(scoring: &Scoring) -> String {
    digest(&serde_json::to_value(scoring).unwrap_or_default())
}

/// Digest of what a scoring finds in commands: facts that were made with one hold for all with the same.
#[must_use]
pub fn of_commands(scoring: &Scoring) -> String {
    digest(&json!({ "forbidden": scoring.forbidden, "autopsy": &*scoring.autopsy }))
}

/// The first 128 bits, in hexadecimal.
pub(super) fn digest(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

/// JSON with sorted keys and no blanks: the order of keys in a file changes nothing that is judged, except where the
/// model keeps them in lists.
pub(super) fn canonical(value: &Value, text: &mut String) {
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
