/tmp/wt/ct/target-v3/release/deps/cfg_if-74d0cdc45e281f4b.d: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/cfg-if-1.0.5/src/lib.rs

/tmp/wt/ct/target-v3/release/deps/libcfg_if-74d0cdc45e281f4b.rlib: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/cfg-if-1.0.5/src/lib.rs

/tmp/wt/ct/target-v3/release/deps/libcfg_if-74d0cdc45e281f4b.rmeta: /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/cfg-if-1.0.5/src/lib.rs

/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/cfg-if-1.0.5/src/lib.rs:
