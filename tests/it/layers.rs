//! Tests of the disk layer under the data of nodes, which makes a disk slow, fail or lose data.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chaosrun_backend_local::LocalCluster;
use chaosrun_cluster::Cluster;
use chaosrun_cluster::fault_control::{DiskErrno, DiskFault, DiskOperation, FaultControl};
use chaosrun_event::Actor;

use crate::local::{Run, node, spec, until};
use crate::require;

fn healthy() -> DiskFault {
    DiskFault::default()
}

fn data(cluster: &LocalCluster) -> PathBuf {
    cluster.topology().nodes[0].data.clone()
}

/// Returns the number of mounts at and below a directory.
fn mounted(below: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(&*below.to_string_lossy())).count()
}

async fn layered(run: &Run, command: &[&str]) -> Option<LocalCluster> {
    if !require::fuse() {
        return None;
    }
    let mut layered = node("n1", command);
    layered.layer = true;
    let cluster = run.cluster("t-1", &spec(vec![layered], &[]));
    cluster.up().await.unwrap();
    assert_eq!(mounted(&data(&cluster)), 1);
    Some(cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_slow_or_fail_until_the_disk_is_healed() {
    let run = Run::new();
    let Some(cluster) = layered(&run, &["sleep", "1000"]).await else { return };
    let data = data(&cluster);
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).collect();
    fs::create_dir_all(data.join("a/b")).unwrap();
    fs::write(data.join("a/b/c"), &content).unwrap();
    fs::rename(data.join("a/b"), data.join("d")).unwrap();
    fs::hard_link(data.join("d/c"), data.join("e")).unwrap();
    std::os::unix::fs::symlink("d/c", data.join("f")).unwrap();
    assert!(fs::read(data.join("f")).unwrap() == content && fs::read(data.join("e")).unwrap() == content);
    fs::remove_file(data.join("d/c")).unwrap();
    let mut names: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "d", "e", "f"]);

    let delay = Duration::from_millis(50);
    let before = cluster.disk_counters("n1").await.unwrap();
    cluster.set_disk("n1", Some(&DiskFault { sync_delay: delay, write_delay: delay, ..healthy() })).await.unwrap();
    let slow = cluster.write_through("n1").await.unwrap();
    assert!(slow >= 2 * delay && slow < 20 * delay, "{slow:?}");
    let counters = cluster.disk_counters("n1").await.unwrap();
    assert_eq!((counters.delayed, counters.writes - before.writes, counters.syncs - before.syncs), (2, 1, 1));

    let fault = DiskFault { error: 0.5, errno: DiskErrno::Enospc, operations: vec![DiskOperation::Sync], ..healthy() };
    cluster.set_disk("n1", Some(&fault)).await.unwrap();
    let mut failed = Vec::new();
    for _ in 0..4 {
        failed.extend(cluster.write_through("n1").await.err());
    }
    assert!(failed.len() == 2 && failed[0].contains("No space left"), "{failed:?}");
    cluster.set_disk("n1", None).await.unwrap();
    cluster.write_through("n1").await.unwrap();
    assert_eq!(cluster.disk_counters("n1").await.unwrap().failed, 2);

    let mut open = fs::OpenOptions::new().append(true).open(data.join("e")).unwrap();
    cluster.set_disk("n1", Some(&DiskFault { read_only: true, ..DiskFault::default() })).await.unwrap();
    let refused: [(&str, std::io::Result<()>); 7] = [
        ("write", open.write_all(b"x")),
        ("create", fs::write(data.join("new"), "x")),
        ("truncate", fs::write(data.join("e"), "x")),
        ("remove", fs::remove_file(data.join("f"))),
        ("rename", fs::rename(data.join("f"), data.join("g"))),
        ("mkdir", fs::create_dir(data.join("h"))),
        ("chmod", fs::set_permissions(data.join("e"), std::os::unix::fs::PermissionsExt::from_mode(0o600))),
    ];
    for (change, done) in refused {
        assert_eq!(done.map_err(|error| error.raw_os_error()), Err(Some(libc::EROFS)), "{change}");
    }
    assert!(fs::read(data.join("e")).unwrap() == content, "it can still be read");
    let said = cluster.write_through("n1").await.unwrap_err();
    assert!(said.contains("Read-only file system"), "{said}");
    cluster.set_disk("n1", None).await.unwrap();
    open.write_all(b"x").unwrap();
    cluster.write_through("n1").await.unwrap();
    drop(open);
    cluster.down().await.unwrap();
    until("nothing is mounted or left", || mounted(&data) == 0 && !data.exists()).await;
    run.client.close().await;
}

/// Returns the response of a Redis server to a command, after the server has loaded its data.
fn redis(socket: &Path, command: &str) -> String {
    let began = Instant::now();
    loop {
        let said = asked(socket, command, began);
        if !said.starts_with("-LOADING") || began.elapsed() > Duration::from_secs(20) {
            return said;
        }
    }
}

/// Sends one command to a Redis server and returns the response. The length line before a text is omitted.
fn asked(socket: &Path, command: &str, began: Instant) -> String {
    let mut connection = loop {
        match UnixStream::connect(socket) {
            Ok(connection) => break connection,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
        }
    };
    connection.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let (mut answer, mut text) = (BufReader::new(connection), String::new());
    answer.read_line(&mut text).unwrap();
    if text.starts_with('$') && !text.starts_with("$-") {
        answer.read_line(&mut text).unwrap();
    }
    text.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_unsynced_data_of_a_store_is_lost() {
    let Some(program) = require::program("redis-server") else { return };
    let run = Run::new();
    let args = "--port 0 --save '' --unixsocket ../s --dir data --appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0";
    let script = format!("exec {} {args}", program.display());
    let Some(cluster) = layered(&run, &["sh", "-c", &script]).await else { return };
    let socket = data(&cluster).parent().unwrap().join("s");
    assert_eq!(redis(&socket, "SET synced 1"), "+OK");
    // From here on Redis leaves syncing to the system.
    assert_eq!(redis(&socket, "CONFIG SET appendfsync no"), "+OK");
    assert_eq!(redis(&socket, "SET unsynced 1"), "+OK");
    // A kill alone loses no data: the kernel has it.
    for lost in [false, true] {
        cluster.kill("n1", 9, Actor::Fault).await.unwrap();
        fs::remove_file(&socket).unwrap();
        if lost {
            assert!(cluster.lose_unsynced("n1").await.unwrap() > 0);
        }
        cluster.start("n1", Actor::Agent).await.unwrap();
        assert_eq!(redis(&socket, "GET synced"), "$1\r\n1");
        if lost {
            assert_eq!(redis(&socket, "GET unsynced"), "$-1");
        } else {
            assert_eq!(redis(&socket, "GET unsynced"), "$1\r\n1");
            assert_eq!(redis(&socket, "CONFIG SET appendfsync no"), "+OK");
        }
    }
    assert!(cluster.disk_counters("n1").await.unwrap().lost > 0);
    cluster.down().await.unwrap();
    run.client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_mounted_when_the_layer_or_the_runner_is_killed() {
    let run = Run::new();
    let Some(cluster) = layered(&run, &["sleep", "1000"]).await else { return };
    let data = data(&cluster);
    // A file in the mount is open.
    let mut open = File::create(data.join("open")).unwrap();
    open.write_all(b"x").unwrap();
    let layer = |process: &fs::DirEntry| {
        let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        line.contains("disk-server") && line.contains(&*data.to_string_lossy())
    };
    let process = fs::read_dir("/proc").unwrap().flatten().find(layer).expect("its process");
    let pid = process.file_name().to_string_lossy().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the layer is dead", || fs::read(data.join("open")).is_err()).await;
    assert!(cluster.lose_unsynced("n1").await.is_err());
    cluster.down().await.unwrap();
    until("nothing is mounted or left", || mounted(&data) == 0 && !data.exists()).await;

    run.client.close().await;

    // A killed runner does not do this: the supervisor sees the end of its socket.
    let killed = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let data = runtime.block_on(async {
            let run = Run::new();
            let cluster = layered(&run, &["sleep", "1000"]).await.expect("there was one before");
            let data = self::data(&cluster);
            run.die(cluster);
            data
        });
        runtime.shutdown_background();
        data
    };
    let data = std::thread::spawn(killed).join().unwrap();
    until("nothing is mounted or left", || mounted(&data) == 0 && !data.exists()).await;
}
