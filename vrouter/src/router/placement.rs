//! Which worker owns which queue.
//!
//! A port with at least as many queues as there are workers gives queue `i` to worker
//! `i mod workers`, on every such port alike: a flow that is steered to the same queue
//! number both ways then stays with one worker. Other queues stay where they are as long
//! as that is fair, and else go to the worker with the fewest.

use crate::ids::{PortId, WorkerId};

/// Where the queues of ports are to be, given where they are: a port without an owner for a
/// queue is new.
pub(super) fn place(
    ports: &[(PortId, Vec<Option<WorkerId>>)],
    workers: usize,
) -> Vec<(PortId, Vec<WorkerId>)> {
    let worker = |index: usize| WorkerId((index % workers.max(1)) as u16);
    let mut load = vec![0_usize; workers.max(1)];
    let mut placed: Vec<(PortId, Vec<WorkerId>)> = Vec::with_capacity(ports.len());
    let is_spread = |queues: usize| queues >= workers;
    for (port, queues) in ports {
        let mut owners = Vec::with_capacity(queues.len());
        if is_spread(queues.len()) && workers > 1 {
            owners.extend((0..queues.len()).map(worker));
            owners.iter().for_each(|owner| load[owner.index()] += 1);
        }
        placed.push((*port, owners));
    }
    let all: usize = ports.iter().map(|(_, queues)| queues.len()).sum();
    let fair = all.div_ceil(workers.max(1));
    for ((_, queues), (_, owners)) in ports.iter().zip(&mut placed) {
        if owners.len() == queues.len() {
            continue;
        }
        for current in queues {
            let keeps = current.filter(|at| load.get(at.index()).is_some_and(|load| *load < fair));
            let least = || {
                // One that has no queue of the port yet, if there is one.
                let all = 0..workers.max(1);
                let key = |index: &usize| (owners.contains(&worker(*index)), load[*index], *index);
                worker(all.min_by_key(key).unwrap_or(0))
            };
            let owner = keeps.unwrap_or_else(least);
            load[owner.index()] += 1;
            owners.push(owner);
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ports: &[&[Option<u16>]], workers: usize) -> Vec<Vec<u16>> {
        let ports: Vec<_> = ports
            .iter()
            .enumerate()
            .map(|(port, queues)| {
                (PortId(port as u16), queues.iter().map(|at| at.map(WorkerId)).collect::<Vec<_>>())
            })
            .collect();
        let owners = |(_, owners): (PortId, Vec<WorkerId>)| owners.iter().map(|at| at.0).collect();
        place(&ports, workers).into_iter().map(owners).collect()
    }

    #[test]
    fn ports_of_many_queues_are_dealt_out_alike() {
        let queues: &[Option<u16>] = &[None, None, None];
        assert_eq!(run(&[queues, queues], 2), [[0, 1, 0], [0, 1, 0]]);
        assert_eq!(run(&[&[Some(1), Some(0)]], 2), [[0, 1]]);
    }

    #[test]
    fn single_queues_are_shared_fairly_and_stay_where_they_can() {
        assert_eq!(run(&[&[None], &[None], &[None]], 2), [[0], [1], [0]]);
        assert_eq!(run(&[&[Some(0)], &[Some(0)], &[Some(0)], &[Some(0)]], 2), [[0], [0], [1], [1]]);
        assert_eq!(run(&[&[Some(1)], &[Some(0)]], 2), [[1], [0]]);
        assert_eq!(run(&[&[Some(1)], &[Some(0)], &[Some(3)]], 1), [[0], [0], [0]]);
    }

    #[test]
    fn a_port_of_fewer_queues_than_workers_has_them_apart() {
        assert_eq!(run(&[&[None, None]], 4), [[0, 1]]);
        assert_eq!(run(&[&[None], &[None, None]], 4), [vec![0], vec![1, 2]]);
    }
}
