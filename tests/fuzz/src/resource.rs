//! Resources as YAML, and the policy world that they make.

use vrouter::control::policy::PolicyWorld;

/// Reads the text; what was read must survive its canonical form, and come and go in a policy world.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let objects = api::read(text);
    assert!(!objects.is_empty(), "a text without objects is a fault of its own");
    for object in &objects {
        match &object.outcome {
            Ok(resource) => {
                let again = api::read(&resource.to_yaml());
                assert_eq!(again.len(), 1);
                assert_eq!(again[0].outcome.as_ref(), Ok(resource));
            }
            Err(problems) => {
                assert!(!problems.is_empty());
                problems.iter().for_each(|problem| assert!(!problem.to_string().is_empty()));
            }
        }
    }
    let good = || objects.iter().filter_map(|object| object.outcome.as_ref().ok());
    let mut world = PolicyWorld::new();
    for resource in good() {
        world.apply(resource);
        world.publish();
        world.settle();
    }
    good().for_each(|resource| world.remove(resource));
    world.publish();
    world.settle();
    let _ = api::references(text);
}
