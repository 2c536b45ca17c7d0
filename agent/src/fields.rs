//! Strict reading of a spec or of the configuration: each error names the key's path
//! (`disk[1].limit_bytes`), its value, the reason and the way out; a key that does not
//! exist is answered with the nearest one that does.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::refusal::{Code, Refusal};

/// The largest number taken: beyond 2^53 readers of JSON that calculate in floating
/// point lose digits (RFC 8259, section 6).
pub(crate) const LARGEST: u64 = 1 << 53;

/// The longest path (`PATH_MAX`, include/uapi/linux/limits.h, less the NUL).
const LONGEST_PATH: usize = 4095;

/// As much of a value as an error repeats.
const SHOWN: usize = 120;

/// The members of an object whose keys are known.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The members of `value`, which is at `path` (empty: the whole document) and may
    /// have `keys`.
    ///
    /// # Errors
    /// It is no object, or it has another key.
    pub(crate) fn of(path: &str, value: &'a Value, keys: &[&str]) -> Result<Self, Refusal> {
        let Value::Object(map) = value else {
            let name = if path.is_empty() { "document" } else { path };
            let next = format!("write an object with keys of {}", keys.join(", "));
            return Err(invalid(name, value, "it is no object", next));
        };
        let fields = Self {
            path: path.to_owned(),
            map,
        };
        match map.iter().find(|(key, _)| !keys.contains(&key.as_str())) {
            None => Ok(fields),
            Some((key, value)) => Err(fields.unknown(key, value, keys)),
        }
    }

    fn unknown(&self, key: &str, value: &Value, keys: &[&str]) -> Refusal {
        let next = match nearest(key, keys) {
            Some(right) => format!("did you mean {right:?}? keys are case-sensitive"),
            None => format!("keys here are {}", keys.join(", ")),
        };
        invalid(self.name(key), value, "there is no such key", next)
    }

    /// The path of a key, as errors say it.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The value of a key; `null` is none.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// An error about the value of a key.
    pub(crate) fn invalid(
        &self,
        key: &str,
        reason: impl Into<String>,
        next: impl Into<String>,
    ) -> Refusal {
        let value = self.map.get(key).unwrap_or(&Value::Null);
        invalid(self.name(key), value, reason, next)
    }

    /// An error about a key that must be there.
    pub(crate) fn absent(&self, key: &str, next: impl Into<String>) -> Refusal {
        Refusal::new(
            Code::Invalid,
            self.name(key),
            "absent",
            "it must be there",
            next,
        )
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn number(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let want = format!(
            "write a whole number from {} to {}",
            range.start(),
            range.end()
        );
        match value.as_u64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            Some(number) if number < *range.start() => {
                Err(self.invalid(key, "it is too small", want))
            }
            Some(_) => Err(self.invalid(key, "it is too large", want)),
            None if value.is_string() => {
                let reason = "it is text, not a number";
                Err(self.invalid(key, reason, format!("{want}, without quotes and unit")))
            }
            None => Err(self.invalid(key, "it is no whole number", want)),
        }
    }

    /// A whole number within `range`, which lies in that of the type.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn small<T: TryFrom<u64>>(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<T>, Refusal> {
        let Some(number) = self.number(key, range)? else {
            return Ok(None);
        };
        let too_large = |_| self.invalid(key, "it is too large", "write a smaller number");
        T::try_from(number).map(Some).map_err(too_large)
    }

    /// `true` or `false`; absent: `false`.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Refusal> {
        match self.value(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => {
                let next = "write true or false, without quotes";
                Err(self.invalid(key, "it is neither true nor false", next))
            }
        }
    }

    /// A text.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, Refusal> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.invalid(key, "it is no text", "write a text in quotes")),
        }
    }

    /// One of a few words; absent: the type's default.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn choice<T: Copy + Default>(
        &self,
        key: &str,
        words: &[(&str, T)],
    ) -> Result<T, Refusal> {
        let Some(value) = self.value(key) else {
            return Ok(T::default());
        };
        let found = words.iter().find(|(word, _)| value.as_str() == Some(word));
        if let Some((_, choice)) = found {
            return Ok(*choice);
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let next = match value.as_str().and_then(|given| nearest(given, &all)) {
            Some(right) => format!("did you mean {right:?}?"),
            None => format!("write one of {}", all.join(", ")),
        };
        Err(self.invalid(key, format!("it is none of {}", all.join(", ")), next))
    }

    /// An absolute path in its only spelling.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn path(&self, key: &str) -> Result<Option<PathBuf>, Refusal> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        match check_path(text) {
            Ok(()) => Ok(Some(PathBuf::from(text))),
            Err((reason, next)) => Err(self.invalid(key, reason, next)),
        }
    }

    /// The members of a list with the path of each; absent: none.
    ///
    /// # Errors
    /// It is no list.
    pub(crate) fn list(&self, key: &str) -> Result<Vec<(String, &'a Value)>, Refusal> {
        let values = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(_) => {
                return Err(self.invalid(key, "it is no list", "write a list: [ ... ]"));
            }
        };
        let name = self.name(key);
        let named = |(at, value)| (format!("{name}[{at}]"), value);
        Ok(values.iter().enumerate().map(named).collect())
    }

    /// Those of `keys` that are there.
    pub(crate) fn given<'k>(&self, keys: &[&'k str]) -> Vec<&'k str> {
        let there = |key: &&&str| self.value(key).is_some();
        keys.iter().filter(there).copied().collect()
    }
}

/// An error about the value at a path.
pub(crate) fn invalid(
    path: impl Into<String>,
    value: &Value,
    reason: impl Into<String>,
    next: impl Into<String>,
) -> Refusal {
    Refusal::new(Code::Invalid, path, shown(value), reason, next)
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Whether `text` is absolute and has no `.`, `..`, empty part or control character;
/// else why not and what would be right.
fn check_path(text: &str) -> Result<(), (String, String)> {
    let no = |reason: &str, next: String| Err((reason.to_owned(), next));
    if text.len() > LONGEST_PATH {
        return no("it is too long", format!("at most {LONGEST_PATH} bytes"));
    }
    if text.chars().any(char::is_control) {
        return no(
            "it has a control character",
            "rename the directory".to_owned(),
        );
    }
    let Some(relative) = text.strip_prefix('/') else {
        return no("it is not absolute", "write the path from / on".to_owned());
    };
    if relative.is_empty() {
        return Ok(());
    }
    if relative.split('/').any(|part| part == "..") {
        return no("it has a .. in it", "write the path without ..".to_owned());
    }
    if relative
        .split('/')
        .any(|part| part.is_empty() || part == ".")
    {
        // Components leave out what is empty or a dot.
        let plain: PathBuf = Path::new(text).components().collect();
        return no(
            "it has an empty part or a .",
            format!("write {}", plain.display()),
        );
    }
    Ok(())
}

/// The one of `all` that `given` was probably meant to be: equal but for case, `-`,
/// `_` and `.`, or a typing error away.
fn nearest<'k>(given: &str, all: &[&'k str]) -> Option<&'k str> {
    let given = plain(given);
    let near = |key: &&str| {
        let key = plain(key);
        let edits = distance(&key, &given);
        let allowed = match key.len().min(given.len()) {
            0..=3 => 0,
            4..=7 => 1,
            _ => 2,
        };
        (edits <= allowed).then_some(edits)
    };
    let by_edits = |key: &&'k str| near(key).map(|edits| (edits, *key));
    let typed = all.iter().filter_map(by_edits).min().map(|(_, key)| key);
    // A part of the name, `limit` for `limit_bytes`.
    let part = |key: &&&str| {
        let key = plain(key);
        given.len() >= 4 && (key.starts_with(&given) || given.starts_with(&key))
    };
    typed.or_else(|| all.iter().find(part).copied())
}

fn plain(word: &str) -> Vec<char> {
    word.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one into the
/// other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests;
