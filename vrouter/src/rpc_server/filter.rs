//! A packet filter of the API as the packet path understands it.

use std::net::IpAddr;

use ipnet::IpNet;
use tonic::Status;

use crate::daemon::Node;
use crate::rpc::v1::PacketFilter;
use crate::tables::TraceFilter;

/// The filter, in no slot yet.
pub(super) fn compile(node: &Node, filter: Option<PacketFilter>) -> Result<TraceFilter, Status> {
    let filter = filter.unwrap_or_default();
    let port = match filter.port.as_str() {
        "" => None,
        name => {
            let id = node.router.engine().port_id(name);
            Some(id.ok_or_else(|| Status::not_found(format!("there is no port {name}")))?)
        }
    };
    Ok(TraceFilter {
        slot: 0,
        source: net(&filter.src)?,
        destination: net(&filter.dst)?,
        protocol: number(filter.protocol, "protocol")?,
        source_port: number(filter.src_port, "source port")?,
        destination_port: number(filter.dst_port, "destination port")?,
        port,
        drops_only: filter.drops_only,
    })
}

pub(super) fn net(text: &str) -> Result<Option<IpNet>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net =
        net.map_err(|_| Status::invalid_argument(format!("{text:?} is neither a prefix nor an address")))?;
    Ok(Some(net.trunc()))
}

fn number<T: TryFrom<u32>>(number: Option<u32>, what: &str) -> Result<Option<T>, Status> {
    let too_large = |number| Status::invalid_argument(format!("{number} is too large for a {what}"));
    number.map(|number| T::try_from(number).map_err(|_| too_large(number))).transpose()
}
