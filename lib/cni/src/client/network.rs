//! A network configuration as an administrator writes it: one plugin, or a list.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{CniError, code};
use crate::request::is_word;
use crate::version::{Numbers, SpecVersion};

/// A list of plugins that make one network (specification, "Network configuration
/// format"). A configuration of a single plugin is a list of one.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkList {
    /// The network's name.
    pub name: String,
    /// The newest version both the configuration and this library speak.
    pub version: SpecVersion,
    /// CHECK must not be called.
    pub disable_check: bool,
    /// GC must not be called.
    pub disable_gc: bool,
    plugins: Vec<Map<String, Value>>,
}

impl NetworkList {
    /// Reads a `.conflist` or a `.conf`. Unless the list says
    /// `loadOnlyInlinedPlugins`, plugins in `NAME/*.conf` beside it are appended, in
    /// the order of their file names (1.1.0).
    ///
    /// # Errors
    /// Code 5 when a file cannot be read, 6 when it is no JSON, 7 when it is no
    /// network configuration, 1 when no version of it is supported.
    pub fn load(path: &Path) -> Result<Self, CniError> {
        let in_file = |error: CniError| error.context(path.display());
        let document = read(path)?;
        let only_inlined = flag(&document, "loadOnlyInlinedPlugins").map_err(in_file)?;
        let inlined = document.get("plugins").is_none();
        let mut list = Self::parse(&document).map_err(in_file)?;
        if !only_inlined && !inlined {
            let dir = path.parent().unwrap_or(Path::new(".")).join(&list.name);
            for file in confs(&dir)? {
                let plugin = plugin(&read(&file)?).map_err(|e| e.context(file.display()))?;
                list.plugins.push(plugin);
            }
        }
        list.check().map_err(in_file)?;
        Ok(list)
    }

    /// The list in `document`.
    ///
    /// # Errors
    /// As [`NetworkList::load`].
    pub fn of(document: &Value) -> Result<Self, CniError> {
        let list = Self::parse(document)?;
        list.check()?;
        Ok(list)
    }

    fn parse(document: &Value) -> Result<Self, CniError> {
        if !document.is_object() {
            let msg = "a network configuration must be a JSON object";
            return Err(CniError::new(code::DECODE, msg));
        }
        let plugins = match document.get("plugins") {
            None => vec![plugin(document)?],
            Some(Value::Array(plugins)) => plugins.iter().map(plugin).collect::<Result<_, _>>()?,
            Some(other) => {
                let next = "write [{\"type\": ...}, ...]";
                return Err(CniError::config(
                    "plugins",
                    other,
                    "it must be a list",
                    next,
                ));
            }
        };
        let name = document.get("name").unwrap_or(&Value::Null);
        Ok(Self {
            name: match name.as_str().filter(|name| is_word(name)) {
                Some(name) => name.to_owned(),
                None => {
                    return Err(CniError::config(
                        "name",
                        name,
                        "it must name the network",
                        "use letters, digits, and _.- after the first",
                    ));
                }
            },
            version: negotiate(document)?,
            disable_check: flag(document, "disableCheck")?,
            disable_gc: flag(document, "disableGC")?,
            plugins,
        })
    }

    fn check(&self) -> Result<(), CniError> {
        if self.plugins.is_empty() {
            let next = "name at least one plugin";
            return Err(CniError::config("plugins", &json!([]), "it is empty", next));
        }
        Ok(())
    }

    /// Whether a plugin declares the capability `name`, so that a value given for it
    /// reaches somebody.
    pub fn declares(&self, name: &str) -> bool {
        self.plugins.iter().any(|plugin| declares(plugin, name))
    }

    /// What VERSION is asked with.
    pub(super) fn for_version() -> Self {
        Self {
            name: "version".into(),
            version: SpecVersion::NEWEST,
            disable_check: false,
            disable_gc: false,
            plugins: vec![],
        }
    }

    /// The plugins, in the order of ADD.
    pub fn plugins(&self) -> impl DoubleEndedIterator<Item = &Map<String, Value>> {
        self.plugins.iter()
    }

    /// A plugin's `type`, the name of its program.
    pub fn type_of(plugin: &Map<String, Value>) -> &str {
        let name = plugin.get("type").and_then(Value::as_str);
        name.unwrap_or_default()
    }

    /// The list as it was negotiated and completed, for the cache.
    pub(super) fn to_value(&self) -> Value {
        json!({
            "cniVersion": self.version.as_str(),
            "name": self.name,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "plugins": self.plugins,
        })
    }

    /// The configuration one plugin gets (specification, "Deriving execution
    /// configuration from plugin configuration"): of the values for capabilities, the
    /// ones it declares.
    pub fn config_of(
        &self,
        plugin: &Map<String, Value>,
        capabilities: &Map<String, Value>,
    ) -> Map<String, Value> {
        let mut config = plugin.clone();
        config.remove("capabilities");
        let runtime: Map<String, Value> = capabilities
            .iter()
            .filter(|(name, _)| declares(plugin, name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !runtime.is_empty() {
            config.insert("runtimeConfig".into(), runtime.into());
        }
        config.remove("cniVersions");
        config.remove("prevResult");
        config.insert("name".into(), self.name.as_str().into());
        config.insert("cniVersion".into(), self.version.as_str().into());
        config
    }
}

/// Only `true` declares (specification, "Deriving runtimeConfig").
fn declares(plugin: &Map<String, Value>, name: &str) -> bool {
    let declared = plugin.get("capabilities").and_then(|all| all.get(name));
    declared.and_then(Value::as_bool) == Some(true)
}

fn plugin(document: &Value) -> Result<Map<String, Value>, CniError> {
    let kind = document.get("type").unwrap_or(&Value::Null);
    let named = |name: &&str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    match (document.as_object(), kind.as_str().filter(named)) {
        (Some(plugin), Some(_)) => Ok(plugin.clone()),
        _ => Err(CniError::config(
            "type",
            kind,
            "it must be the file name of a plugin",
            "write {\"type\": \"cni-bridge-vlan\", ...}",
        )),
    }
}

/// The newest supported of `cniVersion` and `cniVersions`; neither means 0.1.0.
fn negotiate(document: &Value) -> Result<SpecVersion, CniError> {
    let mut texts = Vec::new();
    let one = document.get("cniVersion").filter(|v| !v.is_null());
    let more = document.get("cniVersions").filter(|v| !v.is_null());
    let listed = match more {
        None => &[][..],
        Some(Value::Array(versions)) => versions,
        Some(other) => {
            let next = "write [\"1.0.0\", \"1.1.0\"]";
            return Err(CniError::config(
                "cniVersions",
                other,
                "it must be a list",
                next,
            ));
        }
    };
    for value in one.into_iter().chain(listed) {
        let text = value.as_str().ok_or("it must be a text".to_owned());
        let text = text.and_then(|text| Numbers::parse(text).map(|_| text));
        texts.push(text.map_err(|e| CniError::config("cniVersion", value, e, "correct it"))?);
    }
    let newest = texts
        .iter()
        .filter_map(|text| SpecVersion::exactly(text))
        .max();
    match newest {
        Some(version) => Ok(version),
        None if texts.is_empty() => Ok(SpecVersion::V010),
        None => Err(
            CniError::new(code::VERSION, "incompatible CNI versions").details(format!(
                "the configuration allows {texts:?}, supported are 0.1.0 to {}",
                SpecVersion::NEWEST
            )),
        ),
    }
}

/// A flag; some administrators write it as a text, which the reference accepts.
fn flag(document: &Value, key: &str) -> Result<bool, CniError> {
    match document.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => {
            let next = "write true or false";
            Err(CniError::config(key, other, "it must be a boolean", next))
        }
    }
}

fn read(path: &Path) -> Result<Value, CniError> {
    let io = |e| {
        CniError::new(code::IO, format!("cannot read {}: {e}", path.display()))
            .details("name a .conf or .conflist file that is there and may be read")
    };
    let text = fs::read_to_string(path).map_err(io)?;
    serde_json::from_str(&text).map_err(|e| {
        CniError::new(code::DECODE, format!("{} is no JSON: {e}", path.display()))
            .details("correct the file")
    })
}

/// The `.conf` files of `dir` in the order of their names; none if it does not exist.
fn confs(dir: &Path) -> Result<Vec<std::path::PathBuf>, CniError> {
    let io = |e| CniError::new(code::IO, format!("cannot list {}: {e}", dir.display()));
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(io)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
