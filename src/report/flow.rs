//! Formats recorded values as one line of YAML, such as `delay: 50ms, to: { role: tikv, pick: 1 }`.

use serde_json::{Map, Value};

/// Formats the entries of a map as one line of YAML, without the braces of the map.
pub(super) fn entries(map: &Map<String, Value>) -> String {
    map.iter().map(|(name, value)| format!("{}: {}", text(name), flow(value))).collect::<Vec<_>>().join(", ")
}

pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(word) => text(word),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => format!("{{ {} }}", entries(map)),
    }
}

/// Formats a string for YAML. Quotes are omitted if YAML reads the string as the same text without them.
fn text(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '%' | '+' | '-' | ' ' | '=' | '(' | ')' | ';');
    let begins = word.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '/');
    let other = matches!(word.to_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n");
    let same = begins && !word.ends_with(' ') && word.chars().all(plain) && !other && word.parse::<f64>().is_err();
    if same { word.to_owned() } else { Value::from(word).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_diagnostic::yaml;

    #[test]
    fn formatted_values_parse_to_the_same_values() {
        for line in [
            "delay: 50ms, to: { role: tikv, pick: 1 }, ports: [peer, client]",
            r#"command: ["{{ self.dir }}/x", -c, "1", "no", "a: b", "a\nb", ""], undo: {}"#,
            "percent: 33.3, restart: false, env: { A: null }, body: /srv/x y=1",
        ] {
            let read = yaml::read_value(&format!("{{ {line} }}")).unwrap();
            let written = entries(read.as_object().unwrap());
            assert_eq!(yaml::read_value(&format!("{{ {written} }}")).unwrap(), read, "{written}");
            assert_eq!(written, line.replace(" -c,", r#" "-c","#));
        }
    }
}
