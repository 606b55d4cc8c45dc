//! Data flow between commands, for scripts that are piped into a shell or written to a file and run later.

use std::collections::HashMap;

use super::Place;
use super::lexer::Write;

/// Maximum size of a tracked text in bytes. The limit includes scripts but excludes data dumps.
const MOST: usize = 64 * 1024;

/// Knowledge about the text that a command reads or writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Fed {
    /// Input or output that is empty.
    #[default]
    Nothing,
    /// Input or output that exists, but whose text is unknown before the command runs.
    Unknown,
    Text(String),
}

impl Fed {
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nothing | Self::Unknown => None,
        }
    }

    pub fn of(text: impl Into<String>) -> Self {
        let text: String = text.into();
        if text.len() > MOST { Self::Unknown } else { Self::Text(text) }
    }

    /// Concatenates several outputs. Only the known parts are used, because a script with an unknown line is still a script.
    pub fn joined(all: Vec<Self>) -> Self {
        let unknown = all.contains(&Self::Unknown);
        let known: Vec<String> = all
            .into_iter()
            .filter_map(|fed| match fed {
                Self::Text(text) => Some(text),
                Self::Nothing | Self::Unknown => None,
            })
            .collect();
        if !known.is_empty() {
            Self::of(known.join("\n"))
        } else if unknown {
            Self::Unknown
        } else {
            Self::Nothing
        }
    }
}

/// Programs whose output is assumed to equal their input.
const FILTERS: &[&str] = &[
    "cat", "tee", "grep", "egrep", "fgrep", "rg", "sed", "head", "tail", "sort", "uniq", "tr", "cut", "envsubst", "nl", "rev", "tac",
    "column", "fold", "expand",
];

/// Returns the output of a simple command, as far as it is known.
pub(super) fn says(words: &[String], input: &Fed, scripts: &Scripts, place: Place<'_>) -> Fed {
    let Some((program, arguments)) = words.split_first() else { return Fed::Nothing };
    match program.as_str() {
        "echo" => {
            let options = arguments.iter().take_while(|word| ["-n", "-e", "-E", "-ne", "-en"].contains(&word.as_str())).count();
            Fed::of(unescaped(&arguments[options..].join(" ")))
        }
        "printf" => {
            let arguments = arguments.strip_prefix(&["--".to_owned()]).unwrap_or(arguments);
            arguments.split_first().map_or(Fed::Nothing, |(format, values)| Fed::of(filled(format, values)))
        }
        "cat" if arguments.iter().any(|word| is_file(word)) => {
            let files = arguments.iter().filter(|word| is_file(word));
            Fed::joined(files.map(|file| scripts.read(place, file).map_or(Fed::Unknown, Fed::of)).collect())
        }
        filter if FILTERS.contains(&filter) => match input {
            Fed::Nothing => Fed::Unknown,
            input => input.clone(),
        },
        ":" | "true" | "false" | "cd" | "sleep" | "export" | "set" | "wait" | "test" | "[" => Fed::Nothing,
        _ => Fed::Unknown,
    }
}

fn is_file(word: &str) -> bool {
    !word.starts_with('-') && word != "/dev/stdin"
}

/// Replaces the escapes `\n` and `\t`, as `echo -e` and `printf` do.
fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "")
}

/// Applies a `printf` format to values. The format is repeated until all values are used.
fn filled(format: &str, values: &[String]) -> String {
    let places = format.matches("%s").count() + format.matches("%b").count() + format.matches("%d").count();
    let turns = if places == 0 { 1 } else { values.len().div_ceil(places).clamp(1, 100) };
    let mut values = values.iter();
    let mut text = String::new();
    for _ in 0..turns {
        let mut rest = format;
        while let Some((before, behind)) = rest.split_once('%') {
            text += before;
            rest = match behind.chars().next() {
                Some('s' | 'b' | 'd') => {
                    text += values.next().map_or("", String::as_str);
                    &behind[1..]
                }
                Some('%') => {
                    text.push('%');
                    &behind[1..]
                }
                _ => {
                    text.push('%');
                    behind
                }
            };
        }
        text += rest;
    }
    unescaped(&text)
}

/// Texts of files that earlier commands have written. The key is the node and the file name without its directory, since the working
/// directory is not tracked.
#[derive(Debug, Default)]
pub struct Scripts {
    texts: HashMap<(Option<String>, String), String>,
}

impl Scripts {
    pub(super) fn read(&self, place: Place<'_>, file: &str) -> Option<&str> {
        self.texts.get(&key(place, file)).map(String::as_str)
    }

    /// Removes the text of a script and returns it. The script is absent while it runs, so that a script that runs itself ends.
    pub(super) fn taken(&mut self, place: Place<'_>, file: &str) -> Option<String> {
        self.texts.remove(&key(place, file))
    }

    pub(super) fn put_back(&mut self, place: Place<'_>, file: &str, text: String) {
        self.texts.insert(key(place, file), text);
    }

    /// Records the output that a command writes to a file. Unknown output removes the known text of the file, unless it is appended.
    pub(super) fn write(&mut self, place: Place<'_>, to: &Write, said: &Fed) {
        let key = key(place, &to.file);
        let before = self.texts.remove(&key).filter(|_| to.append);
        let text = match (before, said) {
            (before, Fed::Text(text)) => Some(before.map_or_else(|| text.clone(), |before| format!("{before}\n{text}"))),
            (before, _) => before,
        };
        if let Some(text) = text.filter(|text| text.len() <= MOST) {
            self.texts.insert(key, text);
        }
    }
}

fn key(place: Place<'_>, file: &str) -> (Option<String>, String) {
    (place.node.map(str::to_owned), file.rsplit('/').next().unwrap_or(file).to_owned())
}
