//! Configuration text.

use vrouter::config::{Host, read};

/// Reads the text; whoever shows findings must be able to.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let host = Host { name: "node1", cpus: &[0, 1], frames_needed: &|_| 4096 };
    match read("vrouter.toml", text, &host).finish() {
        Ok((_, findings)) => {
            assert_eq!(findings.errors(), 0);
            let _ = findings.to_string();
        }
        Err(findings) => {
            assert!(findings.errors() > 0);
            assert!(!findings.to_string().is_empty());
        }
    }
}
