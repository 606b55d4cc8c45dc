//! Commands of database clients. Connection options are removed, so that the verb comes first. Commands that a client reads from standard
//! input are included.

use super::base;
use super::fed::Fed;

/// Maximum number of commands that are taken from one standard input.
const MOST: usize = 200;

/// Connection options of a client, which precede the verb: address and credentials.
struct Connection {
    valued: &'static [&'static str],
    alone: &'static [&'static str],
}

fn connection(program: &str) -> Option<Connection> {
    let (valued, alone): (&[&str], &[&str]) = match program {
        "redis-cli" | "valkey-cli" => (
            &[
                "-h",
                "-p",
                "-t",
                "-s",
                "-a",
                "-u",
                "-r",
                "-i",
                "-n",
                "-d",
                "-D",
                "-X",
                "--user",
                "--pass",
                "--sni",
                "--cacert",
                "--cacertdir",
                "--cert",
                "--key",
                "--tls-ciphers",
                "--show-pushes",
            ],
            &[
                "-c",
                "-e",
                "-2",
                "-3",
                "-4",
                "-6",
                "--raw",
                "--no-raw",
                "--csv",
                "--json",
                "--tls",
                "--insecure",
                "--no-auth-warning",
                "--verbose",
            ],
        ),
        "etcdctl" => (
            &[
                "--endpoints",
                "--user",
                "--password",
                "--cacert",
                "--cert",
                "--key",
                "--dial-timeout",
                "--command-timeout",
                "--keepalive-time",
                "--keepalive-timeout",
                "--discovery-srv",
                "-w",
                "--write-out",
            ],
            &["--debug", "--hex", "--insecure-skip-tls-verify", "--insecure-transport"],
        ),
        "pd-ctl" => (&["-u", "--pd", "--cacert", "--cert", "--key"], &["-d", "--detach", "-i", "--interact"]),
        "tikv-ctl" => (
            &["--host", "--pd", "--data-dir", "--db", "--config", "--ca-path", "--cert-path", "--key-path", "--log-level"],
            &["--skip-paranoid-checks"],
        ),
        "kubectl" => (
            &["-n", "--namespace", "--context", "--kubeconfig", "--cluster", "--user", "-s", "--server", "--token", "--as", "-v"],
            &["--insecure-skip-tls-verify"],
        ),
        _ => return None,
    };
    Some(Connection { valued, alone })
}

/// Removes the connection options of a client: `redis-cli -h redis -p 6379 set info 1` becomes `redis-cli set info 1`.
pub(super) fn without_connection(mut words: Vec<String>) -> Vec<String> {
    let Some(connection) = words.first().and_then(|program| connection(base(program))) else { return words };
    let mut kept = vec![words.remove(0)];
    let mut words = words.into_iter().peekable();
    while let Some(option) = words.next_if(|word| word.starts_with('-') && word.len() > 1) {
        let name = option.split_once('=').map_or(option.as_str(), |(name, _)| name);
        if connection.valued.contains(&name) {
            if name.len() == option.len() {
                words.next();
            }
        } else if !connection.alone.contains(&option.as_str()) {
            kept.push(option);
        }
    }
    kept.extend(words);
    kept
}

/// Splits the standard input of a client without a verb into one command per line. For `psql` and programs that send text to a port, the
/// whole input is appended to the command.
pub(super) fn with_input(words: Vec<String>, input: &Fed) -> Vec<Vec<String>> {
    let Some(program) = words.first().map(String::as_str) else { return vec![words] };
    let by_line = matches!(program, "redis-cli" | "valkey-cli" | "pd-ctl") && words.len() == 1;
    let as_words = matches!(program, "psql" | "nc" | "ncat" | "telnet" | "socat");
    match input {
        Fed::Text(text) if by_line => {
            let lines = text.lines().filter(|line| !line.trim().is_empty()).take(MOST);
            let told: Vec<Vec<String>> = lines.map(|line| with(&words, line)).collect();
            if told.is_empty() { vec![words] } else { told }
        }
        Fed::Text(text) if as_words => vec![with(&words, text)],
        // Unknown commands cannot count as read-only.
        Fed::Unknown if by_line => vec![with(&words, "-")],
        _ => vec![words],
    }
}

fn with(words: &[String], line: &str) -> Vec<String> {
    words.iter().cloned().chain(line.split_whitespace().map(str::to_owned)).collect()
}
