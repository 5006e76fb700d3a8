//! `AttachPod`, `DetachPod`, `ListPods`.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use tonic::Status;

use crate::agent::pod_interface;
use crate::config::{Attach, PodName, PodSpec};
use crate::daemon::Node;
use crate::daemon::pods::{AttachedPodPort, Origin};
use crate::rpc::v1;
use crate::rpc_server::error;

/// Attaches a pod; its packets flow when this returns.
pub(super) async fn attach(
    node: &mut Node,
    request: v1::AttachPodRequest,
) -> Result<v1::AttachPodReply, Status> {
    let spec = spec(request)?;
    let name = spec.name.to_string();
    node.attach_pod(spec, Origin::Api).await.map_err(|error| error::status(&error))?;
    let pod = node.pods.get(&name).map(|pod| show(node, &name, pod));
    Ok(v1::AttachPodReply { pod, generation: node.router.engine().generation() })
}

fn spec(request: v1::AttachPodRequest) -> Result<PodSpec, Status> {
    let name: PodName = request.name.parse().map_err(Status::invalid_argument)?;
    let attach = match request.attach() {
        v1::AttachKind::Unspecified | v1::AttachKind::Tap => Attach::Tap,
        v1::AttachKind::Veth => Attach::Veth,
    };
    let addresses = request.addresses.iter().map(|text| address(text)).collect::<Result<_, _>>()?;
    Ok(PodSpec {
        name,
        netns: PathBuf::from(request.netns),
        interface: if request.interface.is_empty() { "eth0".to_owned() } else { request.interface },
        addresses,
        attach,
        labels: request.labels.into_iter().collect(),
    })
}

/// An address, bare or as a prefix of its whole length.
fn address(text: &str) -> Result<IpAddr, Status> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match text.parse::<IpNet>() {
        Ok(net) if net.prefix_len() == net.max_prefix_len() => Ok(net.addr()),
        Ok(net) => Err(Status::invalid_argument(format!(
            "{text}: a pod has single addresses: {} or {}/{}",
            net.addr(),
            net.addr(),
            net.max_prefix_len()
        ))),
        Err(_) => Err(Status::invalid_argument(format!("{text:?} is not an IP address"))),
    }
}

/// Detaches a pod.
pub(super) async fn detach(
    node: &mut Node,
    request: v1::DetachPodRequest,
) -> Result<v1::DetachPodReply, Status> {
    let generation = node.detach_pod(&request.name).await.map_err(|error| error::status(&error))?;
    Ok(v1::DetachPodReply { generation })
}

/// All pods, by name: those too that could not be attached again after a restart.
pub(super) fn list(node: &Node) -> Vec<v1::Pod> {
    let mut out: Vec<v1::Pod> = node.pods.iter().map(|(name, pod)| show(node, name, pod)).collect();
    out.extend(node.waiting_pods().map(|(name, pod)| {
        v1::Pod {
            name: name.to_owned(),
            netns: pod.netns.display().to_string(),
            interface: pod.interface.clone(),
            addresses: pod.addresses.iter().map(ToString::to_string).collect(),
            attach: match pod.attach {
                pod_interface::Attach::Tap => v1::AttachKind::Tap,
                pod_interface::Attach::Veth => v1::AttachKind::Veth,
            }
            .into(),
            labels: pod.labels.clone().into_iter().collect(),
            mac: pod.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            state: v1::PodState::Failed.into(),
            reason: node.problems.get(&format!("pod {name}")).cloned().unwrap_or_default(),
            source: "api".to_owned(),
            ..v1::Pod::default()
        }
    }));
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

fn show(node: &Node, name: &str, pod: &AttachedPodPort) -> v1::Pod {
    let problem = node.problems.get(&format!("pod {name}"));
    v1::Pod {
        name: name.to_owned(),
        netns: pod.spec.netns.display().to_string(),
        interface: pod.spec.interface.clone(),
        addresses: pod.spec.addresses.iter().map(ToString::to_string).collect(),
        attach: match pod.spec.attach {
            Attach::Tap => v1::AttachKind::Tap,
            Attach::Veth => v1::AttachKind::Veth,
        }
        .into(),
        labels: pod.spec.labels.clone().into_iter().collect(),
        port: name.to_owned(),
        mac: pod.mac.to_string(),
        state: if problem.is_some() { v1::PodState::Failed } else { v1::PodState::Ready }.into(),
        reason: problem.cloned().unwrap_or_default(),
        source: match pod.origin {
            Origin::Config => "config",
            Origin::Api => "api",
        }
        .to_owned(),
    }
}
