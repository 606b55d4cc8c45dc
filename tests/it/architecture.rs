//! Tests of the architecture invariants in ARCHITECTURE.md that can be read from the source and from the `Cargo.toml` files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Source file with its path from the root of the repository.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Returns the name of the file's crate in `crates/`, or an empty name for the root package.
    fn krate(&self) -> &str {
        self.path.strip_prefix("crates/").and_then(|path| path.split('/').next()).unwrap_or_default()
    }
}

/// Returns all Rust files below the given directories, sorted.
fn files(folders: &[PathBuf]) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        walk(folder, &mut paths);
    }
    paths.sort();
    let name = |path: &Path| path.strip_prefix(root()).expect("below the root").display().to_string();
    paths.iter().map(|path| Source { path: name(path), text: fs::read_to_string(path).expect("text") }).collect()
}

/// Returns the names of the crates in `crates/`.
fn crates() -> Vec<String> {
    let entries = fs::read_dir(root().join("crates")).expect("crates");
    let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(names.len() > 20, "{names:?}");
    names
}

/// Returns the source files of the root package and of all crates.
fn sources() -> Vec<Source> {
    let of_crates = crates().into_iter().map(|name| root().join("crates").join(name).join("src"));
    files(&[root().join("src")].into_iter().chain(of_crates).collect::<Vec<_>>())
}

/// Returns a source line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Asserts that no line of code outside the allowed paths contains `word`.
fn only(word: &str, allowed: &[&str]) {
    let sources = sources();
    let elsewhere = sources.iter().filter(|source| !allowed.iter().any(|prefix| source.path.starts_with(prefix)));
    let lines = elsewhere.flat_map(|Source { path, text }| {
        let named = text.lines().enumerate().filter(|(_, line)| code(line).contains(word));
        named.map(move |(number, line)| format!("{path}:{}: {}", number + 1, line.trim()))
    });
    let found: Vec<String> = lines.collect();
    assert!(found.is_empty(), "`{word}` is allowed only in {allowed:?}:\n{}", found.join("\n"));
}

/// Returns the source files without test files and without the tests at the end of a file.
fn shipped() -> Vec<Source> {
    let sources = sources();
    let test_modules: BTreeSet<String> = sources.iter().flat_map(modules_of_tests).collect();
    let product = sources.into_iter().filter(|source| {
        let module = source.path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        !test_modules.contains(module) && !module.ends_with("/testing")
    });
    product
        .map(|mut source| {
            let end = source.text.find("#[cfg(test)]\nmod tests {").unwrap_or(source.text.len());
            source.text.truncate(end);
            source
        })
        .collect()
}

/// Returns the paths (without `.rs`) of the modules that a file declares only for tests.
fn modules_of_tests(source: &Source) -> Vec<String> {
    let (folder, file) = source.path.rsplit_once('/').expect("a folder");
    let folder = match file {
        "lib.rs" | "mod.rs" | "main.rs" => folder.to_owned(),
        file => format!("{folder}/{}", file.trim_end_matches(".rs")),
    };
    let declared = source.text.split("#[cfg(test)]\nmod ").skip(1);
    let names = declared.filter_map(|rest| rest.lines().next().and_then(|line| line.strip_suffix(';')));
    names.map(|name| format!("{folder}/{name}")).collect()
}

/// Returns the names in one table of a crate's `Cargo.toml`. An empty crate name means the root package.
fn dependencies(krate: &str, table: &str) -> BTreeSet<String> {
    let manifest = if krate.is_empty() { root().join("Cargo.toml") } else { root().join("crates").join(krate).join("Cargo.toml") };
    let text = fs::read_to_string(manifest).expect("a manifest");
    let lines = text.lines().skip_while(|line| *line != format!("[{table}]")).skip(1).take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty() && !name.starts_with('#'));
    names.map(str::to_owned).collect()
}

#[test]
fn each_wrapped_crate_has_one_home() {
    let homes: [(&str, &[&str]); 15] = [
        ("rusqlite", &["store"]),
        ("rusqlite_migration", &["store"]),
        ("bollard", &["backend-docker"]),
        ("annotate-snippets", &["diagnostic"]),
        ("saphyr-parser", &["diagnostic"]),
        // The fake model is independent of the product.
        ("serde_yaml", &["diagnostic", "fake-model"]),
        ("minijinja", &["expr", "fake-model"]),
        ("raft", &["standin"]),
        ("fuser", &["node"]),
        ("rmcp", &["agent"]),
        ("rustls", &["models"]),
        ("statrs", &["stats"]),
        ("promql-parser", &["probe"]),
        ("indicatif", &[""]),
        ("quick-junit", &[""]),
    ];
    let all: Vec<(String, BTreeSet<String>)> = crates()
        .into_iter()
        .chain([String::new()])
        .map(|krate| {
            let found = dependencies(&krate, "dependencies");
            (krate, found)
        })
        .collect();
    for (wrapped, expected) in homes {
        let users: BTreeSet<&str> = all.iter().filter(|(_, names)| names.contains(wrapped)).map(|(krate, _)| krate.as_str()).collect();
        assert_eq!(users, expected.iter().copied().collect(), "crates that depend on {wrapped}");
    }
    only("rmcp::", &["crates/agent/src/mcp"]);
    only("rustls::", &["crates/models/src/transport"]);
    only("fuser::", &["crates/node/src/disk/"]);
    only("indicatif::", &["src/report/"]);
    only("quick_junit::", &["src/report/"]);
}

#[test]
fn stand_ins_and_the_fake_model_are_independent_of_the_product() {
    for krate in ["standin", "fake-model", "base", "stats", "shell"] {
        let ours: Vec<String> = dependencies(krate, "dependencies").into_iter().filter(|name| name.starts_with("chaosrun")).collect();
        assert_eq!(ours, Vec::<String>::new(), "{krate}");
    }
}

#[test]
fn event_contract_depends_on_ids_serde_and_time_only() {
    let expected = ["chaosrun-base", "indexmap", "jiff", "serde", "serde_json", "tokio"];
    assert_eq!(dependencies("event", "dependencies"), expected.map(str::to_owned).into());
    let allowed = ["indexmap", "jiff", "serde", "serde_json", "chaosrun_base::ids", "std", "super", "crate"];
    for Source { path, text } in shipped().iter().filter(|source| source.krate() == "event") {
        for used in text.lines().filter_map(|line| line.strip_prefix("use ")) {
            let known = allowed.iter().any(|name| used.strip_prefix(name).is_some_and(|rest| rest.starts_with("::")));
            // The emitter is the only part that does something.
            assert!(known || path.ends_with("/emit.rs") && used.starts_with("tokio::sync::"), "{path}: use {used}");
        }
    }
}

#[test]
fn pure_crates_do_not_depend_on_tokio() {
    for krate in ["diagnostic", "expr", "input", "scenario", "plan", "score", "stats", "analysis"] {
        assert!(!dependencies(krate, "dependencies").contains("tokio"), "{krate}");
    }
}

#[test]
fn crates_are_small_and_have_names_of_their_purpose() {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for source in sources() {
        *lines.entry(source.krate().to_owned()).or_default() += source.text.lines().count();
    }
    let large: Vec<_> = lines.iter().filter(|(_, lines)| **lines > 15_000).collect();
    assert!(large.is_empty(), "crates above 15,000 lines: {large:?}");
    for name in crates() {
        assert!(!["core", "common", "util", "utils", "helpers"].contains(&name.as_str()), "{name}");
    }
}

#[test]
fn code_map_lists_every_crate_after_those_that_it_uses() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let layer: usize = cells.next()?.parse().ok()?;
        Some((cells.next()?.trim_matches('`').strip_prefix("crates/")?.to_owned(), layer))
    });
    let layers: BTreeMap<String, usize> = rows.collect();
    assert_eq!(layers.keys().collect::<Vec<_>>(), crates().iter().collect::<Vec<_>>(), "crates of the code map");
    for (krate, layer) in &layers {
        let used = dependencies(krate, "dependencies");
        let below = used.iter().filter_map(|name| name.strip_prefix("chaosrun-")).map(|name| layers[name]).max().unwrap_or(0);
        assert_eq!(*layer, below + 1, "layer of {krate}");
    }
}

#[test]
fn only_reports_and_the_command_line_print() {
    // Stand-ins and the fake model are processes of their own.
    let may_print = ["src/report/", "src/cli/", "crates/standin/", "crates/fake-model/"];
    for word in ["println!", "eprintln!", "print!("] {
        only(word, &may_print);
    }
}

#[test]
fn only_main_ends_the_process() {
    only("process::exit", &[]);
}

#[test]
fn every_task_is_started_where_its_panic_is_reported() {
    // Stand-ins and the fake model are processes of their own. Owners of a set of tasks check its handles, or wrap its tasks.
    let task = ["crates/base/src/task.rs", "crates/standin/", "crates/fake-model/"];
    let sets = [
        "crates/standin/",
        "crates/engine/src/run/executor.rs",
        "crates/engine/src/chaos/driver.rs",
        "crates/backend-local/src/port_forwarder.rs",
        "crates/backend-local/src/relay/measure.rs",
    ];
    let rules = [("tokio::spawn", &task[..]), ("tokio::task::spawn", &task), ("TaskTracker", &task), ("JoinSet", &sets)];
    let mut found = Vec::new();
    for Source { path, text } in shipped() {
        for (number, line) in text.lines().enumerate() {
            let breaks =
                |(word, allowed): &(&str, &[&str])| code(line).contains(word) && !allowed.iter().any(|prefix| path.starts_with(prefix));
            if rules.iter().any(breaks) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "start tasks by `task::spawn`:\n{}", found.join("\n"));
}

#[test]
fn raw_types_stay_in_scenario() {
    let text = fs::read_to_string(root().join("crates/scenario/src/lib.rs")).expect("lib.rs");
    assert!(text.contains("\nmod raw;"), "the module is private");
    assert!(!text.contains("pub use raw"), "none of its types is exported");
}

#[test]
fn code_asks_for_capabilities_and_never_for_a_backend() {
    let mut found = Vec::new();
    for Source { path, text } in shipped().iter().filter(|source| !source.path.starts_with("crates/cluster/src/backend/")) {
        let product = text.split("#[cfg(test)]").next().unwrap_or_default().lines().map(code).enumerate();
        let named = product.filter(|(_, line)| line.contains("Backend::LOCAL") || line.contains("Backend::DOCKER"));
        found.extend(named.map(|(number, line)| format!("{path}:{}: {}", number + 1, line.trim())));
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn doc_comments_open_with_their_subject() {
    const INDIRECT: [&str; 20] = [
        "what", "whatever", "who", "whoever", "whose", "those", "of", "as", "it", "how", "so", "nothing", "none", "nobody", "with",
        "where", "whether", "that", "to be", "by",
    ];
    let folders = ["build", "benches", "tests"].map(|folder| root().join(folder));
    let of_crates = crates().into_iter().map(|name| root().join("crates").join(name));
    let all = files(&[root().join("src")].into_iter().chain(folders).chain(of_crates).collect::<Vec<_>>());
    let (mut blocks, mut indirect) = (0_usize, Vec::new());
    for Source { path, text } in all {
        let mut before = "";
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let kind = ["///", "//!"].into_iter().find(|kind| line.starts_with(kind)).unwrap_or_default();
            let sentence = line.strip_prefix(kind).unwrap_or_default().trim();
            if !kind.is_empty() && kind != before && !sentence.is_empty() && !sentence.starts_with(['#', '|', '*', '`', '-']) {
                blocks += 1;
                let sentence = sentence.to_lowercase();
                let opens = |word: &&str| -> bool {
                    sentence.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
                };
                if INDIRECT.iter().any(opens) {
                    indirect.push(format!("{path}:{}: {sentence}", number + 1));
                }
            }
            before = kind;
        }
    }
    let examples = indirect.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(indirect.len() * 20 < blocks, "{} of {blocks} doc comments open indirectly, 5 % are allowed:\n{examples}", indirect.len());
}

/// Returns the top-level modules that a file names by `crate::`, or by as many `super::` as lead to the root of its crate.
fn named_modules(source: &Source) -> BTreeSet<String> {
    let inner = source.path.split_once("src/").expect("below src").1;
    let depth = inner.split('/').count() - usize::from(inner.ends_with("/mod.rs"));
    let text: String = source.text.lines().map(|line| format!("{}\n", code(line))).collect();
    let mut found = BTreeSet::new();
    for prefix in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in text.match_indices(&prefix) {
            let starts = !text[..at].ends_with(|c: char| c.is_alphanumeric() || "_:$".contains(c));
            let rest = &text[at + prefix.len()..];
            if !starts || rest.starts_with("super::") {
                continue;
            }
            match rest.strip_prefix('{') {
                Some(group) => found.extend(group_members(group)),
                None => found.extend(identifier(rest)),
            }
        }
    }
    found
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Returns the first name of each member of a `use` group, up to the closing brace of the group.
fn group_members(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut members) = (0_usize, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                members.extend(identifier(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => (),
        }
    }
    members
}

/// Returns the cycles between top-level modules, each with its crate. A cycle is a set of modules that all use each other, directly or
/// indirectly.
fn module_cycles() -> Vec<(String, BTreeSet<String>)> {
    let mut uses: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for source in shipped() {
        let inner = source.path.split_once("src/").expect("below src").1;
        let module = inner.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        if !["lib", "main"].contains(&module) {
            let of_crate = uses.entry(source.krate().to_owned()).or_default();
            of_crate.entry(module.to_owned()).or_default().extend(named_modules(&source));
        }
    }
    let mut cycles = Vec::new();
    for (krate, uses) in uses {
        let reachable = |from: &str| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
            while let Some(module) = open.pop() {
                for next in uses[&module].iter().filter(|next| **next != module && uses.contains_key(*next)) {
                    if seen.insert(next.clone()) {
                        open.push(next.clone());
                    }
                }
            }
            seen
        };
        let reached: BTreeMap<&str, BTreeSet<String>> = uses.keys().map(|module| (module.as_str(), reachable(module))).collect();
        let cycle = |module: &str| reached[module].iter().filter(|other| reached[other.as_str()].contains(module)).cloned().collect();
        let of_crate: BTreeSet<BTreeSet<String>> =
            uses.keys().map(|module| cycle(module)).filter(|cycle: &BTreeSet<_>| !cycle.is_empty()).collect();
        cycles.extend(of_crate.into_iter().map(|cycle| (krate.clone(), cycle)));
    }
    cycles
}

#[test]
fn no_modules_of_a_crate_import_each_other() {
    let cycles = module_cycles();
    assert!(cycles.is_empty(), "cycles between top-level modules: {cycles:#?}");
}

/// Returns the words in the code of a file.
fn words(text: &str) -> BTreeSet<&str> {
    text.lines().map(code).flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).collect()
}

/// Public item at module level.
struct PublicItem<'a> {
    line: usize,
    name: &'a str,
    /// Words of the interface of the item: the signature of a function; the type of a constant, static or alias; the public fields of a
    /// struct or union; the variants of an enum; the signatures of a trait.
    interface: BTreeSet<&'a str>,
}

/// Returns the kind and the name of the public item that a line declares at module level. An item that is exported under another name is
/// a type alias.
fn public_item(line: &str) -> Option<(&str, &str)> {
    const KINDS: [&str; 8] = ["fn", "const", "static", "struct", "enum", "union", "trait", "type"];
    if let Some((_, name)) =
        line.strip_prefix("pub use ").and_then(|path| path.strip_suffix(';')?.split_once(" as ")).filter(|(path, _)| !path.contains('{'))
    {
        return Some(("type", name));
    }
    let mut words = line.strip_prefix("pub ")?.split(' ').skip_while(|word| ["async", "unsafe"].contains(word)).peekable();
    let kind = words.next().filter(|kind| KINDS.contains(kind))?;
    // `const fn`, `const unsafe fn`, `static mut`.
    let name = words.find(|word| !["fn", "unsafe", "async", "mut"].contains(word) || kind == "fn")?;
    Some((if line.contains(" fn ") { "fn" } else { kind }, name.split(|c: char| !c.is_alphanumeric() && c != '_').next()?))
}

/// Returns the lines of the item at module level that the first line begins. The item ends with the first line that is not indented and
/// ends with `;` or `}`.
fn item<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let ends = |line: &&str| !line.starts_with([' ', '#']) && line.trim_end().ends_with([';', '}']);
    let last = lines.iter().map(|line| code(line)).position(|line| ends(&line)).unwrap_or(lines.len() - 1);
    lines[..=last].iter().map(|line| code(line)).collect()
}

/// Returns the words of the declaration that the first line begins, up to its body or its value.
fn signature<'a>(lines: &[&'a str]) -> BTreeSet<&'a str> {
    let end = lines.iter().position(|line| line.contains(['{', ';'])).map_or(lines.len(), |end| end + 1);
    let line = |line: &&'a str| line.split(['{', ';']).next().unwrap_or_default();
    lines[..end].iter().map(line).flat_map(words).collect()
}

/// Returns the words in the declarations of the members of a trait or an `impl` block. `begins` selects members by the beginning of
/// their first line.
fn members<'a>(lines: &[&'a str], begins: impl Fn(&str) -> bool) -> BTreeSet<&'a str> {
    let is_member = |line: &str| line.strip_prefix("    ").is_some_and(|member| !member.starts_with(' ') && begins(member));
    (0..lines.len()).filter(|at| is_member(lines[*at])).flat_map(|at| signature(&lines[at..])).collect()
}

/// Returns the public items of a file.
fn public_items(text: &str) -> Vec<PublicItem<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let read = |at: usize| {
        let (kind, name) = public_item(lines[at])?;
        let item = item(&lines[at..]);
        let interface = match kind {
            "fn" => signature(&item),
            "const" | "static" => words(item[0].split(" = ").next().unwrap_or_default()),
            // The fields of a tuple struct are in its first line, or on lines of their own as in other structs.
            "struct" | "union" => item[1..]
                .iter()
                .copied()
                .filter(|line| line.starts_with("    pub "))
                .chain(item[0].split_once("(pub ").map(|(_, fields)| fields))
                .flat_map(words)
                .collect(),
            "trait" => members(&item, |_| true).into_iter().chain(signature(&item)).collect(),
            _ => item.iter().copied().flat_map(words).collect(),
        };
        Some(PublicItem { line: at + 1, name, interface })
    };
    (0..lines.len()).filter_map(read).collect()
}

/// Returns the name of each type with an `impl` block in a file, with the words of the public methods and of the associated types in the
/// block.
fn implementations(text: &str) -> Vec<(&str, BTreeSet<&str>)> {
    let lines: Vec<&str> = text.lines().collect();
    let read = |at: usize| {
        let header = lines[at].strip_prefix("impl")?.split('{').next()?;
        let of_trait = header.split_once(" for ");
        // Generics of the block itself are before the first space that is not within them.
        let own = of_trait.map_or_else(|| header.rsplit_once("> ").map_or(header, |(_, own)| own), |(_, own)| own).trim();
        let name = own.split(['<', ' ']).next()?.rsplit("::").next()?;
        let item = item(&lines[at..]);
        Some((name, members(&item, |member| if of_trait.is_some() { member.starts_with("type ") } else { member.starts_with("pub ") })))
    };
    (0..lines.len()).filter_map(read).collect()
}

/// Returns the words in the macros of a file: in their definitions, and in their uses at module level. Macros generate public items, which
/// the check of public items cannot read.
fn words_of_macros(text: &str) -> BTreeSet<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &str| !line.starts_with([' ', '/']) && line.split(' ').next().is_some_and(|word| word.ends_with('!'));
    (0..lines.len()).filter(|at| begins(lines[*at])).flat_map(|at| item(&lines[at..])).flat_map(words).collect()
}

/// Checks that every public item at module level is used: another crate names it, or the interface of a used item of the same crate
/// or a macro names it. In the second case, the lint `private_interfaces` of Rust requires `pub`, for example for the type of a public field or of a
/// parameter of a public method. The check compares words, not paths.
#[test]
fn public_items_are_used_by_another_crate() {
    let outside = ["tests", "benches"].map(|folder| root().join(folder));
    let of_crates = crates().into_iter().flat_map(|name| ["tests", "benches"].map(|folder| root().join("crates").join(&name).join(folder)));
    let users = files(&outside.into_iter().chain(of_crates).collect::<Vec<_>>());
    let sources = sources();
    // The library of the root package is used by its program.
    let unit = |source: &Source| if source.path == "src/main.rs" { "main".to_owned() } else { source.krate().to_owned() };
    let mut words_of: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for source in &sources {
        words_of.entry(unit(source)).or_default().extend(words(&source.text));
    }
    let tests: BTreeSet<&str> = users.iter().flat_map(|source| words(&source.text)).collect();
    let by_macros: BTreeSet<&str> = sources.iter().flat_map(|source| words_of_macros(&source.text)).collect();
    let shipped = shipped();
    let mut unused = Vec::new();
    for (own, words) in &words_of {
        let elsewhere = |name: &str| words_of.iter().any(|(other, words)| other != own && words.contains(name));
        let of_unit: Vec<&Source> = shipped.iter().filter(|source| unit(source) == *own).collect();
        let items: Vec<(&Source, PublicItem)> =
            of_unit.iter().flat_map(|source| public_items(&source.text).into_iter().map(|item| (*source, item))).collect();
        let mut interfaces: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let of_items = items.iter().map(|(_, item)| (item.name, item.interface.clone()));
        for (name, interface) in of_items.chain(of_unit.iter().flat_map(|source| implementations(&source.text))) {
            interfaces.entry(name).or_default().extend(interface);
        }
        let is_used = |name: &&str| tests.contains(name) || by_macros.contains(name) || elsewhere(name);
        let mut open: Vec<&str> = items.iter().map(|(_, item)| item.name).filter(is_used).collect();
        let mut used: BTreeSet<&str> = BTreeSet::new();
        while let Some(name) = open.pop() {
            if used.insert(name) {
                open.extend(interfaces.get(name).into_iter().flatten().filter(|word| words.contains(*word)));
            }
        }
        let items = items.iter().filter(|(_, item)| !used.contains(item.name));
        unused.extend(items.map(|(source, item)| format!("{}:{}: {}", source.path, item.line, item.name)));
    }
    assert!(unused.is_empty(), "{} items can be `pub(crate)`:\n{}", unused.len(), unused.join("\n"));
}

/// Checks that `idna_adapter` stays at version 1.0, which supports only ASCII host names. `cargo update` alone would add the tables of
/// later versions.
#[test]
fn tables_of_international_host_names_are_left_out() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    assert!(!lock.contains("name = \"icu_"), "run `cargo update -p idna_adapter --precise 1.0.0`");
}
