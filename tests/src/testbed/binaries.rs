//! The programs under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of one of the product's programs.
///
/// They come from the directory in `VROUTER_BIN_DIR`. Without it the release build is brought up to
/// date once and used: a test never runs against an old program.
pub fn binary(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let path = DIRECTORY.get_or_init(directory).join(name);
    assert!(path.is_file(), "there is no program {}", path.display());
    path
}

fn directory() -> PathBuf {
    if let Some(given) = std::env::var_os("VROUTER_BIN_DIR") {
        return PathBuf::from(given);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--workspace", "--bins"])
        .current_dir(&workspace)
        .status()
        .expect("cargo, which runs this test, can be started");
    assert!(status.success(), "the programs do not build");
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| workspace.join("target"), PathBuf::from).join("release")
}
