//! Command `docker ps`: the table of containers.

use std::time::Duration;

use indexmap::IndexMap;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::flags::{CommandUsage, Flag, GivenFlags};
use super::http::{EngineClient, encoded};
use super::template::GoTemplate;
use super::{CommandFailure, CommandStreams};
use chaosrun_base::words::human;

const FLAGS: &[Flag] = &[
    (b'a', "all", false),
    (b'f', "filter", true),
    (0, "format", true),
    (b'n', "last", true),
    (b'l', "latest", false),
    (0, "no-trunc", false),
    (b'q', "quiet", false),
    (b's', "size", false),
];

const USAGE: CommandUsage = CommandUsage { name: "docker ps", line: "[OPTIONS]", flags: FLAGS, least: 0, stop: false };

/// Fields that a template of `docker ps` can use, each with its column heading.
const COLUMNS: [(&str, &str); 13] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("CreatedAt", "CREATED AT"),
    ("State", "STATE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("Size", "SIZE"),
];

/// Template of `docker ps` without `--format`.
const USUAL: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

/// Maximum printed length of a container's command, in characters.
const COMMAND: usize = 20;

pub(super) fn run(words: &[String], client: &EngineClient, streams: &mut CommandStreams<'_>) -> Result<u8, CommandFailure> {
    let given = USAGE.parse(words)?;
    let rows = client.json("GET", &format!("/containers/json?{}", query(&given)?), None)?;
    let whole = given.has("no-trunc");
    let rows: Vec<Value> = rows.as_array().into_iter().flatten().map(|row| fields(row, whole)).collect();
    if given.has("quiet") {
        for row in &rows {
            writeln!(streams.stdout, "{}", row["ID"].as_str().unwrap_or_default())?;
        }
        return Ok(0);
    }
    let format = match given.get("format") {
        None | Some("" | "table") => USUAL.to_owned(),
        Some("json") => "{{json .}}".to_owned(),
        Some(format) => format.replace("\\t", "\t").replace("\\n", "\n"),
    };
    let failed = |problem: String| CommandFailure::new(1, format!("failed to execute template: {problem}"));
    if let Some(columns) = format.strip_prefix("table ") {
        let template = GoTemplate::parse(columns).map_err(failed)?;
        let headings = Value::Object(COLUMNS.iter().map(|(field, heading)| ((*field).to_owned(), json!(heading))).collect());
        let mut lines = vec![template.render(&headings).map_err(failed)?];
        for row in &rows {
            lines.push(template.render(row).map_err(failed)?);
        }
        streams.stdout.write_all(aligned(&lines).as_bytes())?;
    } else {
        let template = GoTemplate::parse(&format).map_err(failed)?;
        for row in &rows {
            writeln!(streams.stdout, "{}", template.render(row).map_err(failed)?)?;
        }
    }
    Ok(0)
}

fn query(given: &GivenFlags) -> Result<String, CommandFailure> {
    let mut query = Vec::new();
    if given.has("all") {
        query.push("all=1".to_owned());
    }
    if let Some(last) = given.get("last") {
        let wrong =
            || CommandFailure::new(125, format!("invalid argument \"{last}\" for \"-n, --last\" flag: parsing \"{last}\": invalid syntax"));
        query.push(format!("limit={}", last.parse::<i64>().map_err(|_| wrong())?));
    } else if given.has("latest") {
        query.push("limit=1".to_owned());
    }
    let mut filters: IndexMap<&str, IndexMap<&str, bool>> = IndexMap::new();
    for filter in given.all("filter") {
        let wrong = || {
            CommandFailure::new(
                125,
                format!("invalid argument \"{filter}\" for \"-f, --filter\" flag: bad format of filter (expected name=value)"),
            )
        };
        let (name, value) = filter.split_once('=').ok_or_else(wrong)?;
        filters.entry(name.trim()).or_default().insert(value.trim(), true);
    }
    if !filters.is_empty() {
        query.push(format!("filters={}", encoded(&json!(filters).to_string())));
    }
    Ok(query.join("&"))
}

/// Converts a container in the engine's answer to the fields of a template. `whole` means that long values are not truncated.
fn fields(row: &Value, whole: bool) -> Value {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let id = text("Id");
    let command = text("Command");
    let short = if whole || command.chars().count() <= COMMAND {
        command.to_owned()
    } else {
        command.chars().take(COMMAND - 1).chain(['…']).collect()
    };
    let created = row["Created"].as_i64().and_then(|second| Timestamp::from_second(second).ok());
    let age = created.and_then(|created| Duration::try_from(Timestamp::now().duration_since(created)).ok()).unwrap_or_default();
    let names: Vec<&str> = row["Names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let networks: Vec<&str> = row["NetworkSettings"]["Networks"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    json!({
        "Command": format!("\"{short}\""),
        "CreatedAt": created.map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()),
        "ID": if whole { id } else { id.get(..12).unwrap_or(id) },
        "Image": text("Image"),
        "Labels": "",
        "Mounts": "",
        "Names": names.iter().map(|name| name.trim_start_matches('/')).collect::<Vec<_>>().join(","),
        "Networks": networks.join(","),
        "Ports": row["Ports"].as_array().into_iter().flatten().map(port).collect::<Vec<_>>().join(", "),
        "RunningFor": format!("{} ago", human(age)),
        "Size": "0B",
        "State": text("State"),
        "Status": text("Status"),
    })
}

fn port(port: &Value) -> String {
    let (private, kind) = (&port["PrivatePort"], port["Type"].as_str().unwrap_or("tcp"));
    match (port["IP"].as_str(), port["PublicPort"].as_u64()) {
        (Some(ip), Some(public)) => format!("{ip}:{public}->{private}/{kind}"),
        _ => format!("{private}/{kind}"),
    }
}

/// Aligns tab-separated cells as columns like Go's tabwriter. Columns are at least ten characters wide and three apart.
fn aligned(lines: &[String]) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (place, cell) in row.iter().enumerate() {
            let width = (cell.chars().count() + 3).max(10);
            match widths.get_mut(place) {
                Some(known) => *known = (*known).max(width),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for row in &rows {
        for (place, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if place + 1 < row.len() {
                out.extend(std::iter::repeat_n(' ', widths[place] - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_like_the_docker_cli() {
        let lines = ["PORTS\tNAMES".to_owned(), "\tprobe1".to_owned()];
        assert_eq!(aligned(&lines), "PORTS     NAMES\n          probe1\n");
    }

    #[test]
    fn long_commands_are_cut() {
        let row = json!({ "Id": "67a51a147dbe371f", "Command": "/bin/bash -c 'echo hi; echo err'", "Names": ["/probe1"], "Created": 0 });
        let row = fields(&row, false);
        assert_eq!(row["Command"], "\"/bin/bash -c 'echo …\"");
        assert_eq!((row["ID"].as_str(), row["Names"].as_str()), (Some("67a51a147dbe"), Some("probe1")));
        assert_eq!(row["CreatedAt"], "1970-01-01 00:00:00 +0000 UTC");
    }
}
