//! `berth events`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use berth_kernel::Root;
use serde_json::Value;

use crate::api::EventList;
use crate::cli::{EventsArgs, Output};
use crate::client::{Ask, Client};
use crate::engine::events::Event;

/// Shows on `out`.
pub(crate) fn run(args: &EventsArgs, root: &Root, out: &mut dyn Write) -> Result<ExitCode> {
    let client = Client::new(root)?;
    let path = path(args);
    if args.watch {
        client.follow(&path, &mut |value| {
            write(value, args.output, out)?;
            Ok(out.flush()?)
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let list: EventList = super::asked(&client, &Ask::get(path))?;
    for event in list.events {
        write(serde_json::to_value(event)?, args.output, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn path(args: &EventsArgs) -> String {
    // To people those that are kept are shown first.
    let since = args.since.map(|since| format!("since={since}"));
    let watch = args.watch.then(|| "watch=true".to_owned());
    let keys: Vec<_> = [since, watch].into_iter().flatten().collect();
    match keys.is_empty() {
        true => "/v1/events".to_owned(),
        false => format!("/v1/events?{}", keys.join("&")),
    }
}

fn write(value: Value, output: Output, out: &mut dyn Write) -> Result<()> {
    match output {
        Output::Json => writeln!(out, "{value}")?,
        Output::Text => text(&super::read(value)?, out)?,
    }
    Ok(())
}

/// One line: number, time, what, of whom, and from what to what.
pub(super) fn text(event: &Event, out: &mut dyn Write) -> io::Result<()> {
    let time = Duration::from_millis(event.unix_ms);
    write!(out, "{} {} {}", event.seq, clock(time), event.kind)?;
    if let Some(workload) = &event.workload {
        write!(out, " {workload}")?;
    }
    write!(out, ": {}", event.object)?;
    if !event.old.is_empty() || !event.new.is_empty() {
        let dash = |text: &'_ str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
        write!(out, ": {} -> {}", dash(&event.old), dash(&event.new))?;
    }
    match event.why.as_str() {
        "" => writeln!(out),
        why => writeln!(out, "  ({why})"),
    }
}

/// Time since 1970 as `2026-01-31T23:59:59Z`.
fn clock(since: Duration) -> String {
    let seconds = since.as_secs();
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        days + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_772_323_200, "2026-03-01T00:00:00Z"),
        ] {
            assert_eq!(clock(Duration::from_secs(seconds)), date);
        }
    }

    #[test]
    fn an_event_is_a_line() {
        let mut event = Event {
            workload: Some("game-17".parse().unwrap()),
            old: "max".to_owned(),
            new: "wbps=1048576".to_owned(),
            ..Event::new("repair", "io.max of /a", "it was changed")
        };
        event.seq = 7;
        let told = |event: &Event| {
            let mut out = Vec::new();
            text(event, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            told(&event),
            "7 1970-01-01T00:00:00Z repair game-17: io.max of /a: max -> wbps=1048576  \
             (it was changed)\n"
        );
        let event = Event::new("offline", "CPU 3", "");
        assert_eq!(told(&event), "0 1970-01-01T00:00:00Z offline: CPU 3\n");
    }
}
