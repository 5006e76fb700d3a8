//! A plain switch: a bridge in a namespace of its own.

use super::Netns;

/// A learning bridge without IP; ports are veth pairs into other namespaces.
pub struct Switch {
    /// Its namespace: captures run here, on `br0` or on a port.
    pub netns: Netns,
}

impl Switch {
    pub(super) fn new(netns: Netns) -> Self {
        for key in ["all", "default"] {
            netns.set_sysctl(&format!("ipv6/conf/{key}/disable_ipv6"), "1");
        }
        netns.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 \
             nf_call_iptables 0 nf_call_ip6tables 0 nf_call_arptables 0");
        netns.ip("link set br0 mtu 9000 up");
        Self { netns }
    }

    /// A cable: `device` in `netns`, `port` at the switch, both up, with `queues` queues each.
    pub fn plug(&self, port: &str, netns: &Netns, device: &str, queues: u32) {
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        self.netns.ip(&format!(
            "link add {port} {queues} type veth peer name {device} netns {} {queues}",
            netns.name()
        ));
        self.netns.ip(&format!("link set {port} master br0 up"));
        netns.ip(&format!("link set {device} up"));
    }

    /// From now on drops IPv4 packets from or to `prefix` unless they are inside a tunnel, as a
    /// fabric does that has no routes for it.
    pub fn drop_outside_tunnels(&self, prefix: &str) {
        self.netns.run("nft add table bridge filter");
        self.netns.run("nft add chain bridge filter forward { type filter hook forward priority 0 ; }");
        for side in ["saddr", "daddr"] {
            self.netns.run(&format!("nft add rule bridge filter forward ip {side} {prefix} counter drop"));
        }
    }

    /// How many packets [`Self::drop_outside_tunnels`] has dropped.
    pub fn dropped(&self) -> u64 {
        let text = self.netns.run("nft -j list ruleset");
        let rules: serde_json::Value = serde_json::from_str(&text).expect("nft writes JSON");
        let objects = rules["nftables"].as_array().into_iter().flatten();
        let statements = objects.flat_map(|object| object["rule"]["expr"].as_array());
        let counters = statements.flatten().filter_map(|statement| statement["counter"]["packets"].as_u64());
        counters.sum()
    }
}
