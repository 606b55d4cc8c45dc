//! Parser of shell lines into simple commands and the nodes in which they run.
//!
//! This is no shell: it neither expands variables nor evaluates conditions. Every command that could run counts as run: both
//! sides of `||`, loop bodies, `$(...)`, backticks, `sh -c`, here-documents for a shell and scripts piped into one. Wrappers
//! (`sudo`, `env`, `timeout`, `docker exec`, ...) are removed. Scripts that earlier commands have written are parsed when they
//! run.

mod carried;
mod clients;
mod fed;
mod lexer;
#[cfg(test)]
mod tests;

pub use fed::Scripts;

use fed::Fed;
use lexer::{Bracket, HereText, Nested, ReadCommand, Write};

/// Maximum nesting depth of parsed commands.
const DEPTH: usize = 8;
/// Maximum number of commands that are recorded for one line, since nested scripts can multiply commands.
const MOST: usize = 2_000;
/// Maximum total number of characters that are parsed for one line.
const LOOKED: usize = 1024 * 1024;
/// Maximum number of characters that are recorded of a line that is not parsed.
const TOLD: usize = 200;
/// Reserved shell words that precede a command.
const BEFORE: &[&str] = &["if", "then", "else", "elif", "do", "while", "until", "!", "{", "time", "coproc"];
/// Reserved shell words after which the rest of the command is not recorded.
const HEADERS: &[&str] = &["for", "select", "case", "function", "in", "fi", "done", "esac", "}", "[[", "]]"];
/// Reserved shell words that open a group. The words in `CLOSERS` close a group.
const OPENERS: &[&str] = &["{", "if", "for", "while", "until", "case", "select"];
const CLOSERS: &[&str] = &["}", "fi", "done", "esac"];

/// Simple command, as the audit of commands examines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simple {
    /// Name of the program without its directory, then the arguments without quotes, then each output file as `>`, `FILE`.
    pub words: Vec<String>,
    /// Name of the node in which the command runs. `None` for the agent's own host.
    pub node: Option<String>,
}

impl Simple {
    /// Returns the command as one line of text.
    #[must_use]
    pub fn text(&self) -> String {
        self.words.join(" ").replace('\n', " ")
    }
}

/// Returns all commands of a line in order. Nested commands come before the outer command. `scripts` contains the scripts that earlier
/// lines have written.
#[must_use]
pub fn commands(line: &str, scripts: &mut Scripts) -> Vec<Simple> {
    let mut apart = Apart { scripts, found: Vec::new(), looked: 0 };
    apart.line(line, Place { node: None, depth: 0 });
    apart.found
}

/// Place in which a shell line runs.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    node: Option<&'a str>,
    /// Nesting depth of the shell line.
    depth: usize,
}

impl<'a> Place<'a> {
    const fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }

    const fn at(self, node: &'a str) -> Self {
        Self { node: Some(node), depth: self.depth + 1 }
    }
}

/// Inputs and outputs of a command besides its words.
#[derive(Debug, Default)]
struct Beside {
    writes: Vec<Write>,
    /// Text that the command reads from standard input.
    input: Fed,
}

struct Apart<'s> {
    scripts: &'s mut Scripts,
    found: Vec<Simple>,
    /// Number of parsed characters so far.
    looked: usize,
}

impl Apart<'_> {
    /// Parses a line, records its commands and returns its output.
    fn line(&mut self, line: &str, place: Place<'_>) -> Fed {
        let enough = place.depth > 0 && (self.found.len() >= MOST || self.looked >= LOOKED);
        self.looked = self.looked.saturating_add(line.len());
        if place.depth > DEPTH || enough {
            // Recorded as an unknown command instead of being ignored.
            self.tell(vec![line.chars().take(TOLD).collect()], &[], place);
            return Fed::Unknown;
        }
        let (commands, mut bodies) = lexer::read(line);
        let mut groups = Groups::default();
        for command in commands {
            match command.bracket {
                Some(Bracket::Open) => {
                    groups.open();
                    continue;
                }
                Some(Bracket::Close) => {
                    groups.close(command.piped, false);
                    continue;
                }
                None => {}
            }
            let as_file = self.within(&command.nested, place);
            for body in &command.here {
                for line in std::mem::take(&mut bodies[*body].nested) {
                    self.line(&line, place.deeper());
                }
            }
            let closes = groups.words(&command.words);
            let input = self.input(&command, &bodies, as_file, groups.input(), place);
            let ReadCommand { words, writes, piped, .. } = command;
            let group = closes.then(|| groups.close(piped, !writes.is_empty()));
            let said = self.carried(without_reserved(words), Beside { writes: writes.clone(), input }, place);
            let said = group.unwrap_or(said);
            for write in &writes {
                self.scripts.write(place, write, &said);
            }
            if !closes {
                groups.said(if writes.is_empty() { said } else { Fed::Nothing }, piped);
            }
        }
        groups.all()
    }

    /// Processes the lines that are nested in a command. Returns the output of `<(...)` lines, which the command reads as files.
    fn within(&mut self, nested: &[Nested], place: Place<'_>) -> Fed {
        let mut as_file = Vec::new();
        for nested in nested {
            let said = self.line(&nested.line, place.deeper());
            if nested.as_file {
                as_file.push(said);
            }
        }
        Fed::joined(as_file)
    }

    /// Returns the standard input of a command. A here-document takes precedence over a file, a file over `<(...)`, and `<(...)` over a
    /// pipe.
    fn input(&self, command: &ReadCommand, bodies: &[HereText], as_file: Fed, piped: Fed, place: Place<'_>) -> Fed {
        let here = command.here.last().and_then(|at| bodies.get(*at)).map(|body| Fed::of(body.text.as_str()));
        let file = || command.reads.last().map(|file| self.scripts.read(place, file).map_or(Fed::Unknown, Fed::of));
        here.or_else(file).unwrap_or(if as_file == Fed::Nothing { piped } else { as_file })
    }

    fn tell(&mut self, mut words: Vec<String>, writes: &[Write], place: Place<'_>) {
        words.extend(writes.iter().flat_map(|write| [">".to_owned(), write.file.clone()]));
        self.found.push(Simple { words, node: place.node.map(str::to_owned) });
    }
}

/// Outputs of the commands of a line, organised by command groups.
#[derive(Debug, Default)]
struct Groups {
    said: Vec<Fed>,
    /// Start of each open group, as an index into `said`.
    open: Vec<usize>,
    /// Standard input of the next command.
    fed: Fed,
}

impl Groups {
    fn input(&mut self) -> Fed {
        std::mem::take(&mut self.fed)
    }

    fn said(&mut self, said: Fed, piped: bool) {
        if piped {
            self.fed = said;
        } else {
            self.said.push(said);
        }
    }

    fn open(&mut self) {
        self.open.push(self.said.len());
    }

    /// Closes the innermost group. Returns the output of the group if it is piped or redirected to a file.
    fn close(&mut self, piped: bool, to_file: bool) -> Fed {
        // The `)` of a `case` pattern closes no group.
        let from = self.open.pop().unwrap_or(self.said.len());
        if !(piped || to_file) {
            return Fed::Nothing;
        }
        let said = Fed::joined(self.said.split_off(from));
        if piped && !to_file {
            self.fed = said.clone();
        }
        said
    }

    /// Opens a group for each opening word before a command. Returns true if the command closes a group.
    fn words(&mut self, words: &[String]) -> bool {
        for word in words.iter().map(String::as_str) {
            if OPENERS.contains(&word) {
                self.open();
            }
            if !BEFORE.contains(&word) {
                return CLOSERS.contains(&word);
            }
        }
        false
    }

    fn all(self) -> Fed {
        Fed::joined(self.said)
    }
}

fn without_reserved(mut words: Vec<String>) -> Vec<String> {
    while words.first().is_some_and(|word| BEFORE.contains(&word.as_str())) {
        words.remove(0);
    }
    if words.first().is_some_and(|word| HEADERS.contains(&word.as_str())) { Vec::new() } else { words }
}

fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}
