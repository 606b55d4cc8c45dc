//! JSON Schemas of the files, generated from the raw types. Editors use them for completion. This crate uses them to check the paths of
//! `--set`.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::file_kind::FileKind;
use super::model::Backend;
use super::path::SettingPath;
use super::raw::{RawAutopsy, RawCampaign, RawCluster, RawScenario, RawScoring, RawVariant};
use chaosrun_diagnostic::PathStep;

/// Returns the schema of a kind of file.
#[must_use]
pub fn of(kind: FileKind) -> &'static Value {
    static SCHEMAS: [OnceLock<Value>; FileKind::ALL.len()] = [const { OnceLock::new() }; FileKind::ALL.len()];
    SCHEMAS[kind as usize].get_or_init(|| generate(kind))
}

fn generate(kind: FileKind) -> Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let schema = match kind {
        FileKind::Scenario => generator.into_root_schema_for::<RawScenario>(),
        FileKind::Cluster => generator.into_root_schema_for::<RawCluster>(),
        FileKind::Variant => generator.into_root_schema_for::<RawVariant>(),
        FileKind::Scoring => generator.into_root_schema_for::<RawScoring>(),
        FileKind::Campaign => generator.into_root_schema_for::<RawCampaign>(),
        FileKind::Autopsy => generator.into_root_schema_for::<RawAutopsy>(),
    };
    let mut schema = schema.to_value();
    match kind {
        FileKind::Scenario => add_sections(&mut schema, &[]),
        FileKind::Cluster => add_sections(&mut schema, &["role", "probe", "invariant", "workload", "action"]),
        FileKind::Variant | FileKind::Scoring | FileKind::Campaign | FileKind::Autopsy => {}
    }
    schema
}

/// Formats the schema as the text that is committed in the folder `schemas/`.
#[must_use]
pub fn text(kind: FileKind) -> String {
    let mut text = serde_json::to_string_pretty(of(kind)).unwrap_or_default();
    text.push('\n');
    text
}

/// Returns the name of the schema file in the folder `schemas/`.
#[must_use]
pub fn file_name(kind: FileKind) -> String {
    format!("{}.schema.json", kind.as_str())
}

/// Adds sections (such as `local:` or `standin:`) to the schema of the whole file and to the given definitions. A section has the same keys
/// as the map that contains it, and requires no key.
fn add_sections(root: &mut Value, definitions: &[&str]) {
    let mut whole = root.clone();
    for key in ["$schema", "$defs", "title", "description"] {
        whole.as_object_mut().map(|map| map.remove(key));
    }
    let mut parts = vec![("file".to_owned(), whole)];
    for (name, definition) in root["$defs"].as_object().into_iter().flatten() {
        parts.push((name.clone(), definition.clone()));
    }
    for (name, definition) in parts {
        root["$defs"][format!("{name}_part")] = loosened(&definition);
    }
    let sections = |part: &str| {
        let section = |when: &str| {
            let description = format!("Values that replace the values of this map {when}");
            json!({ "description": description, "$ref": format!("#/$defs/{part}_part") })
        };
        let backends = Backend::all().iter().map(|backend| (backend.as_str(), section(&format!("on the backend `{}`", backend.as_str()))));
        let always: Vec<_> =
            Backend::all().iter().filter(|backend| backend.standins).map(|backend| format!("`{}`", backend.as_str())).collect();
        let programs = [
            ("standin", section(&format!("if stand-ins run: on {}, and with `--standin`", always.join(", ")))),
            ("real", section("if the real programs run")),
        ];
        backends.chain(programs).collect::<Vec<_>>()
    };
    for (name, section) in sections("file") {
        root["properties"][name] = section;
    }
    for definition in definitions {
        for (name, section) in sections(definition) {
            root["$defs"][*definition]["properties"][name] = section;
        }
    }
    keep_used(root);
}

/// Returns a copy of the schema without required keys. Every key may also be null, because null in a section removes the key.
fn loosened(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut loose = Map::new();
            for (key, value) in map {
                match key.as_str() {
                    "required" => {}
                    "$ref" => {
                        loose.insert(key.clone(), format!("{}_part", value.as_str().unwrap_or_default()).into());
                    }
                    // If no key is required, several alternatives may match at once.
                    "oneOf" => {
                        loose.insert("anyOf".to_owned(), loosened(value));
                    }
                    "properties" => {
                        let keys = value.as_object().into_iter().flatten();
                        let keys: Map<String, Value> =
                            keys.map(|(key, value)| (key.clone(), json!({ "anyOf": [loosened(value), { "type": "null" }] }))).collect();
                        loose.insert(key.clone(), keys.into());
                    }
                    _ => {
                        loose.insert(key.clone(), loosened(value));
                    }
                }
            }
            Value::Object(loose)
        }
        Value::Array(items) => items.iter().map(loosened).collect(),
        other => other.clone(),
    }
}

/// Removes definitions that no reference uses.
fn keep_used(root: &mut Value) {
    let Some(definitions) = root.as_object_mut().and_then(|map| map.shift_remove("$defs")) else { return };
    let mut used: Vec<String> = Vec::new();
    let mut open = references(root);
    while let Some(name) = open.pop() {
        if !used.contains(&name) {
            open.extend(references(&definitions[&name]));
            used.push(name);
        }
    }
    let kept: Map<String, Value> = definitions
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| used.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    root["$defs"] = kept.into();
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match (key.as_str(), value.as_str()) {
                ("$ref", Some(path)) => vec![path.rsplit('/').next().unwrap_or_default().to_owned()],
                _ => references(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Error of a path that leads to a key that the schema does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadStep {
    /// Index of the invalid step in the path.
    pub at: usize,
    /// Names that the schema allows at this step.
    pub known: Vec<String>,
    pub reason: String,
}

/// Checks that a path leads to a key that a file of this kind may have. `value` is the content of the file.
///
/// # Errors
/// Returns the first step that the schema does not allow.
pub(crate) fn check_path(kind: FileKind, value: &Value, path: &SettingPath) -> Result<(), BadStep> {
    let root = of(kind);
    let mut here: Vec<&Value> = alternatives(root, root);
    let mut value = Some(value);
    for (at, step) in path.pointer.0.iter().enumerate() {
        if here.iter().any(|schema| is_anything(schema)) {
            return Ok(());
        }
        let last = at + 1 == path.pointer.0.len();
        let mut next = Vec::new();
        match step {
            PathStep::Key(key) => {
                let there = value.and_then(|value| value.get(key));
                for schema in &here {
                    if let Some(property) = schema["properties"].get(key).filter(|property| !is_section(property)) {
                        next.extend(alternatives(property, root));
                    } else if schema.get("additionalProperties").is_some_and(|more| !more.is_boolean() || more == true)
                        && (there.is_some() || last)
                    {
                        next.extend(alternatives(&schema["additionalProperties"], root));
                    }
                }
                if next.is_empty() {
                    return Err(unknown_step(at, key, &here, value));
                }
                value = there;
            }
            PathStep::Index(index) => {
                let items = value.and_then(Value::as_array);
                let there = items.and_then(|items| items.get(*index));
                if there.is_none() {
                    let reason = match items {
                        Some(items) => format!("the list has {} items, counted from 0", items.len()),
                        None => "this is not a list".to_owned(),
                    };
                    return Err(BadStep { at, known: Vec::new(), reason });
                }
                for schema in &here {
                    if let Some(items) = schema.get("items") {
                        next.extend(alternatives(items, root));
                    }
                }
                value = there;
            }
        }
        here = next;
    }
    Ok(())
}

fn unknown_step(at: usize, key: &str, here: &[&Value], value: Option<&Value>) -> BadStep {
    let mut known: Vec<String> = Vec::new();
    let fields = here.iter().filter_map(|schema| schema["properties"].as_object()).flatten().filter(|(_, property)| !is_section(property));
    let names = value.and_then(Value::as_object).into_iter().flatten();
    for (name, _) in fields.chain(names) {
        if !known.contains(name) {
            known.push(name.clone());
        }
    }
    let reason = if known.is_empty() { format!("`{key}` refers to a value without keys") } else { format!("unknown key `{key}`") };
    BadStep { at, known, reason }
}

/// Returns true if a property of a schema is a section such as `local:`. Paths never lead into sections, because sections are merged into
/// the maps that contain them.
fn is_section(property: &Value) -> bool {
    property["$ref"].as_str().is_some_and(|path| path.ends_with("_part"))
}

fn is_anything(schema: &Value) -> bool {
    schema == &Value::Bool(true)
        || schema.as_object().is_some_and(|map| {
            !["type", "properties", "additionalProperties", "items", "enum", "const"].iter().any(|key| map.contains_key(*key))
        })
}

/// Returns all alternatives of a schema. References are replaced by their definitions.
fn alternatives<'a>(schema: &'a Value, root: &'a Value) -> Vec<&'a Value> {
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        let name = path.rsplit('/').next().unwrap_or_default();
        return root["$defs"].get(name).map(|definition| alternatives(definition, root)).unwrap_or_default();
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(list) = schema.get(key).and_then(Value::as_array) {
            return list.iter().flat_map(|one| alternatives(one, root)).collect();
        }
    }
    vec![schema]
}

#[cfg(test)]
mod tests {
    use super::super::embedded::SAMPLES;
    use super::super::path;
    use super::*;
    use chaosrun_diagnostic::SourceFile;
    use chaosrun_diagnostic::yaml;

    #[test]
    fn every_sample_is_valid_and_names_its_schema() {
        for (path, text) in SAMPLES.iter().filter(|(path, _)| std::path::Path::new(path).extension().is_some_and(|ending| ending == "yaml"))
        {
            let file = std::sync::Arc::new(SourceFile { name: (*path).to_owned(), text: (*text).to_owned() });
            let (value, problems) = yaml::read(&file);
            assert!(problems.is_empty(), "{path}: {problems:?}");
            let value = value.expect("YAML");
            let kind = FileKind::of(std::path::Path::new(path), Some(&value));
            let validator = jsonschema::validator_for(of(kind)).expect("a schema");
            let errors: Vec<String> = validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{path}: {errors:#?}");
            let up = "../".repeat(path.matches('/').count());
            let header = format!("# yaml-language-server: $schema={up}schemas/{}", file_name(kind));
            assert_eq!(text.lines().next(), Some(header.as_str()), "{path}");
        }
    }

    #[test]
    fn the_schemas_refuse_the_same_files_as_the_loader() {
        let validator = jsonschema::validator_for(of(FileKind::Scenario)).expect("a schema");
        let good = json!({ "name": "x", "cluster": "c", "goal": "repair", "docker": { "timing": { "steady_for": "1s" } } });
        assert!(validator.is_valid(&good));
        for bad in [
            json!({ "name": "x", "cluster": "c" }),
            json!({ "name": "x", "cluster": "c", "goal": "repair", "gaol": 1 }),
            json!({ "name": "x", "cluster": "c", "goal": "repair", "timing": { "steady_for": 5 } }),
            json!({ "name": "x", "cluster": "c", "goal": "repair", "docker": { "timng": {} } }),
        ] {
            assert!(!validator.is_valid(&bad), "{bad}");
        }
    }

    #[test]
    fn paths_are_checked_against_the_file_and_its_schema() {
        let value = json!({ "chaos": { "kill": { "inject": { "node_kill": { "target": "leader" } } } }, "controls": ["noop"] });
        let check = |text: &str| check_path(FileKind::Scenario, &value, &path::parse(text).expect("a path"));
        for good in ["chaos.kill.at", "limits.usd", "chaos.kill.inject.node_kill.target.role", "controls[0]", "seed", "chaos.other"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, at) in [("chaos.kil.at", 1), ("chaos.kill.att", 2), ("limit.usd", 0), ("controls[1]", 1), ("seed.x", 1)] {
            assert_eq!(check(bad).expect_err(bad).at, at, "{bad}");
        }
    }
}
