//! `wayhome try`

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::command::agent::runtime;
use crate::command::signals::Signals;
use crate::error::{Failure, Outcome};
use crate::report;
use crate::trial::{Cut, Step, Trial};

/// See the whole road work on this machine alone, and how long it is down when it is cut.
///
/// Starts a gateway's sshd, a home's sshd and an agent, with throwaway keys in a throwaway folder and
/// on loopback ports; goes home with the real ssh; cuts the link; and cleans up. Nothing of this
/// machine is changed, and root is not needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wayhome try
  wayhome try --keep")]
pub struct Args {
    /// Leave it running, print the command to try by hand, and clean up at ^C.
    #[arg(long)]
    keep: bool,
    /// Print JSON, for scripts; not while it goes on, but at the end.
    #[arg(long, conflicts_with = "keep")]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    steps: Vec<Shown>,
    down: Vec<Down>,
    seconds: f64,
}

#[derive(Serialize)]
struct Shown {
    step: String,
    seconds: f64,
    detail: String,
}

#[derive(Serialize)]
struct Down {
    cut: &'static str,
    seconds: f64,
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
        trial.go_home("ssh home-ubuntu, the first time", &mut show).await?;
        let mut down = Vec::new();
        for cut in [Cut::Killed, Cut::Frozen] {
            let span = trial.cut(cut, &mut show).await?;
            down.push(Down { cut: cut.name(), seconds: span.as_secs_f64() });
        }
        trial.go_home("ssh home-ubuntu, again", &mut show).await?;
        Outcome::Ok((trial, down))
    };
    let (trial, down) = tokio::select! {
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
        report::data("the command", format!("{}\n", trial.command_line()))?;
        report::note("\nor look at the agent:\n");
        report::note(trial.status_line());
        report::note("\n^C ends it and cleans up.");
        signals.next().await;
    }
    let cleaning = std::time::Instant::now();
    trial.end()?;
    if let Some(code) = signals.arrived().await {
        report::note("interrupted: all of it is gone again");
        return Ok(code);
    }
    show(Step::new("all of it is gone again", cleaning.elapsed(), ""));
    if json {
        let shown = steps.iter().map(|step| Shown {
            step: step.what.clone(),
            seconds: step.took.as_secs_f64(),
            detail: step.detail.clone(),
        });
        let report =
            Report { steps: shown.collect(), down, seconds: began.elapsed().as_secs_f64() };
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new("the report cannot be written").because(&error))?;
        report::data("the report", text + "\n")?;
    } else {
        report::note(summary(&down));
    }
    Ok(0)
}

fn show_step(step: &Step) {
    let mut text = step.what.clone();
    if !step.detail.is_empty() {
        let _ = write!(text, ": {}", step.detail);
    }
    report::step(&format!("{:>9}  ", seconds(step.took)), &text);
}

fn summary(down: &[Down]) -> String {
    let mut text = String::from("\nThe road was cut twice, and came back by itself:\n");
    for Down { cut, seconds } in down {
        let _ = writeln!(text, "{seconds:>7.2} s  {cut}");
    }
    text.push_str("\nNext: the README shows how the three seats are set up for real.");
    text
}

fn seconds(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        format!("{} ms", span.as_millis())
    } else {
        format!("{:.2} s", span.as_secs_f64())
    }
}
