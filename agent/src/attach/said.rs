//! What plugins write to standard error, kept until it is known whether the error
//! repeats it: a failure is told in one block, notes of a success are passed on.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use berth_cni::CniError;

/// The text so far; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// Takes the text and writes it to `out`, less the lines that hold what `error`
    /// says anyway.
    pub(crate) fn pass_on(&self, error: Option<&CniError>, out: &mut dyn Write) -> io::Result<()> {
        let text = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let text = String::from_utf8_lossy(&text);
        let own = error.map(own_words);
        let news = |line: &&str| !own.is_some_and(|own| line.contains(own));
        for line in text.lines().filter(news) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

/// The plugin's own message, without `plugin NAME failed VERB: ` in front.
fn own_words(error: &CniError) -> &str {
    let told = error.msg.split_once(" failed ");
    let own = told.and_then(|(_, rest)| rest.split_once(": "));
    own.map_or(error.msg.as_str(), |(_, own)| own)
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_repeat_the_error_are_left_out() {
        let error = CniError::new(7, "plugin p failed ADD: bridge br0: cannot: no");
        let pass = |error| {
            let mut said = Said::default();
            said.write_all(b"warn p: odd\nerror p network=game: bridge br0: cannot: no; do (7)\n")
                .unwrap();
            let mut out = Vec::new();
            said.pass_on(error, &mut out).unwrap();
            said.pass_on(None, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(pass(Some(&error)), "warn p: odd\n");
        assert_eq!(pass(None).lines().count(), 2);
    }
}
