//! Hints for syntax errors. A hint names the probable intention of the author.

use minijinja::Error;

use super::lower::Lower;
use chaosrun_diagnostic::Diagnostic;

/// Converts a syntax error of the parser to a problem with a place and a hint.
pub(super) fn syntax(lower: &Lower<'_>, error: &Error, code: &'static str) -> Diagnostic {
    let text = lower.text();
    let range =
        error.range().filter(|range| range.end <= text.len() && text.is_char_boundary(range.start)).unwrap_or(text.len()..text.len());
    let detail = error.detail().unwrap_or("not an expression");
    let diagnostic = lower.problem(range.clone(), code, detail.to_owned());
    match hint(text, range.start) {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// Units that authors write directly after a number, each with the function of this language that accepts the unit.
const UNITS: &[(&str, &str)] = &[
    ("ms", "dur"),
    ("us", "dur"),
    ("s", "dur"),
    ("m", "dur"),
    ("h", "dur"),
    ("B", "size"),
    ("KiB", "size"),
    ("MiB", "size"),
    ("GiB", "size"),
    ("TiB", "size"),
    ("KB", "size"),
    ("MB", "size"),
    ("GB", "size"),
];

fn hint(text: &str, at: usize) -> Option<String> {
    if text.trim().is_empty() {
        return Some("an expression is missing here".into());
    }
    if let Some((quantity, function)) = quantity_before(text, at) {
        return Some(format!("quantities are numbers: write `{function}('{quantity}')`"));
    }
    let near = text.get(at.saturating_sub(2)..).or_else(|| text.get(at..)).unwrap_or_default();
    let instead = [("&&", "and"), ("||", "or"), ("=~", "in"), ("===", "==")];
    for (wrong, right) in instead {
        if text.contains(wrong) {
            return Some(format!("write `{right}` instead of `{wrong}`"));
        }
    }
    if near.trim_start().starts_with('!') && !near.contains("!=") {
        return Some("write `not` instead of `!`".into());
    }
    if near.contains('=') && !text.contains("==") {
        return Some("write `==` to compare".into());
    }
    None
}

/// Finds a quantity such as `10s` in `value < 10s`. `at` is the offset at which the parser stopped, within the quantity or directly after
/// it.
fn quantity_before(text: &str, at: usize) -> Option<(&str, &'static str)> {
    let bytes = text.as_bytes();
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.' || *byte == b'_';
    let mut at = at.min(bytes.len());
    if at > 0 && !bytes.get(at).is_some_and(word) {
        at -= 1;
    }
    let start = bytes[..at].iter().rposition(|byte| !word(byte)).map_or(0, |before| before + 1);
    let end = bytes[at..].iter().position(|byte| !word(byte)).map_or(bytes.len(), |length| at + length);
    let quantity = text.get(start..end)?;
    let digits = quantity.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, unit) = quantity.split_at(digits);
    number.parse::<f64>().ok()?;
    UNITS.iter().find(|(known, _)| known.eq_ignore_ascii_case(unit)).map(|(_, function)| (quantity, *function))
}
