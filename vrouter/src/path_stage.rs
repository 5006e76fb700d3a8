//! The stages of the packet path by name: what cycles are counted by.

macro_rules! path_stages {
    ($($variant:ident, $name:literal, $meaning:literal;)*) => {
        /// A stage of the packet path, in the order of the path.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum PathStage {
            $(#[doc = $meaning] $variant,)*
        }

        impl PathStage {
            /// Every stage, in counter order.
            pub const ALL: &'static [PathStage] = &[$(PathStage::$variant,)*];
            /// Number of stages.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable name, in kebab case.
            pub const fn name(self) -> &'static str {
                match self { $(PathStage::$variant => $name,)* }
            }
        }
    };
}

path_stages! {
    Receive, "receive", "The port's receive, with its system calls.";
    Parse, "parse", "Header checks.";
    Gateway, "gateway", "Answers to ARP and neighbour discovery, where a burst asks.";
    Hooks, "hooks", "Stages of the embedding program.";
    Decap, "decap", "Out of tunnels.";
    AntiSpoof, "anti-spoof", "A pod's own addresses.";
    Flows, "flows", "Flow table: find and open.";
    SourcePolicy, "source-policy", "Policy of the sending pod.";
    Lookup, "lookup", "Route, next hop, neighbour.";
    DestPolicy, "dest-policy", "Policy of the receiving pod.";
    TtlMtu, "ttl-mtu", "TTL and MTU.";
    Encap, "encap", "Into tunnels.";
    Rewrite, "rewrite", "Ethernet header.";
    Output, "output", "Sorting by port.";
    Transmit, "transmit", "The port's transmit or the hand-off, with their system calls.";
}
