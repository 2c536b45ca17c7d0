//! Bars: a value beside its limit, one line each.

use std::fmt::Write as _;

/// The bars of a run, printed as they come.
#[derive(Debug, Default)]
pub(crate) struct Bars {
    short: usize,
}

impl Bars {
    /// Prints `bar NAME VALUE LIMIT ok|short`; a value must not be above its limit.
    pub(crate) fn at_most(&mut self, name: &str, value: f64, limit: f64) {
        let good = value <= limit;
        self.line(good, &format!("{name} {value:.3} {limit}"));
    }

    /// The same of a value that must not be below its limit.
    pub(crate) fn at_least(&mut self, name: &str, value: f64, limit: f64) {
        let good = value >= limit;
        self.line(good, &format!("{name} {value:.3} {limit}"));
    }

    /// Prints `bar NAME missing REASON`, which is short as well.
    pub(crate) fn missing(&mut self, name: &str, reason: &str) {
        self.short += 1;
        crate::say(&format!("bar {name} missing {reason}"));
    }

    /// Whether none was short.
    pub(crate) fn all_good(&self) -> bool {
        self.short == 0
    }

    fn line(&mut self, good: bool, what: &str) {
        self.short += usize::from(!good);
        let mut line = format!("bar {what} ");
        write!(line, "{}", if good { "ok" } else { "short" }).ok();
        crate::say(&line);
    }
}
