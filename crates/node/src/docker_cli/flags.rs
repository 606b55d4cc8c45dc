//! Parser of flags with the rules of the docker CLI: `-a`, `-it`, `-n5`, `-n 5`, `--tail=5`, `--tail 5`, `--`.

use std::fmt::Write;

use super::CommandFailure;

/// Flag of a command: the letter (0 if the flag has none), the name, and true if the flag takes a value.
pub(super) type Flag = (u8, &'static str, bool);

/// Flags and arguments of a command line, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GivenFlags {
    flags: Vec<(&'static str, String)>,
    pub arguments: Vec<String>,
}

/// Usage of a command, for error messages and for the parser of flags.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommandUsage {
    /// Name of the command, such as `docker exec`.
    pub name: &'static str,
    /// Usage line without the name, such as `[OPTIONS] CONTAINER COMMAND [ARG...]`.
    pub line: &'static str,
    pub flags: &'static [Flag],
    /// Minimum number of arguments that the command accepts.
    pub least: usize,
    /// True if flags end at the first argument, because the following words belong to another command.
    pub stop: bool,
}

impl GivenFlags {
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "false")
    }

    /// Returns the value of a flag. If the flag is repeated, the last value counts.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }
}

impl CommandUsage {
    pub fn parse(&self, words: &[String]) -> Result<GivenFlags, CommandFailure> {
        let mut given = GivenFlags::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                given.arguments.extend(rest.by_ref().cloned());
            } else if word == "--help" || word == "-h" {
                return Err(CommandFailure::new(0, self.help()));
            } else if let Some(long) = word.strip_prefix("--") {
                let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
                let flag = self.flags.iter().find(|flag| flag.1 == name).ok_or_else(|| self.wrong(&format!("unknown flag: --{name}")))?;
                let value = match (value, flag.2) {
                    (Some(value), _) => value,
                    (None, false) => "true".into(),
                    (None, true) => rest.next().cloned().ok_or_else(|| self.wrong(&format!("flag needs an argument: --{name}")))?,
                };
                given.flags.push((flag.1, value));
            } else if word.len() > 1 && word.starts_with('-') {
                self.letters(&word[1..], &mut rest, &mut given)?;
            } else {
                given.arguments.push(word.clone());
                if self.stop {
                    given.arguments.extend(rest.by_ref().cloned());
                }
            }
        }
        if given.arguments.len() < self.least {
            let plural = if self.least == 1 { "" } else { "s" };
            let (name, least) = (self.name, self.least);
            let usage = format!("Usage:  {name} {}\n\nSee '{name} --help' for more information", self.line);
            return Err(CommandFailure::new(1, format!("docker: '{name}' requires at least {least} argument{plural}\n\n{usage}")));
        }
        Ok(given)
    }

    fn letters<'a>(
        &self,
        letters: &str,
        rest: &mut impl Iterator<Item = &'a String>,
        given: &mut GivenFlags,
    ) -> Result<(), CommandFailure> {
        for (place, letter) in letters.char_indices() {
            let flag = self.flags.iter().find(|flag| flag.0 != 0 && char::from(flag.0) == letter);
            let flag = flag.ok_or_else(|| self.wrong(&format!("unknown shorthand flag: '{letter}' in -{letters}")))?;
            if !flag.2 {
                given.flags.push((flag.1, "true".into()));
                continue;
            }
            let tail = &letters[place + letter.len_utf8()..];
            let value = match tail {
                "" => rest.next().cloned().ok_or_else(|| self.wrong(&format!("flag needs an argument: '{letter}' in -{letters}")))?,
                tail => tail.strip_prefix('=').unwrap_or(tail).to_owned(),
            };
            given.flags.push((flag.1, value));
            return Ok(());
        }
        Ok(())
    }

    fn wrong(&self, problem: &str) -> CommandFailure {
        let name = self.name;
        CommandFailure::new(125, format!("{problem}\n\nUsage:  {name} {}\n\nRun '{name} --help' for more information", self.line))
    }

    fn help(&self) -> String {
        let mut text = format!("Usage:  {} {}\n\nOptions:", self.name, self.line);
        for (letter, name, value) in self.flags {
            let letter = if *letter == 0 { "   ".to_owned() } else { format!("-{},", char::from(*letter)) };
            let value = if *value { " value" } else { "" };
            // Writing into a string cannot fail.
            let _ = write!(text, "\n  {letter} --{name}{value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXEC: CommandUsage = CommandUsage {
        name: "docker exec",
        line: "[OPTIONS] CONTAINER COMMAND [ARG...]",
        flags: &[(b'i', "interactive", false), (b't', "tty", false), (b'e', "env", true)],
        least: 2,
        stop: true,
    };

    fn parse(usage: CommandUsage, words: &str) -> Result<GivenFlags, String> {
        usage.parse(&words.split(' ').map(str::to_owned).collect::<Vec<_>>()).map_err(|failure| failure.message)
    }

    #[test]
    fn all_flag_formats_are_parsed() {
        let given = parse(EXEC, "-it -e A=1 -eB=2 --env=C=3 --env D=4 tikv1 ls -l --all").expect("parses");
        assert!(given.has("interactive") && given.has("tty"));
        assert_eq!(given.all("env").collect::<Vec<_>>(), ["A=1", "B=2", "C=3", "D=4"]);
        assert_eq!(given.arguments, ["tikv1", "ls", "-l", "--all"]);
        assert_eq!(parse(CommandUsage { stop: false, ..EXEC }, "a -i b -- -x").expect("parses").arguments, ["a", "b", "-x"]);
    }

    #[test]
    fn wrong_flags_give_the_messages_of_the_docker_cli() {
        let unknown = parse(EXEC, "--foo x y").expect_err("unknown");
        assert!(unknown.starts_with("unknown flag: --foo\n\nUsage:  docker exec [OPTIONS]"), "{unknown}");
        assert!(parse(EXEC, "-ix y").expect_err("unknown").starts_with("unknown shorthand flag: 'x' in -ix"));
        assert!(parse(EXEC, "tikv1").expect_err("few").starts_with("docker: 'docker exec' requires at least 2 arguments\n"));
        assert!(parse(EXEC, "--env").expect_err("no value").starts_with("flag needs an argument: --env"));
    }
}
