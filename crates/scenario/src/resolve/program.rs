//! Resolution of a variant whose agent is an external program.

use std::sync::Arc;

use indexmap::IndexMap;

use super::{Checker, provider};
use crate::model::{CommandSpec, PromptOn, Provider, ServedModels, Wire};
use crate::raw::{RawPromptOn, RawServed, RawVariant, RawWire};
use chaosrun_diagnostic::{Diagnostic, Pointer, SourceFile};
use chaosrun_expr::Scope;

/// Names of environment variables that chaosrun sets for the program. A variant must not set them.
const OURS: [&str; 13] = [
    "AGENT_FILES",
    "AGENT_PROMPT",
    "AGENT_MCP",
    "AGENT_TOOLS",
    "ANTHROPIC_BASE_URL",
    "OPENAI_BASE_URL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "DOCKER_HOST",
];

/// Returns the paths of the files that the program of a variant needs. Each path is paired with its pointer in the variant file.
pub fn brought(raw: &RawVariant) -> impl Iterator<Item = (Pointer, &str)> {
    raw.files.iter().map(|(name, file)| (Pointer::default().key("files").key(name.as_str()), file.as_str()))
}

/// Reports keys that are only valid for variants with an external program.
pub(super) fn no_program(check: &mut Checker, raw: &RawVariant) {
    let given = [
        ("command", raw.command.is_some()),
        ("prompt_on", raw.prompt_on.is_some()),
        ("env", !raw.env.is_empty()),
        ("files", !raw.files.is_empty()),
        ("models", !raw.models.is_empty()),
        ("endpoints", !raw.endpoints.is_empty()),
    ];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        let problem = Diagnostic::error("bad_variant", format!("`{key}` is only valid for programs")).label("not used by this provider");
        check.wrong_key(&Pointer::default().key(key), problem.help("for a program, use `provider: command`"));
    }
}

pub(super) fn program(check: &mut Checker, raw: &RawVariant, texts: &IndexMap<String, Arc<SourceFile>>) -> Provider {
    let root = Pointer::default();
    let command = raw.command.clone().unwrap_or_default();
    if command.first().is_none_or(String::is_empty) && !check.doc.lost("command") {
        let problem = Diagnostic::error("bad_variant", "`command` is missing").label("expected `command` in this file");
        check.wrong(&root.key("provider"), problem.help("for example `command: [python3, $AGENT_FILES/agent.py]`"));
    }
    for (at, word) in command.iter().enumerate().filter(|(_, word)| word.contains('\0')) {
        let problem = Diagnostic::error("bad_variant", format!("word {} of `command` contains a NUL byte", at + 1));
        check.wrong(&root.key("command").index(at), problem.label("not valid in an argument").help(format!("it is {word:?}")));
    }
    for (name, value) in &raw.env {
        let pointer = root.key("env").key(name.as_str());
        let word = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.as_bytes()[0].is_ascii_digit();
        if !word || value.0.contains('\0') {
            let problem = Diagnostic::error("bad_name", format!("`{name}` cannot name a variable of an environment"));
            check.wrong_key(&pointer, problem.label("expected letters, digits and `_`"));
        } else if OURS.contains(&name.as_str()) {
            let problem = Diagnostic::error("bad_variant", format!("`{name}` is set by the trial"));
            check.wrong_key(&pointer, problem.label("expected another name").help("the trial uses it to connect the agent"));
        }
    }
    for name in raw.files.keys() {
        let plain = |part: &str| {
            !part.is_empty() && part != "." && part != ".." && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if !name.split('/').all(plain) {
            let problem = Diagnostic::error("bad_name", format!("`{name}` cannot name a file below the agent's folder"));
            let problem = problem.label("expected letters, digits, `.`, `_` and `-`, with `/` between folders");
            check.wrong_key(&root.key("files").key(name.as_str()), problem);
        }
    }
    let models = raw.models.iter().enumerate().map(|(at, raw)| served(check, &root.key("models").index(at), raw)).collect();
    let mut endpoints: Vec<String> = Vec::new();
    for (at, given) in raw.endpoints.iter().enumerate() {
        let endpoint = given.to_ascii_lowercase();
        let pointer = root.key("endpoints").index(at);
        if !is_endpoint(&endpoint) {
            let problem = Diagnostic::error("bad_endpoint", format!("`{given}` is not a valid address"));
            check.wrong(&pointer, problem.label("expected `HOST:PORT`, such as `pypi.org:443`"));
        } else if endpoints.contains(&endpoint) {
            let problem = Diagnostic::error("duplicate_name", format!("`{given}` is listed twice"));
            check.wrong(&pointer, problem.label("already named above"));
        }
        endpoints.push(endpoint);
    }
    let files = raw.files.iter().filter_map(|(name, file)| Some((name.clone(), Arc::clone(texts.get(file)?)))).collect();
    let tools = provider::tools(check, raw);
    let [system, prompt] = provider::both(raw).map(|(_, name)| provider::template(check, texts.get(name)?, Scope::Prompt));
    let (Some(system), Some(prompt)) = (system, prompt) else {
        // A missing or invalid template is already reported.
        return Provider::Noop;
    };
    Provider::Command(Box::new(CommandSpec {
        command,
        prompt_on: if raw.prompt_on == Some(RawPromptOn::File) { PromptOn::File } else { PromptOn::Stdin },
        env: raw.env.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect(),
        files,
        models,
        endpoints,
        tools,
        system,
        prompt,
        cassettes: None,
    }))
}

fn served(check: &mut Checker, pointer: &Pointer, raw: &RawServed) -> ServedModels {
    let wire = match raw.provider {
        RawWire::Anthropic => Wire::Anthropic,
        RawWire::Openai => Wire::Openai,
    };
    if raw.names.is_empty() {
        let problem = Diagnostic::error("bad_variant", "the list of names is empty").label("expected at least one model name");
        check.wrong(&pointer.key("names"), problem);
    }
    check.no_duplicates(&pointer.key("names"), &raw.names);
    ServedModels {
        wire,
        names: raw.names.clone(),
        base_url: provider::server(check, pointer, raw.base_url.as_deref(), wire),
        key: provider::key(check, &pointer.key("key"), raw.key.as_ref(), raw.base_url.is_some(), wire),
        price: raw.price.as_ref().map(|raw| provider::price(check, &pointer.key("price"), raw)),
    }
}

/// Returns true if the text is a network destination such as `host:443`, `127.0.0.1:80` or `[::1]:80`.
fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    good && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_with_ports() {
        for good in ["pypi.org:443", "127.0.0.1:80", "[::1]:8080", "db_1:1"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in ["pypi.org", "https://pypi.org:443", ":443", "a:0", "a:70000", "*:443", "a b:1", "::1:80", "[x]:80"] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
