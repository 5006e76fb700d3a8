//! `pod attach`, `pod detach` and `show pods`.

use vrouter::rpc::Word;
use vrouter::rpc::v1::{AttachKind, AttachPodRequest, DetachPodRequest, ListPodsRequest, Pod, PodState};

use crate::cli::{Attach, Format, PodArguments};
use crate::connect::Client;
use crate::failure::Failure;
use crate::output::{self, Column};

pub(crate) async fn attach(client: &mut Client, pod: PodArguments, format: Format) -> Result<(), Failure> {
    // The router has another working directory.
    let netns = std::path::absolute(&pod.netns)?;
    let netns = netns.to_str().ok_or_else(|| format!("{} is not UTF-8", netns.display()))?;
    let request = AttachPodRequest {
        name: pod.name,
        netns: netns.to_owned(),
        interface: pod.interface,
        addresses: pod.addresses,
        attach: match pod.attach {
            Attach::Tap => AttachKind::Tap,
            Attach::Veth => AttachKind::Veth,
        }
        .into(),
        labels: pod.labels.into_iter().collect(),
    };
    let pod = client.attach_pod(request).await?.into_inner().pod;
    output::list(pod.as_slice(), &PODS, format)
}

pub(crate) async fn detach(client: &mut Client, name: String) -> Result<(), Failure> {
    let request = DetachPodRequest { name: name.clone() };
    client.detach_pod(request).await?;
    output::line(&format!("pod {name} detached"))
}

pub(crate) async fn list(client: &mut Client, format: Format) -> Result<(), Failure> {
    let reply = client.list_pods(ListPodsRequest {}).await?.into_inner();
    output::list(&reply.pods, &PODS, format)
}

fn labels(pod: &Pod) -> String {
    let mut labels: Vec<String> = pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    labels.join(",")
}

const PODS: [Column<Pod>; 11] = [
    Column::words("NAME", |p| p.name.clone()),
    Column::words("ADDRESSES", |p| p.addresses.join(",")),
    Column::words("ATTACH", |p| AttachKind::word_of(p.attach).to_owned()),
    Column::words("PORT", |p| p.port.clone()),
    Column::words("STATE", |p| PodState::word_of(p.state).to_owned()),
    Column::words("REASON", |p| p.reason.clone()),
    Column::wide(Column::words("INTERFACE", |p| p.interface.clone())),
    Column::wide(Column::words("MAC", |p| p.mac.clone())),
    Column::wide(Column::words("NETNS", |p| p.netns.clone())),
    Column::wide(Column::words("SOURCE", |p| p.source.clone())),
    Column::wide(Column::words("LABELS", labels)),
];
