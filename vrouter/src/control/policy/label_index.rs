//! Which of many selectors may match some labels, and which of many items a selector may name, without
//! asking all of them.
//!
//! ```text
//!   selector  app == 'web' && tier != 'x'    filed under app=web
//!             role in {'a', 'b'}             under role=a and role=b
//!             has(x) || all()                always asked
//!   item      {app: web, role: a}            filed under app=web and role=a
//! ```
//!
//! So a change costs what it concerns: a pod asks the selectors that its labels may satisfy, a policy the
//! pods that have a label it requires. Candidates may fail the rest of the selector, which is for the
//! caller to ask.

use std::collections::{BTreeSet, HashMap};
use std::slice;

use api::selector::Expr;

use super::labels::LabelMap;

/// By label and value.
type ByLabel<T> = HashMap<String, HashMap<String, BTreeSet<T>>>;

/// Labels that a selector requires, each with the values of which it must have one.
fn required(expr: &Expr) -> Vec<(&str, &[String])> {
    match expr {
        Expr::Equal(key, value) => vec![(key, slice::from_ref(value))],
        Expr::In(key, values) => vec![(key, values)],
        Expr::And(parts) => parts.iter().flat_map(required).collect(),
        _ => Vec::new(),
    }
}

/// The label that a selector is filed under: one that few are likely to share.
fn filed_under(expr: &Expr) -> Option<(&str, &[String])> {
    // What every endpoint of a namespace or orchestrator has is the last choice.
    required(expr)
        .into_iter()
        .min_by_key(|(key, values)| (key.starts_with("projectcalico.org/"), values.len()))
}

fn file<T: Ord>(by_label: &mut ByLabel<T>, key: &str, value: &str, of: T) {
    by_label.entry(key.to_owned()).or_default().entry(value.to_owned()).or_default().insert(of);
}

fn unfile<T: Ord>(by_label: &mut ByLabel<T>, key: &str, value: &str, of: &T) {
    let Some(values) = by_label.get_mut(key) else { return };
    if let Some(list) = values.get_mut(value) {
        list.remove(of);
        if list.is_empty() {
            values.remove(value);
        }
    }
    if values.is_empty() {
        by_label.remove(key);
    }
}

/// Selectors, each known as a `T`.
#[derive(Debug)]
pub(super) struct SelectorIndex<T> {
    by_label: ByLabel<T>,
    others: BTreeSet<T>,
}

impl<T> Default for SelectorIndex<T> {
    fn default() -> Self {
        SelectorIndex { by_label: HashMap::new(), others: BTreeSet::new() }
    }
}

impl<T: Ord + Clone> SelectorIndex<T> {
    /// Files a selector.
    pub(super) fn insert(&mut self, expr: &Expr, of: &T) {
        match filed_under(expr) {
            Some((key, values)) => {
                values.iter().for_each(|value| file(&mut self.by_label, key, value, of.clone()));
            }
            None => drop(self.others.insert(of.clone())),
        }
    }

    /// Takes a selector out that was filed.
    pub(super) fn remove(&mut self, expr: &Expr, of: &T) {
        match filed_under(expr) {
            Some((key, values)) => values.iter().for_each(|value| unfile(&mut self.by_label, key, value, of)),
            None => drop(self.others.remove(of)),
        }
    }

    /// Those that may match the labels, each once.
    pub(super) fn candidates(&self, labels: &LabelMap) -> impl Iterator<Item = &T> {
        let found = labels.iter().filter_map(|(key, value)| self.by_label.get(key)?.get(value));
        self.others.iter().chain(found.flatten())
    }
}

/// Items by their labels.
#[derive(Debug)]
pub(super) struct ItemIndex<K>(ByLabel<K>);

impl<K> Default for ItemIndex<K> {
    fn default() -> Self {
        ItemIndex(HashMap::new())
    }
}

impl<K: Ord + Clone> ItemIndex<K> {
    /// Files an item.
    pub(super) fn insert(&mut self, labels: &LabelMap, item: &K) {
        labels.iter().for_each(|(key, value)| file(&mut self.0, key, value, item.clone()));
    }

    /// Takes an item out that had these labels.
    pub(super) fn remove(&mut self, labels: &LabelMap, item: &K) {
        labels.iter().for_each(|(key, value)| unfile(&mut self.0, key, value, item));
    }

    /// The items that a selector may match; `None`: any may.
    pub(super) fn candidates(&self, expr: &Expr) -> Option<impl Iterator<Item = &K>> {
        let lists = |(key, values): (&str, &[String])| -> Vec<&BTreeSet<K>> {
            let by_value = self.0.get(key);
            values.iter().filter_map(|value| by_value?.get(value)).collect()
        };
        let choices = required(expr).into_iter().map(lists);
        let least = choices.min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>())?;
        Some(least.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> LabelMap {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Every selector against every set of labels: what matches is among the candidates, both ways.
    #[test]
    fn what_matches_is_a_candidate() {
        let selectors = [
            "all()",
            "a == 'x'",
            "a == 'x' && b == 'y'",
            "a in {'x', 'y'} && !has(b)",
            "a == 'x' || b == 'y'",
            "a != 'x'",
            "!(a == 'x')",
            "a in {}",
            "projectcalico.org/namespace == 'n' && b in {'x','y'}",
            "has(a) && a contains 'x'",
        ];
        let items = ["", "a=x", "a=y b=x", "b=y", "a=x b=y", "projectcalico.org/namespace=n b=x", "a=z c=x"];
        let parsed = selectors.map(|text| text.parse::<api::Selector>().expect(text));
        let (mut by_selector, mut by_item) = (SelectorIndex::default(), ItemIndex::default());
        for (at, selector) in parsed.iter().enumerate() {
            by_selector.insert(selector.expr(), &at);
        }
        items.iter().enumerate().for_each(|(at, text)| by_item.insert(&labels(text), &at));
        let mut spared = 0;
        for (number, text) in items.iter().enumerate() {
            let labels = labels(text);
            let found: Vec<usize> = by_selector.candidates(&labels).copied().collect();
            assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "each once");
            for (at, selector) in parsed.iter().enumerate() {
                let matches = selector.expr().matches(&labels);
                assert!(!matches || found.contains(&at), "{text}: {}", selectors[at]);
                let items: Option<Vec<usize>> =
                    by_item.candidates(selector.expr()).map(|found| found.copied().collect());
                assert!(!matches || items.is_none_or(|items| items.contains(&number)), "{}", selectors[at]);
                spared += usize::from(!found.contains(&at));
            }
        }
        assert!(spared > 20, "{spared}");
        parsed.iter().enumerate().for_each(|(at, selector)| by_selector.remove(selector.expr(), &at));
        items.iter().enumerate().for_each(|(at, text)| by_item.remove(&labels(text), &at));
        assert!(by_selector.by_label.is_empty() && by_selector.others.is_empty() && by_item.0.is_empty());
    }
}
