//! Measurements of vRouter: what benches and `vrouter-pktgen` share.
