//! Addresses, routes and the switch of a pod's interface, undone on failure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{OfPod, PodInterfaceError, PodInterfaceSpec};
use crate::agent::device_route::{self, DeviceRoute, add_address, add_route, remove_address, remove_route};
use crate::agent::link;
use crate::agent::netlink::Netlink;
use crate::agent::{GATEWAY_V4, GATEWAY_V6};

/// What has been done so far.
#[derive(Default)]
struct Done {
    addresses: Vec<IpNet>,
    routes: Vec<DeviceRoute>,
    switched_on: bool,
}

/// See [`PodInterface::activate`](super::PodInterface::activate).
pub(super) async fn activate(
    inside: &Netlink,
    spec: &PodInterfaceSpec,
    index: u32,
) -> Result<(), PodInterfaceError> {
    let mut done = Done::default();
    let result = apply(inside, spec, index, &mut done).await;
    if result.is_err() {
        // The first error is the one to report: an undo that fails, fails for the
        // same cause.
        let _ = undo(inside, spec, index, done).await;
    }
    result
}

async fn apply(
    inside: &Netlink,
    spec: &PodInterfaceSpec,
    index: u32,
    done: &mut Done,
) -> Result<(), PodInterfaceError> {
    let pod = &spec.pod;
    let present = device_route::addresses(inside, index).await.of(pod)?;
    for address in &spec.addresses {
        let net = IpNet::from(*address);
        if !present.iter().any(|(present, _)| *present == net)
            && add_address(inside, index, *address, None).await.of(pod)?
        {
            done.addresses.push(net);
        }
    }
    let link = link::find(inside, &spec.interface).await.of(pod)?;
    if !link.is_some_and(|link| link.admin_up) {
        let up = device_route::settings(index).up();
        device_route::change(inside, &spec.interface, up).await.of(pod)?;
        done.switched_on = true;
    }
    let present = device_route::routes(inside, index, None).await.of(pod)?;
    for route in routes(spec) {
        let is_there =
            present.iter().any(|present| present.prefix == route.prefix && present.gateway == route.gateway);
        if is_there {
            continue;
        }
        match add_route(inside, index, &route).await {
            Ok(()) => done.routes.push(route),
            Err(error) if error.errno() == Some(libc::EEXIST) => {
                return Err(PodInterfaceError::RouteTaken { pod: pod.clone(), prefix: route.prefix });
            }
            Err(error) => return Err(error).of(pod),
        }
    }
    Ok(())
}

/// The routes of the pod's address families, in the order in which the kernel takes
/// them: the IPv4 gateway must be on the link first.
fn routes(spec: &PodInterfaceSpec) -> Vec<DeviceRoute> {
    let mut routes = Vec::new();
    let default = |any: IpAddr, gateway: IpAddr| {
        let prefix = IpNet::new_assert(any, 0);
        DeviceRoute { gateway: Some(gateway), ..DeviceRoute::to(prefix) }
    };
    if spec.addresses.iter().any(IpAddr::is_ipv4) {
        let gateway = IpAddr::V4(GATEWAY_V4);
        routes.push(DeviceRoute::to(gateway.into()));
        routes.push(default(IpAddr::from([0; 4]), gateway));
    }
    if spec.addresses.iter().any(IpAddr::is_ipv6) {
        routes.push(default(IpAddr::from([0; 16]), IpAddr::V6(GATEWAY_V6)));
    }
    routes
}

async fn undo(
    inside: &Netlink,
    spec: &PodInterfaceSpec,
    index: u32,
    done: Done,
) -> Result<(), PodInterfaceError> {
    let pod = &spec.pod;
    for route in done.routes.iter().rev() {
        remove_route(inside, index, route).await.of(pod)?;
    }
    if done.switched_on {
        let down = device_route::settings(index).down();
        device_route::change(inside, &spec.interface, down).await.of(pod)?;
    }
    for address in done.addresses {
        remove_address(inside, index, address).await.of(pod)?;
    }
    Ok(())
}
