//! Flags of the server.

use std::path::PathBuf;

/// Flags of `chaosrun node model`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What it answers.
    #[arg(value_name = "SCRIPT")]
    pub script: PathBuf,
    /// Where to listen, `host:port`; with port 0 where there is room. The first line printed is the address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = parse_address)]
    pub listen: String,
    /// Append a line of JSON for every request to this file, keys blanked.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
}

fn parse_address(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("`{text}` has no port, expected `host:port`"))?;
    if host.is_empty() {
        return Err(format!("`{text}` has no host, expected `host:port`"));
    }
    port.parse::<u16>().map_err(|_| format!("`{port}` is not a port"))?;
    Ok(text.to_owned())
}
