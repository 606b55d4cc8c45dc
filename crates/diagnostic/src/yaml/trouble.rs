//! Explanations of syntax errors in YAML texts. Each explanation names the likely mistake and its place.

use std::ops::Range;
use std::sync::Arc;

use super::misread;
use super::places::{Places, SyntaxError};
use crate::{Diagnostic, Pointer, SourceFile, SourcePlace};

/// Maximum depth of nested maps and lists that the reader accepts.
const DEPTH: i64 = 128;

/// Converts an error of the YAML reader to problems with places. The places of the reader are imprecise: it reports all duplicate keys at
/// 1:1. The places therefore come from the second parser where available.
pub(super) fn explain(file: &Arc<SourceFile>, error: &serde_yaml::Error) -> Vec<Diagnostic> {
    let at = |span: Range<usize>| SourcePlace::new(Arc::clone(file), Pointer::default()).within(span);
    let said = error.to_string();
    let told = error.location().map(|location| clamp(&file.text, location.index()..location.index() + 1));
    if said.starts_with("recursion limit") {
        return vec![nested(told.map(at))];
    }
    if said.starts_with("repetition limit") {
        let problem = Diagnostic::error("alias_bomb", "aliases repeat too many values")
            .label("this anchor is used too many times")
            .help("write the values out, or use fewer aliases");
        let first = file.text.find('&').map(|start| clamp(&file.text, start..start + 1));
        return vec![first.map_or(problem.clone(), |span| problem.at(at(span)))];
    }
    let places = match Places::scan(&file.text) {
        Ok(places) => places,
        Err(wrong) => return wrong_syntax(file, &wrong),
    };
    if let Some(span) = places.second_document {
        let problem = Diagnostic::error("several_documents", "more than one document in a file")
            .at(at(clamp(&file.text, span.start..span.start + 3)))
            .label("a second document begins here")
            .help("one file holds one document: move the second one to a file of its own");
        return vec![problem];
    }
    if !places.duplicates.is_empty() {
        return places
            .duplicates
            .into_iter()
            .map(|(first, second, key)| {
                let line = file.text[..first.start].matches('\n').count() + 1;
                Diagnostic::error("duplicate_key", format!("key `{key}` is repeated in one map"))
                    .at(at(second))
                    .label(format!("first used on line {line}"))
                    .help("keep one of them")
            })
            .collect();
    }
    let span = told.unwrap_or(0..0);
    if let Some(problem) = misread::explain(file, span.start) {
        return vec![problem];
    }
    let message = said.split(" at line ").next().unwrap_or(&said).to_owned();
    vec![syntax(file, span, &message)]
}

/// Returns a problem if the text is nested too deeply. The YAML reader needs quadratic time for thousands of nested flow collections, which
/// is a minute for 1 MiB of `[`. This check uses the second parser, which stops at once, and runs before the reader.
pub(super) fn too_deep(file: &Arc<SourceFile>) -> Option<Vec<Diagnostic>> {
    let mut depth = 0_i64;
    let deepest = file.text.bytes().map(|byte| {
        depth += i64::from(matches!(byte, b'[' | b'{')) - i64::from(matches!(byte, b']' | b'}'));
        depth
    });
    if deepest.max()? <= DEPTH {
        return None;
    }
    match Places::scan(&file.text) {
        Ok(_) => None,
        Err(wrong) => Some(wrong_syntax(file, &wrong)),
    }
}

fn wrong_syntax(file: &Arc<SourceFile>, wrong: &SyntaxError) -> Vec<Diagnostic> {
    let span = clamp(&file.text, wrong.at..wrong.at + 1);
    if wrong.message.contains("recursion limit") {
        return vec![nested(Some(SourcePlace::new(Arc::clone(file), Pointer::default()).within(span)))];
    }
    let syntax = syntax(file, span, &wrong.message);
    if syntax.code == "yaml_tab" {
        return vec![syntax];
    }
    vec![misread::explain(file, wrong.at).unwrap_or(syntax)]
}

fn nested(place: Option<SourcePlace>) -> Diagnostic {
    let problem = Diagnostic::error("too_deep", "values are nested too deeply").label(format!("deeper than {DEPTH} levels"));
    match place {
        Some(place) => problem.at(place),
        None => problem,
    }
}

fn syntax(file: &Arc<SourceFile>, span: Range<usize>, message: &str) -> Diagnostic {
    let place = SourcePlace::new(Arc::clone(file), Pointer::default()).within(span.clone());
    let start = file.text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let line = file.text[start..].lines().next().unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start().len()];
    if let Some(tab) = indent.find('\t') {
        let here = start + tab..start + tab + 1;
        return Diagnostic::error("yaml_tab", "a tab is used for indentation")
            .at(SourcePlace { inner: Some(here), ..place })
            .label("YAML allows spaces only")
            .help("indent with spaces");
    }
    Diagnostic::error("yaml_syntax", "this is not valid YAML").at(place).label(message.to_lowercase())
}

/// Limits a byte range to the text, and moves its ends to character boundaries.
fn clamp(text: &str, span: Range<usize>) -> Range<usize> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}
