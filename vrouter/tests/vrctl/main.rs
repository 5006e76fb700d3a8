//! `vrctl` as a user runs it, against a mock router on a Unix socket: tables, JSON, exit statuses, and
//! captures read back by another parser.

mod answers;
mod batches;
mod bench;
mod capture;
mod mock;
mod offline;
mod policy;
mod policy_answers;
mod reads;
mod writes;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use mock::Server;

/// The outcome of one run: exit status, stdout, stderr.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(server: &Server, arguments: &str) -> Command {
    let socket = server.directory.join("v.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vrctl"));
    command
        .env("VRCTL_API", format!("unix:{}", socket.display()))
        .args(arguments.split_whitespace())
        .current_dir(&server.directory);
    command
}

fn finish(output: Output) -> Run {
    Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("vrctl writes UTF-8"),
        err: String::from_utf8(output.stderr).expect("vrctl writes UTF-8"),
    }
}

fn vrctl(server: &Server, arguments: &str) -> Run {
    let output = command(server, arguments).output();
    finish(output.expect("vrctl is built with the tests"))
}

fn vrctl_with_stdin(server: &Server, arguments: &str, input: &str) -> Run {
    with_stdin(command(server, arguments), input)
}

fn with_stdin(mut command: Command, input: &str) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("vrctl is built with the tests");
    let mut stdin = child.stdin.take().expect("stdin was asked for");
    stdin.write_all(input.as_bytes()).expect("vrctl reads its stdin");
    drop(stdin);
    finish(child.wait_with_output().expect("vrctl ends"))
}

/// A directory of a test that needs no router; it goes with the value.
struct Directory {
    path: PathBuf,
}

impl Directory {
    /// `name` is unique among the tests of a run.
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vrctl-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        Directory { path }
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path.join(file), text).expect("the directory is new");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A directory that stays behind fails no test.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn command_in(directory: &Directory, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vrctl"));
    command.args(arguments.split_whitespace()).current_dir(&directory.path);
    command
}

fn vrctl_in(directory: &Directory, arguments: &str) -> Run {
    let output = command_in(directory, arguments).output();
    finish(output.expect("vrctl is built with the tests"))
}

fn vrctl_in_with_stdin(directory: &Directory, arguments: &str, input: &str) -> Run {
    with_stdin(command_in(directory, arguments), input)
}

/// The stdout of a run that must succeed in silence.
fn good(server: &Server, arguments: &str) -> String {
    let run = vrctl(server, arguments);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{arguments}");
    run.out
}
