//! Detection of expressions and templates that YAML misreads unless they are quoted. Each one gets its own error, which contains the quoted
//! form to paste. The detection quotes one value of the text and parses the text again.

use std::ops::Range;
use std::sync::Arc;

use super::places::Places;
use crate::{Diagnostic, Pointer, SourceFile, SourcePlace};

/// Value on a single line that may need quotes, with its position and its key.
struct Candidate {
    /// Byte range of the value in the file.
    span: Range<usize>,
    /// Key of the value on the same line, such as `expect` in `expect: ...`. `None` for an item of a list.
    key: Option<String>,
}

/// Returns the text in YAML quotes, so that YAML reads it unchanged.
#[must_use]
pub fn quoted(text: &str) -> String {
    if !text.contains(['"', '\\']) {
        format!("\"{text}\"")
    } else if !text.contains('\'') {
        format!("'{text}'")
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// Explains a syntax error at byte `at` as a missing pair of quotes. Tries to quote each value of that line and of the two lines above.
/// Returns `None` if no quotes remove the error.
pub(super) fn explain(file: &Arc<SourceFile>, at: usize) -> Option<Diagnostic> {
    let text = &file.text;
    let line_end = text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |found| at + found);
    let mut end = line_end;
    for _ in 0..3 {
        let start = text[..end].rfind('\n').map_or(0, |found| found + 1);
        for candidate in candidates(text, start..end) {
            let value = &text[candidate.span.clone()];
            let repaired = format!("{}{}{}", &text[..candidate.span.start], quoted(value), &text[candidate.span.end..]);
            let better = match Places::scan(&repaired) {
                Ok(_) => true,
                // An error further down is a different problem.
                Err(next) => next.at > line_end + quoted(value).len() - value.len() + 1,
            };
            if better {
                return Some(describe(file, &candidate));
            }
        }
        if start == 0 {
            break;
        }
        end = start - 1;
    }
    None
}

fn describe(file: &Arc<SourceFile>, candidate: &Candidate) -> Diagnostic {
    let value = &file.text[candidate.span.clone()];
    let message = match value.chars().next() {
        Some(quote @ ('\'' | '"')) => format!("YAML ends this value at the closing `{quote}`; the remaining text is not part of it"),
        Some('{') => "YAML reads `{` at the start of a value as a map".to_owned(),
        Some('[') => "YAML reads `[` at the start of a value as a list".to_owned(),
        Some(first @ ('&' | '*' | '!' | '|' | '>' | '%' | '@' | '`')) => {
            format!("`{first}` at the start of a value has a special meaning in YAML")
        }
        _ => "YAML reads `: ` in this value as a key".to_owned(),
    };
    let fixed = candidate.key.as_ref().map_or_else(|| format!("- {}", quoted(value)), |key| format!("{key}: {}", quoted(value)));
    Diagnostic::error("yaml_misread", message)
        .at(SourcePlace::new(Arc::clone(file), Pointer::default()).within(candidate.span.clone()))
        .label("this must be quoted")
        .help(format!("quote the whole value: `{fixed}`"))
}

fn candidates(text: &str, line: Range<usize>) -> Vec<Candidate> {
    let shown = &text[line.clone()];
    let mut found = within_flow(text, line.clone());
    let indent = shown.len() - shown.trim_start_matches([' ', '-']).len();
    let body = &shown[indent..];
    let whole = shown.trim_end().len();
    match key_of(body) {
        Some((key, value)) if indent + value < whole => {
            let candidate = Candidate { span: line.start + indent + value..line.start + whole, key: Some(key.to_owned()) };
            // A whole flow map is quoted only if no value within it explains the error.
            let last = body[value..].starts_with(['{', '[']) && !body[value..].starts_with("{{");
            found.insert(if last { found.len() } else { 0 }, candidate);
        }
        None if shown[..indent].contains('-') && indent < whole => {
            found.push(Candidate { span: line.start + indent..line.start + whole, key: None });
        }
        _ => {}
    }
    found
}

/// Finds flow map values that start with a quoted text and continue after it, such as `'x' == y` in `{ a: 'x' == y, b: 1 }`. Each value
/// ends at the next comma or at the end of the map.
fn within_flow(text: &str, line: Range<usize>) -> Vec<Candidate> {
    let body = &text[line.clone()];
    let mut found = Vec::new();
    for (at, _) in body.match_indices(": ") {
        let key = body[..at].rsplit(['{', ',', ' ']).next().unwrap_or_default();
        let value = body[at + 2..].trim_start();
        let offset = body.len() - value.len();
        if key.is_empty() || !value.starts_with(['\'', '"']) {
            continue;
        }
        let quote = &value[..1];
        let Some(close) = value[1..].find(quote).map(|found| found + 2) else { continue };
        let tail = value[close..].find([',', '}']).map_or(value.len(), |found| close + found);
        let length = value[..tail].trim_end().len();
        if length > close {
            let start = line.start + offset;
            found.push(Candidate { span: start..start + length, key: Some(key.to_owned()) });
        }
    }
    found
}

/// Returns the key of a text `key: value`, and the byte offset at which the value starts.
fn key_of(body: &str) -> Option<(&str, usize)> {
    let (key, rest) = body.split_once(':')?;
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    (plain && rest.starts_with(' ')).then(|| (key, key.len() + 1 + (rest.len() - rest.trim_start().len())))
}

/// Returns the quoted form of a template `{{ ... }}` that YAML read as a map within a map.
pub(super) fn template_at(file: &Arc<SourceFile>, pointer: &Pointer) -> Option<String> {
    let found = Places::scan(&file.text).ok()?.find(pointer)?;
    let start = file.text[..found.value.start].rfind('\n').map_or(0, |at| at + 1);
    let line = file.text[start..].lines().next()?;
    let begin = line.find("{{")?;
    let key = line[..begin].trim().trim_start_matches("- ");
    let value = line[begin..].trim_end();
    Some(if key.is_empty() { format!("- {}", quoted(value)) } else { format!("{key} {}", quoted(value)) })
}

/// Value that YAML split at its commas, joined again to the form that the author intended.
#[derive(Debug)]
pub struct SplitValue {
    /// Byte range of the whole value in the file.
    pub span: Range<usize>,
    pub key: String,
    pub text: String,
    /// Keys without a value that YAML made from the text after the first comma.
    pub left_over: Vec<String>,
}

/// Returns the whole value of a flow map entry such as `{ expr: f(a, b) }`. YAML splits this value at the comma and reads the rest as a key
/// without a value. `left_over` is one of these keys of the map at `map`.
#[must_use]
pub fn split_flow(file: &Arc<SourceFile>, map: &Pointer, left_over: &str) -> Option<SplitValue> {
    let entries = Places::scan(&file.text).ok()?.entries(map);
    let at = entries.iter().position(|(key, _, _)| key == left_over)?;
    // Several commas produce several keys: the value belongs to the nearest preceding key that has a value.
    let owner = entries[..at].iter().rposition(|(_, _, value)| !value.is_empty())?;
    let last = at + entries[at..].iter().skip(1).take_while(|(_, _, value)| value.is_empty()).count();
    let span = entries[owner].2.start..entries[last].1.end;
    let text = file.text.get(span.clone())?.to_owned();
    let left_over = entries[owner + 1..=last].iter().map(|(key, _, _)| key.clone()).collect();
    text.contains(',').then(|| SplitValue { span, key: entries[owner].0.clone(), text, left_over })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(text: &str) -> String {
        let file = Arc::new(SourceFile { name: "x.yaml".into(), text: text.into() });
        let (_, problems) = crate::yaml::read(&file);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].code, "yaml_misread", "{problems:?}");
        problems[0].help.clone().expect("a help")
    }

    #[test]
    fn the_quoted_form_is_suggested() {
        assert_eq!(help("expect: 'Up' == item.x\n"), "quote the whole value: `expect: \"'Up' == item.x\"`");
        assert_eq!(help("a:\n  expect: x: y\nb: 1\n"), "quote the whole value: `expect: \"x: y\"`");
        assert_eq!(help("a: { expect: 'Up' == x, b: 1 }\n"), "quote the whole value: `expect: \"'Up' == x\"`");
        assert_eq!(help("url: {{ self.client }}/x\n"), "quote the whole value: `url: \"{{ self.client }}/x\"`");
        assert_eq!(help("url: {{ self.client }}\n"), "quote the whole value: `url: \"{{ self.client }}\"`");
        assert_eq!(help("run:\n  - \"a\" b\n"), "quote the whole value: `- '\"a\" b'`");
        assert_eq!(help("expect: @x\n"), "quote the whole value: `expect: \"@x\"`");
    }

    #[test]
    fn a_value_split_at_its_commas_is_joined() {
        let file = Arc::new(SourceFile { name: "x.yaml".into(), text: "p: { expr: f(a, g(b, c), 1), on: x }\n".into() });
        let split = split_flow(&file, &Pointer::default().key("p"), "g(b").expect("put together");
        assert_eq!((split.key.as_str(), split.text.as_str()), ("expr", "f(a, g(b, c), 1)"));
        assert_eq!(&file.text[split.span], split.text);
        assert_eq!(split.left_over, ["g(b", "c)", "1)"]);
    }
}
