//! Shell lines taken apart into simple commands: what is run, and where.
//!
//! This is no shell: nothing is expanded and nothing is decided. Whatever could be run is taken as run: both sides of `||`, the body of a
//! loop, what stands in `$(...)`, in backticks, behind `sh -c`, in a here-document for a shell or in what is piped into one. Words that
//! only carry a command (`sudo`, `env`, `timeout`, `docker exec`, ...) are taken off. Scripts that were written before are looked into
//! when they are run.

mod carried;
mod clients;
mod fed;
mod lexer;
#[cfg(test)]
mod tests;

pub use fed::Scripts;

use fed::Fed;
use lexer::{Body, Bracket, Nested, Read, Write};

/// How deep commands may stand within commands.
const DEPTH: usize = 8;
/// Commands of one line that are told: scripts that run scripts come to very many.
const MOST: usize = 2_000;
/// Characters of all that is looked into.
const LOOKED: usize = 1024 * 1024;
/// Characters of what is not looked into.
const TOLD: usize = 200;
/// Reserved words that a command may follow.
const BEFORE: &[&str] = &["if", "then", "else", "elif", "do", "while", "until", "!", "{", "time", "coproc"];
/// Reserved words that begin something that is no command.
const HEADERS: &[&str] = &["for", "select", "case", "function", "in", "fi", "done", "esac", "}", "[[", "]]"];
/// Reserved words that open a group, and those that close one.
const OPENERS: &[&str] = &["{", "if", "for", "while", "until", "case", "select"];
const CLOSERS: &[&str] = &["}", "fi", "done", "esac"];

/// One command as it would be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simple {
    /// The program without its folder and its arguments, quotes taken off; then what it writes to: `>`, `FILE`.
    pub words: Vec<String>,
    /// The node it runs in; none: where the agent is.
    pub node: Option<String>,
}

impl Simple {
    /// In one line.
    #[must_use]
    pub fn text(&self) -> String {
        self.words.join(" ").replace('\n', " ")
    }
}

/// All commands of a line, in their order; one within another stands before it. `scripts`: what lines before have written.
#[must_use]
pub fn commands(line: &str, scripts: &mut Scripts) -> Vec<Simple> {
    let mut apart = Apart { scripts, found: Vec::new(), looked: 0 };
    apart.line(line, Place { node: None, depth: 0 });
    apart.found
}

/// Where a line runs.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    node: Option<&'a str>,
    /// Of how many lines it stands within.
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

/// What belongs to a command and is no word of it.
#[derive(Debug, Default)]
struct Beside {
    writes: Vec<Write>,
    /// What it reads.
    input: Fed,
}

struct Apart<'s> {
    scripts: &'s mut Scripts,
    found: Vec<Simple>,
    /// Characters of all lines so far.
    looked: usize,
}

impl Apart<'_> {
    /// Takes a line apart, and tells what it says.
    fn line(&mut self, line: &str, place: Place<'_>) -> Fed {
        let enough = place.depth > 0 && (self.found.len() >= MOST || self.looked >= LOOKED);
        self.looked = self.looked.saturating_add(line.len());
        if place.depth > DEPTH || enough {
            // Told as what no rule knows, and not as nothing.
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
            let Read { words, writes, piped, .. } = command;
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

    /// Lines within a command; what those say that are read like files.
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

    /// What a command reads: what is nearest to it.
    fn input(&self, command: &Read, bodies: &[Body], as_file: Fed, piped: Fed, place: Place<'_>) -> Fed {
        let here = command.here.last().and_then(|at| bodies.get(*at)).map(|body| Fed::of(body.text.as_str()));
        let file = || command.reads.last().map(|file| self.scripts.read(place, file).map_or(Fed::Unknown, Fed::of));
        here.or_else(file).unwrap_or(if as_file == Fed::Nothing { piped } else { as_file })
    }

    fn tell(&mut self, mut words: Vec<String>, writes: &[Write], place: Place<'_>) {
        words.extend(writes.iter().flat_map(|write| [">".to_owned(), write.file.clone()]));
        self.found.push(Simple { words, node: place.node.map(str::to_owned) });
    }
}

/// What the commands of a line have said, and to whom.
#[derive(Debug, Default)]
struct Groups {
    said: Vec<Fed>,
    /// Where in `said` each open group began.
    open: Vec<usize>,
    /// For the next command.
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

    /// The last group ends; what it has said, if it goes elsewhere.
    fn close(&mut self, piped: bool, to_file: bool) -> Fed {
        // The `)` of a pattern of `case` closes nothing.
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

    /// Reserved words before a command open groups; whether it is one that closes one.
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
