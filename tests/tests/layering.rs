//! The shape of the sources: who may use whom, how long a file may be, where `unsafe` may stand.
//!
//! ```text
//!   daemon, rpc_server, metrics, main        wiring
//!   agent, config, rpc                       the world around
//!   router, neighbor_ports                   the library's front
//!   control      worker                      control never names pipeline, nor pipeline control:
//!                pipeline                    they meet in tables
//!                port, totals
//!   neighbor
//!   tables, publish
//!   checksum, burst, frame
//!   counters
//!   ids, drop_reason, clock, path_stage
//!   sys, vector                              the operating system, the CPU
//! ```
//!
//! A line uses itself and the lines below it.

// Every function here is a test's.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// From low to high; modules of one layer may use each other.
const LAYERS: [&[&str]; 15] = [
    &["sys", "vector", "atomic"],
    &["ids", "drop_reason", "clock", "path_stage"],
    &["counters"],
    &["frame"],
    &["burst"],
    &["checksum"],
    &["tables", "publish"],
    &["neighbor"],
    &["port"],
    &["totals"],
    &["pipeline"],
    &["worker"],
    &["control"],
    &["neighbor_ports", "router"],
    &["agent", "config", "rpc"],
];
/// Above all of them.
const WIRING: [&str; 5] = ["daemon", "rpc_server", "metrics", "main", "lib"];
/// Pairs that never name each other, whatever their layers.
const APART: [(&str, &str); 2] = [("pipeline", "control"), ("worker", "control")];
/// Who may look into the pipeline's state: those that build and drive it.
const MAY_NAME_STATE: [&str; 3] = ["pipeline", "worker", "router"];
/// Crates without workspace dependencies.
const LEAVES: [&str; 4] = ["fib", "encap", "acl", "api"];
/// Files of leaf crates that hold instructions for vectors and prefetching, each beside a safe twin.
const VECTOR_MODULES: [&str; 12] = [
    "fib/kernel.rs",
    "fib/kernel/x86.rs",
    "acl/conntrack/avx512.rs",
    "acl/conntrack/avx512/bodies.rs",
    "acl/conntrack/avx512/columns.rs",
    "acl/conntrack/avx512/heads.rs",
    "acl/conntrack/avx512/segments.rs",
    "fib/kernel/x86/overwrite.rs",
    "fib/kernel/x86/ranges.rs",
    "fib/kernel/x86/vector.rs",
    "acl/conntrack/prefetch.rs",
    "acl/list/avx512.rs",
];
/// Files of the router that hold unsafe code, besides those of the operating system's side.
const UNSAFE_FILES: [&str; 4] = ["frame.rs", "frame/columns.rs", "frame/pool.rs", "vector.rs"];
/// What the packet path never does: read a clock, wait for a lock, allocate by formatting, log.
const NOT_PER_PACKET: [&str; 9] = [
    "clock::now",
    "tsc::now",
    "Instant::now",
    "SystemTime",
    "Mutex",
    "RwLock",
    "format!",
    "println!",
    "tracing::",
];
/// Files of the packet path that do one of these all the same, and when.
const EXCEPT: [(&str, &str, &str); 2] = [
    ("pipeline/stopwatch.rs", "tsc::now", "in the one burst of about 128 that is measured"),
    ("port/tap.rs", "tracing::", "when a device is opened"),
];
/// Files of ports that packets do not pass: a device is opened and described there.
const NOT_ON_THE_PATH: [&str; 1] = ["port/af_xdp/device.rs"];
/// Lines of a file.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust source below a folder, with its path from there.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "{} has no sources", folder.display());
    found
}

/// The code of a source without comment lines.
fn code(source: &str) -> String {
    source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Paths behind `crate::` in code, up to two names deep: `pipeline::state`.
fn named(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            // A list: each element's own path.
            Some(list) => list[..list.find("};").unwrap_or(list.len())].split(',').collect(),
            None => vec![rest],
        };
        for path in list {
            let path = path.trim_start();
            let end =
                path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(path.len());
            paths.push(path[..end].trim_end_matches(':').to_owned());
        }
    }
    paths
}

fn module_of(path: &str) -> &str {
    let first = path.split(['/', ':']).next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn layer(module: &str) -> Option<usize> {
    let wiring = WIRING.contains(&module).then_some(LAYERS.len());
    LAYERS.iter().position(|modules| modules.contains(&module)).or(wiring)
}

#[test]
fn modules_use_only_what_is_below_them() {
    let mut faults = Vec::new();
    for (file, source) in sources(&root().join("vrouter/src")) {
        let module = module_of(&file);
        // The command line tool knows the API alone, and is a crate of its own.
        if module == "bin" {
            continue;
        }
        let Some(own) = layer(module) else {
            faults.push(format!("{file}: module {module} has no layer"));
            continue;
        };
        for path in named(&code(&source)) {
            let used = module_of(&path);
            let Some(theirs) = layer(used) else { continue };
            if theirs > own {
                faults.push(format!("{file} uses {path}, which is above it"));
            }
            let apart = |(a, b): &(&str, &str)| (*a == module && *b == used) || (*b == module && *a == used);
            if APART.iter().any(apart) {
                faults.push(format!("{file} uses {path}: {module} and {used} meet in tables"));
            }
            if path.starts_with("pipeline::state") && !MAY_NAME_STATE.contains(&module) {
                faults.push(format!("{file} uses {path}, which is the workers' own"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_command_line_tool_uses_the_api_and_what_answers_without_a_router() {
    // Questions about files of policies are answered by what a router compiles them with.
    // What a router answers is put into the same form.
    // `bench` measures routers that it builds itself. On a CPU that is too old, nothing else may be asked.
    let offline = [
        ("policy.rs", "vrouter::control::policy"),
        ("batch.rs", "vrouter::control::policy"),
        ("cases.rs", "vrouter::control::policy"),
        ("ask.rs", "vrouter::control::policy"),
        ("bench/memory.rs", "vrouter::"),
        ("bench/role.rs", "vrouter::"),
        ("main.rs", "vrouter::cpu_is_too_old"),
        ("main.rs", "vrouter::CPU_TOO_OLD"),
    ];
    for (file, source) in sources(&root().join("vrouter/src/bin/vrctl")) {
        for (at, _) in code(&source).match_indices("vrouter::") {
            let rest = &code(&source)[at..];
            let allowed = offline.iter().any(|(at, path)| file == *at && rest.starts_with(path));
            assert!(
                allowed || rest.starts_with("vrouter::rpc"),
                "vrctl/{file} uses {}",
                rest.lines().next().unwrap_or(rest)
            );
        }
    }
}

#[test]
fn every_module_of_the_library_has_a_layer() {
    let lib = fs::read_to_string(root().join("vrouter/src/lib.rs")).unwrap();
    for line in lib.lines().filter(|line| line.contains("mod ") && line.ends_with(';')) {
        let name = line.split("mod ").nth(1).unwrap().trim_end_matches(';');
        assert!(layer(name).is_some(), "module {name} has no layer");
    }
}

#[test]
fn leaf_crates_stand_alone_and_are_safe_but_for_vector_code() {
    for leaf in LEAVES {
        let manifest = fs::read_to_string(root().join(leaf).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or("");
        let dependencies = dependencies.split("\n[").next().unwrap_or("");
        assert!(!dependencies.contains("vrouter"), "{leaf} depends on a crate of the workspace");
        for (file, source) in sources(&root().join(leaf).join("src")) {
            let allowed = VECTOR_MODULES.contains(&format!("{leaf}/{file}").as_str());
            assert!(allowed || !has_unsafe_code(&source), "{leaf}/src/{file} has unsafe code");
        }
    }
}

#[test]
fn unsafe_code_stands_at_the_system_and_in_the_frames() {
    for (file, source) in sources(&root().join("vrouter/src")) {
        let allowed = file.starts_with("sys/") || UNSAFE_FILES.contains(&file.as_str());
        assert!(allowed || !has_unsafe_code(&source), "{file} has unsafe code");
    }
}

/// Whether `unsafe` is a word of the code.
fn has_unsafe_code(source: &str) -> bool {
    code(source).lines().any(|line| {
        let line = line.split("//").next().unwrap_or(line);
        line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe")
    })
}

#[test]
fn files_are_short() {
    let mut long = Vec::new();
    for folder in ["fib", "encap", "acl", "api", "vrouter", "bench", "tests"] {
        for (file, source) in sources(&root().join(folder)) {
            let lines = source.lines().count();
            if lines > MAX_LINES {
                long.push(format!("{folder}/{file}: {lines} lines"));
            }
        }
    }
    assert!(long.is_empty(), "more than {MAX_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn the_packet_path_reads_no_clock_and_waits_for_no_lock() {
    let mut faults = Vec::new();
    let mut excepted = Vec::new();
    for (file, source) in sources(&root().join("vrouter/src")) {
        let on_the_path = file.starts_with("pipeline/") || file.starts_with("port/");
        let is_test = file.ends_with("/tests.rs") || file.contains("/tests/");
        if !on_the_path || is_test || NOT_ON_THE_PATH.contains(&file.as_str()) {
            continue;
        }
        // Tests stand at a file's end.
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
        for word in NOT_PER_PACKET.into_iter().filter(|word| code(source).contains(word)) {
            match EXCEPT.iter().position(|(at, what, _)| *at == file && *what == word) {
                Some(number) => excepted.push(number),
                None => faults.push(format!("{file} has {word}")),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // An exception that nobody needs any more goes.
    assert_eq!(excepted.len(), EXCEPT.len(), "{EXCEPT:?}");
}

/// The check itself finds what it is for.
#[test]
fn paths_are_found_in_every_form_of_use() {
    let code =
        "use crate::pipeline::state::X;\nuse crate::{ids::PortId, control};\nlet x = crate::clock::now();";
    assert_eq!(named(code), ["pipeline::state::X", "ids::PortId", "control", "clock::now"]);
    assert_eq!(module_of("pipeline::state::X"), "pipeline");
    assert_eq!(module_of("worker/mod.rs"), "worker");
    assert_eq!(module_of("router.rs"), "router");
    assert!(layer("pipeline") < layer("worker") && layer("worker") < layer("daemon"));
}
