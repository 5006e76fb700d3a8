//! `metadata` of a resource.
//!
//! What a datastore stamps on an object it hands out (`uid`, `resourceVersion`, `creationTimestamp`,
//! `generation`, `managedFields`) is accepted, since `calicoctl get -o yaml` prints it, and dropped:
//! it says nothing about what the object asks for.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fields::Fields;
use crate::name::{check_dns_label, check_dns_name, check_label_key, check_label_value};

/// Fields that a datastore stamps on an object; they ask for nothing.
const STAMPED: [&str; 11] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "ownerReferences",
    "finalizers",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Name, labels and annotations of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Metadata {
    /// An RFC 1123 subdomain; unique within its kind, or within kind and namespace.
    pub name: String,
    /// The namespace; empty for kinds that belong to none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
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

    /// Metadata of a name in a namespace.
    pub fn in_namespace(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: namespace.into(), ..Self::default() }
    }

    /// Reads metadata. A namespaced object without a namespace is in `default`, as for `calicoctl`.
    pub(crate) fn read(mut fields: Fields<'_>, namespaced: bool) -> (Self, Vec<crate::Problem>) {
        fields.ignore(&STAMPED);
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
        let namespace = match (namespaced, fields.string("namespace")) {
            (true, None | Some("")) => "default",
            (true, Some(namespace)) => {
                if let Err(error) = check_dns_label(namespace) {
                    fields.problem("namespace", format!("{namespace:?} {error}"), "a namespace");
                }
                namespace
            }
            (false, Some(namespace)) if !namespace.is_empty() => {
                fields.problem(
                    "namespace",
                    format!("found {namespace:?}, but this kind belongs to no namespace"),
                    "no such field",
                );
                ""
            }
            (false, _) => "",
        };
        let metadata = Self { name, namespace: namespace.to_owned(), labels, annotations };
        (metadata, fields.finish())
    }
}
