//! The tap inside a pod's namespace: made there, or opened again.

use std::io;

use tokio::time::sleep;

use super::{OfPod, Place, PodInterfaceError};
use crate::agent::held::{Attempt, Patience};
use crate::agent::link::{self, LinkKind};
use crate::sys::tun::{Tap, TapError};

/// The queues of the pod's tap. A new tap is not persistent yet: it goes when they
/// are dropped.
pub(super) async fn open(place: &Place<'_>) -> Result<Vec<Tap>, PodInterfaceError> {
    let patience = Patience::new();
    loop {
        match attempt(place).await {
            Ok(queues) => return Ok(queues),
            Err(failure) => sleep(patience.pause(failure)?).await,
        }
    }
}

async fn attempt(place: &Place<'_>) -> Result<Vec<Tap>, Attempt<PodInterfaceError>> {
    let held = || {
        let reason = "it is a tap that another process holds; another router?";
        Attempt::Held(place.occupied(reason.into()))
    };
    let (pod, interface) = (&place.spec.pod, &place.spec.interface);
    let existing = link::find(place.inside, interface).await.of(pod)?;
    let multi_queue = match existing.map(|link| link.kind) {
        None => place.spec.queues > 1,
        Some(LinkKind::Tap { multi_queue, attached }) => {
            // A tap with several queues would just give us one more.
            if attached.is_some_and(|queues| queues > 0) {
                return Err(held());
            }
            multi_queue
        }
        Some(kind) => {
            return Err(place.occupied(format!("it is a {kind} device, not a tap")).into());
        }
    };
    let queues = if multi_queue { place.spec.queues.max(1) } else { 1 };
    let name = interface.clone();
    let opened = place
        .run_inside(move || (0..queues).map(|_| Tap::open(&name, multi_queue)).collect::<Result<Vec<_>, _>>())
        .await?;
    opened.map_err(|error| match error {
        TapError::Busy { .. } => held(),
        other => {
            Attempt::Failed(PodInterfaceError::Tap { pod: pod.clone(), source: io::Error::other(other) })
        }
    })
}
