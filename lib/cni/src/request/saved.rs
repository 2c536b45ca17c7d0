//! A request kept in a record and made again: DEL runs from the record alone, with
//! the configuration, arguments and plugin path of the ADD.

use std::path::Path;
use std::sync::Arc;

use berth_state::Key;
use berth_state::record::SavedRequest;
use serde_json::Value;

use super::{Call, Command, Config, Env, Request};
use crate::error::{CniError, code};

impl Request {
    /// What the attachment's record should hold of this request.
    pub fn saved(&self) -> SavedRequest {
        let variable = |name| self.env.get(name).unwrap_or_default().to_owned();
        SavedRequest {
            config: Value::Object(self.config.raw.clone()),
            args: variable("CNI_ARGS"),
            path: variable("CNI_PATH"),
        }
    }
}

impl Call {
    /// The DEL of attachment `key` as its ADD was: for DEL and GC, which may be called
    /// with another configuration or none. `netns` is where the container's namespace
    /// is now, if anywhere. This call's own `CNI_PATH` is searched after the saved one:
    /// plugins may have moved since.
    ///
    /// # Errors
    /// Code 5 when the saved configuration cannot be read.
    pub fn del_of(
        &self,
        key: &Key,
        saved: &SavedRequest,
        netns: Option<&Path>,
    ) -> Result<Request, CniError> {
        let stdin = saved.config.to_string().into_bytes();
        let unreadable = |error: CniError| {
            let doing = format!("attachment {key}: cannot use its saved configuration");
            CniError {
                code: code::IO,
                ..error
            }
            .context(doing)
        };
        let mut config = Config::parse(&stdin).map_err(unreadable)?;
        config.check_version(Command::Del).map_err(unreadable)?;
        config.check(Command::Del, &self.log)?;
        let netns = netns.map(|path| path.to_string_lossy().into_owned());
        let now = self.env.get("CNI_PATH").unwrap_or_default();
        let paths = [saved.path.as_str(), now];
        let paths: Vec<_> = paths.into_iter().filter(|path| !path.is_empty()).collect();
        let mut env = Env(self.env.0.clone());
        for (name, value) in [
            ("CNI_COMMAND", Command::Del.as_str()),
            ("CNI_CONTAINERID", key.container_id()),
            ("CNI_IFNAME", key.ifname().as_str()),
            ("CNI_NETNS", netns.as_deref().unwrap_or_default()),
            ("CNI_ARGS", &saved.args),
            ("CNI_PATH", &paths.join(":")),
        ] {
            env.0.insert(name.to_owned(), value.to_owned());
        }
        Request::of(Call {
            command: Command::Del,
            path: env.path(),
            config,
            env: Arc::new(env),
            stdin: stdin.into(),
            log: self.log.clone(),
        })
    }
}
