//! x
mod target;
mod wishes;
use berth_kernel::Root;
use std::io::Write;
use std::process::ExitCode;
pub(crate) struct Place {
    root: Root,
}
impl Place {
    pub(crate) fn host(root: Root) -> Self {
        Self { root }
    }
}
pub(crate) fn attach(
    _a: &crate::cli::AttachArgs,
    _p: &Place,
    _o: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    todo!()
}
pub(crate) fn detach(
    _a: &crate::cli::DetachArgs,
    _p: &Place,
    _o: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    todo!()
}
