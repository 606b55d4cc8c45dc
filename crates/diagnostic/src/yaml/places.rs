//! Places of the values in a YAML text. They are determined only for error reports, so valid files cost no time.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::{PathStep, Pointer};

/// YAML notation of a scalar. The notation determines how offsets in the decoded text map to offsets in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Single,
    Double,
    Block,
}

#[derive(Debug)]
enum Shape {
    Scalar {
        text: String,
        style: Style,
    },
    Map(Vec<Entry>),
    List(Vec<usize>),
    /// Alias, with the index of the node that the alias refers to.
    Alias(usize),
}

#[derive(Debug)]
struct Entry {
    key: String,
    /// Byte range of the key in the text.
    key_span: Range<usize>,
    value: usize,
}

#[derive(Debug)]
struct Node {
    /// Byte range of the node in the text.
    span: Range<usize>,
    shape: Shape,
}

/// Syntax tree of one YAML text. All places are byte ranges in the text.
#[derive(Debug)]
pub struct Places {
    nodes: Vec<Node>,
    root: Option<usize>,
    /// Keys that occur twice in one map, as triples of first place, second place and name.
    pub duplicates: Vec<(Range<usize>, Range<usize>, String)>,
    /// YAML tags such as `!x`, as pairs of the place of the tagged value and the text of the tag.
    pub tags: Vec<(Range<usize>, String)>,
    /// Place where a second YAML document begins. `None` if the text contains only one document.
    pub second_document: Option<Range<usize>>,
}

/// Syntax error of a YAML text: the byte offset of the error, and the message of the parser.
#[derive(Debug)]
pub struct SyntaxError {
    pub at: usize,
    pub message: String,
}

/// Places found for a pointer: the key, the value, and the text of a scalar.
#[derive(Debug, Clone)]
pub struct FoundPlace {
    /// Byte range of the key, if the value is in a map. `None` otherwise.
    pub key: Option<Range<usize>>,
    /// Byte range of the value. For a map or a list, the range covers only the beginning.
    pub value: Range<usize>,
    pub scalar: Option<(String, Style)>,
}

/// Converter of character offsets to byte offsets. The parser saphyr counts characters, and all other code counts bytes.
struct Offsets<'a> {
    text: &'a str,
    ascii: bool,
    bytes: Vec<usize>,
}

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Self {
        let ascii = text.is_ascii();
        let bytes = if ascii { Vec::new() } else { text.char_indices().map(|(byte, _)| byte).collect() };
        Self { text, ascii, bytes }
    }

    fn byte(&self, character: usize) -> usize {
        if self.ascii { character.min(self.text.len()) } else { self.bytes.get(character).copied().unwrap_or(self.text.len()) }
    }

    fn span(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}

/// Map or list whose end the parser has not reported yet.
enum Open {
    Map { node: usize, entries: Vec<Entry>, key: Option<(String, Range<usize>)> },
    List { node: usize, items: Vec<usize> },
}

impl Places {
    /// Parses the whole text and records the places of all its nodes.
    ///
    /// # Errors
    /// Returns the first syntax error of the text.
    pub fn scan(text: &str) -> Result<Self, SyntaxError> {
        let offsets = Offsets::new(text);
        let mut places = Self { nodes: Vec::new(), root: None, duplicates: Vec::new(), tags: Vec::new(), second_document: None };
        let mut anchors: HashMap<usize, usize> = HashMap::new();
        let mut open: Vec<Open> = Vec::new();
        let mut documents = 0;
        let mut parser = Parser::new_from_str(text);
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|error| syntax_error(&offsets, &error))?;
            let span = offsets.span(span);
            match event {
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents == 2 {
                        places.second_document = Some(span);
                        break;
                    }
                }
                Event::Scalar(value, style, anchor, tag) => {
                    if let Some(tag) = tag {
                        places.tags.push((span.clone(), tag.to_string()));
                    }
                    let style = match style {
                        ScalarStyle::Plain => Style::Plain,
                        ScalarStyle::SingleQuoted => Style::Single,
                        ScalarStyle::DoubleQuoted => Style::Double,
                        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                    };
                    // The span may include trailing blanks, and the span of a missing value may include the text after it.
                    let raw = text.get(span.clone()).unwrap_or_default().trim_end();
                    let missing = value.is_empty() && style == Style::Plain;
                    let span = span.start..if missing { span.start } else { span.start + raw.len() };
                    let node = places.push(span, Shape::Scalar { text: value.into_owned(), style });
                    anchors.insert(anchor, node);
                    places.attach(&mut open, node);
                }
                Event::Alias(anchor) => {
                    let target = anchors.get(&anchor).copied();
                    let node = match target {
                        Some(target) => places.push(span, Shape::Alias(target)),
                        None => places.push(span, Shape::Scalar { text: String::new(), style: Style::Plain }),
                    };
                    places.attach(&mut open, node);
                }
                Event::SequenceStart(anchor, tag) => {
                    if let Some(tag) = tag {
                        places.tags.push((span.clone(), tag.to_string()));
                    }
                    let node = places.push(span, Shape::List(Vec::new()));
                    anchors.insert(anchor, node);
                    open.push(Open::List { node, items: Vec::new() });
                }
                Event::MappingStart(anchor, tag) => {
                    if let Some(tag) = tag {
                        places.tags.push((span.clone(), tag.to_string()));
                    }
                    let node = places.push(span, Shape::Map(Vec::new()));
                    anchors.insert(anchor, node);
                    open.push(Open::Map { node, entries: Vec::new(), key: None });
                }
                Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                    Some(Open::Map { node, entries, .. }) => {
                        places.find_duplicates(&entries);
                        places.nodes[node].shape = Shape::Map(entries);
                        places.attach(&mut open, node);
                    }
                    Some(Open::List { node, items }) => {
                        places.nodes[node].shape = Shape::List(items);
                        places.attach(&mut open, node);
                    }
                    None => {}
                },
            }
        }
        Ok(places)
    }

    fn push(&mut self, span: Range<usize>, shape: Shape) -> usize {
        self.nodes.push(Node { span, shape });
        self.nodes.len() - 1
    }

    /// Adds a finished node to the innermost unfinished map or list.
    fn attach(&mut self, open: &mut [Open], node: usize) {
        match open.last_mut() {
            None => self.root = self.root.or(Some(node)),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                None => {
                    let found = &self.nodes[node];
                    let text = if let Shape::Scalar { text, .. } = &found.shape { text.clone() } else { String::new() };
                    *key = Some((text, found.span.clone()));
                }
                Some((name, key_span)) => entries.push(Entry { key: name, key_span, value: node }),
            },
        }
    }

    fn find_duplicates(&mut self, entries: &[Entry]) {
        let mut seen: HashMap<&str, &Range<usize>> = HashMap::new();
        for entry in entries {
            if let Some(first) = seen.get(entry.key.as_str()) {
                self.duplicates.push(((*first).clone(), entry.key_span.clone(), entry.key.clone()));
            } else {
                seen.insert(&entry.key, &entry.key_span);
            }
        }
    }

    /// Returns the place of the value at `pointer`. If this value does not exist, returns the place of its nearest existing ancestor.
    #[must_use]
    pub fn find(&self, pointer: &Pointer) -> Option<FoundPlace> {
        let mut node = self.follow(self.root?);
        let mut key = None;
        for step in &pointer.0 {
            let next = match (&self.nodes[node].shape, step) {
                (Shape::Map(entries), PathStep::Key(name)) => entries.iter().find(|entry| entry.key == *name).map(|entry| {
                    key = Some(entry.key_span.clone());
                    entry.value
                }),
                (Shape::List(items), PathStep::Index(index)) => items.get(*index).copied().inspect(|_| key = None),
                _ => None,
            };
            let Some(next) = next else { break };
            node = self.follow(next);
        }
        let found = &self.nodes[node];
        let scalar = match &found.shape {
            Shape::Scalar { text, style } => Some((text.clone(), *style)),
            _ => None,
        };
        let value = match &found.shape {
            // The start event of a block map is empty or too far ahead; people see its first key.
            Shape::Map(entries) if key.is_none() => entries.first().map_or(found.span.clone(), |entry| entry.key_span.clone()),
            _ => found.span.clone(),
        };
        Some(FoundPlace { key, value, scalar })
    }

    /// Returns all entries of the map at `pointer`, as triples of key, place of the key and place of the value.
    #[must_use]
    pub fn entries(&self, pointer: &Pointer) -> Vec<(String, Range<usize>, Range<usize>)> {
        let Some(mut node) = self.root else { return Vec::new() };
        for step in &pointer.0 {
            node = self.follow(node);
            let next = match (&self.nodes[node].shape, step) {
                (Shape::Map(entries), PathStep::Key(name)) => entries.iter().find(|entry| entry.key == *name).map(|entry| entry.value),
                (Shape::List(items), PathStep::Index(index)) => items.get(*index).copied(),
                _ => None,
            };
            let Some(next) = next else { return Vec::new() };
            node = next;
        }
        match &self.nodes[self.follow(node)].shape {
            Shape::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.key_span.clone(), self.nodes[entry.value].span.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn follow(&self, node: usize) -> usize {
        match self.nodes[node].shape {
            // An anchor always precedes its alias, so the recursion ends.
            Shape::Alias(target) if target < node => self.follow(target),
            _ => node,
        }
    }
}

fn syntax_error(offsets: &Offsets, error: &ScanError) -> SyntaxError {
    SyntaxError { at: offsets.byte(error.marker().index()), message: error.info().to_owned() }
}

/// Converts `inner`, a byte range of the decoded text, to the byte range of `source` that it was decoded from. The function walks through
/// both texts in parallel, because escapes, doubled quotes, folded lines and indentation change the offsets.
#[must_use]
pub(crate) fn source_range(source: &str, decoded: &str, style: Style, inner: &Range<usize>) -> Option<Range<usize>> {
    let mut at = match style {
        // The place of a block scalar begins at its first word, after `|` and the indentation.
        Style::Plain | Style::Block => 0,
        Style::Single | Style::Double => 1,
    };
    let mut start = None;
    let mut end = at;
    for (index, wanted) in decoded.char_indices().chain([(decoded.len(), '\0')]) {
        if index >= inner.end && start.is_some() {
            break;
        }
        let rest = source.get(at..)?;
        let length = if index == decoded.len() {
            0
        } else if style == Style::Single && rest.starts_with("''") {
            2
        } else if style == Style::Double && rest.starts_with('\\') {
            escape_length(rest)
        } else if rest.starts_with(wanted) && !(wanted == ' ' && rest.trim_start_matches(' ').starts_with(['\n', '\r'])) {
            wanted.len_utf8()
        } else if style == Style::Block {
            // Indentation of a line, or the fold of a `>` scalar.
            let blanks = rest.len() - rest.trim_start_matches([' ', '\n', '\r']).len();
            at += blanks;
            if source.get(at..)?.starts_with(wanted) { wanted.len_utf8() } else { 0 }
        } else {
            rest.len() - rest.trim_start().len()
        };
        if index >= inner.start && start.is_none() {
            start = Some(at);
        }
        at += length;
        end = at;
    }
    let start = start?;
    let end = end.max(start);
    source.get(start..end).map(|_| start..end)
}

fn escape_length(rest: &str) -> usize {
    match rest.as_bytes().get(1) {
        Some(b'x') => 4,
        Some(b'u') => 6,
        Some(b'U') => 10,
        Some(b'\n') => rest.len() - rest[2..].trim_start().len(),
        Some(_) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(text: &'a str, pointer: &Pointer) -> &'a str {
        let found = Places::scan(text).expect("well-formed").find(pointer).expect("found");
        &text[found.value]
    }

    #[test]
    fn values_keys_and_aliases_are_found_in_bytes() {
        let text = "# ünïcode\na: &x { b: [1, 'two' ] }\nc: *x\nd:   plain words   # comment\n";
        let root = Pointer::default();
        assert_eq!(at(text, &root.key("a").key("b").index(1)), "'two'");
        assert_eq!(at(text, &root.key("c").key("b").index(0)), "1");
        assert_eq!(at(text, &root.key("d")), "plain words");
        let places = Places::scan(text).expect("well-formed");
        let key = places.find(&root.key("d")).and_then(|found| found.key).expect("a key");
        assert_eq!(&text[key], "d");
    }

    #[test]
    fn inner_ranges_survive_every_style() {
        let check = |text: &str, needle: &str, expected: &str| {
            let found = Places::scan(text).expect("well-formed").find(&Pointer::default().key("k")).expect("found");
            let (decoded, style) = found.scalar.expect("a scalar");
            let start = decoded.find(needle).expect("the needle");
            let source = &text[found.value.start..];
            let range = source_range(source, &decoded, style, &(start..start + needle.len())).expect("a range");
            assert_eq!(&source[range], expected, "in {text:?}");
        };
        check("k: a == b\n", "b", "b");
        check("k: 'it''s == b'\n", "b", "b");
        check("k: \"a\\tb == \\\"c\\\" + d\"\n", "d", "d");
        check("k: one\n  two three\n", "three", "three");
        check("k: |\n  first line\n  second line\n", "second", "second");
        check("k: >-\n  folded\n  words\n", "words", "words");
    }
}
