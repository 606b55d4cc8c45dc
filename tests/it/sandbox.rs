//! Tests of an agent's sandbox on the `local` backend: the reachable files, processes and networks, and all known ways of escape.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use chaosrun_agent::{AgentReport, CommandRecord};
use chaosrun_backend_local::relay::ConnectionSource;
use chaosrun_cluster::Cluster;
use chaosrun_event::EventKind;
use nix::sys::signal::Signal;

use super::agent::Rig;
use super::faults_of_ours::until;
use super::require;
use super::trials::patient;

fn bwrap() -> bool {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(require::sandbox())
}

const SECRET: &str = "what-nobody-may-read";

fn said(record: &CommandRecord) -> String {
    format!("{}{}", record.stdout.text, record.stderr.text)
}

/// Asserts that every command of the agent failed, and that no command printed the secret.
#[track_caller]
fn all_fail(report: &AgentReport) {
    for record in &report.commands {
        assert_ne!(record.exit_code, 0, "{}: {}", record.command, said(record));
        assert!(!record.timed_out && !said(record).contains(SECRET), "{}: {}", record.command, said(record));
    }
}

#[tokio::test]
async fn only_the_nodes_can_be_reached() {
    if !require::sandbox().await {
        return;
    }
    let rig = Rig::walled(&["db1", "db2"]).await;
    let port = rig.cluster.topology().node("db1").unwrap().ports["client"];
    // Server in place of a node.
    let node = TcpListener::bind(port.listen).unwrap();
    let cluster = std::sync::Arc::clone(&rig.cluster);
    let served = tokio::task::spawn_blocking(move || {
        let (mut client, _) = node.accept().unwrap();
        let mut line = String::new();
        BufReader::new(client.try_clone().unwrap()).read_line(&mut line).unwrap();
        let named = cluster.relay().unwrap().connections();
        client.write_all(format!("heard {line}").as_bytes()).unwrap();
        named
    });
    let (advertised, listen) = (port.advertised, port.listen);
    let dial = |address: std::net::SocketAddr| format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port());
    let talk = format!("{}; echo hello >&3; cat <&3", dial(advertised));
    let report = rig.commands(&[&talk, "docker ps -q | wc -l; docker exec db2 sh -c 'echo $NAME'", "id -u; echo $HOME; ls -A /"]).await;
    assert_eq!(report.commands[0].stdout.text, "heard hello\n", "{report:?}");
    let named = served.await.unwrap();
    assert_eq!(
        named.keys().map(|(source, node, _)| (source.clone(), node.as_str())).collect::<Vec<_>>(),
        [(ConnectionSource::Agent, "db1")]
    );
    assert_eq!(report.commands[1].stdout.text, "2\ndb2\n", "{report:?}");
    let (inside, own) = (&report.commands[2].stdout.text, nix::unistd::geteuid());
    assert!(
        !inside.starts_with("0\n") && inside.contains("/work\n") && !inside.contains("root\n") && !inside.contains("home\n"),
        "{inside}"
    );
    assert!(own.is_root() || inside.starts_with(&format!("{own}\n")), "{inside}");

    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let dials = [
        dial(host.local_addr().unwrap()),
        dial(everywhere.local_addr().unwrap()),
        dial(listen),
        dial("1.1.1.1:53".parse().unwrap()),
        dial("192.0.2.1:80".parse().unwrap()),
        // A node that does not listen cannot be reached either, although it belongs to the trial.
        format!("{}; head -c 1 <&3 | grep -q .", dial(rig.cluster.topology().node("db2").unwrap().ports["client"].advertised)),
        "curl -sS -m 5 http://example.com".to_owned(),
        "echo x | timeout 5 docker -H tcp://127.0.0.1:2375 ps".to_owned(),
    ];
    let dials = dials.map(|dial| format!("({dial}) && echo {SECRET}"));
    all_fail(&rig.commands(&dials.each_ref().map(String::as_str)).await);
    rig.end().await;
}

/// Python program that makes a 32-bit system call: `push rbx; mov eax, 310; mov ebx, 0x10000000; int 0x80; pop rbx; ret`.
const OLD_GATE: &str = "import ctypes, mmap, platform, sys
if platform.machine() != \"x86_64\": sys.exit(1)
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex(\"53b836010000bb00000010cd805bc3\"))
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
sys.exit(call() != 0)";

#[tokio::test]
async fn nothing_of_the_runner_can_be_read_written_or_killed() {
    if !require::sandbox().await {
        return;
    }
    let rig = Rig::walled(&["db1"]).await;
    let (record, other) = (rig.dir.path().to_owned(), rig.work.path().join("other-home"));
    fs::create_dir(&other).unwrap();
    for file in [record.join("chaosrun.db"), other.join("notes"), record.join("scenario.yaml")] {
        fs::write(file, SECRET).unwrap();
    }
    // Process of this machine with the secret in its environment and on its command line.
    let mut beside = std::process::Command::new("sleep").arg("1000").env("SECRET", SECRET).spawn().unwrap();
    let (pid, own) = (beside.id(), std::process::id());
    let (record, other, work) = (record.display(), other.display(), rig.work.path().display());
    let attempts = [
        format!("cat {record}/chaosrun.db"),
        format!("cat {record}/scenario.yaml"),
        format!("ls {record} {work}"),
        format!("cat {other}/notes"),
        format!("echo x > {record}/mine"),
        "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -i -e chaosrun -e SECRET".to_owned(),
        format!("grep -ral {SECRET} / --exclude-dir=usr --exclude-dir=proc"),
        "cat /etc/shadow".to_owned(),
        "ls /root /home /var/lib /sys/fs".to_owned(),
        "ls /var/run/docker.sock /run/docker.sock".to_owned(),
        "touch /x || touch /etc/x || touch /usr/x || touch /dev/x || touch /opt/x || touch /run/x".to_owned(),
        "chmod 777 /opt/station/workstation".to_owned(),
        "unshare -U true".to_owned(),
        "unshare -m true".to_owned(),
        // `unshare(CLONE_NEWUSER)` by the 32-bit system call gate, where calls have other numbers.
        format!("python3 -c '{OLD_GATE}'"),
        "mount -t tmpfs none /tmp".to_owned(),
        "mknod /tmp/disk b 8 0".to_owned(),
        "dmesg".to_owned(),
        "echo 1 > /proc/sys/kernel/sysrq".to_owned(),
        "echo h > /proc/sysrq-trigger".to_owned(),
    ];
    all_fail(&rig.commands(&attempts.each_ref().map(String::as_str)).await);
    // These pids may exist in the sandbox, but for other processes.
    let numbers = [format!("cat /proc/{pid}/environ /proc/{pid}/cmdline /proc/{own}/environ"), format!("kill -9 {pid} {own}")];
    let report = rig.commands(&numbers.each_ref().map(String::as_str)).await;
    assert!(report.commands.iter().all(|record| !said(record).contains(SECRET)), "{report:?}");
    assert_eq!(beside.try_wait().unwrap(), None, "nobody could end it");
    beside.kill().unwrap();
    beside.wait().unwrap();
    rig.end().await;
}

#[tokio::test]
async fn resources_of_the_machine_are_limited() {
    if !require::sandbox().await {
        return;
    }
    let mut rig = Rig::walled(&["db1"]).await;
    rig.limit = Duration::from_secs(120);
    let fill = |place: &str| format!("head -c 2G /dev/zero > {place}/fill; wc -c < {place}/fill; rm {place}/fill");
    let report = rig
        .commands(&[
            &fill("/work"),
            &fill("/tmp"),
            &fill("/dev/shm"),
            "for i in $(seq 100); do head -c 100M /dev/zero > /work/$i 2>/dev/null || break; done; echo $i; rm /work/*",
            "head -c 3G /dev/zero | tail -n 1 | wc -c",
            "head -c 2G /dev/zero",
            "echo alive | cat",
        ])
        .await;
    let out = |place: usize| report.commands[place].stdout.text.trim();
    for (place, most) in [(0, 256_u64 << 20), (1, 128 << 20), (2, 64 << 20)] {
        let size: u64 = out(place).parse().unwrap_or_else(|_| panic!("{:?}", report.commands[place]));
        assert!((1..=most).contains(&size), "{:?}", report.commands[place]);
    }
    assert_eq!(out(3), "3");
    assert_eq!(out(4), "0", "{:?}", report.commands[4]);
    let flood = &report.commands[5].stdout;
    assert_eq!((flood.bytes, flood.truncated, report.commands[5].exit_code), (2 << 30, true, 0), "{:?}", report.commands[5].stderr);
    let kept = fs::metadata(rig.dir.path().join(flood.file.as_ref().unwrap())).unwrap().len();
    assert!(kept < 65 << 20, "{kept} bytes of it are kept");
    assert_eq!(out(6), "alive", "{:?}", report.commands[6]);
    rig.end().await;
}

#[tokio::test]
async fn a_fork_bomb_ends_with_its_command_and_daemons_with_the_agent() {
    if !require::sandbox().await {
        return;
    }
    let mut rig = Rig::walled(&["db1"]).await;
    rig.limit = Duration::from_secs(10);
    let name = format!("stays{}", std::process::id());
    let daemon =
        format!("x=5; (setsid bash -c 'exec -a {name} sleep 1000' > /dev/null 2>&1 &); until pgrep -f ^{name} >/dev/null; do :; done");
    let report = rig.commands(&[&daemon, "bomb() { bomb | bomb & }; bomb; sleep 1000", &format!("pgrep -cf ^{name}; echo $x")]).await;
    assert!(report.commands[1].timed_out, "{report:?}");
    assert_eq!(report.commands[2].stdout.text, "1\n5\n", "{report:?}");
    assert_eq!(named(&name), 0, "when the report is there, nothing of it runs");
    rig.end().await;
}

#[tokio::test]
async fn process_limit_applies_until_processes_have_ended() {
    if !require::sandbox().await || require::program("perl").is_none() {
        return;
    }
    let mut rig = Rig::walled(&["db1"]).await;
    rig.limit = Duration::from_secs(60);
    // Each process waits for the end of a pipe that only the first holds open.
    let forks = "pipe my $end, my $held; my $count = 0; while ($count < 2000) { my $pid = fork; last unless defined $pid; \
                 if (!$pid) { close $held; sysread $end, my $byte, 1; exit } $count++ } print \"$count $!\\n\"; close $held; 1 while wait > 0";
    let forks = format!("perl -e '{forks}'");
    let report = rig.commands(&[&forks, &forks, "echo alive | cat"]).await;
    for record in &report.commands[..2] {
        let (count, why) = record.stdout.text.split_once(' ').unwrap_or_else(|| panic!("{record:?}"));
        let count: u32 = count.parse().unwrap_or_else(|_| panic!("{record:?}"));
        assert!((100..256).contains(&count) && why.contains("Resource temporarily unavailable"), "{record:?}");
    }
    assert_eq!(report.commands[2].stdout.text, "alive\n", "{report:?}");
    rig.end().await;
}

/// Returns the number of processes on this machine with the given name.
fn named(name: &str) -> usize {
    let cmdline = |path: &Path| fs::read(path.join("cmdline")).unwrap_or_default();
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter(|entry| cmdline(&entry.path()).starts_with(name.as_bytes())).count()
}

const SCENARIO: &str = "name: walled\ncluster: clusters/tikv.yaml\ngoal: escalate
timing: { steady_for: 0s, detect_within: 60s, repair_within: 60s, stable_for: 0s }
chaos: { dead: { inject: { node_kill: { target: tikv2 } }, heal: never } }\nlimits: { wall: 120s, command: 100s }\n";

fn variant(command: &str) -> String {
    format!("provider: scripted\nsandbox: true\nrules:\n  - commands:\n      - run: {command}\n    end: escalate\n")
}

#[test]
fn processes_of_an_agent_end_with_a_killed_runner() {
    if !bwrap() {
        return;
    }
    let name = format!("lasts{}", std::process::id());
    let command = format!("\"setsid bash -c 'exec -a {name} sleep 1000' & sleep 1000\"");
    let project = patient().file("scenarios/walled.yaml", SCENARIO).file("variants/walled.yaml", &variant(&command));
    let mut live = project.program("run").args(["scenarios/walled.yaml", "--variant", "walled"]).json().start();
    live.until("a command", |kind| matches!(kind, EventKind::CommandStarted { .. }));
    until("the daemon", || if named(&name) == 1 { Vec::new() } else { vec![format!("no {name}")] });
    live.signal(Signal::SIGKILL);
    live.wait();
    until("the end of the daemon", || vec![name.clone(); named(&name)]);
}

#[test]
fn missing_sandbox_is_refused_unless_allowed() {
    let empty = tempfile::tempdir().expect("a folder");
    // All programs that the runner needs, except bubblewrap.
    for name in ["bash", "sh"] {
        let Some(program) = require::program(name) else { return };
        std::os::unix::fs::symlink(program, empty.path().join(name)).expect("linked");
    }
    let project = patient().file("scenarios/walled.yaml", SCENARIO).file("variants/walled.yaml", &variant("echo $HOME"));
    let run = |rest: &[&str]| {
        let words = [&["scenarios/walled.yaml", "--variant", "walled"][..], rest].concat();
        project.program("run").args(words).env("PATH", empty.path()).json().run()
    };
    let refused = run(&[]).exits(5);
    assert!(refused.stderr.contains("`walled` needs a sandbox") && refused.stderr.contains("install bubblewrap"), "{refused}");
    assert!(refused.trials().is_empty(), "{refused}");
    let allowed = run(&["--allow-host-shell"]).exits(0);
    assert_ne!(allowed.trial().commands()[0].stdout.text.trim(), "/work", "{allowed}");
    let shown = project.program("show").arg(allowed.trial().id.as_str()).run();
    assert!(shown.stdout.contains("runs without the requested sandbox"), "{shown}");
}
