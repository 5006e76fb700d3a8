//! The transition table, written out: every state against every input.

use super::Demand::{Nobody, Route, Traffic};
use super::Offer::{Absent, Different, Same};
use super::State::{Delay, Failed, Incomplete, Probe, Reachable, Stale};
use super::*;

fn advert(offer: Offer, solicited: bool, override_: bool) -> Input {
    Input::Advert { offer, solicited, override_ }
}

fn timeout(left: bool, demand: Demand) -> Input {
    Input::Timeout { left, demand }
}

/// One row: an input and where it leads from each state, in the order of [`State::ALL`]:
/// `I R S D P F` enter the state, with `+` after learning the offered MAC; `.` stay; `-` forget.
const fn row(input: Input, cells: &'static str) -> (Input, &'static str) {
    (input, cells)
}

#[rustfmt::skip]
fn table() -> Vec<(Input, &'static str)> {
    vec![
        //                                       I   R   S   D   P   F
        row(Input::Use,                        ".   .   D   .   .   ."),
        row(Input::Confirm,                    ".   R   R   R   R   ."),
        row(timeout(true, Nobody),             "-   S   -   S   -   -"),
        row(timeout(true, Traffic),            "I   S   D   P   P   -"),
        row(timeout(true, Route),              "I   S   D   P   P   I"),
        row(timeout(false, Nobody),            "-   S   -   S   -   -"),
        row(timeout(false, Traffic),           "F   S   D   P   I   -"),
        row(timeout(false, Route),             "F   S   D   P   I   I"),
        row(advert(Absent, false, false),      ".   .   .   .   .   ."),
        row(advert(Absent, false, true),       ".   .   .   .   .   ."),
        row(advert(Absent, true, false),       ".   R   R   R   R   ."),
        row(advert(Absent, true, true),        ".   R   R   R   R   ."),
        row(advert(Same, false, false),        "S+  .   .   .   .   S+"),
        row(advert(Same, false, true),         "S+  .   .   .   .   S+"),
        row(advert(Same, true, false),         "R+  R   R   R   R   R+"),
        row(advert(Same, true, true),          "R+  R   R   R   R   R+"),
        row(advert(Different, false, false),   "S+  S   .   .   .   S+"),
        row(advert(Different, false, true),    "S+  S+  S+  S+  S+  S+"),
        row(advert(Different, true, false),    "R+  S   .   .   .   R+"),
        row(advert(Different, true, true),     "R+  R+  R+  R+  R+  R+"),
        row(Input::Claim(Absent),              ".   .   .   .   .   ."),
        row(Input::Claim(Same),                "S+  .   .   .   .   S+"),
        row(Input::Claim(Different),           "S+  S+  S+  S+  S+  S+"),
    ]
}

fn read(cell: &str) -> Next {
    let state = |letter| match letter {
        'I' => Incomplete,
        'R' => Reachable,
        'S' => Stale,
        'D' => Delay,
        'P' => Probe,
        'F' => Failed,
        other => panic!("no state is called {other}"),
    };
    let letter = cell.chars().next().expect("a cell has a letter");
    match (letter, cell.len()) {
        ('.', 1) => Next::Stay,
        ('-', 1) => Next::Forget,
        (letter, 1) => Next::Enter(state(letter)),
        (letter, _) => Next::Learn(state(letter)),
    }
}

/// Every value of [`Input`].
fn inputs() -> Vec<Input> {
    let mut all = vec![Input::Use, Input::Confirm];
    for left in [true, false] {
        for demand in [Nobody, Traffic, Route] {
            all.push(timeout(left, demand));
        }
    }
    for offer in [Absent, Same, Different] {
        for solicited in [false, true] {
            for override_ in [false, true] {
                all.push(advert(offer, solicited, override_));
            }
        }
        all.push(Input::Claim(offer));
    }
    all
}

#[test]
fn transition_table_is_exhaustive_and_correct() {
    let table = table();
    let inputs = inputs();
    assert_eq!(table.len(), inputs.len());
    for input in inputs {
        let rows: Vec<_> = table.iter().filter(|row| row.0 == input).collect();
        assert_eq!(rows.len(), 1, "rows for {input:?}");
        let cells: Vec<_> = rows[0].1.split_whitespace().collect();
        assert_eq!(cells.len(), State::ALL.len(), "{input:?}");
        for (state, cell) in State::ALL.into_iter().zip(cells) {
            assert_eq!(next(state, input), read(cell), "{state} and {input:?}");
        }
    }
}

#[test]
fn without_an_offer_nothing_is_learned() {
    for state in State::ALL {
        for input in inputs() {
            let offered = matches!(
                input,
                Input::Advert { offer: Same | Different, .. } | Input::Claim(Same | Different)
            );
            if matches!(next(state, input), Next::Learn(_)) {
                assert!(offered, "{state} and {input:?}");
            }
        }
    }
}

#[test]
fn a_usable_state_follows_an_unusable_one_only_by_learning() {
    for state in [Incomplete, Failed] {
        for input in inputs() {
            if let Next::Enter(after) = next(state, input) {
                assert!(!after.is_usable(), "{state} and {input:?}");
            }
        }
    }
}
