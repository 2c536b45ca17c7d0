//! Typed access to a configuration's keys, with errors that name the key, the value
//! and what would be right.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::error::CniError;

/// One JSON object of a configuration. A key that is `null` counts as absent.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The whole configuration.
    pub fn of(map: &'a Map<String, Value>) -> Self {
        Self {
            path: String::new(),
            map,
        }
    }

    /// An object in a list, whose full name is `name`.
    ///
    /// # Errors
    /// Code 7 when it is something else.
    pub fn item(name: &str, item: &'a Value) -> Result<Self, CniError> {
        let map = item.as_object().ok_or_else(|| {
            let next = format!("correct {name:?} of the network configuration");
            CniError::config(name, item, "want an object in braces", next)
        })?;
        Ok(Self {
            path: format!("{name}."),
            map,
        })
    }

    /// The full name of `key`, as the operator would look for it: `rps.cpus`.
    pub fn name(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// The keys present at this level.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }

    /// The value of `key`, unless absent.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The error for a value that does not do.
    pub fn invalid(&self, key: &str, want: impl Display) -> CniError {
        let value = self.map.get(key).unwrap_or(&Value::Null);
        let name = self.name(key);
        let next = format!("correct key {name:?} of the network configuration");
        CniError::config(name, value, want, next)
    }

    fn typed<T>(
        &self,
        key: &str,
        want: &str,
        get: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, CniError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => get(value).map(Some).ok_or_else(|| self.invalid(key, want)),
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, CniError> {
        self.typed(key, "want a text in quotes", Value::as_str)
    }

    /// A text that stands for a value of its own type.
    pub fn parsed<T>(&self, key: &str) -> Result<Option<T>, CniError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|reason: T::Err| self.invalid(key, reason))
    }

    /// A whole number; a negative one is kept, so that the caller can name its range.
    pub fn whole(&self, key: &str) -> Result<Option<i64>, CniError> {
        self.typed(key, "want a whole number without quotes", Value::as_i64)
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, CniError> {
        self.typed(key, "want true or false without quotes", Value::as_bool)
    }

    /// A nested object.
    pub fn object(&self, key: &str) -> Result<Option<Self>, CniError> {
        let map = self.typed(key, "want an object in braces", Value::as_object)?;
        Ok(map.map(|map| Self {
            path: format!("{}.", self.name(key)),
            map,
        }))
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, CniError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        found.map(Some).ok_or_else(|| {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.invalid(key, format!("want {}", known.join(" or ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Map<String, Value> {
        let json = r#"{"vlan": "100", "mtu": 1500, "gone": null, "rps": {"cpus": 3}, "mode": "x"}"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn errors_name_key_value_and_way_out() {
        let map = config();
        let fields = Fields::of(&map);
        let error = fields.whole("vlan").unwrap_err();
        assert_eq!(
            error.msg,
            r#"invalid configuration: vlan = "100": want a whole number without quotes"#
        );
        let nested = fields.object("rps").unwrap().unwrap();
        let error = nested.text("cpus").unwrap_err();
        assert_eq!(
            error.msg,
            "invalid configuration: rps.cpus = 3: want a text in quotes"
        );
        let error = fields.choice("mode", &[("a", 1), ("b", 2)]).unwrap_err();
        assert_eq!(
            error.msg,
            r#"invalid configuration: mode = "x": want "a" or "b""#
        );
    }

    #[test]
    fn null_and_missing_are_absent() {
        let map = config();
        let fields = Fields::of(&map);
        assert_eq!(fields.whole("mtu").unwrap(), Some(1500));
        assert_eq!(fields.flag("gone").unwrap(), None);
        assert_eq!(fields.text("never").unwrap(), None);
    }
}
