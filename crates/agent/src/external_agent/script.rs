//! Shell script that starts the agent's program: environment, prompt and command.

use std::fmt::Write as _;

use serde_json::json;

use crate::endpoint::Served;
use chaosrun_cluster::{Topology, Workspace};
use chaosrun_scenario::model::{CommandSpec, PromptOn, Wire};

/// Placeholder for an API key, since model clients require a key. The endpoint outside the sandbox adds the real key.
const NO_KEY: &str = "unused";

/// Directory of the files that chaosrun provides to an external agent, in the agent's home directory.
const FOLDER: &str = "$HOME/.agent";

pub(super) fn write(spec: &CommandSpec, workspace: &Workspace, served: &Served, topology: &Topology, prompt: &str) -> String {
    let files = workspace.files.to_string_lossy();
    let mut text = format!("umask 077\nmkdir -p \"{FOLDER}\" || exit 126\n");
    let (own, tools) = (workspace.program.to_string_lossy(), served.tools().to_string());
    let mcp = json!({ "mcpServers": { "tools": { "command": own, "args": ["node", "tools", "--at", tools] } } });
    // The same server as an executable, for clients with another configuration format.
    let server = format!("#!/bin/sh\nexec {} node tools --at {tools}", quoted(&own));
    for (name, content) in [("prompt.md", prompt), ("mcp.json", &mcp.to_string()), ("tools", &server)] {
        let _ = writeln!(text, "printf '%s\\n' {} >\"{FOLDER}/{name}\" || exit 126", quoted(content));
    }
    let _ = writeln!(
        text,
        "chmod 700 \"{FOLDER}/tools\" || exit 126\numask 022\nexport AGENT_FILES={} AGENT_PROMPT=\"{FOLDER}/prompt.md\" \
         AGENT_MCP=\"{FOLDER}/mcp.json\" AGENT_TOOLS=\"{FOLDER}/tools\"",
        quoted(&files)
    );
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| env.push((name.to_owned(), value));
    if served.serves(Wire::Anthropic) {
        set("ANTHROPIC_BASE_URL", format!("http://{}", served.models()));
        set("ANTHROPIC_API_KEY", NO_KEY.into());
    }
    if served.serves(Wire::Openai) {
        set("OPENAI_BASE_URL", format!("http://{}/v1", served.models()));
        set("OPENAI_API_KEY", NO_KEY.into());
    }
    let proxy = format!("http://{}", served.proxy());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        set(name, proxy.clone());
    }
    for name in ["NO_PROXY", "no_proxy"] {
        set(name, near(topology));
    }
    for (name, value) in &spec.env {
        set(name, value.clone());
    }
    for (name, value) in env {
        let _ = writeln!(text, "export {name}={}", quoted(&value));
    }
    let input = match spec.prompt_on {
        PromptOn::Stdin => "\"$AGENT_PROMPT\"",
        PromptOn::File => "/dev/null",
    };
    let words: Vec<String> = spec.command.iter().map(|given| word(given)).collect();
    let _ = writeln!(text, "exec -- {} <{input}", words.join(" "));
    text
}

/// Returns the hosts that the agent reaches without a proxy: the nodes of the system and the services of the sandbox.
fn near(topology: &Topology) -> String {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    for node in &topology.nodes {
        names.push(node.name.clone());
        names.extend(node.ports.values().map(|port| port.advertised.ip().to_string()));
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names.join(",")
}

/// Variables for file and endpoint locations, which are expanded in the words of an agent's command line.
const REPLACED: [&str; 6] = ["$AGENT_FILES", "$AGENT_PROMPT", "$AGENT_MCP", "$AGENT_TOOLS", "$ANTHROPIC_BASE_URL", "$OPENAI_BASE_URL"];

/// Returns a shell-quoted word of the command line, in which only the variables in `REPLACED` are expanded.
fn word(given: &str) -> String {
    REPLACED.iter().fold(quoted(given), |word, name| word.replace(name, &format!("'\"{name}\"'")))
}

/// Quotes a word so that a shell takes it literally.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\0', "").replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_and_paths_expanded() {
        let plain = "it's $HOME `id` \\ \n\"x\"";
        let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(plain))]).output().expect("a shell");
        assert_eq!(String::from_utf8_lossy(&said.stdout), plain);
        let script = format!("AGENT_FILES='/a b'; printf %s {}", super::word("x=$AGENT_FILES/it's $HOME"));
        let said = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
        assert_eq!(String::from_utf8_lossy(&said.stdout), "x=/a b/it's $HOME");
    }
}
