//! What a router's workers allocate, counted by a library in front of the C library's allocator: the program is the
//! one that users run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::{Router, Testbed, output_of};

/// Words of `struct counts` in count_allocations.c.
const WORDS: usize = 5;

/// Counts of one router.
pub struct Allocations(File);

/// What was counted while watching.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Allocations by workers.
    pub allocated: u64,
    /// What workers gave back.
    pub freed: u64,
    /// Bytes of the first allocation by a worker.
    pub first_size: u64,
    /// Allocations by other threads.
    pub elsewhere: u64,
}

impl Allocations {
    /// Has a router counted that is not started yet. Needs a C compiler, as Rust itself does.
    #[track_caller]
    pub fn of(testbed: &Testbed, router: &mut Router) -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testbed/count_allocations.c");
        let library = testbed.dir().join("count_allocations.so");
        output_of(Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source));
        let path = router.dir().join("allocations");
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path);
        let file = file.expect("the testbed's directory can be written");
        file.set_len(8 * WORDS as u64).expect("there is room for some words");
        router.set_environment("LD_PRELOAD", &library.to_string_lossy());
        router.set_environment("ALLOCATION_COUNTS", &path.to_string_lossy());
        Allocations(file)
    }

    /// Begins to watch, or ends it.
    pub fn watch(&self, watching: bool) {
        self.0.write_all_at(&u64::from(watching).to_ne_bytes(), 0).expect("a file of our own");
    }

    /// Forgets what was counted.
    pub fn forget(&self) {
        self.0.write_all_at(&[0; 8 * (WORDS - 1)], 8).expect("a file of our own");
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        let word = |at: u64| {
            let mut word = [0; 8];
            self.0.read_exact_at(&mut word, 8 * at).expect("it has so many words");
            u64::from_ne_bytes(word)
        };
        Counts { allocated: word(1), freed: word(2), first_size: word(3), elsewhere: word(4) }
    }
}
