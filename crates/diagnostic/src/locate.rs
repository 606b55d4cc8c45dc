//! Conversion of places to lines and columns. Each file is scanned at most once, and only if a place in the file is reported.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::{Diagnostic, SourceFile, SourcePlace};
use crate::yaml::places::{Places, source_range};
use chaosrun_event::Spot;

/// Cache of scanned files, by the memory address of the source file. Every source place holds an `Arc` of its file, so the addresses stay
/// valid.
#[derive(Default)]
pub(super) struct Locator {
    scanned: HashMap<*const SourceFile, Option<Places>>,
}

impl Locator {
    /// Returns the byte range of a place in its file. The range ends on the line on which it starts, and is empty only at the end of a
    /// line.
    pub(super) fn span(&mut self, place: &SourcePlace) -> Range<usize> {
        let text = &place.file.text;
        let span = self.find(place).unwrap_or(0..0);
        let start = floor(text, span.start);
        let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |at| start + at);
        let end = floor(text, span.end).clamp(start, line_end);
        // The caret needs at least one character.
        let next = text[start..line_end].chars().next().map_or(start, |c| start + c.len_utf8());
        start..end.max(next)
    }

    fn find(&mut self, place: &SourcePlace) -> Option<Range<usize>> {
        if place.pointer.0.is_empty() {
            let whole = || {
                let text = &place.file.text;
                let body = text.lines().scan(0, |at, line| {
                    let start = *at;
                    *at += line.len() + 1;
                    Some((start, line))
                });
                // The first line that is not a comment represents the file.
                body.into_iter()
                    .find(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
                    .map(|(start, line)| start..start + line.len())
            };
            return place.inner.clone().or_else(whole);
        }
        let places = self.scanned.entry(Arc::as_ptr(&place.file)).or_insert_with(|| Places::scan(&place.file.text).ok());
        let found = places.as_ref()?.find(&place.pointer)?;
        if let (Some(inner), Some((decoded, style))) = (&place.inner, &found.scalar) {
            let source = place.file.text.get(found.value.start..)?;
            if let Some(range) = source_range(source, decoded, *style, inner) {
                return Some(found.value.start + range.start..found.value.start + range.end);
            }
        }
        // A map or list begins at its first key, so its own key is the better place. The same holds for a missing value.
        let on_key = place.on_key || found.scalar.is_none() || found.value.is_empty();
        Some(if on_key { found.key.unwrap_or(found.value) } else { found.value })
    }
}

impl SourcePlace {
    /// Returns the line, the column and the text of the line of this place, in the form that a record stores.
    #[must_use]
    pub fn spot(&self) -> Spot {
        let span = Locator::default().span(self);
        let (line, column, text) = line_of(&self.file.text, span.start);
        Spot { file: self.file.name.clone(), line, column, text: text.to_owned() }
    }
}

/// Returns the line and the column of a byte offset, and the text of that line. Both numbers start at 1. The column counts characters.
pub(super) fn line_of(text: &str, at: usize) -> (usize, usize, &str) {
    let start = text[..at].rfind('\n').map_or(0, |found| found + 1);
    let line = text[..start].matches('\n').count() + 1;
    let shown = text[start..].lines().next().unwrap_or_default();
    (line, text[start..at].chars().count() + 1, shown)
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Sorts problems by file, line and column, and removes duplicates. Files keep the order of their first problem.
#[must_use]
pub fn sorted(problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut files: Vec<String> = Vec::new();
    let mut locator = Locator::default();
    let mut seen: HashSet<(Option<(usize, usize)>, String)> = HashSet::new();
    let mut keyed: Vec<(Option<(usize, usize)>, Diagnostic)> = Vec::new();
    for problem in problems {
        let key = problem.place.as_ref().map(|place| {
            let name = &place.file.name;
            let file = files.iter().position(|known| known == name).unwrap_or_else(|| {
                files.push(name.clone());
                files.len() - 1
            });
            (file, locator.span(place).start)
        });
        if seen.insert((key, problem.message.clone())) {
            keyed.push((key, problem));
        }
    }
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, problem)| problem).collect()
}
