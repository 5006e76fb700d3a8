//! Sets of the endpoints of services, for rules that name one.

use std::collections::{BTreeMap, HashMap};

use acl::Engine;
use acl::model::{PortSetId, SetId};
use api::EndpointSlice;

/// Namespace and name of a service.
type ServiceKey = (String, String);

#[derive(Debug)]
struct ServiceSets {
    addresses: SetId,
    ports: PortSetId,
    users: usize,
}

/// The endpoint slices, and the sets made of them.
#[derive(Debug, Default)]
pub struct Services {
    /// By namespace and name of the slice.
    slices: BTreeMap<(String, String), EndpointSlice>,
    sets: HashMap<ServiceKey, ServiceSets>,
}

impl Services {
    /// Adds, changes or (with `None`) removes a slice.
    pub fn put(&mut self, engine: &mut Engine, namespace: &str, name: &str, new: Option<EndpointSlice>) {
        let key = (namespace.to_owned(), name.to_owned());
        let old = match &new {
            Some(slice) => self.slices.insert(key, slice.clone()),
            None => self.slices.remove(&key),
        };
        for (slice, add) in [(new, true), (old, false)] {
            let Some(slice) = slice else { continue };
            let Some(service) = slice.service() else { continue };
            if let Some(sets) = self.sets.get(&(namespace.to_owned(), service.to_owned())) {
                fill(engine, sets, &slice, add);
            }
        }
    }

    /// The sets of a service, made on first use: its endpoints' addresses, and these with their ports.
    pub fn acquire(&mut self, engine: &mut Engine, key: &ServiceKey) -> (SetId, PortSetId) {
        if let Some(sets) = self.sets.get_mut(key) {
            sets.users += 1;
            return (sets.addresses, sets.ports);
        }
        let sets = ServiceSets { addresses: engine.create_set(), ports: engine.create_port_set(), users: 1 };
        for ((namespace, _), slice) in &self.slices {
            if *namespace == key.0 && slice.service() == Some(&key.1) {
                fill(engine, &sets, slice, true);
            }
        }
        let ids = (sets.addresses, sets.ports);
        self.sets.insert(key.clone(), sets);
        ids
    }

    /// Gives the sets of a service back.
    pub fn release(&mut self, engine: &mut Engine, key: &ServiceKey) {
        let Some(sets) = self.sets.get_mut(key) else { return };
        sets.users -= 1;
        if sets.users == 0
            && let Some(sets) = self.sets.remove(key)
        {
            engine.remove_set(sets.addresses);
            engine.remove_port_set(sets.ports);
        }
    }
}

fn fill(engine: &mut Engine, sets: &ServiceSets, slice: &EndpointSlice, add: bool) {
    for address in &slice.addresses {
        if add {
            engine.insert(sets.addresses, (*address).into());
        } else {
            engine.remove(sets.addresses, (*address).into());
        }
        for (protocol, port) in &slice.ports {
            if add {
                engine.insert_port(sets.ports, *address, protocol.0, *port);
            } else {
                engine.remove_port(sets.ports, *address, protocol.0, *port);
            }
        }
    }
}
