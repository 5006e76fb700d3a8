/tmp/wt/ct/target-v3/release/deps/acl-f341b109562dd9c5.d: acl/src/lib.rs acl/src/conntrack.rs acl/src/conntrack/account.rs acl/src/conntrack/atomic.rs acl/src/conntrack/bucket.rs acl/src/conntrack/entry.rs acl/src/conntrack/error.rs acl/src/conntrack/expire.rs acl/src/conntrack/found.rs acl/src/conntrack/free_list.rs acl/src/conntrack/hash.rs acl/src/conntrack/headers.rs acl/src/conntrack/icmp.rs acl/src/conntrack/insert.rs acl/src/conntrack/inspect.rs acl/src/conntrack/lookup.rs acl/src/conntrack/memory.rs acl/src/conntrack/phase.rs acl/src/conntrack/prefetch.rs acl/src/conntrack/protocol.rs acl/src/conntrack/sctp.rs acl/src/conntrack/table.rs acl/src/conntrack/tcp.rs acl/src/conntrack/tcp/established.rs acl/src/conntrack/track.rs acl/src/conntrack/window.rs acl/src/endpoint.rs acl/src/rule.rs

/tmp/wt/ct/target-v3/release/deps/libacl-f341b109562dd9c5.rlib: acl/src/lib.rs acl/src/conntrack.rs acl/src/conntrack/account.rs acl/src/conntrack/atomic.rs acl/src/conntrack/bucket.rs acl/src/conntrack/entry.rs acl/src/conntrack/error.rs acl/src/conntrack/expire.rs acl/src/conntrack/found.rs acl/src/conntrack/free_list.rs acl/src/conntrack/hash.rs acl/src/conntrack/headers.rs acl/src/conntrack/icmp.rs acl/src/conntrack/insert.rs acl/src/conntrack/inspect.rs acl/src/conntrack/lookup.rs acl/src/conntrack/memory.rs acl/src/conntrack/phase.rs acl/src/conntrack/prefetch.rs acl/src/conntrack/protocol.rs acl/src/conntrack/sctp.rs acl/src/conntrack/table.rs acl/src/conntrack/tcp.rs acl/src/conntrack/tcp/established.rs acl/src/conntrack/track.rs acl/src/conntrack/window.rs acl/src/endpoint.rs acl/src/rule.rs

/tmp/wt/ct/target-v3/release/deps/libacl-f341b109562dd9c5.rmeta: acl/src/lib.rs acl/src/conntrack.rs acl/src/conntrack/account.rs acl/src/conntrack/atomic.rs acl/src/conntrack/bucket.rs acl/src/conntrack/entry.rs acl/src/conntrack/error.rs acl/src/conntrack/expire.rs acl/src/conntrack/found.rs acl/src/conntrack/free_list.rs acl/src/conntrack/hash.rs acl/src/conntrack/headers.rs acl/src/conntrack/icmp.rs acl/src/conntrack/insert.rs acl/src/conntrack/inspect.rs acl/src/conntrack/lookup.rs acl/src/conntrack/memory.rs acl/src/conntrack/phase.rs acl/src/conntrack/prefetch.rs acl/src/conntrack/protocol.rs acl/src/conntrack/sctp.rs acl/src/conntrack/table.rs acl/src/conntrack/tcp.rs acl/src/conntrack/tcp/established.rs acl/src/conntrack/track.rs acl/src/conntrack/window.rs acl/src/endpoint.rs acl/src/rule.rs

acl/src/lib.rs:
acl/src/conntrack.rs:
acl/src/conntrack/account.rs:
acl/src/conntrack/atomic.rs:
acl/src/conntrack/bucket.rs:
acl/src/conntrack/entry.rs:
acl/src/conntrack/error.rs:
acl/src/conntrack/expire.rs:
acl/src/conntrack/found.rs:
acl/src/conntrack/free_list.rs:
acl/src/conntrack/hash.rs:
acl/src/conntrack/headers.rs:
acl/src/conntrack/icmp.rs:
acl/src/conntrack/insert.rs:
acl/src/conntrack/inspect.rs:
acl/src/conntrack/lookup.rs:
acl/src/conntrack/memory.rs:
acl/src/conntrack/phase.rs:
acl/src/conntrack/prefetch.rs:
acl/src/conntrack/protocol.rs:
acl/src/conntrack/sctp.rs:
acl/src/conntrack/table.rs:
acl/src/conntrack/tcp.rs:
acl/src/conntrack/tcp/established.rs:
acl/src/conntrack/track.rs:
acl/src/conntrack/window.rs:
acl/src/endpoint.rs:
acl/src/rule.rs:
