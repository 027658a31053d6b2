//! Two runs of the bench beside each other: what got better, what got worse, and what the noise may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Result;
use crate::say::say;

/// One figure of a run.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    unit: String,
    /// `None`: not within the time that was allowed.
    median: Option<f64>,
    /// From the least to the most, of those that were within it.
    spread: Option<(f64, f64)>,
    /// Whether more is better; `None` if the bar does not say.
    more_is_better: Option<bool>,
}

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The spreads overlap: it may be noise.
    Within,
    Better,
    Worse,
    /// Beyond the spread, and nothing says which way is better.
    Other,
}

/// Compares two runs, each a folder with results or one file of it. Whether nothing got worse.
pub fn run(old: &Path, new: &Path) -> Result<bool> {
    let (old, new) = (read(old)?, read(new)?);
    let mut worse = 0;
    let mut lines = vec![["", "old", "new", "new / old", ""].map(str::to_owned)];
    for (what, figure) in &new {
        let Some(before) = old.get(what) else {
            lines.push([what.clone(), String::new(), shown(figure), String::new(), "new".into()]);
            continue;
        };
        let change = change(before, figure);
        worse += usize::from(change == Change::Worse);
        let ratio = match (before.median, figure.median) {
            (Some(before), Some(after)) if before != 0.0 => format!("{:.2}", after / before),
            _ => String::new(),
        };
        let verdict = match change {
            Change::Within => "",
            Change::Better => "better",
            Change::Worse => "WORSE",
            Change::Other => "differs",
        };
        lines.push([what.clone(), shown(before), shown(figure), ratio, verdict.into()]);
    }
    for what in old.keys().filter(|what| !new.contains_key(*what)) {
        lines.push([what.clone(), "there".into(), String::new(), String::new(), "gone".into()]);
    }
    show(&lines);
    say(format_args!("{} figures; {worse} got worse beyond the spread of both runs.", new.len()));
    Ok(worse == 0)
}

fn show(lines: &[[String; 5]]) {
    let mut widths = [0; 5];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in lines {
        let padded: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        say(format_args!("{}", padded.join("  ").trim_end()));
    }
}

fn shown(figure: &Figure) -> String {
    let number = |value: f64| {
        if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
    };
    let median = figure.median.map_or("not reached".to_owned(), number);
    let spread = match figure.spread {
        Some((least, most)) if least < most => format!(" ({}-{})", number(least), number(most)),
        _ => String::new(),
    };
    format!("{median} {}{spread}", figure.unit)
}

fn change(old: &Figure, new: &Figure) -> Change {
    let went_up = match (old.median, new.median, old.spread, new.spread) {
        (None, None, ..) => return Change::Within,
        // A time that was not reached is the longest that there is.
        (Some(_), None, ..) => true,
        (None, Some(_), ..) => false,
        (Some(_), Some(_), Some(old), Some(new)) if new.0 > old.1 => true,
        (Some(_), Some(_), Some(old), Some(new)) if new.1 < old.0 => false,
        _ => return Change::Within,
    };
    match new.more_is_better.or(old.more_is_better) {
        Some(more_is_better) if more_is_better == went_up => Change::Better,
        Some(_) => Change::Worse,
        None => Change::Other,
    }
}

/// All figures of a run, by what was measured.
fn read(at: &Path) -> Result<BTreeMap<String, Figure>> {
    let files: Vec<PathBuf> = if at.is_dir() {
        let entries = fs::read_dir(at).map_err(|why| unreadable(at, &why))?;
        let files = entries.flatten().map(|entry| entry.path());
        files.filter(|file| file.extension().is_some_and(|end| end == "json")).collect()
    } else {
        vec![at.to_owned()]
    };
    let mut figures = BTreeMap::new();
    for file in &files {
        let text = fs::read_to_string(file).map_err(|why| unreadable(file, &why))?;
        let rows = rows(&text)
            .ok_or_else(|| format!("`{}` is no result of `cargo xtask bench`", file.display()))?;
        figures.extend(rows);
    }
    if figures.is_empty() {
        return Err(format!(
            "there is no result in `{}`; `cargo xtask bench` writes them to target/bench",
            at.display()
        )
        .into());
    }
    Ok(figures)
}

fn unreadable(at: &Path, why: &std::io::Error) -> String {
    format!("could not read `{}`: {why}", at.display())
}

fn rows(text: &str) -> Option<Vec<(String, Figure)>> {
    let result: Value = serde_json::from_str(text).ok()?;
    result.get("rows")?.as_array()?.iter().map(row).collect()
}

fn row(row: &Value) -> Option<(String, Figure)> {
    let unit = row.get("unit")?.as_str()?.to_owned();
    let values = row.get("values")?.as_array()?;
    let values: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
    let least = values.iter().copied().min_by(f64::total_cmp);
    let more_is_better = match row.get("bar").and_then(Value::as_str) {
        Some(bar) => Some(bar.starts_with(">=")),
        // What these count is never too much.
        None if unit.ends_with("B/s") || unit == "1/s" => Some(true),
        None if ["s", "ms", "KB", "MB", "s/GB", "ms/min"].contains(&unit.as_str()) => Some(false),
        None => None,
    };
    let figure = Figure {
        median: row.get("median")?.as_f64(),
        spread: least.zip(values.iter().copied().max_by(f64::total_cmp)),
        more_is_better,
        unit,
    };
    Some((row.get("what")?.as_str()?.to_owned(), figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64], bar: &str) -> Figure {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let text = serde_json::json!({ "rows": [{
            "what": "x", "unit": "s", "values": values, "bar": bar,
            "median": sorted.get(sorted.len() / 2),
        }] });
        rows(&text.to_string()).unwrap().remove(0).1
    }

    #[test]
    fn only_what_lies_beyond_both_spreads_has_changed() {
        let old = figure(&[1.0, 2.0, 3.0], "<= 5");
        assert_eq!(change(&old, &figure(&[2.9, 4.0, 9.0], "<= 5")), Change::Within);
        assert_eq!(change(&old, &figure(&[3.1, 4.0, 9.0], "<= 5")), Change::Worse);
        assert_eq!(change(&old, &figure(&[0.1, 0.2, 0.9], "<= 5")), Change::Better);
        assert_eq!(change(&old, &figure(&[3.1], ">= 5")), Change::Better);
        assert_eq!(change(&old, &figure(&[0.1], ">= 5")), Change::Worse);
        let nothing = Figure { more_is_better: None, ..figure(&[4.0], "") };
        assert_eq!(change(&Figure { more_is_better: None, ..old }, &nothing), Change::Other);
    }

    #[test]
    fn what_was_not_reached_is_the_longest() {
        let old = figure(&[1.0], "<= 5");
        let never = Figure { median: None, spread: None, ..old.clone() };
        assert_eq!(change(&old, &never), Change::Worse);
        assert_eq!(change(&never, &old), Change::Better);
        assert_eq!(change(&never, &never), Change::Within);
    }

    #[test]
    fn a_folder_a_file_and_what_is_neither() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(read(folder.path()).unwrap_err().to_string().contains("no result in"));
        assert!(read(&at("none.json")).unwrap_err().to_string().contains("could not read"));
        let rows = vec![super::super::figures::Row::new("a", "s", Some(1.0))];
        super::super::figures::write(&at("a.json"), "test", &rows).unwrap();
        fs::write(at("log"), "no JSON").unwrap();
        assert_eq!(read(folder.path()).unwrap(), read(&at("a.json")).unwrap());
        fs::write(at("b.json"), "{\"rows\": [{\"what\": 1}]}").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("is no result"));
    }
}
