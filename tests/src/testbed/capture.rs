//! Packets on a device, taken by tcpdump and decoded by tshark.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Netns, Testbed, within};

/// A running capture.
pub struct Capture {
    child: Child,
    file: PathBuf,
}

/// One decoded packet: fields by tshark's names, each with all its occurrences from the outermost
/// header inward.
#[derive(Debug, Clone)]
pub struct Packet {
    fields: BTreeMap<String, Vec<String>>,
}

impl Packet {
    /// All occurrences of a field; empty where the packet has none.
    pub fn all(&self, field: &str) -> Vec<&str> {
        let values = self.fields.get(field).into_iter().flatten();
        values.map(String::as_str).collect()
    }
}

impl Capture {
    /// Starts to capture what matches `filter` (pcap-filter(7)); returns when packets are taken.
    #[track_caller]
    pub fn start(testbed: &Testbed, netns: &Netns, device: &str, filter: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = testbed.dir().join(format!("capture-{number}.pcap"));
        let out = File::create(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut child = netns
            .command("tcpdump")
            .args(["--immediate-mode", "-i", device, "-n", "-U", "-w", "-"])
            .arg(filter)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip(8) can be started");
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped"));
        while !said.contains("listening on") {
            let read = lines.read_line(&mut said).expect("stderr can be read");
            assert!(read > 0, "tcpdump on {device}: {said}");
        }
        // tcpdump says little more; the pipe stays open for it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, file }
    }

    /// Waits until at least `count` packets are in the file, or until `limit` has passed.
    #[track_caller]
    pub fn wait_for(&self, count: usize, limit: Duration) {
        within(limit, &format!("{count} captured packets"), || {
            // A file in the making may end in the middle of a packet.
            let packets = self.decode(&["frame.number"]).ok()?;
            (packets.len() >= count).then_some(())
        });
    }

    /// Ends the capture and decodes these fields of its packets.
    #[track_caller]
    pub fn stop(mut self, fields: &[&str]) -> Vec<Packet> {
        self.end();
        self.decode(fields).unwrap_or_else(|said| panic!("{said}"))
    }

    fn end(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id is not 0");
        let _ = kill_process(pid, Signal::INT);
        let _ = self.child.wait();
    }

    fn decode(&self, fields: &[&str]) -> Result<Vec<Packet>, String> {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&self.file).args(["-T", "json"]);
        for layer in ["ip", "tcp", "udp"] {
            tshark.args(["-o", &format!("{layer}.check_checksum:TRUE")]);
        }
        for field in fields {
            tshark.args(["-e", field]);
        }
        let output = tshark.output().map_err(|error| format!("tshark: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let packets: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("tshark wrote no JSON: {error}"))?;
        let packets = packets.as_array().into_iter().flatten();
        let layers = packets.map(|packet| &packet["_source"]["layers"]);
        Ok(layers.map(packet_of).collect())
    }
}

fn packet_of(layers: &Value) -> Packet {
    let fields = layers.as_object().into_iter().flatten();
    Packet {
        fields: fields
            .map(|(name, values)| {
                let values = values.as_array().into_iter().flatten();
                let values = values.filter_map(Value::as_str).map(str::to_owned);
                (name.clone(), values.collect())
            })
            .collect(),
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}
