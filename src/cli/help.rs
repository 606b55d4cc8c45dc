//! Help of the command line: groups of subcommands, and a table of exit codes.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use super::Cli;
use crate::exit::Exit;

/// Names of the groups and their subcommands. The groups are in the order in which users need them.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Start", &["demo", "init", "run", "show", "view"]),
    ("Write", &["check", "plan", "schema"]),
    ("Judge", &["compare", "gate", "golden", "rescore", "judge"]),
    ("Data", &["list", "export", "replay", "merge", "worker"]),
    ("Machine", &["doctor", "cluster"]),
    ("Operate", &["ops"]),
];

/// Returns the definition of the whole command line, including its help.
#[must_use]
pub fn command() -> Command {
    let command = Cli::command();
    let groups = groups(&command);
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n       chaosrun SCENARIO.yaml (the same as `run`)\n\n{groups}Options:\n{{options}}\n\n{}",
        exits()
    );
    // The package's own description is one column too wide.
    let about = "Tests whether an AI agent can be trusted with a cluster that breaks";
    command.about(about).help_template(template).override_usage("chaosrun <COMMAND> [OPTIONS]")
}

fn groups(command: &Command) -> String {
    let mut text = String::new();
    for (group, names) in GROUPS {
        let members: Vec<&Command> =
            names.iter().filter_map(|name| command.find_subcommand(name)).filter(|one| !one.is_hide_set()).collect();
        if members.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{group}:");
        for member in members {
            let about = member.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:<9}{about}", member.get_name());
        }
        text.push('\n');
    }
    text
}

fn exits() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "  {:>3}  {}", exit.code(), exit.meaning());
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_command_and_every_exit_code_in_80_columns() {
        let mut command = command();
        let help = command.render_help().to_string();
        for one in Cli::command().get_subcommands().filter(|one| !one.is_hide_set()) {
            let known = GROUPS.iter().any(|(_, names)| names.contains(&one.get_name()));
            assert!(known, "`{}` is in no group", one.get_name());
            assert!(help.contains(&format!("\n  {:<9}", one.get_name())), "{help}");
        }
        for exit in Exit::ALL {
            assert!(help.contains(&format!("{:>3}  {}", exit.code(), exit.meaning())), "{help}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
}
