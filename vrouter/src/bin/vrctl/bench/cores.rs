//! The cores that a measurement may use: those that this process is allowed on, whatever their numbers.

use rustix::thread::{CpuSet, sched_getaffinity};

/// A core for the router and, where there are two, one for the generator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cores {
    /// The router's.
    pub(super) router: usize,
    /// The generator's.
    pub(super) generator: Option<usize>,
}

impl Cores {
    /// The router on `wanted`, or on the last core; the generator on the next one, round to the first.
    ///
    /// # Errors
    /// This process may not use the core that is wanted, or it cannot be told which it may.
    pub(super) fn choose(wanted: Option<usize>) -> Result<Self, String> {
        let set = sched_getaffinity(None).map_err(|error| format!("sched_getaffinity: {error}"))?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
        Self::among(wanted, &allowed)
    }

    fn among(wanted: Option<usize>, allowed: &[usize]) -> Result<Self, String> {
        let place = match wanted {
            None => allowed.len().checked_sub(1),
            Some(core) => allowed.iter().position(|one| *one == core),
        };
        let Some(place) = place else {
            let wanted = wanted.map_or_else(|| "a core".to_owned(), |core| format!("core {core}"));
            return Err(format!("{wanted} is not for this process, which may run on {allowed:?}"));
        };
        let next = allowed[(place + 1) % allowed.len()];
        let router = allowed[place];
        Ok(Cores { router, generator: (next != router).then_some(next) })
    }
}

/// A mask of one core, as files of sysfs such as `rps_cpus` take it: groups of 32 bits in hexadecimal, the
/// highest first.
pub(super) fn mask(core: usize) -> String {
    let mut out = format!("{:x}", 1u32 << (core % 32));
    for _ in 0..core / 32 {
        out.push_str(",00000000");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_those_of_the_process() {
        let cores = |router, generator| Ok(Cores { router, generator });
        assert_eq!(Cores::among(None, &[0, 1]), cores(1, Some(0)));
        // A cpuset: two cores, whose numbers are not below two.
        assert_eq!(Cores::among(None, &[66, 70]), cores(70, Some(66)));
        assert_eq!(Cores::among(Some(66), &[66, 70]), cores(66, Some(70)));
        assert_eq!(Cores::among(None, &[5]), cores(5, None));
        let refused = Cores::among(Some(1), &[66, 70]).unwrap_err();
        assert_eq!(refused, "core 1 is not for this process, which may run on [66, 70]");
        assert!(Cores::among(None, &[]).is_err());
        assert!(Cores::choose(None).is_ok());
    }

    #[test]
    fn masks_are_written_in_groups_of_32_bits() {
        for (core, expected) in [
            (0, "1"),
            (31, "80000000"),
            (32, "1,00000000"),
            (35, "8,00000000"),
            (64, "1,00000000,00000000"),
            (127, "80000000,00000000,00000000,00000000"),
        ] {
            assert_eq!(mask(core), expected, "{core}");
        }
    }
}
