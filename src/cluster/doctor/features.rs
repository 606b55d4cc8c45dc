//! What the kernel can do for faults: tried in a container where it needs rights, read otherwise.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::chaos::catalogue::Feature;
use crate::cluster::docker::engine::{Engine, Facts};
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
    let modules = [(Feature::Nftables, "nf_tables"), (Feature::Nfqueue, "nfnetlink_queue")];
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
    let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let fuse =
        if systems.split_ascii_whitespace().any(|word| word == "fuse") { mountable() } else { Err("not in /proc/filesystems".to_owned()) };
    Found::from([(Feature::Fuse, fuse), (Feature::UserNamespaces, namespaces().await)])
}

/// Whether containers of the engine can be given what a program of this machine makes a file system of; `fuse` is what is known of
/// such file systems here.
///
/// # Errors
/// Why not, and what to do about it.
pub fn shared(engine: Option<&Facts>, fuse: Option<&Result<String, String>>) -> Result<String, String> {
    shared_by(nix::unistd::geteuid().is_root(), engine, fuse)
}

fn shared_by(root: bool, engine: Option<&Facts>, fuse: Option<&Result<String, String>>) -> Result<String, String> {
    match (fuse, engine) {
        (Some(Err(why)), _) => Err(why.clone()),
        (None, _) => Err("nothing is known of fuse here".to_owned()),
        (_, None) => Err("no engine".to_owned()),
        _ if !root => Err("what users of containers write can be theirs only when root runs the layer: run as root".to_owned()),
        (_, Some(facts)) if !facts.local => {
            Err(format!("the engine at {} is not on this machine: name one that is in DOCKER_HOST", facts.address))
        }
        (_, Some(facts)) if !facts.mounts => {
            Err("the engine has mounts of its own: run on its machine itself, and not in a container".to_owned())
        }
        _ => Ok("the engine's containers have the mounts of this machine".to_owned()),
    }
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
        let found = parse("nftables ok\nnfqueue Error: the packet queue: No such file or directory.\nfuse \nelse ok\n");
        assert_eq!(found[&Feature::Nftables], Ok("tried in a container".into()));
        assert_eq!(found[&Feature::Nfqueue], Err("the packet queue: No such file or directory".into()));
        assert_eq!(found[&Feature::Fuse], Err("it failed without a word".into()));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn who_cannot_share_a_file_system_is_told_what_to_do() {
        let fuse = Ok(String::new());
        let facts = |local, mounts| Facts { local, mounts, address: "tcp://far:2375".into(), ..Facts::default() };
        let here = facts(true, true);
        assert!(shared_by(true, Some(&here), Some(&fuse)).is_ok());
        let far = facts(false, false);
        let walled = facts(true, false);
        let refused = [
            (shared_by(true, Some(&far), Some(&fuse)), "the engine at tcp://far:2375 is not on this machine: name one that is"),
            (shared_by(true, Some(&walled), Some(&fuse)), "run on its machine itself"),
            (shared_by(false, Some(&here), Some(&fuse)), "run as root"),
            (shared_by(true, None, Some(&fuse)), "no engine"),
            (shared_by(true, Some(&here), Some(&Err("no /dev/fuse".into()))), "no /dev/fuse"),
        ];
        for (found, part) in refused {
            assert!(found.as_ref().is_err_and(|why| why.contains(part)), "{part}: {found:?}");
        }
    }

    #[test]
    fn the_root_of_a_container_may_not_mount() {
        let status = "CapEff:\t00000000a80425fb\nCapBnd:\t000001ffffffffff\n";
        assert_eq!([may_mount(status, "CapEff:"), may_mount(status, "CapBnd:"), may_mount("", "CapEff:")], [false, true, false]);
    }
}
