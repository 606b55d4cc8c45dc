//! Layout of text in lines of at most 80 columns. The layout uses plain text, and colours are added last.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use chaosrun_base::style::{Palette, Tone};

/// Maximum width of a line in columns.
pub(super) const WIDTH: usize = 80;
/// Column at which the text begins that follows a label, as in `  why    text`.
pub(super) const TEXT: usize = 9;

/// Line of output, which consists of pieces of text. Each piece has a tone (a colour or style).
#[derive(Debug, Clone, Default)]
pub(super) struct LayoutLine {
    pieces: Vec<(Tone, String)>,
    width: usize,
}

impl LayoutLine {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Creates a line that begins with a label, such as `  why    `.
    pub(super) fn labelled(label: &str) -> Self {
        Self::new().put(Tone::Plain, "  ").put(Tone::Faint, label).to(TEXT)
    }

    /// Appends text. The text must not contain control characters, see [`printable`].
    pub(super) fn put(mut self, tone: Tone, text: impl Into<String>) -> Self {
        let text = text.into();
        self.width += width(&text);
        self.pieces.push((tone, text));
        self
    }

    pub(super) fn plain(self, text: impl Into<String>) -> Self {
        self.put(Tone::Plain, text)
    }

    /// Appends spaces up to a column. If the line already extends beyond the column, one space is appended.
    pub(super) fn to(self, column: usize) -> Self {
        let missing = column.saturating_sub(self.width);
        let missing = if missing == 0 && self.width > column { 1 } else { missing };
        self.put(Tone::Plain, " ".repeat(missing))
    }

    /// Appends spaces and text, so that the text ends at a column.
    pub(super) fn ending(self, column: usize, tone: Tone, text: impl Into<String>) -> Self {
        let text = text.into();
        let begin = column.saturating_sub(width(&text));
        self.to(begin).put(tone, text)
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn render(&self, palette: Palette) -> String {
        let mut text: String = self.pieces.iter().map(|(tone, text)| palette.paint(*tone, text)).collect();
        text.truncate(text.trim_end_matches(' ').len());
        text
    }
}

/// Converts lines to text in the colours of the palette. Each line has a line end.
pub(super) fn render(lines: &[LayoutLine], palette: Palette) -> String {
    lines.iter().map(|line| line.render(palette) + "\n").collect()
}

/// Formats a label and a text as lines such as `  why    text`. The text is wrapped at words, and further lines are aligned with the text.
pub(super) fn labelled(label: &str, tone: Tone, text: &str) -> Vec<LayoutLine> {
    let mut lines = Vec::new();
    for part in wrap(text, WIDTH - TEXT) {
        let line = if lines.is_empty() { LayoutLine::labelled(label) } else { LayoutLine::new().to(TEXT) };
        lines.push(line.put(tone, part));
    }
    lines
}

/// Appends text to `line` and wraps it. Further lines are aligned with the beginning of the text.
pub(super) fn beside(line: LayoutLine, tone: Tone, text: &str) -> Vec<LayoutLine> {
    let column = line.width();
    let mut first = Some(line);
    wrap(text, WIDTH - column)
        .into_iter()
        .map(|part| first.take().unwrap_or_else(|| LayoutLine::new().to(column)).put(tone, part))
        .collect()
}

pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// Replaces control characters in text of other sources (commands, nodes, models) by visible characters. Such text can therefore not
/// control the terminal.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\t' => shown.push_str("    "),
            '\n' | '\r' => shown.push(' '),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Shortens text to at most `columns` columns. Shortened text ends with an ellipsis.
pub(super) fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut kept = head(text, columns.saturating_sub(1)).to_owned();
    kept.push('…');
    Cow::Owned(kept)
}

/// Shortens text to at most `columns` columns. Shortened text begins with an ellipsis, because the end of a path contains the most
/// information.
pub(super) fn fit_end(text: &str, columns: usize) -> Cow<'_, str> {
    let mut over = width(text).saturating_sub(columns);
    if over == 0 {
        return Cow::Borrowed(text);
    }
    over += 1;
    let mut rest = text.chars();
    while over > 0
        && let Some(c) = rest.next()
    {
        over = over.saturating_sub(c.width().unwrap_or(0));
    }
    Cow::Owned(format!("…{}", rest.as_str()))
}

/// Returns the longest beginning of the text that is at most `columns` columns wide.
fn head(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (place, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > columns {
            return &text[..place];
        }
    }
    text
}

/// Wraps text at words to lines of at most `columns` columns. A word that is wider is broken. The result has at least one line.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let text = printable(text);
    let mut lines = Vec::new();
    let mut line = String::new();
    for mut word in text.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        while width(word) > columns {
            let part = head(word, columns);
            // Stops if a single character is wider than a line.
            if part.is_empty() {
                break;
            }
            lines.push(part.to_owned());
            word = &word[part.len()..];
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_fitted_and_wrapped_by_columns() {
        assert_eq!(fit("slow_disk", 9), "slow_disk");
        assert_eq!(fit("slow_disk", 6), "slow_…");
        assert_eq!(fit_end("scenarios/clusters/nats.yaml", 12), "…s/nats.yaml");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("日本語 テスト", 6), ["日本語", "テスト"]);
    }

    #[test]
    fn control_characters_are_made_visible() {
        assert_eq!(printable("a\u{1b}[2Jb\tc\nd"), "a\\u{1b}[2Jb    c d");
    }

    #[test]
    fn columns_are_aligned() {
        let line = LayoutLine::new().plain("abc").ending(10, Tone::Plain, "1.5").to(12).plain("x");
        assert_eq!(line.render(Palette::PLAIN), "abc    1.5  x");
        assert_eq!(LayoutLine::new().plain("abcdef").to(4).plain("x").render(Palette::PLAIN), "abcdef x");
    }
}
