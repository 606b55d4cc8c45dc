//! What the kernel can do for faults: tried in a container where it needs rights, read otherwise.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::chaos::catalogue::Feature;
use crate::cluster::docker::engine::Engine;
use crate::cluster::docker::error::EngineError;
use crate::cluster::docker::once;

/// What proves a feature, or why it is not there.
pub type Found = BTreeMap<Feature, Result<String, String>>;

/// Tries what changes the network of a container of its own. A line each: name, `ok` or what was said.
const SCRIPT: &str = r#"
try() {
    name=$1; shift
    if said=$("$@" 2>&1); then echo "$name ok"; else echo "$name $(echo "$said" | head -n 1)"; fi
}
try nftables nft 'add table inet probe; add set inet probe s { type ipv4_addr; flags timeout; }; add chain inet probe c { type filter hook input priority 0; }; add rule inet probe c ip saddr @s counter drop'
# Binds a queue, as the one who decides on packets does (linux/netfilter/nfnetlink_queue.h): only then the kernel loads
# its module, and only then it is known to work.
bind='socket(QUEUE, 16, 3, 12) and send(QUEUE, pack("LSSLLCCnSSCCn", 28, 0x302, 5, 0, 0, 0, 0, 1, 8, 1, 1, 0, 0), 0)
    and defined recv(QUEUE, $told, 512, 0) and !($! = -unpack("x16l", $told)) or die "the packet queue: $!\n"'
queue() { perl -e "$bind" && iptables -A OUTPUT -d 192.0.2.1 -j NFQUEUE --queue-num 1 --queue-bypass; }
try nfqueue queue
try netem tc qdisc add dev lo root netem delay 1ms
tc qdisc del dev lo root 2>/dev/null
try tbf tc qdisc add dev lo root tbf rate 1mbit burst 32kbit latency 100ms
"#;

/// The features of networks, tried in a container of `image`, which has the tools.
///
/// # Errors
/// When no container can be made.
pub async fn tried(engine: &Engine, image: &str) -> Result<Found, EngineError> {
    Ok(parse(&once::run(engine, image, SCRIPT).await?))
}

fn parse(output: &str) -> Found {
    let mut found = Found::new();
    for line in output.lines() {
        let (name, said) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let Some(feature) = Feature::ALL.into_iter().find(|feature| feature.name() == name) else { continue };
        let result = match said.trim() {
            "ok" => Ok("tried in a container".to_owned()),
            "" => Err("it failed without a word".to_owned()),
            said => Err(said.trim_start_matches("Error: ").trim_end_matches('.').to_owned()),
        };
        found.insert(feature, result);
    }
    found
}

/// The same by what this machine's kernel says it has. A module that is not loaded yet counts: the kernel loads it.
#[must_use]
pub fn read() -> Found {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let home = Path::new("/lib/modules").join(release.trim());
    let known: String =
        ["modules.builtin", "modules.dep"].iter().map(|name| fs::read_to_string(home.join(name)).unwrap_or_default()).collect();
    let modules =
        [(Feature::Nftables, "nf_tables"), (Feature::Nfqueue, "nfnetlink_queue"), (Feature::Netem, "sch_netem"), (Feature::Tbf, "sch_tbf")];
    modules.into_iter().map(|(feature, module)| (feature, by_module(module, &known))).collect()
}

fn by_module(module: &str, known: &str) -> Result<String, String> {
    if Path::new("/sys/module").join(module).exists() {
        Ok(format!("module {module} is loaded, not tried"))
    } else if known.contains(&format!("/{module}.ko")) {
        Ok(format!("module {module} is there, not tried"))
    } else {
        Err(format!("no module {module} to be seen, not tried"))
    }
}

/// Features that need no network, of this machine's kernel.
pub async fn here() -> Found {
    let there = |path: &str, why: &str| {
        if Path::new(path).exists() { Ok(format!("{path} is there")) } else { Err(why.to_owned()) }
    };
    let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let fuse =
        if systems.split_ascii_whitespace().any(|word| word == "fuse") { mountable() } else { Err("not in /proc/filesystems".to_owned()) };
    Found::from([
        (Feature::Fuse, fuse),
        (Feature::Loop, there("/dev/loop-control", "no /dev/loop-control")),
        (Feature::Pressure, there("/proc/pressure/io", "no /proc/pressure")),
        (Feature::UserNamespaces, namespaces().await),
    ])
}

/// Whether a program may make a file system: by the device and by who may mount, not by a mount.
fn mountable() -> Result<String, String> {
    fs::File::options().read(true).write(true).open("/dev/fuse").map_err(|error| format!("/dev/fuse: {error}"))?;
    let helper = || env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join("fusermount3").is_file());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if may_mount(&status, "CapEff:") || (helper() && may_mount(&status, "CapBnd:")) {
        Ok("/dev/fuse opens, no mount tried".to_owned())
    } else if helper() || nix::unistd::geteuid().is_root() {
        Err("mounts are not allowed here (CAP_SYS_ADMIN)".to_owned())
    } else {
        Err("neither root nor fusermount3 to mount with".to_owned())
    }
}

/// Whether the processes of this set of capabilities may mount: a container's root mostly may not.
fn may_mount(status: &str, set: &str) -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    let bits = status.lines().find_map(|line| line.strip_prefix(set)).and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits & SYS_ADMIN != 0)
}

/// A sandbox as an agent would get it; by the limit alone where the program for it is missing.
async fn namespaces() -> Result<String, String> {
    let mut command = tokio::process::Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "true"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let Ok(child) = command.spawn() else {
        let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
        return match limit.trim() {
            "" | "0" => Err("none are allowed".into()),
            _ => Ok("allowed, not tried".into()),
        };
    };
    match tokio::time::timeout(Duration::from_secs(5), child.wait_with_output()).await {
        Ok(Ok(output)) if output.status.success() => Ok("tried with bwrap".into()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().next().unwrap_or("bwrap failed without a word").trim_start_matches("bwrap: ").to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("bwrap gave no answer in 5 s".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_says_is_understood() {
        let found = parse("nftables ok\nnetem Error: Specified qdisc kind is unknown.\ntbf \nelse ok\n");
        assert_eq!(found[&Feature::Nftables], Ok("tried in a container".into()));
        assert_eq!(found[&Feature::Netem], Err("Specified qdisc kind is unknown".into()));
        assert_eq!(found[&Feature::Tbf], Err("it failed without a word".into()));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn the_root_of_a_container_may_not_mount() {
        let status = "CapEff:\t00000000a80425fb\nCapBnd:\t000001ffffffffff\n";
        assert_eq!([may_mount(status, "CapEff:"), may_mount(status, "CapBnd:"), may_mount("", "CapEff:")], [false, true, false]);
    }
}
