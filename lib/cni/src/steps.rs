//! The undo list with the plugins' error type: what a step's failure becomes.

use std::borrow::Cow;

use berth_state::undo::Undo;

use crate::error::CniError;

/// Steps of a plugin's transaction.
pub trait Steps {
    /// Registers `inverse`, then runs `action`.
    fn change<T, E: Into<CniError>>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        inverse: impl FnOnce() -> Result<(), CniError> + 'static,
        action: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CniError>;

    /// Runs an action that an inverse registered before takes back too.
    fn covered<T, E: Into<CniError>>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        action: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CniError>;
}

impl Steps for Undo {
    fn change<T, E: Into<CniError>>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        inverse: impl FnOnce() -> Result<(), CniError> + 'static,
        action: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CniError> {
        self.step(name, inverse, || action().map_err(Into::into))
    }

    fn covered<T, E: Into<CniError>>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        action: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CniError> {
        self.change(name, || Ok(()), action)
    }
}
