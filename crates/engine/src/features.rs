//! Kernel features that faults need. Features that require privileges are tested in a container. Other features are read from the system.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use chaosrun_backend_docker::engine::{Engine, EngineFacts};
use chaosrun_backend_docker::error::EngineError;
use chaosrun_backend_docker::once;
use chaosrun_fault::Feature;

/// Proof of each feature, or the reason why the feature is missing.
pub type FeatureProof = BTreeMap<Feature, Result<String, String>>;

/// Shell script that tries all changes to the network of a container. The script prints one line per feature: the name, then `ok` or the
/// error message.
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

/// Tests the network features in a container of `image`. The image must contain the required tools.
///
/// # Errors
/// Returns an error if no container can be created.
pub async fn tried(engine: &Engine, image: &str) -> Result<FeatureProof, EngineError> {
    Ok(parse(&once::run(engine, image, SCRIPT).await?))
}

fn parse(output: &str) -> FeatureProof {
    let mut found = FeatureProof::new();
    for line in output.lines() {
        let (name, said) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let Some(feature) = Feature::ALL.into_iter().find(|feature| feature.name() == name) else { continue };
        let result = match said.trim() {
            "ok" => Ok("tested in a container".to_owned()),
            "" => Err("it failed without a message".to_owned()),
            said => Err(said.trim_start_matches("Error: ").trim_end_matches('.').to_owned()),
        };
        found.insert(feature, result);
    }
    found
}

/// Reads the network features from the information of the kernel about itself. A module that is not loaded counts as present, because the
/// kernel loads modules on demand.
#[must_use]
pub fn read() -> FeatureProof {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let home = Path::new("/lib/modules").join(release.trim());
    let known: String =
        ["modules.builtin", "modules.dep"].iter().map(|name| fs::read_to_string(home.join(name)).unwrap_or_default()).collect();
    let modules = [(Feature::Nftables, "nf_tables"), (Feature::Nfqueue, "nfnetlink_queue")];
    modules.into_iter().map(|(feature, module)| (feature, by_module(module, &known))).collect()
}

fn by_module(module: &str, known: &str) -> Result<String, String> {
    if Path::new("/sys/module").join(module).exists() {
        Ok(format!("module {module} is loaded, not tested"))
    } else if known.contains(&format!("/{module}.ko")) {
        Ok(format!("module {module} exists, not tested"))
    } else {
        Err(format!("module {module} not found, not tested"))
    }
}

/// Tests the kernel features of this machine that do not concern the network.
pub async fn here() -> FeatureProof {
    let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let fuse =
        if systems.split_ascii_whitespace().any(|word| word == "fuse") { mountable() } else { Err("not in /proc/filesystems".to_owned()) };
    FeatureProof::from([(Feature::Fuse, fuse), (Feature::UserNamespaces, namespaces().await)])
}

/// Checks that FUSE file systems of this machine can be mounted into containers of the engine. `fuse` is the result of [`Feature::Fuse`] on
/// this machine.
///
/// # Errors
/// Returns the reason why such mounts are impossible, and the remedy.
pub fn shared(engine: Option<&EngineFacts>, fuse: Option<&Result<String, String>>) -> Result<String, String> {
    shared_by(nix::unistd::geteuid().is_root(), engine, fuse)
}

fn shared_by(root: bool, engine: Option<&EngineFacts>, fuse: Option<&Result<String, String>>) -> Result<String, String> {
    match (fuse, engine) {
        (Some(Err(why)), _) => Err(why.clone()),
        (None, _) => Err("FUSE support is unknown".to_owned()),
        (_, None) => Err("no engine".to_owned()),
        _ if !root => Err("file ownership in containers needs root: run chaosrun as root".to_owned()),
        (_, Some(facts)) if !facts.local => {
            Err(format!("the engine at {} is not on this machine: set DOCKER_HOST to a local engine", facts.address))
        }
        (_, Some(facts)) if !facts.mounts => {
            Err("the engine does not share the mounts of this machine: run chaosrun on the machine of the engine, not in a container"
                .to_owned())
        }
        _ => Ok("containers of the engine share the mounts of this machine".to_owned()),
    }
}

/// Checks that this program may mount a FUSE file system. Checks the device and the permission, without a mount.
fn mountable() -> Result<String, String> {
    fs::File::options().read(true).write(true).open("/dev/fuse").map_err(|error| format!("/dev/fuse: {error}"))?;
    let helper = || env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join("fusermount3").is_file());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if may_mount(&status, "CapEff:") || (helper() && may_mount(&status, "CapBnd:")) {
        Ok("/dev/fuse can be opened, mounting was not tested".to_owned())
    } else if helper() || nix::unistd::geteuid().is_root() {
        Err("mounts are not allowed here (CAP_SYS_ADMIN)".to_owned())
    } else {
        Err("mounting needs root or fusermount3".to_owned())
    }
}

/// Returns true if processes with the capability set `set` may mount file systems. `status` is the content of `/proc/PID/status`. Root in a
/// container usually may not mount.
fn may_mount(status: &str, set: &str) -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    let bits = status.lines().find_map(|line| line.strip_prefix(set)).and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits & SYS_ADMIN != 0)
}

/// Tests if a sandbox like the sandbox of an agent can be created. If the sandbox program is missing, checks only the kernel limit of user
/// namespaces.
async fn namespaces() -> Result<String, String> {
    let mut command = tokio::process::Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "true"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let Ok(child) = command.spawn() else {
        let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
        return match limit.trim() {
            "" | "0" => Err("not allowed".into()),
            _ => Ok("allowed, not tested".into()),
        };
    };
    match tokio::time::timeout(Duration::from_secs(5), child.wait_with_output()).await {
        Ok(Ok(output)) if output.status.success() => Ok("tested with bwrap".into()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().next().unwrap_or("bwrap failed without a message").trim_start_matches("bwrap: ").to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("bwrap did not answer within 5 s".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_output_is_parsed() {
        let found = parse("nftables ok\nnfqueue Error: the packet queue: No such file or directory.\nfuse \nelse ok\n");
        assert_eq!(found[&Feature::Nftables], Ok("tested in a container".into()));
        assert_eq!(found[&Feature::Nfqueue], Err("the packet queue: No such file or directory".into()));
        assert_eq!(found[&Feature::Fuse], Err("it failed without a message".into()));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn unshareable_file_system_gives_help() {
        let fuse = Ok(String::new());
        let facts = |local, mounts| EngineFacts { local, mounts, address: "tcp://far:2375".into(), ..EngineFacts::default() };
        let here = facts(true, true);
        assert!(shared_by(true, Some(&here), Some(&fuse)).is_ok());
        let far = facts(false, false);
        let walled = facts(true, false);
        let refused = [
            (shared_by(true, Some(&far), Some(&fuse)), "the engine at tcp://far:2375 is not on this machine: set DOCKER_HOST"),
            (shared_by(true, Some(&walled), Some(&fuse)), "run chaosrun on the machine of the engine"),
            (shared_by(false, Some(&here), Some(&fuse)), "run as root"),
            (shared_by(true, None, Some(&fuse)), "no engine"),
            (shared_by(true, Some(&here), Some(&Err("no /dev/fuse".into()))), "no /dev/fuse"),
        ];
        for (found, part) in refused {
            assert!(found.as_ref().is_err_and(|why| why.contains(part)), "{part}: {found:?}");
        }
    }

    #[test]
    fn root_in_a_container_may_not_mount() {
        let status = "CapEff:\t00000000a80425fb\nCapBnd:\t000001ffffffffff\n";
        assert_eq!([may_mount(status, "CapEff:"), may_mount(status, "CapBnd:"), may_mount("", "CapEff:")], [false, true, false]);
    }
}
