/tmp/wt/ct/target-v3/release/deps/rand_xorshift-0718ba9874c0ceb4.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rand_xorshift-0.5.0/src/lib.rs

/tmp/wt/ct/target-v3/release/deps/librand_xorshift-0718ba9874c0ceb4.rlib: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rand_xorshift-0.5.0/src/lib.rs

/tmp/wt/ct/target-v3/release/deps/librand_xorshift-0718ba9874c0ceb4.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rand_xorshift-0.5.0/src/lib.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/rand_xorshift-0.5.0/src/lib.rs:
