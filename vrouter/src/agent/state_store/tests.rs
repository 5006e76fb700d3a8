use super::*;

/// A directory of its own for each test, removed with it.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("os-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE_NAME)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fill(state: &mut State) {
    state.pods.insert(
        "default/a".into(),
        AttachedPod {
            netns: "/run/netns/a".into(),
            interface: "eth0".into(),
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            attach: Attach::Veth,
            labels: BTreeMap::from([("app".into(), "x".into())]),
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
        },
    );
    let host_port = OwnedDevice::HostPort { name: "vrouter0".into() };
    state.devices.insert("host-port".into(), host_port);
    let interface = PodInterfaceRecord {
        netns: "/run/netns/a".into(),
        netns_id: (4, u64::MAX),
        interface: "eth0".into(),
        attach: Attach::Veth,
        host_device: Some("vr0123456789a".into()),
    };
    state.devices.insert("pod:default/a".into(), OwnedDevice::PodInterface(interface));
    state.resources.entry("IPPool".into()).or_default().insert("default".into(), "cidr: 10.0.0.0/8\n".into());
}

#[test]
fn what_was_updated_is_there_after_a_restart() {
    let dir = Dir::new("restart");
    let (mut store, set_aside) = StateStore::open(&dir.0).unwrap();
    assert_eq!((store.state(), set_aside), (&State::default(), None));
    store.update(fill).unwrap();
    let kept = store.state().clone();
    drop(store);
    let (store, set_aside) = StateStore::open(&dir.0).unwrap();
    assert_eq!((store.state(), set_aside), (&kept, None));
    assert!(!dir.0.join("state.json.new").exists());
}

#[test]
fn a_corrupt_file_is_moved_aside_and_named() {
    let dir = Dir::new("corrupt");
    for content in
        [&b"{\"version\": 1, \"pods\": {"[..], b"", b"\xff\xfe", b"{\"version\": 1, \"podz\": {}}", b"[]"]
    {
        fs::create_dir_all(&dir.0).unwrap();
        fs::write(dir.file(), content).unwrap();
        let (mut store, set_aside) = StateStore::open(&dir.0).unwrap();
        let set_aside = set_aside.unwrap();
        assert_eq!(fs::read(&set_aside.moved_to).unwrap(), content);
        assert!(set_aside.to_string().contains(dir.file().to_str().unwrap()), "{set_aside}");
        assert_eq!(store.state(), &State::default());
        store.update(fill).unwrap();
        assert!(!store.state().pods.is_empty());
    }
}

#[test]
fn a_newer_file_is_refused_and_left_alone() {
    let dir = Dir::new("newer");
    fs::create_dir_all(&dir.0).unwrap();
    let content = "{\"version\": 2, \"anything\": true}";
    fs::write(dir.file(), content).unwrap();
    let error = StateStore::open(&dir.0).unwrap_err();
    assert!(matches!(error, StateError::NewerVersion { found: 2, .. }), "{error}");
    assert_eq!(fs::read_to_string(dir.file()).unwrap(), content);
}

#[test]
fn one_directory_serves_one_router() {
    let dir = Dir::new("lock");
    let first = StateStore::open(&dir.0).unwrap();
    let error = StateStore::open(&dir.0).unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    drop(first);
    StateStore::open(&dir.0).unwrap();
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let dir = Dir::new("fails");
    let (mut store, _) = StateStore::open(&dir.0).unwrap();
    // A directory in the place of the temporary file makes its creation fail.
    fs::create_dir(dir.0.join("state.json.new")).unwrap();
    let error = store.update(fill).unwrap_err();
    assert!(error.to_string().contains("state.json.new"), "{error}");
    assert_eq!(store.state(), &State::default());
    assert!(!dir.file().exists());
}
