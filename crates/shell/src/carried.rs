//! Removal of wrappers (such as `sudo`) and of script runners from a command, until the actual command remains.

use super::fed::{self, Fed};
use super::lexer::Write;
use super::{Apart, Beside, DEPTH, Place, TOLD, base, clients};

/// Maximum number of wrappers that are removed from one command.
const LAYERS: usize = 16;
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh"];
/// Options of `docker run` without a value. All other options of `docker run` have a value.
const ALONE: &[&str] = &[
    "--detach",
    "--init",
    "--interactive",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--privileged",
    "--publish-all",
    "--quiet",
    "--read-only",
    "--rm",
    "--sig-proxy",
    "--tty",
];

impl Apart<'_> {
    /// Removes the wrappers of a command, records the remaining command and returns its output.
    pub(super) fn carried(&mut self, mut words: Vec<String>, beside: Beside, place: Place<'_>) -> Fed {
        if place.depth > DEPTH {
            words.truncate(TOLD);
            self.tell(words, &beside.writes, place);
            return Fed::Unknown;
        }
        for _ in 0..LAYERS {
            while words.first().is_some_and(|word| is_assignment(word)) {
                words.remove(0);
            }
            let Some(program) = words.first().map(|word| base(word).to_owned()) else {
                if !beside.writes.is_empty() {
                    self.tell(vec![":".into()], &beside.writes, place);
                }
                return beside.input;
            };
            match program.as_str() {
                "sudo" | "doas" => {
                    off(&mut words, &["-u", "-g", "-h", "-p", "-C", "-D", "-R", "-T", "-r", "-t", "-U", "--user", "--group"], 0);
                }
                "env" => off(&mut words, &["-u", "-C", "--unset", "--chdir"], 0),
                "nice" => off(&mut words, &["-n", "--adjustment"], 0),
                "ionice" => off(&mut words, &["-c", "-n", "-p", "--class", "--classdata"], 0),
                "timeout" => off(&mut words, &["-k", "-s", "--kill-after", "--signal"], 1),
                "stdbuf" => off(&mut words, &["-i", "-o", "-e"], 0),
                "flock" | "chroot" => off(&mut words, &["-w", "-E", "--timeout", "--userspec", "--groups"], 1),
                "nsenter" => off(&mut words, &["-t", "--target", "-S", "-G"], 0),
                "nohup" | "command" | "builtin" | "exec" | "setsid" | "time" | "unbuffer" | "busybox" => off(&mut words, &["-f", "-o"], 0),
                "xargs" => words = with_input(words, &beside.input),
                "watch" => {
                    off(&mut words, &["-n", "--interval"], 0);
                    return self.line(&words.join(" "), place.deeper());
                }
                "eval" => return self.line(&words[1..].join(" "), place.deeper()),
                "su" | "runuser" | "script" => match behind(&words, &["-c", "--command", "-qc", "--session-command"]) {
                    Some(script) => return self.line(&script, place.deeper()),
                    None if program == "runuser" && words.iter().any(|word| word == "--") => off(&mut words, &["-u", "--user", "-g"], 0),
                    None => match beside.input.text().filter(|_| program == "su").map(str::to_owned) {
                        Some(text) => return self.line(&text, place.deeper()),
                        None => break,
                    },
                },
                "ssh" => return self.remote(words, beside, place),
                shell if SHELLS.contains(&shell) => match self.script(&words, &beside, place) {
                    Some(said) => return said,
                    None => break,
                },
                "." | "source" => match words.get(1).and_then(|file| self.file(file, place)) {
                    Some(said) => return said,
                    None => break,
                },
                "docker" | "podman" | "docker-compose" => {
                    engine_words(&mut words);
                    match words.get(1).map(String::as_str) {
                        Some("exec") => return self.executed(words, beside, place),
                        Some("run" | "create") => return self.container(words, beside, place),
                        _ => break,
                    }
                }
                "kubectl" => {
                    words = clients::without_connection(words);
                    if words.get(1).is_some_and(|verb| verb == "exec") {
                        return self.executed(words, beside, place);
                    }
                    break;
                }
                _ if words[0].contains('/') => match self.file(&words[0].clone(), place) {
                    Some(said) => return said,
                    None => break,
                },
                _ => break,
            }
        }
        if let Some(program) = words.first_mut() {
            *program = base(program).to_owned();
        }
        self.simple(words, &beside, place)
    }

    /// Processes a command that has no wrappers.
    fn simple(&mut self, words: Vec<String>, beside: &Beside, place: Place<'_>) -> Fed {
        let words = clients::without_connection(words);
        let said = fed::says(&words, &beside.input, self.scripts, place);
        if words.first().is_some_and(|program| program == "tee") {
            let append = words.iter().any(|word| word == "-a" || word == "--append");
            for file in words.iter().skip(1).filter(|word| !word.starts_with('-')) {
                self.scripts.write(place, &Write { file: file.clone(), append }, &beside.input);
            }
        }
        for words in clients::with_input(words, &beside.input) {
            self.tell(words, &beside.writes, place);
        }
        said
    }

    /// Processes the script that a shell command runs from `-c`, a file or standard input. Returns `None` if the script is unknown.
    fn script(&mut self, words: &[String], beside: &Beside, place: Place<'_>) -> Option<Fed> {
        let mut arguments = words[1..].iter();
        let mut reads = false;
        while let Some(word) = arguments.as_slice().first().filter(|word| word.starts_with(['-', '+']) && word.len() > 1) {
            arguments.next();
            if word == "-o" || word == "+o" || word == "--rcfile" || word == "--init-file" {
                arguments.next();
            } else if !word.starts_with("--") && word.contains('c') {
                let script = arguments.next()?;
                return Some(self.line(script, place.deeper()));
            }
            reads |= !word.starts_with("--") && word.contains('s');
        }
        match arguments.next().map(String::as_str) {
            Some(file) if !reads && !["-", "/dev/stdin"].contains(&file) => self.file(file, place),
            _ => {
                let text = beside.input.text()?;
                Some(self.line(text, place.deeper()))
            }
        }
    }

    /// Processes a script file that an earlier command has written. Returns `None` if the text of the file is unknown.
    fn file(&mut self, file: &str, place: Place<'_>) -> Option<Fed> {
        let text = self.scripts.taken(place, file)?;
        let said = self.line(&text, place.deeper());
        self.scripts.put_back(place, file, text);
        Some(said)
    }

    /// Processes `docker exec` and `kubectl exec`, whose command runs in a node.
    fn executed(&mut self, mut words: Vec<String>, mut beside: Beside, place: Place<'_>) -> Fed {
        let pods = base(&words.remove(0)) == "kubectl";
        let valued: &[&str] = if pods {
            &["-c", "--container", "-n", "--namespace", "--pod-running-timeout", "-f", "--filename"]
        } else {
            &["-e", "--env", "--env-file", "-u", "--user", "-w", "--workdir", "--detach-keys", "--index"]
        };
        off(&mut words, valued, 0);
        if words.is_empty() {
            return Fed::Nothing;
        }
        let node = words.remove(0);
        let node = if pods { node.rsplit('/').next().unwrap_or_default().to_owned() } else { node };
        if pods {
            // Options may follow the pod. The command begins at `--`, if present.
            words.insert(0, String::new());
            off(&mut words, valued, 0);
        }
        self.own_writes(&mut beside, place);
        self.carried(words, beside, place.at(&node))
    }

    /// Processes the creation of a container. The command in the container may access all mounts.
    fn container(&mut self, mut words: Vec<String>, mut beside: Beside, place: Place<'_>) -> Fed {
        let mut at = 2;
        let mut entrypoint = None;
        while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
            at += 1;
            let (name, inline) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            let flags = !name.starts_with("--") && name.chars().skip(1).all(|c| matches!(c, 'd' | 'i' | 't' | 'P' | 'q'));
            let attached = !name.starts_with("--") && name.len() > 2;
            if ALONE.contains(&name) || flags {
                continue;
            }
            let value = inline.map(str::to_owned).or_else(|| words.get(at).filter(|_| !attached).cloned());
            at += usize::from(inline.is_none() && !attached);
            if name == "--entrypoint" {
                entrypoint = value.filter(|value| !value.is_empty());
            }
        }
        let behind = words.split_off((at + 1).min(words.len()));
        let image = words.get(at).cloned().unwrap_or_default();
        self.own_writes(&mut beside, place);
        self.tell(words, &[], place);
        let command: Vec<String> = entrypoint.into_iter().chain(behind).collect();
        if command.is_empty() {
            return Fed::Unknown;
        }
        self.carried(command, beside, place.at(&image))
    }

    fn remote(&mut self, mut words: Vec<String>, mut beside: Beside, place: Place<'_>) -> Fed {
        let valued =
            ["-b", "-c", "-D", "-E", "-e", "-F", "-I", "-i", "-J", "-L", "-l", "-m", "-O", "-o", "-p", "-Q", "-R", "-S", "-W", "-w"];
        off(&mut words, &valued, 0);
        if words.is_empty() {
            return Fed::Nothing;
        }
        let host = words.remove(0);
        let host = host.rsplit('@').next().unwrap_or_default().to_owned();
        self.own_writes(&mut beside, place);
        // The words are joined, and the remote shell splits them again.
        let line = if words.is_empty() { beside.input.text().map(str::to_owned) } else { Some(words.join(" ")) };
        line.map_or(Fed::Unknown, |line| self.line(&line, place.at(&host)))
    }

    /// Records redirections that the calling shell performs outside the node, as a command with the name `:`.
    fn own_writes(&mut self, beside: &mut Beside, place: Place<'_>) {
        let writes = std::mem::take(&mut beside.writes);
        if !writes.is_empty() {
            self.tell(vec![":".into()], &writes, place);
        }
    }
}

/// Removes `xargs` and its options. Then inserts the known input at the placeholder, or appends it. Unknown input adds no words.
fn with_input(mut words: Vec<String>, input: &Fed) -> Vec<String> {
    let mark = words.iter().skip(1).position(|word| word.starts_with("-I")).map(|at| &words[at + 1..]).and_then(|behind| {
        let attached = behind[0].strip_prefix("-I").filter(|mark| !mark.is_empty());
        attached.map(str::to_owned).or_else(|| behind.get(1).cloned())
    });
    off(&mut words, &["-I", "-n", "-P", "-L", "-d", "-s", "-a", "-E"], 0);
    let Some(text) = input.text() else { return words };
    match mark.filter(|mark| !mark.is_empty()) {
        Some(mark) => words.iter().map(|word| word.replace(&mark, text.trim_end())).collect(),
        None => words.into_iter().chain(text.split_whitespace().take(TOLD).map(str::to_owned)).collect(),
    }
}

/// Removes the first word and the options that follow. An option in `valued` is removed with its value. Then removes `more` further words.
pub(super) fn off(words: &mut Vec<String>, valued: &[&str], more: usize) {
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

/// Removes global options, and unifies the notations of docker and compose. `docker -H X container restart a` becomes `docker restart a`.
/// `docker compose exec a ls` becomes `docker exec a ls`.
fn engine_words(words: &mut Vec<String>) {
    let composes = base(&words[0]) == "docker-compose";
    let mut rest = words.clone();
    if !composes {
        off(&mut rest, &["-H", "--host", "-c", "--context", "--config", "-l", "--log-level"], 0);
    }
    if rest.first().is_some_and(|word| word == "container") {
        rest.remove(0);
    } else if composes || rest.first().is_some_and(|word| word == "compose") {
        let mut verb = rest.clone();
        off(&mut verb, &["-f", "--file", "-p", "--project-name", "--profile", "--env-file", "--project-directory"], 0);
        rest[0] = "compose".into();
        if verb.first().is_some_and(|verb| verb == "exec") {
            rest = verb;
        }
    }
    rest.insert(0, "docker".into());
    *words = rest;
}

/// Returns the value of the first option that is listed in `options`. Returns `None` if there is no such option.
fn behind(words: &[String], options: &[&str]) -> Option<String> {
    words.iter().enumerate().find_map(|(at, word)| match word.split_once('=') {
        Some((name, value)) if options.contains(&name) => Some(value.to_owned()),
        _ if options.contains(&word.as_str()) => words.get(at + 1).cloned(),
        _ => None,
    })
}

fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let name = name.strip_suffix('+').unwrap_or(name);
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
