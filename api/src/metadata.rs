//! `metadata` of a resource.
//!
//! What a datastore stamps on an object it hands out (`uid`, `resourceVersion`, `creationTimestamp`,
//! `generation`, `managedFields`) is accepted, since `calicoctl get -o yaml` prints it, and dropped:
//! it says nothing about what the object asks for.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fields::Fields;
use crate::name::{check_dns_name, check_label_key, check_label_value};

/// Fields that a datastore stamps on an object; they ask for nothing.
const STAMPED: [&str; 6] =
    ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink"];

/// Name, labels and annotations of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Metadata {
    /// An RFC 1123 subdomain; unique within its kind.
    pub name: String,
    /// Labels, for selectors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free notes; never interpreted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// Metadata that holds a name alone.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub(crate) fn read(mut fields: Fields<'_>) -> (Self, Vec<crate::Problem>) {
        for stamped in STAMPED {
            fields.take(stamped);
        }
        let name = fields.string("name").unwrap_or_default().to_owned();
        if let Err(error) = check_dns_name(&name) {
            fields.problem("name", format!("{name:?} {error}"), "lower-case letters, digits, '-' and '.'");
        }
        let labels = fields.string_map("labels");
        for (key, value) in &labels {
            if let Err(error) = check_label_key(key) {
                fields.problem("labels", format!("key {key:?} {error}"), "a label key");
            }
            if let Err(error) = check_label_value(value) {
                fields.problem("labels", format!("value {value:?} {error}"), "a label value");
            }
        }
        let annotations = fields.string_map("annotations");
        if let Some(namespace) = fields.string("namespace") {
            fields.problem(
                "namespace",
                format!("found {namespace:?}, but this kind belongs to no namespace"),
                "no such field",
            );
        }
        let metadata = Self { name, labels, annotations };
        (metadata, fields.finish())
    }
}
