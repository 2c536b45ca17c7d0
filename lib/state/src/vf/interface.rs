//! An interface's own settings put back by difference: names by index first, for
//! everything else goes by name, then the rest until nothing differs.

use berth_kernel::netlink::Link;
use berth_kernel::{Error, Result};
use nix::errno::Errno;

use super::baseline::Baseline;
use super::difference::{Difference, Field, name_differences, own_differences};
use super::view::{View, netdev};
use super::{apply, home};

/// How often it is compared and put right at most: one change may undo another, as new
/// channels do with the queues' masks.
const PASSES: usize = 5;

/// What became of an interface.
#[derive(Debug, Default)]
pub(super) struct PutBack {
    /// Whether nothing differs but, perhaps, its names and its MAC.
    pub(super) whole: bool,
    /// Changes that were refused in the last pass.
    pub(super) refused: Vec<Error>,
    /// Names that somebody else has, and who.
    pub(super) taken: Vec<(Field, String)>,
}

/// Puts back what differs from `was` until nothing does, or it does not get better.
/// `link` looks the interface up. Its MAC takes more than one message and is left.
///
/// # Errors
/// When the interface is not there or cannot be read.
pub(super) fn put_back(
    view: &View,
    was: &Baseline,
    link: impl Fn() -> Result<Link>,
) -> Result<PutBack> {
    let mut done = PutBack::default();
    let mut before = Vec::new();
    for _pass in 0..PASSES {
        names(view, was, &link()?, &mut done)?;
        let link = link()?;
        let found = curable(was, &view.state(&link, was.side)?);
        done.whole = found.is_empty();
        if found == before {
            break;
        }
        done.refused.clear();
        for difference in &found {
            let refused = apply::field(view, &link, was, &difference.field).err();
            done.refused.extend(refused);
        }
        before = found;
    }
    Ok(done)
}

/// What differs beside the names and the MAC.
fn curable(was: &Baseline, is: &Baseline) -> Vec<Difference> {
    let mut found = own_differences(was, is);
    found.retain(|difference| {
        let identity = matches!(
            difference.field,
            Field::Name | Field::AltName(_) | Field::Mac
        );
        !identity
    });
    found
}

/// A name that somebody else has is no failure: trying again does not help.
fn names(view: &View, was: &Baseline, link: &Link, done: &mut PutBack) -> Result<()> {
    done.taken.clear();
    for difference in name_differences(&was.netdev, &netdev(link)?) {
        match apply::name(&view.net, link, &was.netdev, &difference.field) {
            Err(error) if error.errno == Some(Errno::EEXIST) => {
                let holder = home::holder(&view.net, &difference);
                done.taken.push((difference.field, holder));
            }
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
