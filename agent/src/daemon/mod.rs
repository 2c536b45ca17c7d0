//! `berth agent`: the engine on a thread of its own, the API beside it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use berth_kernel::Root;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as publishing;

mod privileges;
mod report_file;
mod turns;
mod watch;

use crate::api;
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::errands::Errand;
use crate::engine::events::Events;
use crate::engine::handle::{Handle, Message};
use crate::engine::node::Node;
use crate::host::{Bell, Host};
use crate::store::Store;
pub(crate) use report_file::ReportFile;
use turns::Turns;
use watch::Watch;

/// Runs until SIGTERM or SIGINT. What is enforced stays so.
///
/// # Errors
/// When it cannot start: another agent runs, the configuration is wrong, a record cannot
/// be written, the socket cannot be opened.
pub(crate) fn run(root: &Root, config: Config) -> Result<ExitCode> {
    log(config.log_level);
    privileges::reduce()?;
    let store = Store::open(root, "berth agent")?;
    let events = Events::new();
    let bell = Bell::default();
    let mut host = Host::new(root, &config, bell.clone());
    host.send(Errand::Leases);
    let mut engine = Engine::new(host, config.clone(), store, events.clone())?;
    let (handle, ends) = Handle::new(engine.publish(), events);
    let wake = handle.waker();
    bell.get_or_init(|| wake.clone());
    let watch = match Watch::start(wake.clone()) {
        Ok(watch) => Some(watch),
        Err(error) => {
            log::warn!("no inotify: {error}; changes are seen every period only");
            None
        }
    };
    let turns = Turns {
        engine,
        messages: ends.messages,
        published: ends.published,
        report: ReportFile::new(root),
        watch,
        period: Duration::from_secs(config.reconcile_sec),
        beat,
    };
    let thread = std::thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || turns.run())
        .context("start the engine's thread")?;
    let served = serve(root, handle);
    wake.send(Message::Stop).ok();
    notify(&[sd_notify::NotifyState::Stopping]);
    if thread.join().is_err() {
        anyhow::bail!("the engine panicked; what was begun is taken back at the next start");
    }
    served
}

/// Serves the API until a signal comes or the engine ends.
fn serve(root: &Root, handle: Handle) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the API's runtime")?;
    runtime.block_on(async {
        let mut published = handle.watch();
        // The first pass: what is published before it knows nothing.
        published
            .changed()
            .await
            .context("the engine ended at its first pass")?;
        let socket = api::Socket::open(root)?;
        notify(&[sd_notify::NotifyState::Ready]);
        let ended = ends(published);
        api::serve(socket, handle, ended).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Until SIGTERM or SIGINT, or the engine is gone.
async fn ends(mut published: publishing::Receiver<Arc<crate::engine::handle::Published>>) {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    let engine = async { while published.changed().await.is_ok() {} };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        () = engine => log::error!("the engine ended"),
    }
}

/// The service manager hears that the engine lives; without one nobody does.
fn beat() {
    notify(&[sd_notify::NotifyState::Watchdog]);
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("cannot tell the service manager: {error}");
    }
}

fn log(level: log::LevelFilter) {
    let log = berth_cni::Log::new("berth", Box::new(std::io::stderr()));
    log.at(level).install();
}
