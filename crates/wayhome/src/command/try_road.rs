//! `wayhome try`

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::command::agent::runtime;
use crate::command::signals::Signals;
use crate::error::{Failure, Outcome};
use crate::report;
use crate::trial::{Road, Step, Trial};

/// See the whole road work on this machine alone, and how long it is down when it is cut.
///
/// Starts a gateway, a home's sshd and an agent, with throwaway keys in a throwaway folder and on
/// loopback ports; goes home with the real ssh, by the stock road (the gateway and the laptop have
/// nothing but OpenSSH) and by the native one (they have wayhome); cuts the roads; and cleans up. Where
/// no sshd is installed, the native road leads to a small page. Nothing of this machine is changed, and
/// root is not needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome try
  wayhome try --keep")]
pub struct Args {
    /// Leave it running, print the commands to try by hand, and clean up at ^C.
    #[arg(long)]
    keep: bool,
    /// Print JSON, for scripts; not while it goes on, but at the end.
    #[arg(long, conflicts_with = "keep")]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    steps: Vec<Shown>,
    home: Vec<Visit>,
    down: Vec<Down>,
    seconds: f64,
}

#[derive(Serialize)]
struct Shown {
    step: String,
    road: Option<Road>,
    seconds: f64,
    detail: String,
}

/// A way home that was gone once more after the cuts.
#[derive(Serialize)]
struct Visit {
    road: Road,
    seconds: f64,
}

#[derive(Serialize)]
struct Down {
    cut: &'static str,
    road: Road,
    seconds: f64,
}

/// What was measured of a trial.
struct Measured {
    goal: String,
    home: Vec<Visit>,
    down: Vec<Down>,
}

async fn measure(trial: &mut Trial, show: &mut dyn FnMut(Step)) -> Outcome<Measured> {
    for road in trial.roads() {
        trial.go_home(*road, "the first time", show).await?;
    }
    let (mut down, mut home) = (Vec::new(), Vec::new());
    for cut in trial.cuts() {
        let seconds = trial.cut(*cut, show).await?.as_secs_f64();
        down.push(Down { cut: cut.name(), road: cut.road(), seconds });
    }
    for road in trial.roads() {
        let seconds = trial.go_home(*road, "again", show).await?.as_secs_f64();
        home.push(Visit { road: *road, seconds });
    }
    Ok(Measured { goal: trial.goal(), home, down })
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome<u8> {
    runtime()?.block_on(show(args))
}

async fn show(args: &Args) -> Outcome<u8> {
    // Before anything is made that would have to be cleaned up.
    let mut signals = Signals::listen()?;
    let mut steps = Vec::new();
    let json = args.json;
    let mut show = |step: Step| {
        if !json {
            show_step(&step);
        }
        steps.push(step);
    };
    let began = std::time::Instant::now();
    let road = async {
        let mut trial = Trial::start(&mut show).await?;
        let measured = measure(&mut trial, &mut show).await?;
        Outcome::Ok((trial, measured))
    };
    let (trial, measured) = tokio::select! {
        biased;
        // The road is dropped with this, wherever it was, and that cleans up.
        code = signals.next() => {
            report::note("interrupted: all of it is gone again");
            return Ok(code);
        }
        shown = road => shown?,
    };
    if args.keep {
        report::note("\nIt runs. In another terminal:\n");
        for line in trial.command_lines() {
            report::data("the command", line + "\n")?;
        }
        report::note("\nor look at the agent, and at the gateway:\n");
        for line in trial.status_lines() {
            report::note(line);
        }
        report::note("\n^C ends it and cleans up.");
        signals.next().await;
    }
    let cleaning = std::time::Instant::now();
    trial.end()?;
    if let Some(code) = signals.arrived().await {
        report::note("interrupted: all of it is gone again");
        return Ok(code);
    }
    show(Step::new("all of it is gone again", None, cleaning.elapsed(), ""));
    if json {
        let shown = steps.iter().map(|step| Shown {
            step: step.what.clone(),
            road: step.road,
            seconds: step.took.as_secs_f64(),
            detail: step.detail.clone(),
        });
        let (steps, seconds) = (shown.collect(), began.elapsed().as_secs_f64());
        let Measured { home, down, .. } = measured;
        let report = Report { steps, home, down, seconds };
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new("the report cannot be written").because(&error))?;
        report::data("the report", text + "\n")?;
    } else {
        report::note(summary(&measured));
    }
    Ok(0)
}

fn show_step(step: &Step) {
    let mut text = step.what.clone();
    if !step.detail.is_empty() {
        let _ = write!(text, ": {}", step.detail);
    }
    report::step(&format!("{}  ", time(step.took.as_secs_f64())), &text);
}

fn summary(measured: &Measured) -> String {
    let mut text = String::from("\nIt was cut, and came back by itself:\n");
    for Down { cut, seconds, .. } in &measured.down {
        let _ = writeln!(text, "{}  {cut}", time(*seconds));
    }
    let _ = writeln!(text, "\n{}, once it was back:", measured.goal);
    for Visit { road, seconds } in &measured.home {
        let _ = writeln!(text, "{}  by {}", time(*seconds), road.name());
    }
    text.push_str("\nNext: the README shows how the three seats are set up for real.");
    text
}

/// In its column.
fn time(seconds: f64) -> String {
    format!("{:>9}", self::seconds(Duration::from_secs_f64(seconds)))
}

fn seconds(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        format!("{} ms", span.as_millis())
    } else {
        format!("{:.2} s", span.as_secs_f64())
    }
}
