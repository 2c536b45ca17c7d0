//! `berth release --all` where no agent runs: the agent's lock is taken, so that none
//! starts meanwhile, and its engine used for this one request.

use anyhow::Result;
use berth_kernel::Root;
use nix::unistd::{getegid, geteuid, getpid};

use crate::api::SOCKET;
use crate::cli::FreeArgs;
use crate::config::Config;
use crate::daemon::ReportFile;
use crate::engine::Engine;
use crate::engine::events::Events;
use crate::engine::handle::{Outcome, Peer};
use crate::host::{Bell, Host};
use crate::refusal::{Code, Refusal};
use crate::store::Store;

const WISH: &str = "release all workloads without an agent";

/// Takes everything off the node. The report's file is written anew, as the agent would.
///
/// # Errors
/// An agent starts or ends at the moment; the configuration is wrong; something could
/// not be put back.
pub(super) fn release(args: &FreeArgs, root: &Root) -> Result<Outcome> {
    let config = Config::named(args.config.as_deref(), root)?;
    let uid = geteuid();
    if !uid.is_root() {
        return Err(unprivileged(uid.as_raw()).into());
    }
    let by = Peer {
        uid: uid.as_raw(),
        gid: getegid().as_raw(),
        pid: getpid().as_raw(),
    };
    let store = open(root)?;
    let host = Host::new(root, &config, Bell::default());
    let mut engine = Engine::new(host, config, store, Events::new())?;
    let outcome = engine.release_alone(args.dry_run, by)?;
    if !args.dry_run {
        engine.look_around();
        ReportFile::new(root).write(&engine.publish().capacity);
    }
    Ok(outcome)
}

/// The agent's memory, locked.
fn open(root: &Root) -> Result<Store, Refusal> {
    Store::open(root, "berth release --all").map_err(|refusal| match refusal.code {
        Code::Conflict => Refusal {
            wish: WISH.to_owned(),
            reason: format!("no agent answers at its socket, and {}", refusal.reason),
            next: "an agent that starts or ends holds the lock: see systemctl status berth; when \
                   it runs or has ended, run berth release --all again"
                .to_owned(),
            ..refusal
        },
        _ => refusal,
    })
}

fn unprivileged(uid: u32) -> Refusal {
    Refusal::new(
        Code::Forbidden,
        format!("run/berth/{SOCKET}"),
        WISH,
        format!("no agent listens there, and user {uid} may not change the node"),
        "become root, or start the agent: systemctl start berth",
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::FreeArgs;

    fn node() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        let boot = root.proc.join("sys/kernel/random");
        fs::create_dir_all(&boot).unwrap();
        fs::write(boot.join("boot_id"), "b7\n").unwrap();
        (dir, root)
    }

    #[test]
    fn beside_an_agent_that_does_not_answer_yet_nothing_is_done() {
        let (_dir, root) = node();
        let agent = Store::open(&root, "berth agent").unwrap();
        let refusal = open(&root).unwrap_err();
        assert_eq!(refusal.code, Code::Conflict);
        for part in [
            "run/berth/agent.lock",
            "release all",
            "berth agent",
            "systemctl status berth",
        ] {
            assert!(refusal.to_string().contains(part), "{refusal}");
        }
        drop(agent);
        let store = open(&root).unwrap();
        // And an agent that starts now waits for its turn.
        let refusal = Store::open(&root, "berth agent").unwrap_err();
        assert!(refusal.reason.contains("berth release --all"), "{refusal}");
        drop(store);
    }

    #[test]
    fn a_wrong_configuration_or_user_changes_nothing() {
        let (_dir, root) = node();
        let args = FreeArgs {
            all: true,
            config: Some(root.etc.join("none.toml")),
            dry_run: false,
        };
        let error = release(&args, &root).unwrap_err().to_string();
        assert!(error.contains("none.toml"), "{error}");
        assert!(!root.var.exists());
        let refusal = unprivileged(1000).to_string();
        assert!(
            refusal.contains("user 1000") && refusal.contains("become root"),
            "{refusal}"
        );
    }
}
