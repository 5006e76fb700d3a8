//! Traffic between namespaces, judged by what arrives.
//!
//! Both sides draw their bytes from seeded generators, so that a receiver knows each byte that it must see.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Netns, output_of};

/// No transfer may stand still for longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What ping saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingStats {
    /// Requests sent.
    pub sent: u32,
    /// Answers received.
    pub received: u32,
    /// TTL (hop limit) of each answer.
    pub ttls: Vec<u8>,
    /// Requests without an answer between the first and the last answer.
    pub gaps: u32,
    /// All that ping printed.
    pub text: String,
}

impl PingStats {
    /// Requests without an answer.
    pub fn lost(&self) -> u32 {
        self.sent - self.received
    }

    fn read(text: String) -> Self {
        let summary = text.lines().find(|line| line.contains("packets transmitted"));
        let summary = summary.unwrap_or_else(|| panic!("ping printed no summary: {text}"));
        let count = |words: &str| -> u32 {
            let mut parts = summary.split(", ");
            let part = parts.find_map(|part| part.strip_suffix(words));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        let values = |key: &str| -> Vec<u32> {
            let answers = text.lines().filter(|line| line.contains("bytes from"));
            let values = answers.filter_map(|line| {
                let value = line.split_once(key)?.1;
                let end = value.find(' ').unwrap_or(value.len());
                value[..end].parse().ok()
            });
            values.collect()
        };
        let numbers = values("icmp_seq=");
        Self {
            sent: count("packets transmitted"),
            received: count("received"),
            ttls: values("ttl=").iter().filter_map(|ttl| u8::try_from(*ttl).ok()).collect(),
            gaps: numbers.windows(2).map(|pair| pair[1].saturating_sub(pair[0] + 1)).sum(),
            text,
        }
    }
}

/// Sends `count` pings, 50 ms apart, and waits for the answers.
#[track_caller]
pub fn ping(from: &Netns, to: impl Into<IpAddr>, count: u32) -> PingStats {
    let line = format!("ping -n -i 0.05 -W 2 -c {count} {}", to.into());
    let output = from.try_run(&line);
    // Status 1: answers are missing, which the caller judges.
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    PingStats::read(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Pings that go on while a test does something else.
pub struct Pinger {
    child: Child,
    /// What ping has printed, gathered all the time: a full pipe would stop it.
    text: Arc<Mutex<String>>,
    gatherer: Option<JoinHandle<()>>,
}

impl Pinger {
    /// Starts to ping every `interval`.
    #[track_caller]
    pub fn start(from: &Netns, to: impl Into<IpAddr>, interval: Duration) -> Self {
        let mut child = from
            .command("ping")
            .args(["-n", "-W", "2", "-i"])
            .arg(format!("{:.3}", interval.as_secs_f64()))
            .arg(to.into().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip(8) can be started");
        let out = child.stdout.take().expect("stdout is piped");
        let text = Arc::new(Mutex::new(String::new()));
        let gathered = text.clone();
        let gatherer = std::thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let line = line.expect("ping prints text");
                *gathered.lock().expect("no panic while a line is added") += &(line + "\n");
            }
        });
        Self { child, text, gatherer: Some(gatherer) }
    }

    /// Waits until there is an answer.
    #[track_caller]
    pub fn wait_for_answer(&self) {
        super::within(PATIENCE, "an answer", || self.text().contains("bytes from").then_some(()));
    }

    fn text(&self) -> String {
        self.text.lock().expect("no panic while a line is added").clone()
    }

    /// Ends them.
    #[track_caller]
    pub fn stop(mut self) -> PingStats {
        self.interrupt();
        let gatherer = self.gatherer.take().expect("stopped once");
        gatherer.join().expect("ping prints text");
        PingStats::read(self.text())
    }

    fn interrupt(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id is not 0");
        let _ = kill_process(pid, Signal::INT);
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.interrupt();
        let _ = self.child.wait();
    }
}

/// Bytes without a pattern (xorshift64).
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Block size of transfers.
const BLOCK: usize = 64 * 1024;

/// What a transfer carries: blocks, each from another place of the same noise, so that long transfers cost the
/// machine little beside what they are to test, and no block is like its neighbours.
struct Blocks {
    noise: Vec<u8>,
    places: Noise,
}

impl Blocks {
    fn new(seed: u64) -> Self {
        let mut noise = vec![0; 2 * BLOCK];
        Noise(seed).fill(&mut noise);
        Self { noise, places: Noise(seed) }
    }

    /// The next block, `len` bytes of it.
    fn next(&mut self, len: usize) -> &[u8] {
        let mut place = [0; 8];
        self.places.fill(&mut place);
        let place = u64::from_le_bytes(place) as usize % BLOCK;
        &self.noise[place..place + len]
    }
}

fn send(mut stream: &TcpStream, seed: u64, bytes: usize) -> Result<(), String> {
    let mut blocks = Blocks::new(seed);
    for offset in (0..bytes).step_by(BLOCK) {
        let block = blocks.next(BLOCK.min(bytes - offset));
        stream.write_all(block).map_err(|error| format!("sending at byte {offset}: {error}"))?;
    }
    Ok(())
}

fn receive(mut stream: &TcpStream, seed: u64, bytes: usize) -> Result<(), String> {
    let mut blocks = Blocks::new(seed);
    let mut block = vec![0; BLOCK];
    for offset in (0..bytes).step_by(BLOCK) {
        let len = BLOCK.min(bytes - offset);
        stream
            .read_exact(&mut block[..len])
            .map_err(|error| format!("receiving at byte {offset}: {error}"))?;
        if block[..len] != *blocks.next(len) {
            return Err(format!("other bytes than were sent, in {offset}..{}", offset + len));
        }
    }
    Ok(())
}

/// A TCP connection with both its ends.
pub struct TcpSession {
    client: TcpStream,
    server: TcpStream,
    seed: u64,
}

impl TcpSession {
    /// Connects from one namespace to an address of another.
    pub fn try_open(from: &Netns, to: &Netns, address: impl Into<IpAddr>) -> Result<Self, String> {
        let address = address.into();
        let listener = to
            .enter(|| TcpListener::bind((address, 0)))
            .map_err(|error| format!("listening on {address}: {error}"))?;
        let address =
            listener.local_addr().map_err(|error| format!("a bound socket has an address: {error}"))?;
        let client = from
            .enter(|| TcpStream::connect_timeout(&address, PATIENCE))
            .map_err(|error| format!("connecting to {address}: {error}"))?;
        let (server, _) = listener.accept().map_err(|error| error.to_string())?;
        for stream in [&client, &server] {
            stream
                .set_read_timeout(Some(PATIENCE))
                .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
                .map_err(|error| error.to_string())?;
        }
        let seed = 0x9e37_79b9_7f4a_7c15;
        Ok(Self { client, server, seed })
    }

    /// The same, where failing to connect fails the test.
    #[track_caller]
    pub fn open(from: &Netns, to: &Netns, address: impl Into<IpAddr>) -> Self {
        Self::try_open(from, to, address).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Sends so many bytes both ways at once and checks what arrives.
    pub fn try_exchange(&mut self, bytes: usize) -> Result<(), String> {
        self.seed += 2;
        let seed = self.seed;
        let (client, server) = (&self.client, &self.server);
        std::thread::scope(|scope| {
            let work = [
                scope.spawn(move || send(client, seed, bytes)),
                scope.spawn(move || receive(server, seed, bytes)),
                scope.spawn(move || send(server, seed + 1, bytes)),
                scope.spawn(move || receive(client, seed + 1, bytes)),
            ];
            let results = work.map(|thread| thread.join().expect("no panic in a transfer"));
            results.into_iter().collect()
        })
    }

    /// The same, where an error fails the test.
    #[track_caller]
    pub fn exchange(&mut self, bytes: usize) {
        self.try_exchange(bytes).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// A new TCP connection that carries so many bytes both ways.
#[track_caller]
pub fn tcp_transfer(from: &Netns, to: &Netns, address: impl Into<IpAddr>, bytes: usize) {
    TcpSession::open(from, to, address).exchange(bytes);
}

/// Sends one UDP datagram of each size there and back again and checks the bytes.
#[track_caller]
pub fn udp_exchange(from: &Netns, to: &Netns, address: impl Into<IpAddr>, sizes: &[usize]) {
    let address = address.into();
    let server = to
        .enter(|| UdpSocket::bind((address, 0)))
        .unwrap_or_else(|error| panic!("binding {address}: {error}"));
    let address = server.local_addr().expect("a bound socket has an address");
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let client = from.enter(|| UdpSocket::bind(any)).expect("any port is free");
    client.connect(address).expect("UDP connects without a word");
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout above 0");
    }
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    let mut buffer = vec![0; 65536];
    for size in sizes {
        let mut datagram = vec![0; *size];
        noise.fill(&mut datagram);
        let sent = client.send(&datagram);
        sent.unwrap_or_else(|error| panic!("sending {size} bytes to {address}: {error}"));
        let (len, peer) = server
            .recv_from(&mut buffer)
            .unwrap_or_else(|error| panic!("{size} bytes did not come to {address}: {error}"));
        assert!(buffer[..len] == datagram, "other bytes than were sent to {address}");
        let sent = server.send_to(&buffer[..len], peer);
        sent.unwrap_or_else(|error| panic!("sending {size} bytes to {peer}: {error}"));
        let len = client
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("{size} bytes did not come back to {peer}: {error}"));
        assert!(buffer[..len] == datagram, "other bytes than were sent to {peer}");
    }
}

/// TCP and UDP packets that a namespace's stack has refused for their checksum, IPv4 and IPv6.
pub fn checksum_errors(netns: &Netns) -> u64 {
    netns.enter(|| {
        // Not /proc/net: that is the namespace of the process's first thread.
        let snmp = fs::read_to_string("/proc/thread-self/net/snmp").expect("procfs");
        let snmp6 = fs::read_to_string("/proc/thread-self/net/snmp6").expect("procfs");
        let mut sum = 0;
        let lines: Vec<&str> = snmp.lines().collect();
        // Two lines a protocol: names, then values.
        for pair in lines.chunks(2) {
            let names = pair[0].split_whitespace();
            let values = pair[1].split_whitespace();
            sum += names
                .zip(values)
                .filter(|(name, _)| *name == "InCsumErrors")
                .filter_map(|(_, value)| value.parse::<u64>().ok())
                .sum::<u64>();
        }
        for line in snmp6.lines().filter(|line| line.contains("InCsumErrors")) {
            let value = line.split_whitespace().next_back();
            sum += value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        }
        sum
    })
}

/// Runs Python with all of scapy inside a namespace, for frames that no kernel sends; returns what it
/// printed.
#[track_caller]
pub fn scapy(netns: &Netns, code: &str) -> String {
    // Debian's own Python is the one that has python3-scapy.
    let mut python = netns.command("/usr/bin/python3");
    let code = format!("import socket\nfrom scapy.all import *\nconf.verb = 0\n{code}");
    output_of(python.args(["-c", &code]))
}
