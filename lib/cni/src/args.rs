//! `CNI_ARGS`: `KEY=VALUE` pairs with `;` between them.

use std::collections::BTreeMap;

use crate::error::CniError;

/// The parsed `CNI_ARGS` (specification, "Parameters": the runtime's extra arguments).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    pairs: BTreeMap<String, String>,
    ignore_unknown: bool,
}

impl Args {
    /// Reads the variable. A pair has exactly one `=`; the last of two equal keys wins.
    ///
    /// # Errors
    /// Code 4 for a pair that is none, and for an `IgnoreUnknown` that is no boolean.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let mut args = Self::default();
        if text.is_empty() {
            return Ok(args);
        }
        for pair in text.split(';') {
            let invalid = || {
                CniError::env(format!("CNI_ARGS: invalid pair {pair:?}"))
                    .details("write KEY=VALUE;KEY=VALUE, each with exactly one =")
            };
            let (key, value) = pair.split_once('=').ok_or_else(invalid)?;
            if value.contains('=') || key.is_empty() {
                return Err(invalid());
            }
            if key == "IgnoreUnknown" {
                args.ignore_unknown = boolean(pair, value)?;
            } else {
                args.pairs.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(args)
    }

    /// The value of `key`, if it is there and not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Refuses keys outside `known`, unless `IgnoreUnknown` is set.
    ///
    /// # Errors
    /// Code 4 listing every unknown pair.
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<(), CniError> {
        if self.ignore_unknown {
            return Ok(());
        }
        let unknown: Vec<String> = self
            .pairs
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(
            CniError::env(format!("CNI_ARGS: unknown args {unknown:?}")).details(format!(
                "remove them or add IgnoreUnknown=1; known here: {}",
                known.join(", ")
            )),
        )
    }
}

fn boolean(pair: &str, value: &str) -> Result<bool, CniError> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(
            CniError::env(format!("CNI_ARGS: error parsing value of pair {pair:?}"))
                .details("IgnoreUnknown takes 1, true, 0 or false"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_empty_values_are_absent() {
        let args = Args::parse("MAC=02:00:00:00:00:01;IP=;IgnoreUnknown=1;K=v;K=w").unwrap();
        assert_eq!(args.get("MAC"), Some("02:00:00:00:00:01"));
        assert_eq!(args.get("IP"), None);
        assert_eq!(args.get("K"), Some("w"));
        assert_eq!(args.get("IgnoreUnknown"), None);
        assert_eq!(Args::parse("").unwrap(), Args::default());
    }

    #[test]
    fn a_pair_splits_in_exactly_two() {
        for bad in ["A", "A=1=2", "A=1;", ";A=1", "=1", "A=1;B"] {
            let error = Args::parse(bad).unwrap_err();
            assert_eq!(error.code, 4);
            assert!(error.msg.contains("ARGS: invalid pair"), "{bad}: {error}");
        }
    }

    #[test]
    fn unknown_keys_are_an_error_unless_ignored() {
        let strict = Args::parse("A=1;MAC=x;B=2").unwrap();
        let error = strict.refuse_unknown(&["MAC"]).unwrap_err();
        assert_eq!(error.code, 4);
        assert_eq!(error.msg, r#"CNI_ARGS: unknown args ["A=1", "B=2"]"#);
        for yes in ["1", "true", "TRUE", "True"] {
            let args = Args::parse(&format!("A=1;IgnoreUnknown={yes}")).unwrap();
            assert_eq!(args.refuse_unknown(&[]), Ok(()), "{yes}");
        }
        for no in ["0", "false"] {
            let args = Args::parse(&format!("IgnoreUnknown={no};A=1")).unwrap();
            assert!(args.refuse_unknown(&[]).is_err(), "{no}");
        }
        assert_eq!(Args::parse("IgnoreUnknown=yes").unwrap_err().code, 4);
    }
}
