//! Pods: attached and detached while packets flow.
//!
//! ```text
//!   attach: device made, down -> port, routes, policy in force -> device up
//!   detach: port gone, frames back -> device removed
//! ```
//!
//! So a pod's interface is up only when everything behind it works. A step that
//! fails takes back the steps before it. Pods that were attached by hand are kept
//! in the durable state and come back after a restart.

use std::collections::BTreeMap;
use std::net::IpAddr;

use encap::MacAddr;

use crate::agent::pod_interface::{self, PodInterface, PodInterfaceRecord, PodInterfaceSpec};
use crate::agent::state_store::{AttachedPod, OwnedDevice};
use crate::config::{Attach, PodName, PodSpec};
use crate::control::{PortRole, PortSpec, Workload};
use crate::daemon::node::{Node, NodeError};
use crate::port::af_xdp::{Device, DeviceOptions};
use crate::port::{PortQueue, tap};
use crate::sys::steering::EgressSteering;
use crate::tables::GATEWAY_MAC;

/// Who asked for a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The configuration file.
    Config,
    /// The API.
    Api,
}

/// An attached pod.
pub struct AttachedPodPort {
    /// What was asked for.
    pub spec: PodSpec,
    /// Who asked.
    pub origin: Origin,
    /// The MAC address of its interface.
    pub mac: MacAddr,
    /// What it takes to remove the interface.
    pub record: PodInterfaceRecord,
    /// The veth's host end under AF_XDP.
    pub device: Option<Device>,
    /// What steers its flows to queues of the veth pair.
    pub(crate) _steering: Option<EgressSteering>,
}

impl Node {
    /// Attaches the pods of the configuration and of the durable state. A pod that
    /// cannot be attached is a problem of its own: the others are attached.
    pub(super) async fn attach_all_pods(&mut self) -> Result<(), NodeError> {
        let configured: Vec<PodSpec> = self.config.pods.iter().map(|pod| pod.spec.clone()).collect();
        for spec in configured {
            self.attach_pod(spec, Origin::Config).await?;
        }
        let by_hand: Vec<_> = self.store.state().pods.clone().into_iter().collect();
        for (name, pod) in by_hand {
            let part = format!("pod {name}");
            let Ok(parsed) = name.parse::<PodName>() else { continue };
            if self.pods.contains_key(&name) {
                continue;
            }
            let spec = PodSpec {
                name: parsed,
                netns: pod.netns,
                interface: pod.interface,
                addresses: pod.addresses,
                attach: match pod.attach {
                    pod_interface::Attach::Tap => Attach::Tap,
                    pod_interface::Attach::Veth => Attach::Veth,
                },
                labels: pod.labels,
            };
            let outcome = self.attach_pod(spec, Origin::Api).await;
            self.note_problem(&part, outcome.err().map(|error| error.to_string()));
        }
        Ok(())
    }

    /// Attaches a pod. When this returns, its packets flow.
    ///
    /// # Errors
    /// Why not; nothing of the pod is left then.
    pub async fn attach_pod(&mut self, spec: PodSpec, origin: Origin) -> Result<(), NodeError> {
        let name = spec.name.to_string();
        self.check_pod(&spec)?;
        let mtu = self.pod_mtu();
        let mut interface = PodInterface::prepare(
            &self.netlink,
            PodInterfaceSpec {
                pod: name.clone(),
                netns: spec.netns.clone(),
                interface: spec.interface.clone(),
                attach: match spec.attach {
                    Attach::Tap => pod_interface::Attach::Tap,
                    _ => pod_interface::Attach::Veth,
                },
                addresses: spec.addresses.clone(),
                mac: self.store.state().pods.get(&name).and_then(|pod| pod.mac),
                mtu,
                // A queue for each worker, as far as the device is new.
                queues: self.router.active_workers() as u16,
            },
        )
        .await?;
        let record = interface.record();
        match self.connect_pod(&spec, &mut interface, mtu).await {
            Ok((mac, device)) => {
                let _steering = interface.take_steering();
                let pod = AttachedPodPort { spec, origin, mac, record, device, _steering };
                self.pods.insert(name.clone(), pod);
                let kept = self.keep_pod(&name);
                self.sync_taken();
                if let Err(error) = kept {
                    // What is not on the disk would be lost with the next restart.
                    let _ = self.detach_pod(&name).await;
                    return Err(error);
                }
                tracing::info!("pod {name} attached");
                Ok(())
            }
            Err(error) => {
                if self.router.engine().port_id(&name).is_some()
                    && let Err(error) = self.router.remove_port(&name)
                {
                    tracing::error!("pod {name}: {error}");
                }
                if !interface.was_adopted()
                    && let Err(error) = pod_interface::remove(&self.netlink, &name, &record).await
                {
                    tracing::error!("pod {name}: {error}");
                }
                Err(error)
            }
        }
    }

    fn check_pod(&self, spec: &PodSpec) -> Result<(), NodeError> {
        if self.pods.contains_key(&spec.name.to_string()) {
            return Err(NodeError::Exists(format!("pod {} is attached already", spec.name)));
        }
        let pools: Vec<ipnet::IpNet> = self.router.engine().desired().pools.keys().copied().collect();
        let others: Vec<&PodSpec> = self.pods.values().map(|pod| &pod.spec).collect();
        let faults: Vec<String> = spec
            .faults()
            .into_iter()
            .chain(spec.faults_beside(others, &pools))
            .map(|fault| format!("{}; expected {}", fault.message, fault.expected))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(NodeError::Invalid(faults.join("; "))) }
    }

    async fn connect_pod(
        &mut self,
        spec: &PodSpec,
        interface: &mut PodInterface,
        mtu: u32,
    ) -> Result<(MacAddr, Option<Device>), NodeError> {
        let name = spec.name.to_string();
        let mac = interface
            .mac()
            .ok_or_else(|| NodeError::Invalid(format!("the interface of pod {name} has no MAC address")))?;
        let (queues, device): (Vec<Box<dyn PortQueue>>, _) = match interface.host_device() {
            None => (tap::queues(interface.take_queues()), None),
            Some((host_device, _)) => {
                let area = self.router.frames().area().clone();
                let options = DeviceOptions::pod(self.router.active_workers() as u32);
                let (device, queues) = Device::open(&area, host_device, &options)
                    .map_err(|error| NodeError::Device(host_device.to_owned(), error))?;
                (queues, Some(device))
            }
        };
        let port = PortSpec {
            name: name.clone(),
            role: PortRole::Pod {
                addresses: spec.addresses.clone(),
                workload: Workload {
                    labels: spec.labels.clone(),
                    ..Workload::of_namespace(&spec.name.namespace)
                },
            },
            mac: GATEWAY_MAC,
            peer_mac: mac,
            mtu,
            up: true,
        };
        self.router.add_port(port, queues)?;
        self.router.commit()?;
        interface.activate().await?;
        Ok((mac, device))
    }

    /// Makes a pod durable: its device to remove one day, and, if it was attached by
    /// hand, the pod itself.
    fn keep_pod(&mut self, name: &str) -> Result<(), NodeError> {
        let Some(pod) = self.pods.get(name) else { return Ok(()) };
        let device = OwnedDevice::PodInterface(pod.record.clone());
        let by_hand = (pod.origin == Origin::Api).then(|| AttachedPod {
            netns: pod.spec.netns.clone(),
            interface: pod.spec.interface.clone(),
            addresses: pod.spec.addresses.clone(),
            attach: pod.record.attach,
            labels: pod.spec.labels.clone(),
            mac: Some(pod.mac),
        });
        self.store.update(|state| {
            state.devices.insert(device_key(name), device);
            if let Some(pod) = by_hand {
                state.pods.insert(name.to_owned(), pod);
            }
        })?;
        Ok(())
    }

    /// Detaches a pod: no packet of it flows any more when this returns.
    ///
    /// # Errors
    /// There is no such pod, or its device could not be removed.
    pub async fn detach_pod(&mut self, name: &str) -> Result<u64, NodeError> {
        let waits = self.waiting_pods().any(|(waiting, _)| waiting == name);
        if !waits {
            self.disconnect_pod(name).await?;
        }
        self.store.update(|state| {
            state.pods.remove(name);
        })?;
        if waits {
            self.problems.remove(&format!("pod {name}"));
            self.remove_leftovers().await;
        }
        tracing::info!("pod {name} detached");
        Ok(self.router.engine().generation())
    }

    /// Pods that were attached by hand and could not be attached again after a restart.
    pub fn waiting_pods(&self) -> impl Iterator<Item = (&str, &AttachedPod)> {
        let known = self.store.state().pods.iter();
        known.filter(|(name, _)| !self.pods.contains_key(*name)).map(|(name, pod)| (name.as_str(), pod))
    }

    /// Takes a pod's port and device away. The durable state still names a pod that was
    /// attached by hand.
    pub(super) async fn disconnect_pod(&mut self, name: &str) -> Result<(), NodeError> {
        let pod =
            self.pods.remove(name).ok_or_else(|| NodeError::NotFound(format!("there is no pod {name}")))?;
        let removed = self.router.remove_port(name);
        drop(pod.device);
        pod_interface::remove(&self.netlink, name, &pod.record).await?;
        self.store.update(|state| {
            state.devices.remove(&device_key(name));
        })?;
        self.problems.remove(&format!("pod {name}"));
        self.sync_taken();
        removed?;
        Ok(())
    }

    /// Removes devices that a former run made and that nobody wants any more.
    pub(super) async fn remove_leftovers(&mut self) {
        let leftovers: BTreeMap<String, OwnedDevice> = self
            .store
            .state()
            .devices
            .iter()
            .filter(|(key, _)| {
                key.strip_prefix("pod ").is_some_and(|name| {
                    !self.pods.contains_key(name) && !self.store.state().pods.contains_key(name)
                })
            })
            .map(|(key, device)| (key.clone(), device.clone()))
            .collect();
        for (key, device) in leftovers {
            if let OwnedDevice::PodInterface(record) = &device {
                match pod_interface::remove(&self.netlink, &key, record).await {
                    Ok(()) => self.forget_device(&key),
                    Err(error) => tracing::error!("{key}: {error}"),
                }
            }
        }
    }

    pub(super) fn forget_device(&mut self, key: &str) {
        let forgotten = self.store.update(|state| {
            state.devices.remove(key);
        });
        if let Err(error) = forgotten {
            tracing::error!("{error}");
        }
    }

    /// Notices pods whose interface vanished with their namespace.
    pub(super) fn watch_pods(&mut self) {
        let gone: Vec<(String, bool)> = self
            .pods
            .keys()
            .map(|name| {
                let broken = self.router.engine().port_id(name).is_some_and(|port| {
                    self.router.workers().iter().any(|worker| worker.counters.port(port).broken.get() > 0)
                });
                (name.clone(), broken)
            })
            .collect();
        for (name, broken) in gone {
            let problem = broken.then(|| "its interface is gone; detach it".to_owned());
            self.note_problem(&format!("pod {name}"), problem);
        }
    }

    /// The pod that has an address.
    pub fn pod_of(&self, address: IpAddr) -> Option<&str> {
        self.pods.iter().find(|(_, pod)| pod.spec.addresses.contains(&address)).map(|(name, _)| name.as_str())
    }
}

fn device_key(name: &str) -> String {
    format!("pod {name}")
}
