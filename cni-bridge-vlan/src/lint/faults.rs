//! Every fault of a configuration, from a reader that stops at the first: the key that is
//! to blame is left out, and what is left is read again. Pure.

use berth_cni::error::CniError;
use serde_json::{Map, Value};

type Config = Map<String, Value>;

/// More faults than this nobody reads.
const MOST: usize = 20;

/// What a configuration cannot do without.
const ESSENTIAL: [&str; 3] = ["cniVersion", "name", "type"];

/// What is wrong with `config` for `read`, and what is understood of it without that;
/// nothing if a fault is no key's.
pub(super) fn all<T>(
    config: &Config,
    read: impl Fn(&Config) -> Result<T, CniError>,
) -> (Vec<CniError>, Option<T>) {
    let mut config = config.clone();
    let mut faults: Vec<CniError> = Vec::new();
    while faults.len() < MOST {
        let fault = match read(&config) {
            Ok(understood) => return (faults, Some(understood)),
            Err(fault) => fault,
        };
        let rest = without_culprit(&config, &fault, &read);
        faults.push(fault);
        match rest {
            Some(rest) => config = rest,
            None => break,
        }
    }
    (faults, None)
}

/// `config` less the key without which it no longer has this fault, nor another that
/// only speaks of the key's absence.
fn without_culprit<T>(
    config: &Config,
    fault: &CniError,
    read: &impl Fn(&Config) -> Result<T, CniError>,
) -> Option<Config> {
    let all = paths(config, "");
    let mentioned = mentions(&all, fault);
    let is_cured = |rest: &Config, path: &str| match read(rest) {
        Ok(_) => true,
        Err(next) => next != *fault && mentions(&all, &next).first().is_none_or(|p| p != path),
    };
    for path in &mentioned {
        for path in ancestors(path) {
            let rest = without(config, path);
            if is_cured(&rest, path) {
                return Some(rest);
            }
        }
    }
    let rests = all.iter().map(|path| without(config, path));
    rests.into_iter().find(|rest| read(rest).is_ok())
}

/// Every key of the configuration and of the objects in it, by its full name.
fn paths(config: &Config, above: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (key, value) in config {
        if above.is_empty() && ESSENTIAL.contains(&key.as_str()) {
            continue;
        }
        let path = format!("{above}{key}");
        if let Value::Object(object) = value {
            paths.extend(self::paths(object, &format!("{path}.")));
        }
        paths.push(path);
    }
    paths
}

/// The keys that the fault speaks of, in the order in which it does.
fn mentions(paths: &[String], fault: &CniError) -> Vec<String> {
    let text = format!("{}\n{}", fault.msg, fault.details);
    let mut found: Vec<(usize, &String)> = paths
        .iter()
        .filter_map(|path| Some((mention(&text, path)?, path)))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path.clone()).collect()
}

/// Where `text` has `word` as a word of its own.
fn mention(text: &str, word: &str) -> Option<usize> {
    let joins = |c: char| c.is_alphanumeric() || "_.-".contains(c);
    let whole = |at: &usize| {
        let (before, rest) = text.split_at(*at);
        let after = &rest[word.len()..];
        !before.ends_with(joins) && !after.starts_with(joins)
    };
    text.match_indices(word).map(|(at, _)| at).find(whole)
}

/// The key itself, and the objects it is in, innermost first.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(path.rsplit_once('.')?.0))
}

fn without(config: &Config, path: &str) -> Config {
    let mut config = config.clone();
    remove(&mut config, path);
    config
}

/// A key's own name may hold dots, as those do that others inject.
fn remove(config: &mut Config, path: &str) {
    if config.remove(path).is_some() {
        return;
    }
    for (key, value) in config {
        let below = path.strip_prefix(key.as_str());
        let below = below.and_then(|below| below.strip_prefix('.'));
        if let (Some(below), Value::Object(object)) = (below, value) {
            return remove(object, below);
        }
    }
}

#[cfg(test)]
mod tests;
