//! Pinning a worker's thread to its core.

use rustix::thread::{CpuSet, sched_setaffinity};

use super::OsError;

/// Restricts the calling thread to `core`, numbered as the kernel does.
///
/// # Errors
/// The core does not exist, is offline, or lies outside the process' cpuset.
pub(crate) fn pin_current_thread(core: usize) -> Result<(), OsError> {
    let step = || format!("pin the thread to core {core}");
    if core >= CpuSet::MAX_CPU {
        return Err(OsError::new(step(), rustix::io::Errno::INVAL)
            .hint("core numbers of this size are not supported"));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|errno| {
        OsError::new(step(), errno).hint("the core must exist, be online and be in our cpuset")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::sched_getaffinity;

    #[test]
    fn pins_and_refuses() {
        std::thread::spawn(|| {
            let allowed = sched_getaffinity(None).unwrap();
            let core = (0..CpuSet::MAX_CPU).rfind(|&c| allowed.is_set(c)).unwrap();
            pin_current_thread(core).unwrap();
            let now = sched_getaffinity(None).unwrap();
            assert_eq!((now.count(), now.is_set(core)), (1, true));
        })
        .join()
        .unwrap();
        assert!(pin_current_thread(1023).unwrap_err().to_string().contains("core 1023"));
        assert!(pin_current_thread(1 << 20).is_err());
    }
}
