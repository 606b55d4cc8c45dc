//! Lexer of shell lines. It recognises words, redirections, here-documents, brackets and nested commands.

/// Parsed command, or a bracket around commands.
#[derive(Debug, Default)]
pub(super) struct ReadCommand {
    pub words: Vec<String>,
    /// Files that the command writes through redirections.
    pub writes: Vec<Write>,
    /// Files that the command reads through redirections.
    pub reads: Vec<String>,
    /// Shell lines nested in the command, such as `$(...)`.
    pub nested: Vec<Nested>,
    /// Here-documents of the command, as indices into the list of here-document texts.
    pub here: Vec<usize>,
    /// True if the output of the command is piped into the next command.
    pub piped: bool,
    pub bracket: Option<Bracket>,
}

/// File that a command writes through a redirection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub file: String,
    pub append: bool,
}

/// Shell line that is nested in a command, such as `$(...)`.
#[derive(Debug)]
pub(super) struct Nested {
    pub line: String,
    /// True for `<(...)`, whose output the command reads as a file.
    pub as_file: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bracket {
    Open,
    Close,
}

/// Text of a here-document or a here-string.
#[derive(Debug, Default, Clone)]
pub(super) struct HereText {
    pub text: String,
    /// Shell lines nested in the text. The outer shell runs them.
    pub nested: Vec<String>,
}

/// Parses a shell line. Returns its commands in order, and the texts of the here-documents to which the commands refer.
pub(super) fn read(line: &str) -> (Vec<ReadCommand>, Vec<HereText>) {
    let mut lexer = Lexer::new(line);
    lexer.run();
    (lexer.commands, lexer.bodies)
}

/// Meaning of the next word in a shell line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Word,
    /// File that the command reads.
    Read,
    /// File descriptor, which is neither an argument nor a file.
    Descriptor,
    Write {
        append: bool,
    },
    /// Text of a here-string.
    Here,
    /// End mark of a here-document. For `<<-`, leading tabs of the here-document are removed.
    Mark {
        tabs: bool,
    },
}

/// Here-document whose body begins on the next line.
struct Awaited {
    body: usize,
    mark: String,
    tabs: bool,
    /// True if the shell does not expand variables and commands in the body.
    literal: bool,
}

struct Lexer {
    text: Vec<char>,
    at: usize,
    word: Option<String>,
    quoted: bool,
    next: Next,
    now: ReadCommand,
    commands: Vec<ReadCommand>,
    awaited: Vec<Awaited>,
    bodies: Vec<HereText>,
}

impl Lexer {
    fn new(line: &str) -> Self {
        Self {
            text: line.chars().collect(),
            at: 0,
            word: None,
            quoted: false,
            next: Next::Word,
            now: ReadCommand::default(),
            commands: Vec::new(),
            awaited: Vec::new(),
            bodies: Vec::new(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Consumes the next character if it is `c`. Returns true if it was consumed.
    fn took(&mut self, c: char) -> bool {
        let is = self.peek() == Some(c);
        self.at += usize::from(is);
        is
    }

    fn put(&mut self, text: &str) {
        self.word.get_or_insert_default().push_str(text);
    }

    fn within(&mut self, line: String) {
        self.now.nested.push(Nested { line, as_file: false });
    }

    fn run(&mut self) {
        while let Some(c) = self.take() {
            match c {
                '\n' => {
                    self.end_command(false);
                    self.here_bodies();
                }
                '|' => {
                    let piped = !self.took('|');
                    self.at += usize::from(piped && self.peek() == Some('&'));
                    self.end_command(piped);
                }
                ';' => self.end_command(false),
                '(' => self.bracket(Bracket::Open),
                ')' => self.bracket(Bracket::Close),
                '&' if self.peek() == Some('>') => {
                    self.end_word();
                    self.at += 1;
                    self.redirect('>');
                }
                '&' => self.end_command(false),
                '<' | '>' => {
                    // Numbers before a redirection are descriptors, not words.
                    if !self.quoted && self.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
                        self.word = None;
                    }
                    self.end_word();
                    self.redirect(c);
                }
                '#' if self.word.is_none() => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                '\'' => {
                    let text = self.until('\'', false);
                    self.quoted = true;
                    self.put(&text);
                }
                '"' => self.double_quoted(),
                '\\' => match self.take() {
                    Some('\n') | None => {}
                    Some(c) => {
                        self.quoted = true;
                        self.put(c.encode_utf8(&mut [0; 4]));
                    }
                },
                '$' => self.dollar(),
                '`' => self.backticks(),
                c if c.is_whitespace() => self.end_word(),
                c => self.put(c.encode_utf8(&mut [0; 4])),
            }
        }
        self.end_command(false);
    }

    /// Consumes the text up to and including the closing mark. Returns the text without the mark.
    fn until(&mut self, mark: char, escapes: bool) -> String {
        let mut text = String::new();
        while let Some(c) = self.take() {
            match c {
                '\\' if escapes => text.extend(self.take()),
                c if c == mark => break,
                c => text.push(c),
            }
        }
        text
    }

    fn double_quoted(&mut self) {
        self.quoted = true;
        self.put("");
        while let Some(c) = self.take() {
            match c {
                '"' => return,
                '\\' => match self.take() {
                    Some(c @ ('"' | '\\' | '$' | '`')) => self.put(c.encode_utf8(&mut [0; 4])),
                    Some('\n') | None => {}
                    Some(c) => self.put(&format!("\\{c}")),
                },
                '$' => self.dollar(),
                '`' => self.backticks(),
                c => self.put(c.encode_utf8(&mut [0; 4])),
            }
        }
    }

    fn backticks(&mut self) {
        let inner = self.until('`', true);
        self.put(&format!("`{inner}`"));
        self.within(inner);
    }

    /// Parses the expansion that follows a `$`.
    fn dollar(&mut self) {
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let inner = self.balanced();
                self.put(&format!("$({inner})"));
                // `$((1 + 2))` is arithmetic and runs no command.
                if !inner.starts_with('(') {
                    self.within(inner);
                }
            }
            Some('{') => {
                let inner = self.until('}', false);
                self.put(&format!("${inner}}}"));
            }
            Some('\'') => {
                self.at += 1;
                let text = self.until('\'', true);
                self.quoted = true;
                self.put(&text);
            }
            _ => self.put("$"),
        }
    }

    /// Consumes the text up to the matching `)`, ignoring parentheses in quotes.
    fn balanced(&mut self) -> String {
        let (begin, mut open, mut quote) = (self.at, 1, None);
        while let Some(c) = self.take() {
            match (quote, c) {
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (Some('\''), _) => {}
                (_, '\\') => self.at += 1,
                (None, '\'' | '"') => quote = Some(c),
                (None, '(') => open += 1,
                (None, ')') => {
                    open -= 1;
                    if open == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
        self.at = self.at.min(self.text.len());
        let end = if open == 0 { self.at - 1 } else { self.at };
        self.text[begin..end].iter().collect()
    }

    fn redirect(&mut self, mark: char) {
        if self.took('(') {
            let line = self.balanced();
            self.now.nested.push(Nested { line, as_file: mark == '<' });
        } else if mark == '<' {
            self.next = self.input();
        } else {
            let append = self.took('>');
            self.at += usize::from(!append && self.peek() == Some('|'));
            // `>&1` and `>&-` refer to descriptors, `>& FILE` to a file.
            let descriptor = self.took('&') && self.peek().is_some_and(|c| c.is_ascii_digit() || c == '-');
            self.next = if descriptor { Next::Descriptor } else { Next::Write { append } };
        }
    }

    fn input(&mut self) -> Next {
        if !self.took('<') {
            // `<> FILE` can also write, but the output is unknown.
            return if self.took('&') {
                Next::Descriptor
            } else {
                self.took('>');
                Next::Read
            };
        }
        if self.took('<') { Next::Here } else { Next::Mark { tabs: self.took('-') } }
    }

    fn end_word(&mut self) {
        let literal = std::mem::take(&mut self.quoted);
        let Some(word) = self.word.take() else { return };
        match std::mem::replace(&mut self.next, Next::Word) {
            Next::Word => self.now.words.push(word),
            Next::Descriptor => {}
            Next::Read => self.now.reads.push(word),
            // Output to these files is not stored.
            Next::Write { .. } if ["/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty"].contains(&word.as_str()) => {}
            Next::Write { append } => self.now.writes.push(Write { file: word, append }),
            Next::Here => {
                self.now.here.push(self.bodies.len());
                self.bodies.push(HereText { text: word, nested: Vec::new() });
            }
            Next::Mark { tabs } => {
                self.awaited.push(Awaited { body: self.bodies.len(), mark: word, tabs, literal });
                self.now.here.push(self.bodies.len());
                self.bodies.push(HereText::default());
            }
        }
    }

    fn end_command(&mut self, piped: bool) {
        self.end_word();
        self.next = Next::Word;
        let mut read = std::mem::take(&mut self.now);
        read.piped = piped;
        if !(read.words.is_empty() && read.writes.is_empty() && read.nested.is_empty()) {
            self.commands.push(read);
        } else if let Some(last) = self.commands.last_mut().filter(|last| last.bracket == Some(Bracket::Close)) {
            last.piped |= piped;
        }
    }

    fn bracket(&mut self, bracket: Bracket) {
        self.end_command(false);
        self.commands.push(ReadCommand { bracket: Some(bracket), ..ReadCommand::default() });
    }

    fn here_bodies(&mut self) {
        for awaited in std::mem::take(&mut self.awaited) {
            let mut text = String::new();
            while self.at < self.text.len() {
                let end = self.text[self.at..].iter().position(|c| *c == '\n').map_or(self.text.len(), |length| self.at + length);
                let line: String = self.text[self.at..end].iter().collect();
                self.at = (end + 1).min(self.text.len());
                if (if awaited.tabs { line.trim_start_matches('\t') } else { &line }) == awaited.mark {
                    break;
                }
                text += &line;
                text.push('\n');
            }
            let nested = if awaited.literal { Vec::new() } else { substitutions(&text) };
            self.bodies[awaited.body] = HereText { text, nested };
        }
    }
}

/// Returns the contents of `$(...)` and backticks in a text in which quotes have no meaning.
fn substitutions(text: &str) -> Vec<String> {
    let mut lexer = Lexer::new(text);
    while let Some(c) = lexer.take() {
        match c {
            '\\' => drop(lexer.take()),
            '$' if lexer.peek() == Some('(') => lexer.dollar(),
            '`' => lexer.backticks(),
            _ => {}
        }
    }
    lexer.now.nested.into_iter().map(|nested| nested.line).collect()
}
