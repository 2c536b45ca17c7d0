//! A request kept for later: what an ADD was asked, so that its attachment can be
//! removed when the runtime has lost all that.

use std::sync::Arc;

use berth_state::Key;
use berth_state::record::SavedRequest;
use serde_json::Value;

use super::{Call, Command, Config, Env, Request};
use crate::error::{CniError, code};

impl Request {
    /// What a record must hold for [`Request::of_saved`].
    pub fn to_saved(&self) -> SavedRequest {
        let text = |name| self.env.get(name).unwrap_or_default().to_owned();
        SavedRequest {
            config: Value::Object(self.config.raw.clone()),
            args: text("CNI_ARGS"),
            path: text("CNI_PATH"),
        }
    }

    /// The DEL of attachment `key` with the configuration and arguments of its ADD.
    /// `CNI_PATH` and `CNI_NETNS` are those of `call` where it has them: plugins may
    /// have moved since. The saved directories are searched after them.
    ///
    /// # Errors
    /// Code 7 when the saved configuration is none.
    pub fn of_saved(call: &Call, key: &Key, saved: &SavedRequest) -> Result<Self, CniError> {
        let mut variables = call.env.0.clone();
        let mut set = |name: &str, value: &str| variables.insert(name.into(), value.into());
        set("CNI_COMMAND", Command::Del.as_str());
        set("CNI_CONTAINERID", key.container_id());
        set("CNI_IFNAME", key.ifname().as_str());
        set("CNI_ARGS", &saved.args);
        let now = call.env.get("CNI_PATH").unwrap_or_default();
        let both = [now, &saved.path].into_iter().filter(|p| !p.is_empty());
        set("CNI_PATH", &both.collect::<Vec<_>>().join(":"));
        let env = Env(variables);
        let stdin = saved.config.to_string().into_bytes();
        let config = parse(&stdin, call).map_err(|error| {
            CniError::new(code::CONFIG, format!("record of {key}: {}", error.msg))
        })?;
        Self::of(Call {
            command: Command::Del,
            path: env.path(),
            config,
            env: Arc::new(env),
            stdin: stdin.into(),
            log: call.log.clone(),
        })
    }
}

fn parse(bytes: &[u8], call: &Call) -> Result<Config, CniError> {
    let mut config = Config::parse(bytes)?;
    config.check_version(Command::Del)?;
    config.check(Command::Del, &call.log)?;
    Ok(config)
}
