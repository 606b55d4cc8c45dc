//! Filters of the container list, from the query parameter `filters`, such as `{"name": {"tikv": true}, "status": ["exited"]}`.

use indexmap::IndexMap;
use regex::RegexBuilder;
use serde::Deserialize;
use serde_json::Value;

use super::container::NETWORK;
use super::problem::EngineProblem;

/// Conditions under which a container is listed. Several values of a key are alternatives. All keys must match.
#[derive(Debug, Default)]
pub(super) struct ContainerFilter {
    wanted: IndexMap<String, Vec<String>>,
    names: Vec<regex::Regex>,
}

/// Properties of a container that are compared with the filters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub image: &'a str,
    pub status: &'a str,
    pub exit_code: Option<i32>,
}

const STATUSES: [&str; 7] = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

/// Filter keys that the engine accepts but that never match a node. A filter with such a key matches no container.
const NEVER: [&str; 9] = ["before", "since", "expose", "publish", "health", "is-task", "isolation", "label", "volume"];

/// Largest size in bytes of the compiled form of an agent's regular expression.
const PATTERN_LIMIT: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    /// Older form of filter values, which clients still send: `{"value": true}`.
    Set(IndexMap<String, bool>),
}

impl ContainerFilter {
    /// Parses the JSON of the query parameter `filters`. An empty text means no filter.
    pub fn parse(text: &str) -> Result<Self, EngineProblem> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let raw: IndexMap<String, Value> = serde_json::from_str(text).map_err(|error| EngineProblem::bad_request(error.to_string()))?;
        let mut filter = Self::default();
        for (key, value) in raw {
            let values = match Values::deserialize(value) {
                Ok(Values::List(list)) => list,
                Ok(Values::Set(set)) => set.into_iter().filter(|(_, on)| *on).map(|(value, _)| value).collect(),
                Err(_) => return Err(EngineProblem::bad_request(format!("Invalid filter '{key}'"))),
            };
            for value in &values {
                filter.check(&key, value)?;
            }
            filter.wanted.insert(key, values);
        }
        Ok(filter)
    }

    fn check(&mut self, key: &str, value: &str) -> Result<(), EngineProblem> {
        let bad = || EngineProblem::bad_request(format!("Invalid filter '{key}={value}'"));
        match key {
            "status" if STATUSES.contains(&value) => Ok(()),
            "exited" if value.parse::<i32>().is_ok() => Ok(()),
            "status" | "exited" => Err(bad()),
            "name" => {
                self.names.push(RegexBuilder::new(value).size_limit(PATTERN_LIMIT).build().map_err(|_| bad())?);
                Ok(())
            }
            "id" | "ancestor" | "network" => Ok(()),
            _ if NEVER.contains(&key) => Ok(()),
            _ => Err(EngineProblem::bad_request(format!("Invalid filter '{key}'"))),
        }
    }

    /// Returns true if the filter has a condition on the status. Stopped containers are then listed even without the parameter `all`.
    pub fn implies_all(&self) -> bool {
        self.wanted.contains_key("status")
    }

    pub fn matches(&self, candidate: &Candidate<'_>) -> bool {
        self.wanted.iter().all(|(key, values)| {
            values.is_empty()
                || match key.as_str() {
                    "name" => self.names.iter().any(|name| name.is_match(candidate.name) || name.is_match(&format!("/{}", candidate.name))),
                    "id" => values.iter().any(|id| candidate.id.starts_with(id)),
                    "status" => values.iter().any(|status| status == candidate.status),
                    "exited" => values.iter().any(|code| code.parse().ok() == candidate.exit_code && candidate.exit_code.is_some()),
                    "ancestor" => {
                        values.iter().any(|image| image == candidate.image || Some(image.as_str()) == candidate.image.split(':').next())
                    }
                    "network" => values.iter().any(|network| network == NETWORK),
                    _ => false,
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPPED: Candidate<'_> = Candidate { id: "abc", name: "tikv1", image: "tikv:local", status: "exited", exit_code: Some(137) };

    #[test]
    fn both_forms_match() {
        for text in [
            r#"{"name":["tikv"]}"#,
            r#"{"name":{"^/tikv1$":true},"status":{"exited":true,"running":true}}"#,
            r#"{"exited":["137"]}"#,
            r#"{"id":["ab"],"ancestor":["tikv"]}"#,
            r#"{"name":{}}"#,
            "",
        ] {
            assert!(ContainerFilter::parse(text).expect(text).matches(&STOPPED), "{text}");
        }
        for text in [r#"{"name":["pd"]}"#, r#"{"status":["running"]}"#, r#"{"exited":["0"]}"#, r#"{"label":["x"]}"#] {
            assert!(!ContainerFilter::parse(text).expect(text).matches(&STOPPED), "{text}");
        }
    }

    #[test]
    fn bad_filters_are_refused_by_name() {
        for (text, message) in [
            (r#"{"foo":["a"]}"#, "Invalid filter 'foo'"),
            (r#"{"status":["a"]}"#, "Invalid filter 'status=a'"),
            (r#"{"name":["("]}"#, "Invalid filter 'name=('"),
            (r#"{"name":7}"#, "Invalid filter 'name'"),
        ] {
            assert_eq!(ContainerFilter::parse(text).expect_err(text).message, message);
        }
        assert!(ContainerFilter::parse("xx").is_err());
    }
}
