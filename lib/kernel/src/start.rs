//! The start of a process that does without the standard library's own, which reads the
//! process's memory map to tell a stack overflow from other faults: a twentieth of the
//! processor time of an ADD.

use std::fs::OpenOptions;
use std::os::fd::{IntoRawFd, RawFd};

use nix::errno::Errno;

use crate::{Error, Result};

/// Standard input, output and error.
const STANDARD: [RawFd; 3] = [0, 1, 2];

/// What of that start a program cannot do without: descriptors 0 to 2 are open, so that no
/// file opened later is taken for one of them, and who writes to a pipe that nobody reads
/// gets an error instead of being killed. To be called before anything else, and by nobody
/// who was started by the standard library.
///
/// # Errors
/// `/dev/null` cannot be opened.
pub fn prepare() -> Result<()> {
    let mut polled = STANDARD.map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: `polled` is 3 writable entries and outlives the call, which only looks at
    // the descriptors, open or not.
    let seen = unsafe { libc::poll(polled.as_mut_ptr(), 3, 0) };
    Errno::result(seen).map_err(|errno| Error::errno("look at", "descriptors 0 to 2", errno))?;
    for _closed in polled.iter().filter(|fd| fd.revents & libc::POLLNVAL != 0) {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null");
        let null = null.map_err(|error| Error::io("open", "/dev/null", &error))?;
        // It is given the lowest free number, and keeps it until the process ends.
        let _kept = null.into_raw_fd();
    }
    // SAFETY: no handler is installed, the signal is only ignored.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    Ok(())
}
