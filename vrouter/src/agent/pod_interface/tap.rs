//! The tap inside a pod's namespace: made there, or opened again.

use std::io;

use super::{Place, PodInterfaceError};
use crate::agent::link::{LinkInfo, LinkKind};
use crate::sys::tun::{Tap, TapError};

/// The queues of the pod's tap. A new tap is not persistent yet: it goes when they
/// are dropped.
pub(super) async fn open(
    place: &Place<'_>,
    existing: Option<LinkInfo>,
) -> Result<Vec<Tap>, PodInterfaceError> {
    let held = || place.occupied("it is a tap that another process holds; another router?".into());
    let multi_queue = match existing.map(|link| link.kind) {
        None => place.spec.queues > 1,
        Some(LinkKind::Tap {
            multi_queue,
            attached,
        }) => {
            // A tap with several queues would just give us one more.
            if attached.is_some_and(|queues| queues > 0) {
                return Err(held());
            }
            multi_queue
        }
        Some(kind) => return Err(place.occupied(format!("it is a {kind} device, not a tap"))),
    };
    let queues = if multi_queue {
        place.spec.queues.max(1)
    } else {
        1
    };
    let name = place.spec.interface.clone();
    place
        .run_inside(move || {
            (0..queues)
                .map(|_| Tap::open(&name, multi_queue))
                .collect::<Result<Vec<_>, _>>()
        })
        .await?
        .map_err(|error| match error {
            TapError::Busy { .. } => held(),
            other => PodInterfaceError::Tap {
                pod: place.spec.pod.clone(),
                source: io::Error::other(other),
            },
        })
}
