//! What must survive a restart and stands in no configuration file: the pods
//! attached by hand, the devices we made, the resources that were applied.
//!
//! One file, `state_dir/state.json`, replaced as a whole: written beside it, synced,
//! renamed over it, the directory synced. A reader sees the old state or the new,
//! also after a power cut. `state_dir/lock` is held by flock(2) while the store is
//! open: two routers on one directory would overwrite each other.
//!
//! A file that cannot be understood is moved aside, named in the report, and the
//! router starts with an empty state; a file of a newer version is left alone and
//! refused, because an older router would destroy what it does not know.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use encap::MacAddr;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::held::{Attempt, Patience};
use super::pod_interface::{Attach, PodInterfaceRecord};

/// The version of the file's layout that this code writes and reads.
pub const STATE_VERSION: u32 = 1;

const FILE_NAME: &str = "state.json";

/// The whole durable state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct State {
    /// Pods attached by hand, by name (`namespace/name`).
    #[serde(default)]
    pub pods: BTreeMap<String, AttachedPod>,
    /// Devices that this router made and has not removed, by a key of the
    /// caller's choice.
    #[serde(default)]
    pub devices: BTreeMap<String, OwnedDevice>,
    /// Applied resources as YAML text, by kind and then by name.
    #[serde(default)]
    pub resources: BTreeMap<String, BTreeMap<String, String>>,
}

/// A pod attached by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachedPod {
    /// Path of the pod's network namespace.
    pub netns: PathBuf,
    /// Name of the interface inside it.
    pub interface: String,
    /// The pod's addresses; each stands for a /32 or /128.
    pub addresses: Vec<IpAddr>,
    /// How the pod is attached.
    pub attach: Attach,
    /// The pod's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The MAC address of its interface, once chosen.
    #[serde(default, with = "mac_text")]
    pub mac: Option<MacAddr>,
}

/// A MAC address in its usual text form.
mod mac_text {
    use encap::MacAddr;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    #[allow(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(mac: &Option<MacAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        mac.map(|mac| mac.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<MacAddr>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// A device to remove when its purpose ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OwnedDevice {
    /// The host port, in the node's namespace.
    HostPort {
        /// The device's name.
        name: String,
    },
    /// A pod's interface.
    PodInterface(PodInterfaceRecord),
}

/// The file's content: the version stands first, and is read before the rest.
#[derive(Serialize)]
struct Versioned<'a> {
    version: u32,
    #[serde(flatten)]
    state: &'a State,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("state directory `{}` is in use by another router", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The file was written by a newer router.
    #[error(
        "`{}` has version {found}, and this router knows version {STATE_VERSION}: \
         run the newer router, or move the file away", path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// A file that could not be understood and was moved out of the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is corrupt ({reason}); it was moved to `{}` and the state starts empty",
    file.display(), moved_to.display())]
pub struct SetAside {
    /// The file as it was named.
    pub file: PathBuf,
    /// Where it is now.
    pub moved_to: PathBuf,
    /// What is wrong with it, with line and column.
    pub reason: String,
}

/// The state and its directory. All methods block on the disk.
#[derive(Debug)]
pub struct StateStore {
    dir: PathBuf,
    state: State,
    _lock: File,
}

impl StateStore {
    /// Opens `dir`, which is made if it is missing. The second value tells of a
    /// corrupt file that was moved aside; the state is empty then.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(dir: &Path) -> Result<(Self, Option<SetAside>), StateError> {
        fs::create_dir_all(dir).map_err(failed("create directory", dir))?;
        let lock = take_lock(dir)?;
        let path = dir.join(FILE_NAME);
        let (state, set_aside) = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (State::default(), None),
            Err(error) => return Err(failed("read", &path)(error)),
            Ok(bytes) => match parse(&path, &bytes)? {
                Ok(state) => (state, None),
                Err(reason) => (State::default(), Some(set_aside(&path, reason)?)),
            },
        };
        Ok((Self { dir: dir.to_owned(), state, _lock: lock }, set_aside))
    }

    /// The state as it is on the disk.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Changes the state and makes the change durable. On an error neither the
    /// state nor the file has changed; a change that changes nothing writes nothing.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn update(&mut self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        let mut next = self.state.clone();
        change(&mut next);
        if next != self.state {
            write(&self.dir, &next)?;
            self.state = next;
        }
        Ok(())
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

fn take_lock(dir: &Path) -> Result<File, StateError> {
    let path = dir.join("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed("open", &path))?;
    let patience = Patience::new();
    loop {
        let failure = match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK) => Attempt::Held(StateError::InUse { dir: dir.to_owned() }),
            Err(errno) => Attempt::Failed(failed("lock", &path)(errno.into())),
        };
        thread::sleep(patience.pause(failure)?);
    }
}

/// The state in `bytes`, or what is wrong with them.
fn parse(path: &Path, bytes: &[u8]) -> Result<Result<State, String>, StateError> {
    match serde_json::from_slice::<VersionOnly>(bytes) {
        Err(error) => return Ok(Err(error.to_string())),
        Ok(VersionOnly { version }) if version > STATE_VERSION => {
            return Err(StateError::NewerVersion { path: path.to_owned(), found: version });
        }
        Ok(VersionOnly { version: 0 }) => return Ok(Err("there is no version 0".to_owned())),
        Ok(_) => {}
    }
    // `flatten` and `deny_unknown_fields` do not go together, so that the version
    // is taken out before the rest is read strictly.
    let state = serde_json::from_slice::<serde_json::Value>(bytes).and_then(|mut value| {
        if let Some(object) = value.as_object_mut() {
            object.remove("version");
        }
        serde_json::from_value(value)
    });
    Ok(state.map_err(|error| error.to_string()))
}

fn set_aside(path: &Path, reason: String) -> Result<SetAside, StateError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let moved_to = (0..)
        .map(|n: u32| path.with_file_name(format!("{FILE_NAME}.corrupt-{now}-{n}")))
        .find(|candidate| !candidate.exists())
        .expect("a directory holds fewer than 2^32 files of one second");
    fs::rename(path, &moved_to).map_err(failed("move aside", path))?;
    Ok(SetAside { file: path.to_owned(), moved_to, reason })
}

fn write(dir: &Path, state: &State) -> Result<(), StateError> {
    let path = dir.join(FILE_NAME);
    let temporary = dir.join(format!("{FILE_NAME}.new"));
    let text = serde_json::to_vec_pretty(&Versioned { version: STATE_VERSION, state })
        .expect("maps with text keys and plain values always serialize");
    let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
    file.write_all(&text).map_err(failed("write", &temporary))?;
    file.sync_all().map_err(failed("sync", &temporary))?;
    fs::rename(&temporary, &path).map_err(failed("replace", &path))?;
    let directory = File::open(dir).map_err(failed("open", dir))?;
    directory.sync_all().map_err(failed("sync", dir))
}

#[cfg(test)]
mod tests;
