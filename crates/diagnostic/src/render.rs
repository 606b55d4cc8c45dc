//! Rendering of problems: as text in the style of rustc for people, and as JSON for programs.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level as Shown, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use super::locate::{Locator, line_of};
use super::{Diagnostic, DiagnosticLevel};

/// Appearance of rendered problems on a terminal.
#[derive(Debug, Clone, Copy)]
pub struct RenderStyle {
    pub colours: bool,
    /// Maximum width of the rendered text in columns.
    pub width: usize,
}

impl Default for RenderStyle {
    fn default() -> Self {
        Self { colours: false, width: 80 }
    }
}

/// Maximum number of bytes that are shown of one line of a file.
const LONGEST: usize = 1000;

/// Renders problems as text. An empty line follows each problem.
#[must_use]
pub fn render(problems: &[Diagnostic], look: RenderStyle) -> String {
    let renderer = if look.colours { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(look.width);
    let mut locator = Locator::default();
    let mut text = String::new();
    for problem in problems {
        text.push_str(&one(problem, look, &renderer, &mut locator));
        text.push_str("\n\n");
    }
    text
}

fn one(problem: &Diagnostic, look: RenderStyle, renderer: &Renderer, locator: &mut Locator) -> String {
    let level = match problem.level {
        DiagnosticLevel::Error => Shown::ERROR,
        DiagnosticLevel::Warning => Shown::WARNING,
    };
    let before = problem.code.len() + "warning[]: ".len();
    let title = level.primary_title(wrapped(&problem.message, look.width.saturating_sub(before))).id(problem.code);
    let mut notes: Vec<(Shown, String)> = Vec::new();
    let mut group: Group = Group::with_title(title);
    let mut gutter = 1;
    if let Some(place) = &problem.place {
        let span = locator.span(place);
        let (line, column, shown) = line_of(&place.file.text, span.start);
        let start = span.start - shown_start(&place.file.text, span.start);
        let end = start + span.len();
        let cut = cut(shown, start);
        gutter = line.to_string().len();
        let mut mark = AnnotationKind::Primary.span(start - cut.start..(end.min(cut.end) - cut.start));
        if let Some(label) = &problem.label {
            // The text goes beside the caret if it fits, else below.
            let room = look.width.saturating_sub(gutter + 4 + shown[cut.start..end.min(cut.end)].chars().count());
            if label.chars().count() <= room { mark = mark.label(label.clone()) } else { notes.push((Shown::NOTE, label.clone())) }
        }
        let snippet = Snippet::source(&shown[cut.clone()]).line_start(line).annotation(mark);
        group = if cut.start == 0 {
            group.element(snippet.path(place.file.name.clone()))
        } else {
            // The snippet would count columns from its own beginning.
            group.element(Origin::path(place.file.name.clone()).line(line).char_column(column)).element(snippet)
        };
    } else if let Some(label) = &problem.label {
        notes.push((Shown::NOTE, label.clone()));
    }
    notes.extend(problem.help.iter().map(|help| (Shown::HELP, help.clone())));
    for (level, note) in notes {
        group = group.element(level.message(wrapped(&note, look.width.saturating_sub(gutter + " = help: ".len()))));
    }
    renderer.render(&[group])
}

fn shown_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |found| found + 1)
}

/// Returns the byte range of `line` that is shown. A very long line is cut to [`LONGEST`] bytes around the offset `at`.
fn cut(line: &str, at: usize) -> std::ops::Range<usize> {
    let mut start = at.saturating_sub(LONGEST / 2);
    if line.len() <= LONGEST {
        start = 0;
    }
    let mut end = (start + LONGEST).min(line.len());
    while !line.is_char_boundary(start) {
        start -= 1;
    }
    while !line.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// Wraps text at spaces outside of backticks. Text in backticks stays whole so that users can paste it, even if it exceeds `width`.
fn wrapped(text: &str, width: usize) -> String {
    let width = width.max(20);
    let mut lines = String::new();
    let mut length = 0;
    for word in words(text) {
        let letters = word.chars().count();
        if length > 0 && length + 1 + letters > width {
            lines.push('\n');
            length = 0;
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += letters;
    }
    lines
}

/// Splits text into words at spaces. Text between backticks is one word.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut within = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '`' => within = !within,
            ' ' if !within => {
                words.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(&text[start..]);
    words
}

/// Returns one problem as a JSON object with `level`, `code` and `message`. A problem with a place also has `file`, `line`, `column`,
/// `end_column` and `text`. Columns count characters from 1.
#[must_use]
pub fn json(problem: &Diagnostic) -> Value {
    let mut value = json!({ "level": problem.level, "code": problem.code, "message": problem.message });
    if let Some(place) = &problem.place {
        let span = Locator::default().span(place);
        let (line, column, text) = line_of(&place.file.text, span.start);
        let letters = place.file.text[span].chars().count();
        value["file"] = place.file.name.as_str().into();
        value["line"] = line.into();
        value["column"] = column.into();
        value["end_column"] = (column + letters).into();
        value["text"] = text.into();
        value["path"] = place.pointer.to_string().into();
    }
    if let Some(label) = &problem.label {
        value["label"] = label.as_str().into();
    }
    if let Some(help) = &problem.help {
        value["help"] = help.as_str().into();
    }
    value
}
