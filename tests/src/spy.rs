//! A delegate that tells what it was called with and answers what a test wants.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use crate::call;

/// A plugin, as a shell script, that notes each call in `/run/seen` and answers with the files of `/run/answers`.
const SPY: &str = r#"#!/bin/sh
input=$(cat)
echo "$CNI_COMMAND" >>/run/seen/verbs
env | grep '^CNI_' | grep -v '^CNI_COMMAND=' | sort >"/run/seen/env.$CNI_COMMAND"
printf '%s' "$input" >"/run/seen/stdin.$CNI_COMMAND"
echo "spy was called for $CNI_COMMAND" >&2
answer=/run/answers/$CNI_COMMAND
if [ -e "$answer.error" ]; then
    cat "$answer.error"
    exit 1
fi
if [ -e "$answer" ]; then
    cat "$answer"
fi
"#;

/// Its `type`.
pub const NAME: &str = "spy";

/// Installs it in [`call::PLUGINS`]; ADD is answered with one address.
pub fn install() -> Result<()> {
    call::install(NAME, SPY)?;
    fs::create_dir_all("/run/seen")?;
    fs::create_dir_all("/run/answers")?;
    answers(
        "ADD",
        &json!({"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.7/24"}]}),
    )
}

/// What it answers to `verb` from now on.
pub fn answers(verb: &str, document: &Value) -> Result<()> {
    let path = format!("/run/answers/{verb}");
    Ok(fs::write(path, document.to_string())?)
}

/// It fails from now on when it is called for `verb`, and prints this.
pub fn fails(verb: &str, text: &str) -> Result<()> {
    Ok(fs::write(format!("/run/answers/{verb}.error"), text)?)
}

/// It does not fail any more when it is called for `verb`.
pub fn recovers(verb: &str) -> Result<()> {
    Ok(fs::remove_file(format!("/run/answers/{verb}.error"))?)
}

/// The verbs it was called for since this was last asked.
pub fn verbs() -> Result<Vec<String>> {
    let text = fs::read_to_string("/run/seen/verbs").unwrap_or_default();
    fs::write("/run/seen/verbs", "")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The `CNI_` variables of its last call for `verb`, but for the verb itself, sorted.
pub fn env(verb: &str) -> Result<String> {
    Ok(fs::read_to_string(format!("/run/seen/env.{verb}"))?)
}

/// The configuration of its last call for `verb`.
pub fn stdin(verb: &str) -> Result<Value> {
    let text = fs::read_to_string(format!("/run/seen/stdin.{verb}"))?;
    Ok(serde_json::from_str(&text)?)
}
