use super::*;

/// Returns the commands of a line as texts with their nodes, such as `tikv1: rm -rf /data`.
fn taken(line: &str) -> Vec<String> {
    let told = |simple: Simple| match &simple.node {
        Some(node) => format!("{node}: {}", simple.text()),
        None => simple.text(),
    };
    commands(line, &mut Scripts::default()).into_iter().map(told).collect()
}

fn check(line: &str, expected: &[&str]) {
    assert_eq!(taken(line), expected, "{line}");
}

#[test]
fn line_is_split_at_operators() {
    check("docker ps -a", &["docker ps -a"]);
    check("a 1; b 2 && c 3 || d | e & f\ng", &["a 1", "b 2", "c 3", "d", "e", "f", "g"]);
    check("a 'x; y' \"p && q\" \\; z # rm -rf /", &["a x; y p && q ; z"]);
    check("echo a#b", &["echo a#b"]);
    check("(cd /tmp; ls) && { whoami; }", &["cd /tmp", "ls", "whoami"]);
    check("", &[]);
    check("a \\\n b", &["a b"]);
    check("echo ä'ö'ü", &["echo äöü"]);
}

#[test]
fn nested_commands_are_extracted() {
    check("docker restart $(docker ps -q)", &["docker ps -q", "docker restart $(docker ps -q)"]);
    check("echo \"a $(rm -rf /x) b\" `id`", &["rm -rf /x", "id", "echo a $(rm -rf /x) b `id`"]);
    check("echo $(echo ')' $(ls)) $((1 + 2)) ${X:-y}", &["ls", "echo ) $(ls)", "echo $(echo ')' $(ls)) $((1 + 2)) ${X:-y}"]);
    check("diff <(ls a) <(ls b)", &["ls a", "ls b", "diff"]);
    check("echo '$(rm x)'", &["echo $(rm x)"]);
}

#[test]
fn reserved_words_and_headers_are_no_commands() {
    check("for n in a b; do docker restart $n; done", &["docker restart $n"]);
    check("if ! docker ps; then reboot; else true; fi", &["docker ps", "reboot", "true"]);
    check("until docker exec tikv2 curl -sf x >/dev/null; do :; done", &["tikv2: curl -sf x", ":"]);
}

#[test]
fn wrappers_are_removed() {
    check("sudo -u root -E /bin/rm -rf /x", &["rm -rf /x"]);
    check("env -i A=b C=d timeout -k 1s 5 nice -n 5 docker -H unix:///x container stop a", &["docker stop a"]);
    check("A=b", &[]);
    check("docker exec -it -e A=b -u root tikv1 sh -c 'cd /data && rm -rf *'", &["tikv1: cd /data", "tikv1: rm -rf *"]);
    check("docker exec tikv1 bash -lc \"kill -9 1\"; ls", &["tikv1: kill -9 1", "ls"]);
    check("docker ps -q | xargs -n 1 docker restart", &["docker ps -q", "docker restart"]);
    check("watch -n 1 docker ps", &["docker ps"]);
    check("eval \"docker stop a\"", &["docker stop a"]);
    check("bash script.sh", &["bash script.sh"]);
    check("docker exec tikv1", &[]);
}

#[test]
fn output_files_are_recorded_and_discarded_output_is_not() {
    check("a >/dev/null 2>&1 <in 3>&-", &["a"]);
    check("echo x > /etc/hosts 2>> err.log", &["echo x > /etc/hosts > err.log"]);
    check("> /data/raft.db", &[": > /data/raft.db"]);
    check("a &> all.log", &["a > all.log"]);
    check("docker exec tikv1 sh -c 'echo 1 > /data/x'", &["tikv1: echo 1 > /data/x"]);
}

#[test]
fn here_document_runs_only_in_a_shell() {
    check("docker exec -i tikv1 sh <<'EOF'\nrm -rf /data\nls\nEOF\ndocker ps", &["tikv1: rm -rf /data", "tikv1: ls", "docker ps"]);
    check("cat > notes <<-END\nrm -rf /\n\tEND\nls", &["cat > notes", "ls"]);
    check("jq . <<< '{}'", &["jq ."]);
}

#[test]
fn malformed_lines_are_parsed_as_far_as_possible() {
    check("echo 'open", &["echo open"]);
    check("echo $(rm x", &["rm x", "echo $(rm x)"]);
    check("a >", &["a"]);
    check("cat <<EOF", &["cat"]);
    check("sudo", &[]);
    let deep = format!("{}rm x{}", "$(".repeat(50), ")".repeat(50));
    assert!(commands(&deep, &mut Scripts::default()).len() <= DEPTH + 2);
    // No depth may crash the parser or hide the command.
    assert!(!commands(&format!("{}ls", "docker exec a ".repeat(50_000)), &mut Scripts::default()).is_empty());
    assert!(!commands(&format!("{}rm -rf /data", "eval ".repeat(20)), &mut Scripts::default()).is_empty());
}

#[test]
fn script_piped_into_a_shell_is_run() {
    check("echo 'docker kill x' | sh", &["echo docker kill x", "docker kill x"]);
    check("echo 'docker kill x' | sudo bash -s -- a | cat", &["echo docker kill x", "docker kill x", "cat"]);
    check("printf 'docker kill %s\\n' a b | sh", &["printf docker kill %s\\n a b", "docker kill a", "docker kill b"]);
    check("for n in a b; do echo docker kill $n; done | sh", &["echo docker kill $n", "docker kill $n"]);
    check("(echo ls; echo pwd) | sh; ls", &["echo ls", "echo pwd", "ls", "pwd", "ls"]);
    check("cat <<EOF | docker exec -i n sh\nrm -rf /data\nEOF\nls", &["cat", "n: rm -rf /data", "ls"]);
    check("bash <<< 'rm -rf /x'", &["rm -rf /x"]);
    check("bash <(echo ls)", &["echo ls", "ls"]);
    check("echo ls || sh", &["echo ls", "sh"]);
    check("curl -s x | sh", &["curl -s x", "sh"]);
    check("echo x | grep x | ssh -p 22 root@n 'rm -rf /data'", &["echo x", "grep x", "n: rm -rf /data"]);
    check("echo 'kill a' | xargs -I{} sh -c 'docker {}'", &["echo kill a", "docker kill a"]);
    check("echo tikv1 | xargs docker kill", &["echo tikv1", "docker kill tikv1"]);
}

#[test]
fn written_script_is_parsed_when_run() {
    check("cat > fix.sh <<EOF\ndocker kill x\nEOF\nchmod +x fix.sh && ./fix.sh", &["cat > fix.sh", "chmod +x fix.sh", "docker kill x"]);
    check("echo ls > a; echo pwd >> a; . a; source b", &["echo ls > a", "echo pwd > a", "ls", "pwd", "source b"]);
    check("echo 'sh a; sh a' > a; sh a", &["echo sh a; sh a > a", "sh a", "sh a"]);
    let mut scripts = Scripts::default();
    assert_eq!(commands("tee /tmp/x.sh <<EOF\nreboot\nEOF", &mut scripts).len(), 1);
    let run = commands("docker exec n sh /tmp/x.sh; bash /tmp/x.sh", &mut scripts);
    let told: Vec<String> = run.iter().map(Simple::text).collect();
    assert_eq!(told, ["sh /tmp/x.sh", "reboot"], "a node has files of its own");
    // Scripts that run other scripts are bounded.
    let many = |file: char, next: char| format!("echo '{}' > {file}\n", format!("sh {next};").repeat(60));
    let bomb = ('a'..'j').zip('b'..='j').map(|(file, next)| many(file, next)).collect::<String>();
    assert!(commands(&format!("{bomb}sh a"), &mut Scripts::default()).len() < 10 * MOST);
}

#[test]
fn other_remote_execution_is_removed() {
    check("kubectl -n db exec -it pod/tikv-0 -c main -- rm -rf /data", &["tikv-0: rm -rf /data"]);
    check("kubectl get pods -A", &["kubectl get pods -A"]);
    check("su - postgres -c 'rm -rf /x'", &["rm -rf /x"]);
    check("runuser -u db -- rm -rf /x", &["rm -rf /x"]);
    check("docker compose -f x.yml exec -T db rm -rf /x", &["db: rm -rf /x"]);
    check("docker compose -f x.yml ps", &["docker compose -f x.yml ps"]);
    check("docker run --rm -it -v /data:/d alpine rm -rf /d", &["docker run --rm -it -v /data:/d alpine", "alpine: rm -rf /d"]);
    check("docker run -d --entrypoint=sh img -c 'kill 1'", &["docker run -d --entrypoint=sh img", "img: kill 1"]);
    check("docker run", &["docker run"]);
}

#[test]
fn store_clients_are_identified_by_verb() {
    check("redis-cli -h redis -p 6379 --raw set info 1", &["redis-cli set info 1"]);
    check("etcdctl --endpoints=x --endpoints y -w json get a", &["etcdctl get a"]);
    check("redis-cli <<EOF\nSET a 1\nFLUSHALL\nEOF", &["redis-cli SET a 1", "redis-cli FLUSHALL"]);
    check("echo FLUSHALL | docker exec -i r redis-cli", &["echo FLUSHALL", "r: redis-cli FLUSHALL"]);
    check("redis-cli < cmds", &["redis-cli -"]);
    check("redis-cli", &["redis-cli"]);
}

#[test]
fn expansions_in_unquoted_here_document_are_run() {
    check("cat > notes <<EOF\n$(rm -rf /x) `id`\nEOF", &["rm -rf /x", "id", "cat > notes"]);
    check("cat > notes <<'EOF'\n$(rm -rf /x)\nEOF", &["cat > notes"]);
}
