/tmp/wt/ct/target-v3/release/deps/conntrack-c5663972314cf57f.d: acl/benches/conntrack.rs

/tmp/wt/ct/target-v3/release/deps/conntrack-c5663972314cf57f: acl/benches/conntrack.rs

acl/benches/conntrack.rs:
