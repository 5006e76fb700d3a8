//! `Profile`: rules that are asked behind the last tier, and labels for the endpoints that have it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rule::{Action, Rule};
use super::rule_lists::RuleLists;
use crate::fields::Fields;
use crate::metadata::Metadata;
use crate::name::{check_label_key, check_label_value};
use crate::problem::Problem;

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// Its name, by which endpoints list it.
    pub metadata: Metadata,
    /// What it holds.
    pub spec: ProfileSpec,
}

/// What a profile holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileSpec {
    /// Rules for packets toward the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Labels that endpoints of this profile inherit; their own win.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels_to_apply: BTreeMap<String, String>,
}

impl ProfileSpec {
    fn lists(&self) -> RuleLists<'_> {
        RuleLists { ingress: &self.ingress, egress: &self.egress }
    }

    /// What this profile asks for that a router of packets does not do, each with its path. The profile is
    /// right and in force nevertheless.
    pub fn not_enforced(&self) -> Vec<Problem> {
        self.lists().not_enforced()
    }
}

impl Profile {
    /// A profile as if it had been read.
    pub fn new(name: impl Into<String>, spec: ProfileSpec) -> Self {
        Profile { metadata: Metadata::named(name), spec }
    }

    /// A profile that allows everything.
    pub fn allowing(name: impl Into<String>, labels_to_apply: BTreeMap<String, String>) -> Self {
        let all = || vec![Rule::new(Action::Allow)];
        Profile::new(name, ProfileSpec { ingress: all(), egress: all(), labels_to_apply })
    }

    pub(crate) fn read(metadata: Metadata, mut fields: Fields<'_>) -> (Self, Vec<Problem>) {
        let spec = ProfileSpec {
            ingress: Rule::take_list(&mut fields, "ingress"),
            egress: Rule::take_list(&mut fields, "egress"),
            labels_to_apply: fields.string_map("labelsToApply"),
        };
        spec.lists().check(true, &mut fields);
        for (key, value) in &spec.labels_to_apply {
            let checked = check_label_key(key).and_then(|()| check_label_value(value));
            if let Err(error) = checked {
                fields.problem("labelsToApply", format!("{key}: {value:?} {error}"), "a label");
            }
        }
        (Profile { metadata, spec }, fields.finish())
    }
}
