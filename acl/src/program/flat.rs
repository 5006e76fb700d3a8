//! A rule set laid out as one list of terms, and the walk over those that match.
//!
//! ```text
//!  tier 0: policy 0: rule 0 -> terms 0, 1     a rule is the union of its terms; a veto among them
//!          policy 1: rule 1 -> terms 2 (veto), 3   takes back what later terms of the rule match
//!  tier 1: ...                                profiles are tiers that end in Pass
//! ```
//!
//! The walk is given the matching terms in rising order and follows tiers, Pass, Log and staged policies
//! as Calico does. It is the same code at compile time, where it fills tables, and at run time, where
//! tables would be too large.

use crate::model::{RuleAction, Ruleset, TierEnd};
use crate::program::terms::{PortGroups, Term, terms_of};
use crate::rule::{Action, RuleId, Verdict};

/// A rule in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlatRule {
    pub(crate) tier: u32,
    pub(crate) policy: u32,
    pub(crate) staged: bool,
    pub(crate) action: RuleAction,
    pub(crate) id: RuleId,
}

/// A tier without its rules.
#[derive(Clone, Debug, Default)]
struct FlatTier {
    /// The verdict at the end; `None`: the next tier is asked.
    deny: Option<RuleId>,
    /// Staged policies: place in the tier, and what stands for none of its rules.
    staged: Vec<(u32, RuleId)>,
}

/// A rule set as a list.
#[derive(Clone, Debug)]
pub(crate) struct Flat {
    pub(crate) rules: Vec<FlatRule>,
    /// Rule and veto flag of each term.
    steps: Vec<(u32, bool)>,
    tiers: Vec<FlatTier>,
    no_match: Option<RuleId>,
}

/// Something that is noted of a packet on the way to its verdict.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Note {
    /// A Log rule matched.
    Logged(RuleId),
    /// A staged policy was asked: the rule that would have decided, or the policy's end.
    Staged(RuleId),
}

impl Flat {
    /// Lays out a rule set, and yields the terms beside it.
    pub(crate) fn new(ruleset: &Ruleset, groups: &dyn PortGroups) -> (Flat, Vec<Term>) {
        let mut flat =
            Flat { rules: Vec::new(), steps: Vec::new(), tiers: Vec::new(), no_match: ruleset.no_match };
        let mut terms = Vec::new();
        for tier in &ruleset.tiers {
            let number = flat.tiers.len() as u32;
            let mut laid = FlatTier::default();
            if tier.end == TierEnd::Deny && tier.policies.iter().any(|policy| !policy.staged) {
                laid.deny = Some(tier.end_id);
            }
            for (place, policy) in tier.policies.iter().enumerate() {
                let place = place as u32;
                if policy.staged {
                    laid.staged.push((place, policy.end));
                }
                for rule in &policy.rules {
                    let at = FlatRule {
                        tier: number,
                        policy: place,
                        staged: policy.staged,
                        action: rule.action,
                        id: rule.id,
                    };
                    flat.add(at, terms_of(rule, groups), &mut terms);
                }
            }
            flat.tiers.push(laid);
        }
        for profile in &ruleset.profiles {
            let number = flat.tiers.len() as u32;
            for rule in profile {
                let at =
                    FlatRule { tier: number, policy: 0, staged: false, action: rule.action, id: rule.id };
                flat.add(at, terms_of(rule, groups), &mut terms);
            }
            flat.tiers.push(FlatTier::default());
        }
        (flat, terms)
    }

    fn add(&mut self, rule: FlatRule, new: Vec<(bool, Term)>, terms: &mut Vec<Term>) {
        let number = self.rules.len() as u32;
        self.rules.push(rule);
        for (veto, term) in new {
            self.steps.push((number, veto));
            terms.push(term);
        }
    }

    /// Follows the terms that match, in rising order. `None`: nothing has decided.
    #[inline]
    pub(crate) fn walk(
        &self,
        matching: impl IntoIterator<Item = usize>,
        note: &mut impl FnMut(Note),
    ) -> Option<Verdict> {
        let mut walk = Walk { flat: self, tier: 0, staged: 0, last: u32::MAX };
        for term in matching {
            if let Some(verdict) = walk.term(term, note) {
                return Some(verdict);
            }
        }
        walk.leave_until(self.tiers.len(), note)
            .or(self.no_match.map(|rule| Verdict { action: Action::Deny, rule }))
    }
}

struct Walk<'a> {
    flat: &'a Flat,
    /// The tier that is asked now.
    tier: usize,
    /// How many of its staged policies are noted.
    staged: usize,
    /// The rule that acted or was vetoed last: its other terms add nothing.
    last: u32,
}

impl Walk<'_> {
    #[inline]
    fn term(&mut self, term: usize, note: &mut impl FnMut(Note)) -> Option<Verdict> {
        let (number, veto) = self.flat.steps[term];
        let rule = &self.flat.rules[number as usize];
        if number == self.last || (rule.tier as usize) < self.tier {
            return None;
        }
        self.last = number;
        if veto {
            return None;
        }
        if rule.tier as usize > self.tier
            && let Some(verdict) = self.leave_until(rule.tier as usize, note)
        {
            return Some(verdict);
        }
        self.note_staged(rule.policy, note);
        if rule.staged {
            let unmet = self.flat.tiers[self.tier].staged.get(self.staged);
            if rule.action != RuleAction::Log && unmet.is_some_and(|(place, _)| *place == rule.policy) {
                note(Note::Staged(rule.id));
                self.staged += 1;
            }
            return None;
        }
        let action = match rule.action {
            RuleAction::Log => {
                note(Note::Logged(rule.id));
                return None;
            }
            RuleAction::Pass => {
                self.tier += 1;
                self.staged = 0;
                return None;
            }
            RuleAction::Allow => Action::Allow,
            RuleAction::Deny => Action::Deny,
        };
        Some(Verdict { action, rule: rule.id })
    }

    /// Notes the ends of staged policies that stand before `place` in the tier and have not decided.
    fn note_staged(&mut self, place: u32, note: &mut impl FnMut(Note)) {
        let staged = &self.flat.tiers[self.tier].staged;
        while let Some((_, end)) = staged.get(self.staged).filter(|(at, _)| *at < place) {
            note(Note::Staged(*end));
            self.staged += 1;
        }
    }

    /// Meets the ends of tiers from the one asked now up to `tier`.
    fn leave_until(&mut self, tier: usize, note: &mut impl FnMut(Note)) -> Option<Verdict> {
        while self.tier < tier {
            self.note_staged(u32::MAX, note);
            if let Some(rule) = self.flat.tiers[self.tier].deny {
                return Some(Verdict { action: Action::Deny, rule });
            }
            self.tier += 1;
            self.staged = 0;
        }
        None
    }
}
