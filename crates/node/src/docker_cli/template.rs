//! Templates of `--format`, the commonly used subset of Go's templates: `{{.State.Status}}`, `{{json .}}`, `{{range .X}}...{{end}}`.

use serde_json::Value;

/// Error message about a template, in the format of Go's template engine.
pub(super) type TemplateProblem = String;

#[derive(Debug)]
enum Part {
    Text(String),
    Field(Path),
    Json(Path),
    Range(Path, Vec<Part>),
}

/// Path to a value, such as `.State.Status`, with the position of the path in the template.
#[derive(Debug)]
struct Path {
    keys: Vec<String>,
    at: usize,
}

/// Parsed template of `--format`.
#[derive(Debug)]
pub(super) struct GoTemplate(Vec<Part>);

impl GoTemplate {
    pub fn parse(text: &str) -> Result<Self, TemplateProblem> {
        let mut rest = text;
        let (parts, ended) = parts(text, &mut rest)?;
        if ended { Err("template: :1: unexpected {{end}}".into()) } else { Ok(Self(parts)) }
    }

    pub fn render(&self, value: &Value) -> Result<String, TemplateProblem> {
        let mut out = String::new();
        render(&self.0, value, &mut out)?;
        Ok(out)
    }
}

/// Parses template parts until the end of the text or until `{{end}}`. Returns true if the parts end at `{{end}}`.
fn parts(whole: &str, rest: &mut &str) -> Result<(Vec<Part>, bool), TemplateProblem> {
    let mut found = Vec::new();
    while let Some((text, tail)) = rest.split_once("{{") {
        if !text.is_empty() {
            found.push(Part::Text(text.to_owned()));
        }
        let at = whole.len() - tail.len();
        let (inside, after) = tail.split_once("}}").ok_or("template: :1: unclosed action")?;
        *rest = after;
        let lead = inside.len() - inside.trim_start().len();
        match inside.trim() {
            "end" => return Ok((found, true)),
            word if word.starts_with("json ") => {
                let tail = &word[5..];
                let shift = word.len() - tail.trim_start().len();
                found.push(Part::Json(path(tail.trim_start(), at + lead + shift)?));
            }
            word if word.starts_with("range ") => {
                let path = path(word[6..].trim(), at + lead + 6)?;
                let (inner, ended) = parts(whole, rest)?;
                if !ended {
                    return Err("template: :1: unexpected EOF".into());
                }
                found.push(Part::Range(path, inner));
            }
            word => found.push(Part::Field(path(word, at + lead)?)),
        }
    }
    if !rest.is_empty() {
        found.push(Part::Text((*rest).to_owned()));
    }
    *rest = "";
    Ok((found, false))
}

fn path(word: &str, at: usize) -> Result<Path, TemplateProblem> {
    let plain = |key: &&str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_');
    let keys: Vec<&str> = match word.strip_prefix('.') {
        Some("") => Vec::new(),
        Some(keys) => keys.split('.').collect(),
        None => vec![""],
    };
    if !keys.iter().all(plain) {
        return Err(format!("template: :1: `{word}` is not known to this client: it knows fields, json and range"));
    }
    Ok(Path { keys: keys.into_iter().map(str::to_owned).collect(), at })
}

fn lookup<'a>(path: &Path, value: &'a Value) -> Result<&'a Value, TemplateProblem> {
    let mut found = value;
    let mut at = path.at;
    for key in &path.keys {
        let next = found.get(key);
        let text = || format!(".{}", path.keys.join("."));
        found = next.ok_or_else(|| format!("template: :1:{at}: executing \"\" at <{}>: map has no entry for key \"{key}\"", text()))?;
        at += 1 + key.len();
    }
    Ok(found)
}

fn render(parts: &[Part], value: &Value, out: &mut String) -> Result<(), TemplateProblem> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Json(path) => out.push_str(&lookup(path, value)?.to_string()),
            Part::Field(path) => match lookup(path, value)? {
                Value::String(text) => out.push_str(text),
                Value::Null => out.push_str("<no value>"),
                other => out.push_str(&other.to_string()),
            },
            Part::Range(path, inner) => match lookup(path, value)? {
                Value::Array(items) => items.iter().try_for_each(|item| render(inner, item, out))?,
                Value::Object(items) => items.values().try_for_each(|item| render(inner, item, out))?,
                _ => {}
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(template: &str) -> Result<String, TemplateProblem> {
        let value = json!({ "State": { "Status": "exited", "Pid": 0 }, "Nets": { "a": { "Ip": "1" }, "b": { "Ip": "2" } } });
        GoTemplate::parse(template)?.render(&value)
    }

    #[test]
    fn fields_json_and_ranges_are_rendered() {
        assert_eq!(said("{{.State.Status}}/{{ .State.Pid }}!").as_deref(), Ok("exited/0!"));
        assert_eq!(said("{{json .State}}").as_deref(), Ok(r#"{"Status":"exited","Pid":0}"#));
        assert_eq!(said("{{range .Nets}}[{{.Ip}}]{{end}}.").as_deref(), Ok("[1][2]."));
        assert_eq!(said("plain").as_deref(), Ok("plain"));
    }

    #[test]
    fn errors_have_the_format_of_go() {
        let missing = "template: :1:26: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\"";
        assert_eq!(said("{{.State.Status}} {{.State.Foo}}"), Err(missing.to_owned()));
        for bad in ["{{.State", "{{index . 1}}", "{{range .Nets}}x", "x{{end}}", "{{}}", "{{..}}"] {
            assert!(said(bad).is_err(), "{bad}");
        }
    }
}
