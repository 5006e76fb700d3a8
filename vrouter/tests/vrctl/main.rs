//! `vrctl` as a user runs it, against a mock router on a Unix socket: tables, JSON, exit statuses, and
//! captures read back by another parser.

mod answers;
mod capture;
mod mock;
mod policy;
mod reads;
mod writes;

use std::io::Write;
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
    let mut child = command(server, arguments)
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

/// The stdout of a run that must succeed in silence.
fn good(server: &Server, arguments: &str) -> String {
    let run = vrctl(server, arguments);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{arguments}");
    run.out
}
