//! What came of a run, for people and for programs.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Case, Outcome};

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line for each case.
    Table,
    /// One object, which [`comparison`] reads.
    Json,
    /// A table of Markdown.
    Markdown,
}

impl std::str::FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "markdown" => Ok(Self::Markdown),
            _ => bail!("no format {text:?}: table, json or markdown"),
        }
    }
}

/// The outcomes of one plugin.
#[derive(Debug)]
pub struct Report {
    /// What was put through, with its version.
    pub subject: String,
    /// Each case with its outcome.
    pub outcomes: Vec<(Case, Outcome)>,
}

impl Report {
    /// Cases with this outcome's word.
    pub fn count(&self, word: &str) -> usize {
        let words = self.outcomes.iter().map(|(_, outcome)| outcome.word());
        words.filter(|each| *each == word).count()
    }

    /// `N passed, N failed, N skipped, N not claimed`.
    pub fn counts(&self) -> String {
        let of = |word| self.count(word);
        let (pass, fail, skipped, unclaimed) =
            (of("pass"), of("FAIL"), of("skipped"), of("not claimed"));
        format!("{pass} passed, {fail} failed, {skipped} skipped, {unclaimed} not claimed")
    }

    /// The whole report.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Table => self.table(),
            Format::Json => format!("{:#}\n", self.json()),
            Format::Markdown => comparison(&[self.json()]).unwrap_or_default(),
        }
    }

    fn table(&self) -> String {
        let mut text = format!("{}\n", self.subject);
        for (case, outcome) in &self.outcomes {
            text.push_str(&line(case, outcome));
        }
        writeln!(text, "{}", self.counts()).ok();
        text
    }

    fn json(&self) -> Value {
        let cases = self.outcomes.iter().map(|(case, outcome)| {
            json!({"id": case.id, "meaning": case.meaning, "source": case.source,
                   "outcome": outcome.word(), "text": outcome.text()})
        });
        json!({"subject": self.subject, "counts": self.counts(),
               "cases": cases.collect::<Vec<_>>()})
    }
}

/// One case of a table.
fn line(case: &Case, outcome: &Outcome) -> String {
    let mut text = format!("{:<34} {}", case.id, outcome.word());
    if !outcome.text().is_empty() {
        write!(text, ": {}", outcome.text()).ok();
    }
    text.push('\n');
    text
}

/// The same cases of several plugins side by side, and what each fails, as Markdown.
pub fn comparison(reports: &[Value]) -> Result<String> {
    let first = reports.first().context("no report")?;
    let mut text = String::from("| case | what must be so | source |");
    for report in reports {
        write!(text, " {} |", cell(&report["subject"]))?;
    }
    text.push_str("\n|---|---|---|");
    text.push_str(&"---|".repeat(reports.len()));
    text.push('\n');
    for case in cases(first) {
        let columns = [&case["meaning"], &case["source"]].map(cell);
        write!(
            text,
            "| `{}` | {} |",
            plain(&case["id"]),
            columns.join(" | ")
        )?;
        for report in reports {
            let here = cases(report).find(|one| one["id"] == case["id"]);
            write!(
                text,
                " {} |",
                here.map_or(String::new(), |c| cell(&c["outcome"]))
            )?;
        }
        text.push('\n');
    }
    text.push_str("| | **in all** | |");
    for report in reports {
        write!(text, " {} |", cell(&report["counts"]))?;
    }
    text.push('\n');
    for report in reports {
        failures(&mut text, report)?;
    }
    Ok(text)
}

fn failures(text: &mut String, report: &Value) -> Result<()> {
    let failed: Vec<&Value> = cases(report).filter(|c| c["outcome"] == "FAIL").collect();
    if failed.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n## What {} fails\n", plain(&report["subject"]))?;
    text.push_str("| case | seen |\n|---|---|\n");
    for case in failed {
        writeln!(
            text,
            "| `{}` | {} |",
            plain(&case["id"]),
            cell(&case["text"])
        )?;
    }
    Ok(())
}

fn cases(report: &Value) -> impl Iterator<Item = &Value> {
    report["cases"].as_array().into_iter().flatten()
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn cell(value: &Value) -> String {
    let escaped = plain(value).replace('|', "\\|");
    escaped.replace('<', "&lt;").replace('*', "\\*")
}

/// The longest evidence, in characters.
const LONGEST: usize = 300;

/// A message as one line that is the same in every run: addresses and names that the kernel
/// or chance chose are left out.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(steady).collect();
    let joined = words.join(" ");
    match joined.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &joined[..end]),
        None => joined,
    }
}

/// A word without what differs from run to run.
fn steady(word: &str) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some(next) = rest.chars().next() {
        let (kept, length) = match (mac_at(rest), veth_at(rest), hash_at(rest)) {
            (Some(length), _, _) => ("MAC".to_owned(), length),
            (_, Some(length), _) => ("vethX".to_owned(), length),
            (_, _, Some(length)) => ("HASH".to_owned(), length),
            _ => (next.to_string(), next.len_utf8()),
        };
        text.push_str(&kept);
        rest = &rest[length..];
    }
    text
}

/// The length of a MAC address that `text` begins with.
fn mac_at(text: &str) -> Option<usize> {
    let head = text.get(..17)?;
    let parts: Vec<&str> = head.split(':').collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    (parts.len() == 6 && parts.iter().all(is_byte)).then_some(17)
}

/// The length of a name that the reference plugins draw for a veth.
fn veth_at(text: &str) -> Option<usize> {
    let digits = text.strip_prefix("veth")?;
    let count = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
    (count == 8).then_some(12)
}

/// The length of a number of 12 and more hexadecimal digits, letters and digits.
fn hash_at(text: &str) -> Option<usize> {
    let count = text.bytes().take_while(u8::is_ascii_hexdigit).count();
    (count >= 12).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chance_chose_is_left_out() {
        assert_eq!(
            one_line("link veth0a1b2c3d\n of 02:00:5e:10:00:01/64, bv0123456789ab"),
            "link vethX of MAC/64, bvHASH"
        );
        assert_eq!(one_line("vlan 10:20 fd00:9::1"), "vlan 10:20 fd00:9::1");
        assert!(one_line(&"long ".repeat(100)).len() < 310);
    }

    #[test]
    fn reports_stand_side_by_side() {
        let one = json!({"subject": "a", "counts": "1", "cases": [
            {"id": "x.y", "meaning": "m", "source": "s", "outcome": "pass", "text": ""}]});
        let two = json!({"subject": "b", "counts": "1", "cases": [
            {"id": "x.y", "meaning": "m", "source": "s", "outcome": "FAIL", "text": "a|b"}]});
        let text = comparison(&[one, two]).unwrap();
        assert!(text.contains("| `x.y` | m | s | pass | FAIL |\n"), "{text}");
        assert!(text.contains("## What b fails"), "{text}");
        assert!(text.contains("| `x.y` | a\\|b |\n"), "{text}");
        assert!(!text.contains("What a fails"), "{text}");
    }
}
