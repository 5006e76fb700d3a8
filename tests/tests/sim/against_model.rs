//! The real pipeline against the model: every byte, port, and counter.

use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use vrouter::burst::{Burst, lanes};
use vrouter::ids::PortId;
use vrouter::pipeline::hook::{HookContext, HookPoint, Stage};
use vrouter_tests::packet::internet_checksum;

use crate::frames::frame;
use crate::world;

/// Frames that one router lives through, at most.
const FRAMES: usize = 48;
/// Routers of a run.
const ROUTERS: u32 = 600;
/// The seed of every run: a failure repeats.
const SEED: [u8; 32] = *b"the same frames in each test run";

fn runner(salt: u8, cases: u32) -> TestRunner {
    let mut seed = SEED;
    seed[0] ^= salt;
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

fn run_against_model(with_host: bool, salt: u8) {
    let model = world::model(with_host);
    let frames = vec(frame(&model), 1..FRAMES);
    let outcome = runner(salt, ROUTERS).run(&frames, |frames| {
        let mut model = model.clone();
        let mut lab = world::lab(&model, world::builder());
        for (port, frame) in frames {
            world::compare(&mut model, &mut lab, port, &frame).map_err(TestCaseError::fail)?;
        }
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, frames)) => {
            panic!("seed {SEED:?} salt {salt}: after {} frames: {why}", frames.len() - 1);
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_router_with_a_host_port_does_what_the_model_says() {
    run_against_model(true, 0);
}

#[test]
fn a_router_without_a_host_port_does_what_the_model_says() {
    run_against_model(false, 1);
}

/// A fault of the kind that the comparison has to find.
#[derive(Clone, Copy)]
enum Fault {
    Ttl,
    Checksum,
    PortChoice,
}

impl Stage for Fault {
    fn run(&mut self, burst: &mut Burst, context: &mut HookContext<'_>) {
        for lane in lanes(burst.alive) {
            match self {
                Fault::Ttl => {
                    if let Some(ip) = ipv4(burst, lane, context) {
                        ip[8] = ip[8].wrapping_add(1);
                        ip[10..12].fill(0);
                        let header = usize::from(ip[0] & 15) * 4;
                        let sum = internet_checksum(0, &ip[..header]);
                        ip[10..12].copy_from_slice(&sum.to_be_bytes());
                    }
                }
                Fault::Checksum => {
                    if let Some(ip) = ipv4(burst, lane, context) {
                        ip[11] ^= 1;
                    }
                }
                Fault::PortChoice => {
                    let right = burst.meta.out_port[lane];
                    let mut others = (0..vrouter::ids::MAX_PORTS as u16).map(PortId);
                    let other = others.find(|other| {
                        *other != right && context.tables.port(*other).is_some_and(|port| port.up)
                    });
                    burst.meta.out_port[lane] = other.expect("there are several ports");
                }
            }
        }
    }
}

/// The IPv4 header of a frame on its way out.
fn ipv4<'a>(burst: &'a mut Burst, lane: usize, context: &'a mut HookContext<'_>) -> Option<&'a mut [u8]> {
    let frame = context.bytes_mut(burst, lane);
    (frame.get(12..14) == Some(&[8, 0])).then(|| &mut frame[14..])
}

/// How many of 200 frames it takes until the comparison fails.
fn frames_until_found(fault: Option<Fault>) -> Option<usize> {
    let mut model = world::model(true);
    let mut builder = world::builder();
    if let Some(fault) = fault {
        builder = builder.stage(HookPoint::BeforeOutput, move |_| fault);
    }
    let mut lab = world::lab(&model, builder);
    let frames = frame(&model);
    let mut runner = runner(2, 1);
    (0..200).find(|_| {
        let (port, frame) = frames.new_tree(&mut runner).unwrap().current();
        world::compare(&mut model, &mut lab, port, &frame).is_err()
    })
}

#[test]
fn the_comparison_finds_a_wrong_ttl() {
    assert!(frames_until_found(Some(Fault::Ttl)).is_some());
}

#[test]
fn the_comparison_finds_a_wrong_checksum() {
    assert!(frames_until_found(Some(Fault::Checksum)).is_some());
}

#[test]
fn the_comparison_finds_a_wrong_port() {
    assert!(frames_until_found(Some(Fault::PortChoice)).is_some());
}

#[test]
fn the_comparison_finds_nothing_where_no_fault_is_seeded() {
    assert_eq!(frames_until_found(None), None);
}
