//! Minimal parser of Dockerfiles, for facts that are needed before the engine reads the file.

use std::collections::HashMap;

/// Returns the base images of all stages, without duplicates, in order. Build arguments are replaced by their defaults.
pub(super) fn bases(text: &str) -> Vec<String> {
    let mut arguments: HashMap<String, String> = HashMap::new();
    let mut stages: Vec<String> = Vec::new();
    let mut bases: Vec<String> = Vec::new();
    for words in instructions(text) {
        let mut words = words.iter().map(String::as_str);
        match words.next().map(str::to_ascii_uppercase).as_deref() {
            // Only build arguments before the first stage apply to `FROM`.
            Some("ARG") if stages.is_empty() && bases.is_empty() => {
                for (name, value) in words.filter_map(|word| word.split_once('=')) {
                    arguments.insert(name.to_owned(), value.trim_matches('"').to_owned());
                }
            }
            Some("FROM") => {
                let words: Vec<&str> = words.filter(|word| !word.starts_with("--")).collect();
                let Some(base) = words.first().map(|base| filled(base, &arguments)) else { continue };
                let known = base == "scratch" || stages.contains(&base.to_ascii_lowercase()) || bases.contains(&base);
                if !known && !base.contains('$') {
                    bases.push(base);
                }
                if let [_, word, stage] = words[..]
                    && word.eq_ignore_ascii_case("as")
                {
                    stages.push(stage.to_ascii_lowercase());
                }
            }
            _ => (),
        }
    }
    bases
}

/// Returns true if the Dockerfile copies the program of chaosrun from its context, with `COPY program/... ...`.
pub(super) fn wants_program(text: &str) -> bool {
    instructions(text).iter().any(|words| {
        let copies = words.first().is_some_and(|word| word.eq_ignore_ascii_case("COPY"));
        copies && words[1..].iter().any(|word| word == "program" || word.trim_start_matches("./").starts_with("program/"))
    })
}

/// Splits the Dockerfile into instructions, each as a list of words. Continued lines are joined.
fn instructions(text: &str) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    let mut continued = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (line, more) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        let words = line.split_ascii_whitespace().map(str::to_owned);
        match found.last_mut().filter(|_| continued) {
            Some(last) => last.extend(words),
            None => found.push(words.collect()),
        }
        continued = more;
    }
    found
}

fn filled(text: &str, arguments: &HashMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, value) in arguments {
        text = text.replace(&format!("${{{name}}}"), value);
        if text.strip_prefix('$') == Some(name.as_str()) {
            text.clone_from(value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_images_of_all_stages_are_found() {
        let text = "# a comment\nARG TAG=bookworm-slim\nFROM --platform=linux/amd64 debian:${TAG} AS build\nRUN a \\\n  FROM b\n\
                    FROM build AS test\nFROM scratch\nfrom alpine:3 as last\nFROM debian:bookworm-slim\n";
        assert_eq!(bases(text), ["debian:bookworm-slim", "alpine:3"]);
        assert_eq!(bases("ARG BASE=x/y:1\nFROM $BASE\n"), ["x/y:1"]);
        assert_eq!(bases("FROM $UNKNOWN\n"), Vec::<String>::new());
    }

    #[test]
    fn program_is_needed_if_it_is_copied() {
        assert!(wants_program("FROM x\nCOPY program/server /usr/bin/x\n"));
        assert!(wants_program("FROM x\ncopy --chown=1:1 ./program/ /x/\n"));
        assert!(!wants_program("FROM x\n# COPY program/ /x\nCOPY programs/ /x\nRUN ls program/\n"));
    }
}
