//! Labels that selectors see, and selectors as they are meant.
//!
//! | written | meant |
//! |---|---|
//! | `selector` of a policy in namespace n | `(selector) && projectcalico.org/namespace == "n"` |
//! | `namespaceSelector` of a rule | its labels with the prefix `pcns.`; each `all()` in it: has a namespace; `global()`: has none |
//! | ... of a global policy | its labels with the prefix; each `all()` in it and in `selector`: has a namespace |
//! | `serviceAccountSelector` | its labels with the prefix `pcsa.` |
//! | ... of a global policy | also, each `all()` in it and in `selector`: has a service account |
//! | `serviceAccounts.selector` | its labels with the prefix `pcsa.`; `all()` stays what it is |
//! | `serviceAccounts.names` | `projectcalico.org/serviceaccount in {names}` |
//!
//! This is how Calico's syncer writes them (`libcalico-go/lib/backend/syncersv1/updateprocessors`). An
//! absent `selector` of a policy is `all()` here and in the table above. `serviceAccounts` without names
//! and selector says nothing.
//!
//! An endpoint has its own labels, those that its profiles give (its own win), and three that only the
//! router sets: namespace, orchestrator and service account. Profiles of namespaces and service accounts
//! give the prefixed labels, so an endpoint's own labels may not begin with a prefix.

use std::collections::BTreeMap;

use api::policy::ServiceAccountMatch;
use api::selector::Expr;
use api::{EntityRule, Metadata, PolicySpec, Profile, Selector};

/// The label that holds an endpoint's namespace.
pub const NAMESPACE: &str = "projectcalico.org/namespace";
/// The label that holds who made an endpoint.
pub const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// The label that holds an endpoint's service account.
pub const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// The label that holds a namespace's or service account's own name.
const NAME: &str = "projectcalico.org/name";
/// Kubernetes' label of a namespace's own name.
const METADATA_NAME: &str = "kubernetes.io/metadata.name";
/// Prefix of labels that a namespace gives.
const OF_NAMESPACE: &str = "pcns.";
/// Prefix of labels that a service account gives.
const OF_SERVICE_ACCOUNT: &str = "pcsa.";

/// Labels by key.
pub type LabelMap = BTreeMap<String, String>;

/// The name of a namespace's profile.
pub fn namespace_profile_name(namespace: &str) -> String {
    format!("kns.{namespace}")
}

/// The name of a service account's profile.
pub fn account_profile_name(namespace: &str, account: &str) -> String {
    format!("ksa.{namespace}.{account}")
}

fn prefixed(prefix: &str, labels: &LabelMap) -> LabelMap {
    labels.iter().map(|(key, value)| (format!("{prefix}{key}"), value.clone())).collect()
}

/// The profile that a namespace makes: it allows, and gives the namespace's labels.
pub fn namespace_profile(namespace: &Metadata) -> Profile {
    let mut labels = prefixed(OF_NAMESPACE, &namespace.labels);
    labels.insert(format!("{OF_NAMESPACE}{NAME}"), namespace.name.clone());
    labels.entry(format!("{OF_NAMESPACE}{METADATA_NAME}")).or_insert_with(|| namespace.name.clone());
    Profile::allowing(namespace_profile_name(&namespace.name), labels)
}

/// The profile that a service account makes: it gives the account's labels and has no rules.
pub fn account_profile(account: &Metadata) -> Profile {
    let mut labels_to_apply = prefixed(OF_SERVICE_ACCOUNT, &account.labels);
    labels_to_apply.insert(format!("{OF_SERVICE_ACCOUNT}{NAME}"), account.name.clone());
    let spec = api::policy::profile::ProfileSpec { labels_to_apply, ..Default::default() };
    Profile::new(account_profile_name(&account.namespace, &account.name), spec)
}

/// The profile of this name that exists without being defined, if there is one.
pub fn implied_profile(name: &str) -> Option<Profile> {
    if let Some(namespace) = name.strip_prefix("kns.") {
        return Some(namespace_profile(&Metadata::named(namespace)));
    }
    if let Some((namespace, account)) = name.strip_prefix("ksa.").and_then(|rest| rest.split_once('.')) {
        return Some(account_profile(&Metadata::in_namespace(namespace, account)));
    }
    (name == "projectcalico-default-allow").then(|| Profile::allowing(name, LabelMap::new()))
}

/// The labels that selectors see of an endpoint.
pub fn endpoint_labels<'a>(
    own: &LabelMap,
    profiles: impl Iterator<Item = &'a Profile>,
    set: &[(&str, &str)],
) -> LabelMap {
    let forged = |key: &str| key.starts_with(OF_NAMESPACE) || key.starts_with(OF_SERVICE_ACCOUNT);
    let mut labels = LabelMap::new();
    for profile in profiles {
        for (key, value) in &profile.spec.labels_to_apply {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    labels
        .extend(own.iter().filter(|(key, _)| !forged(key)).map(|(key, value)| (key.clone(), value.clone())));
    for (key, value) in set.iter().filter(|(_, value)| !value.is_empty()) {
        labels.insert((*key).to_owned(), (*value).to_owned());
    }
    labels
}

/// With every `all()` replaced by: the label is there.
fn all_have(expr: &Expr, label: &str) -> Expr {
    let list = |parts: &[Expr]| parts.iter().map(|part| all_have(part, label)).collect();
    match expr {
        Expr::All => Expr::Has(label.to_owned()),
        Expr::Not(part) => Expr::Not(Box::new(all_have(part, label))),
        Expr::And(parts) => Expr::And(list(parts)),
        Expr::Or(parts) => Expr::Or(list(parts)),
        other => other.clone(),
    }
}

fn of_namespaces(selector: &Selector) -> Expr {
    match selector.expr() {
        Expr::Global => Expr::Not(Box::new(Expr::Has(NAMESPACE.to_owned()))),
        other => other.rename(&|key| format!("{OF_NAMESPACE}{key}")),
    }
}

fn of_accounts(selector: &Selector) -> Expr {
    selector.expr().rename(&|key| format!("{OF_SERVICE_ACCOUNT}{key}"))
}

fn in_namespace(namespace: &str) -> Expr {
    Expr::Equal(NAMESPACE.to_owned(), namespace.to_owned())
}

fn all_of(mut parts: Vec<Expr>) -> Option<Expr> {
    match parts.len() {
        0 | 1 => parts.pop(),
        _ => Some(Expr::And(parts)),
    }
}

/// Which endpoints a policy applies to. `namespace` is empty for a global policy.
pub fn policy_selector(spec: &PolicySpec, namespace: &str) -> Expr {
    let mut parts = vec![spec.selector.expr().clone()];
    if !namespace.is_empty() {
        parts.push(in_namespace(namespace));
    }
    // Of a global policy `all()` means all that the selectors behind it could tell apart.
    let global = namespace.is_empty();
    let told_apart = |parts: Vec<Expr>, label: &str| match global {
        true => parts.iter().map(|part| all_have(part, label)).collect(),
        false => parts,
    };
    if let Some(selector) = &spec.namespace_selector {
        parts.push(of_namespaces(selector));
        parts = told_apart(parts, NAMESPACE);
    }
    if let Some(selector) = &spec.service_account_selector {
        parts.push(of_accounts(selector));
        parts = told_apart(parts, SERVICE_ACCOUNT);
    }
    all_of(parts).unwrap_or(Expr::All)
}

/// Which endpoints and network sets one end of a rule names; `None`: it names none, and any address will
/// do. `namespace` is that of the rule's policy, empty for a global one.
pub fn entity_selector(entity: &EntityRule, namespace: &str) -> Option<Expr> {
    let says = |accounts: &&ServiceAccountMatch| !accounts.names.is_empty() || accounts.selector.is_some();
    let accounts = entity.service_accounts.as_ref().filter(says);
    let names = entity.selector.is_some() || entity.not_selector.is_some() || accounts.is_some();
    let mut parts = Vec::new();
    match &entity.namespace_selector {
        Some(selector) => parts.push(all_have(&of_namespaces(selector), NAMESPACE)),
        None if names && !namespace.is_empty() => parts.push(in_namespace(namespace)),
        None => {}
    }
    parts.extend(entity.selector.as_ref().map(|selector| selector.expr().clone()));
    if let Some(accounts) = accounts {
        if !accounts.names.is_empty() {
            let mut names = accounts.names.clone();
            names.sort_unstable();
            names.dedup();
            parts.push(Expr::In(SERVICE_ACCOUNT.to_owned(), names));
        }
        parts.extend(accounts.selector.as_ref().map(of_accounts));
    }
    all_of(parts)
}
