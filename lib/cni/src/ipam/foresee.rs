//! Whom an ADD would ask for addresses and what it would be given, without asking: for
//! who explains a configuration.

use super::{Delegate, Who, fixed, host_local};
use crate::error::CniError;
use crate::request::Request;
use crate::result::{AddResult, Dns, Route};

/// Where the addresses of an ADD would come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreseen {
    /// Nowhere: layer 2 only.
    Nobody,
    /// From the configuration. Without an address in it the runtime must give one.
    Static(AddResult),
    /// From the built-in's pool.
    HostLocal(Pool),
    /// From a plugin that is executed.
    Delegate(Delegate),
}

/// What the built-in `host-local` gives out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// An attachment gets one address of each.
    pub sets: Vec<Set>,
    /// Routes of every attachment.
    pub routes: Vec<Route>,
    /// Name service settings of every attachment.
    pub dns: Dns,
}

/// Ranges that one address of an attachment comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// First and last addresses, as a message has them: `10.1.0.1-10.1.0.254`.
    pub ranges: String,
    /// How many there are to be given out.
    pub addresses: u128,
}

/// What an ADD of `request` would find in key `ipam`.
///
/// # Errors
/// What that ADD would be refused for.
pub fn foresee(request: &Request) -> Result<Foreseen, CniError> {
    Ok(match Who::of(request)? {
        Who::Nobody => Foreseen::Nobody,
        Who::Static => Foreseen::Static(fixed::foresee(request)?),
        Who::HostLocal => Foreseen::HostLocal(host_local::foresee(request)?),
        Who::Delegate(delegate) => Foreseen::Delegate(delegate),
    })
}
