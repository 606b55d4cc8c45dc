//! Tests of the supervisor with real processes. After every kind of end of the runner, all processes of the runner have ended.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, PipeWriter, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chaosrun_backend_local::WorkRoot;
use chaosrun_backend_local::supervisor::{Reach, Spawn, SpawnError, Supervisor, SupervisorClient, TreeExit};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chaosrun");

/// Shell script that daemonises a process by a double fork with a new session. The shell prints the pids of the daemon, of a plain child
/// and of itself, and then waits forever.
const DAEMONS: &str = r#"
    sleep 1000 &
    plain=$!
    setsid sh -c 'sleep 1000 & echo $!' > "$0" &
    wait $!
    echo "$(cat "$0") $plain $$"
    read forever
"#;

fn client() -> SupervisorClient {
    Supervisor::spawn_program(Path::new(PROGRAM)).unwrap().attach().unwrap()
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

struct Started {
    tree: u64,
    pid: u32,
    stdout: BufReader<File>,
    exit: oneshot::Receiver<TreeExit>,
    /// Writing end of the process's stdin. Stdin stays open while this value lives.
    _stdin: PipeWriter,
}

fn plan(client: &SupervisorClient, argv: &[&OsStr], stdout: OwnedFd, scope: u64) -> (Spawn, oneshot::Receiver<TreeExit>) {
    let (tx, exit) = oneshot::channel();
    let spawn = Spawn {
        program: argv[0].to_owned(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
        dir: "/".into(),
        stdio: [null(), stdout, null()],
        tree: client.new_tree(),
        scope,
        with: None,
        linger: false,
        on_exit: Box::new(move |ended| tx.send(ended).unwrap_or(())),
    };
    (spawn, exit)
}

async fn start(client: &SupervisorClient, argv: &[&str], change: impl FnOnce(&mut Spawn)) -> Started {
    let (ours, theirs) = std::io::pipe().unwrap();
    let argv: Vec<&OsStr> = argv.iter().map(OsStr::new).collect();
    let (mut spawn, exit) = plan(client, &argv, theirs.into(), 1);
    let (stdin, never_closed) = std::io::pipe().unwrap();
    spawn.stdio[0] = stdin.into();
    change(&mut spawn);
    let tree = spawn.tree;
    let pid = client.spawn(spawn).await.unwrap();
    Started { tree, pid, stdout: BufReader::new(File::from(OwnedFd::from(ours))), exit, _stdin: never_closed }
}

impl Started {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn pids(&mut self) -> Vec<u32> {
        self.line().split(' ').map(|pid| pid.parse().unwrap()).collect()
    }
}

fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

/// Returns true if the process exists, even if it has ended and waits to be reaped.
fn exists(pid: u32) -> bool {
    state(pid).is_some()
}

/// Returns true if the process runs. Ended orphans do not count, because the system's init reaps them with a delay.
fn lives(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// Polls until the condition is true, because no descriptor signals this state. Only a broken test reaches the time limit.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn exits_are_reported_exactly() {
    let client = client();
    let mut by_code = start(&client, &["sh", "-c", "echo out; exit 7"], |_| ()).await;
    assert_eq!(by_code.line(), "out");
    assert_eq!(by_code.exit.await.unwrap(), TreeExit::Code(7));
    let by_signal = start(&client, &["sh", "-c", "kill -KILL $$"], |_| ()).await;
    assert_eq!(by_signal.exit.await.unwrap(), TreeExit::Signal(9));
    let real_time = start(&client, &["sleep", "1000"], |_| ()).await;
    client.signal(real_time.tree, 34, Reach::Group).await.unwrap();
    assert_eq!(real_time.exit.await.unwrap(), TreeExit::Signal(34));
    client.close().await;
}

#[tokio::test]
async fn arguments_and_environment_may_be_any_bytes_and_nothing_else_is_inherited() {
    let client = client();
    let odd = OsString::from_vec(b"\xff \xc3\xa9 '\n".to_vec());
    let mut printed = start(&client, &["sh", "-c", "printf %s \"$1$ODD\"; ls /proc/self/fd | wc -l; env | wc -l"], |spawn| {
        spawn.argv.extend(["sh".into(), odd.clone()]);
        spawn.env.push(("ODD".into(), odd.clone()));
    })
    .await;
    let mut output = Vec::new();
    printed.stdout.read_to_end(&mut output).unwrap();
    // `ls` sees its three descriptors and the directory it reads; `env` has PATH, ODD (two lines), the marker and PWD of the shell.
    let expected = [odd.as_bytes(), odd.as_bytes(), b"4\n5\n"].concat();
    assert_eq!(String::from_utf8_lossy(&output), String::from_utf8_lossy(&expected));
    client.close().await;
}

#[tokio::test]
async fn unrunnable_program_is_named() {
    let client = client();
    let refused = async |program: &str, dir: &str| {
        let (mut spawn, _) = plan(&client, &[OsStr::new(program)], null(), 1);
        spawn.dir = dir.into();
        match client.spawn(spawn).await {
            Err(SpawnError::Refused { message, .. }) => message,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused("no-such-program", "/").await, "cannot run `no-such-program`: no such program on the PATH");
    assert_eq!(refused("/no/such", "/").await, "cannot run `/no/such`: no such file");
    assert_eq!(refused("/etc", "/").await, "cannot run `/etc`: permission denied");
    assert_eq!(refused("true", "/no/dir").await, "cannot run `true` in `/no/dir`: no such directory");
    client.close().await;
}

#[tokio::test]
async fn a_killed_tree_leaves_no_daemon_and_others_live_on() {
    let client = client();
    let temporary = tempfile::tempdir().unwrap();
    let mut other = start(&client, &["sh", "-c", "echo up; read forever"], |_| ()).await;
    other.line();
    let mut tree = start(&client, &["sh", "-c", DAEMONS, temporary.path().join("daemon").to_str().unwrap()], |_| ()).await;
    let with = tree.tree;
    let inside = start(&client, &["sleep", "1000"], |spawn| spawn.with = Some(with)).await;
    let pids = tree.pids();
    assert!(pids.iter().copied().all(exists) && pids.len() == 3, "{pids:?}");
    client.kill(with).await;
    assert_eq!(pids.iter().copied().filter(|pid| exists(*pid)).collect::<Vec<_>>(), Vec::<u32>::new());
    assert_eq!(tree.exit.await.unwrap(), TreeExit::Signal(9));
    assert_eq!(inside.exit.await.unwrap(), TreeExit::Signal(9));
    assert!(exists(other.pid));
    client.close().await;
    assert!(!exists(other.pid));
}

#[tokio::test]
async fn daemons_of_a_node_end_with_it_and_those_of_a_command_do_not() {
    let client = client();
    let script = "setsid sleep 1000 > /dev/null & echo $!";
    let mut node = start(&client, &["sh", "-c", script], |_| ()).await;
    let of_node = node.pids()[0];
    let mut command = start(&client, &["sh", "-c", script], |spawn| spawn.linger = true).await;
    let of_command = command.pids()[0];
    node.exit.await.unwrap();
    command.exit.await.unwrap();
    until("the node's daemon ends", || !exists(of_node));
    assert!(exists(of_command));
    client.kill(command.tree).await;
    assert!(!exists(of_command));
    client.close().await;
}

#[tokio::test]
async fn a_pause_reaches_the_whole_tree_and_a_kill_reaches_a_paused_one() {
    let client = client();
    let temporary = tempfile::tempdir().unwrap();
    let mut tree = start(&client, &["sh", "-c", DAEMONS, temporary.path().join("daemon").to_str().unwrap()], |_| ()).await;
    let pids = tree.pids();
    client.signal(tree.tree, nix::libc::SIGSTOP, Reach::Tree).await.unwrap();
    for pid in &pids {
        until("stopped", || state(*pid) == Some('T'));
    }
    client.signal(tree.tree, nix::libc::SIGCONT, Reach::Tree).await.unwrap();
    for pid in &pids {
        until("goes on", || state(*pid) == Some('S'));
    }
    client.signal(tree.tree, nix::libc::SIGSTOP, Reach::Tree).await.unwrap();
    client.kill_scope(1).await;
    assert!(!pids.iter().copied().any(exists));
    let (late, _) = plan(&client, &[OsStr::new("true")], null(), 1);
    assert!(client.spawn(late).await.is_err(), "nothing starts in a scope that was killed");
    client.close().await;
}

#[tokio::test]
async fn many_processes_run_at_once() {
    let client = client();
    let one = async |number: usize| {
        let text = format!("{number} {}", "x".repeat(30_000));
        let mut started = start(&client, &["sh", "-c", "printf '%s\\n' \"$0\"", &text], |_| ()).await;
        assert_eq!((&mut started.exit).await.unwrap(), TreeExit::Code(0));
        assert_eq!(started.line(), text);
    };
    futures_util::future::join_all((0..100).map(one)).await;
    client.close().await;
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_children_along_and_is_missed() {
    let client = client();
    let temporary = tempfile::tempdir().unwrap();
    let mut tree = start(&client, &["sh", "-c", DAEMONS, temporary.path().join("daemon").to_str().unwrap()], |_| ()).await;
    let pids = tree.pids();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(client.pid().cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(tree.exit.await.unwrap(), TreeExit::Lost);
    for pid in pids {
        until("dies with the supervisor", || !lives(pid));
    }
    let (spawn, _) = plan(&client, &[OsStr::new("true")], null(), 1);
    assert!(matches!(client.spawn(spawn).await, Err(SpawnError::Gone)));
}

/// Acts as a runner that another test kills. This function is not a test itself.
#[test]
fn plays_the_runner() {
    let Some(work) = std::env::var_os("PLAYS_THE_RUNNER_IN") else { return };
    let supervisor = Supervisor::spawn_program(Path::new(PROGRAM)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = supervisor.attach().unwrap();
        client.remove_at_end(&Path::new(&work).join("nodes"));
        let mut tree = start(&client, &["sh", "-c", DAEMONS, Path::new(&work).join("daemon").to_str().unwrap()], |_| ()).await;
        let mut lingering = start(&client, &["sh", "-c", "setsid sleep 1000 > /dev/null & echo $!"], |spawn| spawn.linger = true).await;
        println!("\nPIDS {} {} {}", tree.line(), lingering.line(), client.pid());
        std::future::pending::<()>().await;
    });
}

fn runner(work: &Path) -> (Child, Vec<u32>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["supervisor::plays_the_runner", "--exact", "--nocapture"])
        .env("PLAYS_THE_RUNNER_IN", work)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let pids = lines.find_map(|line| Some(line.strip_prefix("PIDS ")?.split(' ').map(|pid| pid.parse().unwrap()).collect()));
    (child, pids.expect("the runner tells its pids"))
}

#[test]
fn nothing_outlives_a_killed_runner() {
    for signal in [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGTERM] {
        let work = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(work.path().join("nodes/data")).unwrap();
        let (mut child, pids) = runner(work.path());
        assert!(pids.len() == 5 && pids.iter().copied().all(exists), "{pids:?}");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        child.wait().unwrap();
        for pid in pids {
            until("gone with the runner", || !lives(pid));
        }
        until("the directory goes too", || !work.path().join("nodes").exists());
    }
}

/// Acts as a runner that ends before it has sent a message to its supervisor. This function is not a test itself.
#[test]
fn plays_the_mute_runner() {
    if std::env::var_os("PLAYS_THE_MUTE_RUNNER").is_none() {
        return;
    }
    let supervisor = Supervisor::spawn_program(Path::new(PROGRAM)).unwrap();
    // No message is sent until this single thread waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = supervisor.attach().unwrap();
        let work = WorkRoot::new(Path::new(PROGRAM), &client).unwrap();
        work.make_server("n").unwrap();
        assert!(work.path().join("bin/n-server").exists());
        println!("\nMADE {}", work.path().display());
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
    });
}

#[test]
fn folder_created_after_the_last_message_is_removed_too() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["supervisor::plays_the_mute_runner", "--exact", "--nocapture"])
        .env("PLAYS_THE_MUTE_RUNNER", "")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let made = text.lines().find_map(|line| line.strip_prefix("MADE ")).unwrap_or_else(|| panic!("{output:?}"));
    until("the folder goes with the runner", || !Path::new(made).exists());
}

/// Checks that output is read through a pipe. For other kinds of descriptors, a thread would have to read the output.
#[tokio::test]
async fn output_is_read_without_a_thread() {
    use tokio::io::AsyncReadExt;

    let client = client();
    let (ours, theirs) = std::io::pipe().unwrap();
    let (spawn, _) = plan(&client, &[OsStr::new("echo"), OsStr::new("hello")], theirs.into(), 1);
    client.spawn(spawn).await.unwrap();
    let mut text = String::new();
    pipe::Receiver::from_owned_fd(ours.into()).unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello\n");
    client.close().await;
}
