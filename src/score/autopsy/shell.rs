//! Shell lines taken apart into simple commands: what is run, and where.
//!
//! This is no shell: nothing is expanded and nothing is decided. Whatever could be run is taken as run: both sides of `||`, the body of a
//! loop, what stands in `$(...)`, in backticks, behind `sh -c`, or in a here-document for a shell. Words that only carry a command
//! (`sudo`, `env`, `timeout`, `docker exec`, ...) are taken off.

/// How deep commands may stand within commands.
const DEPTH: usize = 8;
/// How often words are taken off one command.
const LAYERS: usize = 16;
/// Characters of what is not looked into.
const TOLD: usize = 200;
/// Reserved words that a command may follow.
const BEFORE: &[&str] = &["if", "then", "else", "elif", "do", "while", "until", "!", "{", "time", "coproc"];
/// Reserved words that begin something that is no command.
const HEADERS: &[&str] = &["for", "select", "case", "function", "in", "fi", "done", "esac", "}", "[[", "]]"];
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh"];

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

/// All commands of a line, in their order; one within another stands before it.
#[must_use]
pub fn commands(line: &str) -> Vec<Simple> {
    let mut found = Vec::new();
    take_apart(line, None, 0, &mut found);
    found
}

fn take_apart(line: &str, node: Option<&str>, depth: usize, found: &mut Vec<Simple>) {
    if depth > DEPTH {
        // Told as what no rule knows, and not as nothing.
        let text = line.chars().take(TOLD).collect();
        found.push(Simple { words: vec![text], node: node.map(str::to_owned) });
        return;
    }
    let mut lexer = Lexer::new(line);
    lexer.run();
    let Lexer { commands, mut bodies, .. } = lexer;
    for command in commands {
        for nested in &command.nested {
            take_apart(nested, node, depth + 1, found);
        }
        let bodies = command.here.iter().map(|at| std::mem::take(&mut bodies[*at])).collect();
        let words = without_reserved(command.words);
        carried(words, Beside { writes: command.writes, bodies }, node, depth, found);
    }
}

/// What belongs to a command and is no word of it.
struct Beside {
    writes: Vec<String>,
    bodies: Vec<String>,
}

fn without_reserved(mut words: Vec<String>) -> Vec<String> {
    while words.first().is_some_and(|word| BEFORE.contains(&word.as_str())) {
        words.remove(0);
    }
    if words.first().is_some_and(|word| HEADERS.contains(&word.as_str())) { Vec::new() } else { words }
}

/// Takes off what only carries a command.
fn carried(mut words: Vec<String>, mut beside: Beside, node: Option<&str>, depth: usize, found: &mut Vec<Simple>) {
    if depth > DEPTH {
        words.truncate(TOLD);
        found.push(written(words, &beside, node));
        return;
    }
    for _ in 0..LAYERS {
        while words.first().is_some_and(|word| is_assignment(word)) {
            words.remove(0);
        }
        let Some(program) = words.first().map(|word| base(word).to_owned()) else {
            if !beside.writes.is_empty() {
                found.push(written(vec![":".into()], &beside, node));
            }
            return;
        };
        match program.as_str() {
            "sudo" | "doas" => off(&mut words, &["-u", "-g", "-h", "-p", "-C", "-D", "-R", "-T", "-r", "-t", "-U", "--user", "--group"], 0),
            "env" => off(&mut words, &["-u", "-C", "--unset", "--chdir"], 0),
            "nice" => off(&mut words, &["-n", "--adjustment"], 0),
            "ionice" => off(&mut words, &["-c", "-n", "-p", "--class", "--classdata"], 0),
            "timeout" => off(&mut words, &["-k", "-s", "--kill-after", "--signal"], 1),
            "stdbuf" => off(&mut words, &["-i", "-o", "-e"], 0),
            "flock" | "chroot" => off(&mut words, &["-w", "-E", "--timeout", "--userspec", "--groups"], 1),
            "nsenter" => off(&mut words, &["-t", "--target", "-S", "-G"], 0),
            "nohup" | "command" | "builtin" | "exec" | "setsid" | "time" | "unbuffer" | "busybox" => off(&mut words, &["-f", "-o"], 0),
            "xargs" => off(&mut words, &["-I", "-n", "-P", "-L", "-d", "-s", "-a", "-E"], 0),
            "watch" => {
                off(&mut words, &["-n", "--interval"], 0);
                return take_apart(&words.join(" "), node, depth + 1, found);
            }
            "eval" => return take_apart(&words[1..].join(" "), node, depth + 1, found),
            shell if SHELLS.contains(&shell) => match script(&words[1..]) {
                Some(script) => return take_apart(script, node, depth + 1, found),
                None if !beside.bodies.is_empty() && words[1..].iter().all(|word| word.starts_with('-')) => {
                    for body in &beside.bodies {
                        take_apart(body, node, depth + 1, found);
                    }
                    return;
                }
                None => break,
            },
            "docker" | "podman" => {
                engine_words(&mut words);
                if words.get(1).is_none_or(|verb| verb != "exec") {
                    break;
                }
                words.remove(0);
                off(&mut words, &["-e", "--env", "--env-file", "-u", "--user", "-w", "--workdir", "--detach-keys"], 0);
                if words.is_empty() {
                    return;
                }
                let node = words.remove(0);
                // What stands behind `>` is the shell's that asks, and not the node's.
                let writes = std::mem::take(&mut beside.writes);
                if !writes.is_empty() {
                    found.push(written(vec![":".into()], &Beside { writes, bodies: Vec::new() }, None));
                }
                return carried(words, beside, Some(&node), depth + 1, found);
            }
            _ => break,
        }
    }
    if let Some(program) = words.first_mut() {
        *program = base(program).to_owned();
    }
    found.push(written(words, &beside, node));
}

fn written(mut words: Vec<String>, beside: &Beside, node: Option<&str>) -> Simple {
    words.extend(beside.writes.iter().flat_map(|file| [">".to_owned(), file.clone()]));
    Simple { words, node: node.map(str::to_owned) }
}

/// Takes off the first word with its options; `valued` ones take the next word with them, then `more` words.
fn off(words: &mut Vec<String>, valued: &[&str], more: usize) {
    words.remove(0);
    while words.first().is_some_and(|word| word.starts_with('-') && word.len() > 1) {
        let option = words.remove(0);
        if option == "--" {
            break;
        }
        if valued.contains(&option.as_str()) && !words.is_empty() {
            words.remove(0);
        }
    }
    words.drain(..more.min(words.len()));
}

/// `docker -H X container restart a` is `docker restart a`.
fn engine_words(words: &mut Vec<String>) {
    let mut rest = words.clone();
    off(&mut rest, &["-H", "--host", "-c", "--context", "--config", "-l", "--log-level"], 0);
    if rest.first().is_some_and(|word| word == "container") {
        rest.remove(0);
    }
    rest.insert(0, "docker".into());
    *words = rest;
}

/// The script behind `-c`.
fn script(arguments: &[String]) -> Option<&str> {
    let mut arguments = arguments.iter();
    while let Some(word) = arguments.next().filter(|word| word.starts_with(['-', '+'])) {
        if word == "-o" || word == "+o" {
            arguments.next();
        } else if !word.starts_with("--") && word.contains('c') {
            return arguments.next().map(String::as_str);
        }
    }
    None
}

fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let name = name.strip_suffix('+').unwrap_or(name);
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A command as it is read.
#[derive(Default)]
struct Read {
    words: Vec<String>,
    /// Files that are written.
    writes: Vec<String>,
    /// Commands within it.
    nested: Vec<String>,
    /// Here-documents, by their place in `bodies`.
    here: Vec<usize>,
}

/// What the next word is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Word,
    Read,
    Write,
    /// The end mark of a here-document; with `<<-` tabs before it do not count.
    Mark(bool),
}

struct Lexer {
    text: Vec<char>,
    at: usize,
    word: Option<String>,
    quoted: bool,
    next: Next,
    now: Read,
    commands: Vec<Read>,
    /// End marks of here-documents whose bodies begin at the next line.
    awaited: Vec<(usize, String, bool)>,
    bodies: Vec<String>,
}

impl Lexer {
    fn new(line: &str) -> Self {
        Self {
            text: line.chars().collect(),
            at: 0,
            word: None,
            quoted: false,
            next: Next::Word,
            now: Read::default(),
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

    fn put(&mut self, text: &str) {
        self.word.get_or_insert_default().push_str(text);
    }

    fn run(&mut self) {
        while let Some(c) = self.take() {
            match c {
                '\n' => {
                    self.end_command();
                    self.here_bodies();
                }
                ';' | '|' | '(' | ')' => self.end_command(),
                '&' if self.peek() == Some('>') => {
                    self.end_word();
                    self.at += 1;
                    self.redirect('>');
                }
                '&' => self.end_command(),
                '<' | '>' => {
                    // The number of a descriptor is no word.
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
                    Some(c) => self.put(c.encode_utf8(&mut [0; 4])),
                },
                '$' => self.dollar(),
                '`' => {
                    let inner = self.until('`', true);
                    self.put(&format!("`{inner}`"));
                    self.now.nested.push(inner);
                }
                c if c.is_whitespace() => self.end_word(),
                c => self.put(c.encode_utf8(&mut [0; 4])),
            }
        }
        self.end_command();
    }

    /// Up to the closing mark, which is taken too.
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
                '`' => {
                    let inner = self.until('`', true);
                    self.put(&format!("`{inner}`"));
                    self.now.nested.push(inner);
                }
                c => self.put(c.encode_utf8(&mut [0; 4])),
            }
        }
    }

    /// Behind a `$`.
    fn dollar(&mut self) {
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let inner = self.balanced();
                self.put(&format!("$({inner})"));
                // `$((1 + 2))` computes and runs nothing.
                if !inner.starts_with('(') {
                    self.now.nested.push(inner);
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

    /// Up to the `)` that closes what was opened before; quotes within count.
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
        match (mark, self.peek()) {
            (_, Some('(')) => {
                self.at += 1;
                let inner = self.balanced();
                self.now.nested.push(inner);
            }
            ('<', Some('<')) => {
                self.at += 1;
                match self.peek() {
                    Some('<') => {
                        self.at += 1;
                        self.next = Next::Read;
                    }
                    Some('-') => {
                        self.at += 1;
                        self.next = Next::Mark(true);
                    }
                    _ => self.next = Next::Mark(false),
                }
            }
            ('<', other) => {
                self.at += usize::from(matches!(other, Some('&' | '>')));
                self.next = Next::Read;
            }
            (_, other) => {
                self.at += usize::from(matches!(other, Some('>' | '|')));
                if self.peek() == Some('&') {
                    self.at += 1;
                    let to_descriptor = self.peek().is_some_and(|c| c.is_ascii_digit() || c == '-');
                    self.next = if to_descriptor { Next::Read } else { Next::Write };
                } else {
                    self.next = Next::Write;
                }
            }
        }
    }

    fn end_word(&mut self) {
        self.quoted = false;
        let Some(word) = self.word.take() else { return };
        match std::mem::replace(&mut self.next, Next::Word) {
            Next::Word => self.now.words.push(word),
            Next::Read => {}
            // Nothing is kept of what is written there.
            Next::Write if ["/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty"].contains(&word.as_str()) => {}
            Next::Write => self.now.writes.push(word),
            Next::Mark(tabs) => {
                self.awaited.push((self.bodies.len(), word, tabs));
                self.now.here.push(self.bodies.len());
                self.bodies.push(String::new());
            }
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.next = Next::Word;
        let read = std::mem::take(&mut self.now);
        if !(read.words.is_empty() && read.writes.is_empty() && read.nested.is_empty()) {
            self.commands.push(read);
        }
    }

    fn here_bodies(&mut self) {
        for (body, mark, tabs) in std::mem::take(&mut self.awaited) {
            let mut text = String::new();
            while self.at < self.text.len() {
                let end = self.text[self.at..].iter().position(|c| *c == '\n').map_or(self.text.len(), |length| self.at + length);
                let line: String = self.text[self.at..end].iter().collect();
                self.at = (end + 1).min(self.text.len());
                if (if tabs { line.trim_start_matches('\t') } else { &line }) == mark {
                    break;
                }
                text += &line;
                text.push('\n');
            }
            self.bodies[body] = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tikv1: rm -rf /data`, each command on its own.
    fn taken(line: &str) -> Vec<String> {
        let told = |simple: Simple| match &simple.node {
            Some(node) => format!("{node}: {}", simple.text()),
            None => simple.text(),
        };
        commands(line).into_iter().map(told).collect()
    }

    fn check(line: &str, expected: &[&str]) {
        assert_eq!(taken(line), expected, "{line}");
    }

    #[test]
    fn a_line_is_taken_apart_at_its_operators() {
        check("docker ps -a", &["docker ps -a"]);
        check("a 1; b 2 && c 3 || d | e & f\ng", &["a 1", "b 2", "c 3", "d", "e", "f", "g"]);
        check("a 'x; y' \"p && q\" \\; z # rm -rf /", &["a x; y p && q ; z"]);
        check("echo a#b", &["echo a#b"]);
        check("(cd /tmp; ls) && { whoami; }", &["cd /tmp", "ls", "whoami"]);
        check("", &[]);
        check("a \\\n b", &["a b"]);
        check("echo ä'ö'ü", &["echo äöü"]);
    }

    #[test]
    fn what_stands_within_is_taken_out() {
        check("docker restart $(docker ps -q)", &["docker ps -q", "docker restart $(docker ps -q)"]);
        check("echo \"a $(rm -rf /x) b\" `id`", &["rm -rf /x", "id", "echo a $(rm -rf /x) b `id`"]);
        check("echo $(echo ')' $(ls)) $((1 + 2)) ${X:-y}", &["ls", "echo ) $(ls)", "echo $(echo ')' $(ls)) $((1 + 2)) ${X:-y}"]);
        check("diff <(ls a) <(ls b)", &["ls a", "ls b", "diff"]);
        check("echo '$(rm x)'", &["echo $(rm x)"]);
    }

    #[test]
    fn reserved_words_and_headers_are_no_commands() {
        check("for n in a b; do docker restart $n; done", &["docker restart $n"]);
        check("if ! docker ps; then reboot; else true; fi", &["docker ps", "reboot", "true"]);
        check("until docker exec tikv2 curl -sf x >/dev/null; do :; done", &["tikv2: curl -sf x", ":"]);
    }

    #[test]
    fn what_only_carries_a_command_is_taken_off() {
        check("sudo -u root -E /bin/rm -rf /x", &["rm -rf /x"]);
        check("env -i A=b C=d timeout -k 1s 5 nice -n 5 docker -H unix:///x container stop a", &["docker stop a"]);
        check("A=b", &[]);
        check("docker exec -it -e A=b -u root tikv1 sh -c 'cd /data && rm -rf *'", &["tikv1: cd /data", "tikv1: rm -rf *"]);
        check("docker exec tikv1 bash -lc \"kill -9 1\"; ls", &["tikv1: kill -9 1", "ls"]);
        check("docker ps -q | xargs -n 1 docker restart", &["docker ps -q", "docker restart"]);
        check("watch -n 1 docker ps", &["docker ps"]);
        check("eval \"docker stop a\"", &["docker stop a"]);
        check("bash script.sh", &["bash script.sh"]);
        check("docker exec tikv1", &[]);
    }

    #[test]
    fn what_is_written_is_told_and_what_is_thrown_away_is_not() {
        check("a >/dev/null 2>&1 <in 3>&-", &["a"]);
        check("echo x > /etc/hosts 2>> err.log", &["echo x > /etc/hosts > err.log"]);
        check("> /data/raft.db", &[": > /data/raft.db"]);
        check("a &> all.log", &["a > all.log"]);
        check("docker exec tikv1 sh -c 'echo 1 > /data/x'", &["tikv1: echo 1 > /data/x"]);
    }

    #[test]
    fn a_here_document_is_run_by_a_shell_alone() {
        check("docker exec -i tikv1 sh <<'EOF'\nrm -rf /data\nls\nEOF\ndocker ps", &["tikv1: rm -rf /data", "tikv1: ls", "docker ps"]);
        check("cat > notes <<-END\nrm -rf /\n\tEND\nls", &["cat > notes", "ls"]);
        check("jq . <<< '{}'", &["jq ."]);
    }

    #[test]
    fn whatever_is_broken_is_taken_as_far_as_it_goes() {
        check("echo 'open", &["echo open"]);
        check("echo $(rm x", &["rm x", "echo $(rm x)"]);
        check("a >", &["a"]);
        check("cat <<EOF", &["cat"]);
        check("sudo", &[]);
        let deep = format!("{}rm x{}", "$(".repeat(50), ")".repeat(50));
        assert!(commands(&deep).len() <= DEPTH + 2);
        // Nothing is so deep that it would end the program, or be seen as nothing.
        assert!(!commands(&format!("{}ls", "docker exec a ".repeat(50_000))).is_empty());
        assert!(!commands(&format!("{}rm -rf /data", "eval ".repeat(20))).is_empty());
    }
}
