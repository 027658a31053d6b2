//! The figures: a row for each thing measured, its median and spread, its bar; as a table for people
//! and as JSON for programs.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::Result;
use crate::say::say;

/// What a median shall be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

impl Bar {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Bar::AtMost(most) => value <= most,
            Bar::AtLeast(least) => value >= least,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bar::AtMost(most) => write!(f, "<= {most}"),
            Bar::AtLeast(least) => write!(f, ">= {least}"),
        }
    }
}

/// One thing that was measured some times.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// In what.
    pub unit: &'static str,
    /// `None`: not within the time that was allowed.
    pub values: Vec<Option<f64>>,
    /// What the median shall be.
    pub bar: Option<Bar>,
    /// What `None` means.
    pub limit: Option<Duration>,
    /// How busy this machine was during each run: processes that ran or waited, over a minute.
    pub load: Vec<f64>,
    /// What else is worth knowing.
    pub note: String,
}

impl Row {
    /// A row without values yet, and the most that its median may be.
    pub fn new(what: impl Into<String>, unit: &'static str, most: Option<f64>) -> Row {
        let (values, load, bar) = (Vec::new(), Vec::new(), most.map(Bar::AtMost));
        Row { what: what.into(), unit, values, bar, limit: None, load, note: String::new() }
    }

    /// The least that its median may be.
    pub fn at_least(self, least: f64) -> Row {
        Row { bar: Some(Bar::AtLeast(least)), ..self }
    }

    /// What else is worth knowing of it.
    pub fn note(self, note: impl Into<String>) -> Row {
        Row { note: note.into(), ..self }
    }

    /// Adds the value of a run.
    pub fn add(&mut self, value: Option<f64>) {
        self.values.push(value);
        self.load.push(load());
    }

    /// The middle of all values; of an even number the upper one, and `None` if that is one.
    pub fn median(&self) -> Option<f64> {
        self.sorted().get(self.values.len() / 2).copied().flatten()
    }

    /// Whether the median meets the bar, if there is one.
    pub fn is_met(&self) -> Option<bool> {
        self.bar.map(|bar| self.median().is_some_and(|median| bar.is_met_by(median)))
    }

    /// From the least to the most; what was not reached in time is the most.
    fn sorted(&self) -> Vec<Option<f64>> {
        let mut values = self.values.clone();
        values.sort_by(|a, b| a.unwrap_or(f64::MAX).total_cmp(&b.unwrap_or(f64::MAX)));
        values
    }

    fn json(&self) -> Value {
        let sorted = self.sorted();
        json!({
            "what": self.what, "unit": self.unit, "values": self.values,
            "median": self.median(), "min": sorted.first(), "max": sorted.last(),
            "bar": self.bar.map(|bar| bar.to_string()), "met": self.is_met(), "load": self.load, "note": self.note,
            "not_within_s": self.limit.map(|limit| limit.as_secs()),
        })
    }

    fn number(&self, value: Option<f64>) -> String {
        match value {
            Some(value) if value.abs() < 10.0 => format!("{value:.2}"),
            Some(value) => format!("{value:.1}"),
            None => self.limit.map_or("-".to_owned(), |limit| format!(">{}", limit.as_secs())),
        }
    }

    fn cells(&self) -> [String; 6] {
        let sorted = self.sorted();
        let end = |value: Option<&Option<f64>>| self.number(value.copied().flatten());
        let values: Vec<String> = self.values.iter().map(|value| self.number(*value)).collect();
        let always = |bar: Bar| sorted.iter().all(|value| bar.is_met_by(value.unwrap_or(f64::MAX)));
        let verdict = match (self.bar, self.is_met()) {
            (Some(bar), Some(true)) if always(bar) => format!("{bar} met"),
            (Some(bar), Some(true)) => format!("{bar} met, the worst not"),
            (Some(bar), _) => format!("{bar} NOT MET"),
            (None, _) => String::new(),
        };
        [
            self.what.clone(),
            format!("{} {}", self.number(self.median()), self.unit),
            format!("{}-{}", end(sorted.first()), end(sorted.last())),
            verdict,
            values.join(" "),
            self.note.clone(),
        ]
    }
}

/// All rows.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds rows at the end.
    pub fn extend(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    /// Whether each bar is met.
    pub fn all_met(&self) -> bool {
        self.rows.iter().all(|row| row.is_met() != Some(false))
    }

    /// Shows it to the person.
    pub fn show(&self) {
        let heads = ["", "median", "min-max", "bar", "all", ""].map(str::to_owned);
        let lines: Vec<[String; 6]> =
            std::iter::once(heads).chain(self.rows.iter().map(Row::cells)).collect();
        let mut widths = [0; 6];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        say(format_args!(""));
        for line in &lines {
            let padded: Vec<String> =
                line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            say(format_args!("{}", padded.join("  ").trim_end()));
        }
        let loads: Vec<f64> = self.rows.iter().flat_map(|row| row.load.iter().copied()).collect();
        if let (Some(least), Some(most)) = (
            loads.iter().copied().min_by(f64::total_cmp),
            loads.iter().copied().max_by(f64::total_cmp),
        ) {
            say(format_args!("Load of this machine meanwhile: {least:.2} to {most:.2}"));
        }
    }
}

/// Writes rows as JSON, with a word on what they are about.
pub fn write(path: &Path, about: &str, rows: &[Row]) -> Result<()> {
    let when = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let text =
        serde_json::to_string_pretty(&json!({ "unix_time": when, "about": about, "rows": rows }))?;
    fs::write(path, text + "\n")
        .map_err(|why| format!("could not write `{}`: {why}", path.display()).into())
}

/// Tells how a run went, while it goes on.
pub fn tell(what: &str, run: u8, value: impl std::fmt::Display) {
    say(format_args!("  {what}, run {}: {value} (load {:.2})", run + 1, load()));
}

/// The load average over a minute (proc_loadavg(5)).
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// The value below which so many percent of all lie; upwards where it falls between two.
pub fn quantile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<f64>]) -> Row {
        let mut row = Row::new("x", "s", Some(2.0));
        row.values = values.to_vec();
        row.limit = Some(Duration::from_secs(60));
        row
    }

    #[test]
    fn the_median_judges_and_the_worst_is_told() {
        let cells = |values: &[f64]| {
            let values: Vec<_> = values.iter().copied().map(Some).collect();
            row(&values).cells()
        };
        assert_eq!(
            cells(&[1.0, 3.0, 0.5])[1..4],
            ["1.00 s", "0.50-3.00", "<= 2 met, the worst not"]
        );
        assert_eq!(cells(&[1.0, 3.0, 2.5])[3], "<= 2 NOT MET");
        assert_eq!(cells(&[1.0])[3], "<= 2 met");
    }

    #[test]
    fn a_bar_may_be_the_least_that_is_wanted() {
        let mut row = row(&[Some(1.9), Some(2.1), Some(2.5)]).at_least(2.0);
        assert_eq!(row.cells()[3], ">= 2 met, the worst not");
        row.values = vec![Some(1.9)];
        assert_eq!(row.is_met(), Some(false));
        assert_eq!(row.json()["bar"], json!(">= 2"));
    }

    #[test]
    fn what_was_not_reached_is_the_most() {
        let row = row(&[None, Some(1.0), None]);
        assert_eq!(row.median(), None);
        assert_eq!(row.cells()[1..3], [">60 s", "1.00->60"]);
        assert_eq!(row.is_met(), Some(false));
        assert_eq!(row.json()["values"], json!([null, 1.0, null]));
    }

    #[test]
    fn quantiles() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!((quantile(&values, 50), quantile(&values, 99)), (100.0, 198.0));
        assert_eq!(quantile(&[7.0], 99), 7.0);
        assert!(quantile(&[], 50).is_nan());
    }
}
