//! What a configuration is held against on this machine: devices, namespaces,
//! other routers. Nothing is changed, nothing stays behind.

use std::path::Path;

use crate::agent::netlink::Netlink;
use crate::agent::uplink_guard;
use crate::config::{self, Attach, Config, Diagnostics, Host, Reading, Sharing};
use crate::daemon::plan;
use crate::port::af_xdp::largest_mtu;
use crate::sys::netns::Netns;

/// Frames that a configuration needs at least: what workers keep for themselves, the
/// smallest fill rings, and something to move.
pub fn frames_needed(config: &Config) -> u32 {
    let workers = config.workers.cores.len().max(1) as u32;
    let uplinks = config.uplinks.len() as u32;
    let veths = config.pods.iter().filter(|pod| pod.spec.attach == Attach::Veth).count() as u32;
    // A pair has a queue for each worker, and 256 frames or 64 for each queue.
    workers * 640 + uplinks * 256 + veths * (64 * workers).max(256)
}

/// Reads a configuration and checks it against the system.
///
/// # Errors
/// All that is wrong, each with its place.
pub async fn read_and_check(path: &Path) -> Result<(Config, Diagnostics), Diagnostics> {
    let mut reading = read_file(path)?;
    check_system(&mut reading).await;
    reading.finish()
}

/// Reads a configuration and checks it in itself: its devices need not be here.
///
/// # Errors
/// All that is wrong, each with its place.
pub fn read(path: &Path) -> Result<(Config, Diagnostics), Diagnostics> {
    read_file(path)?.finish()
}

fn read_file(path: &Path) -> Result<Reading, Diagnostics> {
    let file = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let mut diagnostics = Diagnostics::new(&file, "");
            let place = config::Place::new("", None);
            diagnostics.error(&place, format!("cannot read the file: {error}"), "a readable TOML file");
            return Err(diagnostics);
        }
    };
    let host_name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let cpus = available_cores();
    let host = Host { name: &host_name, cpus: &cpus, frames_needed: &frames_needed };
    Ok(config::read(&file, &text, &host))
}

/// Cores that this process may use.
pub(super) fn available_cores() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
        Err(_) => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    }
}

/// What is taken at start must be there.
fn check_memory(draft: &Config, available: u64, diagnostics: &mut Diagnostics) {
    let needed = plan::fixed_bytes(draft);
    if needed > available {
        diagnostics.error(
            &draft.memory.frames.place,
            format!(
                "frames, flows and workers need {} MiB of memory, but {} MiB are available",
                needed >> 20,
                available >> 20
            ),
            "fewer frames or flows; `vrouter plan` says what each part takes",
        );
    }
}

async fn check_system(reading: &mut Reading) {
    let Reading { draft, diagnostics } = reading;
    check_memory(draft, plan::available_bytes(), diagnostics);
    let netlink = match Netlink::connect() {
        Ok(netlink) => netlink,
        Err(error) => {
            let place = config::Place::new("", None);
            diagnostics.error(&place, format!("the kernel cannot be asked: {error}"), "rtnetlink access");
            return;
        }
    };
    for uplink in &draft.uplinks {
        let place = &uplink.device.place;
        match uplink_guard::claim(&netlink, &uplink.device).await {
            Err(error) => diagnostics.error(place, error.to_string(), "a free Ethernet device of this host"),
            Ok(claimed) => {
                if *uplink.mtu > claimed.link.mtu {
                    diagnostics.error(
                        &uplink.mtu.place,
                        format!("{} is more than the device's MTU of {}", *uplink.mtu, claimed.link.mtu),
                        "at most the device's MTU",
                    );
                }
                let wanted = if *uplink.mtu == 0 { claimed.link.mtu } else { *uplink.mtu };
                let largest = largest_mtu(*draft.memory.frame_size);
                if wanted > largest {
                    diagnostics.error(
                        place,
                        format!(
                            "its MTU of {wanted} does not fit frames of {} bytes",
                            *draft.memory.frame_size
                        ),
                        format!("an MTU of at most {largest}, or memory.frame_size = 4096"),
                    );
                }
                let no_address = claimed.link.addresses.is_empty() && uplink.addresses.is_empty();
                if no_address && *uplink.sharing == Sharing::Host {
                    diagnostics.warning(
                        place,
                        "the device has no address yet: it carries nothing until it has one".to_owned(),
                        "an address on the device",
                    );
                }
            }
        }
    }
    for pod in &draft.pods {
        if let Err(error) = Netns::open(&pod.spec.netns) {
            diagnostics.error(
                &pod.netns_place,
                format!("{}: {error}", pod.spec.netns.display()),
                "the path of a network namespace, as made by `ip netns add`",
            );
        }
    }
}
